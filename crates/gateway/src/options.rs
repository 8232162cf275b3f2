//! The options of the gateway, checked and ready for use.

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

/// The options of a gateway.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address at which clients connect.
    pub listen: SocketAddr,
    /// The address at which operators connect.
    pub admin_listen: SocketAddr,
    /// The server behind the gateway. Without it the gateway only answers its own paths.
    pub upstream: Option<Upstream>,
    /// How clients enrol themselves. Without it they cannot.
    pub enrolment: Option<EnrolmentOptions>,
    /// The secret that operators must present.
    pub admin_secret: SharedSecret,
    /// The secret that gives access to the metrics and nothing else.
    pub metrics_secret: Option<SharedSecret>,
    /// Host names that the admin listener accepts, in addition to addresses, `localhost` and the machine's own name.
    pub admin_hosts: Vec<String>,
    /// Whether the admin listener speaks TLS: [`Options::admin_speaks_tls`]. Later changes have no effect.
    pub admin_tls: Option<bool>,
    /// Origins, as browsers write them, whose pages may send requests with a token and read the responses.
    pub cors_origins: Vec<String>,
    /// The upstream's own secret, which is set on requests with a session.
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
    /// The profile of an upstream whose clients do not send the token in a header.
    pub profile: Option<Profile>,
    /// Certificate and key; without them the listener speaks plain HTTP.
    pub tls: Option<TlsFiles>,
    /// How long browsers are to use only TLS here (RFC 6797). It is sent if the listener speaks TLS itself; `None`
    /// sends nothing.
    pub hsts: Option<Duration>,
    /// Whether a token that is due and came in a cookie is rotated with the response.
    pub auto_rotate_cookies: bool,
    /// Limits in time, number and size. Later changes have no effect.
    pub limits: Limits,
}

/// Limits in time, number and size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a client may take to send a request's header, and how long it may keep a connection open between two
    /// requests (30 s).
    pub header: Duration,
    /// How long a client may take to read any of what is sent to it (60 s).
    pub stall: Duration,
    /// How long the upstream may take to accept a connection (5 s).
    pub connect: Duration,
    /// How long the upstream may take to begin its response, counted from the last piece of the request's body (120 s).
    pub response: Duration,
    /// How long requests in progress may take to end at shutdown (20 s).
    pub drain: Duration,
    /// The most connections of clients at once, as far as the limit of file descriptors allows (16,384).
    pub connections: usize,
    /// The most connections of one address, or of one /64 of IPv6 (1,024). Loopback and trusted proxies are exempt.
    pub per_address: usize,
    /// The most bytes of a request's header (64 KiB).
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
    /// The secret that they must present.
    pub secret: SharedSecret,
    /// The subject that their sessions belong to.
    pub subject: Subject,
}

/// The secret that the upstream itself requires.
#[derive(Clone, Debug)]
pub struct UpstreamAuth {
    /// The header field that carries the secret.
    pub header: HeaderName,
    /// The field's value, marked as sensitive.
    pub value: HeaderValue,
}

/// How an upstream's clients send their token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// In the first frame of a WebSocket, as OpenClaw's clients do.
    OpenClaw {
        /// The address that the upstream is told for a client on loopback, because OpenClaw refuses forwarded loopback
        /// addresses.
        loopback_as: std::net::IpAddr,
    },
}

/// The files of the certificate and its key. They are read again when they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain (PEM).
    pub cert: PathBuf,
    /// The certificate's key (PEM).
    pub key: PathBuf,
}

impl Options {
    /// Whether the admin listener speaks TLS, with the certificate of the client listener. [`Options::admin_tls`]
    /// decides. By default it does so beyond loopback, because the admin secret must not cross a network unencrypted.
    /// On loopback nobody can listen in, and no certificate fits `127.0.0.1`.
    #[must_use]
    pub fn admin_speaks_tls(&self) -> bool {
        self.tls.is_some() && self.admin_tls.unwrap_or(!self.admin_listen.ip().to_canonical().is_loopback())
    }

    /// Returns the part of these options that enforcement needs.
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

    /// Makes default options, for the loopback interface, with this admin secret.
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
