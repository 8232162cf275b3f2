//! The relay between real sockets: a small server in front of it, and upstreams that speak WebSocket or only bytes.

mod closing;
pub(crate) mod harness;
mod traffic;
