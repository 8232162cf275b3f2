//! Sessions kept in this process' memory for verification, for as long as the servers tell of every change to them.

pub(crate) mod client_cache;
mod invalidation;
pub(crate) mod sharded_cache;
