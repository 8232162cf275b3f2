//! What is passed on and what is not: tokens, identity, and requests that servers read differently, through other proxies
//! too.

mod carriers;
pub(crate) mod claims;
mod claims_tls;
mod forward_auth;
mod honest;
mod hostile;
mod shapes;
mod target;
