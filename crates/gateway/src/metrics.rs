//! The gateway's metrics in Prometheus' text format.
//!
//! Each gateway has its own recorder, so that two in one process count apart. No label carries anything that a client
//! chooses: no token, session, device or path.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder as _};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tenure_domain::{EndReason, Refusal};

use tenure_tower::{Observer, Outcome};

const REQUESTS: &str = "tenure_requests_total";
const REFUSALS: &str = "tenure_refusals_total";
const VERIFY: &str = "tenure_verify_seconds";
const CONNECTIONS: &str = "tenure_live_connections";
const WEBSOCKETS: &str = "tenure_websockets";
const STORE_FAILURES: &str = "tenure_store_failures_total";
const TOUCHES: &str = "tenure_touches_flushed_total";

/// Upper bounds of the latency histogram in seconds: from a store in the process to one that nearly times out.
const BUCKETS: [f64; 12] =
    [0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.005, 0.025, 0.1, 0.5, 1.0];

const METADATA: Metadata<'static> = Metadata::new("tenure_gateway", Level::INFO, None);

/// The number of codes that a refusal can have.
const CODES: usize = 4 + EndReason::ALL.len();

/// The value of the label `outcome`.
const fn label(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Admitted => "admitted",
        Outcome::Public => "public",
        Outcome::NoToken => "no_token",
        Outcome::Refused => "refused",
        Outcome::Limited => "limited",
        Outcome::Rejected => "rejected",
        Outcome::StoreDown => "store_down",
        Outcome::UpstreamFailed => "upstream_failed",
        Outcome::Failed => "failed",
    }
}

/// The counters and latencies of one gateway.
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
    /// Makes counters that are at zero.
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
            requests: Outcome::ALL.map(|outcome| labelled(REQUESTS, "outcome", label(outcome))),
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

    /// Counts a WebSocket as open, until [`Metrics::websocket_closed`].
    pub fn websocket_opened(&self) {
        self.websockets.increment(1);
    }

    /// Counts a WebSocket as closed.
    pub fn websocket_closed(&self) {
        self.websockets.decrement(1);
    }

    /// Sets the number of connections that are registered now: WebSockets and long responses.
    pub fn set_connections(&self, connections: usize) {
        // A float counts exactly to 2^53, more than any machine holds.
        self.connections.set(connections as f64);
    }

    /// Returns all metrics in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        self.handle.render()
    }
}

impl Observer for Metrics {
    fn on_request(&self, outcome: Outcome) {
        self.requests[outcome as usize].increment(1);
    }

    fn on_refusal(&self, refusal: Refusal) {
        self.refusals[index(refusal)].increment(1);
    }

    fn on_verification(&self, took: Duration) {
        self.verify.record(took);
    }

    fn on_store_failure(&self) {
        self.store_failures.increment(1);
    }

    fn on_flush(&self, sessions: usize) {
        self.touches.increment(sessions as u64);
        // Sorts the latencies since the last flush into their buckets, which bounds what is held in between.
        self.handle.run_upkeep();
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
            metrics.on_request(Outcome::Refused);
            metrics.on_refusal(refusal);
        }
        metrics.on_request(Outcome::StoreDown);
        metrics.on_store_failure();
        metrics.on_request(Outcome::Public);
        metrics.set_connections(3);
        metrics.websocket_opened();
        metrics.websocket_opened();
        metrics.websocket_closed();
        metrics.on_flush(3);
        metrics.on_verification(Duration::from_micros(30));
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
        one.on_request(Outcome::Admitted);
        assert!(one.render().contains("{outcome=\"admitted\"} 1"));
        assert!(other.render().contains("{outcome=\"admitted\"} 0"));
    }
}
