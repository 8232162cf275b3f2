//! A service of one's own behind Tenure, without a proxy: `cargo run -p tenure-tests --example axum`.
//!
//! It keeps its sessions in a new directory, prints a token and what to do with it, and answers on 127.0.0.1:3000.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use tenure_adapter_json::JsonStore;
use tenure_conformance::{SystemClock, SystemRandom};
use tenure_domain::{ClientInfo, DeviceId, Policy, Subject};
use tenure_gateway::{CurrentSession, EnforcementConfig, Enforcer, PublicPath, TenureLayer};
use tenure_ports::prelude::*;
use tenure_service::{IssueRequest, Sessions};

async fn whoami(current: CurrentSession) -> String {
    let session = current.session();
    format!("{} on {}, session {}\n", session.subject, session.device, session.id)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // The store, and the use cases over it.
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("sessions.jsonl");
    let store = JsonStore::open(&path, Arc::new(SystemClock), tenure_adapter_json::Options::default())?;
    let clock = store.clock();
    let sessions = Arc::new(Sessions::new(store, clock, Arc::new(SystemRandom), Policy::default()));

    // The enforcer: which paths are public, and the state that all requests share.
    let public_paths = vec![PublicPath("/health".to_owned())];
    let config = EnforcementConfig { public_paths, ..EnforcementConfig::default() };
    let enforcer = Enforcer::new(sessions.clone(), config);

    // The service.
    let app = Router::new()
        .route("/", get(whoami))
        .route("/health", get(async || "fine\n"))
        .layer(TenureLayer::new(enforcer.clone()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;

    let request = IssueRequest {
        device: DeviceId::new("laptop")?,
        subject: Subject::new("anna")?,
        client: ClientInfo::default(),
        ttl: None,
    };
    let issued = sessions.issue(request).await?;
    println!("curl -H 'Authorization: Bearer {}' http://127.0.0.1:3000/", issued.token.to_text().expose());

    // Activity is written in the background, and what is left of it at the end.
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let flushing = tokio::spawn(async move { enforcer.run_flush_loop(async move { drop(ended.await) }).await });
    let service = app.into_make_service_with_connect_info::<SocketAddr>();
    let stop = async { drop(tokio::signal::ctrl_c().await) };
    axum::serve(listener, service).with_graceful_shutdown(stop).await?;
    drop(end);
    flushing.await?;
    Ok(())
}
