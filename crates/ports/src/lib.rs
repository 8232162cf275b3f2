//! What Tenure asks of the outside: a session repository, a clock, a source of randomness.
