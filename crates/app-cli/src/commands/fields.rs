//! `tenure generate header-table`: a section of docs/gateway.md, from the table by which the gateway goes.

use crate::exit::Failure;
use crate::output::Output;

pub(crate) fn run(out: Output) -> Result<(), Failure> {
    out.data(&tenure_gateway::fields::table())
}
