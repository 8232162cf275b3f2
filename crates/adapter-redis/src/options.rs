//! The options of the Redis store.

use std::fmt;
use std::path::PathBuf;

use tenure_domain::Millis;

use crate::client::resolver::Resolver;

/// When a commit counts as durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// A commit counts once the server has it, and is as durable as the server's own persistence.
    #[default]
    Local,
    /// A commit counts once a replica has it too.
    Replicated,
}

/// The options of a [`RedisStore`]: how the servers are reached and how the store is used.
///
/// The files that are named here are read again for each connection.
///
/// [`RedisStore`]: crate::RedisStore
#[derive(Clone)]
pub struct Options {
    /// The URL of the servers, in one of the forms of [`URL_FORMS`](crate::URL_FORMS).
    pub url: String,
    /// The user to authenticate as. It takes precedence over the one in the URL.
    pub username: Option<String>,
    /// A file whose first line is the password. It takes precedence over the one in the URL.
    pub password_file: Option<PathBuf>,
    /// A file whose first line is the password of the sentinels' default user.
    pub sentinel_password_file: Option<PathBuf>,
    /// The prefix of every key.
    pub prefix: String,
    /// A file with the certificates (PEM) of the authorities to trust. The default is the system's authorities.
    pub tls_ca: Option<PathBuf>,
    /// A file with the client's certificate (PEM).
    pub tls_cert: Option<PathBuf>,
    /// A file with the private key (PEM) of the client's certificate.
    pub tls_key: Option<PathBuf>,
    /// Whether verifications may be answered from memory, at most half a second behind the server.
    pub near_cache: bool,
    /// When a commit counts as durable.
    pub durability: Durability,
    /// The longest wait for one answer of a server.
    pub response_timeout: Millis,
    /// The longest wait for a connection.
    pub connect_timeout: Millis,
    /// The longest that a call to the store takes in all.
    pub operation_timeout: Millis,
    /// The name of the connections in the server's `CLIENT LIST`.
    pub client_name: String,
    /// The resolver that finds the addresses of a host.
    pub resolver: Resolver,
}

impl Options {
    /// The default settings for the server at `url`.
    #[must_use]
    pub fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            username: None,
            password_file: None,
            sentinel_password_file: None,
            prefix: "tenure".to_owned(),
            tls_ca: None,
            tls_cert: None,
            tls_key: None,
            near_cache: false,
            durability: Durability::Local,
            response_timeout: Millis::new(250),
            connect_timeout: Millis::new(500),
            operation_timeout: Millis::seconds(1),
            client_name: "tenure".to_owned(),
            resolver: Resolver::default(),
        }
    }
}

impl fmt::Debug for Options {
    /// Leaves the URL out, since it may contain a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("username", &self.username)
            .field("password_file", &self.password_file)
            .field("prefix", &self.prefix)
            .field("near_cache", &self.near_cache)
            .field("durability", &self.durability)
            .finish_non_exhaustive()
    }
}
