//! However the bytes arrive: heads are found where they are, and nowhere else.

use proptest::prelude::*;

use super::*;

const MOST: usize = 64 * 1024;

/// Looks at the same bytes in pieces that end at these places, as far as they are ones.
fn verdict(bytes: &[u8], cuts: &[usize]) -> (Result<(), AmbiguousRequest>, u64) {
    let mut scanner = HeadScanner::new(MOST);
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.sort_unstable();
    let mut from = 0;
    for to in cuts.into_iter().chain([bytes.len()]) {
        if let Err(unclear) = scanner.scan(&bytes[from..to]) {
            return (Err(unclear), scanner.heads);
        }
        from = to;
    }
    (Ok(()), scanner.heads)
}

/// What a body may hold: also what would be refused in a head.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()),
        Just(b"POST / HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n".to_vec()),
        Just(b"0\r\n\r\n".to_vec()),
        Just(b"\n".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..40),
    ];
    proptest::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat())
}

/// A request that nobody can misunderstand.
fn request() -> impl Strategy<Value = Vec<u8>> {
    let sized = body().prop_map(|body| {
        let head = format!("POST /a HTTP/1.1\r\nHost: a\r\nContent-LENGTH:\t{} \r\nX-A: b\r\n\r\n", body.len());
        [head.into_bytes(), body].concat()
    });
    let chunked = (proptest::collection::vec(body(), 0..4), any::<bool>()).prop_map(|(chunks, decorated)| {
        let mut whole = b"POST /b HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        let extension = if decorated { ";name=\"content-length: 1\"" } else { "" };
        for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
            whole.extend(format!("{:x}{extension}\r\n", chunk.len()).bytes());
            whole.extend([chunk, &b"\r\n"[..]].concat());
        }
        whole.extend(format!("0{extension}\r\n").bytes());
        if decorated {
            whole.extend(b"content-length: 1\r\ntransfer-encoding: chunked\r\n");
        }
        whole.extend(b"\r\n");
        whole
    });
    let to_escape = Just(b"\r\nGET /c HTTP/1.1\r\nhost: a\r\ncontent-length-not: 5\r\n\r\n".to_vec());
    prop_oneof![sized, chunked, to_escape]
}

/// Fields that may not stand in one head.
const UNCLEAR: [&str; 8] = [
    "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
    "transfer-encoding: chunked\r\nx-a: b\r\ncontent-length: 4\r\n",
    "transfer-encoding:\r\ncontent-length:4\r\n",
    "content-length: 4\r\ncontent-length: 4\r\n",
    "content-length: +4\r\n",
    "content-length: 4, 4\r\n",
    "content-length: 99999999999999999999\r\n",
    "x-a: b\nx-c: d\r\n",
];

proptest! {
    #[test]
    fn bodies_are_never_taken_for_heads(
        requests in proptest::collection::vec(request(), 0..6),
        cuts in proptest::collection::vec(any::<usize>(), 0..20),
    ) {
        prop_assert_eq!(verdict(&requests.concat(), &cuts), (Ok(()), requests.len() as u64));
    }

    #[test]
    fn an_unclear_head_is_found_wherever_it_stands(
        requests in proptest::collection::vec(request(), 0..6),
        fields in proptest::sample::select(&UNCLEAR[..]),
        rest in body(),
        cuts in proptest::collection::vec(any::<usize>(), 0..20),
    ) {
        let head = format!("POST /d HTTP/1.1\r\nhost: a\r\n{fields}\r\n");
        let whole = [requests.concat(), head.into_bytes(), rest].concat();
        let (found, _) = verdict(&whole, &cuts);
        prop_assert_eq!(found.map_err(|unclear| unclear.head), Err(requests.len() as u64));
    }

    #[test]
    fn the_verdict_is_the_same_however_the_bytes_are_split(
        requests in proptest::collection::vec(request(), 0..3),
        noise in body(),
        at in any::<usize>(),
        cuts in proptest::collection::vec(any::<usize>(), 0..40),
    ) {
        let mut whole = requests.concat();
        let at = at % (whole.len() + 1);
        whole.splice(at..at, noise);
        prop_assert_eq!(verdict(&whole, &cuts), verdict(&whole, &[]));
    }
}

#[test]
fn what_cannot_be_followed_marks_the_head_that_would_come_next() {
    let chunked = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    let line_length = format!("5;{}\r\nhello", "x".repeat(MOST));
    for body in
        ["5\nhello", "x\r\n", "+5\r\n", "\r\n", "-1\r\n", "10000000000000000\r\n", "5\r\nhello!\r\n", &line_length]
    {
        let (found, _) = verdict(format!("{chunked}{body}").as_bytes(), &[]);
        assert_eq!(found.unwrap_err().head, 1, "{body:?}");
    }
    assert_eq!(verdict(b"GET / HTTP/1.1\n", &[]).0.unwrap_err().head, 0);
}

#[test]
fn what_half_heads_hold_is_counted_over_all_connections_and_given_back() {
    let all = Arc::new(AtomicUsize::new(0));
    let partial_head = || PartialHead { all: all.clone(), counted: 0 };
    let mut scanner = HeadScanner::new(MOST);
    scanner.scan(b"GET / HTTP/1.1\r\nx: ").unwrap();
    scanner.scan(&[b'y'; 10_000]).unwrap();
    assert_eq!(scanner.size, 10_019);
    let mut one = partial_head();
    assert!(one.update(scanner.size) && all.load(Ordering::Relaxed) == 10_019);
    scanner.scan(b"\r\n\r\n").unwrap();
    assert_eq!(scanner.size, 0);
    assert!(one.update(scanner.size) && all.load(Ordering::Relaxed) == 0);
    assert!(one.update(SMALL_HEAD) && all.load(Ordering::Relaxed) == 0, "what is usual is not counted");
    let mut many: Vec<PartialHead> = (0..MAX_PARTIAL_HEADS / MOST).map(|_| partial_head()).collect();
    assert!(many.iter_mut().all(|partial_head| partial_head.update(MOST)));
    assert!(!one.update(SMALL_HEAD + 1));
    drop(many);
    drop(one);
    assert_eq!(all.load(Ordering::Relaxed), 0);
}

#[test]
fn of_a_long_field_little_is_kept_and_its_end_is_seen_all_the_same() {
    let line_length = "y".repeat(20_000);
    for (head, found) in [
        (format!("GET / HTTP/1.1\r\nx: {line_length}\r\n\r\n"), Ok(())),
        (format!("GET / HTTP/1.1\r\nx: {line_length}\n\r\n"), Err("a line must end with CR and LF")),
        (
            format!("GET / HTTP/1.1\r\ncontent-length: {}5\r\n\r\n", " ".repeat(300)),
            Err("the length of a body must be a number"),
        ),
        (format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(MOST)), Err("a line is too long")),
    ] {
        for step in [1, 2, 7, 1_000, head.len()] {
            let mut scanner = HeadScanner::new(MOST);
            let looked = head.as_bytes().chunks(step).try_for_each(|piece| {
                let looked = scanner.scan(piece);
                assert!(scanner.line_start.capacity() <= 4 * FIELD_PREFIX, "{}", scanner.line_start.capacity());
                looked
            });
            assert_eq!(looked.map_err(|unclear| unclear.text), found, "in pieces of {step}");
        }
    }
}
