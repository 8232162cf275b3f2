use super::*;
fn config(user_header: &'static str) -> EnforcementConfig {
    EnforcementConfig {
        upstream_auth_header: Some(HeaderName::from_static("x-api-key")),
        user_header: HeaderName::from_static(user_header),
        ..EnforcementConfig::default()
    }
}

fn of(name: &str) -> Action {
    action_for(&HeaderName::try_from(name).unwrap(), &config("x-who"))
}

/// Ways to write a name that servers which look at letters and digits only read as the same.
fn spellings(name: &str) -> Vec<String> {
    let mut spellings: Vec<String> =
        ["-", "_", ".", "", "!", "*", "^", "`", "|", "~", "'", "+", "#", "$", "%", "&", "--"]
            .iter()
            .map(|mark| name.replace('-', mark))
            .collect();
    spellings.extend([format!("_{name}"), format!("{name}."), name.to_ascii_uppercase()]);
    spellings
}

#[test]
fn no_spelling_of_a_name_of_the_table_gets_past_it() {
    for group in GROUPS {
        for name in group.names {
            for spelling in spellings(name) {
                assert_eq!(of(&spelling), group.action, "{spelling}");
            }
        }
        for beginning in group.prefixes {
            for spelling in spellings(&format!("{beginning}x")) {
                assert_eq!(of(&spelling), group.action, "{spelling}");
            }
            let long = format!("{beginning}{}", "x".repeat(300));
            assert_eq!(of(&long), group.action, "{long}");
        }
    }
}

#[test]
fn what_the_gateway_reads_passes_under_its_own_spelling_only() {
    for own in EXACT_SPELLINGS.iter().chain(&HOP_BY_HOP).map(HeaderName::as_str).chain(["x-api-key"]) {
        for spelling in spellings(own) {
            let expected = if spelling.eq_ignore_ascii_case(own) { Action::Pass } else { Action::Remove };
            assert_eq!(of(&spelling), expected, "{spelling}");
        }
    }
}

#[test]
fn the_user_header_is_removed_in_every_spelling_however_it_is_set() {
    for user_header in ["sm_user", "x-who", "x.forwarded.who", "who", "remote_user"] {
        let options = config(user_header);
        for spelling in spellings(&user_header.replace(['_', '.'], "-")) {
            let name = HeaderName::try_from(&spelling).unwrap();
            assert_eq!(action_for(&name, &options), Action::Remove, "{spelling} beside {user_header}");
        }
    }
    let long = "x-".to_owned() + &"a".repeat(300);
    let mut options = config("x-who");
    options.user_header = HeaderName::try_from(&long).unwrap();
    assert_eq!(action_for(&HeaderName::try_from(long.replace('-', "_")).unwrap(), &options), Action::Remove);
    assert_eq!(action_for(&HeaderName::try_from(long + "a").unwrap(), &options), Action::Pass);
}

#[test]
fn what_is_nobodys_business_passes() {
    for name in [
        "accept",
        "user-agent",
        "x-api_key2",
        "x_custom",
        "x.custom",
        "content-type",
        "range",
        "if-none-match",
        "x-forward",
        "x-tenur",
        "users",
        "x-users",
        "x-requested-with",
        "sec-fetch-mode",
        "traceparent",
        "dpop",
        "priority",
        "a",
        "_",
    ] {
        assert_eq!(of(name), Action::Pass, "{name}");
    }
}

#[test]
fn another_method_passes_only_where_a_change_was_judged() {
    for (method, left) in
        [(Method::GET, 0), (Method::HEAD, 0), (Method::OPTIONS, 0), (Method::POST, 1), (Method::PUT, 1)]
    {
        let mut headers = HeaderMap::new();
        headers.insert("x-http-method-override", http::HeaderValue::from_static("DELETE"));
        strip_claims(&mut headers, &method, &config("x-who"));
        assert_eq!(headers.len(), left, "{method}");
    }
}

#[test]
fn operators_set_no_field_that_means_something_else() {
    let can = |name: &str| can_be_set(&HeaderName::try_from(name).unwrap());
    for name in ["x-forwarded-user", "remote-user", "sm_user", "authorization", "x-api-key", "x-user"] {
        assert!(can(name), "{name}");
    }
    for name in [
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "upgrade",
        "cookie",
        "x-forwarded-for",
        "x_forwarded_for",
        "x-forwarded-host",
        "x-request-id",
        "x-tenure-session",
        "sec-websocket-key",
        "te",
        "expect",
        "Content_Length",
    ] {
        assert!(!can(name), "{name}");
    }
}

#[test]
fn no_name_is_twice_in_the_table_or_too_long_for_it() {
    let groups = GROUPS.iter().flat_map(|group| group.names);
    let names: Vec<_> =
        groups.copied().chain(EXACT_SPELLINGS.iter().chain(&HOP_BY_HOP).map(HeaderName::as_str)).collect();
    let folded: std::collections::HashSet<_> = names.iter().map(|name| fold(name)).collect();
    assert_eq!(folded.len(), names.len());
    assert!(folded.iter().all(|name| name.len() < MAX_NAME_LENGTH));
}
