//! What operators follow and read of a running gateway, while other processes work on the same store.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::gateway::{Gateway, request};
use crate::home::{Home, id_of};
use crate::on_both_backends;

on_both_backends!(changes_by_other_processes_are_told_and_a_stop_ends_the_stream, counters_count_what_clients_do,);

/// Reads lines until one has the text, and answers it.
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
