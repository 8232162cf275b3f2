//! Browsers: cookies, and what pages of other sites may do.

mod cookie_names;
mod cookie_over;
mod cookies;
mod cors;
