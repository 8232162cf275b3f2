//! What the store does with sessions on one server.

mod client_cache;
mod contract;
mod damage;
mod durability;
mod events;
mod expiry;
mod listing;
