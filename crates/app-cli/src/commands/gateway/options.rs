//! From settings to what the gateway takes.

use std::net::IpAddr;
use std::path::Path;

use http::uri::{Authority, Scheme};
use http::{HeaderName, HeaderValue};
use ipnet::IpNet;
use tenure_domain::Subject;
use tenure_gateway::{EnrolmentOptions, Options, Profile, TlsFiles, Upstream, UpstreamAuth};
use tenure_tower::request::header_fields::can_be_set;
use tenure_tower::{CookieName, PublicPath};

use super::secrets;
use crate::error::CliError;
use crate::output::Output;
use crate::settings::{Settings, SettingsError, masked};

/// Reads what the settings name, secrets included; makes the operators' secret where there is none yet.
///
/// # Errors
/// [`CliError`] that names the setting.
pub(super) fn of(settings: &Settings, out: Output) -> Result<Options, CliError> {
    let file = settings.text("gateway.admin_secret_file").ok_or_else(|| unset("gateway.admin_secret_file"))?;
    let mut options = Options::new(secrets::of_operators(Path::new(&file), out)?);
    options.listen = parsed(settings, "gateway.listen")?;
    options.admin_listen = parsed(settings, "gateway.admin_listen")?;
    options.upstream = settings.text("gateway.upstream").map(|url| upstream(&url)).transpose()?;
    options.enrolment = enrolment(settings, out)?;
    options.upstream_auth = upstream_auth(settings, out)?;
    options.store_loss_grace =
        settings.span("gateway.store_loss_grace").map_or(options.store_loss_grace, std::time::Duration::from);
    let networks = settings.list("gateway.trusted_proxies");
    options.trusted_proxies = networks.iter().map(|text| network(text)).collect::<Result<_, _>>()?;
    options.public_paths = settings.list("gateway.public_paths").into_iter().map(PublicPath).collect();
    options.user_header = parsed(settings, "gateway.user_header")?;
    options.cookie_name = cookie_name(settings)?;
    check_headers(&options)?;
    options.profile = profile(settings)?;
    options.auto_rotate_cookies = settings.flag("gateway.auto_rotate_cookies");
    options.hsts = settings.span("gateway.hsts").map(std::time::Duration::from);
    if let (Some(cert), Some(key)) = (settings.text("gateway.tls_cert"), settings.text("gateway.tls_key")) {
        options.tls = Some(TlsFiles { cert: cert.into(), key: key.into() });
    }
    options.cors_origins = settings.list("gateway.cors_origins");
    options.admin_hosts = settings.list("gateway.admin_hosts");
    options.admin_tls = settings.text("gateway.admin_tls").map(|_| settings.flag("gateway.admin_tls"));
    if let Some(file) = settings.text("gateway.metrics_secret_file") {
        let secret = secrets::of_tenure("gateway.metrics_secret_file", Path::new(&file), out)?;
        options.metrics_secret = Some(secret);
    }
    let span = |name, default| settings.span(name).map_or(default, std::time::Duration::from);
    let limits = &mut options.limits;
    limits.response = span("gateway.response_timeout", limits.response);
    limits.header = span("gateway.keep_alive_timeout", limits.header);
    limits.stall = span("gateway.stall_timeout", limits.stall);
    let size = |name, default| settings.count(name).and_then(|count| usize::try_from(count).ok()).unwrap_or(default);
    limits.connections = size("gateway.max_connections", limits.connections);
    limits.per_address = size("gateway.max_connections_per_address", limits.per_address);
    limits.header_bytes = size("gateway.max_header_bytes", limits.header_bytes);
    Ok(options)
}

/// The gateway's own fields must not take the place of others, or of one another.
fn check_headers(options: &Options) -> Result<(), CliError> {
    let auth = options.upstream_auth.as_ref().map(|auth| &auth.header);
    let taken = |key: &str, name: &HeaderName| {
        let problem = format!("{key} is {name}, which means something else to the upstream: choose another header");
        Err(SettingsError::one(problem).into())
    };
    if !can_be_set(&options.user_header) || auth == Some(&options.user_header) {
        return taken("gateway.user_header", &options.user_header);
    }
    match auth {
        Some(name) if *name != http::header::COOKIE && !can_be_set(name) => taken("gateway.upstream_auth_header", name),
        _ => Ok(()),
    }
}

fn unset(name: &str) -> CliError {
    SettingsError::one(format!("{name} is not set")).into()
}

/// A setting whose kind has checked it already.
fn parsed<T: std::str::FromStr>(settings: &Settings, name: &str) -> Result<T, CliError> {
    let text = settings.text(name).ok_or_else(|| unset(name))?;
    text.parse().map_err(|_| SettingsError::one(format!("{name} is {text}, which cannot be used")).into())
}

fn cookie_name(settings: &Settings) -> Result<CookieName, CliError> {
    let text = settings.text("gateway.cookie_name").ok_or_else(|| unset("gateway.cookie_name"))?;
    let refuse = || SettingsError::one(format!("gateway.cookie_name is {text}, which is not a valid cookie name"));
    Ok(CookieName::new(&text).ok_or_else(refuse)?)
}

fn upstream(url: &str) -> Result<Upstream, CliError> {
    let refuse = || SettingsError::one(format!("gateway.upstream is {}, which is not a URL with a host", masked(url)));
    let (scheme, rest) = url.split_once("://").ok_or_else(refuse)?;
    let scheme = if scheme == "https" { Scheme::HTTPS } else { Scheme::HTTP };
    let authority: Authority = rest.trim_end_matches('/').parse().map_err(|_| refuse())?;
    Ok(Upstream { scheme, authority })
}

fn network(text: &str) -> Result<IpNet, CliError> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse::<IpNet>()
        .or_else(|_| address())
        .map_err(|_| SettingsError::one(format!("gateway.trusted_proxies has {text}, which is not a network")).into())
}

fn enrolment(settings: &Settings, out: Output) -> Result<Option<EnrolmentOptions>, CliError> {
    let Some(file) = settings.text("gateway.enrol_secret_file") else {
        return Ok(None);
    };
    let secret = secrets::of_tenure("gateway.enrol_secret_file", Path::new(&file), out)?;
    let subject = settings.text("gateway.enrol_subject").ok_or_else(|| unset("gateway.enrol_subject"))?;
    Ok(Some(EnrolmentOptions { secret, subject: Subject::new(&subject)? }))
}

fn upstream_auth(settings: &Settings, out: Output) -> Result<Option<UpstreamAuth>, CliError> {
    let Some(file) = settings.text("gateway.upstream_secret_file") else {
        return Ok(None);
    };
    let secret = secrets::read("gateway.upstream_secret_file", Path::new(&file), out)?;
    let header = settings.text("gateway.upstream_auth_header").ok_or_else(|| unset("gateway.upstream_auth_header"))?;
    let refuse =
        || SettingsError::one(format!("gateway.upstream_auth_header is {header}, which is not a valid header"));
    let (name, value) = match header.split_once(": ") {
        Some((name, scheme)) => (name, format!("{scheme} {}", secret.expose())),
        None => (header.as_str(), secret.expose().to_owned()),
    };
    let name: HeaderName = name.parse().map_err(|_| refuse())?;
    let mut value = HeaderValue::try_from(value).map_err(|_| refuse())?;
    value.set_sensitive(true);
    Ok(Some(UpstreamAuth { header: name, value }))
}

/// How the upstream's clients send their token.
///
/// # Errors
/// [`CliError::Settings`] for one without an upstream.
pub(crate) fn profile(settings: &Settings) -> Result<Option<Profile>, CliError> {
    if settings.text("gateway.profile").is_none() {
        return Ok(None);
    }
    if settings.text("gateway.upstream").is_none() {
        let problem = "gateway.profile is set, but gateway.upstream is not; name the service to forward to \
                       (--upstream URL)";
        return Err(SettingsError::one(problem).into());
    }
    Ok(Some(Profile::OpenClaw { loopback_as: parsed(settings, "gateway.openclaw_client_address")? }))
}
