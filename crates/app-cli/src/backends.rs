//! Opens, examines and repairs the store that the settings name. Only the files in `backends/` name an adapter.

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

/// What a command does if the store is missing. Only a file can be missing: an empty Redis is a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IfMissing {
    /// Fails, so that a wrong path is not mistaken for a store without sessions.
    Fail,
    /// Creates the store, and says so.
    Create,
    /// Uses an empty temporary store instead.
    Simulate,
}

/// A backend, as the commands use it. Each file in `backends/` implements this.
///
/// No method has a default body, so that a new backend has to decide about each of them.
#[async_trait(?Send)]
trait Driver {
    /// Returns what `tenure doctor` says about the backend itself.
    fn description(&self) -> &'static str;

    /// Returns the store's location, for people: a path, or a server without its password.
    ///
    /// # Errors
    /// [`CliError`] if the settings do not name it.
    fn location(&self, settings: &Settings) -> Result<String, CliError>;

    /// Opens the store. `missing` says what to do if it does not exist.
    ///
    /// # Errors
    /// [`CliError::Store`] or [`CliError::Settings`].
    async fn open(&self, settings: &Settings, missing: IfMissing, out: Output) -> Result<OpenBackend, CliError>;

    /// Returns whether the gateway examines the store when it starts, and prints warnings.
    fn is_examined_at_start(&self) -> bool;

    /// Examines the store without changing it, even if it cannot be opened. Returns the findings, and whether there is a
    /// store.
    ///
    /// # Errors
    /// [`CliError`] if the store cannot be examined at all.
    async fn diagnose(&self, settings: &Settings) -> Result<(Vec<Diagnosis>, bool), CliError>;

    /// Plans a repair of the store. Returns `None` if it needs none.
    ///
    /// # Errors
    /// [`CliError::Usage`] if the backend has no repair; another [`CliError`] if the store cannot be repaired.
    fn plan_repair(&self, settings: &Settings) -> Result<Option<Repair>, CliError>;
}

/// Returns the driver of the backend that the settings name.
fn driver(settings: &Settings) -> &'static dyn Driver {
    match settings.backend() {
        BackendKind::Json => &json::Json,
        BackendKind::Redis => &redis::Redis,
    }
}

/// The use cases on an open store, and its location.
pub(crate) struct Store {
    pub(crate) sessions: Sessions,
    /// The location for people: a path, or a server without its password.
    pub(crate) location: String,
}

/// An open store, which has to be closed.
pub(crate) struct OpenBackend {
    backend: Arc<dyn Backend>,
    /// The directory of a temporary store, which is removed with this value.
    _temporary: Option<TempDir>,
}

/// Opens the store that the settings name, runs a command's work on it, and closes it in any case.
///
/// # Errors
/// [`CliError`]. If it says that something was not found, it names the store.
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
        // Activity may be lost; a command does not fail because of that.
        if let Err(error) = store.sessions.flush_activity().await {
            out.warn(format_args!("the activity was not recorded: {error}"));
        }
        if let Err(error) = opened.close().await {
            out.warn(format_args!("the store was not closed properly: {error}"));
        }
        outcome.map_err(|error| error.looked_in(store.location))
    })
}

/// Returns the store's location, for people.
///
/// # Errors
/// [`CliError`] if the settings do not name it.
pub(crate) fn location(settings: &Settings) -> Result<String, CliError> {
    driver(settings).location(settings)
}

/// Runs asynchronous work on this thread.
///
/// # Errors
/// [`CliError`] from the work, or if the runtime cannot be started.
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
/// [`CliError::Store`] or [`CliError::Settings`].
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
    /// [`StoreError`] if pending writes fail.
    pub(crate) async fn close(&self) -> Result<(), StoreError> {
        self.backend.close().await
    }

    /// Prints warnings about the store that the operator of a gateway should see, such as a Redis without persistence.
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

/// Examines the store without changing it. Returns the findings, and whether there is a store.
///
/// # Errors
/// [`CliError`] if the store cannot be examined at all.
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

/// Plans a repair of the store. Returns `None` if it needs none.
///
/// # Errors
/// [`CliError::Usage`] if the backend has no repair; another [`CliError`] if the store cannot be repaired.
pub(crate) fn plan_repair(settings: &Settings) -> Result<Option<Repair>, CliError> {
    driver(settings).plan_repair(settings)
}
