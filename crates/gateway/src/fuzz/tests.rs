//! The fuzzers' entry functions on a fixed seed: what they start from, and what a few thousand changes make of it. That
//! enough of it was something to be held against what must hold is counted too.

#[path = "../../../../fuzz/mutate.rs"]
mod mutate;

use super::*;
use mutate::run;

const LINES: [&[u8]; 31] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"Content-Length: 3\r\n",
    b"content-length:",
    b"Transfer-Encoding: chunked\r\n",
    b"transfer-encoding: gzip\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /b HTTP/1.0\r\n",
    b"5\r\nhello\r\n",
    b"0\r\n",
    b"0\r\n\r\n",
    b";a=\"b\"",
    b"#",
    b"\"",
    b"<",
    b">",
    b"`",
    b"?",
    b" ",
    b"\t",
    b":",
    b"Connection: close\r\n",
    b"Connection: upgrade\r\nUpgrade: websocket\r\n",
    b"Expect: 100-continue\r\n",
    b"http://a",
    b"OPTIONS * HTTP/1.1\r\n",
    b"+",
    b"00",
    b"ffffffffffffffff",
];

#[test]
fn heads_are_judged_as_hyper_reads_them() {
    let passed = run("heads", 4_000, &LINES, heads);
    assert!(passed > 500, "{passed} requests passed");
}

const FRAMES: [&[u8]; 14] = [
    b"\x81\x05hello",
    b"\x81\x85\x01\x02\x03\x04hello",
    b"\x89\x00",
    b"\x80\x00",
    b"\x01\x00",
    b"\x00\x80\0\0\0\0",
    b"\x82\x7e\x00\x02ab",
    b"\x82\xfe\x00\x01\0\0\0\0a",
    b"\x82\x7f\0\0\0\0\0\0\0\x01a",
    b"\x82\xff\x80\0\0\0\0\0\0\0",
    b"\x88\x02\x03\xe8",
    b"\xc1\x00",
    b"\x83\x00",
    b"\xff",
];

#[test]
fn frames_end_where_they_end() {
    let found = run("frames", 15_000, &FRAMES, frames);
    assert!(found > 30_000, "{found} frames");
}

#[test]
fn messages_are_what_their_frames_carry() {
    let found = run("messages", 6_000, &FRAMES, messages);
    assert!(found > 1_000, "{found} messages");
}

const JSON: [&[u8]; 24] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\"",
    b"\\",
    b"\\u0074",
    b"\\ud800",
    b"null",
    b"1e999",
    b"\"token\":\"other\"",
    b",\"token\":\"x\"",
    b",\"auth\":{\"token\":\"y\"}",
    b",\"params\":{}",
    b"\"id\":\"2\",",
    b",\"type\":\"req\"",
    b"[\"req\",\"1\",\"connect\",{}]",
    b"{\"auth\":[\"z\"]}",
    b",\"ok\":false",
    b"\"type\":\"res\",",
    b"true",
    b"\xff",
];

#[test]
fn openclaws_messages_are_read_as_it_reads_them() {
    let found = run("connect", 30_000, &JSON, connect);
    assert!(found > 1_000, "{found} messages");
}

const SHOWN: [&[u8]; 28] = [
    b"\x01",
    b"\x02",
    b"\nC:",
    b"\nA:",
    b"\nP:",
    b"\nS:",
    b"tenure=",
    b"__Host-tenure=",
    b"TENURE=",
    b"Tenure_2=",
    b"__Host-Tenure_2=",
    b"tenure.bearer.",
    b"Bearer ",
    b"bearer\t",
    b"Basic ",
    b"; ",
    b";",
    b",",
    b"=",
    b"\"",
    b" ",
    b"\t",
    b"\xff",
    b"\xc3\xa9",
    b"tnr_",
    b"a=b",
    b"\nC:tenure=\x01",
    b"\nA:Bearer \x01",
];

#[test]
fn tokens_are_found_where_they_stand_and_go_no_further() {
    let found = run("credential", 8_000, &SHOWN, presented_token);
    assert!(found > 800, "{found} tokens");
}

const NAMES: [&[u8]; 27] = [
    b"\nC:",
    b"\nF:",
    b"\nH:",
    b"\nO:",
    b"\nR:",
    b"\nX-Forwarded-User:a",
    b"\nx_forwarded_user:a",
    b"\nX.Remote.User:b",
    b"\nForwarded:for=a",
    b"\nX-Original-URL:/a",
    b"close, ",
    b"x-kept",
    b"Host",
    b",",
    b"10.3.3.3",
    b"203.0.113.7",
    b"[::1]",
    b"::ffff:1.2.3.4",
    b":80",
    b"https",
    b"@",
    b"/",
    b"_",
    b"-",
    b"\nTransfer_Encoding:chunked",
    b"\nCookie:a=b",
    b"\xff",
];

#[test]
fn headers_that_nobody_may_send_go_no_further() {
    let gone = run("headers", 10_000, &NAMES, headers);
    assert!(gone > 10_000, "{gone} headers went");
}

const TARGETS: [&[u8]; 30] = [
    b"/",
    b"//",
    b".",
    b"..",
    b"/../",
    b"admin",
    b"/public/",
    b"/health",
    b"#",
    b"?",
    b";",
    b"\\",
    b"%2e",
    b"%2f",
    b"%5c",
    b"%00",
    b"%25",
    b"%252e",
    b"%c0%ae",
    b"%",
    b"\t",
    b" ",
    b"http://x",
    b"HTTPS://x:1",
    b"u@",
    b"[::1]",
    b"|",
    b"\xff",
    b"%09",
    b"...",
];

#[test]
fn what_is_public_is_so_for_whoever_resolves_it() {
    let public = run("forwarded", 20_000, &TARGETS, forwarded);
    assert!(public > 2_000, "{public} times public");
}
