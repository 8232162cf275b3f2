//! The server: connections, TLS, and what it writes to its log.

mod crowds;
mod secrecy;
pub(crate) mod tls;
