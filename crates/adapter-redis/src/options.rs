//! What an operator may set for the store in Redis.

use std::fmt;
use std::path::PathBuf;

use tenure_domain::Millis;

use crate::client::resolver::Resolver;

/// When a commit counts as durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// As soon as the server has it: as durable as the server's own persistence.
    #[default]
    Local,
    /// Once a replica has it too.
    Replicated,
}

/// How a store is reached and used. The files are read again for each connection.
#[derive(Clone)]
pub struct Options {
    /// Where the server is: `redis://[user[:password]@]host[:port][/database]`, `rediss://…`, `unix:///path`.
    pub url: String,
    /// Signs in as this user, whatever the URL says.
    pub username: Option<String>,
    /// Signs in with the first line of this file, whatever the URL says.
    pub password_file: Option<PathBuf>,
    /// Signs in to the sentinels with the first line of this file, as their default user.
    pub sentinel_password_file: Option<PathBuf>,
    /// Stands at the front of every key.
    pub prefix: String,
    /// The certificates (PEM) of the authorities that may vouch for the server; the system's where none are given.
    pub tls_ca: Option<PathBuf>,
    /// The client's certificate (PEM).
    pub tls_cert: Option<PathBuf>,
    /// The key of the client's certificate (PEM).
    pub tls_key: Option<PathBuf>,
    /// Whether verification may be answered from memory, within a bound.
    pub near_cache: bool,
    /// When a commit counts as durable.
    pub durability: Durability,
    /// The longest wait for one answer.
    pub response_timeout: Millis,
    /// The longest wait for a connection.
    pub connect_timeout: Millis,
    /// The longest any call takes in all.
    pub operation_timeout: Millis,
    /// What the server lists the connection as.
    pub client_name: String,
    /// How the addresses of a host are found.
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
    /// Leaves the URL out, since it may carry a password.
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
