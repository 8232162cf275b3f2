//! `tenure generate openapi`: docs/openapi.json, from the gateway's handlers.

use crate::error::CliError;
use crate::output::Output;

pub(crate) fn run(out: Output) -> Result<(), CliError> {
    let text = tenure_gateway::openapi::document().to_pretty_json();
    let text = text.map_err(|error| CliError::Failed(format!("could not write JSON: {error}")))?;
    out.data(&(text + "\n"))
}
