//! The same random trace gives the same answers on the reference model, the JSON store and Redis.
//!
//! `TEST_TRACE_STEPS` says how many steps (10,000 where it does not), `TEST_TRACE_SEED` which ones.

mod asking;
mod steps;
mod world;

use std::cell::Cell;

use proptest::strategy::Strategy as _;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use tenure_conformance::SeededRandom;
use tenure_conformance::SystemRandom;
use tenure_ports::RandomSource as _;
use tenure_redis_test_server::Server;

use steps::Step;
use world::World;

const STEPS: usize = 10_000;
/// The seed of the ordinary run. It has found a difference once.
const SEED: u64 = 17_227_034_526_569_301_935;
/// The longest trace.
const LONGEST: usize = 300;

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}, which is no number")))
}

fn any_seed() -> u64 {
    let mut bytes = [0; 8];
    SystemRandom.fill(&mut bytes).unwrap();
    u64::from_le_bytes(bytes)
}

#[test]
fn all_stores_give_the_same_answers() {
    let goal = setting("TEST_TRACE_STEPS").map_or(STEPS, |steps| usize::try_from(steps).unwrap());
    // A change is judged by the same traces each time; longer runs look for new ones.
    let seed = setting("TEST_TRACE_SEED").unwrap_or_else(|| if goal == STEPS { SEED } else { any_seed() });
    println!("TEST_TRACE_SEED={seed} makes this run again");
    let config =
        Config { failure_persistence: None, max_shrink_iters: 2_000, max_shrink_time: 60_000, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &SeededRandom::new(seed).bytes::<32>());
    let mut runner = TestRunner::new_with_rng(config, rng);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = Server::start();
    let (done, traces) = (Cell::new(0), Cell::new(0));
    let check = |trace: Vec<Step>| {
        done.set(done.get() + trace.len());
        traces.set(traces.get() + 1);
        runtime.block_on(async {
            let mut world = World::new(&server, traces.get(), seed).await;
            for (at, step) in trace.iter().enumerate() {
                world.take(step).await.map_err(|what| TestCaseError::fail(format!("step {at}, {step:?}: {what}")))?;
            }
            world.close().await.map_err(|what| TestCaseError::fail(format!("at the end: {what}")))
        })
    };
    let strategy = steps::trace(LONGEST);
    while done.get() < goal {
        let trace = strategy.new_tree(&mut runner).unwrap();
        // Where it fails, smaller ones are tried, as long as they fail too.
        if let Err(TestError::Fail(why, trace)) = runner.run_one(trace, check) {
            let steps: String = trace.iter().map(|step| format!("  {step:?}\n")).collect();
            panic!("TEST_TRACE_SEED={seed}: {why}\nthe smallest trace:\n{steps}")
        }
    }
    println!("{} steps in {} traces", done.get(), traces.get());
}
