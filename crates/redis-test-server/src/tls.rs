//! A server that speaks TLS, with a certificate of an authority of its own.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use crate::{Server, free_port};

/// A certificate authority, and certificates of it for servers and clients at 127.0.0.1.
pub struct Certificates {
    dir: TempDir,
}

impl Certificates {
    /// Makes the authority and the certificates.
    ///
    /// # Panics
    /// If no file can be written.
    #[must_use]
    pub fn make() -> Self {
        let dir = TempDir::new().unwrap_or_else(|error| panic!("no temporary directory for certificates: {error}"));
        write_certificates(dir.path()).unwrap_or_else(|error| panic!("no certificates could be made: {error}"));
        Self { dir }
    }

    /// Returns the certificate of the authority.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// Returns a certificate for a client, and its key.
    #[must_use]
    pub fn client(&self) -> (PathBuf, PathBuf) {
        (self.dir.path().join("client.pem"), self.dir.path().join("client.key"))
    }

    /// Returns the certificate of an authority that signed none of these.
    #[must_use]
    pub fn stranger(&self) -> PathBuf {
        self.dir.path().join("stranger.pem")
    }

    /// Returns the settings of a server that speaks TLS on `port`. `clients` says whether it requires client
    /// certificates.
    pub(crate) fn settings(&self, port: u16, clients: &str) -> Vec<(&'static str, String)> {
        let file = |name: &str| self.dir.path().join(name).display().to_string();
        vec![
            ("tls-port", port.to_string()),
            ("tls-ca-cert-file", file("ca.pem")),
            ("tls-cert-file", file("server.pem")),
            ("tls-key-file", file("server.key")),
            ("tls-auth-clients", clients.to_owned()),
        ]
    }

    /// Returns the settings as arguments, for a server that also speaks TLS to other servers.
    pub(crate) fn arguments(&self, clients: &str, between: &[&'static str]) -> Vec<String> {
        let mut settings = self.settings(free_port(), clients);
        settings.extend(between.iter().map(|name| (*name, "yes".to_owned())));
        settings.into_iter().flat_map(|(name, value)| [format!("--{name}"), value]).collect()
    }
}

/// A server with a port for TLS beside the plain one.
pub struct Tls {
    server: Server,
    certificates: Certificates,
}

impl Tls {
    /// Starts a server that accepts any client.
    ///
    /// # Panics
    /// As [`Server::start`].
    #[must_use]
    pub fn start() -> Self {
        Self::start_asking("no")
    }

    /// Starts a server that accepts only clients with a certificate of its authority.
    ///
    /// # Panics
    /// As [`Server::start`].
    #[must_use]
    pub fn start_asking_for_certificates() -> Self {
        Self::start_asking("yes")
    }

    fn start_asking(clients: &str) -> Self {
        let certificates = Certificates::make();
        let server = Server::start_each(|| certificates.arguments(clients, &[]));
        Self { server, certificates }
    }

    /// Returns the server's TLS URL.
    ///
    /// # Panics
    /// If the server does not answer.
    #[must_use]
    pub fn url(&self) -> String {
        format!("rediss://127.0.0.1:{}", tls_port(&self.server))
    }

    /// Puts another authority and its certificates into the same files, and has the server load them.
    ///
    /// # Panics
    /// If no file can be written, or if the server does not load them.
    pub fn renew(&self) {
        let made = write_certificates(self.certificates.dir.path());
        made.unwrap_or_else(|error| panic!("no certificates could be made: {error}"));
        let settings = self.certificates.settings(0, "yes");
        let files = settings.iter().filter(|(name, _)| name.ends_with("-file"));
        let words = files.flat_map(|(name, value)| [*name, value.as_str()]);
        let words: Vec<&str> = ["CONFIG", "SET"].into_iter().chain(words).collect();
        self.server.ask::<()>(&words);
    }

    /// Returns the server, which can also be used without TLS.
    #[must_use]
    pub const fn server(&self) -> &Server {
        &self.server
    }

    /// The files of the trusted authority and of the certificate.
    #[must_use]
    pub const fn certificates(&self) -> &Certificates {
        &self.certificates
    }
}

/// Returns the TLS URL of a port.
pub(crate) fn tls_port(server: &Server) -> u16 {
    server.ask::<(String, u16)>(&["CONFIG", "GET", "tls-port"]).1
}

/// Without names of their own the certificates would all count as self-signed.
fn named(name: &str, hosts: Vec<String>) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}

fn write_certificates(dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let authority = || -> Result<_, rcgen::Error> {
        let mut params = named("an authority", Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        Ok((params.self_signed(&key)?.pem(), Issuer::new(params, key)))
    };
    let (ca, issuer) = authority()?;
    std::fs::write(dir.join("ca.pem"), ca)?;
    std::fs::write(dir.join("stranger.pem"), authority()?.0)?;
    for name in ["server", "client"] {
        let key = KeyPair::generate()?;
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let certificate = named(name, names)?.signed_by(&key, &issuer)?;
        std::fs::write(dir.join(name).with_extension("pem"), certificate.pem())?;
        std::fs::write(dir.join(name).with_extension("key"), key.serialize_pem())?;
    }
    Ok(())
}
