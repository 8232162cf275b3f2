//! `tenure generate openapi`: docs/openapi.json, from the gateway's handlers.

use crate::exit::Failure;
use crate::output::Output;

pub(crate) fn run(out: Output) -> Result<(), Failure> {
    let text = tenure_gateway::openapi::document().to_pretty_json();
    let text = text.map_err(|error| Failure::Failed(format!("could not write JSON: {error}")))?;
    out.data(&(text + "\n"))
}
