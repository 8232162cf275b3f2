//! TLS: the trusted authorities, and the client certificate.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::setting_error::SettingError;

/// The files (PEM) with the trusted authorities and the client certificate.
#[derive(Clone)]
pub(crate) struct TlsFiles {
    /// The authorities to trust; the system's if none are given.
    pub(crate) ca: Option<PathBuf>,
    pub(crate) cert: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
}

/// Returns the configuration that the files contain now.
pub(crate) fn config(files: &TlsFiles) -> Result<Arc<ClientConfig>, SettingError> {
    let roots = match &files.ca {
        Some(file) => given(file)?,
        None => system()?,
    };
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .map_err(|error| SettingError::new("redis.url", format!("TLS cannot be set up: {error}")).with_source(error))?
        .with_root_certificates(roots);
    let config = match (&files.cert, &files.key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(certificate), Some(key)) => {
            let chain = certificates("redis.tls_cert", certificate)?;
            let read = PrivateKeyDer::from_pem_file(key);
            let read = read.map_err(|error| unreadable("redis.tls_key", key, "private key", error))?;
            builder.with_client_auth_cert(chain, read).map_err(|error| {
                let message = format!("{}: it is no key for redis.tls_cert: {error}", key.display());
                SettingError::new("redis.tls_key", message).with_source(error)
            })?
        }
        (Some(_), None) => {
            return Err(SettingError::new("redis.tls_key", "it is missing: redis.tls_cert needs its key"));
        }
        (None, Some(_)) => return Err(SettingError::new("redis.tls_cert", "it is missing: redis.tls_key is set")),
    };
    Ok(Arc::new(config))
}

fn given(file: &Path) -> Result<RootCertStore, SettingError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("redis.tls_ca", file)? {
        roots.add(certificate).map_err(|error| {
            let message = format!("{}: a certificate in it is of no use: {error}", file.display());
            SettingError::new("redis.tls_ca", message).with_source(error)
        })?;
    }
    Ok(roots)
}

fn system() -> Result<RootCertStore, SettingError> {
    let mut roots = RootCertStore::empty();
    let (taken, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if taken == 0 {
        let message = "this system trusts no certificate authorities; name the server's in it";
        return Err(SettingError::new("redis.tls_ca", message));
    }
    Ok(roots)
}

fn certificates(setting: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, SettingError> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = read.map_err(|error| unreadable(setting, file, "certificate", error))?;
    if found.is_empty() {
        return Err(SettingError::new(setting, format!("{}: it holds no certificate (PEM)", file.display())));
    }
    Ok(found)
}

fn unreadable(setting: &'static str, file: &Path, what: &str, error: rustls::pki_types::pem::Error) -> SettingError {
    use rustls::pki_types::pem::Error;
    match error {
        Error::Io(error) => {
            SettingError::new(setting, format!("could not read {}: {error}", file.display())).with_source(error)
        }
        Error::NoItemsFound => SettingError::new(setting, format!("{}: it holds no {what} (PEM)", file.display())),
        // The error may contain a line of the file, so it is neither shown nor kept as the source.
        _ => SettingError::new(setting, format!("{}: it is no {what} (PEM)", file.display())),
    }
}
