//! `tenure token issue`

use std::path::PathBuf;

use serde::Serialize;
use tenure_domain::{Actor, ClientField, ClientInfo, DeviceId, IssueRefusal, Millis, Note, Subject};
use tenure_service::{IssueError, IssueRequest, Issued, SessionView, Sessions};

use super::hand_over::HandOver;
use crate::commands::ACTOR;
use crate::error::CliError;
use crate::output::Output;
use crate::output::format;
use crate::signals;

pub(super) const EXAMPLES: &str = "\
Prints the token, and nothing else, on standard output. It is never shown again. With --output
it goes to FILE instead (mode 0600, whole or not at all), which is prepared before the session
is made.

A device belongs to the subject of its active sessions. For another subject nothing is issued
(exit code 1), unless --take-over ends those sessions in the same step.

Examples:
  tenure token issue --device-id laptop --output token.txt
  tenure token issue --device-id ci --subject deploy --ttl 15m --json | jq -r .token
  tenure token issue --device-id laptop --subject bob --take-over --output token.txt";

/// Issue a session and print its token, once.
#[derive(Debug, clap::Args)]
pub(crate) struct IssueArgs {
    /// The device that the session belongs to
    #[arg(long, value_name = "ID")]
    device_id: String,
    /// Who the session belongs to [default: operator]
    #[arg(long, value_name = "NAME")]
    subject: Option<String>,
    /// The client program's id
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// The client's name as people know it
    #[arg(long, value_name = "NAME")]
    client_name: Option<String>,
    /// The client's operating system or kind
    #[arg(long, value_name = "NAME")]
    platform: Option<String>,
    /// The client program's version
    #[arg(long, value_name = "VERSION")]
    client_version: Option<String>,
    /// How long each of its tokens is valid, instead of session.token_ttl: 36s, 90m, 24h
    #[arg(long, value_name = "DURATION")]
    ttl: Option<String>,
    /// Write the token to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// If the device belongs to another subject, revoke its sessions and issue this one
    #[arg(long)]
    take_over: bool,
}

impl IssueArgs {
    /// Checks the arguments, and makes the request.
    ///
    /// # Errors
    /// [`CliError::Usage`] that names the field.
    pub(super) fn request(&self) -> Result<IssueRequest, CliError> {
        let fields = [
            (ClientField::Id, &self.client_id),
            (ClientField::DisplayName, &self.client_name),
            (ClientField::Platform, &self.platform),
            (ClientField::Version, &self.client_version),
        ];
        let mut client = ClientInfo::default();
        for (field, text) in fields {
            if let Some(text) = text {
                client = client.with(field, text)?;
            }
        }
        Ok(IssueRequest {
            device: DeviceId::new(&self.device_id)?,
            subject: self.subject.as_deref().map_or_else(|| Ok(Subject::default()), Subject::new)?,
            client,
            ttl: self.ttl.as_deref().map(ttl).transpose()?,
        })
    }
}

fn ttl(text: &str) -> Result<Millis, CliError> {
    text.parse().map_err(|error| CliError::Usage(format!("ttl: {error}")))
}

pub(super) async fn run(
    args: &IssueArgs,
    request: IssueRequest,
    sessions: &Sessions,
    out: Output,
) -> Result<(), CliError> {
    let (device, subject) = (request.device.clone(), request.subject.clone());
    let mut issuing = sessions.prepare_issue(request)?;
    if args.take_over {
        // If the subject is too long for the note, the session is issued without a note.
        let note = Note::new(&format!("the device was taken over for {subject}")).ok();
        issuing = issuing.taking_over(Sessions::revocation(note, Some(Actor::new(ACTOR)?)));
    }
    let id = issuing.token().session();
    let mut token = HandOver::prepare(issuing.token().to_text(), args.output.as_deref())?;
    match signals::finished(sessions.issue_prepared(issuing)).await {
        Ok(issued) => {
            token.put(&format!("session {id} was created"))?;
            print(&token, &issued, sessions, out)?;
            describe(&issued, sessions, out);
            Ok(())
        }
        Err(IssueError::Write(unacknowledged)) if unacknowledged.intended.is_some() => {
            let place = token.rescue(out)?;
            out.warn(format_args!(
                "the token is kept ({place}) and is valid only if session {id} was created: try it before issuing \
                 another"
            ));
            Err(CliError::Write(unacknowledged.error))
        }
        Err(IssueError::Refused(refusal)) => Err(refused(&device, &subject, &refusal)),
        Err(error) => Err(error.into()),
    }
}

/// Returns the error of a refused issue. It names the owners of the device, which only operators may see.
fn refused(device: &DeviceId, subject: &Subject, refusal: &IssueRefusal) -> CliError {
    let owners = format::names(refusal.owners());
    let problem = match refusal {
        IssueRefusal::Full { cap, .. } => {
            let have = format::agreeing(refusal.owners().len(), "has", "have");
            let sessions = format::counted(*cap, "active session");
            format!("device {device} may have {sessions}, and {owners} {have} as many there")
        }
        _ => format!("device {device} has active sessions of {owners}"),
    };
    CliError::Failed(format!(
        "{problem}, so nothing was issued for {subject}; use another device id, or revoke those sessions and issue this \
         one with --take-over"
    ))
}

#[derive(Serialize)]
struct Answer<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<String>,
    session: SessionView,
    evicted: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    revoked: Vec<String>,
}

fn print(token: &HandOver<'_>, issued: &Issued, sessions: &Sessions, out: Output) -> Result<(), CliError> {
    let printed = match token.printed() {
        text if out.json => out.value(&Answer {
            token: text,
            output: token.output(),
            session: SessionView::new(&issued.session, sessions.now()),
            evicted: issued.evicted.iter().map(ToString::to_string).collect(),
            revoked: issued.revoked.iter().map(|session| session.id.to_string()).collect(),
        }),
        Some(text) => out.data(&format!("{text}\n")),
        None => Ok(()),
    };
    if token.printed().is_none() {
        return printed;
    }
    printed.map_err(|failure| {
        let id = issued.session.id;
        CliError::Failed(format!("{failure}; session {id} exists, and its token is lost: tenure sessions revoke {id}"))
    })
}

fn describe(issued: &Issued, sessions: &Sessions, out: Output) {
    let session = &issued.session;
    out.note(format_args!(
        "session {} on device {} for {}, expires in {}",
        session.id,
        session.device,
        session.subject,
        session.remaining(sessions.now())
    ));
    if !issued.evicted.is_empty() {
        let count = format::sessions(issued.evicted.len());
        let ids = format::ids(&issued.evicted);
        out.note(format_args!("evicted {count}, the oldest of {} on this device: {ids}", session.subject));
    }
    if !issued.revoked.is_empty() {
        let count = format::sessions(issued.revoked.len());
        let each: Vec<String> =
            issued.revoked.iter().map(|session| format!("{} of {}", session.id, session.subject)).collect();
        out.note(format_args!("took over the device and revoked {count}: {}", each.join(", ")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_device_is_told_in_good_english() {
        let told = |cap, owners: &[&str]| {
            let owners = owners.iter().map(|name| Subject::new(name).unwrap()).collect();
            let refusal = IssueRefusal::Full { owners, cap };
            refused(&DeviceId::new("d").unwrap(), &Subject::default(), &refusal).to_string()
        };
        assert!(told(1, &["anna"]).starts_with("device d may have 1 active session, and anna has as many there, so"));
        assert!(told(2, &["a", "b"]).starts_with("device d may have 2 active sessions, and a, b have as many there"));
    }
}
