//! The session repository in Redis or Valkey.
//!
//! [`RedisStore`] implements the port. All keys of a device are in one slot, and one script compares and writes, so a
//! commit is atomic on a cluster too. A verification is one plain read. Every call has a deadline. Keys expire together
//! with the sessions that they belong to, so no clean-up is needed.

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
