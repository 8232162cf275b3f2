//! What verifying a token costs through the service on the JSON store, freshness check included, beside its floor:
//! one hash, one look-up in a map, one look at the clock, one `fstat`.
//!
//! `cargo bench -p tenure-tests --bench verify`

#![expect(clippy::unwrap_used, reason = "a measurement that fails has nothing to say")]

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use tenure_adapter_json::{JsonStore, Options};
use tenure_conformance::{SystemClock, SystemRandom};
use tenure_domain::{ClientInfo, DeviceId, Policy, SessionId, Subject, Token};
use tenure_ports::Clock;
use tenure_ports::prelude::*;
use tenure_service::{ActivityMode, IssueRequest, Sessions};

/// A store of `count` sessions, ten to a device, and their tokens.
fn filled(count: usize) -> (tempfile::TempDir, Sessions, Vec<Token>) {
    let folder = tempfile::tempdir().unwrap();
    let store =
        JsonStore::open(&folder.path().join("sessions.jsonl"), Arc::new(SystemClock), Options::default()).unwrap();
    let clock = store.clock();
    let sessions = Sessions::new(store, clock, Arc::new(SystemRandom), Policy::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // Issued by many tasks at once, so that they share the disk's synchronisations.
    let tokens = runtime.block_on(async {
        use futures_util::StreamExt as _;
        futures_util::stream::iter(0..count)
            .map(|n| {
                let sessions = &sessions;
                // Neighbours in time lie on different devices and so do not conflict.
                let device = DeviceId::new(&format!("device-{}", n % count.div_ceil(10))).unwrap();
                async move {
                    let request =
                        IssueRequest { device, subject: Subject::default(), client: ClientInfo::default(), ttl: None };
                    sessions.issue(request).await.unwrap().token
                }
            })
            .buffer_unordered(256)
            .collect::<Vec<_>>()
            .await
    });
    (folder, sessions, tokens)
}

/// Visits the tokens in an order that no cache foresees, the same for all.
fn scattered(tokens: &[Token]) -> impl Iterator<Item = &Token> + '_ {
    let mut at = 0_usize;
    std::iter::repeat_with(move || {
        at = (at + 611_953) % tokens.len();
        &tokens[at]
    })
}

fn verify(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("verify");
    for count in [1_000, 1_000_000] {
        let (folder, sessions, tokens) = filled(count);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut order = scattered(&tokens);
        group.bench_function(BenchmarkId::new("service", count), |bencher| {
            runtime.block_on(async {
                bencher.iter(|| {
                    let token = order.next().unwrap();
                    // Polled by hand: a store in memory is ready at once, and a runtime is no part of the cost.
                    let verified = futures_util::FutureExt::now_or_never(sessions.verify(token, ActivityMode::Record));
                    black_box(verified.unwrap().unwrap());
                });
            });
        });
        runtime.block_on(sessions.flush_activity()).unwrap();

        let mut text = scattered(&tokens);
        let written: HashMap<SessionId, String> =
            tokens.iter().map(|token| (token.session(), token.to_text().expose().to_owned())).collect();
        group.bench_function(BenchmarkId::new("service, text parsed", count), |bencher| {
            bencher.iter(|| {
                let text = &written[&text.next().unwrap().session()];
                let verified = futures_util::FutureExt::now_or_never(sessions.verify_text(text, ActivityMode::Ignore));
                black_box(verified.unwrap().unwrap());
            });
        });

        let file = std::fs::File::open(folder.path().join("sessions.jsonl")).unwrap();
        let digests: HashMap<SessionId, tenure_domain::Digest> =
            tokens.iter().map(|token| (token.session(), token.secret().digest())).collect();
        let mut order = scattered(&tokens);
        group.bench_function(BenchmarkId::new("floor", count), |bencher| {
            bencher.iter(|| {
                let token = order.next().unwrap();
                let digest = token.secret().digest();
                black_box(file.metadata().unwrap().len());
                black_box(SystemClock.now());
                assert!(digests[&token.session()] == digest);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, verify);
criterion_main!(benches);
