//! What the tests' own clients begin TLS with.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};

use super::{Pair, Pki};

/// Whom a client trusts, what it shows, and what it speaks.
pub struct Trust<'a> {
    authority: &'a Pki,
    pair: Option<&'a Pair>,
    versions: Vec<&'static SupportedProtocolVersion>,
}

impl<'a> Trust<'a> {
    pub fn new(authority: &'a Pki) -> Self {
        Self {
            authority,
            pair: None,
            versions: vec![&version::TLS13, &version::TLS12],
        }
    }

    /// Shows a certificate.
    pub fn showing(self, pair: &'a Pair) -> Self {
        Self {
            pair: Some(pair),
            ..self
        }
    }

    /// Speaks only this version.
    pub fn speaking(self, version: &'static SupportedProtocolVersion) -> Self {
        Self {
            versions: vec![version],
            ..self
        }
    }

    /// Ready to be used.
    pub fn config(self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.authority.ca_path()) {
            roots.add(certificate).expect("an authority");
        }
        let builder = ClientConfig::builder_with_provider(default_provider().into())
            .with_protocol_versions(&self.versions)
            .expect("versions")
            .with_root_certificates(roots);
        Arc::new(match self.pair {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let key = PrivateKeyDer::from_pem_file(&pair.key).expect("a key");
                builder
                    .with_client_auth_cert(certificates(&pair.cert), key)
                    .expect("a pair")
            }
        })
    }
}

fn certificates(path: &Path) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(path)
        .expect("a file")
        .collect::<Result<_, _>>()
        .expect("certificates")
}
