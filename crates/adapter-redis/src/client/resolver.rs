//! Resolving host names, and choosing among the addresses of a name: each is tried in turn (RFC 8305), and dropped when
//! the name no longer resolves to it.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::{sleep, timeout};

use crate::client::request_error::RequestError;

/// The longest and the shortest pause before the next address is tried while the last one does not answer (RFC 8305
/// section 8).
const LONGEST_DELAY: Duration = Duration::from_millis(250);
const SHORTEST_DELAY: Duration = Duration::from_millis(10);
/// How often a name is looked up again while a connection to one of its addresses is open, and how long that may take.
const LOOK_UP_EVERY: Duration = Duration::from_secs(2);
const LOOK_UP_LIMIT: Duration = Duration::from_secs(2);

type LookUp = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// A resolver of host names.
#[derive(Clone)]
pub struct Resolver(Arc<LookUp>);

impl Resolver {
    /// Makes a resolver that calls this function, which may block.
    #[must_use]
    pub fn new(look_up: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(look_up))
    }

    /// Returns the addresses of a host, in the order that the system prefers.
    pub(crate) async fn look_up(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = host.parse() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let (look_up, host) = (Arc::clone(&self.0), host.to_owned());
        let found = tokio::task::spawn_blocking(move || look_up(&host, port)).await.map_err(io::Error::other)??;
        if found.is_empty() { Err(io::Error::other("the name has no address")) } else { Ok(found) }
    }

    /// Ends once the name is known not to resolve to this address any more. A failed look-up does not count.
    pub(crate) async fn moved_from(&self, host: &str, address: SocketAddr) {
        loop {
            sleep(LOOK_UP_EVERY).await;
            let found = timeout(LOOK_UP_LIMIT, self.look_up(host, address.port())).await;
            if found.is_ok_and(|found| found.is_ok_and(|found| !found.contains(&address))) {
                return;
            }
        }
    }
}

impl Default for Resolver {
    /// Makes a resolver that asks the system.
    fn default() -> Self {
        Self::new(|host, port| Ok((host, port).to_socket_addrs()?.collect()))
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

/// Returns the first successful result. The next address is tried when one has failed, and in parallel when it does not
/// answer for a while. `within` is the time limit for all of them.
pub(crate) async fn first<T, F>(
    addresses: Vec<SocketAddr>,
    within: Duration,
    attempt: impl Fn(SocketAddr) -> F,
) -> Result<T, RequestError>
where
    F: Future<Output = Result<T, RequestError>>,
{
    let several = addresses.len() > 1;
    let parts = u32::try_from(addresses.len()).unwrap_or(u32::MAX).saturating_add(1);
    let delay = (within / parts).clamp(SHORTEST_DELAY, LONGEST_DELAY);
    let mut waiting = alternating(addresses).into_iter();
    let mut tried = FuturesUnordered::new();
    let mut failed: Option<RequestError> = None;
    loop {
        if let Some(address) = waiting.next() {
            let outcome = attempt(address);
            tried.push(async move { (address, outcome.await) });
        }
        let next = tokio::select! {
            next = tried.next() => next,
            () = sleep(delay), if waiting.len() > 0 => continue,
        };
        match next {
            Some((_, Ok(made))) => return Ok(made),
            Some((address, Err(failure))) => {
                let failure = if several { failure.at(&address) } else { failure };
                // An error of a server is more useful than the error that there is none.
                if failed.as_ref().is_none_or(|known| matches!(known, RequestError::NotSent(_))) {
                    failed = Some(failure);
                }
            }
            None => return Err(failed.unwrap_or_else(|| RequestError::not_sent("the name has no address"))),
        }
    }
}

/// Returns the addresses with the families alternating, beginning with that of the first (RFC 8305 section 4).
fn alternating(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_ipv4 = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let (one, other): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| address.is_ipv4() == first_is_ipv4);
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    let mut all = Vec::new();
    loop {
        let pair = [one.next(), other.next()];
        if pair == [None, None] {
            return all;
        }
        all.extend(pair.into_iter().flatten());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A test waits for this long at most.
    const SOON: Duration = Duration::from_secs(30);

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_families_take_turns() {
        let mixed = addresses(&["[::1]:1", "[::2]:1", "[::3]:1", "10.0.0.1:1", "10.0.0.2:1"]);
        let wanted = addresses(&["[::1]:1", "10.0.0.1:1", "[::2]:1", "10.0.0.2:1", "[::3]:1"]);
        assert_eq!(alternating(mixed), wanted);
    }

    #[tokio::test]
    async fn the_next_address_is_tried_beside_a_silent_one() {
        let outcome =
            first(addresses(&["10.0.0.1:1", "10.0.0.2:1"]), Duration::from_millis(30), |address| async move {
                if address.ip().to_string() == "10.0.0.1" {
                    std::future::pending::<()>().await;
                }
                Ok(address)
            });
        assert_eq!(timeout(SOON, outcome).await.unwrap(), Ok("10.0.0.2:1".parse().unwrap()));
    }

    #[tokio::test]
    async fn a_refusing_address_is_not_waited_for_and_the_most_telling_failure_is_told() {
        let tried = Mutex::new(Vec::new());
        let all = addresses(&["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"]);
        let outcome = first::<(), _>(all, SOON * 1_000, |address| {
            tried.lock().unwrap().push(address);
            let second = address.ip().to_string() == "10.0.0.2";
            async move { Err(if second { RequestError::refused("no") } else { RequestError::not_sent("refused") }) }
        });
        assert_eq!(outcome.await, Err(RequestError::refused("10.0.0.2:1: no")));
        assert_eq!(tried.into_inner().unwrap().len(), 3);
    }
}
