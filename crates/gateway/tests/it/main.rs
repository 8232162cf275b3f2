//! The gateway from outside: requests in, answers out.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod admin;
mod admin_events;
mod admin_oauth;
mod api;
mod api_login;
mod carriers;
mod claims;
mod claims_tls;
mod cookie_names;
mod cookie_over;
mod cookies;
mod cors;
mod crowds;
mod cut;
mod enrolment;
mod forward_auth;
mod honest;
mod hostile;
mod layer;
mod lockouts;
mod memory;
mod openclaw;
mod programs;
mod proxy;
mod raw;
mod robust;
mod secrecy;
mod shapes;
mod site;
mod support;
mod target;
mod tls;
mod upstreams;
mod witness;
