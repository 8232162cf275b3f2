//! `tenure sessions list`

use clap::ValueEnum;
use tenure_domain::{DeviceId, Filter, Scope, Session, SortKey, Subject, Timestamp};
use tenure_service::SessionView;

use crate::backends::Store;
use crate::error::CliError;
use crate::output::Output;
use crate::output::format;
use crate::output::table::{Cell, Column, layout, terminal_width};

pub(super) const EXAMPLES: &str = "\
Examples:
  tenure sessions list --device-id laptop
  tenure sessions list --all --sort expires --limit 20
  tenure sessions list --json | jq -r '.[0].sessionId'";

/// List sessions, newest activity first.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Only sessions of this device
    #[arg(long, value_name = "ID")]
    device_id: Option<String>,
    /// Only sessions of this subject
    #[arg(long, value_name = "NAME")]
    subject: Option<String>,
    /// Include ended and expired sessions
    #[arg(long)]
    all: bool,
    /// Sort order: newest first, or soonest expiry first
    #[arg(long, value_name = "KEY", default_value = "last-activity")]
    sort: Sort,
    /// Show at most this many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Sort {
    LastActivity,
    Created,
    Expires,
}

/// The sessions to list: filter, order and limit.
pub(super) struct Query {
    filter: Filter,
    sort: SortKey,
    limit: usize,
}

impl ListArgs {
    /// Checks the arguments, and makes the query.
    ///
    /// # Errors
    /// [`CliError::Usage`] that names the field.
    pub(super) fn query(&self) -> Result<Query, CliError> {
        Ok(Query {
            filter: Filter {
                device: self.device_id.as_deref().map(DeviceId::recorded).transpose()?,
                subject: self.subject.as_deref().map(Subject::recorded).transpose()?,
                scope: if self.all { Scope::Retained } else { Scope::Active },
            },
            sort: match self.sort {
                Sort::LastActivity => SortKey::LastActivity,
                Sort::Created => SortKey::Created,
                Sort::Expires => SortKey::Expires,
            },
            limit: self.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX)),
        })
    }
}

pub(super) async fn run(query: &Query, Store { sessions, location }: &Store, out: Output) -> Result<(), CliError> {
    let found = sessions.list(&query.filter, query.sort, query.limit).await?;
    let now = sessions.now();
    if found.is_empty() {
        let of = of(&query.filter);
        match query.filter.scope {
            Scope::Retained => out.note(format_args!("no sessions{of} in {location}")),
            Scope::Active => out.note(format_args!("no active sessions{of} in {location} (--all shows ended ones)")),
        }
    }
    if out.json {
        return out.value(&found.iter().map(|session| SessionView::new(session, now)).collect::<Vec<_>>());
    }
    if found.is_empty() {
        return Ok(());
    }
    out.data(&table(&found, query.filter.scope, now))
}

/// Returns the device and the subject of a filter, for people.
fn of(filter: &Filter) -> String {
    let device = filter.device.as_ref().map(|device| format!(" of device {device}"));
    let subject = filter.subject.as_ref().map(|subject| format!(" of {subject}"));
    [device, subject].into_iter().flatten().collect()
}

/// Returns sessions as a table.
pub(super) fn table(sessions: &[Session], scope: Scope, now: Timestamp) -> String {
    let column = |header, dispensable| Column { header, dispensable };
    let mut columns = vec![
        column("SESSION", 0),
        column("DEVICE", 0),
        column("SUBJECT", 2),
        column("CLIENT", 4),
        column("CREATED", 5),
        column("LAST ACTIVITY", 3),
        column("EXPIRES IN", 1),
    ];
    let with_state = scope == Scope::Retained;
    if with_state {
        columns.push(column("STATE", 0));
    }
    let row = |session: &Session| {
        let state = session.state(now);
        let mut row: Vec<Cell> = [
            session.id.to_string(),
            session.device.to_string(),
            session.subject.to_string(),
            format::client(session),
            format::ago(session.created_at, now),
            format::ago(session.last_activity, now),
            if session.inactive_since(now).is_some() { "-".to_owned() } else { session.remaining(now).to_string() },
        ]
        .map(Cell::from)
        .into();
        if with_state {
            row.push(Cell::colored(state.to_string(), format::state(state)));
        }
        row
    };
    layout(&columns, &sessions.iter().map(row).collect::<Vec<_>>(), terminal_width())
}
