//! A gateway process, and an app behind it.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Stdio};

use axum::Router;
use axum::extract::Request;
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::any;
use serde_json::{Map, Value};
use tokio::net::TcpListener;

use crate::chromium::HOST;
use crate::home::{Home, id_of};

/// A gateway with an app behind it, which is killed on drop.
pub(crate) struct House {
    pub(crate) home: Home,
    child: Child,
    /// The address for clients.
    pub(crate) clients: SocketAddr,
    /// The address for operators.
    pub(crate) operators: SocketAddr,
    pub(crate) admin_secret: String,
    tls: bool,
}

impl House {
    /// Starts a gateway with these settings.
    pub(crate) async fn with(settings: &[(&str, &str)]) -> Self {
        let app = app().await;
        Self::before(&format!("http://{app}"), settings)
    }

    fn before(upstream: &str, settings: &[(&str, &str)]) -> Self {
        let mut home = Home::json();
        let tls = settings.iter().any(|(name, _)| *name == "gateway.tls_cert");
        home.set("TENURE_GATEWAY__UPSTREAM", upstream);
        for (name, value) in settings {
            home.set(&format!("TENURE_{}", name.replace('.', "__").to_ascii_uppercase()), value);
        }
        let log = std::fs::File::create(home.path("gateway.log")).unwrap();
        let args = ["gateway", "--json", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
        let mut child = home.command(&args).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap_or_else(|error| {
            panic!("{error}: {line:?} {}", std::fs::read_to_string(home.path("gateway.log")).unwrap())
        });
        let address = |name: &str| said[name].as_str().unwrap().split_once("://").unwrap().1.parse().unwrap();
        let secret = std::fs::read_to_string(said["adminSecretFile"].as_str().unwrap()).unwrap();
        let (clients, operators) = (address("listen"), address("adminListen"));
        Self { home, child, clients, operators, admin_secret: secret.trim().to_owned(), tls }
    }

    /// Returns the URL that a person types into a browser.
    pub(crate) fn url(&self) -> String {
        format!("{}://{HOST}:{}", if self.tls { "https" } else { "http" }, self.clients.port())
    }

    /// Revokes the session of a token from another process.
    pub(crate) fn revoke(&self, token: &str) {
        self.home.run(&["sessions", "revoke", id_of(token)]).succeeds();
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes a self-signed certificate and its key to a directory.
pub(crate) fn certify(folder: &std::path::Path) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec![HOST.to_owned()]).unwrap();
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    std::fs::write(&cert, made.cert.pem()).unwrap();
    (cert.to_str().unwrap().to_owned(), key.to_str().unwrap().to_owned())
}

/// An app with a board, the request that it got (`/echo`), and a page whose forms hide their origin (`/hidden`).
pub(crate) async fn app() -> SocketAddr {
    let hidden = Html("<form method=post action=/_tenure/logout><button>Log out</button></form>");
    let hidden = move || async move { ([("referrer-policy", "no-referrer")], hidden) };
    // With an icon of its own, so that the browser does not ask for /favicon.ico at a moment of its choice, which would
    // clear a dead cookie before a test does.
    let board = || async { Html("<title>Board</title><link rel=icon href=data:,><h1>the board</h1>") };
    let app = Router::new().route("/echo", any(echo)).route("/hidden", any(hidden)).fallback(board);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    address
}

async fn echo(request: Request) -> Response {
    let headers = request.headers().iter();
    let told: Map<String, Value> =
        headers.map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into())).collect();
    axum::Json(told).into_response()
}
