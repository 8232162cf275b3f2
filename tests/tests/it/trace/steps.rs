//! The steps of a trace. They are abstract, so that a trace stays one when some of it is taken out: a session is the
//! n-th of those that there are, whichever those may be.

use proptest::collection::vec;
use proptest::prelude::*;
use tenure_domain::{Millis, PolicySettings, Scope, SortKey};

/// The n-th of something, counted around.
pub(super) type Nth = u16;

/// What a client shows.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shown {
    Current(Nth),
    /// The token before the current one.
    Previous(Nth),
    /// The first that the session had.
    First(Nth),
    /// One of another family.
    Guessed(Nth),
    /// The family of the session with a secret that it never had.
    NeverIssued(Nth),
    /// Of a session that nobody knows.
    Unknown(Nth),
    /// No token at all.
    Malformed,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Meant {
    Sessions(Nth, Nth),
    Unknown(Nth),
    Device(Nth),
    Subject(Nth),
    All,
}

/// An instant of a session's life.
#[derive(Clone, Copy, Debug)]
pub(super) enum Edge {
    Expiry,
    Idle,
    Forgotten,
    Overlap,
    Tolerance,
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Issue {
        device: Nth,
        subject: Nth,
        ttl: Option<Millis>,
    },
    TakeOver {
        device: Nth,
        subject: Nth,
    },
    Enrol {
        device: Nth,
        ttl: Option<Millis>,
    },
    Verify {
        shown: Shown,
        counts: bool,
    },
    Rotate(Shown),
    Revoke {
        meant: Meant,
        except: Option<Nth>,
        dry_run: bool,
    },
    LogOut(Nth),
    Describe {
        session: Nth,
        client: u8,
    },
    Use(Nth),
    Flush,
    List {
        device: Option<Nth>,
        subject: Option<Nth>,
        scope: Scope,
        sort: SortKey,
        limit: usize,
    },
    Show {
        session: Nth,
        length: usize,
    },
    StillHolds(Nth),
    Cleanup {
        older_than: Millis,
        dry_run: bool,
    },
    Export,
    /// An export of earlier.
    Import {
        export: Nth,
        dry_run: bool,
    },
    /// Sessions from elsewhere: so many, of which some were rotated, ended or used there.
    ImportForeign {
        device: Nth,
        count: u8,
        fate: u8,
        age: Millis,
    },
    Pass(Millis),
    /// To the millisecond before, and then to the instant itself.
    PassTo(Nth, Edge),
    Settings(PolicySettings),
    /// Goes on in another process.
    Switch,
    /// Goes on after a restart.
    Restart,
}

fn some<T: Clone + std::fmt::Debug + 'static, const N: usize>(values: [T; N]) -> impl Strategy<Value = T> {
    prop::sample::select(values.to_vec())
}

fn which() -> std::ops::Range<Nth> {
    0..48
}

fn shown() -> impl Strategy<Value = Shown> {
    prop_oneof![
        8 => which().prop_map(Shown::Current),
        4 => which().prop_map(Shown::Previous),
        2 => which().prop_map(Shown::First),
        1 => which().prop_map(Shown::Guessed),
        1 => which().prop_map(Shown::NeverIssued),
        1 => which().prop_map(Shown::Unknown),
        1 => Just(Shown::Malformed),
    ]
}

fn meant() -> impl Strategy<Value = Meant> {
    prop_oneof![
        8 => (which(), which()).prop_map(|(a, b)| Meant::Sessions(a, b)),
        1 => which().prop_map(Meant::Unknown),
        2 => which().prop_map(Meant::Device),
        2 => which().prop_map(Meant::Subject),
        1 => Just(Meant::All),
    ]
}

fn ttl() -> impl Strategy<Value = Option<Millis>> {
    // Shorter than this, a slow machine's own time could overtake the trace's; the last one is out of range.
    some([
        None,
        None,
        None,
        Some(Millis::minutes(3)),
        Some(Millis::new(3_723_004)),
        Some(Millis::hours(30)),
        Some(Millis::days(4_000)),
    ])
}

fn settings() -> impl Strategy<Value = PolicySettings> {
    (
        some([Millis::minutes(10), Millis::hours(1), Millis::hours(24)]),
        some([1_u64, 2, 3]),
        some([None, None, Some(Millis::minutes(5))]),
        some([None, Some(Millis::hours(24)), Some(Millis::hours(36))]),
        some([Millis::ZERO, Millis::seconds(30), Millis::minutes(5)]),
        some([Millis::ZERO, Millis::seconds(10), Millis::minutes(5)]),
        some([Millis::ZERO, Millis::minutes(10), Millis::hours(24)]),
        some([None, Some(Millis::minutes(9))]),
    )
        .prop_map(|(ttl, cap, idle, lifetime, overlap, tolerance, retention, window)| PolicySettings {
            token_ttl: Some(ttl),
            rotate_before_expiry: window,
            max_sessions_per_device: Some(cap),
            idle_timeout: idle,
            max_lifetime: lifetime,
            rotation_overlap: Some(overlap),
            replay_tolerance: Some(tolerance),
            retention: Some(retention),
        })
}

fn list() -> impl Strategy<Value = Step> {
    let sorts = some([SortKey::LastActivity, SortKey::Created, SortKey::Expires]);
    let whose = (prop::option::of(which()), prop::option::of(which()));
    (whose, some([Scope::Active, Scope::Retained]), sorts, some([0_usize, 1, 3, 100]))
        .prop_map(|((device, subject), scope, sort, limit)| Step::List { device, subject, scope, sort, limit })
}

fn step() -> impl Strategy<Value = Step> {
    let spans = [
        Millis::new(1),
        Millis::seconds(2),
        Millis::seconds(10),
        Millis::seconds(30),
        Millis::minutes(2),
        Millis::minutes(5),
        Millis::minutes(40),
        Millis::hours(3),
        Millis::hours(25),
    ];
    let edges = some([Edge::Expiry, Edge::Idle, Edge::Forgotten, Edge::Overlap, Edge::Tolerance]);
    let ages = some([Millis::ZERO, Millis::minutes(1), Millis::hours(1), Millis::hours(23)]);
    let older = some([Millis::ZERO, Millis::ZERO, Millis::minutes(5), Millis::hours(24)]);
    prop_oneof![
        16 => (which(), which(), ttl()).prop_map(|(device, subject, ttl)| Step::Issue { device, subject, ttl }),
        2 => (which(), which()).prop_map(|(device, subject)| Step::TakeOver { device, subject }),
        1 => (which(), ttl()).prop_map(|(device, ttl)| Step::Enrol { device, ttl }),
        16 => (shown(), any::<bool>()).prop_map(|(shown, counts)| Step::Verify { shown, counts }),
        12 => shown().prop_map(Step::Rotate),
        6 => (meant(), prop::option::of(which()), prop::bool::weighted(0.2))
            .prop_map(|(meant, except, dry_run)| Step::Revoke { meant, except, dry_run }),
        1 => which().prop_map(Step::LogOut),
        2 => (which(), any::<u8>()).prop_map(|(session, client)| Step::Describe { session, client }),
        2 => which().prop_map(Step::Use),
        3 => Just(Step::Flush),
        5 => list(),
        4 => (which(), 1_usize..=20).prop_map(|(session, length)| Step::Show { session, length }),
        2 => which().prop_map(Step::StillHolds),
        3 => (older, any::<bool>()).prop_map(|(older_than, dry_run)| Step::Cleanup { older_than, dry_run }),
        2 => Just(Step::Export),
        3 => (which(), prop::bool::weighted(0.2)).prop_map(|(export, dry_run)| Step::Import { export, dry_run }),
        3 => (which(), 1_u8..4, any::<u8>(), ages)
            .prop_map(|(device, count, fate, age)| Step::ImportForeign { device, count, fate, age }),
        10 => prop::sample::select(spans.to_vec()).prop_map(Step::Pass),
        6 => (which(), edges).prop_map(|(session, edge)| Step::PassTo(session, edge)),
        2 => settings().prop_map(Step::Settings),
        2 => Just(Step::Switch),
        1 => Just(Step::Restart),
    ]
}

/// Up to so many steps.
pub(super) fn trace(longest: usize) -> impl Strategy<Value = Vec<Step>> {
    vec(step(), 1..=longest)
}
