//! Servers: bare ones, upstreams, and the gateway, each on one thread.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Child, Command};
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::any;
use futures_util::StreamExt as _;
use http_body_util::BodyExt as _;
use tenure_adapter_json::JsonStore;
use tenure_adapter_redis::RedisStore;
use tenure_conformance::{SystemClock, SystemRandom};
use tenure_domain::{ClientInfo, DeviceId, Policy, Subject};
use tenure_gateway::{Gateway, Options, Server, SharedSecret, Upstream};
use tenure_ports::prelude::*;
use tenure_service::{IssueRequest, Sessions};
use tenure_tower::PublicPath;

const SESSIONS: usize = 1_000;
const GIB: usize = 1 << 30;

pub(crate) fn run(role: &str, args: &[&str]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        match (role, args) {
            ("bare", []) => bare(Router::new().fallback(any(async || http::StatusCode::NO_CONTENT))).await,
            ("bodies", []) => bare(Router::new().fallback(any(large))).await,
            ("gateway", [store, tokens, upstream, rest @ ..]) => gateway(store, tokens, upstream, rest).await,
            other => panic!("{other:?}"),
        }
    });
}

fn say(address: SocketAddr) {
    println!("{address}");
    std::io::stdout().flush().unwrap();
}

async fn bare(router: Router) {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    say(listener.local_addr().unwrap());
    axum::serve(listener, router).await.unwrap();
}

/// Sends 1 GiB, or counts what it gets.
async fn large(request: axum::extract::Request) -> Body {
    if request.method() == http::Method::POST {
        let (mut body, mut seen) = (request.into_body(), 0);
        while let Some(frame) = body.frame().await {
            seen += frame.unwrap().data_ref().map_or(0, Bytes::len);
        }
        return Body::from(seen.to_string());
    }
    let piece = Bytes::from(vec![7; 256 * 1024]);
    let pieces = GIB / piece.len();
    Body::from_stream(futures_util::stream::repeat(Ok::<_, std::convert::Infallible>(piece)).take(pieces))
}

async fn gateway(store: &str, tokens: &str, upstream: &str, rest: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let sessions = match store {
        "json" => {
            let path = folder.path().join("sessions.jsonl");
            let store = JsonStore::open(&path, Arc::new(SystemClock), tenure_adapter_json::Options::default()).unwrap();
            let clock = store.clock();
            Sessions::new(store, clock, Arc::new(SystemRandom), Policy::default())
        }
        "redis" | "redis-cached" => {
            let mut options = tenure_adapter_redis::Options::new(rest[0]);
            options.prefix = store.to_owned();
            options.near_cache = store == "redis-cached";
            let store = RedisStore::connect(options, Arc::new(SystemClock)).await.unwrap();
            let clock = store.clock();
            Sessions::new(store, clock, Arc::new(SystemRandom), Policy::default())
        }
        other => panic!("{other}"),
    };
    issue(&sessions, tokens).await;
    let mut options = Options::new(SharedSecret::new("measured").unwrap());
    options.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    options.admin_listen = options.listen;
    options.public_paths = vec![PublicPath("/public/".to_owned())];
    if upstream != "-" {
        options.upstream = Some(Upstream { scheme: http::uri::Scheme::HTTP, authority: upstream.parse().unwrap() });
    }
    let server = Server::bind(Gateway::new(Arc::new(sessions), options)).await.unwrap();
    say(server.client_addr());
    server.run(std::future::pending()).await.unwrap();
}

async fn issue(sessions: &Sessions, file: &str) {
    let tokens: Vec<String> = futures_util::stream::iter(0..SESSIONS)
        .map(async |n| {
            let device = DeviceId::new(&format!("device-{}", n % (SESSIONS / 10))).unwrap();
            let request =
                IssueRequest { device, subject: Subject::default(), client: ClientInfo::default(), ttl: None };
            sessions.issue(request).await.unwrap().token.to_text().expose().to_owned()
        })
        .buffer_unordered(64)
        .collect()
        .await;
    std::fs::write(file, tokens.join("\n")).unwrap();
}

/// nginx with one worker, which asks `auth` before it answers.
pub(crate) struct Nginx {
    child: Child,
    pub(crate) address: String,
}

impl Nginx {
    pub(crate) fn start(core: &str, folder: &str, auth: &str) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let address = {
            let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
            free.local_addr().unwrap().to_string()
        };
        let config = format!(
            "daemon off; worker_processes 1; pid {folder}/pid; error_log stderr error;
             events {{ worker_connections 1024; }}
             http {{
               access_log off; keepalive_requests 1000000000;
               client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
               uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
               upstream auth {{ server {auth}; keepalive 64; keepalive_requests 1000000000; }}
               server {{
                 listen {address};
                 location = /auth {{
                   internal; proxy_pass http://auth/_tenure/auth; proxy_http_version 1.1;
                   proxy_set_header Connection \"\"; proxy_pass_request_body off; proxy_set_header Content-Length \"\";
                 }}
                 location / {{ auth_request /auth; root {folder}/www; index index.html; }}
               }}
             }}"
        );
        std::fs::create_dir_all(format!("{folder}/www")).unwrap();
        std::fs::write(format!("{folder}/www/index.html"), "ok").unwrap();
        std::fs::write(format!("{folder}/nginx.conf"), config).unwrap();
        let child = Command::new("taskset")
            .args(["-c", core, "nginx", "-e", "stderr", "-c", &format!("{folder}/nginx.conf")])
            .spawn()
            .unwrap();
        let nginx = Self { child, address };
        for _ in 0..200 {
            if std::net::TcpStream::connect(&nginx.address).is_ok() {
                return nginx;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        panic!("nginx did not start");
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Asked to end, it takes its worker along.
        let _ = Command::new("kill").args(["-QUIT", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}
