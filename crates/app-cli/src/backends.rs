//! Opening the store that the settings name. Only the files in `backends/` name an adapter.

use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use tempfile::TempDir;
use tenure_ports::{Backend, Diagnosis, Severity, StoreError};
use tenure_service::Sessions;

use crate::diagnosis::{diagnosis, masked};
use crate::error::CliError;
use crate::global::Global;
use crate::output::Output;
use crate::settings::Settings;
use crate::signals;
use tenure_ports::SystemRandom;

mod json;
mod kind;
mod redis;

pub(crate) use json::Repair;
pub(crate) use kind::BackendKind;
pub(crate) use redis::{URL_FORMS as REDIS_URLS, check_url as check_redis_url};

/// What a command does where the store is missing. Only a file can be missing: an empty Redis is a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IfMissing {
    /// Fails, so that nobody takes the wrong place for a store without sessions.
    Fail,
    /// Makes a new store, and says so.
    Create,
    /// Works on an empty store that is gone afterwards.
    Simulate,
}

/// A backend as the command uses it: what each file of `backends/` implements.
///
/// No method has a default, so that a new backend answers each question.
#[async_trait(?Send)]
trait Driver {
    /// What doctor says of the backend itself.
    fn description(&self) -> &'static str;

    /// The store's location, for people: a path, or a server without its password.
    ///
    /// # Errors
    /// [`CliError`] where the settings do not tell.
    fn location(&self, settings: &Settings) -> Result<String, CliError>;

    /// Opens the store, or does with a missing one as asked.
    ///
    /// # Errors
    /// [`CliError::Store`], [`CliError::Settings`].
    async fn open(&self, settings: &Settings, missing: IfMissing, out: Output) -> Result<OpenBackend, CliError>;

    /// Whether a long-running server examines the store at its start, and warns of what it finds.
    fn is_examined_at_start(&self) -> bool;

    /// Examines the store without changing it, also one that does not open. Returns what was found, and whether there is
    /// a store.
    ///
    /// # Errors
    /// [`CliError`] where not even that can be begun.
    async fn diagnose(&self, settings: &Settings) -> Result<(Vec<Diagnosis>, bool), CliError>;

    /// Plans a repair of the store; `None` where it needs none.
    ///
    /// # Errors
    /// [`CliError::Usage`] where the backend has no repair; [`CliError`] where it cannot be repaired.
    fn plan_repair(&self, settings: &Settings) -> Result<Option<Repair>, CliError>;
}

/// The driver of the backend that the settings name.
fn driver(settings: &Settings) -> &'static dyn Driver {
    match settings.backend() {
        BackendKind::Json => &json::Json,
        BackendKind::Redis => &redis::Redis,
    }
}

/// The use cases over a store, and where that is.
pub(crate) struct Store {
    pub(crate) sessions: Sessions,
    /// For people: a path, or a server without its password.
    pub(crate) location: String,
}

/// A store that is open, to be closed.
pub(crate) struct OpenBackend {
    backend: Arc<dyn Backend>,
    /// Removed with this.
    _temporary: Option<TempDir>,
}

/// Runs a command's work over the store that the settings name, and closes it, come what may.
///
/// # Errors
/// [`CliError`]; one that says that something is not there comes with the store's location.
pub(crate) fn with_store<F>(global: &Global, missing: IfMissing, out: Output, work: F) -> Result<(), CliError>
where
    F: AsyncFnOnce(&Store) -> Result<(), CliError>,
{
    let settings = Settings::load(global)?;
    settings.warn(out);
    block_on(async {
        let (sessions, opened) = open(&settings, missing, out).await?;
        let store = Store { sessions, location: location(&settings)? };
        let outcome = work(&store).await;
        // Activity may be lost, and no command fails for it.
        if let Err(error) = store.sessions.flush_activity().await {
            out.warn(format_args!("the activity was not recorded: {error}"));
        }
        if let Err(error) = opened.close().await {
            out.warn(format_args!("the store was not closed properly: {error}"));
        }
        outcome.map_err(|error| error.looked_in(store.location))
    })
}

/// The store's location, for people.
///
/// # Errors
/// [`CliError`] where the settings do not tell.
pub(crate) fn location(settings: &Settings) -> Result<String, CliError> {
    driver(settings).location(settings)
}

/// Runs asynchronous work on this thread.
///
/// # Errors
/// [`CliError`].
pub(crate) fn block_on(work: impl Future<Output = Result<(), CliError>>) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CliError::Failed(format!("could not start: {error}")))?;
    runtime.block_on(async {
        signals::ignore_sigxfsz();
        work.await
    })
}

/// Opens the store that the settings name.
///
/// # Errors
/// [`CliError::Store`], [`CliError::Settings`].
pub(crate) async fn open(
    settings: &Settings,
    missing: IfMissing,
    out: Output,
) -> Result<(Sessions, OpenBackend), CliError> {
    let opened = driver(settings).open(settings, missing, out).await?;
    let backend = Arc::clone(&opened.backend);
    let clock = backend.clock();
    Ok((Sessions::new(backend, clock, Arc::new(SystemRandom), settings.policy()), opened))
}

impl OpenBackend {
    /// Closes the store.
    ///
    /// # Errors
    /// [`StoreError`] where what waits cannot be written.
    pub(crate) async fn close(&self) -> Result<(), StoreError> {
        self.backend.close().await
    }

    /// Prints what the operator of a long-running server should know: a Redis that keeps nothing over a restart.
    pub(crate) async fn warn(&self, settings: &Settings, out: Output) {
        if !driver(settings).is_examined_at_start() {
            return;
        }
        for found in self.backend.diagnose().await {
            if found.severity != Severity::Ok {
                out.warn(format_args!("{}; {}", found.finding, found.advice));
            }
        }
    }
}

/// Examines the store without changing it. Returns what was found, and whether there is a store.
///
/// # Errors
/// [`CliError`] where not even that can be begun.
pub(crate) fn diagnose(settings: &Settings) -> Result<(Vec<Diagnosis>, bool), CliError> {
    let driver = driver(settings);
    let mut examined = (Vec::new(), false);
    block_on(async {
        examined = driver.diagnose(settings).await?;
        Ok(())
    })?;
    let (found, exists) = examined;
    let mut all = vec![diagnosis(Severity::Ok, driver.description(), "")];
    all.extend(found.into_iter().map(masked));
    Ok((all, exists))
}

/// Plans a repair of the store; `None` where it needs none.
///
/// # Errors
/// [`CliError::Usage`] where the backend has no repair; [`CliError`] where it cannot be repaired.
pub(crate) fn plan_repair(settings: &Settings) -> Result<Option<Repair>, CliError> {
    driver(settings).plan_repair(settings)
}
