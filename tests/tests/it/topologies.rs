//! The conformance suite on every way in which Redis can be run.

use tenure_adapter_redis::{Durability, Options};
use tenure_conformance::StoreFixture;
use tenure_conformance::{conformance, conformance_in_one};
use tenure_redis_test_server::{Certificates, Cluster, Sentinels, Server, Tls, patient};
use tenure_tests::fixtures::{self, CACHE_LAG};

/// A server that speaks TLS and asks its clients for certificates.
async fn over_tls() -> StoreFixture {
    let tls = Tls::start_asking_for_certificates();
    let (certificate, key) = tls.certificates().client();
    let with_certificate = Options { tls_cert: Some(certificate), tls_key: Some(key), ..patient(&tls.url()) };
    fixtures::redis_at(trusting(tls.certificates(), with_certificate), tls).await
}

fn trusting(certificates: &Certificates, options: Options) -> Options {
    Options { tls_ca: Some(certificates.ca()), ..options }
}

/// A user with the rights that the documentation lists, and no more.
async fn with_the_least_rights() -> StoreFixture {
    let page = include_str!("../../../docs/redis-store.md");
    let (_, rest) = page.split_once("```text\nACL SETUSER tenure").expect("the documentation lists the rights");
    let (rights, _) = rest.split_once("```").unwrap();
    let words: Vec<&str> = ["ACL", "SETUSER", "tenure"].into_iter().chain(rights.split_whitespace()).collect();
    let server = Server::start();
    let () = server.ask(&words);
    fixtures::redis_at(patient(&format!("redis://tenure:PASSWORD@127.0.0.1:{}", server.port())), server).await
}

/// Servers that are shared, below a prefix that is not.
async fn below(url: &str, prefix: &str) -> StoreFixture {
    fixtures::redis_at(Options { prefix: prefix.to_owned(), ..patient(url) }, ()).await
}

async fn behind_sentinels(sentinels: &Sentinels, promise: &str) -> StoreFixture {
    below(&sentinels.url(), promise).await
}

async fn over_tls_below((url, certificates): (String, &Certificates), prefix: &str) -> StoreFixture {
    let options = Options { prefix: prefix.to_owned(), ..patient(&url) };
    fixtures::redis_at(trusting(certificates, options), ()).await
}

async fn behind_sentinels_over_tls(sentinels: &Sentinels, promise: &str) -> StoreFixture {
    over_tls_below(sentinels.tls(), promise).await
}

async fn in_a_cluster_over_tls(cluster: &Cluster, promise: &str) -> StoreFixture {
    over_tls_below(cluster.tls(), promise).await
}

/// Every change waits for a replica.
async fn replicated(servers: &(Server, Server), promise: &str) -> StoreFixture {
    let options =
        Options { prefix: promise.to_owned(), durability: Durability::Replicated, ..patient(&servers.0.url()) };
    fixtures::redis_at(options, ()).await
}

fn with_a_replica() -> (Server, Server) {
    let primary = Server::start_primary();
    let replica = primary.start_replica();
    (primary, replica)
}

async fn in_a_cluster(cluster: &Cluster, promise: &str) -> StoreFixture {
    below(&cluster.url(), promise).await
}

async fn kept_in_memory(cluster: &Cluster, promise: &str) -> StoreFixture {
    let options = Options { prefix: promise.to_owned(), near_cache: true, ..patient(&cluster.url()) };
    fixtures::redis_at(options, ()).await.with_lag(CACHE_LAG)
}

conformance!(tls, crate::topologies::over_tls);
conformance!(least_rights, crate::topologies::with_the_least_rights);
conformance_in_one!(every_promise_holds_behind_sentinels, Sentinels::start(), behind_sentinels);
conformance_in_one!(
    every_promise_holds_behind_sentinels_over_tls,
    Sentinels::start_with_tls(),
    behind_sentinels_over_tls
);
conformance_in_one!(every_promise_holds_in_a_cluster_over_tls, Cluster::start_with_tls(), in_a_cluster_over_tls);
conformance_in_one!(every_promise_holds_with_a_replica, with_a_replica(), replicated);
conformance_in_one!(every_promise_holds_in_a_cluster, Cluster::start(), in_a_cluster);
conformance_in_one!(every_promise_holds_in_a_cluster_with_a_near_cache, Cluster::start(), kept_in_memory);
