//! The server's certificate: its own, signed by its own authority, or a given one.
//!
//! The authority lasts 20 years and is made once: nodes are told to trust `ca.pem`. The server's certificate is made again
//! at start when it is about to expire or does not name what it must.

use std::fmt::Write as _;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::clock::Timestamp;
use crate::state::{StateDir, StateError};

const DAY: i64 = 24 * 3600;
const CA_DAYS: i64 = 20 * 365;
const SERVER_DAYS: i64 = 800;
/// The server's certificate is renewed when it has less than this to live.
const RENEW_DAYS: i64 = 60;

/// Why there is no certificate to serve with.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file of the state could not be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// A certificate could not be made.
    #[error("cannot make the server's certificate")]
    Make(#[from] rcgen::Error),
    /// A file could not be opened.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{} holds no {wanted} in PEM: {reason}", path.display())]
    Pem {
        /// Which one.
        path: PathBuf,
        /// What was wanted.
        wanted: &'static str,
        /// What was found.
        reason: String,
    },
    /// The certificate and the key do not go together.
    #[error("cannot serve with certificate {} and key {}", certificate.display(), key.display())]
    Pair {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
        /// What TLS said.
        source: rustls::Error,
    },
}

fn key(state: &StateDir, name: &str) -> Result<KeyPair, TlsError> {
    if let Some(pem) = state.read(name)? {
        return Ok(KeyPair::from_pem(&pem)?);
    }
    let key = KeyPair::generate()?;
    state.write(name, &key.serialize_pem())?;
    Ok(key)
}

fn authority(now: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    // The name is part of every certificate signed before: it never changes.
    params.distinguished_name.push(DnType::CommonName, "opensvc-actions-collector CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = now.minus_seconds(DAY).calendar();
    params.not_after = now.minus_seconds(-CA_DAYS * DAY).calendar();
    params
}

/// Makes what is missing: the authority (`ca.key`, `ca.pem`), the key (`server.key`) and the certificate (`server.pem`)
/// for these names. Gives the paths of the certificate and the key.
///
/// # Errors
/// A file cannot be read or written, or a name is no name.
pub fn own_certificate(state: &StateDir, names: &[String], now: Timestamp) -> Result<(PathBuf, PathBuf), TlsError> {
    let ca_key = key(state, "ca.key")?;
    let ca = authority(now);
    if state.read("ca.pem")?.is_none() {
        state.write("ca.pem", &ca.self_signed(&ca_key)?.pem())?;
    }
    let server_key = key(state, "server.key")?;
    let usable = state.read("server.pem")?.is_some_and(|pem| still_good(&pem, names, now));
    if !usable {
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, "opensvc-actions-collector");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = now.minus_seconds(DAY).calendar();
        let end = now.minus_seconds(-SERVER_DAYS * DAY);
        params.not_after = end.calendar();
        let certificate = params.signed_by(&server_key, &Issuer::new(ca, ca_key))?;
        // Text before the first block is no part of it: it tells the next start what the certificate says.
        let mut pem = format!("expires {}\n", end.0);
        for name in names {
            let _ = writeln!(pem, "names {name}");
        }
        pem.push_str(&certificate.pem());
        state.write("server.pem", &pem)?;
        tracing::info!("made a certificate for {}", names.join(", "));
    }
    Ok((state.path("server.pem"), state.path("server.key")))
}

/// Whether a certificate of ours names all of these, and lasts.
fn still_good(pem: &str, names: &[String], now: Timestamp) -> bool {
    let header = || pem.lines().take_while(|line| !line.starts_with('-'));
    let expires = header().find_map(|line| line.strip_prefix("expires ")?.parse().ok().map(Timestamp));
    let is_in = |name: &String| header().any(|line| line.strip_prefix("names ") == Some(name));
    expires.is_some_and(|end| end.minus_seconds(RENEW_DAYS * DAY) > now) && names.iter().all(is_in)
}

/// Makes a TLS server of a certificate chain and a key, both in PEM.
///
/// # Errors
/// A file cannot be read, is no PEM, or they do not go together.
pub fn server(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let open = |path: &Path| {
        let file = std::fs::File::open(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })?;
        Ok::<_, TlsError>(BufReader::new(file))
    };
    let unusable = |path: &Path, wanted, reason: String| TlsError::Pem { path: path.to_owned(), wanted, reason };
    let chain = CertificateDer::pem_reader_iter(open(certificate)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unusable(certificate, "certificate", error.to_string()))?;
    let secret =
        PrivateKeyDer::from_pem_reader(open(key)?).map_err(|error| unusable(key, "private key", error.to_string()))?;
    let pair = |source| TlsError::Pair { certificate: certificate.to_owned(), key: key.to_owned(), source };
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(pair)?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(pair)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
