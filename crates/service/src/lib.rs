//! The use cases: issue, verify, rotate, revoke, list, clean up, move.
