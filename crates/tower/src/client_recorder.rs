//! Records where a session is used from when that changes, in the background of the request that shows it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;
use http::header::USER_AGENT;
use parking_lot::Mutex;
use tenure_domain::{ClientField, ClientInfo, Session, SessionId, cleaned};
use tenure_service::Sessions;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::request::peer::Peer;

/// The shortest time between two records of one session, which may be used from several places in turn. Each record is
/// a durable write.
const MIN_INTERVAL: Duration = Duration::from_secs(60);
/// The most sessions that are remembered as recently recorded.
const MAX_REMEMBERED: usize = 8192;
/// The most records that are written at once. Other sessions wait for their next request.
const CONCURRENCY: usize = 64;
/// The most characters of a user agent that are recorded.
const MAX_USER_AGENT: usize = 256;

/// Records clients' addresses and user agents.
pub(crate) struct ClientRecorder {
    sessions: Arc<Sessions>,
    tasks: TaskTracker,
    recent: Mutex<HashMap<SessionId, Instant>>,
    permits: Arc<Semaphore>,
}

impl ClientRecorder {
    pub(crate) fn new(sessions: Arc<Sessions>, tasks: TaskTracker) -> Self {
        Self { sessions, tasks, recent: Mutex::default(), permits: Arc::new(Semaphore::new(CONCURRENCY)) }
    }

    /// Compares where the session is used from with its record, and writes a difference in the background.
    pub(crate) fn record_if_changed(&self, session: &Session, peer: &Peer, headers: &HeaderMap) {
        let user_agent = user_agent(headers);
        if !differs(&session.client, peer.address, user_agent) || !self.is_due(session.id) {
            return;
        }
        let Ok(permit) = self.permits.clone().try_acquire_owned() else { return };
        let (sessions, id) = (Arc::clone(&self.sessions), session.id);
        let found = to_client_info(peer.address, user_agent);
        self.tasks.spawn(async move {
            if let Err(error) = sessions.update_client(id, &found).await {
                tracing::debug!(session = %id, %error, "the client's address and user agent were not recorded");
            }
            drop(permit);
        });
    }

    fn is_due(&self, id: SessionId) -> bool {
        let now = Instant::now();
        let mut recent = self.recent.lock();
        if recent.get(&id).is_some_and(|at| now.duration_since(*at) < MIN_INTERVAL) {
            return false;
        }
        if recent.len() >= MAX_REMEMBERED {
            recent.retain(|_, at| now.duration_since(*at) < MIN_INTERVAL);
        }
        let room = recent.len() < MAX_REMEMBERED;
        if room {
            recent.insert(id, now);
        }
        room
    }
}

fn differs(known: &ClientInfo, address: IpAddr, user_agent: &str) -> bool {
    let known_address = known.get(ClientField::Address).and_then(|text| text.parse::<IpAddr>().ok());
    let known_agent = known.get(ClientField::UserAgent);
    let user_agent = recordable(user_agent);
    known_address != Some(address) || (!user_agent.is_empty() && known_agent != Some(&*user_agent))
}

/// Returns the user agent in the form in which it is recorded.
fn recordable(user_agent: &str) -> std::borrow::Cow<'_, str> {
    if user_agent.len() <= MAX_USER_AGENT && !user_agent.contains('\t') {
        return cleaned(user_agent);
    }
    let cut: String = user_agent.chars().map(|c| if c == '\t' { ' ' } else { c }).take(MAX_USER_AGENT).collect();
    cleaned(&cut).into_owned().into()
}

/// Returns where a request comes from, in the form in which it is recorded.
pub fn client_info(peer: &Peer, headers: &HeaderMap) -> ClientInfo {
    to_client_info(peer.address, user_agent(headers))
}

fn user_agent(headers: &HeaderMap) -> &str {
    headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn to_client_info(address: IpAddr, user_agent: &str) -> ClientInfo {
    let info = ClientInfo::default();
    let info = info.clone().with(ClientField::Address, &address.to_string()).unwrap_or(info);
    info.clone().with(ClientField::UserAgent, &recordable(user_agent)).unwrap_or(info)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recorded_differs_no_more() {
        let address: IpAddr = "203.0.113.7".parse().unwrap();
        let ends_in_spaces = format!("{} {}", "x".repeat(255), "y".repeat(9));
        for user_agent in ["curl/8.7", "", "a\tb", &"x".repeat(1000), "\ta ", "\t", &ends_in_spaces] {
            assert!(differs(&ClientInfo::default(), address, user_agent));
            let info = to_client_info(address, user_agent);
            assert!(!differs(&info, address, user_agent), "{user_agent:?}");
            assert!(differs(&info, "203.0.113.8".parse().unwrap(), user_agent));
        }
        assert!(differs(&to_client_info(address, "curl/8.7"), address, "curl/8.8"));
        assert!(!differs(&to_client_info(address, "curl/8.7"), address, ""), "a request without one says nothing");
    }
}
