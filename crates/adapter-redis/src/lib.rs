//! The session repository in Redis or Valkey.
