//! The one place that names adapters: settings in, use cases out.

use std::future::Future;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;
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

/// What becomes of a store that is not there. Only a file can be missing: an empty Redis is a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// It is an error, so that nobody takes the wrong place for one without sessions.
    Refused,
    /// It is made, and that is said.
    Made,
    /// One that is empty, and gone afterwards, stands in for it.
    Imagined,
}

/// The use cases over a store, and where that is.
pub(crate) struct Store {
    pub(crate) sessions: Sessions,
    /// For people: a path, or a server without its password.
    pub(crate) place: String,
}

/// A store that was opened, to be closed.
pub(crate) enum Opened {
    Json {
        store: Arc<JsonStore>,
        /// Removed with this.
        _imagined: Option<TempDir>,
    },
    Redis(Arc<RedisStore>),
}

/// Runs a command's work over the store that the settings name, and closes it, come what may.
///
/// # Errors
/// [`Failure`]; one that says that something is not there comes with the place.
pub(crate) fn with_store<F>(global: &Global, missing: Missing, out: Output, work: F) -> Result<(), Failure>
where
    F: AsyncFnOnce(&Store) -> Result<(), Failure>,
{
    let settings = Settings::load(global)?;
    settings.warn(out);
    block_on(async {
        let (sessions, opened) = open(&settings, missing, out).await?;
        let store = Store { sessions, place: place(&settings)? };
        let outcome = work(&store).await;
        // Activity may be lost, and no command fails for it.
        if let Err(error) = store.sessions.flush_activity().await {
            out.warn(format_args!("the activity was not recorded: {error}"));
        }
        if let Err(error) = opened.close().await {
            out.warn(format_args!("the store was not closed properly: {error}"));
        }
        outcome.map_err(|failure| failure.looked_in(store.place))
    })
}

/// Where the store is, for people.
///
/// # Errors
/// [`Failure`] where the settings do not tell.
pub(crate) fn place(settings: &Settings) -> Result<String, Failure> {
    Ok(match settings.backend() {
        Backend::Json => file(settings)?.display().to_string(),
        Backend::Redis => {
            let text = |name| settings.text(name).unwrap_or_default();
            format!("{} (prefix {})", crate::settings::masked(&text("redis.url")), text("redis.prefix"))
        }
    })
}

/// The file of the json backend, from the root on: which directory it is relative to is part of the question.
fn file(settings: &Settings) -> Result<PathBuf, Failure> {
    let path = settings.store()?;
    Ok(std::path::absolute(&path).unwrap_or(path))
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

/// Opens the store that the settings name.
///
/// # Errors
/// [`Failure::Store`], [`Failure::Settings`].
pub(crate) async fn open(settings: &Settings, missing: Missing, out: Output) -> Result<(Sessions, Opened), Failure> {
    let wall: Arc<dyn Clock> = Arc::new(SystemClock);
    let (repository, clock, opened): (Arc<dyn SessionRepository>, _, _) = match settings.backend() {
        Backend::Json => {
            let (path, imagined) = match file(settings)? {
                path if missing == Missing::Imagined && !path.exists() => {
                    out.note(format_args!("there is no store {} yet: the import makes it", path.display()));
                    let directory =
                        TempDir::new().map_err(|error| Failure::Failed(format!("could not try: {error}")))?;
                    (directory.path().join("sessions.jsonl"), Some(directory))
                }
                path => (path, None),
            };
            tracing::info!(path = %path.display(), "opening the store");
            let create = missing == Missing::Made || imagined.is_some();
            let store = JsonStore::open(&path, wall, tenure_adapter_json::Options { create, ..Default::default() })?;
            if store.was_made() && imagined.is_none() {
                out.note(format_args!("made a new store: {}", path.display()));
            }
            (store.clone(), store.clock(), Opened::Json { store, _imagined: imagined })
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
            Self::Json { store, .. } => store.close().await,
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

/// Looks at the store without changing it; whether there is one.
///
/// # Errors
/// [`Failure`] where not even that can be begun.
pub(crate) fn examine(settings: &Settings, findings: &mut Vec<Finding>) -> Result<bool, Failure> {
    findings.push(doctor::backend(settings));
    match settings.backend() {
        Backend::Json => {
            let path = file(settings)?;
            let found = tenure_adapter_json::examine(&path, Arc::new(SystemClock));
            findings.extend(found.into_iter().map(|found| {
                let level = match found.level {
                    tenure_adapter_json::Level::Ok => Level::Ok,
                    tenure_adapter_json::Level::Warn => Level::Warn,
                    tenure_adapter_json::Level::Fail => Level::Fail,
                };
                Finding::new(level, found.what, found.advice)
            }));
            Ok(!path.symlink_metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound))
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
        })
        .map(|()| true),
    }
}
