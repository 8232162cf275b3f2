//! Reaching a server, and being let in.

mod connection;
mod rights;
mod secrets;
mod tls;
