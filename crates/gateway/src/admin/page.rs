//! The operators' page. It contains no data: it asks for the secret, which it keeps in its browser tab only.

use askama::Template;
use axum::response::Response;
use http::StatusCode;

use crate::endpoint::html;

/// The content security policy: the page's own script and style, and calls to this listener.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'none'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
                      trusted-types 'none'";

#[derive(Template)]
#[template(path = "admin.html")]
struct AdminPage {
    version: &'static str,
}

pub(super) async fn page() -> Response {
    html::page(StatusCode::OK, &AdminPage { version: env!("CARGO_PKG_VERSION") }, POLICY)
}

pub(super) async fn script() -> Response {
    html::text_file("text/javascript; charset=utf-8", include_str!("../../static/admin.js"))
}

pub(super) async fn style() -> Response {
    html::text_file("text/css; charset=utf-8", include_str!("../../static/admin.css"))
}
