//! `tenure token …`

mod hand_over;
mod issue;
mod rotate;

use clap::Subcommand;
use serde::Serialize;
use serde_json::json;
use tenure_domain::Token;
use tenure_service::{ActivityMode, SessionView, Sessions, VerifyError};

use crate::backends::{IfMissing, Store, with_store};
use crate::error::CliError;
use crate::global::Global;
use crate::input;
use crate::output::Output;
use crate::output::format;

/// Issue, verify, rotate and inspect tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Issue a session and print its token, once
    #[command(after_help = issue::EXAMPLES)]
    Issue(issue::IssueArgs),
    /// Check whether a token is valid
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(VerifyArgs),
    /// Replace a token with a new one; the old one stops working
    #[command(after_help = rotate::EXAMPLES)]
    Rotate(rotate::RotateArgs),
    /// Check a token's format without a store; the secret is never shown
    #[command(after_help = INSPECT_EXAMPLES)]
    Inspect,
}

const VERIFY_EXAMPLES: &str = "\
The token is read from standard input or from TENURE_TOKEN. Exit code 0 if it is valid, 4 if not.

Examples:
  tenure token verify < token.txt
  TENURE_TOKEN=$(pass tenure/laptop) tenure token verify --json | jq .session.deviceId";

const INSPECT_EXAMPLES: &str = "\
The token is read from standard input or from TENURE_TOKEN. Exit code 0 if it is well formed, 4
if not. Only `tenure token verify` can tell whether it is valid.

Example:
  tenure token inspect < token.txt";

/// Check whether a token is valid.
#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArgs {
    /// Do not count this as activity of the session
    #[arg(long)]
    no_touch: bool,
}

pub(crate) fn run(command: TokenCommand, global: &Global, out: Output) -> Result<(), CliError> {
    match command {
        TokenCommand::Issue(args) => {
            let request = args.request()?;
            let work = async |store: &Store| issue::run(&args, request, &store.sessions, out).await;
            with_store(global, IfMissing::Create, out, work)
        }
        TokenCommand::Verify(args) => {
            let text = input::token(out)?;
            let usage = if args.no_touch { ActivityMode::Ignore } else { ActivityMode::Record };
            let work = async |store: &Store| verify(&text, usage, &store.sessions, out).await;
            with_store(global, IfMissing::Fail, out, work)
        }
        TokenCommand::Rotate(args) => {
            let text = input::token(out)?;
            let work = async |store: &Store| rotate::run(&args, &text, &store.sessions, out).await;
            with_store(global, IfMissing::Fail, out, work)
        }
        TokenCommand::Inspect => inspect(&input::token(out)?, out),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Active {
    active: bool,
    rotation_due: bool,
    session: SessionView,
}

async fn verify(text: &str, usage: ActivityMode, sessions: &Sessions, out: Output) -> Result<(), CliError> {
    match sessions.verify_text(text, usage).await {
        Ok(verified) if out.json => out.value(&Active {
            active: true,
            rotation_due: verified.rotation_due,
            session: SessionView::new(&verified.session, verified.at),
        }),
        Ok(verified) => {
            out.data(&format::facts(&verified.session, verified.at))?;
            if verified.rotation_due {
                out.note("rotation is due: tenure token rotate");
            }
            Ok(())
        }
        Err(VerifyError::Refused(refusal)) if out.json => {
            out.value(&json!({ "active": false, "reason": refusal.code() }))?;
            Err(CliError::RefusedAsAnswered(refusal))
        }
        Err(error) => Err(error.into()),
    }
}

fn inspect(text: &str, out: Output) -> Result<(), CliError> {
    let found = Token::inspect(text);
    let problem = found.problem.map(|problem| problem.to_string());
    if out.json {
        let mut value = json!({
            "wellFormed": problem.is_none(),
            "prefix": found.prefix_ok,
            "checksum": found.checksum_ok,
        });
        if let Some(id) = found.session {
            value["sessionId"] = id.to_string().into();
        }
        if let Some(problem) = &problem {
            value["problem"] = problem.as_str().into();
        }
        out.value(&value)?;
    } else {
        let right = |right| if right { "right" } else { "wrong" };
        let id = found.session.map_or_else(|| "cannot be read".to_owned(), |id| id.to_string());
        let (prefix, checksum) = (right(found.prefix_ok), right(found.checksum_ok));
        out.data(&format!("prefix    {prefix}\nsession   {id}\nchecksum  {checksum}\n"))?;
        if let Some(problem) = &problem {
            crate::output::errors(&format!("token malformed: {problem}"));
        }
    }
    match problem {
        None => Ok(()),
        Some(_) => Err(CliError::RefusedAsAnswered(tenure_domain::Refusal::Malformed)),
    }
}
