//! The OpenAPI description of the HTTP API, made from the handlers.

use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, PathsBuilder, tag::TagBuilder,
};
use utoipa::openapi::{Content, RefOr};

use crate::api;
use tenure_tower::request::cookie::CookieName;

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
        CookieName::default().secure(),
        "The same token, for browsers; named `tenure` over plain HTTP. Changes must come from a page of this host.",
    ));
    let components = ComponentsBuilder::new()
        .security_scheme("token", http(HttpAuthScheme::Bearer, "A session's token, `tnr_…`."))
        .security_scheme("cookie", SecurityScheme::ApiKey(cookie))
        .security_scheme("enrolment_secret", http(HttpAuthScheme::Bearer, "What `gateway.enrol_secret_file` holds."))
        .security_scheme("admin_secret", http(HttpAuthScheme::Bearer, "What `gateway.admin_secret_file` holds."))
        .security_scheme("metrics_secret", http(HttpAuthScheme::Bearer, "What `gateway.metrics_secret_file` holds."))
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
                .description(Some("Sessions and tokens. Errors are RFC 9457 problems, except OAuth's own."))
                .license(Some(
                    LicenseBuilder::new().name("MIT OR Apache-2.0").identifier(Some("MIT OR Apache-2.0")).build(),
                ))
                .build(),
        )
        .tags(Some([
            tag("client", "On the client listener (`gateway.listen`): a client's own sessions."),
            tag("operator", "On the admin listener (`gateway.admin_listen`): all sessions, events, metrics, health."),
            tag("oauth", "On the admin listener: RFC 7662 and RFC 7009, for OAuth libraries."),
        ]))
        .paths(PathsBuilder::new().build())
        .components(Some(components))
        .build();
    document.merge(api::documented().into_openapi());
    for routes in [super::protected(), super::counters(), super::open(), super::oauth_routes()] {
        document.merge(routes.into_openapi());
    }
    document.paths.paths.values_mut().flat_map(operations).for_each(use_problem_media_type);
    document
}

fn operations(path: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, options, head, patch, trace, .. } = path;
    [get, put, post, delete, options, head, patch, trace].into_iter().flatten()
}

/// Problems have a media type of their own, which the handlers need not repeat each time.
fn use_problem_media_type(operation: &mut Operation) {
    for response in operation.responses.responses.values_mut() {
        let RefOr::T(response) = response else { continue };
        let is_problem = |content: &RefOr<Content>| match content {
            RefOr::T(Content { schema: Some(RefOr::Ref(schema)), .. }) => schema.ref_location.ends_with("/ProblemBody"),
            _ => false,
        };
        if response.content.get("application/json").is_some_and(is_problem)
            && let Some(content) = response.content.shift_remove("application/json")
        {
            response.content.insert("application/problem+json".to_owned(), content);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    /// Returns every value with the key `name`, at any depth.
    fn all<'a>(value: &'a Value, name: &str, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(members) => {
                for (key, value) in members {
                    match value {
                        Value::String(text) if key == name => found.push(text),
                        other => all(other, name, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| all(item, name, found)),
            _ => {}
        }
    }

    #[test]
    fn it_is_whole_every_reference_leads_somewhere_and_every_operation_has_a_name_of_its_own() {
        let document = serde_json::to_value(document()).unwrap();
        assert_eq!(document["openapi"], "3.1.0");
        let mut references = Vec::new();
        all(&document, "$ref", &mut references);
        assert!(references.len() > 20, "{references:?}");
        for reference in references {
            let place = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(place).is_some(), "{reference} leads nowhere");
        }
        let mut names = Vec::new();
        all(&document, "operationId", &mut names);
        assert_eq!(names.len(), names.iter().collect::<BTreeSet<_>>().len(), "{names:?}");
        let refused = "/paths/~1_tenure~1v1~1token~1rotate/post/responses/401/content/application~1problem+json";
        assert!(document.pointer(refused).is_some());
    }
}
