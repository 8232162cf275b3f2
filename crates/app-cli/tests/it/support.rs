//! What the tests share: a home directory for each, and the use cases in this process.

pub(crate) mod home;
pub(crate) mod model;
