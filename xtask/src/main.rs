//! The development commands: cargo xtask ci.
fn main() {}
