//! Public paths, compared with how four kinds of servers resolve the same octets.

use proptest::prelude::*;

use super::*;

/// Pieces of which targets are made that mean something to some server.
const PIECES: &[&str] = &[
    "/",
    "//",
    ".",
    "..",
    "/../",
    "/./",
    "admin",
    "a",
    "public",
    "/public/",
    "/health",
    "health",
    "#",
    "?",
    ";",
    ";x=1",
    "\\",
    "%2e",
    "%2E",
    "%2e%2e",
    "%2f",
    "%2F",
    "%5c",
    "%00",
    "%23",
    "%3f",
    "%3b",
    "%25",
    "%252e",
    "%252f",
    "%252e%252e%252f",
    "%c0%ae",
    "%c0%af",
    "%e0%80%ae",
    "%ff",
    "%0d%0a",
    "%09",
    "%20",
    "%",
    "%2",
    "%u002e",
    "\t",
    " ",
    "\r",
    "\n",
    "\0",
    "\u{7f}",
    "\u{e9}",
    "\u{ff0e}",
    "http://x",
    "https://x:8443",
    "http://x#",
    "http://x?",
    "http://u@x",
    "http://[::1]",
    "HTTP://X",
    "http:///",
    "://",
    ":",
    "@",
    "&",
    "=",
    "+",
    "|",
    "[",
    "]",
    "\"",
    "<",
    "^",
    "`",
    "{",
    ",",
    "...",
    "..;",
    ".;",
];

fn text() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => proptest::sample::select(PIECES).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 1..4),
    ];
    let start =
        proptest::sample::select(&["", "/", "/public/", "/public", "/health", "http://x/public/", "http://x"][..]);
    (start, proptest::collection::vec(piece, 0..8))
        .prop_map(|(start, pieces)| [start.as_bytes(), &pieces.concat()].concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_public_is_so_wherever_it_stands_and_whoever_resolves_it(text in text()) {
        judge(&text, &config());
    }
}

#[test]
fn what_an_attacker_tries_is_public_nowhere() {
    for tail in [
        "#/../../admin",
        "#",
        "a#/../../admin",
        "a?b#/../../admin",
        "\\..\\..\\admin",
        "..%5cadmin",
        "%2e%2e/admin",
        "..%2fadmin",
        "%252e%252e%252fadmin",
        "%c0%ae%c0%ae/admin",
        "..;/admin",
        "a/..;x=1/../admin",
        "\t/../admin",
        "..\t/admin",
        "%00/../admin",
        "//admin",
        "\u{e9}",
    ] {
        for start in ["/public/", "http://x/public/", "https://x:443/public/"] {
            let text = format!("{start}{tail}");
            assert_eq!(judge(text.as_bytes(), &config()), 0, "{text:?}");
        }
    }
    for text in [
        "http://x#/public/",
        "http://x?/public/",
        "http://x\\/public/",
        "http://a@x/public/",
        "http://a:b@x/public/",
        "http:///public/",
        "http://x y/public/",
        "http://x\u{e9}/public/",
        "http://x:80a/public/",
        "http://[::1/public/",
        "http://[::g]/public/",
        "http://x",
        "ftp://x/public/",
        "//x/public/",
        "public/",
        " /public/",
        "/public/, /public/",
        "/public/a HTTP/1.1",
        "",
    ] {
        assert_eq!(judge_named(text.as_bytes(), &config()), 0, "{text:?}");
    }
}

#[test]
fn what_people_ask_for_is_public_everywhere() {
    let places = TARGET_HEADERS.len();
    for text in ["/public/", "/public/a/b.css?v=1&c[]=2", "/public/%C3%BC%20[id].js", "/public/a;v=1", "/health?x"] {
        assert_eq!(judge(text.as_bytes(), &config()), places + 3, "{text:?}");
    }
    for host in ["x", "a.b-c_d:8443", "[::1]:80", "127.0.0.1", "X:"] {
        for scheme in ["http", "https", "HTTP"] {
            let url = format!("{scheme}://{host}/public/a?b");
            assert!(judge(url.as_bytes(), &config()) >= places, "{url:?}");
        }
    }
}
