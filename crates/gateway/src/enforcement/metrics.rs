//! What an operator can count: each gateway has its own recorder, so that two in one process do not mix.
//!
//! No label carries anything that a client chooses: no token, session, device or path.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder as _};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tenure_domain::{EndReason, Refusal};

use super::problem::{Problem, TokenRejection};

const REQUESTS: &str = "tenure_requests_total";
const REFUSALS: &str = "tenure_refusals_total";
const VERIFY: &str = "tenure_verify_seconds";
const CONNECTIONS: &str = "tenure_live_connections";
const WEBSOCKETS: &str = "tenure_websockets";
const STORE_FAILURES: &str = "tenure_store_failures_total";
const TOUCHES: &str = "tenure_touches_flushed_total";

/// Upper bounds of the latency histogram in seconds: from the in-process store to a store that is nearly given up.
const BUCKETS: [f64; 12] =
    [0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.005, 0.025, 0.1, 0.5, 1.0];

const METADATA: Metadata<'static> = Metadata::new("tenure_gateway", Level::INFO, None);

/// How many codes a refusal can have.
const CODES: usize = 4 + EndReason::ALL.len();

/// What a request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its token holds.
    Admitted,
    /// It needed none.
    Public,
    /// It carried none.
    NoToken,
    /// Its token does not hold.
    TokenRejection,
    /// Too many failures from there.
    Limited,
    /// It made no sense, or is not allowed.
    Rejected,
    /// The sessions could not be read.
    StoreDown,
    /// The upstream did not answer.
    UpstreamFailed,
    /// A fault of the gateway.
    Failed,
}

impl Outcome {
    const ALL: [Self; 9] = [
        Self::Admitted,
        Self::Public,
        Self::NoToken,
        Self::TokenRejection,
        Self::Limited,
        Self::Rejected,
        Self::StoreDown,
        Self::UpstreamFailed,
        Self::Failed,
    ];

    const fn label(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Public => "public",
            Self::NoToken => "no_token",
            Self::TokenRejection => "refused",
            Self::Limited => "limited",
            Self::Rejected => "rejected",
            Self::StoreDown => "store_down",
            Self::UpstreamFailed => "upstream_failed",
            Self::Failed => "failed",
        }
    }

    const fn of(problem: &Problem) -> Self {
        match problem {
            Problem::Unauthorized(TokenRejection::Missing) => Self::NoToken,
            Problem::Unauthorized(TokenRejection::Token(_) | TokenRejection::Cookie(_)) | Problem::Secret => {
                Self::TokenRejection
            }
            Problem::TooMany(_) => Self::Limited,
            Problem::BadRequest(_)
            | Problem::Forbidden(_)
            | Problem::NotFound(_)
            | Problem::MethodNotAllowed
            | Problem::Conflict(_)
            | Problem::MediaType(_)
            | Problem::TooLarge(_) => Self::Rejected,
            Problem::Store(_) => Self::StoreDown,
            Problem::BadGateway(_) | Problem::GatewayTimeout(_) => Self::UpstreamFailed,
            Problem::Uncertain(_) | Problem::Internal(_) => Self::Failed,
        }
    }
}

/// The counters of one gateway.
pub struct Metrics {
    handle: PrometheusHandle,
    requests: [Counter; Outcome::ALL.len()],
    refusals: [Counter; CODES],
    verify: Histogram,
    connections: Gauge,
    websockets: Gauge,
    store_failures: Counter,
    touches: Counter,
}

const fn index(refusal: Refusal) -> usize {
    match refusal {
        Refusal::Malformed => 0,
        Refusal::Unknown => 1,
        Refusal::Expired => 2,
        Refusal::Rotated => 3,
        Refusal::Ended(reason) => 4 + reason as usize,
    }
}

fn refusals() -> [Refusal; CODES] {
    let mut all = [Refusal::Malformed; CODES];
    let plain = [Refusal::Malformed, Refusal::Unknown, Refusal::Expired, Refusal::Rotated];
    for refusal in plain.into_iter().chain(EndReason::ALL.map(Refusal::Ended)) {
        all[index(refusal)] = refusal;
    }
    all
}

impl Metrics {
    /// Counters at zero.
    #[must_use]
    pub fn new() -> Self {
        let recorder = match Self::builder() {
            Ok(builder) => builder.build_recorder(),
            // Only a histogram without bounds is refused, and ours has some.
            Err(error) => {
                tracing::error!(%error, "the latency is counted without bounds");
                PrometheusBuilder::new().build_recorder()
            }
        };
        let describe =
            |name: &'static str, text: &'static str| recorder.describe_counter(name.into(), None, text.into());
        describe(REQUESTS, "Client requests by outcome; an admitted one whose upstream fails counts as both.");
        describe(REFUSALS, "Refused tokens by code.");
        describe(STORE_FAILURES, "Responses that failed because the sessions could not be read or changed.");
        describe(TOUCHES, "Sessions whose activity was written to the store.");
        recorder.describe_histogram(VERIFY.into(), None, "Seconds that verifying a token took.".into());
        let connections = "Connections tied to a session now: WebSockets and long responses.";
        recorder.describe_gauge(CONNECTIONS.into(), None, connections.into());
        recorder.describe_gauge(WEBSOCKETS.into(), None, "WebSockets that are open now.".into());
        let labelled = |name: &'static str, label: &'static str, value: &'static str| {
            recorder.register_counter(&Key::from_parts(name, vec![Label::from_static_parts(label, value)]), &METADATA)
        };
        let plain = |name: &'static str| Key::from_static_name(name);
        Self {
            handle: recorder.handle(),
            requests: Outcome::ALL.map(|outcome| labelled(REQUESTS, "outcome", outcome.label())),
            refusals: refusals().map(|refusal| labelled(REFUSALS, "code", refusal.code())),
            verify: recorder.register_histogram(&plain(VERIFY), &METADATA),
            connections: recorder.register_gauge(&plain(CONNECTIONS), &METADATA),
            websockets: recorder.register_gauge(&plain(WEBSOCKETS), &METADATA),
            store_failures: recorder.register_counter(&plain(STORE_FAILURES), &METADATA),
            touches: recorder.register_counter(&plain(TOUCHES), &METADATA),
        }
    }

    fn builder() -> Result<PrometheusBuilder, BuildError> {
        PrometheusBuilder::new().set_buckets_for_metric(Matcher::Full(VERIFY.to_owned()), &BUCKETS)
    }

    /// Counts a request that was let through.
    pub fn record_request(&self, outcome: Outcome) {
        self.requests[outcome as usize].increment(1);
    }

    /// Counts a request that was answered with a problem.
    pub fn record_problem(&self, problem: &Problem) {
        self.record_request(Outcome::of(problem));
        match problem {
            Problem::Unauthorized(TokenRejection::Token(refusal) | TokenRejection::Cookie(refusal)) => {
                self.record_refusal(*refusal)
            }
            Problem::Store(_) | Problem::Uncertain(_) => self.store_failures.increment(1),
            _ => {}
        }
    }

    /// Counts a request by its outcome.
    pub(crate) fn record_outcome<T>(&self, outcome: &Result<T, Problem>) {
        match outcome {
            Ok(_) => self.record_request(Outcome::Admitted),
            Err(problem) => self.record_problem(problem),
        }
    }

    /// Counts a token that was refused, where the answer says something else: that there were too many.
    pub fn record_refusal(&self, refusal: Refusal) {
        self.refusals[index(refusal)].increment(1);
    }

    /// Counts a failure of the store that no request saw: a flush, a look at an open connection.
    pub fn record_store_failure(&self) {
        self.store_failures.increment(1);
    }

    /// Records how long a judgement took.
    pub fn record_verification(&self, took: Duration) {
        self.verify.record(took);
    }

    /// Counts a WebSocket that is open from now on, until [`Metrics::websocket_closed`].
    pub fn websocket_opened(&self) {
        self.websockets.increment(1);
    }

    /// A WebSocket is closed.
    pub fn websocket_closed(&self) {
        self.websockets.decrement(1);
    }

    /// How many connections are watched now: WebSockets and long responses.
    pub fn set_connections(&self, connections: usize) {
        // No machine holds so many that a float could not tell them apart.
        self.connections.set(connections as f64);
    }

    /// Counts the touches that a flush wrote, and sorts the latencies since the last one into their buckets: called
    /// every second or so, it bounds what is held in between.
    pub fn record_flush(&self, touches: usize) {
        self.touches.increment(touches as u64);
        self.handle.run_upkeep();
    }

    /// All of it in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        self.handle.render()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_and_code_is_counted_in_its_own_place() {
        let metrics = Metrics::new();
        for refusal in refusals() {
            metrics.record_problem(&refusal.into());
        }
        metrics.record_problem(&Problem::Store("gone".to_owned()));
        metrics.record_request(Outcome::Public);
        metrics.set_connections(3);
        metrics.websocket_opened();
        metrics.websocket_opened();
        metrics.websocket_closed();
        metrics.record_flush(3);
        metrics.record_verification(Duration::from_micros(30));
        let text = metrics.render();
        for line in [
            "tenure_requests_total{outcome=\"refused\"} 9",
            "tenure_requests_total{outcome=\"store_down\"} 1",
            "tenure_requests_total{outcome=\"public\"} 1",
            "tenure_requests_total{outcome=\"admitted\"} 0",
            "tenure_refusals_total{code=\"logged_out\"} 1",
            "tenure_refusals_total{code=\"malformed\"} 1",
            "tenure_store_failures_total 1",
            "tenure_touches_flushed_total 3",
            "tenure_live_connections 3",
            "tenure_websockets 1",
            "tenure_verify_seconds_bucket{le=\"0.000025\"} 0",
            "tenure_verify_seconds_bucket{le=\"0.00005\"} 1",
            "tenure_verify_seconds_count 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn two_gateways_count_apart() {
        let (one, other) = (Metrics::new(), Metrics::new());
        one.record_request(Outcome::Admitted);
        assert!(one.render().contains("{outcome=\"admitted\"} 1"));
        assert!(other.render().contains("{outcome=\"admitted\"} 0"));
    }
}
