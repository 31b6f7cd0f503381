//! TLS by the operator's own certificate.

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::TLS13;

use crate::error::{Error, ErrorKind, Result};

/// What a server shows: `certificate` is a PEM file with its certificate and those between it and a root, its own first; `key` is a PEM file
/// with its private key (PKCS #8, PKCS #1 or SEC1). TLS 1.3 alone is spoken.
///
/// # Errors
/// `Io` for a file that cannot be read; `Usage` for one that holds no certificate or no key, or where they do not belong together.
pub(crate) fn identity(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>> {
    let certificates = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
        .map_err(|e| fault("tls_cert", certificate, e, "certificate"))?;
    if certificates.is_empty() {
        return Err(fault("tls_cert", certificate, PemError::NoItemsFound, "certificate"));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| {
        let is_encrypted = std::fs::read_to_string(key).is_ok_and(|text| text.contains("ENCRYPTED"));
        let advice = "is encrypted; write one without a passphrase: openssl pkey -in KEY -out PLAIN";
        if is_encrypted { wrong("tls_key", key, advice) } else { fault("tls_key", key, e, "private key") }
    })?;
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])
        .map(|builder| builder.with_no_client_auth());
    let config = config.and_then(|builder| builder.with_single_cert(certificates, private));
    config.map(Arc::new).map_err(|e| {
        wrong("tls_cert", certificate, format_args!("and its key {} do not make an identity: {e}. Keys are EC (P-256, P-384), Ed25519, or RSA of 2048 bits and more", key.display()))
    })
}

fn wrong(option: &str, file: &Path, message: impl Display) -> Error {
    Error::new(ErrorKind::Usage, format_args!("option `{option}` {}", file.display()), message)
}

fn fault(option: &str, file: &Path, error: PemError, expected: &str) -> Error {
    match error {
        PemError::Io(error) => Error::io(file, error),
        PemError::NoItemsFound => {
            wrong(option, file, format_args!("holds no {expected} in PEM; it begins with -----BEGIN"))
        }
        error => wrong(option, file, format_args!("is no PEM file with a {expected}: {error:?}")),
    }
}
