//! `tenure gateway`

pub(crate) mod options;
mod reload;
pub(crate) mod secrets;

use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use tenure_gateway::{Gateway, Options, Server};

use crate::backends::{self, IfMissing};
use crate::error::CliError;
use crate::global::Global;
use crate::output::{BOLD, Output, styled};
use crate::settings::{FlagValue, GATEWAY, GatewaySettings, Profile, Settings, masked};
use crate::signals;

pub(crate) const EXAMPLES: &str = "\
Examples:
  tenure gateway                                     # answers nginx auth_request, Caddy forward_auth …
  tenure gateway --upstream http://127.0.0.1:18789   # stands in front of a service
  tenure gateway --upstream http://127.0.0.1:18789 --profile openclaw
  tenure gateway --upstream http://127.0.0.1:3000 --public-path /healthz --trusted-proxy 10.0.0.0/8

Clients send their token as Authorization: Bearer, as the cookie that /_tenure/login sets, or as
the WebSocket subprotocol tenure.bearer.TOKEN. The settings file and the secret files are read
again on SIGHUP and when they change. SIGTERM and Ctrl-C let requests in progress finish first.";

/// Stand in front of a service, or answer for another proxy, and let only requests and WebSockets of valid sessions
/// through.
#[derive(Clone, clap::Args)]
pub(crate) struct GatewayArgs {
    /// Where clients connect [default: 127.0.0.1:8470]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Where operators connect [default: 127.0.0.1:8471]
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<String>,
    /// The service to forward to; without it, only paths below /_tenure/ are answered (forward auth)
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,
    /// For services whose clients do not send the token in a header: openclaw
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// A path that needs no token; a final / includes everything below it
    #[arg(long = "public-path", value_name = "PATH")]
    public_paths: Vec<String>,
    /// A proxy whose forwarding headers are trusted
    #[arg(long = "trusted-proxy", value_name = "CIDR")]
    trusted_proxies: Vec<String>,
    /// The header that tells the upstream the subject [default: X-Forwarded-User]
    #[arg(long, value_name = "NAME")]
    user_header: Option<String>,
    /// A file with the upstream's own token, which clients never see
    #[arg(long, value_name = "FILE")]
    upstream_secret_file: Option<String>,
    /// The header that carries the upstream's own token [default: Authorization: Bearer]
    #[arg(long, value_name = "HEADER")]
    upstream_auth_header: Option<String>,
    /// A file with the secret for clients to enrol themselves; without it they cannot
    #[arg(long, value_name = "FILE")]
    enrol_secret_file: Option<String>,
    /// The subject of sessions that clients enrol themselves [default: operator]
    #[arg(long, value_name = "NAME")]
    enrol_subject: Option<String>,
    /// The file with the operators' secret [default: $XDG_STATE_HOME/tenure/admin.secret]
    #[arg(long, value_name = "FILE")]
    admin_secret_file: Option<String>,
    /// How long open connections stay when the store cannot be read [default: 15s]
    #[arg(long, value_name = "DURATION")]
    store_loss_grace: Option<String>,
    /// The client address that OpenClaw is told for a client on loopback [default: 192.0.2.1]
    #[arg(long, value_name = "IP")]
    openclaw_client_address: Option<String>,
    /// The name of the browser cookie [default: tenure]
    #[arg(long, value_name = "NAME")]
    cookie_name: Option<String>,
    /// Renew a browser's cookie with a response once rotation is due
    #[arg(long)]
    auto_rotate_cookies: bool,
    /// The certificate chain (PEM); read again when it changes
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<String>,
    /// The key of the certificate (PEM)
    #[arg(long, value_name = "FILE")]
    tls_key: Option<String>,
    /// With TLS, how long browsers must use nothing else for this host; or off [default: 365d]
    #[arg(long, value_name = "DURATION")]
    hsts: Option<String>,
}

impl GatewayArgs {
    /// Returns the values of each flag that can be given several times, joined by commas.
    fn lists(&self) -> [Option<String>; 2] {
        [&self.public_paths, &self.trusted_proxies].map(|items| (!items.is_empty()).then(|| items.join(",")))
    }

    fn flags<'a>(&'a self, [public_paths, trusted_proxies]: &'a [Option<String>; 2]) -> Vec<FlagValue<'a>> {
        vec![
            (&GATEWAY.listen, "--listen", self.listen.as_deref()),
            (&GATEWAY.admin_listen, "--admin-listen", self.admin_listen.as_deref()),
            (&GATEWAY.upstream, "--upstream", self.upstream.as_deref()),
            (&GATEWAY.profile, "--profile", self.profile.as_deref()),
            (&GATEWAY.public_paths, "--public-path", public_paths.as_deref()),
            (&GATEWAY.trusted_proxies, "--trusted-proxy", trusted_proxies.as_deref()),
            (&GATEWAY.user_header, "--user-header", self.user_header.as_deref()),
            (&GATEWAY.upstream_secret_file, "--upstream-secret-file", self.upstream_secret_file.as_deref()),
            (&GATEWAY.upstream_auth_header, "--upstream-auth-header", self.upstream_auth_header.as_deref()),
            (&GATEWAY.enrol_secret_file, "--enrol-secret-file", self.enrol_secret_file.as_deref()),
            (&GATEWAY.enrol_subject, "--enrol-subject", self.enrol_subject.as_deref()),
            (&GATEWAY.admin_secret_file, "--admin-secret-file", self.admin_secret_file.as_deref()),
            (&GATEWAY.store_loss_grace, "--store-loss-grace", self.store_loss_grace.as_deref()),
            (&GATEWAY.openclaw_client_address, "--openclaw-client-address", self.openclaw_client_address.as_deref()),
            (&GATEWAY.cookie_name, "--cookie-name", self.cookie_name.as_deref()),
            (&GATEWAY.auto_rotate_cookies, "--auto-rotate-cookies", self.auto_rotate_cookies.then_some("true")),
            (&GATEWAY.tls_cert, "--tls-cert", self.tls_cert.as_deref()),
            (&GATEWAY.tls_key, "--tls-key", self.tls_key.as_deref()),
            (&GATEWAY.hsts, "--hsts", self.hsts.as_deref()),
        ]
    }

    /// Reads the settings, with these flags above the other layers.
    fn settings(&self, global: &Global) -> Result<Settings, CliError> {
        Ok(Settings::load_with(global, &self.flags(&self.lists()))?)
    }
}

pub(crate) fn run(args: &GatewayArgs, global: &Global, out: Output) -> Result<(), CliError> {
    let settings = args.settings(global)?;
    settings.warn(out);
    let options = options::of(&settings, out)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CliError::Failed(format!("could not start: {error}")))?;
    runtime.block_on(async {
        signals::ignore_sigxfsz();
        tenure_gateway::raise_descriptor_limit();
        serve(args, global, &settings, options, out).await
    })
}

async fn serve(
    args: &GatewayArgs,
    global: &Global,
    settings: &Settings,
    options: Options,
    out: Output,
) -> Result<(), CliError> {
    let (sessions, opened) = backends::open(settings, IfMissing::Create, out).await?;
    opened.warn(settings, out).await;
    let sessions = Arc::new(sessions);
    let gateway = Gateway::new(Arc::clone(&sessions), options);
    let server = Server::bind(Arc::clone(&gateway)).await.map_err(|error| CliError::Failed(error.to_string()))?;
    // Before the addresses are printed, since a signal may follow at once.
    let stop = signals::asked_to_stop();
    let reload = reload::keep(args.clone(), global.clone(), Arc::clone(&gateway), out);
    announce(&server, &gateway.options(), global, settings, out)?;
    let reloading = tokio::spawn(reload);
    let served = server.run(stop).await;
    reloading.abort();
    if let Err(error) = sessions.flush_activity().await {
        out.warn(format_args!("the latest activity was not recorded: {error}"));
    }
    if let Err(error) = opened.close().await {
        out.warn(format_args!("the store was not closed properly: {error}"));
    }
    out.note("stopped");
    served.map_err(|error| CliError::Failed(error.to_string()))
}

/// Prints the addresses, the file of the operators' secret, and commands to try.
fn announce(
    server: &Server,
    options: &Options,
    global: &Global,
    settings: &Settings,
    out: Output,
) -> Result<(), CliError> {
    let scheme = if options.tls.is_some() { "https" } else { "http" };
    let admin_scheme = if options.admin_speaks_tls() { "https" } else { "http" };
    let (clients, operators) =
        (format!("{scheme}://{}", server.client_addr()), format!("{admin_scheme}://{}", server.admin_addr()));
    let values = GatewaySettings::read(settings)?;
    let secret = values.admin_secret_file.map(|path| path.display().to_string()).unwrap_or_default();
    if out.json {
        return out.value(&json!({ "listen": clients, "adminListen": operators, "adminSecretFile": secret }));
    }
    let upstream = values.upstream.as_deref().map(masked);
    let behind = match (upstream, values.profile.map(Profile::name)) {
        (None, _) => "forward auth only: /_tenure/auth".to_owned(),
        (Some(upstream), None) => format!("upstream {upstream}"),
        (Some(upstream), Some(profile)) => format!("upstream {upstream}, profile {profile}"),
    };
    let store = backends::location(settings)?;
    let insecure = if options.tls.is_some() { "-k " } else { "" };
    let tenure = command_line(global);
    out.note(format_args!("{}   {clients} ({behind})", styled(BOLD, "clients")));
    out.note(format_args!("{} {operators} (secret in {secret})", styled(BOLD, "operators")));
    out.note(format_args!("{}  {store}", styled(BOLD, "sessions")));
    out.note("try it:");
    out.note(format_args!(
        "  curl -i {insecure}-H \"Authorization: Bearer $({tenure} token issue -q --device-id laptop)\" {clients}/_tenure/auth"
    ));
    out.note(format_args!(
        "  curl {}-H \"Authorization: Bearer $(cat {})\" {operators}/api/v1/sessions",
        if options.admin_speaks_tls() { "-k " } else { "" },
        quoted(&secret)
    ));
    Ok(())
}

/// Returns the name of this program with the flags that name the store, for commands to copy.
fn command_line(global: &Global) -> String {
    let mut line = quoted(&std::env::args().next().unwrap_or_else(|| "tenure".to_owned()));
    let config = global.config.as_deref().map(Path::display).map(|path| path.to_string());
    let redis_url = global.redis_url.as_deref().map(masked);
    let flags = [
        ("--backend", &global.backend),
        ("--store", &global.store),
        ("--redis-url", &redis_url),
        ("--config", &config),
    ];
    for (name, value) in flags {
        if let Some(value) = value {
            line += &format!(" {name} {}", quoted(value));
        }
    }
    line
}

/// Quotes a word for a shell, if it needs that.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_would_split_them() {
        assert_eq!(quoted("target/release/tenure"), "target/release/tenure");
        assert_eq!(quoted("/home/anna's files/x"), r"'/home/anna'\''s files/x'");
    }
}
