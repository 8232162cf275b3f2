//! An axum service behind the layer: `cargo run -p tenure-tower --features axum --example axum`.
//!
//! It prints a token and how to use it, and answers until Ctrl-C. `POST /logout` ends the session.

mod common;

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Router, serve};
use tenure_service::Sessions;
use tenure_tower::{CurrentSession, EnforcementConfig, Enforcer, Problem, PublicPath, TenureLayer};
use tokio::net::TcpListener;

async fn whoami(current: CurrentSession) -> String {
    let session = current.session();
    format!("{} on {}, session {}\n", session.subject, session.device, session.id)
}

async fn log_out(State(sessions): State<Arc<Sessions>>, current: CurrentSession) -> Result<&'static str, Problem> {
    match sessions.log_out(current.session()).await {
        Ok(_) => Ok("logged out\n"),
        Err(error) => Err(error.error.into()),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let sessions = common::sessions();
    let public_paths = vec![PublicPath("/health".to_owned())];
    let enforcer = Enforcer::new(sessions.clone(), EnforcementConfig { public_paths, ..EnforcementConfig::default() });

    let app = Router::new()
        .route("/", get(whoami))
        .route("/logout", post(log_out))
        .route("/health", get(async || "fine\n"))
        .with_state(sessions.clone())
        .layer(TenureLayer::new(enforcer.clone()));

    let listener = TcpListener::bind(common::address()?).await?;
    let token = common::issue_token(&sessions).await?;
    println!("curl -H 'Authorization: Bearer {token}' http://{}/", listener.local_addr()?);

    // Recorded activity is written in the background, and the rest of it when the server has stopped.
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let flushing = tokio::spawn(async move { enforcer.run_flush_loop(async move { drop(ended.await) }).await });
    let stop = async { drop(tokio::signal::ctrl_c().await) };
    // With the clients' addresses, by which failed attempts are counted.
    let service = app.into_make_service_with_connect_info::<SocketAddr>();
    serve(listener, service).with_graceful_shutdown(stop).await?;
    drop(end);
    flushing.await?;
    Ok(())
}
