//! What reaches the upstream, and what comes back.

mod cut;
mod openclaw;
mod raw;
mod robust;
mod upstreams;

use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get};
use futures_util::{SinkExt as _, StreamExt as _, stream};
use http::HeaderValue;
use tenure_domain::{ClientField, Millis, Policy, PolicySettings};
use tenure_gateway::UpstreamAuth;
use tenure_tower::PublicPath;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::support::site::{GatewayFixture, Reply, TEST_TIMEOUT, echo, serve, until};

fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}")
}

#[tokio::test]
async fn a_token_opens_the_way_and_stays_behind() {
    let site = GatewayFixture::with(Some(echo().await), Policy::default(), |options| {
        options.upstream_auth = Some(UpstreamAuth {
            header: http::header::AUTHORIZATION,
            value: HeaderValue::from_static("Bearer static"),
        });
    })
    .await;
    let (issued, token) = site.issue("laptop").await;
    let lines = [&*bearer(&token), &format!("cookie: a=1; tenure={token}"), "x-forwarded-user: root", "x-kept: yes"];
    let reply = site.ask("POST", "/some/path?q=%20x", &lines, "hello").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let told = reply.json();
    assert_eq!(told["method"], "POST");
    assert_eq!(told["target"], "/some/path?q=%20x");
    assert_eq!(told["body"], "hello");
    let headers = &told["headers"];
    assert_eq!(headers["host"], "tenure.test");
    assert_eq!(headers["authorization"], "Bearer static");
    assert_eq!(headers["cookie"], "a=1");
    assert_eq!(headers["x-kept"], "yes");
    assert_eq!(headers["x-forwarded-user"], "alice");
    assert_eq!(headers["x-tenure-session"], issued.session.id.to_string());
    assert_eq!(headers["x-tenure-device"], "laptop");
    assert_eq!(headers["x-forwarded-for"], "127.0.0.1");
    assert_eq!(headers["x-forwarded-proto"], "http");
    assert_eq!(headers["x-forwarded-host"], "tenure.test");
    assert_eq!(headers["x-request-id"], reply.header("x-request-id").unwrap());
    assert!(!reply.body.contains(&token), "the token went to the upstream");
    site.stop().await;
}

#[tokio::test]
async fn without_a_token_that_holds_nothing_reaches_the_upstream() {
    let site = GatewayFixture::before(echo().await).await;
    let (issued, token) = site.issue("laptop").await;
    site.get("/", &[]).await.is_problem(401, "token_required");
    site.get("/", &["authorization: Bearer tnr_nonsense"]).await.is_problem(401, "malformed");
    site.get("/_tenure/nothing", &[&bearer(&token)]).await.is_problem(404, "not_found");
    let (_, other) = site.issue("phone").await;
    let two = site.get("/", &[&bearer(&token), &format!("cookie: tenure={other}")]).await;
    two.is_problem(400, "bad_request");
    site.store.set_down(true);
    let down = site.get("/", &[&bearer(&token)]).await;
    down.is_problem(503, "store_unavailable");
    assert_eq!(down.header("retry-after"), Some("1"));
    site.store.set_down(false);
    site.revoke(&issued).await;
    site.get("/", &[&bearer(&token)]).await.is_problem(401, "revoked");
    site.stop().await;
}

#[tokio::test]
async fn a_public_path_needs_no_token_and_lends_nobody_anything() {
    let site = GatewayFixture::with(Some(echo().await), Policy::default(), |options| {
        options.public_paths = vec![PublicPath("/open/".to_owned())];
        options.upstream_auth = Some(UpstreamAuth {
            header: http::header::AUTHORIZATION,
            value: HeaderValue::from_static("Bearer static"),
        });
    })
    .await;
    let (_, token) = site.issue("laptop").await;
    let told = site.get("/open/a", &[&bearer(&token), "x_forwarded_user: root", "x-tenure-device: d"]).await.json();
    for absent in ["authorization", "x-forwarded-user", "x_forwarded_user", "x-tenure-device", "x-tenure-session"] {
        assert!(told["headers"].get(absent).is_none(), "{absent} of {told}");
    }
    for path in ["/open", "/open/../x", "/open/%2e%2e/x", "/open//x", "/open/..%2fx"] {
        site.get(path, &[]).await.is_problem(401, "token_required");
    }
    site.stop().await;
}

#[tokio::test]
async fn forwarding_headers_are_believed_of_trusted_proxies_only() {
    let lines = ["x-forwarded-for: 9.9.9.9, 203.0.113.7", "x-forwarded-proto: https", "x-request-id: given-1"];
    let upstream = echo().await;
    let site = GatewayFixture::before(upstream).await;
    let (_, token) = site.issue("laptop").await;
    let told = site.get("/", &[&bearer(&token), lines[0], lines[1], lines[2]]).await.json();
    assert_eq!(told["headers"]["x-forwarded-for"], "127.0.0.1");
    assert_eq!(told["headers"]["x-forwarded-proto"], "http");
    assert_ne!(told["headers"]["x-request-id"], "given-1");
    site.stop().await;

    let site = GatewayFixture::with(Some(upstream), Policy::default(), |options| {
        options.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    let (issued, token) = site.issue("laptop").await;
    let told = site.get("/", &[&bearer(&token), lines[0], lines[1], lines[2], "user-agent: curl/8.7"]).await.json();
    assert_eq!(told["headers"]["x-forwarded-for"], "203.0.113.7, 127.0.0.1");
    assert_eq!(told["headers"]["x-forwarded-proto"], "https");
    assert_eq!(told["headers"]["x-request-id"], "given-1");
    until("the client's description", async || {
        let session = site.sessions.get(issued.session.id).await.unwrap().unwrap();
        session.client.get(ClientField::Address) == Some("203.0.113.7")
            && session.client.get(ClientField::UserAgent) == Some("curl/8.7")
    })
    .await;
    site.stop().await;
}

#[tokio::test]
async fn headers_of_one_connection_do_not_travel() {
    let upstream = serve(Router::new().fallback(any(async |request: axum::extract::Request| {
        let names: Vec<String> = request.headers().keys().map(ToString::to_string).collect();
        let mut response = Response::new(Body::from(names.join(" ")));
        for (name, value) in [("connection", "x-hop"), ("x-hop", "1"), ("keep-alive", "timeout=9"), ("x-end", "1")] {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        for cookie in ["tenure=stolen", "a=1"] {
            response.headers_mut().append("set-cookie", HeaderValue::from_static(cookie));
        }
        response.headers_mut().insert("tenure-rotate", HeaderValue::from_static("due"));
        response
    })))
    .await;
    let site = GatewayFixture::before(upstream).await;
    let (_, token) = site.issue("laptop").await;
    let lines = ["te: trailers", "connection: x-mine", "x-mine: 1", "upgrade: h2c", "keep-alive: timeout=5"];
    let reply = site.get("/", &[&bearer(&token), lines[0], lines[1], lines[2], lines[3], lines[4]]).await;
    for name in ["te", "connection", "x-mine", "upgrade", "keep-alive"] {
        assert!(!reply.body.split(' ').any(|known| known == name), "{name} of {}", reply.body);
    }
    assert_eq!(reply.header("x-end"), Some("1"));
    for name in ["x-hop", "keep-alive", "tenure-rotate"] {
        assert_eq!(reply.header(name), None, "{reply:?}");
    }
    let cookies: Vec<_> = reply.headers.iter().filter(|(name, _)| name == "set-cookie").collect();
    assert_eq!(cookies, [&("set-cookie".to_owned(), "a=1".to_owned())]);
    site.stop().await;
}

#[tokio::test]
async fn guesses_are_slowed_down_and_a_token_that_holds_is_not() {
    let site = GatewayFixture::before(echo().await).await;
    let (_, token) = site.issue("laptop").await;
    let (_, guess) = { GatewayFixture::before(site.address).await.issue("other").await };
    for _ in 0..10 {
        site.get("/", &[&bearer(&guess)]).await.is_problem(401, "unknown");
    }
    let locked = site.get("/", &[&bearer(&guess)]).await;
    locked.is_problem(429, "too_many_requests");
    assert_eq!(locked.header("retry-after"), Some("300"));
    assert_eq!(site.get("/", &[&bearer(&token)]).await.status, 200);
    site.get("/", &[]).await.is_problem(401, "token_required");
    site.stop().await;
}

#[tokio::test]
async fn an_upstream_that_is_gone_is_a_502_and_one_that_sleeps_a_504() {
    let gone = {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        listener.local_addr().unwrap()
    };
    let site = GatewayFixture::before(gone).await;
    let (_, token) = site.issue("laptop").await;
    site.get("/", &[&bearer(&token)]).await.is_problem(502, "bad_gateway");
    site.stop().await;

    let asleep = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let site = GatewayFixture::with(Some(asleep.local_addr().unwrap()), Policy::default(), |options| {
        options.limits.response = Duration::from_millis(200);
    })
    .await;
    let (_, token) = site.issue("laptop").await;
    site.get("/", &[&bearer(&token)]).await.is_problem(504, "gateway_timeout");
    drop(asleep);
    site.stop().await;

    let rude = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let site = GatewayFixture::before(rude.local_addr().unwrap()).await;
    let (_, token) = site.issue("laptop").await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = rude.accept().await {
            let mut some = [0; 16];
            let _ = stream.read(&mut some).await;
            let _ = stream.write_all(b"NONSENSE\r\n\r\n").await;
        }
    });
    site.get("/", &[&bearer(&token)]).await.is_problem(502, "bad_gateway");
    site.stop().await;
}

/// An upstream whose answer says something every 20 ms, for ever.
async fn ticking() -> std::net::SocketAddr {
    let tick = async || {
        let ticks = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Some((Ok::<_, std::convert::Infallible>(Bytes::from_static(b"data: tick\n\n")), ()))
        });
        ([("content-type", "text/event-stream")], Body::from_stream(ticks)).into_response()
    };
    let never = async || {
        std::future::pending::<()>().await;
    };
    serve(Router::new().route("/events", get(tick)).route("/poll", get(never))).await
}

async fn open(site: &GatewayFixture, path: &str, token: &str) -> TcpStream {
    let mut stream = TcpStream::connect(site.address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\n{}\r\n\r\n", bearer(token));
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let _ = tokio::time::timeout(TEST_TIMEOUT, stream.read_to_end(&mut text)).await.expect("an end");
    String::from_utf8_lossy(&text).into_owned()
}

async fn read_until(stream: &mut TcpStream, end: &str) {
    let mut text = String::new();
    while !text.contains(end) {
        let mut some = [0; 1024];
        let n = tokio::time::timeout(TEST_TIMEOUT, stream.read(&mut some)).await.expect("more").unwrap();
        assert_ne!(n, 0, "ended after {text:?}");
        text += &String::from_utf8_lossy(&some[..n]);
    }
}

#[tokio::test]
async fn events_come_as_they_happen_and_are_cut_when_the_session_ends() {
    let site = GatewayFixture::before(ticking().await).await;
    let (issued, token) = site.issue("laptop").await;
    let mut events = open(&site, "/events", &token).await;
    for _ in 0..3 {
        read_until(&mut events, "data: tick").await;
    }
    site.revoke(&issued).await;
    let text = rest(&mut events).await;
    assert!(!text.contains("\r\n0\r\n\r\n"), "an answer that was cut must not look whole");
    site.stop().await;
}

#[tokio::test]
async fn events_are_cut_when_their_session_expires() {
    let policy = PolicySettings { token_ttl: Some(Millis::new(60_000)), ..PolicySettings::default() };
    let site = GatewayFixture::with(Some(ticking().await), Policy::new(&policy).unwrap(), |_| {}).await;
    let (_, token) = site.issue("laptop").await;
    let mut events = open(&site, "/events", &token).await;
    for _ in 0..5 {
        read_until(&mut events, "data: tick").await;
    }
    site.clock.pass(Millis::new(60_000));
    rest(&mut events).await;
    site.stop().await;
}

#[tokio::test]
async fn a_long_poll_is_answered_when_its_session_ends() {
    let site = GatewayFixture::before(ticking().await).await;
    let (issued, token) = site.issue("laptop").await;
    let mut poll = open(&site, "/poll", &token).await;
    until("the watch", async || site.gateway.enforcer().connections().counts().connections == 1).await;
    site.revoke(&issued).await;
    let mut text = String::new();
    while !text.contains("}") {
        let mut some = [0; 1024];
        let n = tokio::time::timeout(TEST_TIMEOUT, poll.read(&mut some)).await.expect("an answer").unwrap();
        assert_ne!(n, 0, "{text}");
        text += &String::from_utf8_lossy(&some[..n]);
    }
    Reply::parse(&text).is_problem(401, "revoked");
    drop(poll);
    until("the end of the watch", async || site.gateway.enforcer().connections().counts().connections == 0).await;
    site.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_request_with_it() {
    let site = GatewayFixture::before(ticking().await).await;
    let (_, token) = site.issue("laptop").await;
    let mut events = open(&site, "/events", &token).await;
    read_until(&mut events, "data: tick").await;
    until("the watch", async || site.gateway.enforcer().connections().counts().connections == 1).await;
    drop(events);
    until("the end of the watch", async || site.gateway.enforcer().connections().counts().connections == 0).await;
    site.stop().await;
}

#[tokio::test]
async fn a_stop_lets_a_request_end_and_events_too() {
    let (begun, mut begins) = tokio::sync::mpsc::channel::<()>(1);
    let (go_on, gone_on) = tokio::sync::watch::channel(false);
    let slow = move || {
        let (begun, mut gone_on) = (begun.clone(), gone_on.clone());
        async move {
            begun.send(()).await.unwrap();
            gone_on.wait_for(|go| *go).await.unwrap();
            "done"
        }
    };
    let mut site = GatewayFixture::before(serve(Router::new().route("/slow", get(slow))).await).await;
    let (_, token) = site.issue("laptop").await;
    let mut request = open(&site, "/slow", &token).await;
    begins.recv().await.unwrap();
    site.begin_stop();
    until("the listener's end", async || TcpStream::connect(site.address).await.is_err()).await;
    go_on.send(true).unwrap();
    let reply = Reply::parse(&rest(&mut request).await);
    assert_eq!((reply.status, &*reply.body), (200, "done"));
    site.stop().await;

    let mut site = GatewayFixture::before(ticking().await).await;
    let (_, token) = site.issue("laptop").await;
    let mut events = open(&site, "/events", &token).await;
    read_until(&mut events, "data: tick").await;
    site.begin_stop();
    assert!(rest(&mut events).await.ends_with("0\r\n\r\n"), "events end well when the gateway stops");
    site.stop().await;
}

#[tokio::test]
async fn activity_is_written_at_a_clean_stop_at_the_latest() {
    let site = GatewayFixture::before(echo().await).await;
    let (issued, token) = site.issue("laptop").await;
    site.clock.pass(Millis::new(5_000));
    assert_eq!(site.get("/", &[&bearer(&token)]).await.status, 200);
    let (memory, id) = (site.store.clone(), issued.session.id);
    site.stop().await;
    let stored =
        tenure_ports::SessionCommits::find(&*memory, id, tenure_ports::FindOptions::EXACT).await.unwrap().unwrap();
    assert_eq!(stored.last_activity.as_millis(), issued.session.created_at.as_millis() + 5_000);
}

#[tokio::test]
async fn a_person_is_sent_to_the_login_page() {
    let site = GatewayFixture::before(echo().await).await;
    let reply = site.get("/chat?a=b", &["accept: text/html,*/*"]).await;
    assert_eq!((reply.status, reply.header("location")), (303, Some("/_tenure/login?return=%2Fchat%3Fa%3Db")));
    let page = site.get("/_tenure/login?return=%2Fchat%3Fa%3Db", &["accept: text/html,*/*"]).await;
    assert_eq!(page.status, 200);
    assert!(page.body.contains("/chat?a=b"), "{}", page.body);
    site.stop().await;
}

#[tokio::test]
async fn a_websocket_passes_until_its_session_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() {
                socket.send(message).await.unwrap();
            }
        }
    });
    let site = GatewayFixture::before(upstream).await;
    let (issued, token) = site.issue("laptop").await;
    let mut request = format!("ws://{}/socket", site.address).into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    socket.send(Message::text("hello")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("hello"));
    site.revoke(&issued).await;
    let Message::Close(Some(frame)) = socket.next().await.unwrap().unwrap() else { panic!("no close frame") };
    assert_eq!((u16::from(frame.code), frame.reason.as_str()), (4401, "revoked"));
    site.stop().await;
}
