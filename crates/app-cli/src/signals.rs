//! Ctrl-C and SIGTERM. Long work stops between two steps and reports how far it came. Short work that issues a token is
//! finished first.

use std::future::Future;

use tokio::signal::unix::{SignalKind, signal};

use crate::error::CliError;

/// Returns a future that is ready once this process is asked to end. It listens from the call on, not from the first
/// poll. Must be called inside a runtime.
pub(crate) fn asked_to_stop() -> impl Future<Output = ()> {
    let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    async move {
        match signals {
            (Ok(mut interrupt), Ok(mut terminate)) => {
                tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
            }
            // Without a handler the signal ends the process. The store stays valid.
            _ => std::future::pending().await,
        }
    }
}

/// Handles SIGXFSZ, so that a write beyond the limit on a file's size is an error and does not end the process. Must be
/// called inside a runtime.
pub(crate) fn ignore_sigxfsz() {
    // Without a handler the process ends at the limit. The store stays valid.
    let _ = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()));
}

/// Runs the work and returns its result; `None` if the process was asked to end first.
pub(crate) async fn unless_stopped<T>(work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = asked_to_stop() => None,
        answer = work => Some(answer),
    }
}

/// Runs the work to its end, even if the process is asked to end meanwhile. The store's timeouts must bound the work.
pub(crate) async fn finished<T>(work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    tokio::select! {
        biased;
        () = asked_to_stop() => {}
        answer = &mut work => return answer,
    }
    work.await
}

/// Returns the error of an interrupted command, which says how far it came.
pub(crate) fn stopped(so_far: impl std::fmt::Display) -> CliError {
    CliError::Interrupted(so_far.to_string())
}
