//! Where the server is, from URL and settings.

use redis::{ConnectionInfo, IntoConnectionInfo as _};
use tenure_ports::StoreError;

use crate::options::{Durability, Options};

/// A server to connect to.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) info: ConnectionInfo,
    /// How messages name it: never with a password.
    pub(crate) place: String,
}

impl Target {
    pub(crate) fn new(options: &Options) -> Result<Self, StoreError> {
        // Until it is parsed, nothing of the URL is safe to repeat but its scheme.
        let scheme = options.url.split_once("://").map_or("", |(scheme, _)| scheme);
        let refuse = |problem: String| StoreError::Unavailable { place: "redis.url".to_owned(), problem };
        if !matches!(scheme, "redis" | "valkey" | "unix" | "redis+unix" | "valkey+unix") {
            return Err(refuse("it takes redis://[user[:password]@]host[:port][/database] or unix:///path".to_owned()));
        }
        if options.durability == Durability::Replicated {
            return Err(refuse("redis.durability = replicated is not available yet; set it to local".to_owned()));
        }
        if options.tls_ca.is_some() || options.tls_cert.is_some() || options.tls_key.is_some() {
            return Err(refuse("TLS is not available yet; leave redis.tls_ca, tls_cert and tls_key unset".to_owned()));
        }
        let info = options
            .url
            .as_str()
            .into_connection_info()
            .map_err(|_| refuse("it is no URL of a Redis server; write redis://host:port/database".to_owned()))?;
        let mut settings = info.redis_settings().clone();
        if let Some(username) = &options.username {
            settings = settings.set_username(username);
        }
        if let Some(password) = &options.password {
            settings = settings.set_password(password.expose());
        }
        let tcp = info.tcp_settings().clone().set_nodelay(true);
        let place = format!("redis at {}", info.addr());
        Ok(Self { info: info.set_redis_settings(settings).set_tcp_settings(tcp), place })
    }
}
