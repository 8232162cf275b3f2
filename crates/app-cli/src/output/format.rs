//! Times, counts and sessions as text for people.

use std::fmt::Write as _;

use tenure_domain::{ClientField, Session, SessionId, State, Subject, Timestamp, visible};
use tenure_service::rfc3339;

use crate::output::{BAD, CAREFUL, DIM, GOOD, styled};

/// Returns how long ago a time was: `just now`, `12s ago`, `2m ago`, `3h ago`, `5d ago`.
pub(crate) fn ago(at: Timestamp, now: Timestamp) -> String {
    let seconds = now.since(at).get() / 1_000;
    match seconds {
        0 => "just now".to_owned(),
        1..60 => format!("{seconds}s ago"),
        60..3_600 => format!("{}m ago", seconds / 60),
        3_600..86_400 => format!("{}h ago", seconds / 3_600),
        _ => format!("{}d ago", seconds / 86_400),
    }
}

/// Returns a count with its noun: `1 session`, `2 sessions`.
pub(crate) fn counted(count: impl TryInto<u64>, noun: &str) -> String {
    match count.try_into().unwrap_or(u64::MAX) {
        1 => format!("1 {noun}"),
        count => format!("{count} {noun}s"),
    }
}

/// Returns a count of sessions: `1 session`, `2 sessions`.
pub(crate) fn sessions(count: impl TryInto<u64>) -> String {
    counted(count, "session")
}

/// Returns the word that agrees with a count: `one` for one, `several` for none or several.
pub(crate) fn agreeing(count: impl TryInto<u64>, one: &'static str, several: &'static str) -> &'static str {
    if count.try_into().is_ok_and(|count: u64| count == 1) { one } else { several }
}

/// Returns the code of a state in its colour.
pub(crate) fn state(state: State) -> String {
    let style = match state {
        State::Active => GOOD,
        State::Expired | State::Idle => DIM,
        State::Ended(tenure_domain::EndReason::Replayed) => BAD,
        State::Ended(_) => CAREFUL,
    };
    styled(style, state)
}

/// Returns a client's name, or else its id, with its version and platform.
pub(crate) fn client(session: &Session) -> String {
    let get = |field| session.client.get(field);
    let name = get(ClientField::DisplayName).or(get(ClientField::Id));
    let parts = [name, get(ClientField::Version), get(ClientField::Platform)];
    parts.into_iter().flatten().map(visible).collect::<Vec<_>>().join(" ")
}

/// Returns ids on one line.
pub(crate) fn ids<'a>(ids: impl IntoIterator<Item = &'a SessionId>) -> String {
    ids.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Returns subjects on one line.
pub(crate) fn names<'a>(subjects: impl IntoIterator<Item = &'a Subject>) -> String {
    subjects.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Returns the facts about a session, one on each line.
pub(crate) fn facts(session: &Session, now: Timestamp) -> String {
    let when = |at: Timestamp| format!("{} ({})", rfc3339(at), ago(at, now));
    let state_now = session.state(now);
    let mut facts = vec![
        ("session", session.id.to_string()),
        ("device", session.device.to_string()),
        ("subject", session.subject.to_string()),
        ("state", state(state_now)),
        ("created", when(session.created_at)),
        ("last activity", when(session.last_activity)),
        ("expires", format!("{} ({})", rfc3339(session.expires_at), session.remaining(now))),
    ];
    facts.extend(session.rotated_at.map(|at| ("rotated", when(at))));
    facts.push(("generation", session.generation.to_string()));
    if let Some(end) = &session.end {
        facts.push(("ended", when(end.at)));
        facts.extend(end.actor.as_ref().map(|actor| ("ended by", actor.to_string())));
        facts.extend(end.note.as_ref().map(|text| ("because", text.to_string())));
    }
    let labels = session.client.iter().map(|(field, text)| (client_label(field), visible(text).into_owned()));
    facts.extend(labels);
    facts.into_iter().fold(String::new(), |mut text, (label, fact)| {
        let _ = writeln!(text, "{label:<14} {fact}");
        text
    })
}

const fn client_label(field: ClientField) -> &'static str {
    match field {
        ClientField::Id => "client",
        ClientField::DisplayName => "client name",
        ClientField::Platform => "platform",
        ClientField::Version => "client version",
        ClientField::Address => "address",
        ClientField::UserAgent => "user agent",
        ClientField::DeviceKey => "device key",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular_and_all_else_is_plural() {
        assert_eq!([0, 1, 2].map(sessions), ["0 sessions", "1 session", "2 sessions"]);
        assert_eq!([0, 1, 2].map(|count: u64| agreeing(count, "is", "are")), ["are", "is", "are"]);
    }

    #[test]
    fn ages_are_told_in_the_largest_unit() {
        let at = |seconds: u64| ago(Timestamp::EPOCH, Timestamp::from_millis(seconds * 1_000 + 999));
        let told: Vec<String> = [0, 59, 60, 3_599, 3_600, 86_399, 86_400].into_iter().map(at).collect();
        assert_eq!(told, ["just now", "59s ago", "1m ago", "59m ago", "1h ago", "23h ago", "1d ago"]);
    }
}
