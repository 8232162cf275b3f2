//! `tenure sessions revoke`

use std::fmt::Write as _;

use serde::Serialize;
use tenure_domain::{Actor, DeviceId, EndCause, Filter, Note, Scope, Session, SessionId, SortKey, Subject, Timestamp};
use tenure_service::{Revoked, SessionView, Sessions, Target};

use super::names;
use crate::backends::Store;
use crate::commands::ACTOR;
use crate::error::CliError;
use crate::output::Output;
use crate::output::format;
use crate::{input, signals};

pub(super) const EXAMPLES: &str = "\
To end more than one session, confirm, or pass --yes. Revoking an ended session is not an error.

Examples:
  tenure sessions revoke k3f9
  tenure sessions revoke --device-id laptop --reason 'laptop lost' --yes
  tenure sessions revoke --all --except k3f9 --dry-run";

/// End sessions now.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(false))]
pub(crate) struct RevokeArgs {
    /// Session ids, or prefixes of them
    #[arg(value_name = "ID", group = "which")]
    ids: Vec<String>,
    /// All sessions of this device
    #[arg(long, value_name = "ID", group = "which")]
    device_id: Option<String>,
    /// All sessions of this subject
    #[arg(long, value_name = "NAME", group = "which")]
    subject: Option<String>,
    /// All sessions
    #[arg(long, group = "which")]
    all: bool,
    /// Except this session
    #[arg(long, value_name = "ID")]
    except: Option<String>,
    /// Why, in your own words
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Only show which sessions would be ended
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// The sessions that the arguments name. Prefixes of ids are resolved later, with the store.
pub(super) enum Names {
    Ids(Vec<String>),
    Target(Target),
}

impl RevokeArgs {
    /// Checks the reason, and makes the cause of the ends.
    ///
    /// # Errors
    /// [`CliError::Usage`].
    pub(super) fn cause(&self) -> Result<EndCause, CliError> {
        let text = self.reason.as_deref().map(Note::new).transpose();
        let text = text.map_err(|error| CliError::Usage(format!("--reason: {error}")))?;
        Ok(Sessions::revocation(text, Some(Actor::new(ACTOR)?)))
    }

    /// Checks the names of the sessions to end.
    ///
    /// # Errors
    /// [`CliError::Usage`] that names the field.
    pub(super) fn names(&self) -> Result<Names, CliError> {
        Ok(match (&self.device_id, &self.subject) {
            (Some(device), _) => Names::Target(Target::Device(DeviceId::recorded(device)?)),
            (None, Some(subject)) => Names::Target(Target::Subject(Subject::recorded(subject)?)),
            (None, None) if self.all => Names::Target(Target::All),
            (None, None) => {
                self.ids.iter().try_for_each(|id| names::checked(id))?;
                Names::Ids(self.ids.clone())
            }
        })
    }
}

pub(super) async fn run(
    args: &RevokeArgs,
    names: Names,
    cause: &EndCause,
    Store { sessions, location }: &Store,
    out: Output,
) -> Result<(), CliError> {
    let except = match &args.except {
        Some(start) => Some(sessions.resolve(start).await?),
        None => None,
    };
    let target = match names {
        Names::Target(target) => target,
        Names::Ids(starts) => {
            let mut ids = Vec::with_capacity(starts.len());
            for start in &starts {
                ids.push(names::resolved(start, sessions).await?);
            }
            ids.sort_unstable();
            ids.dedup();
            Target::Ids(ids)
        }
    };
    let would = sessions.preview_revoke(&target, except).await?;
    if would.ended.is_empty() {
        none(&target, location, sessions, out).await?;
    }
    if args.dry_run {
        return print(&would, true, sessions.now(), out);
    }
    let count = would.ended.len();
    if count > 1 && !args.yes {
        confirm(count, &target)?;
    }
    end(&target, except, cause, count, sessions, out).await
}

/// Says that there is nothing to end, and in which store. If nothing has the name, it is probably mistyped, or this is the
/// wrong store.
async fn none(target: &Target, location: &str, sessions: &Sessions, out: Output) -> Result<(), CliError> {
    let (device, subject) = match target {
        // Each id is reported separately.
        Target::Ids(_) => return Ok(()),
        Target::Device(device) => (Some(device.clone()), None),
        Target::Subject(subject) => (None, Some(subject.clone())),
        Target::All => (None, None),
    };
    let whose = match (&device, &subject) {
        (Some(device), _) => Some(format!("device {device}")),
        (None, subject) => subject.as_ref().map(ToString::to_string),
    };
    let filter = Filter { device, subject, scope: Scope::Retained };
    let is_known = !sessions.list(&filter, SortKey::Created, 1).await?.is_empty();
    match whose {
        Some(whose) if !is_known => return Err(CliError::NoneOf(whose)),
        Some(whose) => out.note(format_args!("no other session of {whose} in {location} is active")),
        None => out.note(format_args!("no other session in {location} is active")),
    }
    Ok(())
}

fn confirm(count: usize, target: &Target) -> Result<(), CliError> {
    let of = match target {
        Target::Ids(_) => String::new(),
        Target::Device(device) => format!(" of device {device}"),
        Target::Subject(subject) => format!(" of {subject}"),
        Target::All => ", all there are".to_owned(),
    };
    if !input::is_interactive() {
        return Err(CliError::Usage(format!(
            "this would end {count} sessions{of}: add --yes to confirm, or --dry-run to see which"
        )));
    }
    if input::confirmed(&format!("End {count} sessions{of}?")) {
        Ok(())
    } else {
        Err(CliError::Failed("nothing was ended".to_owned()))
    }
}

async fn end(
    target: &Target,
    except: Option<SessionId>,
    cause: &EndCause,
    count: usize,
    sessions: &Sessions,
    out: Output,
) -> Result<(), CliError> {
    let Some(outcome) = signals::unless_stopped(sessions.revoke(target, except, cause)).await else {
        let left = sessions.preview_revoke(target, except).await?.ended.len();
        let ended = count.saturating_sub(left);
        return Err(signals::stopped(format_args!(
            "{ended} of {} {} ended, {left} {} still active",
            format::sessions(count),
            format::agreeing(count, "was", "were"),
            format::agreeing(left, "is", "are")
        )));
    };
    let now = sessions.now();
    match outcome {
        Ok(done) => {
            print(&done, false, now, out)?;
            match &done.unknown[..] {
                [] => Ok(()),
                gone => Err(CliError::NoSuchSession(format::ids(gone))),
            }
        }
        Err(stopped) => {
            if !stopped.done.ended.is_empty() {
                print(&stopped.done, false, now, out)?;
            }
            Err(stopped.error.into())
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    ended: Vec<SessionView>,
    already: Vec<SessionView>,
    dry_run: bool,
}

fn print(revoked: &Revoked, dry_run: bool, now: Timestamp, out: Output) -> Result<(), CliError> {
    if out.json {
        let views = |sessions: &[Session]| sessions.iter().map(|session| SessionView::new(session, now)).collect();
        return out.value(&Answer { ended: views(&revoked.ended), already: views(&revoked.already_ended), dry_run });
    }
    let verb = if dry_run { "would end" } else { "ended" };
    let mut text = String::new();
    if !revoked.ended.is_empty() || revoked.already_ended.is_empty() {
        let _ = writeln!(text, "{verb} {}", format::sessions(revoked.ended.len()));
    }
    for session in &revoked.ended {
        let _ = writeln!(text, "{}  {}  {}", session.id, session.device, session.subject);
    }
    for session in &revoked.already_ended {
        let since = format::ago(session.ended_at(), now);
        let _ = writeln!(text, "{} has already ended: {}, {since}", session.id, session.state(now));
    }
    out.data(&text)
}
