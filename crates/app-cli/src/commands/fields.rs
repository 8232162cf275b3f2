//! `tenure generate header-table`: a section of docs/gateway.md, from the table that the gateway uses.

use crate::error::CliError;
use crate::output::Output;

pub(crate) fn run(out: Output) -> Result<(), CliError> {
    out.data(&tenure_tower::request::header_fields::table())
}
