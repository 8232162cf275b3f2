//! The URL that names the servers.

use std::fmt;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

/// The forms of a URL, for messages.
pub const URL_FORMS: &str = "redis://[user[:password]@]host[:port][/database], unix:///path[?db=database], \
     redis+sentinel://host:port,host:port/service[/database] or redis+cluster://host:port,host:port, \
     with rediss in place of redis for TLS";

const SERVER_PORT: u16 = 6_379;
const SENTINEL_PORT: u16 = 26_379;

/// The address of one server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Address {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

impl Address {
    pub(crate) fn tcp(host: &str, port: u16) -> Self {
        Self::Tcp { host: host.to_owned(), port }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// The kind of topology that a URL names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TopologyConfig {
    /// One server.
    One(Address),
    /// The primary that these sentinels know by the name of the service.
    Sentinel { sentinels: Vec<Address>, service: String },
    /// A cluster with these nodes, and perhaps others.
    Cluster(Vec<Address>),
}

/// A parsed URL. It has no `Debug`, because it may hold a password.
pub(crate) struct Parsed {
    pub(crate) topology: TopologyConfig,
    pub(crate) tls: bool,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<Zeroizing<String>>,
    pub(crate) database: i64,
}

/// Checks that a text names a Redis server, a service behind sentinels, or a cluster.
///
/// # Errors
/// What is wrong with the text; empty if [`URL_FORMS`] is enough. It never contains the text, which may hold a
/// password.
pub fn check_url(url: &str) -> Result<(), String> {
    parse(url).map(drop)
}

/// Parses a URL.
///
/// # Errors
/// As [`check_url`].
pub(crate) fn parse(url: &str) -> Result<Parsed, String> {
    let other = String::new;
    let (scheme, rest) = url.split_once("://").ok_or_else(other)?;
    if url.chars().any(|c| c.is_control() || c == ' ') {
        return Err("it has a space or a control character".to_owned());
    }
    // Valkey's own schemes mean the same.
    let (scheme, tls) = match scheme.split_once('+').unwrap_or((scheme, "")) {
        ("redis" | "valkey", kind) => (kind, false),
        ("rediss" | "valkeys", kind) => (kind, true),
        ("unix", "") => ("unix", false),
        _ => return Err(other()),
    };
    match scheme {
        "" => single(rest, tls),
        "unix" => unix(rest, tls),
        "sentinel" => sentinel(rest, tls),
        "cluster" => cluster(rest, tls),
        _ => Err(other()),
    }
}

fn single(rest: &str, tls: bool) -> Result<Parsed, String> {
    let Network { username, password, mut hosts, path } = network(rest, SERVER_PORT)?;
    if hosts.len() > 1 {
        return Err("it names several hosts".to_owned());
    }
    let host = hosts.pop().ok_or("it names no host")?;
    let database = match path[..] {
        [] => 0,
        [number] => database(number)?,
        _ => return Err("more than a database number follows the host".to_owned()),
    };
    Ok(Parsed { topology: TopologyConfig::One(host), tls, username, password, database })
}

fn sentinel(rest: &str, tls: bool) -> Result<Parsed, String> {
    let Network { username, password, hosts: sentinels, path } = network(rest, SENTINEL_PORT)?;
    let (service, database) = match path[..] {
        [service] => (service, 0),
        [service, number] => (service, database(number)?),
        [] => return Err("it names no service".to_owned()),
        _ => return Err("more than a service and a database number follow the hosts".to_owned()),
    };
    let service = decoded(service)?.to_string();
    if service.is_empty() {
        return Err("it names no service".to_owned());
    }
    Ok(Parsed { topology: TopologyConfig::Sentinel { sentinels, service }, tls, username, password, database })
}

fn cluster(rest: &str, tls: bool) -> Result<Parsed, String> {
    let Network { username, password, hosts, path } = network(rest, SERVER_PORT)?;
    if !matches!(path[..], [] | ["0"]) {
        return Err("a cluster has no databases but 0".to_owned());
    }
    Ok(Parsed { topology: TopologyConfig::Cluster(hosts), tls, username, password, database: 0 })
}

fn unix(rest: &str, tls: bool) -> Result<Parsed, String> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    if tls {
        return Err("there is no TLS over a Unix socket".to_owned());
    }
    if !path.starts_with('/') || path.len() < 2 {
        return Err("the path of a Unix socket starts with /".to_owned());
    }
    let mut parsed = Parsed {
        topology: TopologyConfig::One(Address::Unix(PathBuf::from(decoded(path)?.as_str()))),
        tls,
        username: None,
        password: None,
        database: 0,
    };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("db", number)) => parsed.database = database(number)?,
            Some(("user", name)) => parsed.username = Some(decoded(name)?.to_string()),
            Some(("pass", word)) => parsed.password = Some(decoded(word)?),
            _ => return Err("after ? it takes db=, user= and pass=".to_owned()),
        }
    }
    Ok(parsed)
}

struct Network<'a> {
    username: Option<String>,
    password: Option<Zeroizing<String>>,
    hosts: Vec<Address>,
    path: Vec<&'a str>,
}

/// The parts of a network URL: `[user[:password]@]host[:port][,…][/path]`.
fn network(rest: &str, port: u16) -> Result<Network<'_>, String> {
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if path.contains('@') || rest.contains(['?', '#']) {
        return Err("a / ? # or @ in a user name or password is written %2F %3F %23 or %40".to_owned());
    }
    let (user, hosts) = match authority.rsplit_once('@') {
        Some((user, hosts)) => (Some(user), hosts),
        None => (None, authority),
    };
    let (username, password) = match user.map(|user| user.split_once(':').unwrap_or((user, ""))) {
        None => (None, None),
        Some((name, word)) => {
            let name = (!name.is_empty()).then(|| decoded(name)).transpose()?;
            (name.map(|name| name.to_string()), (!word.is_empty()).then(|| decoded(word)).transpose()?)
        }
    };
    let hosts = hosts.split(',').map(|host| address(host, port)).collect::<Result<_, _>>()?;
    let path = path.trim_end_matches('/');
    let path = if path.is_empty() { Vec::new() } else { path.split('/').collect() };
    Ok(Network { username, password, hosts, path })
}

/// Parses one host, with its port if it has one.
fn address(text: &str, default: u16) -> Result<Address, String> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or("a [ has no ]")?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| "what stands in brackets is no IPv6 address")?;
            (host, port.strip_prefix(':').map_or_else(|| port.is_empty().then_some(None), |port| Some(Some(port))))
        }
        None => match text.split_once(':') {
            Some((_, port)) if port.contains(':') => return Err("an IPv6 address stands in brackets".to_owned()),
            Some((host, port)) => (host, Some(Some(port))),
            None => (text, Some(None)),
        },
    };
    let port = match port {
        Some(Some(port)) => port.parse().ok().filter(|port| *port > 0).ok_or("a port is a number from 1 to 65535")?,
        Some(None) => default,
        None => return Err("after ] it takes a port only".to_owned()),
    };
    let named = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
    if host.is_empty() {
        return Err("a host is missing".to_owned());
    }
    if !host.bytes().all(named) || host.len() > 253 {
        return Err("a host is a name or an IP address".to_owned());
    }
    Ok(Address::tcp(host, port))
}

fn database(text: &str) -> Result<i64, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or_else(|| "a database is a number such as 0".to_owned())
}

fn decoded(text: &str) -> Result<Zeroizing<String>, String> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| "what % stands for is no UTF-8")?;
    Ok(Zeroizing::new(decoded.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> (TopologyConfig, bool, Option<String>, Option<String>, i64) {
        let parsed = parse(url).unwrap_or_else(|message| panic!("{url}: {message}"));
        let password = parsed.password.map(|word| word.to_string());
        (parsed.topology, parsed.tls, parsed.username, password, parsed.database)
    }

    fn text(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn every_form_is_read() {
        let one = |host, port| TopologyConfig::One(Address::tcp(host, port));
        assert_eq!(read("redis://h"), (one("h", 6379), false, None, None, 0));
        assert_eq!(read("valkey://127.0.0.1:1/"), (one("127.0.0.1", 1), false, None, None, 0));
        assert_eq!(read("rediss://u:p%40%2F@[::1]:2/3"), (one("::1", 2), true, text("u"), text("p@/"), 3));
        assert_eq!(read("redis://:p@ss@[fd00::1]"), (one("fd00::1", 6379), false, None, text("p@ss"), 0));
        let unix = |path: &str| TopologyConfig::One(Address::Unix(PathBuf::from(path)));
        assert_eq!(read("unix:///run/r.sock"), (unix("/run/r.sock"), false, None, None, 0));
        assert_eq!(read("redis+unix:///a%20b?db=2&user=u&pass=p"), (unix("/a b"), false, text("u"), text("p"), 2));
        let service = |hosts: &[(&str, u16)], service: &str| TopologyConfig::Sentinel {
            sentinels: hosts.iter().map(|(host, port)| Address::tcp(host, *port)).collect(),
            service: service.to_owned(),
        };
        let wanted = (service(&[("a", 1), ("b", 26379)], "main"), false, None, None, 0);
        assert_eq!(read("redis+sentinel://a:1,b/main"), wanted);
        let wanted = (service(&[("a", 26379)], "main"), true, text("u"), text("p"), 4);
        assert_eq!(read("rediss+sentinel://u:p@a/main/4"), wanted);
        let nodes = TopologyConfig::Cluster(vec![Address::tcp("a", 6379), Address::tcp("::1", 7)]);
        assert_eq!(read("redis+cluster://:p@a,[::1]:7/0"), (nodes.clone(), false, None, text("p"), 0));
        assert_eq!(read("valkeys+cluster://a,[::1]:7"), (nodes, true, None, None, 0));
    }

    #[test]
    fn nonsense_is_refused_without_being_repeated() {
        for url in [
            "",
            "redis",
            "redis://",
            "http://h",
            "unix+cluster://h",
            "redis+ring://h",
            "redis://:hunter2@",
            "redis://:hunter2@h:0",
            "redis://:hunter2@h:x",
            "redis://:hunter2@h:65536",
            "redis://:hunter2@h/x",
            "redis://:hunter2@h/-1",
            "redis://:hunter2@h/1/2",
            "redis://:hunter2@h1,h2",
            "redis://:hunter2/@h",
            "redis://:hunter2#@h",
            "redis://h/?password=hunter2",
            "redis://:hunter2@fd00::1",
            "redis://:hunter2@[fd00::1",
            "redis://:hunter2@[h]",
            "redis://:hunter2@[::1]x",
            "redis://:hunter2@h h",
            "redis://:hunter2%ff@h",
            "redis+sentinel://:hunter2@h",
            "redis+sentinel://:hunter2@h/",
            "redis+sentinel://:hunter2@h,/main",
            "redis+sentinel://:hunter2@h/main/x",
            "redis+cluster://:hunter2@h/1",
            "unix://hunter2",
            "unix:///",
            "unix:///p?word=hunter2",
            "rediss+unix:///p",
        ] {
            let message = check_url(url).expect_err(url);
            assert!(!message.contains("hunter2"), "{url}: {message}");
        }
    }
}
