//! What an operator may set for the gateway, checked and ready for use.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::uri::{Authority, Scheme};
use http::{HeaderName, HeaderValue};
use ipnet::IpNet;
use tenure_domain::Subject;

use crate::secret::SharedSecret;

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
    pub enrolment: Option<Enrolment>,
    /// What operators must present.
    pub admin_secret: SharedSecret,
    /// What the upstream itself asks for, set on the way in.
    pub upstream_auth: Option<UpstreamAuth>,
    /// How long open connections stay while the store cannot be read.
    pub store_loss_grace: Duration,
    /// Peers whose forwarding headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Paths that need no token.
    pub public_paths: Vec<PublicPath>,
    /// The header that tells the upstream the subject.
    pub user_header: HeaderName,
    /// How the upstream's clients send their token, where they do not send it in a header.
    pub profile: Option<Profile>,
    /// Certificate and key; without them the listener speaks plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Whether a cookie whose token is due is rotated with the response.
    pub auto_rotate_cookies: bool,
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
pub struct Enrolment {
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

/// A path that needs no token: exactly this one, or, where it ends with a slash, everything below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicPath(pub String);

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
    /// The defaults, for the loopback interface, with this admin secret.
    #[must_use]
    pub fn new(admin_secret: SharedSecret) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8470)),
            admin_listen: SocketAddr::from(([127, 0, 0, 1], 8471)),
            upstream: None,
            enrolment: None,
            admin_secret,
            upstream_auth: None,
            store_loss_grace: Duration::from_secs(15),
            trusted_proxies: Vec::new(),
            public_paths: Vec::new(),
            user_header: HeaderName::from_static("x-forwarded-user"),
            profile: None,
            tls: None,
            auto_rotate_cookies: false,
        }
    }
}
