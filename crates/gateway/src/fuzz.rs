//! The entry functions of fuzzers: any bytes, for everything that parses input from the network. Each function compares
//! the parser with a second one that is as simple as possible. It returns how much there was to compare, because a run
//! that never compares anything shows nothing.

pub(crate) mod forwarded;
mod frames;
mod headers;
pub(crate) mod input;
mod messages;
mod presented_token;
mod resolve;

pub use forwarded::forwarded;
pub use frames::frames;
pub use headers::headers;
pub use messages::messages;
pub use presented_token::presented_token;

pub use crate::proxy::openclaw::connect::fuzz::connect;
pub use crate::server::smuggling_guard::fuzz::heads;

#[cfg(test)]
mod tests;
