//! A gateway that is restarted while clients send requests: it answers every request that it has accepted.

use std::collections::HashSet;
use std::io::{self, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use parking_lot::Mutex;

use crate::gateway::{Gateway, eventually};
use crate::on_both_backends;
use crate::support::home::Home;

on_both_backends!(a_restart_under_load_loses_nothing_accepted);

const PATIENCE: Duration = Duration::from_secs(60);
/// The response time of the upstream, long enough that a request is always in progress.
const THINKING: Duration = Duration::from_millis(20);
/// The number of clients of each kind.
const CLIENTS: usize = 4;

/// An upstream that answers each request with its path, and records the paths.
#[derive(Clone, Default)]
struct Upstream {
    seen: Arc<Mutex<HashSet<String>>>,
    under_way: Arc<AtomicUsize>,
}

impl Upstream {
    /// Starts an upstream, and returns it with its address.
    fn start() -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let upstream = Self::default();
        let kept = upstream.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let upstream = kept.clone();
                std::thread::spawn(move || upstream.serve(stream));
            }
        });
        (upstream, url)
    }

    /// Answers requests until the connection ends.
    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream);
        loop {
            let (first, _) = head(&mut reader)?;
            let path = first.split(' ').nth(1).unwrap().to_owned();
            self.under_way.fetch_add(1, SeqCst);
            self.seen.lock().insert(path.clone());
            std::thread::sleep(THINKING);
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}", path.len());
            let sent = reader.get_mut().write_all(answer.as_bytes());
            self.under_way.fetch_sub(1, SeqCst);
            sent?;
        }
    }
}

/// Reads the first line of a message, and the rest of its head in lower case.
fn head(reader: &mut impl io::BufRead) -> io::Result<(String, String)> {
    let (mut first, mut rest) = (String::new(), String::new());
    reader.read_line(&mut first)?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line == "\r\n" {
            return Ok((first, rest));
        }
        rest.push_str(&line.to_ascii_lowercase());
    }
}

/// A connection of a client.
struct Line {
    reader: BufReader<TcpStream>,
    /// Whether the connection has had a response.
    used: bool,
}

impl Line {
    fn connect(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { reader: BufReader::new(stream), used: false })
    }

    fn send(&mut self, token: &str, path: &str) -> io::Result<()> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n\r\n");
        self.reader.get_mut().write_all(request.as_bytes())
    }

    /// Reads a whole response, which has to be the path. Returns whether the connection may be used again.
    fn receive(&mut self, path: &str) -> io::Result<bool> {
        let (status, fields) = head(&mut self.reader)?;
        let length = fields.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        let mut body = vec![0; length.unwrap().parse().unwrap()];
        self.reader.read_exact(&mut body)?;
        let body = String::from_utf8(body).unwrap();
        assert_eq!((status.as_str(), body.as_str()), ("HTTP/1.1 200 OK\r\n", path));
        self.used = true;
        Ok(!fields.contains("connection: close"))
    }

    /// Returns whether the gateway has closed the idle connection.
    fn is_closed(&self) -> bool {
        let stream = self.reader.get_ref();
        stream.set_nonblocking(true).unwrap();
        let closed = !matches!(stream.peek(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        stream.set_nonblocking(false).unwrap();
        closed
    }
}

/// The outcomes of the requests of all clients.
#[derive(Default)]
struct Met {
    answered: AtomicUsize,
    refused: AtomicUsize,
    /// Requests without a whole response, and whether their connection had an earlier response.
    failed: Mutex<Vec<(String, bool)>>,
}

impl Met {
    /// Sends requests until the test ends.
    fn ask(&self, name: &str, address: &str, token: &str, keep: bool, end: &AtomicBool) {
        let mut kept: Option<Line> = None;
        for number in 0.. {
            if end.load(SeqCst) {
                return;
            }
            let mut line = match kept.take() {
                Some(line) if !line.is_closed() => line,
                _ => self.connect(address),
            };
            let path = format!("/{name}/{number}");
            match line.send(token, &path).and_then(|()| line.receive(&path)) {
                Ok(again) => {
                    self.answered.fetch_add(1, SeqCst);
                    kept = (keep && again).then_some(line);
                }
                Err(_) => self.failed.lock().push((path, line.used)),
            }
        }
    }

    /// Connects as soon as the gateway listens.
    fn connect(&self, address: &str) -> Line {
        let mut line = None;
        eventually("a connection", || {
            line = Line::connect(address).ok();
            if line.is_none() {
                self.refused.fetch_add(1, SeqCst);
                // Yields the processor to the gateway that is starting.
                std::thread::sleep(Duration::from_millis(1));
            }
            line.is_some()
        });
        line.unwrap()
    }
}

/// Returns a free address outside the range from which clients get their ports.
fn free_address() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 10_000).unwrap();
    loop {
        let port = 20_000 + (start + NEXT.fetch_add(1, SeqCst)) % 10_000;
        let address = format!("127.0.0.1:{port}");
        if TcpListener::bind(&address).is_ok() {
            return address;
        }
    }
}

fn a_restart_under_load_loses_nothing_accepted(home: Home) {
    let (upstream, url) = Upstream::start();
    let (address, token) = (free_address(), home.issue("laptop"));
    let (met, end) = (Met::default(), AtomicBool::new(false));
    let start = || Gateway::start_at(&home, &address, &["--upstream", &url]);
    let mut gateway = start();
    std::thread::scope(|threads| {
        for client in 0..CLIENTS {
            for (kind, keep) in [("fresh", false), ("kept", true)] {
                let (met, end, address, token) = (&met, &end, &address, &token);
                threads.spawn(move || met.ask(&format!("{kind}{client}"), address, token, keep, end));
            }
        }
        let load = |more: usize| {
            let before = met.answered.load(SeqCst);
            eventually("answers", || met.answered.load(SeqCst) >= before + more);
        };
        for _ in 0..3 {
            load(100);
            eventually("a request under way", || upstream.under_way.load(SeqCst) > 0);
            assert_eq!(gateway.stop(), Some(0));
            // The old connections are still in TIME_WAIT in the kernel.
            gateway = start();
        }
        load(100);
        end.store(true, SeqCst);
    });

    let (seen, failed) = (upstream.seen.lock(), met.failed.lock());
    let (lost, unseen): (Vec<_>, Vec<_>) = failed.iter().partition(|(path, _)| seen.contains(path));
    let (raced, reset): (Vec<_>, Vec<_>) = unseen.into_iter().partition(|(_, used)| *used);
    println!(
        "{} answered, {} connects refused; {} lost, {} reset on a fresh connection, {} asked as theirs was closed",
        met.answered.load(SeqCst),
        met.refused.load(SeqCst),
        lost.len(),
        reset.len(),
        raced.len(),
    );
    assert!(lost.is_empty(), "accepted, and not answered: {lost:?}");
}

#[test]
fn what_waits_to_be_accepted_at_a_stop_is_answered() {
    let home = Home::json();
    let (_upstream, url) = Upstream::start();
    let token = home.issue("laptop");
    let mut gateway = Gateway::start(&home, &["--upstream", &url]);
    // While it stands still, connections and their requests wait in the kernel: more than it accepts in one go before it
    // looks whether it is to stop.
    gateway.signal("STOP");
    let mut lines: Vec<_> = (0..200)
        .map(|number| {
            let (mut line, path) = (Line::connect(&gateway.clients).unwrap(), format!("/{number}"));
            line.send(&token, &path).unwrap();
            (line, path)
        })
        .collect();
    gateway.signal("TERM");
    gateway.signal("CONT");
    let answers: Vec<_> = lines.iter_mut().map(|(line, path)| line.receive(path)).collect();
    let without = answers.iter().filter(|answer| answer.is_err()).count();
    assert_eq!(without, 0, "of {}: {answers:?}", answers.len());
    assert!(answers.iter().all(|answer| matches!(answer, Ok(false))), "they are told that it closes: {answers:?}");
    assert_eq!(gateway.exit_code(), Some(0));
}
