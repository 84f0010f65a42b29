//! A certificate authority per test, and server certificates good and bad.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// What is wrong with the server's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Nothing.
    None,
    /// It expired long ago.
    Expired,
    /// It expires in ten days.
    ExpiresSoon,
    /// It is for another host.
    OtherName,
    /// Another authority signed it.
    OtherAuthority,
}

/// An authority that a node trusts, and the server side of TLS.
pub(crate) struct Pki {
    /// The authority's certificate, for `ca_file`.
    pub(crate) ca_pem: String,
    /// For the server.
    pub(crate) server: Arc<ServerConfig>,
}

impl Pki {
    #[expect(clippy::disallowed_methods, reason = "a certificate that expires soon does so relative to now")]
    pub(crate) fn new(flaw: Flaw) -> Self {
        let (ca_pem, trusted) = authority("Test authority");
        let (_, other) = authority("Somebody else");
        let issuer = if flaw == Flaw::OtherAuthority { other } else { trusted };
        let names = match flaw {
            Flaw::OtherName => vec!["elsewhere.example.com".to_owned()],
            _ => vec!["127.0.0.1".to_owned(), "localhost".to_owned()],
        };
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, "collector");
        params.use_authority_key_identifier_extension = true;
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = match flaw {
            Flaw::Expired => date_time_ymd(2021, 1, 1),
            Flaw::ExpiresSoon => (SystemTime::now() + Duration::from_secs(10 * 24 * 3600)).into(),
            _ => date_time_ymd(2100, 1, 1),
        };
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)
            .unwrap();
        Self { ca_pem, server: Arc::new(server) }
    }
}

fn authority(name: &str) -> (String, Issuer<'static, KeyPair>) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2100, 1, 1);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (certificate.pem(), Issuer::new(params, key))
}
