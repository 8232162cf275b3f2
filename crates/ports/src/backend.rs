//! Backends: open stores, with their clock and the diagnosis of their health.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{Clock, SessionRepository, StoreError};

/// The severity of a [`Diagnosis`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// All is well.
    Ok,
    /// The store works, with a risk.
    Warning,
    /// Something does not work.
    Failure,
}

/// One thing that an examination of a store found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// How bad it is.
    pub severity: Severity,
    /// What was found.
    pub finding: String,
    /// What to do about it. Empty if there is nothing to do.
    pub advice: String,
}

impl Diagnosis {
    /// Makes a diagnosis that all is well.
    #[must_use]
    pub fn ok(finding: impl Into<String>) -> Self {
        Self { severity: Severity::Ok, finding: finding.into(), advice: String::new() }
    }

    /// Makes a diagnosis of a risk.
    #[must_use]
    pub fn warning(finding: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, finding: finding.into(), advice: advice.into() }
    }

    /// Makes a diagnosis of something that does not work.
    #[must_use]
    pub fn failure(finding: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { severity: Severity::Failure, finding: finding.into(), advice: advice.into() }
    }
}

/// An open store: a session repository, its clock, and what a program needs to examine and close it.
#[async_trait]
pub trait Backend: SessionRepository {
    /// Returns the store's clock. Every process that has the store open should use it.
    fn clock(&self) -> Arc<dyn Clock>;

    /// Examines the store without changing anything. A store that does not answer is a finding, not an error.
    async fn diagnose(&self) -> Vec<Diagnosis>;

    /// Writes what still waits to be written, such as activity. Call it before the process ends. The store keeps
    /// working afterwards.
    ///
    /// # Errors
    /// [`StoreError`] if something cannot be written.
    async fn close(&self) -> Result<(), StoreError>;
}
