//! A proxy that loses requests or answers at chosen moments.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

/// What is lost of a marked request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The request never reaches the server.
    Request,
    /// The request takes effect, and its answer never reaches the client.
    Answer,
}

#[derive(Default)]
struct Plan {
    /// A mark: requests with this argument, and what is lost of them.
    next: Mutex<Option<(Vec<u8>, Lost)>>,
    left: AtomicU64,
    cuts: AtomicU64,
    closed: AtomicBool,
}

/// A proxy that passes bytes between clients and a server, and closes the connection at marked requests.
pub struct Proxy {
    plan: Arc<Plan>,
    port: u16,
}

impl Proxy {
    /// Starts a proxy in front of the server on this port of 127.0.0.1.
    ///
    /// # Panics
    /// If there is no free port.
    #[must_use]
    pub fn start(server: u16) -> Self {
        let bound =
            TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| Ok((listener.local_addr()?.port(), listener)));
        let (port, listener) = bound.unwrap_or_else(|error| panic!("no free port on 127.0.0.1: {error}"));
        let plan = Arc::new(Plan::default());
        let shared = Arc::clone(&plan);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if shared.closed.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(client), Ok(upstream)) = (client, TcpStream::connect(("127.0.0.1", server))) else { continue };
                let plan = Arc::clone(&shared);
                std::thread::spawn(move || relay(&plan, client, upstream));
            }
        });
        Self { plan, port }
    }

    /// Returns the URL at which clients connect.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Loses the next `times` requests that have `word` as one of their arguments, each with its connection.
    pub fn lose(&self, what: Lost, word: &str, times: u64) {
        *self.plan.next.lock() = Some((format!("\r\n{word}\r\n").into_bytes(), what));
        self.plan.left.store(times, Ordering::SeqCst);
    }

    /// Returns how many requests were lost so far.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.plan.cuts.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.plan.closed.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts. If that fails, it has already ended.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

impl Plan {
    /// Whether these bytes are a request to be lost. It is then counted.
    fn takes(&self, bytes: &[u8]) -> Option<Lost> {
        let next = self.next.lock();
        let (word, what) = next.as_ref()?;
        if !bytes.windows(word.len()).any(|window| window == word) {
            return None;
        }
        self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).ok()?;
        self.cuts.fetch_add(1, Ordering::SeqCst);
        Some(*what)
    }
}

/// Sends a second command after a request, to know when the request has taken effect.
const ECHO: &[u8] = b"*2\r\n$4\r\nECHO\r\n$14\r\nall of it done\r\n";
const MARK: &[u8] = b"all of it done";

/// Until one side closes, or a request is to be lost.
fn relay(plan: &Arc<Plan>, client: TcpStream, upstream: TcpStream) {
    let clones = client.try_clone().and_then(|client| Ok((client, upstream.try_clone()?)));
    let Ok((mut to_client, mut from_server)) = clones else { return };
    let (mut from_client, mut to_server) = (client, upstream);
    let cut = Arc::new(AtomicBool::new(false));
    let silent = Arc::clone(&cut);
    let down = std::thread::spawn(move || {
        let (mut buffer, mut unheard) = ([0; 65_536], Vec::new());
        while let Ok(count @ 1..) = from_server.read(&mut buffer) {
            if silent.load(Ordering::SeqCst) {
                // Everything before the second command has taken effect.
                unheard.extend_from_slice(&buffer[..count]);
                if unheard.windows(MARK.len()).any(|window| window == MARK) {
                    break;
                }
                continue;
            }
            if to_client.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        drop(to_client.shutdown(Shutdown::Both));
        drop(from_server.shutdown(Shutdown::Both));
    });
    let mut buffer = [0; 65_536];
    while let Ok(count @ 1..) = from_client.read(&mut buffer) {
        match plan.takes(&buffer[..count]) {
            Some(Lost::Request) => break,
            Some(Lost::Answer) => {
                cut.store(true, Ordering::SeqCst);
                let sent = to_server.write_all(&buffer[..count]).and_then(|()| to_server.write_all(ECHO));
                if sent.is_ok() {
                    // It ends once the server has answered all of it.
                    drop(down.join());
                    return;
                }
                break;
            }
            None if to_server.write_all(&buffer[..count]).is_err() => break,
            None => {}
        }
    }
    drop(from_client.shutdown(Shutdown::Both));
    drop(to_server.shutdown(Shutdown::Both));
    drop(down.join());
}
