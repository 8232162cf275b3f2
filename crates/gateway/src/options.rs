//! What an operator may set for the gateway, checked and ready for use.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::uri::{Authority, Scheme};
use http::{HeaderName, HeaderValue};
use ipnet::IpNet;
use tenure_domain::Subject;

use crate::shared_secret::SharedSecret;
use tenure_tower::request::cookie::CookieName;
use tenure_tower::{EnforcementConfig, PublicPath};

/// How a gateway works.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Where operators connect.
    pub admin_listen: SocketAddr,
    /// What stands behind; without it only forward-auth questions are answered.
    pub upstream: Option<Upstream>,
    /// How clients enrol themselves; without it they cannot.
    pub enrolment: Option<EnrolmentOptions>,
    /// What operators must present.
    pub admin_secret: SharedSecret,
    /// What opens the counters and nothing else.
    pub metrics_secret: Option<SharedSecret>,
    /// Names by which the admin listener may be asked, beside addresses, `localhost` and the machine's own name.
    pub admin_hosts: Vec<String>,
    /// Whether the admin listener speaks TLS: [`Options::admin_speaks_tls`]. Later changes have no effect.
    pub admin_tls: Option<bool>,
    /// Origins whose pages may ask with a token and read the answers, as browsers write them.
    pub cors_origins: Vec<String>,
    /// What the upstream itself asks for, set on the way in.
    pub upstream_auth: Option<UpstreamAuth>,
    /// How long open connections stay while the store cannot be read.
    pub store_loss_grace: Duration,
    /// Proxies whose forwarding headers are trusted.
    pub trusted_proxies: Vec<IpNet>,
    /// Paths that need no token.
    pub public_paths: Vec<PublicPath>,
    /// The header that tells the upstream the subject.
    pub user_header: HeaderName,
    /// The name of the browser cookie.
    pub cookie_name: CookieName,
    /// For services whose clients do not send the token in a header.
    pub profile: Option<Profile>,
    /// Certificate and key; without them the listener speaks plain HTTP.
    pub tls: Option<TlsFiles>,
    /// For how long browsers are to use nothing but TLS here (RFC 6797), told where the listener speaks TLS itself.
    /// `None`: they are not told.
    pub hsts: Option<Duration>,
    /// Whether a cookie whose token is due is rotated with the response.
    pub auto_rotate_cookies: bool,
    /// How long things may take, and how many and how large they may be. Later changes have no effect.
    pub limits: Limits,
}

/// How long things may take, and how many and how large they may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A client may take so long to send a request's header, and keep a connection open between two requests (30 s).
    pub header: Duration,
    /// A client may take so long to take any of what is sent to it (60 s).
    pub stall: Duration,
    /// The upstream may take so long to accept a connection (5 s).
    pub connect: Duration,
    /// The upstream may take so long to begin its answer, counted from the last piece of the request's body (120 s).
    pub response: Duration,
    /// Requests in progress may take so long to end at shutdown (20 s).
    pub drain: Duration,
    /// So many connections may clients have at once, as far as the limit of file descriptors allows (16,384).
    pub connections: usize,
    /// So many of them may one address have, or one /64 of IPv6 (1,024). Loopback and trusted proxies are exempt.
    pub per_address: usize,
    /// So large may a request's header be, in bytes (64 KiB).
    pub header_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(30),
            stall: Duration::from_secs(60),
            connect: Duration::from_secs(5),
            response: Duration::from_secs(120),
            drain: Duration::from_secs(20),
            connections: 16_384,
            per_address: 1_024,
            header_bytes: 64 * 1024,
        }
    }
}

/// The server behind the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// `http` or `https`.
    pub scheme: Scheme,
    /// Host and port.
    pub authority: Authority,
}

/// How clients enrol themselves.
#[derive(Clone, Debug)]
pub struct EnrolmentOptions {
    /// What they must present.
    pub secret: SharedSecret,
    /// Who their sessions belong to.
    pub subject: Subject,
}

/// What the upstream itself asks for.
#[derive(Clone, Debug)]
pub struct UpstreamAuth {
    /// The header that carries it.
    pub header: HeaderName,
    /// Its value, marked as sensitive.
    pub value: HeaderValue,
}

/// How an upstream's clients send their token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// In the first frame of a WebSocket, as OpenClaw's clients do.
    OpenClaw {
        /// The address that the upstream is told for a client on loopback, which it would refuse.
        loopback_as: std::net::IpAddr,
    },
}

/// Where certificate and key are; read again when they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain (PEM).
    pub cert: PathBuf,
    /// The certificate's key (PEM).
    pub key: PathBuf,
}

impl Options {
    /// Whether the admin listener speaks TLS, with the certificate of the other: as [`Options::admin_tls`] says; where it
    /// says nothing, beyond loopback, since the admin secret must not travel in clear. On loopback nobody listens, and no
    /// certificate fits `127.0.0.1`.
    #[must_use]
    pub fn admin_speaks_tls(&self) -> bool {
        self.tls.is_some() && self.admin_tls.unwrap_or(!self.admin_listen.ip().to_canonical().is_loopback())
    }

    /// The part of these options that enforcement goes by.
    #[must_use]
    pub fn enforcement(&self) -> EnforcementConfig {
        EnforcementConfig {
            cookie_name: self.cookie_name.clone(),
            trusted_proxies: self.trusted_proxies.clone(),
            public_paths: self.public_paths.clone(),
            // OpenClaw opens WebSockets on every path, and its own tokens would get in without a session.
            public_websockets: self.profile.is_none(),
            user_header: self.user_header.clone(),
            upstream_auth_header: self.upstream_auth.as_ref().map(|auth| auth.header.clone()),
            loopback_as: self.profile.map(|Profile::OpenClaw { loopback_as }| loopback_as),
            store_loss_grace: self.store_loss_grace,
        }
    }

    /// The defaults, for the loopback interface, with this admin secret.
    #[must_use]
    pub fn new(admin_secret: SharedSecret) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8470)),
            admin_listen: SocketAddr::from(([127, 0, 0, 1], 8471)),
            upstream: None,
            enrolment: None,
            admin_secret,
            metrics_secret: None,
            admin_hosts: Vec::new(),
            admin_tls: None,
            cors_origins: Vec::new(),
            upstream_auth: None,
            store_loss_grace: Duration::from_secs(15),
            trusted_proxies: Vec::new(),
            public_paths: Vec::new(),
            user_header: HeaderName::from_static("x-forwarded-user"),
            cookie_name: CookieName::default(),
            profile: None,
            tls: None,
            hsts: Some(Duration::from_secs(365 * 24 * 3600)),
            auto_rotate_cookies: false,
            limits: Limits::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_speak_tls_where_it_is_set_or_beyond_loopback() {
        let mut options = Options::new(SharedSecret::new("x").unwrap());
        let mut speaks = |listen: &str, set, tls: bool| {
            options.admin_listen = listen.parse().unwrap();
            options.admin_tls = set;
            options.tls = tls.then(|| TlsFiles { cert: "cert".into(), key: "key".into() });
            options.admin_speaks_tls()
        };
        for (listen, unset) in
            [("127.0.0.1:1", false), ("[::1]:1", false), ("0.0.0.0:1", true), ("[::]:1", true), ("192.0.2.1:1", true)]
        {
            assert_eq!(speaks(listen, None, true), unset, "{listen}");
            assert!(speaks(listen, Some(true), true) && !speaks(listen, Some(false), true), "{listen}");
            assert!(!speaks(listen, None, false), "{listen}");
        }
    }
}
