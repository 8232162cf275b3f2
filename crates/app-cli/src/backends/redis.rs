//! The redis backend: a server, a set of sentinels or a cluster.

use std::sync::Arc;

use async_trait::async_trait;
use tenure_adapter_redis::{self as adapter, Options, RedisStore};
pub(crate) use tenure_adapter_redis::{URL_FORMS, check_url};
use tenure_ports::{Backend as _, Diagnosis};

use super::{Driver, IfMissing, OpenBackend, Repair};
use crate::diagnosis::settings_failures;
use crate::error::CliError;
use crate::output::Output;
use crate::settings::{Durability, REDIS, RedisSettings, Settings, SettingsError};
use tenure_ports::SystemClock;

/// The driver of the redis backend.
pub(super) struct Redis;

#[async_trait(?Send)]
impl Driver for Redis {
    fn description(&self) -> &'static str {
        "sessions are kept in Redis (backend redis)"
    }

    /// Returns the server, without its password, and the prefix of the keys.
    fn location(&self, settings: &Settings) -> Result<String, CliError> {
        let RedisSettings { url, prefix, .. } = RedisSettings::read(settings)?;
        Ok(format!("{} (prefix {prefix})", crate::settings::masked(&url)))
    }

    /// Connects to the server. A store is never missing there: an empty Redis is one.
    async fn open(&self, settings: &Settings, _missing: IfMissing, _out: Output) -> Result<OpenBackend, CliError> {
        let store = RedisStore::connect(options(settings)?, Arc::new(SystemClock)).await?;
        Ok(OpenBackend { backend: store, _temporary: None })
    }

    /// Returns `true`: a Redis without persistence deserves a warning.
    fn is_examined_at_start(&self) -> bool {
        true
    }

    /// Connects and examines the server. Settings that cannot be used are among the findings.
    async fn diagnose(&self, settings: &Settings) -> Result<(Vec<Diagnosis>, bool), CliError> {
        let options = match options(settings) {
            Ok(options) => options,
            Err(error) => return Ok((settings_failures(&error).collect(), true)),
        };
        let found = match RedisStore::connect(options, Arc::new(SystemClock)).await {
            Ok(store) => store.diagnose().await,
            Err(error) => vec![Diagnosis::failure(error.to_string(), format!("start it, or correct {}", REDIS.url))],
        };
        Ok((found, true))
    }

    fn plan_repair(&self, _settings: &Settings) -> Result<Option<Repair>, CliError> {
        Err(CliError::Usage("--repair is for the json backend: Redis manages its own files".to_owned()))
    }
}

/// Returns the options of the Redis store. The files that they name are checked, so that an unusable file is an error in
/// the settings and not an unreachable store.
fn options(settings: &Settings) -> Result<Options, SettingsError> {
    let values = RedisSettings::read(settings)?;
    let mut options = Options::new(&values.url);
    options.password_file = values.password_file;
    options.sentinel_password_file = values.sentinel_password_file;
    options.prefix = values.prefix;
    options.tls_ca = values.tls_ca;
    options.tls_cert = values.tls_cert;
    options.tls_key = values.tls_key;
    options.near_cache = values.near_cache;
    options.durability = match values.durability {
        Durability::Local => adapter::Durability::Local,
        Durability::Replicated => adapter::Durability::Replicated,
    };
    options.response_timeout = values.response_timeout;
    options.connect_timeout = values.connect_timeout;
    options.operation_timeout = values.operation_timeout;
    RedisStore::check_options(&options).map_err(|error| SettingsError::one(error.to_string()))?;
    Ok(options)
}
