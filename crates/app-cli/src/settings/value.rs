//! The kinds of settings: what each takes, and how it is read from text and from TOML.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use tenure_domain::{Millis, Subject};
use tenure_tower::CookieName;

use crate::backends;

/// The value of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// A span of time.
    Span(Millis),
    /// `off`.
    Off,
    /// A number.
    Count(u64),
    /// `true` or `false`.
    Flag(bool),
    /// A text: a name, an address, a path.
    Text(String),
    /// A list of texts.
    List(Vec<String>),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Span(span) => span.fmt(f),
            Self::Off => f.write_str("off"),
            Self::Count(count) => count.fmt(f),
            Self::Flag(flag) => flag.fmt(f),
            Self::Text(text) => f.write_str(text),
            Self::List(items) => f.write_str(&items.join(",")),
        }
    }
}

impl Value {
    /// Returns the value as JSON, for scripts.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Count(count) => (*count).into(),
            Self::Flag(flag) => (*flag).into(),
            Self::List(items) => items.clone().into(),
            Self::Span(_) | Self::Off | Self::Text(_) => self.to_string().into(),
        }
    }

    /// Returns the value as it is written in a settings file.
    pub(crate) fn to_toml(&self) -> toml_edit::Value {
        match self {
            Self::Count(count) => i64::try_from(*count).unwrap_or(i64::MAX).into(),
            Self::Flag(flag) => (*flag).into(),
            Self::List(items) => items.iter().collect::<toml_edit::Array>().into(),
            Self::Span(_) | Self::Off | Self::Text(_) => self.to_string().into(),
        }
    }
}

/// The kind of a setting: the values that it takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// A span of time in a range, or, if `off` is `true`, the word `off`.
    Span { least: Millis, most: Millis, off: bool },
    /// A number in a range.
    Count { least: u64, most: u64 },
    /// `true` or `false`.
    Flag,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// The path of a file.
    Path,
    /// The URL of a Redis.
    RedisUrl,
    /// The prefix of the keys in Redis.
    KeyPrefix,
    /// The URL of a web service.
    HttpUrl,
    /// An IP address and a port to listen on.
    Address,
    /// An IP address.
    IpAddress,
    /// The subject of a session.
    Subject,
    /// The name of a header.
    Header,
    /// The name of a header, and optionally the scheme before the secret.
    HeaderScheme,
    /// IP addresses and networks.
    Networks,
    /// Paths of URLs.
    UrlPaths,
    /// Origins of web pages.
    Origins,
    /// Host names.
    Hosts,
    /// The name of a cookie.
    CookieName,
}

impl Kind {
    /// Returns whether it takes a URL, which may hold a secret.
    pub(crate) const fn is_url(&self) -> bool {
        matches!(self, Self::RedisUrl | Self::HttpUrl)
    }

    /// Returns what it takes, as text for errors and documentation.
    pub(crate) fn allowed(&self) -> String {
        match self {
            Self::Span { least, most, off: false } => format!("{least} to {most}"),
            Self::Span { least, most, off: true } => format!("off, or {least} to {most}"),
            Self::Count { least, most } => format!("{least} to {most}"),
            Self::Flag => "true or false".to_owned(),
            Self::Choice(words) => words.join(" or "),
            Self::Path => "a path".to_owned(),
            Self::RedisUrl => backends::REDIS_URLS.to_owned(),
            Self::KeyPrefix => "1 to 64 letters, digits and any of . _ : -".to_owned(),
            Self::HttpUrl => "a URL without a path, such as http://127.0.0.1:18789".to_owned(),
            Self::Address => "an IP address and a port, such as 127.0.0.1:8470 or [::1]:8470".to_owned(),
            Self::IpAddress => "an IP address, such as 192.0.2.1".to_owned(),
            Self::Subject => "1 to 128 characters".to_owned(),
            Self::Header => "the name of a header".to_owned(),
            Self::HeaderScheme => {
                "the name of a header, and a scheme where it has one: Authorization: Bearer".to_owned()
            }
            Self::Networks => "IP addresses and networks such as 10.0.0.0/8".to_owned(),
            Self::UrlPaths => "paths that start with /".to_owned(),
            Self::Origins => "origins such as https://board.example or http://localhost:5173".to_owned(),
            Self::Hosts => "host names without a port, such as tenure or gateway.lan".to_owned(),
            Self::CookieName => "1 to 64 letters, digits, - and _, not beginning with __".to_owned(),
        }
    }

    /// Reads a value as it is written in the environment, in a flag or by a person.
    ///
    /// # Errors
    /// The problem with it; empty if [`Kind::allowed`] says enough.
    pub(crate) fn read(&self, text: &str) -> Result<Value, String> {
        let nothing_more = String::new;
        match self {
            Self::Span { off: true, .. } if text == "off" => Ok(Value::Off),
            Self::Span { least, most, .. } => {
                let span: Millis = text.parse().map_err(|error: tenure_domain::DurationError| error.to_string())?;
                if (*least..=*most).contains(&span) { Ok(Value::Span(span)) } else { Err(nothing_more()) }
            }
            Self::Count { least, most } => match text.parse() {
                Ok(count) if (*least..=*most).contains(&count) => Ok(Value::Count(count)),
                _ => Err(nothing_more()),
            },
            Self::Flag => text.parse().map(Value::Flag).map_err(|_| nothing_more()),
            Self::Networks => read_list(text, is_network),
            Self::UrlPaths => read_list(text, is_url_path),
            Self::Origins => read_list(text, is_origin),
            Self::Hosts => read_list(text, is_host),
            _ if text.is_empty() => Err("it is empty".to_owned()),
            _ if text.contains(char::is_control) => Err("it contains a control character".to_owned()),
            Self::Path if text.starts_with("~/") => Err("~ is not expanded here; write the full path".to_owned()),
            Self::Path => Ok(Value::Text(text.to_owned())),
            Self::RedisUrl => backends::check_redis_url(text).map(|()| Value::Text(text.to_owned())),
            Self::Subject => match Subject::new(text) {
                Ok(_) => Ok(Value::Text(text.to_owned())),
                Err(error) => Err(error.to_string()),
            },
            _ if self.fits(text) => Ok(Value::Text(text.to_owned())),
            _ => Err(nothing_more()),
        }
    }

    fn fits(&self, text: &str) -> bool {
        match self {
            Self::Choice(words) => words.contains(&text),
            Self::KeyPrefix => {
                text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b))
            }
            Self::HttpUrl => is_http_url(text),
            Self::Address => text.parse::<SocketAddr>().is_ok(),
            Self::IpAddress => text.parse::<IpAddr>().is_ok(),
            Self::Header => is_header_name(text),
            Self::CookieName => CookieName::new(text).is_some(),
            Self::HeaderScheme => text.split_once(": ").map_or_else(
                || is_header_name(text),
                |(name, scheme)| {
                    is_header_name(name) && !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_graphic())
                },
            ),
            _ => false,
        }
    }

    /// Reads a value as it is written in a settings file.
    ///
    /// # Errors
    /// The problem with it, as from [`Kind::read`].
    pub(crate) fn read_toml(&self, value: &toml_edit::Value) -> Result<Value, String> {
        use toml_edit::Value as Toml;
        match (self, value) {
            (Self::Count { .. }, Toml::Integer(number)) => self.read(&number.value().to_string()),
            (Self::Count { .. }, _) => Err("it is not a number".to_owned()),
            (Self::Flag, Toml::Boolean(flag)) => Ok(Value::Flag(*flag.value())),
            (Self::Flag, _) => Err("write it without quotes".to_owned()),
            (Self::Networks | Self::UrlPaths | Self::Origins | Self::Hosts, Toml::Array(items)) => {
                let texts: Option<Vec<&str>> = items.iter().map(Toml::as_str).collect();
                let texts = texts.ok_or("each item must be in quotes")?;
                if let Some(text) = texts.iter().find(|text| text.contains(',') || text.trim().is_empty()) {
                    return Err(format!("{text:?} is not valid"));
                }
                self.read(&texts.join(","))
            }
            (Self::Networks | Self::UrlPaths | Self::Origins | Self::Hosts, _) => {
                Err("write a list, such as [\"a\", \"b\"]".to_owned())
            }
            (_, Toml::String(text)) => self.read(text.value()),
            (Self::Span { .. }, Toml::Integer(_)) => Err("write it in quotes with a unit, such as \"36s\"".to_owned()),
            _ => Err("write it in quotes".to_owned()),
        }
    }
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn read_list(text: &str, fits: impl Fn(&str) -> bool) -> Result<Value, String> {
    let checked = |item: &str| if fits(item) { Ok(item.to_owned()) } else { Err(format!("{item:?} is not valid")) };
    list(text).map(checked).collect::<Result<_, _>>().map(Value::List)
}

fn is_network(text: &str) -> bool {
    network(text).is_some()
}

/// Parses a network. An address is a network of one.
pub(super) fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

fn is_url_path(text: &str) -> bool {
    text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'?' && byte != b'#')
}

fn is_http_url(text: &str) -> bool {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    rest.is_some_and(|rest| {
        let host = rest.strip_suffix('/').unwrap_or(rest);
        !host.is_empty() && !host.contains(['@', '/', '?', '#']) && text.bytes().all(|byte| byte.is_ascii_graphic())
    })
}

/// Returns whether a text is an origin as browsers write it: in lower case, without a path, and without the default port.
fn is_origin(text: &str) -> bool {
    let (host, usual) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
        (Some(host), _) => (host, "80"),
        (_, Some(host)) => (host, "443"),
        _ => return false,
    };
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let fits = address.map_or_else(|| is_host(name), |address| address.parse::<std::net::Ipv6Addr>().is_ok());
    let canonical = |port: &str| port != usual && port.parse::<u16>().is_ok_and(|number| number.to_string() == port);
    fits && port.is_none_or(canonical) && !text.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn is_host(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    !text.is_empty() && text.len() <= 253 && text.bytes().all(fits)
}

fn is_header_name(text: &str) -> bool {
    let tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.len() <= 128 && text.bytes().all(tchar)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_paths_urls_and_headers_are_told_from_others() {
        assert!(is_network("10.0.0.0/8") && is_network("::1") && is_network("fd00::/128"));
        assert!(!is_network("10.0.0.0/33") && !is_network("example.org") && !is_network("10.0.0.0/"));
        assert!(is_url_path("/healthz") && !is_url_path("healthz") && !is_url_path("/a b"));
        assert!(is_http_url("http://127.0.0.1:1") && !is_http_url("ftp://a") && !is_http_url("http://"));
        assert!(is_http_url("https://host/") && !is_http_url("http://user:word@host") && !is_http_url("http://a/b"));
        for origin in ["https://board.example", "http://localhost:5173", "http://[::1]:3000", "http://192.0.2.1"] {
            assert!(is_origin(origin), "{origin}");
        }
        for other in [
            "*",
            "null",
            "board.example",
            "https://",
            "https://board.example/",
            "https://board.example:443",
            "http://a:080",
            "http://a:",
            "https://Board.example",
            "https://*.example",
            "https://a@b",
            "ftp://a",
        ] {
            assert!(!is_origin(other), "{other}");
        }
        assert!(is_host("tenure") && is_host("Gateway.lan") && !is_host("tenure:8471") && !is_host("*.lan"));
        assert!(is_header_name("X-Forwarded-User") && !is_header_name("X Y") && !is_header_name(""));
        assert!(Kind::HeaderScheme.fits("Authorization: Bearer") && Kind::HeaderScheme.fits("X-Token"));
        assert!(!Kind::HeaderScheme.fits("Authorization: ") && !Kind::HeaderScheme.fits("A: b\u{7f}"));
        assert!(
            Kind::CookieName.fits("tenure-2") && !Kind::CookieName.fits("a b") && !Kind::CookieName.fits("__Host-a")
        );
    }

    #[test]
    fn a_redis_is_named_in_every_form_that_the_store_takes() {
        for url in [
            "redis://127.0.0.1:6379",
            "rediss://user:word@host:6379/2",
            "unix:///run/redis.sock?db=1",
            "redis+sentinel://a:26379,b:26379/main",
            "rediss+cluster://:word@a:6379,[::1]:6379",
        ] {
            assert_eq!(Kind::RedisUrl.read(url), Ok(Value::Text(url.to_owned())));
        }
        assert_eq!(Kind::RedisUrl.read("http://host"), Err(String::new()));
        assert_eq!(Kind::RedisUrl.read("redis+sentinel://host"), Err("it names no service".to_owned()));
    }

    #[test]
    fn a_list_is_read_from_commas_and_from_toml_alike() {
        let wanted = Value::List(vec!["10.0.0.0/8".to_owned(), "::1".to_owned()]);
        assert_eq!(Kind::Networks.read("10.0.0.0/8, ::1"), Ok(wanted.clone()));
        assert_eq!(Kind::Networks.read_toml(&wanted.to_toml()), Ok(wanted));
        assert!(Kind::Networks.read("10.0.0.0/8, nowhere").is_err());
    }
}
