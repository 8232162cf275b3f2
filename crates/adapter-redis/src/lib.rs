//! The session repository in Redis or Valkey.
//!
//! All keys of a device lie in one slot, and one script compares and stores, so a commit is atomic on a cluster too.
//! Verification is one plain read. Every call has a deadline. What may live no longer than a session expires by
//! itself, so nothing leaks where every process dies.

mod cache;
mod client;
mod options;
mod repository;
mod setting_error;

pub use client::resolver::Resolver;
pub use client::url::{URL_FORMS, check_url};
pub use options::{Durability, Options};
pub use repository::RedisStore;
pub use setting_error::SettingError;
