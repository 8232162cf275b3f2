//! The event stream and the API for operators, while other processes use the same store.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use crate::gateway::{Answer, Gateway, request};
use crate::on_both_backends;
use crate::support::home::{Home, id_of};

on_both_backends!(
    changes_by_other_processes_are_told_and_a_stop_ends_the_stream,
    counters_count_what_clients_do,
    the_most_talkative_log_tells_no_secret,
);

/// Reads lines until one contains the text, and returns it.
fn until(lines: &mut impl Iterator<Item = String>, part: &str) -> String {
    lines.find(|line| line.contains(part)).unwrap_or_else(|| panic!("the stream ended without {part:?}"))
}

fn changes_by_other_processes_are_told_and_a_stop_ends_the_stream(home: Home) {
    let mut gateway = Gateway::start(&home, &[]);
    let mut stream = TcpStream::connect(&gateway.operators).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let head = format!(
        "GET /events HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\r\n",
        gateway.operators, gateway.admin_secret
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut lines = BufReader::new(stream).lines().map(|line| line.unwrap());
    assert!(until(&mut lines, "HTTP/1.1").contains(" 200 "));
    until(&mut lines, ": following");

    let token = home.issue("laptop");
    assert!(until(&mut lines, "\"kind\":\"issued\"").contains(id_of(&token)));
    home.feed(&["token", "rotate"], &token).succeeds();
    assert!(until(&mut lines, "\"kind\":\"rotated\"").contains(id_of(&token)));
    home.run(&["sessions", "revoke", id_of(&token)]).succeeds();
    assert!(until(&mut lines, "\"kind\":\"revoked\"").contains(id_of(&token)));

    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(lines.filter(|line| line.contains("data:")).count(), 0);
    let log = std::fs::read_to_string(home.path("gateway.log")).unwrap();
    assert!(!log.contains("did not end in time"), "{log}");
}

fn counters_count_what_clients_do(home: Home) {
    let gateway = Gateway::start(&home, &[]);
    let token = home.issue("laptop");
    assert!(gateway.auth(&token).status < 300);
    home.run(&["sessions", "revoke", id_of(&token)]).succeeds();
    assert_eq!(gateway.auth(&token).status, 401);
    let head = format!(
        "GET /metrics HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
        gateway.operators, gateway.admin_secret
    );
    let metrics = request(&gateway.operators, &head).body;
    for line in [
        "tenure_requests_total{outcome=\"admitted\"} 1",
        "tenure_requests_total{outcome=\"refused\"} 1",
        "tenure_refusals_total{code=\"revoked\"} 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is missing in\n{metrics}");
    }
    assert!(!metrics.contains(id_of(&token)) && !metrics.contains("laptop"));
}

fn the_most_talkative_log_tells_no_secret(home: Home) {
    const ENROL: &str = "an enrolment secret of this test";
    home.write("enrol.secret", ENROL);
    let mut gateway = Gateway::start(&home, &["-vv", "--enrol-secret-file", "enrol.secret"]);
    let ask = |address: &str, line: &str, secret: &str, kind: &str, body: &str| {
        let length = body.len();
        let text = format!(
            "{line} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {secret}\r\nContent-Type: {kind}\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        request(address, &text)
    };
    let (clients, operators) = (gateway.clients.clone(), gateway.operators.clone());
    let enrolled = ask(&clients, "POST /_tenure/v1/sessions", ENROL, "application/json", "{\"deviceId\": \"laptop\"}");
    assert_eq!(enrolled.status, 201, "{enrolled:?}");
    let token =
        |answer: &Answer| serde_json::from_str::<Value>(&answer.body).unwrap()["token"].as_str().unwrap().to_owned();
    let old = token(&enrolled);
    let rotated = ask(&clients, "POST /_tenure/v1/token/rotate", &old, "text/plain", "");
    assert_eq!(rotated.status, 200, "{rotated:?}");
    let new = token(&rotated);
    let form = "application/x-www-form-urlencoded";
    assert_eq!(ask(&clients, "GET /_tenure/v1/sessions", &old, "text/plain", "").status, 401);
    let asked = ask(&operators, "POST /oauth2/introspect", &gateway.admin_secret, form, &format!("token={new}"));
    assert!(asked.body.contains("\"active\":true"), "{asked:?}");
    assert_eq!(
        ask(&operators, "POST /oauth2/introspect", "guessed in vain", form, &format!("token={new}")).status,
        401
    );
    assert_eq!(
        ask(&operators, "POST /oauth2/revoke", &gateway.admin_secret, form, &format!("token={new}")).status,
        200
    );
    assert_eq!(gateway.stop(), Some(0));
    let log = std::fs::read_to_string(home.path("gateway.log")).unwrap();
    assert!(log.contains("a client sent a wrong secret") && log.contains("revoked by an OAuth client"), "{log}");
    for secret in [&old[25..], &new[25..], &gateway.admin_secret, ENROL, "guessed in vain"] {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
}
