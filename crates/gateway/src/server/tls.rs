//! The TLS certificate, which is read again when its files change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::options::TlsFiles;

/// How often the files are checked for changes.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// The reason why a certificate or its key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct TlsError {
    path: PathBuf,
    reason: String,
}

/// The certificate and its key, shared by all handshakes.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    files: TlsFiles,
    current: Arc<Current>,
}

#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl Certificate {
    pub(crate) fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        let current = Arc::new(Current(ArcSwap::from_pointee(read(files)?)));
        Ok(Self { files: files.clone(), current })
    }

    /// Makes the configuration of a server: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1.
    pub(crate) fn acceptor(self) -> TlsAcceptor {
        let builder = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().expect("ring knows TLS 1.2 and 1.3");
        let mut config = builder.with_no_client_auth().with_cert_resolver(self.current);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }

    /// Reads the files again whenever they change. If they cannot be used, that is logged and the old certificate
    /// stays.
    pub(crate) async fn reload_on_change(self, end: CancellationToken) {
        let mut seen = file_stamps(&self.files);
        while tokio::time::timeout(POLL_INTERVAL, end.cancelled()).await.is_err() {
            let now = file_stamps(&self.files);
            if now == seen {
                continue;
            }
            seen = now;
            match read(&self.files) {
                Ok(key) => {
                    self.current.0.store(Arc::new(key));
                    tracing::info!(certificate = %self.files.cert.display(), "the certificate was read again");
                }
                Err(error) => tracing::error!(%error, "the changed certificate cannot be used: the old one stays in \
                                                       use"),
            }
        }
    }
}

/// The state of a file, which changes when the file is written or replaced. The time is only compared for equality.
fn file_stamps(files: &TlsFiles) -> [Option<(std::time::SystemTime, u64)>; 2] {
    [&files.cert, &files.key].map(|path| {
        let meta = std::fs::metadata(path).ok()?;
        Some((meta.modified().ok()?, meta.len()))
    })
}

impl TlsFiles {
    /// Returns the certificate in DER if it can be used with its key.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn leaf(&self) -> Result<Vec<u8>, TlsError> {
        Ok(read(self)?.cert.first().map(|leaf| leaf.to_vec()).unwrap_or_default())
    }
}

fn read(files: &TlsFiles) -> Result<CertifiedKey, TlsError> {
    let fail = |path: &Path, reason: String| TlsError { path: path.to_owned(), reason };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect)
        .map_err(|error| fail(&files.cert, format!("not a certificate in PEM: {error}")))?;
    if chain.is_empty() {
        return Err(fail(&files.cert, "holds no certificate: it needs the chain in PEM".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| fail(&files.key, format!("not a private key in PEM: {error}")))?;
    let key = ring::sign::any_supported_type(&key)
        .map_err(|error| fail(&files.key, format!("a key of this kind cannot be used: {error}")))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(certified),
        Err(error) => Err(fail(&files.key, format!("not the key of {}: {error}", files.cert.display()))),
    }
}
