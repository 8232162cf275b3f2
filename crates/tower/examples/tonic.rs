//! A gRPC service of tonic's behind the layer: `cargo run -p tenure-tower --example tonic`.
//!
//! It serves the standard health service. It prints a token, and a call for grpcurl, and answers until Ctrl-C. After
//! the token was rotated or its session was ended, a call fails with the status UNAUTHENTICATED.

mod common;

use std::error::Error;

use http::Extensions;
use tenure_tower::{Connection, EnforcementConfig, Enforcer, TenureLayer};
use tonic::transport::Server;
use tonic::transport::server::{TcpConnectInfo, TcpIncoming};

/// The client's address, by which failed attempts are counted.
fn connection(extensions: &Extensions) -> Option<Connection> {
    let info = extensions.get::<TcpConnectInfo>()?;
    Some(Connection::new(info.remote_addr()?, false))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let sessions = common::sessions();
    let enforcer = Enforcer::new(sessions.clone(), EnforcementConfig::default());
    let (_reporter, health) = tonic_health::server::health_reporter();

    let incoming = TcpIncoming::bind(common::address()?)?;
    let token = common::issue_token(&sessions).await?;
    println!(
        "grpcurl -plaintext -H 'Authorization: Bearer {token}' {} grpc.health.v1.Health/Check",
        incoming.local_addr()?
    );

    // Recorded activity is written in the background, and the rest of it when the server has stopped.
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let layer = TenureLayer::new(enforcer.clone()).with_connection(connection);
    let flushing = tokio::spawn(async move { enforcer.run_flush_loop(async move { drop(ended.await) }).await });
    let stop = async { drop(tokio::signal::ctrl_c().await) };
    Server::builder().layer(layer).add_service(health).serve_with_incoming_shutdown(incoming, stop).await?;
    drop(end);
    flushing.await?;
    Ok(())
}
