//! A bare hyper service behind the layer: `cargo run -p tenure-tower --example hyper`.
//!
//! It prints a token and how to use it, and answers until Ctrl-C. `POST /logout` ends the session.

mod common;

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;

use http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tenure_service::Sessions;
use tenure_tower::{Connection, CurrentSession, EnforcementConfig, Enforcer, RequestBody, TenureLayer};
use tokio::net::TcpListener;
use tower::{Layer as _, ServiceExt as _, service_fn};

async fn answer(
    sessions: Arc<Sessions>,
    request: Request<RequestBody<Incoming>>,
) -> Result<Response<String>, Infallible> {
    let Some(current) = request.extensions().get::<CurrentSession>() else {
        return Ok(Response::new("a public path\n".to_owned()));
    };
    let session = current.session();
    if request.method() == Method::POST && request.uri().path() == "/logout" {
        let text = match sessions.log_out(session).await {
            Ok(_) => "logged out\n".to_owned(),
            Err(error) => format!("not logged out: {error}\n"),
        };
        return Ok(Response::new(text));
    }
    Ok(Response::new(format!("{} on {}, session {}\n", session.subject, session.device, session.id)))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let sessions = common::sessions();
    let enforcer = Enforcer::new(sessions.clone(), EnforcementConfig::default());
    let service = {
        let sessions = sessions.clone();
        TenureLayer::new(enforcer.clone()).layer(service_fn(move |request| answer(sessions.clone(), request)))
    };

    let listener = TcpListener::bind(common::address()?).await?;
    let token = common::issue_token(&sessions).await?;
    println!("curl -H 'Authorization: Bearer {token}' http://{}/", listener.local_addr()?);

    // Recorded activity is written in the background, and the rest of it when the server has stopped.
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let flushing = tokio::spawn(async move { enforcer.run_flush_loop(async move { drop(ended.await) }).await });
    loop {
        let (stream, remote) = tokio::select! {
            accepted = listener.accept() => accepted?,
            _ = tokio::signal::ctrl_c() => break,
        };
        let service = service.clone();
        let with_connection = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            // The client's address, by which failed attempts are counted.
            request.extensions_mut().insert(Connection::new(remote, false));
            service.clone().oneshot(request)
        });
        tokio::spawn(async move {
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new());
            if let Err(error) = server.serve_connection(TokioIo::new(stream), with_connection).await {
                eprintln!("connection of {remote}: {error}");
            }
        });
    }
    drop(end);
    flushing.await?;
    Ok(())
}
