//! The one place that names adapters: settings in, use cases out.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use tenure_adapter_json::JsonStore;
use tenure_adapter_redis::{Durability, RedisStore, check_password_file};
pub(crate) use tenure_adapter_redis::{URL_FORMS as REDIS_URLS, check_url as check_redis_url};
use tenure_domain::Millis;
use tenure_ports::{Clock, SessionRepository, StoreError};
use tenure_service::Sessions;

use crate::cli::Global;
use crate::commands::doctor::{self, Finding, Level};
use crate::exit::Failure;
use crate::interrupt;
use crate::output::Output;
use crate::settings::{Backend, Settings, SettingsError};
use crate::system::{SystemClock, SystemEntropy};

mod repair;

pub(crate) use repair::Repair;

/// A store that was opened, to be closed.
pub(crate) enum Opened {
    Json(Arc<JsonStore>),
    Redis(Arc<RedisStore>),
}

/// Runs a command's work over the store that the settings name, and closes it, come what may.
///
/// # Errors
/// [`Failure`].
pub(crate) fn with_sessions<F>(global: &Global, out: Output, work: F) -> Result<(), Failure>
where
    F: AsyncFnOnce(&Sessions) -> Result<(), Failure>,
{
    let settings = Settings::load(global)?;
    block_on(async {
        let (sessions, opened) = open(&settings).await?;
        let outcome = work(&sessions).await;
        // Activity may be lost, and no command fails for it.
        if let Err(error) = sessions.flush_activity().await {
            out.warn(format_args!("the activity was not recorded: {error}"));
        }
        if let Err(error) = opened.close().await {
            out.warn(format_args!("the store was not closed properly: {error}"));
        }
        outcome
    })
}

/// Runs asynchronous work on this thread.
///
/// # Errors
/// [`Failure`].
pub(crate) fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Failed(format!("could not start: {error}")))?;
    runtime.block_on(async {
        interrupt::outlive_file_limit();
        work.await
    })
}

pub(crate) async fn open(settings: &Settings) -> Result<(Sessions, Opened), Failure> {
    let wall: Arc<dyn Clock> = Arc::new(SystemClock);
    let (repository, clock, opened): (Arc<dyn SessionRepository>, _, _) = match settings.backend() {
        Backend::Json => {
            let path = settings.store()?;
            tracing::info!(path = %path.display(), "opening the store");
            let store = JsonStore::open(&path, wall, tenure_adapter_json::Options::default())?;
            (store.clone(), store.clock(), Opened::Json(store))
        }
        Backend::Redis => {
            let store = RedisStore::connect(redis_options(settings)?, wall).await?;
            (store.clone(), store.clock(), Opened::Redis(store))
        }
    };
    Ok((Sessions::new(repository, clock, Arc::new(SystemEntropy), settings.policy()), opened))
}

impl Opened {
    pub(crate) async fn close(&self) -> Result<(), StoreError> {
        match self {
            Self::Json(store) => store.close().await,
            // Nothing waits in this process: what was written is with the server.
            Self::Redis(_) => Ok(()),
        }
    }

    /// Says what a server that runs for long should be warned of: a Redis that keeps nothing over a restart.
    pub(crate) async fn warn(&self, out: Output) {
        let Self::Redis(store) = self else { return };
        for found in store.examine().await {
            if found.level != tenure_adapter_redis::Level::Ok {
                out.warn(format_args!("{}; {}", found.what, found.advice));
            }
        }
    }
}

fn redis_options(settings: &Settings) -> Result<tenure_adapter_redis::Options, Failure> {
    let text = |name| settings.text(name);
    let path = |name| settings.text(name).map(PathBuf::from);
    let mut options = tenure_adapter_redis::Options::new(&text("redis.url").unwrap_or_default());
    options.password_file = password_file(settings, "redis.password_file")?;
    options.sentinel_password_file = password_file(settings, "redis.sentinel_password_file")?;
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
    Ok(options)
}

/// A file with a password, which the store reads again for each connection.
fn password_file(settings: &Settings, name: &str) -> Result<Option<PathBuf>, Failure> {
    let Some(file) = settings.text(name).map(PathBuf::from) else {
        return Ok(None);
    };
    check_password_file(&file).map_err(|problem| SettingsError::one(format!("{name}: {problem}")))?;
    Ok(Some(file))
}

/// Looks at the store without changing it.
///
/// # Errors
/// [`Failure`] where not even that can be begun.
pub(crate) fn examine(settings: &Settings, findings: &mut Vec<Finding>) -> Result<(), Failure> {
    findings.push(doctor::backend(settings));
    match settings.backend() {
        Backend::Json => {
            let found = tenure_adapter_json::examine(&settings.store()?, Arc::new(SystemClock));
            findings.extend(found.into_iter().map(|found| {
                let level = match found.level {
                    tenure_adapter_json::Level::Ok => Level::Ok,
                    tenure_adapter_json::Level::Warn => Level::Warn,
                    tenure_adapter_json::Level::Fail => Level::Fail,
                };
                Finding::new(level, found.what, found.advice)
            }));
            Ok(())
        }
        Backend::Redis => block_on(async {
            let store = match RedisStore::connect(redis_options(settings)?, Arc::new(SystemClock)).await {
                Ok(store) => store,
                Err(error) => {
                    findings.push(Finding::new(Level::Fail, error.to_string(), "start it, or correct redis.url"));
                    return Ok(());
                }
            };
            findings.extend(store.examine().await.into_iter().map(|found| {
                let level = match found.level {
                    tenure_adapter_redis::Level::Ok => Level::Ok,
                    tenure_adapter_redis::Level::Warn => Level::Warn,
                    tenure_adapter_redis::Level::Fail => Level::Fail,
                };
                Finding::new(level, found.what, found.advice)
            }));
            Ok(())
        }),
    }
}
