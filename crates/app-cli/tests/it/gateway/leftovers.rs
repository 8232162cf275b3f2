//! Remains of a token in the gateway's memory after the response, as root or a debugger would find them. Nothing of its
//! text remains. Its decoded bytes, which are on stacks during the verification, may stay until they are overwritten.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::thread;

use serde_json::Value;

use crate::gateway::{Gateway, eventually, request};
use crate::support::home::Home;

const ENROL: &str = "the enrolment secret of the house";

/// A range of another process's memory.
struct Mapping {
    from: u64,
    to: u64,
}

/// Returns the writable memory of a process except its stacks. The first thread's stack has a name; every other stack is
/// directly above a guard page.
fn heap(pid: u32) -> Vec<Mapping> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let (mut heap, mut guard) = (Vec::new(), None);
    for line in maps.lines() {
        let mut fields = line.split_whitespace();
        let (from, to) = fields.next().unwrap().split_once('-').unwrap();
        let [from, to] = [from, to].map(|end| u64::from_str_radix(end, 16).unwrap());
        let rights = fields.next().unwrap();
        if rights.starts_with("rw") && guard != Some(from) && !line.ends_with("[stack]") {
            heap.push(Mapping { from, to });
        }
        guard = (rights.starts_with("---") && to - from <= 64 * 1024).then_some(to);
    }
    heap
}

/// Counts how often each text is in the memory.
fn count(pid: u32, needles: &[Vec<u8>]) -> Vec<usize> {
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut found = vec![0; needles.len()];
    for Mapping { from, to } in heap(pid) {
        let mut octets = vec![0; usize::try_from(to - from).unwrap()];
        // A range that has been unmapped meanwhile cannot be read.
        if memory.read_exact_at(&mut octets, from).is_ok() {
            for (found, needle) in found.iter_mut().zip(needles) {
                *found += memchr::memmem::find_iter(&octets, needle).count();
            }
        }
    }
    found
}

/// Returns the two halves of the secret in the text of a token.
fn traces(token: &str) -> [Vec<u8>; 2] {
    let secret = &token.split('_').nth(2).unwrap().as_bytes()[..43];
    [secret[..21].to_vec(), secret[22..].to_vec()]
}

/// An upstream that answers one request when the test says so, and returns the request.
fn upstream() -> (String, impl FnMut(&str) -> String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = move |body: &str| {
        let mut stream = BufReader::new(listener.accept().unwrap().0);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            stream.read_line(&mut head).unwrap();
        }
        let answer = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.get_mut().write_all(answer.as_bytes()).unwrap();
        head
    };
    (url, answer)
}

#[test]
fn no_text_of_a_token_is_left_once_its_request_is_over() {
    let home = Home::json();
    fs::write(home.path("enrol"), ENROL).unwrap();
    let (url, mut answer) = upstream();
    let gateway = Gateway::start(&home, &["--upstream", &url, "--enrol-secret-file", "enrol"]);
    let ask = |line: &str, fields: &str, body: &str| {
        let length = body.len();
        let head =
            format!("{line} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {length}\r\n{fields}\r\n");
        request(&gateway.clients, &format!("{head}{body}"))
    };
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let told = |answer: &crate::gateway::Answer| {
        let body: Value = serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}"));
        body["token"].as_str().unwrap().to_owned()
    };

    // During a request its token is in memory, and the search finds it.
    let held = home.issue("held");
    let mut open = TcpStream::connect(&gateway.clients).unwrap();
    write!(open, "GET /held HTTP/1.1\r\nHost: h\r\nCookie: tenure={held}\r\n\r\n").unwrap();
    eventually("a token under way", || count(gateway.pid(), &traces(&held)).iter().all(|times| *times > 0));
    assert!(!answer("held").contains("tnr_"));
    drop(open);

    let (shown, by_cookie, by_form, old) =
        (home.issue("shown"), home.issue("cookie"), home.issue("form"), home.issue("rotated"));
    assert_eq!(ask("GET /_tenure/auth", &bearer(&shown), "").status, 204);
    let passed = thread::scope(|scope| {
        let passed = scope.spawn(|| ask("GET /a", &format!("Cookie: a=b; tenure={by_cookie}\r\n"), "").status);
        assert!(!answer("done").contains("tnr_"));
        passed.join().unwrap()
    });
    assert_eq!(passed, 200);
    let form = "Origin: http://h\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    let logged_in = ask("POST /_tenure/login", form, &format!("token={by_form}"));
    assert!(logged_in.status == 303 && logged_in.head.contains("set-cookie: tenure="), "{logged_in:?}");
    let new = told(&ask("POST /_tenure/v1/token/rotate", &bearer(&old), ""));
    let json = format!("{}Content-Type: application/json\r\n", bearer(ENROL));
    let enrolled = told(&ask("POST /_tenure/v1/sessions", &json, "{\"deviceId\": \"phone\"}"));
    assert_eq!(ask("DELETE /_tenure/v1/session", &bearer(&enrolled), "").status, 204);
    let mistyped = format!("{}x", &shown[..shown.len() - 1]);
    assert_eq!(ask("GET /a", &bearer(&mistyped), "").status, 401);

    let tokens = [held, shown, by_cookie, by_form, old, new, enrolled];
    let needles: Vec<Vec<u8>> = tokens.iter().flat_map(|token| traces(token)).collect();
    // The gateway may still be closing a connection that the client already saw closed.
    eventually("an end of all traces", || count(gateway.pid(), &needles).iter().all(|times| *times == 0));
}
