//! Tokens and sessions, over both backends.

mod lost;
mod moving;
mod secrets;
mod stores;
mod tokens;
mod wrong_store;
