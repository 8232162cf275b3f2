//! The rules of sessions and tokens: pure, every input a value.
