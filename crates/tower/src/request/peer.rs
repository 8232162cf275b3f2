//! The client at the other end of a connection, as far as its identity can be trusted.

use std::net::{IpAddr, SocketAddr};

use http::header::{HOST, HeaderName};
use http::{HeaderMap, HeaderValue, Request, Version};
use ipnet::IpNet;

use super::target::is_host;
use crate::problem::Problem;

/// The field with the addresses of the client and of the proxies that the request came through.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The field with the scheme that the client used.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// The field with the host that the client asked for.
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The most addresses of a chain of proxies that are read.
const MAX_HOPS: usize = 32;

/// One connection, as the operating system reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    remote: IpAddr,
    tls: bool,
}

impl Connection {
    /// Makes a connection from this address, over TLS or not.
    #[must_use]
    pub fn new(remote: SocketAddr, tls: bool) -> Self {
        Self { remote: remote.ip().to_canonical(), tls }
    }

    /// Whether the connection runs over TLS.
    #[must_use]
    pub const fn tls(&self) -> bool {
        self.tls
    }

    /// Returns the address at the other end.
    #[must_use]
    pub const fn remote(&self) -> IpAddr {
        self.remote
    }
}

/// The client of a request: if a trusted proxy sent the request, the client behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The client's address. Behind trusted proxies it is the last address of `X-Forwarded-For` that is not one of
    /// theirs.
    pub address: IpAddr,
    /// The address at the other end of the connection, whatever the header fields say.
    pub remote: IpAddr,
    /// Whether the connection comes from a trusted proxy, whose forwarding headers are believed.
    pub trusted: bool,
    /// Whether the client came over TLS.
    pub secure: bool,
    /// The host that the client asked for, with the port if it gave one.
    pub host: Option<HeaderValue>,
}

impl Peer {
    /// Reads the client from a connection and a request's header fields.
    ///
    /// # Errors
    /// [`Problem::BadRequest`] if the request's host is invalid (RFC 9112 section 3.2).
    pub fn of(connection: &Connection, headers: &HeaderMap, proxies: &[IpNet]) -> Result<Self, Problem> {
        let trusted = is_trusted(connection.remote, proxies);
        let host = headers.get(HOST);
        if host.is_some_and(|host| !is_host(host.as_bytes())) {
            return Err(invalid_host("Host"));
        }
        if !trusted {
            let remote = connection.remote;
            return Ok(Self { address: remote, remote, trusted, secure: connection.tls, host: host.cloned() });
        }
        Ok(Self {
            address: client_address(connection.remote, headers, proxies),
            remote: connection.remote,
            trusted,
            secure: last_entry(headers, &X_FORWARDED_PROTO).map_or(connection.tls, is_secure),
            host: forwarded_host(headers)?.or_else(|| host.cloned()),
        })
    }

    /// Returns the host that the client asked for, as text.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.host.as_ref()?.to_str().ok()
    }

    /// Returns `https` or `http`.
    #[must_use]
    pub const fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }
}

/// Sets `Host` to the host that the client asked for. A host in the request line (HTTP/2, absolute form) takes
/// precedence (RFC 9112 section 3.2.2). In HTTP/2 the two must not differ (RFC 9113 section 8.3.1).
///
/// # Errors
/// [`Problem::BadRequest`] if there are several hosts, or if they differ. [`Peer::of`] checks that the host is valid.
pub fn normalize_host<B>(request: &mut Request<B>) -> Result<(), Problem> {
    let bad = |text: &str| Err(Problem::BadRequest(text.to_owned()));
    let mut hosts = request.headers().get_all(HOST).iter();
    let (host, None) = (hosts.next(), hosts.next()) else { return bad("a request must have exactly one Host") };
    let Some(authority) = request.uri().authority() else { return Ok(()) };
    let differs = |host: &HeaderValue| !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes());
    if request.version() == Version::HTTP_2 && host.is_some_and(differs) {
        return bad("Host and :authority differ");
    }
    let Ok(host) = HeaderValue::try_from(authority.as_str()) else { return bad("the host is invalid") };
    request.headers_mut().insert(HOST, host);
    Ok(())
}

/// Whether an address is that of a trusted proxy.
pub fn is_trusted(address: IpAddr, proxies: &[IpNet]) -> bool {
    proxies.iter().any(|net| net.contains(&address))
}

/// Returns the entry that the nearest proxy wrote. A client may have written earlier ones.
fn last_entry<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let value = headers.get_all(name).iter().next_back()?.as_bytes();
    value.rsplit(|byte| *byte == b',').next().map(<[u8]>::trim_ascii).filter(|entry| !entry.is_empty())
}

/// Whether a scheme runs over TLS. Proxies also send the schemes of WebSockets.
fn is_secure(scheme: &[u8]) -> bool {
    scheme.eq_ignore_ascii_case(b"https") || scheme.eq_ignore_ascii_case(b"wss")
}

fn forwarded_host(headers: &HeaderMap) -> Result<Option<HeaderValue>, Problem> {
    let Some(host) = last_entry(headers, &X_FORWARDED_HOST) else { return Ok(None) };
    match HeaderValue::from_bytes(host) {
        Ok(value) if is_host(host) => Ok(Some(value)),
        _ => Err(invalid_host("X-Forwarded-Host")),
    }
}

fn invalid_host(name: &str) -> Problem {
    Problem::BadRequest(format!("{name} is not a valid host: send a name or an address, with a port if needed"))
}

/// Follows the chain from its near end while it passes through trusted proxies. If it ends or cannot be read, the last
/// address that was read is the client's: nothing beyond it can be trusted.
fn client_address(remote: IpAddr, headers: &HeaderMap, proxies: &[IpNet]) -> IpAddr {
    let mut address = remote;
    let values = headers.get_all(X_FORWARDED_FOR).iter().rev();
    let hops = values.flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','));
    for hop in hops.take(MAX_HOPS) {
        let Some(next) = std::str::from_utf8(hop).ok().and_then(|hop| parse_hop(hop.trim())) else { break };
        address = next;
        if !is_trusted(address, proxies) {
            break;
        }
    }
    address
}

/// Parses an address as proxies write it: bare, in brackets, or with a port.
fn parse_hop(hop: &str) -> Option<IpAddr> {
    let bare = hop.strip_prefix('[').and_then(|rest| rest.split_once(']')).map_or(hop, |(address, _)| address);
    let parsed = bare.parse::<IpAddr>().ok().or_else(|| bare.parse::<SocketAddr>().ok().map(|socket| socket.ip()));
    parsed.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(remote: &str, proxies: &[&str], pairs: &[(&'static str, &str)]) -> Result<Peer, Problem> {
        let proxies: Vec<IpNet> = proxies.iter().map(|net| net.parse().unwrap()).collect();
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        Peer::of(&Connection::new(SocketAddr::new(remote.parse().unwrap(), 1), false), &headers, &proxies)
    }

    fn address(remote: &str, proxies: &[&str], chain: &[&str]) -> String {
        let pairs: Vec<_> = chain.iter().map(|value| ("x-forwarded-for", *value)).collect();
        peer(remote, proxies, &pairs).unwrap().address.to_string()
    }

    #[test]
    fn forwarding_headers_of_an_untrusted_peer_are_not_believed() {
        let pairs = [("x-forwarded-for", "9.9.9.9"), ("x-forwarded-proto", "https"), ("x-forwarded-host", "evil")];
        let peer = peer("203.0.113.5", &["10.0.0.0/8"], &pairs).unwrap();
        let remote = "203.0.113.5".parse().unwrap();
        assert_eq!(peer, Peer { address: remote, remote, trusted: false, secure: false, host: None });
    }

    #[test]
    fn the_client_is_the_last_address_that_is_no_trusted_proxy() {
        let trusted = ["10.0.0.0/8", "2001:db8:1::/48"];
        for (chain, client) in [
            (vec!["203.0.113.7"], "203.0.113.7"),
            (vec!["1.1.1.1, 203.0.113.7"], "203.0.113.7"),
            (vec!["1.1.1.1, 203.0.113.7, 10.3.3.3"], "203.0.113.7"),
            (vec!["1.1.1.1", "203.0.113.7", "10.3.3.3"], "203.0.113.7"),
            (vec!["203.0.113.7:4711"], "203.0.113.7"),
            (vec!["[2001:db8::9]:4711, 2001:db8:1::5"], "2001:db8::9"),
            (vec!["::ffff:203.0.113.7"], "203.0.113.7"),
            (vec!["10.4.4.4, 10.3.3.3"], "10.4.4.4"),
            (vec!["203.0.113.7, nonsense, 10.3.3.3"], "10.3.3.3"),
            (vec![], "10.0.0.1"),
        ] {
            assert_eq!(address("10.0.0.1", &trusted, &chain), client, "{chain:?}");
        }
        assert_eq!(address("::ffff:10.0.0.1", &trusted, &["203.0.113.7"]), "203.0.113.7");
    }

    #[test]
    fn what_a_client_wrote_before_does_not_hide_what_the_proxy_says() {
        let proxies = ["10.0.0.0/8".parse().unwrap()];
        let octets = |text: &[u8]| HeaderValue::from_bytes(text).unwrap();
        let headers = HeaderMap::from_iter([
            (X_FORWARDED_FOR, octets(b"\xff, 203.0.113.7")),
            (X_FORWARDED_PROTO, octets(b"\xff, https")),
        ]);
        let connection = Connection::new("10.0.0.1:1".parse().unwrap(), false);
        let peer = Peer::of(&connection, &headers, &proxies).unwrap();
        assert_eq!((peer.address, peer.secure), ("203.0.113.7".parse().unwrap(), true));
    }

    #[test]
    fn a_trusted_proxy_says_how_the_client_came() {
        let pairs = [("x-forwarded-proto", "https"), ("x-forwarded-host", "tenure.example"), ("host", "127.0.0.1")];
        let peer = peer("10.0.0.1", &["10.0.0.0/8"], &pairs).unwrap();
        assert!(peer.secure);
        assert_eq!(peer.host.unwrap(), "tenure.example");
    }

    #[test]
    fn the_nearest_proxys_word_counts_and_a_websockets_scheme_is_one_too() {
        let of = |pairs: &[(&'static str, &str)]| peer("10.0.0.1", &["10.0.0.0/8"], pairs).unwrap();
        for (values, secure) in [
            (&["https"][..], true),
            (&["HTTPS"], true),
            (&["wss"], true),
            (&["WSS"], true),
            (&["ws"], false),
            (&["http"], false),
            (&["http, https"], true),
            (&["https", "http"], false),
            (&["https,wss"], true),
            (&["\u{e9}"], false),
            (&[""], false),
        ] {
            let pairs: Vec<_> = values.iter().map(|value| ("x-forwarded-proto", *value)).collect();
            assert_eq!(of(&pairs).secure, secure, "{values:?}");
        }
        for (values, host) in [
            (&["a.test"][..], "a.test"),
            (&["evil.test, a.test:8443"], "a.test:8443"),
            (&["evil.test", "a.test"], "a.test"),
            (&["no host@all", "evil.test,a.test"], "a.test"),
            (&[""], "own.test"),
        ] {
            let mut pairs: Vec<_> = values.iter().map(|value| ("x-forwarded-host", *value)).collect();
            pairs.push(("host", "own.test"));
            assert_eq!(of(&pairs).host.unwrap(), host, "{values:?}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused_wherever_it_is_believed() {
        let sound = [
            "a",
            "A.test",
            "a.test.",
            "a_b.test",
            "a.test:8443",
            "a.test:",
            "a.test:080",
            "127.0.0.1:1",
            "[::1]",
            "[::1]:8470",
            "[2001:db8::1]:65535",
            "xn--mnchen-3ya.test",
        ];
        let unsound = [
            "",
            ":80",
            "a/b@c d",
            "a@b",
            "user:word@b",
            "@b",
            "a b",
            "a/b",
            "a?b",
            "a#b",
            "a\\b",
            "a:b",
            "a:65536",
            "a:+80",
            "a:80:90",
            "a: 80",
            "a:-1",
            "::1",
            "[::1",
            "::1]",
            "[::1]x",
            "[::1]80",
            "[a]",
            "[]",
            "[fe80::1%eth0]",
            "[::1]:x",
            "a%2fb",
            "a%",
            "\u{e9}.test",
            "<a>",
            "a\"",
            "{a}",
            "a|b",
            "a^b",
            "a`b",
        ];
        for (hosts, is_sound) in [(&sound[..], true), (&unsound[..], false)] {
            for host in hosts {
                assert_eq!(peer("203.0.113.5", &[], &[("host", host)]).is_ok(), is_sound, "Host: {host}");
                if host.is_empty() || host.contains(',') {
                    continue;
                }
                let pairs = [("host", "own.test"), ("x-forwarded-host", *host)];
                assert_eq!(peer("10.0.0.1", &["10.0.0.0/8"], &pairs).is_ok(), is_sound, "X-Forwarded-Host: {host}");
                assert!(peer("203.0.113.5", &["10.0.0.0/8"], &pairs).is_ok(), "not believed: {host}");
            }
        }
    }
}
