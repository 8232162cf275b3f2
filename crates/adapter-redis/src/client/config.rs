//! The configuration of connections, from the URL and the settings.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::client::resolver::Resolver;
use crate::client::secrets::Secrets;
use crate::client::tls::TlsFiles;
use crate::client::url::{self, TopologyConfig, URL_FORMS};
use crate::options::Options;
use crate::setting_error::SettingError;

/// The configuration of a connection to any server.
#[derive(Clone)]
pub(crate) struct ConnectConfig {
    pub(crate) secrets: Secrets,
    pub(crate) resolver: Resolver,
    /// The name under which the server lists the connection.
    pub(crate) name: String,
    pub(crate) limits: Limits,
}

/// The time limits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) response: Duration,
    pub(crate) connect: Duration,
    pub(crate) operation: Duration,
}

impl Limits {
    pub(crate) fn of(options: &Options) -> Self {
        Self {
            response: options.response_timeout.into(),
            connect: options.connect_timeout.into(),
            operation: options.operation_timeout.into(),
        }
    }
}

/// The servers to connect to.
#[derive(Clone)]
pub(crate) struct Config {
    pub(crate) topology: TopologyConfig,
    pub(crate) connect: Arc<ConnectConfig>,
    /// The file with the password of the sentinels, if they have one of their own, and the setting that names it.
    pub(crate) sentinel_password: Option<(&'static str, PathBuf)>,
    /// The servers' name in messages, without a password.
    pub(crate) location: String,
}

impl Config {
    pub(crate) fn new(options: &Options) -> Result<Self, SettingError> {
        let parsed = url::parse(&options.url).map_err(|message| {
            let message = if message.is_empty() { message } else { format!("{message}; ") };
            SettingError::new("redis.url", format!("{message}it takes {URL_FORMS}"))
        })?;
        let tls = TlsFiles { ca: options.tls_ca.clone(), cert: options.tls_cert.clone(), key: options.tls_key.clone() };
        if !parsed.tls && (tls.ca.is_some() || tls.cert.is_some() || tls.key.is_some()) {
            let message = "it asks for no TLS, but redis.tls_ca, tls_cert or tls_key is set: write rediss://";
            return Err(SettingError::new("redis.url", message));
        }
        let secrets = Secrets {
            username: options.username.clone().or(parsed.username),
            password: parsed.password,
            password_file: options.password_file.clone().map(|file| ("redis.password_file", file)),
            database: parsed.database,
            tls: parsed.tls.then_some(tls),
        };
        let sentinel_password = options.sentinel_password_file.clone();
        let sentinel_password = sentinel_password.map(|file| ("redis.sentinel_password_file", file));
        // A file that cannot be used is reported at the start, by the name of its setting.
        let of_sentinels = Secrets { password_file: sentinel_password.clone(), ..Secrets::default() };
        secrets.read().and_then(|_| of_sentinels.read())?;
        let location = location(&parsed.topology);
        let connect = ConnectConfig {
            secrets,
            resolver: options.resolver.clone(),
            name: options.client_name.clone(),
            limits: Limits::of(options),
        };
        Ok(Self { topology: parsed.topology, connect: Arc::new(connect), sentinel_password, location })
    }
}

fn location(topology: &TopologyConfig) -> String {
    let list = |addresses: &[url::Address]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match topology {
        TopologyConfig::One(address) => format!("redis at {address}"),
        TopologyConfig::Sentinel { sentinels, service } => {
            format!("redis service {service} (sentinels {})", list(sentinels))
        }
        TopologyConfig::Cluster(nodes) => format!("redis cluster at {}", list(nodes)),
    }
}
