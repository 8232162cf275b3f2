//! Servers that stand together, and which of them is the primary.

mod cluster;
mod role;
mod sentinel;
