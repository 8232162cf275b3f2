//! The redis backend: a server, a set of sentinels or a cluster.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use tenure_adapter_redis::{Durability, Options, RedisStore};
pub(crate) use tenure_adapter_redis::{URL_FORMS, check_url};
use tenure_domain::Millis;
use tenure_ports::{Backend as _, Diagnosis};

use super::{Driver, IfMissing, OpenBackend, Repair};
use crate::diagnosis::settings_failures;
use crate::error::CliError;
use crate::output::Output;
use crate::settings::{Settings, SettingsError};
use tenure_ports::SystemClock;

/// The driver of the redis backend.
pub(super) struct Redis;

#[async_trait(?Send)]
impl Driver for Redis {
    fn description(&self) -> &'static str {
        "sessions are kept in Redis (backend redis)"
    }

    /// The server, without its password, and the prefix of the keys.
    fn location(&self, settings: &Settings) -> Result<String, CliError> {
        let text = |name| settings.text(name).unwrap_or_default();
        Ok(format!("{} (prefix {})", crate::settings::masked(&text("redis.url")), text("redis.prefix")))
    }

    /// Connects to the server. No store is missing there: an empty Redis is one.
    async fn open(&self, settings: &Settings, _missing: IfMissing, _out: Output) -> Result<OpenBackend, CliError> {
        let store = RedisStore::connect(options(settings)?, Arc::new(SystemClock)).await?;
        Ok(OpenBackend { backend: store, _temporary: None })
    }

    /// A Redis that keeps nothing over a restart is worth a warning.
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
            Err(error) => vec![Diagnosis::failure(error.to_string(), "start it, or correct redis.url")],
        };
        Ok((found, true))
    }

    fn plan_repair(&self, _settings: &Settings) -> Result<Option<Repair>, CliError> {
        Err(CliError::Usage("--repair is for the json backend: Redis manages its own files".to_owned()))
    }
}

/// The options of the Redis store, checked with the files that they name: a file that cannot be used is an error in the
/// settings, and not a store that cannot be reached.
fn options(settings: &Settings) -> Result<Options, SettingsError> {
    let text = |name| settings.text(name);
    let path = |name| settings.text(name).map(PathBuf::from);
    let mut options = Options::new(&text("redis.url").unwrap_or_default());
    options.password_file = path("redis.password_file");
    options.sentinel_password_file = path("redis.sentinel_password_file");
    options.prefix = text("redis.prefix").unwrap_or(options.prefix);
    options.tls_ca = path("redis.tls_ca");
    options.tls_cert = path("redis.tls_cert");
    options.tls_key = path("redis.tls_key");
    options.near_cache = settings.flag("redis.near_cache");
    options.durability = match text("redis.durability").as_deref() {
        Some("replicated") => Durability::Replicated,
        _ => Durability::Local,
    };
    let span = |name, default: Millis| settings.span(name).unwrap_or(default);
    options.response_timeout = span("redis.response_timeout", options.response_timeout);
    options.connect_timeout = span("redis.connect_timeout", options.connect_timeout);
    options.operation_timeout = span("redis.operation_timeout", options.operation_timeout);
    RedisStore::check_options(&options).map_err(|error| SettingsError::one(error.to_string()))?;
    Ok(options)
}
