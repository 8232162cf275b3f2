//! Shared by the tests: a home directory for each test, and the use cases in this process.

pub(crate) mod home;
pub(crate) mod model;
