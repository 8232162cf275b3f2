//! Masking of secrets in URLs: only what is known to be harmless is shown.
//!
//! If a URL is mistyped, a password can be in any part of it. So each part is shown only if it has exactly the form that it
//! should have. The user, and every parameter but the number of a database, are always masked.

/// The text that replaces what is not shown.
const MASK: &str = "***";

/// Masks everything in a URL that may be a secret. The URL may be invalid.
pub(crate) fn masked(url: &str) -> String {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) if is_scheme(scheme) => (format!("{scheme}://"), rest),
        Some(_) => return MASK.to_owned(),
        // The scheme was left out.
        None if are_hosts(url) => return url.to_owned(),
        None => return MASK.to_owned(),
    };
    let (authority, after) = rest.find(['/', '?', '#']).map_or((rest, ""), |at| rest.split_at(at));
    if after.contains('@') {
        // A user, a password or a parameter that contains one of these characters: its end cannot be known.
        return format!("{scheme}{MASK}");
    }
    let (user, hosts) = authority.rsplit_once('@').map_or(("", authority), |(_, hosts)| ("***@", hosts));
    let is_socket = scheme == "unix://" || scheme == "redis+unix://" || scheme == "valkey+unix://";
    let hosts = if are_hosts(hosts) || (hosts.is_empty() && is_socket) { hosts } else { MASK };
    let (path, after) = after.find(['?', '#']).map_or((after, ""), |at| after.split_at(at));
    let fits = if is_socket { is_file(path) } else { is_place(path, scheme.contains("+sentinel")) };
    let path = if fits { path } else { "/***" };
    let (query, fragment) = after.split_once('#').map_or((after, ""), |(query, _)| (query, "#***"));
    let query = query.strip_prefix('?').map_or_else(String::new, |query| format!("?{}", parameters(query)));
    format!("{scheme}{user}{hosts}{path}{query}{fragment}")
}

fn is_scheme(text: &str) -> bool {
    let words = ["redis", "rediss", "valkey", "valkeys", "unix", "http", "https"];
    let kinds = ["sentinel", "cluster", "unix"];
    text.split_once('+').map_or(words.contains(&text), |(word, kind)| words.contains(&word) && kinds.contains(&kind))
}

/// Returns whether a text is a list of hosts, with or without ports: names, IPv4 addresses, IPv6 addresses in brackets.
fn are_hosts(text: &str) -> bool {
    let is_port = |text: &str| !text.is_empty() && text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_name = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
    };
    text.split(',').all(|host| match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').is_some_and(|(address, port)| {
            address.parse::<std::net::Ipv6Addr>().is_ok()
                && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
        }),
        None => host.split_once(':').map_or_else(|| is_name(host), |(name, port)| is_name(name) && is_port(port)),
    })
}

/// Returns whether a path is the number of a database, after the name of a service if Sentinels are asked.
fn is_place(path: &str, has_service: bool) -> bool {
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_service = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    let path = path.strip_prefix('/').unwrap_or(path);
    if !has_service {
        return is_number(path);
    }
    path.split_once('/').map_or_else(|| is_service(path), |(name, number)| is_service(name) && is_number(number))
}

fn is_file(path: &str) -> bool {
    path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/.-_%+ ".contains(&byte))
}

fn parameters(query: &str) -> String {
    let is_harmless =
        |pair: &&str| pair.strip_prefix("db=").is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
    let shown = query.split('&').map(|pair| if is_harmless(&pair) { pair } else { MASK });
    shown.collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_harmless_is_shown() {
        for url in [
            "redis://h:1",
            "rediss://127.0.0.1:6379/2",
            "valkey://[::1]:6379/0",
            "redis+sentinel://a:1,b:2/main/3",
            "redis+cluster://a:6379,[fd00::1]:6379",
            "unix:///run/redis/r.sock?db=1",
            "http://127.0.0.1:18789",
            "https://app.example/",
            "127.0.0.1:6379",
        ] {
            assert_eq!(masked(url), url);
        }
        assert_eq!(masked("redis://u:p@h:1/2"), "redis://***@h:1/2");
        assert_eq!(masked("redis+sentinel://u:p@a:1,b:2/main/3"), "redis+sentinel://***@a:1,b:2/main/3");
        assert_eq!(masked("unix:///run/r.sock?pass=p&db=1&user=u"), "unix:///run/r.sock?***&db=1&***");
        assert_eq!(masked("redis://h:6379/0?db=1#x"), "redis://h:6379/0?db=1#***");
    }

    #[test]
    fn a_secret_is_masked_wherever_it_stands() {
        const SECRET: &str = "hunter2";
        let names = ["password", "pass", "PASS", "auth", "token", "user", "p%61ss", "db", "", "x&password"];
        let mut urls: Vec<String> = names.iter().map(|name| format!("redis://h?{name}=hunter2")).collect();
        for shape in [
            "redis://hunter2@h",
            "redis://hunter2:@h",
            "redis://:hunter2@h",
            "redis://u:hunter2@h",
            "redis://u:a@hunter2@h",
            "redis://u:hunter2@",
            "redis://u:hunter2",
            "redis://u:%68unter2hunter2%ff@h",
            "redis://:a/hunter2@h",
            "redis://:a?hunter2@h",
            "redis://:a#hunter2@h",
            "redis://:hunter2/@h",
            "redis://h?password=a@hunter2",
            "redis://h/?password=hunter2",
            "redis://h/0?db=1&password=hunter2",
            "redis://h?hunter2",
            "redis://h?hunter2=1",
            "redis://h#hunter2",
            "redis://h/0#hunter2",
            "redis://h/hunter2",
            "redis://h/0/hunter2",
            "redis://h;password=hunter2",
            "redis://h&password=hunter2",
            "redis://h,:hunter2",
            "redis://[hunter2]",
            "redis://[::1]hunter2",
            "redis://[::1]:hunter2",
            "redis+sentinel://u:hunter2@a,b/main",
            "redis+sentinel://a,b/main/hunter2",
            "redis+sentinel://a,b/main?password=hunter2",
            "redis+hunter2://h",
            "hunter2://h",
            "redis:u:hunter2@h",
            "redis:/u:hunter2@h",
            "redis//:hunter2@h",
            ":hunter2@h",
            "u:hunter2",
            "h?password=hunter2",
            "unix:///run/r.sock?pass=hunter2",
            "unix://u:hunter2@/run/r.sock",
            "http://hunter2@h",
            "http://u:hunter2@h/",
            "http://h/?key=hunter2",
            "http://h/hunter2",
            "[\"redis://:hunter2@h\"]",
        ] {
            urls.push(shape.to_owned());
            urls.push(shape.to_uppercase().replace("HUNTER2", SECRET));
        }
        for url in urls {
            let shown = masked(&url);
            assert!(!shown.contains(SECRET), "{url} is shown as {shown}");
            assert_eq!(masked(&shown), shown, "{url}: what was masked stays as it is");
        }
    }
}
