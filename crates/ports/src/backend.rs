//! A store as a program holds it, and what it says of its own health.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{Clock, SessionRepository, StoreError};

/// How bad a [`Diagnosis`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Works, with a risk.
    Warning,
    /// Does not work.
    Failure,
}

/// One thing that an examination of a store found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// How bad it is.
    pub severity: Severity,
    /// What was found.
    pub finding: String,
    /// What to do about it; empty where there is nothing to do.
    pub advice: String,
}

impl Diagnosis {
    /// A diagnosis that all is well.
    #[must_use]
    pub fn ok(finding: impl Into<String>) -> Self {
        Self { severity: Severity::Ok, finding: finding.into(), advice: String::new() }
    }

    /// A diagnosis of a risk.
    #[must_use]
    pub fn warning(finding: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, finding: finding.into(), advice: advice.into() }
    }

    /// A diagnosis of something that does not work.
    #[must_use]
    pub fn failure(finding: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { severity: Severity::Failure, finding: finding.into(), advice: advice.into() }
    }
}

/// An open store: the repository and what a program needs beside it.
#[async_trait]
pub trait Backend: SessionRepository {
    /// The time that the store goes by; every process on one store should use it.
    fn clock(&self) -> Arc<dyn Clock>;

    /// Examines the store, and changes nothing. Returns what was found, also where the store does not answer.
    async fn diagnose(&self) -> Vec<Diagnosis>;

    /// Writes what waits to be written. To be called before the process ends; the store goes on working.
    ///
    /// # Errors
    /// [`StoreError`] where it cannot be written.
    async fn close(&self) -> Result<(), StoreError>;
}
