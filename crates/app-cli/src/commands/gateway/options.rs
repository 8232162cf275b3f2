//! Conversion of settings into the options of the gateway.

use http::uri::{Authority, Scheme};
use http::{HeaderName, HeaderValue};
use tenure_gateway::{EnrolmentOptions, Options, Profile, TlsFiles, Upstream, UpstreamAuth};
use tenure_tower::request::header_fields::can_be_set;

use super::secrets;
use crate::error::CliError;
use crate::output::Output;
use crate::settings::{self, GATEWAY, GatewaySettings, Key, Settings, SettingsError, masked};

/// Returns the options of the gateway, with the secrets from their files. Creates the operators' secret if there is none.
///
/// # Errors
/// [`CliError`] that names the setting.
pub(super) fn of(settings: &Settings, out: Output) -> Result<Options, CliError> {
    let values = GatewaySettings::read(settings)?;
    let file = values.admin_secret_file.as_deref();
    let file = file.ok_or_else(|| SettingsError::one(format!("{} is not set", GATEWAY.admin_secret_file)))?;
    let mut options = Options::new(secrets::of_operators(file, out)?);
    options.listen = values.listen;
    options.admin_listen = values.admin_listen;
    options.tls = tls_files(&values);
    options.upstream = values.upstream.as_deref().map(upstream).transpose()?;
    options.profile = profile(&values)?;
    options.enrolment = enrolment(&values, out)?;
    options.upstream_auth = upstream_auth(&values, out)?;
    options.store_loss_grace = values.store_loss_grace;
    options.trusted_proxies = values.trusted_proxies;
    options.public_paths = values.public_paths;
    options.user_header = values.user_header;
    options.cookie_name = values.cookie_name;
    check_headers(&options)?;
    options.auto_rotate_cookies = values.auto_rotate_cookies;
    options.hsts = values.hsts;
    options.cors_origins = values.cors_origins;
    options.admin_hosts = values.admin_hosts;
    options.admin_tls = values.admin_tls;
    if let Some(file) = values.metrics_secret_file {
        options.metrics_secret = Some(secrets::of_tenure(&GATEWAY.metrics_secret_file, &file, out)?);
    }
    let limits = &mut options.limits;
    limits.response = values.response_timeout;
    limits.header = values.keep_alive_timeout;
    limits.stall = values.stall_timeout;
    limits.connections = values.max_connections;
    limits.per_address = values.max_connections_per_address;
    limits.header_bytes = values.max_header_bytes;
    Ok(options)
}

/// Checks that the headers that the gateway sets have no other meaning, and are not the same.
fn check_headers(options: &Options) -> Result<(), CliError> {
    let auth = options.upstream_auth.as_ref().map(|auth| &auth.header);
    let taken = |key: &Key, name: &HeaderName| {
        let problem = format!("{key} is {name}, which means something else to the upstream: choose another header");
        Err(SettingsError::one(problem).into())
    };
    if !can_be_set(&options.user_header) || auth == Some(&options.user_header) {
        return taken(&GATEWAY.user_header, &options.user_header);
    }
    match auth {
        Some(name) if *name != http::header::COOKIE && !can_be_set(name) => taken(&GATEWAY.upstream_auth_header, name),
        _ => Ok(()),
    }
}

/// Returns the files of the gateway's certificate; `None` if it has none.
pub(crate) fn tls_files(values: &GatewaySettings) -> Option<TlsFiles> {
    Some(TlsFiles { cert: values.tls_cert.clone()?, key: values.tls_key.clone()? })
}

fn upstream(url: &str) -> Result<Upstream, CliError> {
    let key = &GATEWAY.upstream;
    let refuse = || SettingsError::one(format!("{key} is {}, which is not a URL with a host", masked(url)));
    let (scheme, rest) = url.split_once("://").ok_or_else(refuse)?;
    let scheme = if scheme == "https" { Scheme::HTTPS } else { Scheme::HTTP };
    let authority: Authority = rest.trim_end_matches('/').parse().map_err(|_| refuse())?;
    Ok(Upstream { scheme, authority })
}

fn enrolment(values: &GatewaySettings, out: Output) -> Result<Option<EnrolmentOptions>, CliError> {
    let Some(file) = &values.enrol_secret_file else {
        return Ok(None);
    };
    let secret = secrets::of_tenure(&GATEWAY.enrol_secret_file, file, out)?;
    Ok(Some(EnrolmentOptions { secret, subject: values.enrol_subject.clone() }))
}

fn upstream_auth(values: &GatewaySettings, out: Output) -> Result<Option<UpstreamAuth>, CliError> {
    let Some(file) = &values.upstream_secret_file else {
        return Ok(None);
    };
    let secret = secrets::read(&GATEWAY.upstream_secret_file, file, out)?;
    let header = &values.upstream_auth_header;
    let key = GATEWAY.upstream_auth_header.name;
    let refuse = || SettingsError::one(format!("{key} is {header}, which is not a valid header"));
    let (name, value) = match header.split_once(": ") {
        Some((name, scheme)) => (name, format!("{scheme} {}", secret.expose())),
        None => (header.as_str(), secret.expose().to_owned()),
    };
    let name: HeaderName = name.parse().map_err(|_| refuse())?;
    let mut value = HeaderValue::try_from(value).map_err(|_| refuse())?;
    value.set_sensitive(true);
    Ok(Some(UpstreamAuth { header: name, value }))
}

/// Returns the profile of the upstream's clients.
///
/// # Errors
/// [`CliError::Settings`] for a profile without an upstream.
pub(crate) fn profile(values: &GatewaySettings) -> Result<Option<Profile>, CliError> {
    match values.profile {
        None => Ok(None),
        Some(_) if values.upstream.is_none() => {
            let (profile, upstream) = (&GATEWAY.profile, &GATEWAY.upstream);
            let problem =
                format!("{profile} is set, but {upstream} is not; name the service to forward to (--upstream URL)");
            Err(SettingsError::one(problem).into())
        }
        Some(settings::Profile::OpenClaw) => {
            Ok(Some(Profile::OpenClaw { loopback_as: values.openclaw_client_address }))
        }
    }
}
