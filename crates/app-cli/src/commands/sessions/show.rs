//! `tenure sessions show`

use tenure_service::SessionView;

use super::names;
use crate::backends::Store;
use crate::error::CliError;
use crate::output::Output;
use crate::output::format;

pub(super) const EXAMPLES: &str = "\
Example:
  tenure sessions show k3f9";

/// Show everything that is known about a session.
#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// The session's id, or a prefix of it
    #[arg(value_name = "ID")]
    id: String,
}

impl ShowArgs {
    /// Checks that the argument can be the start of a session id.
    ///
    /// # Errors
    /// [`CliError::Usage`].
    pub(super) fn check(&self) -> Result<(), CliError> {
        names::checked(&self.id)
    }
}

pub(super) async fn run(args: &ShowArgs, Store { sessions, .. }: &Store, out: Output) -> Result<(), CliError> {
    let id = names::resolved(&args.id, sessions).await?;
    let session = sessions.get(id).await?.ok_or_else(|| CliError::NoSuchSession(args.id.clone()))?;
    let now = sessions.now();
    if out.json { out.value(&SessionView::new(&session, now)) } else { out.data(&format::facts(&session, now)) }
}
