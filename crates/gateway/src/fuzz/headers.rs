//! What of a client's headers goes on, and what is believed of them, beside simpler rules.

use std::net::{IpAddr, Ipv4Addr};

use http::header::{CONNECTION, COOKIE, HOST};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::input::fields;
use crate::proxy::headers::strip_hop_by_hop;
use tenure_tower::EnforcementConfig;
use tenure_tower::request::header_fields::{HOP_BY_HOP, strip_claims};
use tenure_tower::request::headers::{HeaderValues, set_forwarding};
use tenure_tower::request::peer::{Connection, Peer, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO};

/// Names that no client may use, whatever else than letters and digits it writes among them; some of each kind.
const CLAIMS: [&str; 12] = [
    "remoteuser",
    "xremoteuser",
    "smuser",
    "xauthuser",
    "xforwardeduser",
    "xforwardedfor",
    "xrealip",
    "forwarded",
    "xoriginalurl",
    "xrewriteurl",
    "xtenuresession",
    "proxy",
];
const PROXY: [u8; 4] = [10, 0, 0, 1];

/// Reads lines as headers of a request: `C:` is `Connection`, `F:` `X-Forwarded-For`, `H:` `Host`, `O:`
/// `X-Forwarded-Host`, `R:` `X-Forwarded-Proto`, and others are written out. The first byte says from where it comes.
/// How many headers are taken away.
///
/// # Panics
/// Where something goes on that may not, or is believed that nobody said who is believed.
pub fn headers(bytes: &[u8]) -> usize {
    let Some((&flags, bytes)) = bytes.split_first() else { return 0 };
    let short = [
        (b'C', CONNECTION),
        (b'F', X_FORWARDED_FOR),
        (b'H', HOST),
        (b'O', X_FORWARDED_HOST),
        (b'R', X_FORWARDED_PROTO),
        (b'K', COOKIE),
    ];
    let headers = fields(bytes, &short);
    let trusted_proxies = "10.0.0.0/8".parse().into_iter().collect();
    let config = EnforcementConfig { trusted_proxies, ..EnforcementConfig::default() };
    let remote = if flags & 1 != 0 { IpAddr::from(PROXY) } else { IpAddr::from([203, 0, 113, 9]) };
    let connection = Connection::new((remote, 1).into(), flags & 2 != 0);
    let method = if flags & 4 != 0 { Method::POST } else { Method::GET };
    let mut left = headers.clone();
    strip_hop_by_hop(&mut left);
    strip_claims(&mut left, &method, &config);
    only_what_may(&headers, &left, &config);
    if let Ok(peer) = Peer::of(&connection, &headers, &config.trusted_proxies) {
        is_believed(&peer, &connection, &headers, &config);
        set_forwarding(&mut left, &connection, &peer, &config, &mut HeaderValues::default());
        for name in [X_FORWARDED_FOR, X_FORWARDED_PROTO, X_FORWARDED_HOST] {
            let count = left.get_all(&name).iter().count();
            assert!(count == 1 || name == X_FORWARDED_HOST && count == 0 && peer.host.is_none(), "{name}: {left:?}");
        }
        let first = left[X_FORWARDED_FOR].to_str().unwrap_or_default().split(',').next().unwrap_or_default();
        assert_eq!(first.parse(), Ok(peer.address));
    }
    headers.keys_len() - left.keys().filter(|name| headers.contains_key(*name)).count()
}

fn folded(name: &HeaderName) -> String {
    name.as_str().chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase()
}

fn only_what_may(headers: &HeaderMap, left: &HeaderMap, config: &EnforcementConfig) {
    let listed: Vec<String> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| String::from_utf8_lossy(value.as_bytes()).split(',').map(str::to_owned).collect::<Vec<_>>())
        .map(|name| name.trim_matches([' ', '\t']).to_ascii_lowercase())
        .filter(|name| *name != "host")
        .collect();
    for name in left.keys() {
        let values = |headers: &HeaderMap| headers.get_all(name).iter().cloned().collect::<Vec<_>>();
        assert_eq!(values(left), values(headers), "{name} changed");
        assert!(!HOP_BY_HOP.contains(name), "{name} is of one connection");
        assert!(!listed.iter().any(|listed| listed == name.as_str()), "{name} is of one connection by its own word");
        let folded = folded(name);
        assert!(!CLAIMS.contains(&&*folded) && !folded.starts_with("xforwarded"), "{name} goes on");
        assert_ne!(folded, self::folded(&config.user_header), "{name} goes on");
        // In another spelling than this it would be taken for it.
        for own in ["host", "cookie", "authorization", "contentlength", "transferencoding"] {
            assert!(folded != own || name.as_str().replace('-', "") == own, "{name} goes on");
        }
    }
}

fn is_believed(peer: &Peer, connection: &Connection, headers: &HeaderMap, config: &EnforcementConfig) {
    if let Some(host) = &peer.host {
        let authority = Authority::try_from(host.as_bytes());
        let authority = authority.unwrap_or_else(|error| panic!("{host:?} is no host: {error}"));
        assert!(!authority.as_str().contains('@') && authority.host().len() <= host.len(), "{host:?}");
        assert!(!host.as_bytes().iter().any(|byte| b"/\\?#, \t".contains(byte)), "{host:?}");
    }
    if !peer.trusted {
        assert_eq!((peer.address, peer.secure), (connection.remote(), connection.tls()));
        assert_eq!(peer.host.as_ref(), headers.get(HOST));
        return;
    }
    // Whatever a client wrote itself stands left of what the proxies added, and changes nothing once one of them has
    // named somebody who is no proxy.
    let proxy = |address: IpAddr| matches!(address, IpAddr::V4(address) if address.octets()[0] == 10);
    for invented in ["198.51.100.77", "nonsense", "10.9.9.9"] {
        let mut longer = HeaderMap::new();
        longer.append(X_FORWARDED_FOR, HeaderValue::from_static(invented));
        for value in headers.get_all(X_FORWARDED_FOR) {
            longer.append(X_FORWARDED_FOR, value.clone());
        }
        let Ok(other) = Peer::of(connection, &longer, &config.trusted_proxies) else { continue };
        let invented = invented.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let went_on = proxy(peer.address) && other.address == invented;
        assert!(other.address == peer.address || went_on, "{:?} became {:?}", peer.address, other.address);
    }
}
