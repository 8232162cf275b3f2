//! Where a session is used from: recorded when that changes, apart from the request that shows it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;
use http::header::USER_AGENT;
use parking_lot::Mutex;
use tenure_domain::{ClientField, ClientInfo, Session, SessionId, cleaned};
use tokio::sync::Semaphore;

use crate::enforce::Gate;
use crate::peer::Peer;

/// A session that is used from several places in turn is described anew so often at most: each time is a durable write.
const EVERY: Duration = Duration::from_secs(60);
/// So many sessions are remembered as described lately.
const REMEMBERED: usize = 8192;
/// So many are described at once; others wait for their next request.
const AT_ONCE: usize = 64;
/// The longest user agent that is recorded, in characters.
const AGENT_MAX: usize = 256;

/// Records clients' addresses and user agents.
pub(crate) struct Describer {
    lately: Mutex<HashMap<SessionId, Instant>>,
    permits: Arc<Semaphore>,
}

impl Default for Describer {
    fn default() -> Self {
        Self { lately: Mutex::default(), permits: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

impl Describer {
    /// Compares where the session is used from with what it has recorded, and has a difference written meanwhile.
    pub(crate) fn note(&self, gate: &Arc<Gate>, session: &Session, peer: &Peer, headers: &HeaderMap) {
        let agent = agent(headers);
        if !differs(&session.client, peer.address, agent) || !self.is_due(session.id) {
            return;
        }
        let Ok(permit) = self.permits.clone().try_acquire_owned() else { return };
        let (gate, id, found) = (gate.clone(), session.id, describe(peer.address, agent));
        gate.tasks().clone().spawn(async move {
            if let Err(error) = gate.sessions().update_client(id, &found).await {
                tracing::debug!(session = %id, %error, "the client's address and user agent were not recorded");
            }
            drop(permit);
        });
    }

    fn is_due(&self, id: SessionId) -> bool {
        let now = Instant::now();
        let mut lately = self.lately.lock();
        if lately.get(&id).is_some_and(|at| now.duration_since(*at) < EVERY) {
            return false;
        }
        if lately.len() >= REMEMBERED {
            lately.retain(|_, at| now.duration_since(*at) < EVERY);
        }
        let room = lately.len() < REMEMBERED;
        if room {
            lately.insert(id, now);
        }
        room
    }
}

fn differs(known: &ClientInfo, address: IpAddr, agent: &str) -> bool {
    let known_address = known.get(ClientField::Address).and_then(|text| text.parse::<IpAddr>().ok());
    let known_agent = known.get(ClientField::UserAgent);
    let agent = shown(agent);
    known_address != Some(address) || (!agent.is_empty() && known_agent != Some(&*agent))
}

/// The user agent as it can be recorded.
fn shown(agent: &str) -> std::borrow::Cow<'_, str> {
    if agent.len() <= AGENT_MAX && !agent.contains('\t') {
        return cleaned(agent);
    }
    let cut: String = agent.chars().map(|c| if c == '\t' { ' ' } else { c }).take(AGENT_MAX).collect();
    cleaned(&cut).into_owned().into()
}

/// Where a request comes from, as it can be recorded.
pub(crate) fn seen(peer: &Peer, headers: &HeaderMap) -> ClientInfo {
    describe(peer.address, agent(headers))
}

fn agent(headers: &HeaderMap) -> &str {
    headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn describe(address: IpAddr, agent: &str) -> ClientInfo {
    let info = ClientInfo::default();
    let info = info.clone().with(ClientField::Address, &address.to_string()).unwrap_or(info);
    info.clone().with(ClientField::UserAgent, &shown(agent)).unwrap_or(info)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recorded_differs_no_more() {
        let address: IpAddr = "203.0.113.7".parse().unwrap();
        let ends_in_spaces = format!("{} {}", "x".repeat(255), "y".repeat(9));
        for agent in ["curl/8.7", "", "a\tb", &"x".repeat(1000), "\ta ", "\t", &ends_in_spaces] {
            assert!(differs(&ClientInfo::default(), address, agent));
            let info = describe(address, agent);
            assert!(!differs(&info, address, agent), "{agent:?}");
            assert!(differs(&info, "203.0.113.8".parse().unwrap(), agent));
        }
        assert!(differs(&describe(address, "curl/8.7"), address, "curl/8.8"));
        assert!(!differs(&describe(address, "curl/8.7"), address, ""), "a request without one says nothing");
    }
}
