//! The log on standard error, with the events of this workspace alone.

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts the log. It has warnings; with `-v` also what is done, and with `-vv` how.
pub(crate) fn start(verbose: u8, quiet: bool) {
    let level = match (quiet, verbose) {
        (true, _) => LevelFilter::ERROR,
        (false, 0) => LevelFilter::WARN,
        (false, 1) => LevelFilter::INFO,
        (false, _) => LevelFilter::DEBUG,
    };
    // The same rule as for all other output: --color, or else NO_COLOR, CLICOLOR_FORCE and whether this is a terminal.
    let ansi = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(ansi).with_target(verbose > 1);
    // The names of all crates of this workspace start with this. Libraries may log secrets.
    let ours = Targets::new().with_target("tenure", level);
    let _ = tracing_subscriber::registry().with(lines).with(ours).try_init();
}
