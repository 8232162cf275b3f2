//! The near cache: sessions in this process' memory for verification, kept while the servers report every change to
//! them.

pub(crate) mod client_cache;
mod invalidation;
pub(crate) mod sharded_cache;
