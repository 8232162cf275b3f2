//! Servers that speak TLS.

use std::error::Error as _;
use std::io;
use std::sync::Arc;

use tenure_adapter_redis::{Options, RedisStore};
use tenure_conformance::SystemClock;
use tenure_domain::Policy;
use tenure_ports::{FindOptions, StoreError, prelude::*};
use tenure_redis_test_server::{Server, Tls};

use crate::support::issue;

async fn refusal_error(options: Options) -> StoreError {
    let error = RedisStore::connect(options, Arc::new(SystemClock)).await.err().expect("it connected");
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    error
}

async fn refusal(options: Options) -> String {
    refusal_error(options).await.to_string()
}

#[tokio::test]
async fn a_server_is_trusted_for_its_authority_only() {
    let tls = Tls::start();
    let options = Options { tls_ca: Some(tls.certificates().ca()), ..Options::new(&tls.url()) };
    let store = RedisStore::connect(options.clone(), Arc::new(SystemClock)).await.unwrap();
    let (session, _) = issue(&store, "laptop", &Policy::default()).await;
    assert_eq!(store.find(session.id, FindOptions::EXACT).await.unwrap(), Some(session));
    // By name as well as by address.
    let named = Options { url: tls.url().replace("127.0.0.1", "localhost"), ..options };
    RedisStore::connect(named, Arc::new(SystemClock)).await.unwrap().check_writable().await.unwrap();
    let stranger = Options { tls_ca: Some(tls.certificates().stranger()), ..Options::new(&tls.url()) };
    let error = refusal_error(stranger).await;
    let told = error.to_string();
    assert!(told.contains("not trusted") && told.contains("redis.tls_ca"), "{told}");
    let beneath = error.source().and_then(|source| source.downcast_ref::<io::Error>()).and_then(io::Error::get_ref);
    assert!(beneath.is_some_and(|beneath| beneath.is::<rustls::Error>()));
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_gets_it() {
    let tls = Tls::start_asking_for_certificates();
    let without = Options { tls_ca: Some(tls.certificates().ca()), ..Options::new(&tls.url()) };
    let told = refusal(without.clone()).await;
    assert!(told.contains("redis.tls_cert"), "{told}");
    let (certificate, key) = tls.certificates().client();
    let with = Options { tls_cert: Some(certificate.clone()), tls_key: Some(key.clone()), ..without.clone() };
    let store = RedisStore::connect(with.clone(), Arc::new(SystemClock)).await.unwrap();
    issue(&store, "laptop", &Policy::default()).await;
    for (message, options) in [
        ("redis.tls_key: it is missing", Options { tls_key: None, ..with.clone() }),
        ("redis.tls_cert: it is missing", Options { tls_cert: None, ..with.clone() }),
        ("it holds no private key", Options { tls_key: Some(certificate.clone()), ..with.clone() }),
        ("it holds no certificate", Options { tls_cert: Some(key.clone()), ..with.clone() }),
        ("could not read", Options { tls_ca: Some("/nowhere/ca.pem".into()), ..with.clone() }),
        ("it is no key for", Options { tls_cert: Some(tls.certificates().ca()), ..with.clone() }),
        ("write rediss://", Options { url: "redis://127.0.0.1".to_owned(), ..with.clone() }),
    ] {
        let error = refusal_error(options).await;
        let told = error.to_string();
        assert!(told.contains(message), "{told} instead of {message}");
        if message == "it is no key for" {
            assert!(error.source().is_some_and(|source| source.is::<rustls::Error>()));
        }
    }
}

#[tokio::test]
async fn plain_and_tls_are_not_mixed_up() {
    let server = Server::start();
    let tls = Tls::start();
    let plain = format!("rediss://127.0.0.1:{}", server.port());
    let told = refusal(Options { tls_ca: Some(tls.certificates().ca()), ..Options::new(&plain) }).await;
    assert!(told.contains("speak TLS"), "{told}");
    let told = refusal(Options::new(&tls.url().replace("rediss", "redis"))).await;
    assert!(told.contains("rediss://"), "{told}");
}
