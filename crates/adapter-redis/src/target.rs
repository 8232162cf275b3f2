//! Where the servers are and how to get in, from URL and settings.

use std::sync::Arc;
use std::time::Duration;

use redis::RedisConnectionInfo;
use tenure_ports::StoreError;

use crate::dial::Access;
use crate::options::Options;
use crate::tls;
use crate::url::{self, Topology, URL_FORMS};

/// The longest waits.
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
pub(crate) struct Target {
    pub(crate) topology: Topology,
    pub(crate) access: Arc<Access>,
    /// How messages name them: never with a password.
    pub(crate) place: String,
}

impl Target {
    pub(crate) fn new(options: &Options) -> Result<Self, StoreError> {
        let refuse = |setting: &str, problem| StoreError::Unavailable { place: setting.to_owned(), problem };
        let parsed = url::parse(&options.url).map_err(|problem| {
            let problem = if problem.is_empty() { problem } else { format!("{problem}; ") };
            refuse("redis.url", format!("{problem}it takes {URL_FORMS}"))
        })?;
        let tls = if parsed.tls {
            Some(tls::config(options).map_err(|(setting, problem)| refuse(setting, problem))?)
        } else if options.tls_ca.is_some() || options.tls_cert.is_some() || options.tls_key.is_some() {
            let problem =
                "it asks for no TLS, but redis.tls_ca, tls_cert or tls_key is set: write rediss://".to_owned();
            return Err(refuse("redis.url", problem));
        } else {
            None
        };
        let mut sign_in = RedisConnectionInfo::default().set_db(parsed.database);
        if let Some(username) = options.username.as_ref().or(parsed.username.as_ref()) {
            sign_in = sign_in.set_username(username);
        }
        let password = options.password.as_ref().map(|word| word.expose());
        if let Some(password) = password.or(parsed.password.as_ref().map(|word| word.as_str())) {
            sign_in = sign_in.set_password(password);
        }
        let place = place(&parsed.topology);
        let access = Access {
            sign_in,
            tls,
            names: options.names.clone(),
            name: options.client_name.clone(),
            limits: Limits::of(options),
        };
        Ok(Self { topology: parsed.topology, access: Arc::new(access), place })
    }
}

fn place(topology: &Topology) -> String {
    let list = |addresses: &[url::Address]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match topology {
        Topology::One(address) => format!("redis at {address}"),
        Topology::Sentinel { sentinels, service } => format!("redis service {service} (sentinels {})", list(sentinels)),
        Topology::Cluster(nodes) => format!("redis cluster at {}", list(nodes)),
    }
}
