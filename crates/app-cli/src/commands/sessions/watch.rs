//! `tenure sessions watch`

use serde_json::json;
use tenure_domain::SessionId;
use tenure_service::{SessionView, Sessions, WatchEvent, rfc3339};

use crate::backends::Store;
use crate::error::CliError;
use crate::output::format;
use crate::output::{Output, escaped};
use crate::signals;

pub(super) const EXAMPLES: &str = "\
Examples:
  tenure sessions watch
  tenure sessions watch --json | jq -r 'select(.event == \"replayed\") | .sessionId'

Events: issued, rotated, revoked, evicted, replayed, logged_out, idle, expired, described (more
is known about the client), imported, purged, and missed (events were lost: list the sessions
again).";

/// Print session events of all processes until interrupted.
#[derive(Debug, clap::Args)]
pub(crate) struct WatchArgs {}

pub(super) async fn run(store: &Store, out: Output) -> Result<(), CliError> {
    // The command runs until it is stopped, so that is not a failure.
    signals::unless_stopped(follow(store, out)).await.unwrap_or(Ok(()))
}

async fn follow(Store { sessions, location }: &Store, out: Output) -> Result<(), CliError> {
    let mut watch = sessions.watch().await?;
    out.note(format_args!("watching {location}; Ctrl-C ends it"));
    loop {
        match watch.next().await {
            Ok(Some(event)) => tell(&event, sessions, out)?,
            Ok(None) => return Err(CliError::Failed("the store sends no more events; start again".to_owned())),
            Err(error) => {
                out.warn(format_args!("a session cannot be read: {error}"));
                // The failure may last, so the next attempt waits.
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        }
    }
}

fn tell(event: &WatchEvent, sessions: &Sessions, out: Output) -> Result<(), CliError> {
    let WatchEvent::Session { id, kind, at, session } = event else {
        return line(None, &rfc3339(sessions.now()), "missed", None, out);
    };
    let view = session.as_deref().map(|session| {
        (
            SessionView::new(session, sessions.now()),
            format!("{}  {}  {}", session.device, session.subject, format::client(session)),
        )
    });
    line(Some(*id), &rfc3339(*at), kind.code(), view, out)
}

fn line(
    id: Option<SessionId>,
    at: &str,
    event: &str,
    session: Option<(SessionView, String)>,
    out: Output,
) -> Result<(), CliError> {
    if out.json {
        let mut value = json!({ "at": at, "event": event });
        if let Some(id) = id {
            value["sessionId"] = id.to_string().into();
        }
        if let Some((view, _)) = session {
            value["session"] = json!(view);
        }
        return out.data(&(escaped(&value.to_string()) + "\n"));
    }
    let id = id.map_or_else(String::new, |id| id.to_string());
    let words = session.map_or_else(String::new, |(_, words)| words);
    out.data(&format!("{}\n", format!("{at}  {event:<10}  {id}  {words}").trim_end()))
}
