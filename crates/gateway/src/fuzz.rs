//! What fuzzers call: any bytes for everything that reads what came over the network. Each checks what must hold for
//! them, beside a reader of its own that is as simple as can be, and says whether there was something to be held
//! against it: a run in which nothing ever is shows nothing.

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
