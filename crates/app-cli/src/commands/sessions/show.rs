//! `tenure sessions show`

use tenure_service::{SessionView, Sessions};

use crate::exit::Failure;
use crate::output::Output;
use crate::words;

pub(super) const EXAMPLES: &str = "\
Example:
  tenure sessions show k3f9";

/// Show everything that is known of a session.
#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// The session's id, or the start of it
    #[arg(value_name = "ID")]
    id: String,
}

pub(super) async fn run(args: &ShowArgs, sessions: &Sessions, out: Output) -> Result<(), Failure> {
    let id = sessions.resolve(&args.id).await?;
    let session = sessions.get(id).await?.ok_or_else(|| Failure::NoSuchSession(args.id.clone()))?;
    let now = sessions.now();
    if out.json { out.value(&SessionView::new(&session, now)) } else { out.data(&words::facts(&session, now)) }
}
