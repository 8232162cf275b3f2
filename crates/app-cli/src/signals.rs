//! Ctrl-C: long work stops between two steps and says how far it came; short work that hands out a token is finished.

use std::future::Future;

use tokio::signal::unix::{SignalKind, signal};

use crate::error::CliError;

/// Resolves once this process is asked to end. It listens from the call on, not from the first poll. To be called inside
/// of a runtime.
pub(crate) fn asked_to_stop() -> impl Future<Output = ()> {
    let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    async move {
        match signals {
            (Ok(mut interrupt), Ok(mut terminate)) => {
                tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
            }
            // Then the signal ends the process as it always did; the store is valid all the same.
            _ => std::future::pending().await,
        }
    }
}

/// Takes the signal that ends a process at its limit for a file's size, so that the write is an error with words. To be
/// called inside of a runtime.
pub(crate) fn ignore_sigxfsz() {
    // Without it the process ends at the limit, and the store is valid all the same.
    let _ = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()));
}

/// The work's answer; `None` where it was asked to stop first.
pub(crate) async fn unless_stopped<T>(work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = asked_to_stop() => None,
        answer = work => Some(answer),
    }
}

/// Finishes the work whatever is asked meanwhile. It must be bounded by the store's deadlines.
pub(crate) async fn finished<T>(work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    tokio::select! {
        biased;
        () = asked_to_stop() => {}
        answer = &mut work => return answer,
    }
    work.await
}

/// What an interrupted command says.
pub(crate) fn stopped(so_far: impl std::fmt::Display) -> CliError {
    CliError::Interrupted(so_far.to_string())
}
