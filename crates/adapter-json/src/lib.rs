//! The session repository in one append-only JSON journal.
