//! The OpenAPI description of the HTTP API, put together from the handlers themselves.

use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, PathsBuilder, tag::TagBuilder,
};

use crate::credential::SECURE_COOKIE;
use crate::{admin, api};

/// The description of both listeners' endpoints (OpenAPI 3.1).
#[must_use]
pub fn document() -> OpenApi {
    let tag = |name: &str, text: &str| TagBuilder::new().name(name).description(Some(text)).build();
    let http = |scheme, text: &str| {
        let mut http = Http::new(scheme);
        http.description = Some(text.to_owned());
        SecurityScheme::Http(http)
    };
    let cookie = ApiKey::Cookie(ApiKeyValue::with_description(
        SECURE_COOKIE,
        "The same token, where a browser logged in; `tenure` where it came in clear. Changes need a page of this host.",
    ));
    let components = ComponentsBuilder::new()
        .security_scheme("token", http(HttpAuthScheme::Bearer, "A session's token, `tnr_…`."))
        .security_scheme("cookie", SecurityScheme::ApiKey(cookie))
        .security_scheme("enrolment_secret", http(HttpAuthScheme::Bearer, "What `gateway.enrol_secret_file` holds."))
        .security_scheme("admin_secret", http(HttpAuthScheme::Bearer, "What `gateway.admin_secret_file` holds."))
        .security_scheme(
            "client_secret_basic",
            http(HttpAuthScheme::Basic, "Any client id, and the admin secret as the client secret."),
        )
        .build();
    let mut document = OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("Tenure")
                .version(env!("CARGO_PKG_VERSION"))
                .description(Some("Sessions and tokens. Errors are RFC 9457 problems, OAuth's own apart."))
                .license(Some(
                    LicenseBuilder::new().name("MIT OR Apache-2.0").identifier(Some("MIT OR Apache-2.0")).build(),
                ))
                .build(),
        )
        .tags(Some([
            tag("client", "On the client listener (`gateway.listen`): what a client asks of its own sessions."),
            tag("operator", "On the admin listener (`gateway.admin_listen`): all sessions, news, counters, health."),
            tag("oauth", "On the admin listener: RFC 7662 and RFC 7009, for OAuth libraries."),
        ]))
        .paths(PathsBuilder::new().build())
        .components(Some(components))
        .build();
    document.merge(api::documented().into_openapi());
    for routes in [admin::protected(), admin::open(), admin::oauth_routes()] {
        document.merge(routes.into_openapi());
    }
    document
}
