//! The relay between real sockets: a small server in front of it, and upstreams that speak WebSocket or only bytes.

mod ends;
mod heads;
pub(crate) mod rig;
mod traffic;
