//! What a request says: who sends it, which token it presents, what its target is, and which of its header fields may pass.

pub(crate) mod cookie;
pub mod header_fields;
pub(crate) mod headers;
pub(crate) mod list;
pub(crate) mod peer;
pub(crate) mod presented_token;
pub(crate) mod target;
