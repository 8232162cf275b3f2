//! Checks of the gateway's settings, for `tenure doctor` and `tenure config validate`.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use tenure_domain::{Millis, Timestamp};
use tenure_ports::Clock as _;
use tenure_service::rfc3339;

use tenure_ports::{Diagnosis, Severity};

use crate::commands::gateway::{options, secrets};
use crate::diagnosis::{diagnosis, settings_failures};
use crate::output::Output;
use crate::settings::{GATEWAY, GatewaySettings, Key, REDIS, Settings, Source};
use tenure_ports::SystemClock;

/// How long a connection to the upstream may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// A certificate that expires within this time should already have been renewed.
const SOON: Millis = Millis::days(14);
/// The open files that a gateway should be allowed. Each client takes two: one for itself, one for the upstream.
const FILES: u64 = 4_096;
/// The shortest plausible prefixes of a network of proxies, for IPv4 and IPv6.
const WIDEST: (u8, u8) = (8, 16);

/// Checks the settings and the files that they name.
pub(crate) fn examine(settings: &Settings) -> Vec<Diagnosis> {
    let gateway = match GatewaySettings::read(settings) {
        Ok(gateway) => gateway,
        Err(error) => return settings_failures(&error).collect(),
    };
    let mut findings = listeners(&gateway);
    findings.extend(proxies(&gateway));
    findings.extend(files(settings));
    findings.extend(certificate(&gateway));
    if let Err(problem) = options::profile(&gateway) {
        findings.push(diagnosis(Severity::Failure, problem.to_string(), "correct it before you start the gateway"));
    }
    findings
}

/// Checks the upstream and the limits of this machine.
pub(crate) fn probe(settings: &Settings) -> Vec<Diagnosis> {
    let gateway = GatewaySettings::read(settings).ok();
    let mut findings =
        gateway.and_then(|gateway| Some(upstream(gateway.upstream.as_deref()?, gateway.listen))).unwrap_or_default();
    findings.extend(descriptors());
    findings
}

fn listeners(gateway: &GatewaySettings) -> Vec<Diagnosis> {
    if gateway.tls_cert.is_some() {
        return Vec::new();
    }
    let listeners = [
        (&GATEWAY.listen, gateway.listen, "tokens", "behind a proxy that speaks TLS"),
        (&GATEWAY.admin_listen, gateway.admin_listen, "the operators' secret", "and reach it through a tunnel"),
    ];
    let beyond = listeners.into_iter().filter(|(_, address, ..)| !address.ip().to_canonical().is_loopback());
    let beyond = beyond.map(|(key, address, what, or)| {
        let what = format!("{key} is {address}, beyond loopback and without TLS: {what} cross the network unencrypted");
        let advice = format!("set {} and {}, or listen on loopback, {or}", GATEWAY.tls_cert, GATEWAY.tls_key);
        diagnosis(Severity::Warning, what, advice)
    });
    let beyond: Vec<Diagnosis> = beyond.collect();
    if beyond.is_empty() {
        return vec![diagnosis(Severity::Ok, "the gateway listens only on loopback", "")];
    }
    beyond
}

fn proxies(gateway: &GatewaySettings) -> Vec<Diagnosis> {
    let key = &GATEWAY.trusted_proxies;
    let wide = gateway.trusted_proxies.iter().filter_map(|network| {
        let widest = if network.addr().is_ipv4() { WIDEST.0 } else { WIDEST.1 };
        let level = match network.prefix_len() {
            0 => Severity::Failure,
            bits if bits < widest => Severity::Warning,
            _ => return None,
        };
        let what = format!("{key} has {network}: any client from there can claim any address");
        Some(diagnosis(level, what, "name the proxies' own addresses"))
    });
    wide.collect()
}

/// A setting that names a file with a secret.
struct Secret {
    key: &'static Key,
    /// The kind of secret, which decides what is checked.
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A secret of Tenure itself, which must be hard to guess.
    OfTenure,
    /// A secret of another service, which may be anything.
    OfOthers,
    /// A password, of which only the first line is used.
    Password,
    /// The key of a certificate. A group may read it, which is common for keys.
    Key,
}

static SECRETS: [Secret; 8] = [
    Secret { key: &GATEWAY.admin_secret_file, kind: Kind::OfTenure },
    Secret { key: &GATEWAY.enrol_secret_file, kind: Kind::OfTenure },
    Secret { key: &GATEWAY.metrics_secret_file, kind: Kind::OfTenure },
    Secret { key: &GATEWAY.upstream_secret_file, kind: Kind::OfOthers },
    Secret { key: &REDIS.password_file, kind: Kind::Password },
    Secret { key: &REDIS.sentinel_password_file, kind: Kind::Password },
    Secret { key: &GATEWAY.tls_key, kind: Kind::Key },
    Secret { key: &REDIS.tls_key, kind: Kind::Key },
];

fn files(settings: &Settings) -> Vec<Diagnosis> {
    SECRETS.iter().flat_map(|secret| file(secret, settings)).collect()
}

fn file(Secret { key, kind }: &Secret, settings: &Settings) -> Vec<Diagnosis> {
    let setting = settings.effective(key);
    let Some(path) = setting.value.map(|value| value.to_string()) else { return Vec::new() };
    let path = Path::new(&path);
    let shown = path.display();
    let fail = |what: String, advice: String| vec![diagnosis(Severity::Failure, format!("{key}: {what}"), advice)];
    let found = match std::fs::metadata(path) {
        Ok(found) => found,
        // The gateway creates the default file when it starts.
        Err(_) if *setting.source == Source::Default => return Vec::new(),
        Err(error) => return fail(format!("could not read {shown}: {error}"), "name an existing file".to_owned()),
    };
    let (mode, owner, user) = (found.mode() & 0o7777, found.uid(), rustix::process::geteuid().as_raw());
    if !found.is_file() {
        return fail(format!("{shown} is not a regular file"), "name a file".to_owned());
    }
    if owner != user && owner != 0 {
        let what = format!("{shown} belongs to the user with the id {owner}, who can change it");
        return fail(what, format!("chown it to the user who runs the gateway ({user})"));
    }
    if mode & 0o022 != 0 {
        return fail(format!("others can write {shown} (mode {mode:o})"), format!("chmod 600 {shown}"));
    }
    let quiet = Output::new(false, true);
    let read = match kind {
        Kind::OfTenure => secrets::of_tenure(key, path, quiet).map(drop),
        Kind::OfOthers => secrets::read(key, path, quiet).map(drop),
        Kind::Password | Kind::Key => Ok(()),
    };
    if let Err(problem) = read {
        return vec![diagnosis(Severity::Failure, problem.to_string(), "correct the file, or name another")];
    }
    let readers = if *kind == Kind::Key { 0o007 } else { 0o077 };
    if mode & readers != 0 {
        let what = format!("{key}: others can read {shown} (mode {mode:o})");
        return vec![diagnosis(Severity::Warning, what, format!("chmod 600 {shown}"))];
    }
    vec![diagnosis(Severity::Ok, format!("{key}: nobody else can read or change {shown}"), "")]
}

fn certificate(gateway: &GatewaySettings) -> Option<Diagnosis> {
    let files = options::tls_files(gateway)?;
    let (key, cert) = (&GATEWAY.tls_cert, files.cert.display());
    let fail = |what: String, advice: &str| Some(diagnosis(Severity::Failure, what, advice));
    let leaf = match files.leaf() {
        Ok(leaf) => leaf,
        Err(error) => {
            return fail(format!("{key}: {error}"), "name a certificate and the key that belongs to it");
        }
    };
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(&leaf) else {
        return fail(format!("{key}: {cert}: not an X.509 certificate"), "have it issued again");
    };
    let at = |time: x509_parser::time::ASN1Time| {
        Timestamp::from_millis(u64::try_from(time.timestamp()).unwrap_or(0).saturating_mul(1_000))
    };
    let (from, until, now) = (at(parsed.validity().not_before), at(parsed.validity().not_after), SystemClock.now());
    let what = |text: &str, when| format!("{key}: {cert} {text} {}", rfc3339(when));
    match () {
        () if until <= now => {
            fail(what("expired on", until), "renew it; the gateway takes the new one without a restart")
        }
        () if from > now => {
            fail(what("is valid only from", from), "set the clock, or have the certificate issued again")
        }
        () if until.since(now) < SOON => {
            let advice = "renew it; the gateway takes the new one without a restart";
            Some(diagnosis(Severity::Warning, what("expires on", until), advice))
        }
        () => Some(diagnosis(Severity::Ok, what("matches its key and is valid until", until), "")),
    }
}

fn upstream(url: &str, listen: SocketAddr) -> Vec<Diagnosis> {
    let uri: Option<http::Uri> = url.parse().ok();
    let place = uri.as_ref().and_then(|uri| {
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        Some((uri.host()?.trim_matches(['[', ']']).to_owned(), port))
    });
    let key = &GATEWAY.upstream;
    let advice = format!("start it, or correct {key}");
    let addresses = place.map(|place| place.to_socket_addrs().map(Iterator::collect::<Vec<_>>));
    let addresses = match addresses {
        Some(Ok(addresses)) if !addresses.is_empty() => addresses,
        Some(Err(error)) => {
            return vec![diagnosis(Severity::Warning, format!("{key} is {url}: {error}"), advice)];
        }
        _ => {
            return vec![diagnosis(Severity::Warning, format!("{key} is {url}: there is no such host"), advice)];
        }
    };
    if addresses.contains(&listen) {
        let what = format!("{key} is {url}, which is the gateway itself ({})", GATEWAY.listen);
        return vec![diagnosis(Severity::Failure, what, "name the service behind it")];
    }
    let failures: Vec<String> = addresses
        .iter()
        .map_while(|address| TcpStream::connect_timeout(address, PATIENCE).err().map(|error| error.to_string()))
        .collect();
    let reached = failures.len() < addresses.len();
    let mut findings = vec![if reached {
        diagnosis(Severity::Ok, format!("{key} is {url}, which answers"), "")
    } else {
        let why = failures.first().map_or("", String::as_str);
        diagnosis(Severity::Warning, format!("{key} is {url}: no answer: {why}"), advice)
    }];
    findings.extend(addresses.iter().find_map(|address| by_others(url, *address)));
    findings
}

/// Checks whether others can reach the upstream without the gateway, as far as this machine can tell.
fn by_others(url: &str, address: SocketAddr) -> Option<Diagnosis> {
    let key = &GATEWAY.upstream;
    let ip = address.ip().to_canonical();
    let is_here = ip.is_loopback() || TcpListener::bind((ip, 0)).is_ok();
    let advice = "bind it to 127.0.0.1, or let a firewall admit only the gateway";
    if !is_here {
        let what =
            format!("{key} is {url}, on another machine: whether others can reach it cannot be checked from here");
        return Some(diagnosis(Severity::Ok, what, "let only this machine reach it: others there need no session"));
    }
    let beyond = listening(address.port()).into_iter().find(|listener| !listener.to_canonical().is_loopback());
    let at = beyond.or(Some(ip).filter(|ip| !ip.is_loopback()))?;
    let what = format!(
        "{key} is {url}, and the service listens at {}: a client that reaches that address needs no session",
        SocketAddr::new(at, address.port())
    );
    Some(diagnosis(Severity::Warning, what, advice))
}

/// Returns the addresses at which this machine listens on a port; none if the system does not tell.
fn listening(port: u16) -> Vec<IpAddr> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| std::fs::read_to_string(path).unwrap_or_default());
    tables.iter().flat_map(|table| table.lines().skip(1)).filter_map(|line| listener(line, port)).collect()
}

/// Parses a line of `/proc/net/tcp`, see proc(5): the local address in the machine's byte order, and the state, which is 0A
/// for a listener. Returns the address if it listens on the port.
fn listener(line: &str, port: u16) -> Option<IpAddr> {
    let mut fields = line.split_whitespace();
    let (address, at) = fields.nth(1)?.split_once(':')?;
    let state = fields.nth(1)?;
    if state != "0A" || u16::from_str_radix(at, 16) != Ok(port) {
        return None;
    }
    let words: Option<Vec<u8>> = (0..address.len() / 8)
        .map(|word| Some(u32::from_str_radix(address.get(word * 8..word * 8 + 8)?, 16).ok()?.to_ne_bytes()))
        .collect::<Option<Vec<_>>>()
        .map(|words| words.concat());
    let bytes = words?;
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

fn descriptors() -> Option<Diagnosis> {
    // The gateway raises its own limit to the maximum.
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let few = most.filter(|most| *most < FILES)?;
    let what = format!("a process may have {few} files open, and each client of the gateway takes two");
    Some(diagnosis(Severity::Warning, what, format!("raise the limit (ulimit -Hn, LimitNOFILE=) to {FILES} or more")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn listeners_are_read_from_the_systems_table() {
        let v4 = "   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100";
        let loopback = v4.replace("00000000:1F90", "0100007F:1F90");
        let v6 = v4.replace("00000000:1F90", "00000000000000000000000001000000:1F90");
        let any6 = v4.replace("00000000:1F90", "00000000000000000000000000000000:1F90");
        let read = |line: &str| listener(line, 8080).map(|address| address.to_string());
        assert_eq!(read(v4).as_deref(), Some("0.0.0.0"));
        assert_eq!(read(&loopback).as_deref(), Some("127.0.0.1"));
        assert_eq!((read(&v6).as_deref(), read(&any6).as_deref()), (Some("::1"), Some("::")));
        assert_eq!(listener(v4, 8081), None);
        assert_eq!(read(&v4.replace(" 0A ", " 01 ")), None);
        assert_eq!(read("  sl  local_address rem_address   st"), None);
    }
}
