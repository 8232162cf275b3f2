//! The conformance suite for session repositories: what each of them promises, as tests over the port.
//!
//! Each promise is one function over a [`StoreFixture`]: a store that two processes have open, and its clock.
//! [`conformance!`] makes a module of tests, one for each promise, each with a fixture of its own:
//!
//! ```
//! use tenure_adapter_memory::MemoryStore;
//! use tenure_conformance::{StoreFixture, TestClock};
//!
//! async fn memory() -> StoreFixture {
//!     let clock = TestClock::new();
//!     let store = MemoryStore::new(clock.clone());
//!     StoreFixture::new(store.clone(), store, clock.clone(), clock, ())
//! }
//!
//! # mod tests {
//! tenure_conformance::conformance!(in_memory, super::memory);
//! # }
//! # fn main() {}
//! ```
//!
//! The doubles for tests of use cases are here too: [`TestClock`], [`SeededRandom`], [`FaultyStore`],
//! [`SessionsFixture`] and others.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod activity;
mod commits;
mod concurrency;
mod doubles;
mod events;
mod faulty;
mod fixture;
mod lifecycle;
mod listing;
mod reading;
mod sessions_fixture;
mod support;

use std::panic::AssertUnwindSafe;

pub use activity::*;
pub use commits::*;
pub use concurrency::*;
pub use doubles::{FailingRandom, RuntimeClock, START, SeededRandom, TestClock, TickingClock};
pub use events::*;
pub use faulty::FaultyStore;
pub use fixture::StoreFixture;
use futures_util::FutureExt as _;
pub use lifecycle::*;
pub use listing::*;
pub use reading::*;
pub use sessions_fixture::SessionsFixture;
pub use tenure_ports::{SystemClock, SystemRandom};

/// Returns whether a promise is kept: its function returns without a panic.
pub async fn holds(promise: impl Future<Output = ()>) -> bool {
    AssertUnwindSafe(promise).catch_unwind().await.is_ok()
}

/// Makes a module `$name` with one test for each promise. Each test calls the async function `$fixture` for a
/// [`StoreFixture`] of its own.
#[macro_export]
macro_rules! conformance {
    ($name:ident, $fixture:path) => {
        mod $name {
            $crate::promises!(stamp $fixture);
        }
    };
}

/// Passes the list of promises to a macro.
#[doc(hidden)]
#[macro_export]
macro_rules! promises {
    ($then:ident $($with:tt)*) => {
        $crate::$then! { ($($with)*)
            // reading
            absence_is_none
            a_committed_session_is_found
            every_field_is_kept
            a_device_is_loaded_with_the_sessions_that_have_not_ended
            devices_of_one_bucket_are_apart
            any_text_is_a_name
            a_store_that_works_says_so
            // commits
            a_decision_on_an_older_state_conflicts_and_changes_nothing
            the_same_commit_again_conflicts
            a_revision_is_never_used_again
            a_commit_is_applied_until_its_last_instant
            a_guard_fails_once_its_session_was_used
            an_issue_needs_an_unused_id
            a_change_needs_a_record
            a_commit_is_applied_completely_or_not_at_all
            an_import_replaces_the_record
            // activity
            activity_only_moves_forward
            a_session_is_found_for_use
            activity_makes_no_revision
            activity_resurrects_nothing
            a_commit_keeps_later_activity
            activity_of_many_sessions_is_taken_at_once
            // lifecycle
            the_oldest_inactive_sessions_are_dropped
            expired_sessions_are_no_longer_loaded_and_stay_readable
            a_purge_removes_and_counts_inactive_sessions
            a_purge_spares_sessions_that_ended_later
            a_purge_of_an_expired_session_makes_a_revision
            a_revocation_watermark_outlives_the_records
            an_older_export_brings_nothing_back
            an_import_ignores_a_record_that_is_not_retained
            a_session_imported_after_its_expiry_is_expired
            a_token_is_valid_to_its_last_millisecond
            // listing
            a_walk_sees_each_session_once
            a_walk_returns_what_its_filter_matches
            a_walk_through_changes_misses_nothing_that_stays
            a_listing_is_in_order
            ids_are_found_by_their_prefix
            // events
            changes_cause_events_in_order
            changes_by_another_process_cause_events
            activity_causes_no_event
            // concurrency
            one_of_many_commits_on_a_revision_is_applied
            a_revocation_reaches_a_process_that_verified_before
            one_of_many_rotations_is_made
            a_device_never_has_more_than_its_cap
            a_device_has_one_owner_however_many_subjects_ask
            a_shared_device_serves_each_of_its_owners
        }
    };
}

/// Makes a test for each promise of a list.
#[doc(hidden)]
#[macro_export]
macro_rules! stamp {
    (($fixture:path) $($promise:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $promise() {
            let fixture = $fixture().await;
            $crate::$promise(&fixture).await;
        }
    )*};
}

/// Makes one test `$name` of all promises, for stores whose servers take seconds to start. `$start` starts the servers
/// once. The async function `$fixture` makes a [`StoreFixture`] for each promise, from the servers and the promise's
/// name.
#[macro_export]
macro_rules! conformance_in_one {
    ($name:ident, $start:expr, $fixture:path) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            $crate::promises!(stamp_in_one $start, $fixture);
        }
    };
}

/// Runs the promises of a list one after the other.
#[doc(hidden)]
#[macro_export]
macro_rules! stamp_in_one {
    (($start:expr, $fixture:path) $($promise:ident)*) => {
        let servers = $start;
        let mut broken = Vec::new();
        $(
            let fixture = $fixture(&servers, stringify!($promise)).await;
            if !$crate::holds($crate::$promise(&fixture)).await {
                broken.push(stringify!($promise));
            }
        )*
        assert!(broken.is_empty(), "broken promises: {broken:?}");
    };
}

/// Makes a list of the promises' names.
#[doc(hidden)]
#[macro_export]
macro_rules! list_promises {
    (() $($promise:ident)*) => { const LISTED: &[&str] = &[$(stringify!($promise)),*]; };
}

#[cfg(test)]
mod tests {
    crate::promises!(list_promises);

    #[test]
    fn every_promise_has_a_test() {
        let sources = [
            include_str!("activity.rs"),
            include_str!("commits.rs"),
            include_str!("events.rs"),
            include_str!("lifecycle.rs"),
            include_str!("reading.rs"),
            include_str!("concurrency.rs"),
            include_str!("listing.rs"),
        ];
        let written = sources.iter().flat_map(|source| source.split("\npub async fn ").skip(1));
        let mut written: Vec<&str> = written.filter_map(|rest| rest.split('(').next()).collect();
        let mut listed = LISTED.to_vec();
        written.sort_unstable();
        listed.sort_unstable();
        assert_eq!(written, listed);
    }
}
