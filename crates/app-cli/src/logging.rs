//! The log: standard error, and only what concerns this program.

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts it: warnings, with `-v` what is done, with `-vv` how.
pub(crate) fn start(verbose: u8, quiet: bool) {
    let level = match (quiet, verbose) {
        (true, _) => LevelFilter::ERROR,
        (false, 0) => LevelFilter::WARN,
        (false, 1) => LevelFilter::INFO,
        (false, _) => LevelFilter::DEBUG,
    };
    // One rule for all that is said: --color, else NO_COLOR, CLICOLOR_FORCE and whether it is a terminal.
    let ansi = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(ansi).with_target(verbose > 1);
    // The names of this workspace's crates all start so; what libraries log may hold more than a log should.
    let ours = Targets::new().with_target("tenure", level);
    let _ = tracing_subscriber::registry().with(lines).with(ours).try_init();
}
