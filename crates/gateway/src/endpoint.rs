//! The parts that the endpoints of both listeners share: extractors, responses, pages and health checks.

pub(crate) mod extract;
pub(crate) mod health;
pub(crate) mod html;
pub(crate) mod respond;
pub(crate) mod revocation;
