//! Reloading of settings while the gateway runs: on SIGHUP, and when the settings file or the file of a secret changes.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tenure_gateway::{Gateway, Options};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{GatewayArgs, options};
use crate::error::CliError;
use crate::global::Global;
use crate::output::Output;
use crate::settings::{ConfigPath, GATEWAY, Key, Settings, keys};

/// The interval at which the files are checked for changes.
const PERIOD: Duration = Duration::from_secs(2);

/// The settings of the gateway that are only read when it starts.
static FIXED: [&Key; 11] = [
    &GATEWAY.listen,
    &GATEWAY.admin_listen,
    &GATEWAY.admin_tls,
    &GATEWAY.tls_cert,
    &GATEWAY.tls_key,
    &GATEWAY.response_timeout,
    &GATEWAY.keep_alive_timeout,
    &GATEWAY.stall_timeout,
    &GATEWAY.max_connections,
    &GATEWAY.max_connections_per_address,
    &GATEWAY.max_header_bytes,
];

/// Returns a future that applies changed settings for as long as it is polled. Invalid settings change nothing. It notices
/// changes and SIGHUP from the call on; before that, SIGHUP would end the process. Must be called inside a runtime.
pub(super) fn keep(args: GatewayArgs, global: Global, gateway: Arc<Gateway>, out: Output) -> impl Future<Output = ()> {
    let hangup = signal(SignalKind::hangup());
    let settings = args.settings(&global);
    let seen = settings.as_ref().map(|settings| stamps(&global, settings)).unwrap_or_default();
    async move {
        match (hangup, settings) {
            (Ok(hangup), Ok(settings)) => follow(hangup, settings, seen, (args, global, gateway, out)).await,
            _ => out.warn("changed settings will not be noticed: restart the gateway to apply them"),
        }
    }
}

async fn follow(
    mut hangup: Signal,
    mut settings: Settings,
    mut seen: Stamps,
    (args, global, gateway, out): (GatewayArgs, Global, Arc<Gateway>, Output),
) {
    loop {
        let asked = tokio::select! {
            _ = hangup.recv() => true,
            () = tokio::time::sleep(PERIOD) => false,
        };
        let now = stamps(&global, &settings);
        if !asked && now == seen {
            continue;
        }
        seen = now;
        match take_over(&args, &global, &settings, &gateway, out) {
            Ok(new) => {
                // The new settings may name other files.
                seen = stamps(&global, &new);
                settings = new;
            }
            Err(error) => out.warn(format_args!("the settings are unchanged: {error}")),
        }
    }
}

fn take_over(
    args: &GatewayArgs,
    global: &Global,
    before: &Settings,
    gateway: &Gateway,
    out: Output,
) -> Result<Settings, CliError> {
    let settings = args.settings(global)?;
    let new = options::of(&settings, out)?;
    let old = gateway.options();
    let fixed = Options {
        listen: old.listen,
        admin_listen: old.admin_listen,
        admin_tls: old.admin_tls,
        tls: old.tls.clone(),
        limits: old.limits,
        ..new
    };
    gateway.set_options(fixed);
    gateway.sessions().set_policy(settings.policy());
    let changed = keys().filter(|key| settings.text(key) != before.text(key));
    let is_late = |key: &&Key| {
        FIXED.iter().any(|fixed| fixed.name == key.name) || !matches!(key.parts().0, Some("session" | "gateway"))
    };
    let (late, taken): (Vec<&Key>, Vec<&Key>) = changed.partition(is_late);
    let [late, taken] = [late, taken].map(|keys| keys.iter().map(|key| key.name).collect::<Vec<_>>());
    out.note(match taken[..] {
        [] => "settings and secrets read again".to_owned(),
        _ => format!("settings applied: {}", taken.join(", ")),
    });
    if !late.is_empty() {
        out.warn(format_args!("a restart is needed for {}", late.join(", ")));
    }
    Ok(settings)
}

/// The state of a file by which a change is noticed: modification time, size and inode.
type Stamp = Option<(SystemTime, u64, u64)>;

type Stamps = Vec<(PathBuf, Stamp)>;

fn stamps(global: &Global, settings: &Settings) -> Stamps {
    use std::os::unix::fs::MetadataExt as _;
    let secrets = [
        &GATEWAY.admin_secret_file,
        &GATEWAY.enrol_secret_file,
        &GATEWAY.metrics_secret_file,
        &GATEWAY.upstream_secret_file,
    ];
    let mut paths: Vec<PathBuf> = secrets.into_iter().filter_map(|key| settings.text(key)).map(PathBuf::from).collect();
    paths.extend(ConfigPath::find(global).ok().map(|config| config.path));
    let stamp = |path: PathBuf| {
        let found = std::fs::metadata(&path).ok();
        let stamp = found.and_then(|found| Some((found.modified().ok()?, found.len(), found.ino())));
        (path, stamp)
    };
    paths.into_iter().map(stamp).collect()
}
