//! The examples as programs: built, started, asked, and logged out of.

use std::path::PathBuf;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// An example that runs until it is dropped.
struct Example {
    _running: Child,
    token: String,
    address: String,
}

impl Example {
    /// Builds and starts an example on a free port, and reads its address and token off the command that it prints.
    async fn start(name: &str) -> Self {
        // As ci builds: it finds the example up to date.
        let cargo = std::env::var_os("CARGO").expect("run by cargo");
        let built = Command::new(cargo)
            .args(["build", "--quiet", "--workspace", "--all-features", "--example", name])
            .status()
            .await
            .unwrap();
        assert!(built.success(), "{name} does not build");
        let test = std::env::current_exe().unwrap();
        let program: PathBuf = test.parent().unwrap().parent().unwrap().join("examples").join(name);
        let mut running =
            Command::new(program).arg("127.0.0.1:0").stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(running.stdout.take().unwrap()).read_line(&mut line).await.unwrap();
        let token = line.split("Bearer ").nth(1).and_then(|rest| rest.split('\'').next());
        let address = line.split(' ').find(|word| word.contains("127.0.0.1:")).unwrap_or_default();
        let address = address.trim_start_matches("http://").trim_end().trim_end_matches('/');
        let (token, address) = (token.unwrap_or_else(|| panic!("no token in {line:?}")).to_owned(), address.to_owned());
        Self { _running: running, token, address }
    }

    /// The status line and the body of an answer to a request with the token.
    async fn ask(&self, request: &str) -> String {
        let token = &self.token;
        let request = format!(
            "{request} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        );
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn serves_until_log_out(&self) {
        let answer = self.ask("GET /").await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("anna on laptop"), "{answer}");
        assert!(self.ask("POST /logout").await.contains("logged out"));
        let answer = self.ask("GET /").await;
        assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("logged_out"), "{answer}");
    }
}

#[tokio::test]
async fn the_axum_example_serves_until_log_out() {
    let example = Example::start("axum").await;
    example.serves_until_log_out().await;
    assert!(example.ask("GET /health").await.contains("fine"));
}

#[tokio::test]
async fn the_hyper_example_serves_until_log_out() {
    Example::start("hyper").await.serves_until_log_out().await;
}

#[tokio::test]
async fn the_tonic_example_answers_calls_with_a_token_only() {
    let example = Example::start("tonic").await;
    let channel = Channel::from_shared(format!("http://{}", example.address)).unwrap().connect().await.unwrap();
    let call = async |token: Option<&str>| {
        let mut request = Request::new(HealthCheckRequest::default());
        if let Some(token) = token {
            let bearer = MetadataValue::try_from(format!("Bearer {token}")).unwrap();
            request.metadata_mut().insert("authorization", bearer);
        }
        HealthClient::new(channel.clone()).check(request).await.map(|answer| answer.into_inner().status)
    };
    // Serving.
    assert_eq!(call(Some(&example.token)).await.unwrap(), 1);
    assert_eq!(call(None).await.unwrap_err().code(), Code::Unauthenticated);
    let mut wrong = example.token.clone();
    wrong.replace_range(10..11, if &wrong[10..11] == "a" { "b" } else { "a" });
    assert_eq!(call(Some(&wrong)).await.unwrap_err().code(), Code::Unauthenticated);
}
