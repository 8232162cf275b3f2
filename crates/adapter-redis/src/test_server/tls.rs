//! A server that speaks TLS, vouched for by an authority that nobody else knows.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use super::{Server, free_port};

/// A server with a port for TLS beside the plain one.
pub struct Tls {
    server: Server,
    dir: TempDir,
}

impl Tls {
    /// Starts one that takes any client.
    ///
    /// # Panics
    /// As [`Server::start`].
    #[must_use]
    pub fn start() -> Self {
        Self::start_asking("no")
    }

    /// Starts one that takes only clients with a certificate of its authority.
    ///
    /// # Panics
    /// As [`Server::start`].
    #[must_use]
    pub fn start_asking_for_certificates() -> Self {
        Self::start_asking("yes")
    }

    fn start_asking(clients: &str) -> Self {
        let dir = TempDir::new().unwrap_or_else(|error| panic!("no temporary directory for certificates: {error}"));
        write_certificates(dir.path()).unwrap_or_else(|error| panic!("no certificates could be made: {error}"));
        let file = |name: &str| dir.path().join(name).display().to_string();
        let server = Server::start_each(|| {
            let port = free_port().to_string();
            let (ca, cert, key) = (file("ca.pem"), file("server.pem"), file("server.key"));
            let words = ["--tls-port", &port, "--tls-ca-cert-file", &ca, "--tls-cert-file", &cert];
            let more = ["--tls-key-file", &key, "--tls-auth-clients", clients];
            words.iter().chain(&more).map(|&word| word.to_owned()).collect()
        });
        Self { server, dir }
    }

    /// Where it speaks TLS.
    ///
    /// # Panics
    /// Where the server does not say.
    #[must_use]
    pub fn url(&self) -> String {
        let (_, port): (String, u16) = self.server.ask(&["CONFIG", "GET", "tls-port"]);
        format!("rediss://127.0.0.1:{port}")
    }

    /// The server, also without TLS.
    #[must_use]
    pub const fn server(&self) -> &Server {
        &self.server
    }

    /// The certificate of its authority.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// A certificate for a client, and its key.
    #[must_use]
    pub fn client(&self) -> (PathBuf, PathBuf) {
        (self.dir.path().join("client.pem"), self.dir.path().join("client.key"))
    }

    /// An authority that vouches for nobody here.
    #[must_use]
    pub fn stranger(&self) -> PathBuf {
        self.dir.path().join("stranger.pem")
    }
}

/// Without names of their own they would all pass for signed by themselves.
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
