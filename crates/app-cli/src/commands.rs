//! The commands, one module each.

pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod doctor;
pub(crate) mod fields;
pub(crate) mod gateway;
pub(crate) mod man;
pub(crate) mod openapi;
pub(crate) mod reference;
pub(crate) mod sessions;
pub(crate) mod token;

/// The actor in the record of a session that a command has ended.
const ACTOR: &str = "cli";
