//! `tenure token rotate`

use std::path::PathBuf;

use serde::Serialize;
use tenure_domain::{Refusal, Session, Token, TokenMatch};
use tenure_service::{ActivityMode, RotateError, Rotated, SessionView, Sessions, WriteError};

use super::hand_over::HandOver;
use crate::error::CliError;
use crate::output::Output;
use crate::signals;

pub(super) const EXAMPLES: &str = "\
The token is read from standard input or from TENURE_TOKEN. FILE gets mode 0600 and is written
whole or not at all, before the old token stops working; it may be the file that the token was
read from.

Examples:
  tenure token rotate < token.txt > new-token.txt
  tenure token rotate --if-due --output token.txt < token.txt";

/// Replace a token with a new one; the old one stops working.
#[derive(Debug, clap::Args)]
pub(crate) struct RotateArgs {
    /// Do nothing if rotation is not due yet
    #[arg(long)]
    if_due: bool,
    /// Write the new token to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) async fn run(args: &RotateArgs, text: &str, sessions: &Sessions, out: Output) -> Result<(), CliError> {
    let old = Token::parse(text).map_err(|_| CliError::Refused(Refusal::Malformed))?;
    if args.if_due && !is_due(&old, sessions, out).await? {
        return Ok(());
    }
    let rotating = sessions.prepare_rotation(&old)?;
    let mut new = HandOver::prepare(rotating.token().to_text(), args.output.as_deref())?;
    match signals::finished(sessions.rotate_prepared(&rotating)).await {
        Ok(rotated) => {
            new.put("the rotation was made")?;
            print(&new, &rotated, sessions, out)?;
            let left = rotated.session.remaining(sessions.now());
            out.note(format_args!("session {} has a new token, expires in {left}", rotated.session.id));
            Ok(())
        }
        Err(RotateError::Write(unacknowledged)) if unacknowledged.intended.is_some() => {
            rescue(new, &unacknowledged.error, out)?;
            Err(CliError::Write(unacknowledged.error))
        }
        Err(error) => Err(error.into()),
    }
}

async fn is_due(old: &Token, sessions: &Sessions, out: Output) -> Result<bool, CliError> {
    let verified = sessions.verify(old, ActivityMode::Ignore).await?;
    if verified.token_match == TokenMatch::Overlap {
        return Err(CliError::Refused(Refusal::Rotated));
    }
    if verified.rotation_due {
        return Ok(true);
    }
    if out.json {
        let session = SessionView::new(&verified.session, verified.at);
        out.value(&Answer { rotated: false, token: None, output: None, session })?;
    }
    let left = verified.session.remaining(verified.at);
    out.note(format_args!("rotation is not due, the token is unchanged: expires in {left}"));
    Ok(false)
}

#[derive(Serialize)]
struct Answer<'a> {
    rotated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<String>,
    session: SessionView,
}

fn print(new: &HandOver<'_>, rotated: &Rotated, sessions: &Sessions, out: Output) -> Result<(), CliError> {
    let session = &rotated.session;
    let printed = match new.printed() {
        token if out.json => {
            let session = SessionView::new(session, sessions.now());
            out.value(&Answer { rotated: true, token, output: new.output(), session })
        }
        Some(token) => out.data(&format!("{token}\n")),
        None => Ok(()),
    };
    if new.printed().is_none() { printed } else { printed.map_err(|failure| lost(&failure, session)) }
}

fn lost(failure: &CliError, session: &Session) -> CliError {
    let id = session.id;
    CliError::Failed(format!(
        "{failure}; the rotation was made, so the old token no longer works and nobody has the new one: \
         tenure sessions revoke {id}, then issue another (--output FILE avoids this)"
    ))
}

/// Keeps a new token that may or may not be valid, and says which token to try first.
fn rescue(new: HandOver<'_>, error: &WriteError, out: Output) -> Result<(), CliError> {
    let place = new.rescue(out)?;
    let certain = matches!(error, WriteError::NotDurable { .. });
    let advice = if certain { "use it, or the old one if it is refused" } else { "try it first, then the old one" };
    out.warn(format_args!("the new token is kept ({place}): {advice}"));
    Ok(())
}
