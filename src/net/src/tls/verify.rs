//! Whether a peer's certificate is believed: its chain, its name, its pinned key.
//!
//! Signatures of the handshake are verified whatever else is switched off.

use std::cell::RefCell;
use std::fmt;
use std::sync::{Arc, OnceLock};

use petiole_core::auth::certificate::Certificate;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};
use sha2::{Digest, Sha256};

use super::names::{self, Facts};

thread_local! {
    /// What the last check on this thread refused. Checks run within a call of rustls, whose error
    /// has no place for it and decides which alert is sent.
    static REFUSED: RefCell<Option<Refused>> = const { RefCell::new(None) };
}

/// A certificate that was not believed.
#[derive(Debug)]
pub(super) struct Refused {
    certificate: Vec<u8>,
    /// Why.
    pub(super) error: Error,
}

impl Refused {
    /// The one of the error that has just been returned.
    pub(super) fn take() -> Option<Refused> {
        REFUSED.take()
    }

    pub(super) fn facts(&self) -> Option<Facts> {
        names::read(&self.certificate)
    }

    /// Its subject, and its SHA-256 in hex.
    pub(super) fn describe(self) -> (String, String) {
        let subject = self.facts().map(|facts| facts.certificate.full_subject);
        (
            subject.unwrap_or_default(),
            names::hex(&Sha256::digest(&self.certificate)),
        )
    }

    /// Keeps what was refused. Returns the error for the alert that `alert` makes of it.
    fn note(
        result: Result<(), Error>,
        certificate: &CertificateDer<'_>,
        alert: impl FnOnce(&Error) -> Error,
    ) -> Result<(), Error> {
        let told = result.as_ref().err().map(alert);
        REFUSED.set(result.err().map(|error| Refused {
            certificate: certificate.to_vec(),
            error,
        }));
        told.map_or(Ok(()), Err)
    }
}

/// The names of a peer's certificate, which was believed.
pub(super) fn peer(certificate: &CertificateDer<'_>) -> Option<Certificate> {
    names::read(certificate).map(|facts| facts.certificate)
}

/// A key, by its SHA-256, that is none of those that are pinned.
#[derive(Debug)]
pub(super) struct NotPinned(pub(super) [u8; 32]);

impl fmt::Display for NotPinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("certificate not pinned")
    }
}

impl std::error::Error for NotPinned {}

/// Keys that are accepted, by the SHA-256 of their SubjectPublicKeyInfo; none: any.
#[derive(Debug)]
pub(super) struct Pins(pub(super) Vec<[u8; 32]>);

impl Pins {
    fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        if self.0.is_empty() {
            return Ok(());
        }
        let facts = names::read(certificate).ok_or(CertificateError::BadEncoding)?;
        if self.0.contains(&facts.key) {
            return Ok(());
        }
        let error = OtherError(Arc::new(NotPinned(facts.key)));
        Err(CertificateError::Other(error).into())
    }
}

/// Who may sign certificates.
#[derive(Debug)]
pub(super) enum Authorities {
    /// Those of a file.
    Given {
        /// As signers.
        store: Arc<RootCertStore>,
        /// As certificates, by SHA-256: a peer may show one of them as its own, as those do who
        /// made a single certificate that signs itself.
        itself: Vec<[u8; 32]>,
    },
    /// Those that the system trusts.
    System,
}

impl Authorities {
    /// Those of a bundle; `None`: it holds none.
    pub(super) fn of(bundle: Vec<CertificateDer<'static>>) -> Option<Authorities> {
        let mut store = RootCertStore::empty();
        let mut itself = Vec::new();
        for certificate in bundle {
            let digest = Sha256::digest(&certificate).into();
            if store.add(certificate).is_ok() {
                itself.push(digest);
            }
        }
        (!store.is_empty()).then(|| Authorities::Given {
            store: Arc::new(store),
            itself,
        })
    }

    pub(super) fn store(&self) -> Arc<RootCertStore> {
        match self {
            Authorities::Given { store, .. } => store.clone(),
            Authorities::System => system(),
        }
    }

    /// Whether the certificate itself is among them, and valid now.
    fn holds(&self, certificate: &CertificateDer<'_>, now: UnixTime) -> Result<bool, Error> {
        let Authorities::Given { itself, .. } = self else {
            return Ok(false);
        };
        if !itself.contains(&Sha256::digest(certificate).into()) {
            return Ok(false);
        }
        let facts = names::read(certificate).ok_or(CertificateError::BadEncoding)?;
        let at = |seconds| UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let (not_before, not_after) = (at(facts.not_before), at(facts.not_after));
        if now < not_before {
            let time = now;
            return Err(CertificateError::NotValidYetContext { time, not_before }.into());
        }
        if now > not_after {
            let time = now;
            return Err(CertificateError::ExpiredContext { time, not_after }.into());
        }
        Ok(true)
    }
}

/// Read when the first certificate has to be checked against them: some 150 authorities cost 85 KB
/// that a gateway with a `ca_file` need not have.
fn system() -> Arc<RootCertStore> {
    static SYSTEM: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let load = || {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            log::warn!("Error reading the system's certificate authorities: {error}");
        }
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(found.certs);
        if store.is_empty() {
            log::warn!(
                "The system has no certificate authorities: install them (ca-certificates), set \
                 SSL_CERT_FILE or configure 'ca_file'"
            );
        }
        Arc::new(store)
    };
    SYSTEM.get_or_init(load).clone()
}

/// The error that is told the peer as `bad certificate`.
fn bad_certificate() -> Error {
    CertificateError::BadEncoding.into()
}

/// Checks the certificate of a server that was dialled.
#[derive(Debug)]
pub(super) struct ServerCheck {
    /// `None`: its chain and its name are not looked at.
    pub(super) authorities: Option<Authorities>,
    pub(super) pins: Pins,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCheck {
    fn check(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        if let Some(authorities) = &self.authorities {
            let parsed = ParsedCertificate::try_from(end_entity)?;
            if !authorities.holds(end_entity, now)? {
                verify_server_cert_signed_by_trust_anchor(
                    &parsed,
                    &authorities.store(),
                    intermediates,
                    now,
                    self.algorithms.all,
                )?;
            }
            verify_server_name(&parsed, name)?;
        }
        self.pins.check(end_entity)
    }
}

impl ServerCertVerifier for ServerCheck {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let checked = self.check(end_entity, intermediates, server_name, now);
        // Go's clients call every certificate bad, and operators of hubs know that line.
        Refused::note(checked, end_entity, |_| bad_certificate())
            .map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Checks the certificates of clients, who must have one.
#[derive(Debug)]
pub(super) struct ClientCheck {
    pub(super) authorities: Authorities,
    pub(super) chain: Arc<dyn ClientCertVerifier>,
    pub(super) pins: Pins,
}

impl ClientCheck {
    /// Certificates signed by these.
    pub(super) fn new(
        authorities: Authorities,
        pins: Pins,
        provider: &Arc<rustls::crypto::CryptoProvider>,
    ) -> Result<ClientCheck, rustls::server::VerifierBuilderError> {
        let builder =
            WebPkiClientVerifier::builder_with_provider(authorities.store(), provider.clone());
        // Clients choose their certificate by these names; those of the system would only cost some 10 KB
        // in each handshake.
        let builder = match authorities {
            Authorities::Given { .. } => builder,
            Authorities::System => builder.clear_root_hint_subjects(),
        };
        Ok(ClientCheck {
            authorities,
            chain: builder.build()?,
            pins,
        })
    }

    fn check(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        if !self.authorities.holds(end_entity, now)? {
            self.chain
                .verify_client_cert(end_entity, intermediates, now)?;
        }
        self.pins.check(end_entity)
    }
}

impl ClientCertVerifier for ClientCheck {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let checked = self.check(end_entity, intermediates, now);
        // Go's servers tell these apart.
        let alert = |error: &Error| match error {
            Error::InvalidCertificate(
                CertificateError::UnknownIssuer
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYetContext { .. },
            ) => error.clone(),
            _ => bad_certificate(),
        };
        Refused::note(checked, end_entity, alert).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
