//! From a `tls` block to what sessions are made with.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use petiole_core::config::model::{self, CertificateFiles, CipherSuite, Curve, TlsVersion};
use rustls::client::Resumption;
use rustls::crypto::ring::{cipher_suite, default_provider, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ClientConfig, InconsistentKeys, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion,
    version,
};

use super::names;
use super::verify::{Authorities, ClientCheck, Pins, ServerCheck};
use super::words::TlsError;
use crate::errno;

/// Sessions that are kept to be resumed. rustls keeps up to eight tickets of a server, so this is
/// four servers: the addresses of one remote.
const SESSIONS: usize = 32;

/// A ticket is used once and each resumption brings a new one, so more than one would only serve
/// clients that connect several times at once.
const TICKETS: usize = 1;

/// Everything to begin TLS with as the side that dialled. Cheap to clone; sessions are resumed
/// between clones.
#[derive(Clone, Debug)]
pub struct ClientTls {
    pub(super) config: Arc<ClientConfig>,
}

/// Everything to begin TLS with as the side that accepted. Cheap to clone; sessions are resumed
/// between clones.
#[derive(Clone, Debug)]
pub struct ServerTls {
    pub(super) config: Arc<ServerConfig>,
    pub(super) timeout: Duration,
}

/// What is wrong with a `tls` block or its files. `Display` is in nats-server's words, with the
/// file.
#[derive(Debug)]
#[non_exhaustive]
pub enum TlsSetupError {
    /// `ca_file` cannot be read.
    Open {
        /// The file.
        file: String,
        /// What the system said.
        cause: io::Error,
    },
    /// `ca_file` holds no certificate.
    Authorities {
        /// The file.
        file: String,
    },
    /// A certificate and its key are of no use.
    KeyPair {
        /// Of several pairs: which one, from 1, and how many there are.
        place: Option<(usize, usize)>,
        /// What is wrong, with the file.
        reason: String,
    },
    /// A listener has no certificate.
    NoCertificate,
    /// What is configured does not go together.
    Settings(String),
}

impl fmt::Display for TlsSetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsSetupError::Open { file, cause } => {
                write!(f, "open {file}: {}", errno::words(cause))
            }
            TlsSetupError::Authorities { file } => {
                write!(
                    f,
                    "failed to parse root ca certificate: no certificate in {file}"
                )
            }
            TlsSetupError::KeyPair { place, reason } => {
                f.write_str("error parsing X509 certificate/key pair")?;
                if let Some((number, count)) = place {
                    write!(f, " {number}/{count}")?;
                }
                write!(f, ": {reason}")
            }
            TlsSetupError::NoCertificate => f.write_str("missing 'cert_file' in TLS configuration"),
            TlsSetupError::Settings(reason) => write!(f, "error in tls config: {reason}"),
        }
    }
}

impl std::error::Error for TlsSetupError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TlsSetupError::Open { cause, .. } => Some(cause),
            _ => None,
        }
    }
}

impl From<rustls::Error> for TlsSetupError {
    fn from(error: rustls::Error) -> Self {
        TlsSetupError::Settings(error.to_string())
    }
}

impl ClientTls {
    /// Reads the files of a block. Without a block: the system's authorities, and no certificate.
    pub fn new(settings: Option<&model::Tls>) -> Result<ClientTls, TlsSetupError> {
        let parameters = Parameters::new(settings);
        let provider = parameters.provider.clone();
        let is_insecure = settings.is_some_and(|settings| settings.insecure);
        let check = ServerCheck {
            authorities: match is_insecure {
                true => None,
                false => Some(authorities(settings)?),
            },
            pins: pins(settings),
            algorithms: provider.signature_verification_algorithms,
        };
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(parameters.versions)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(check));
        let pairs = pairs(settings, &provider)?;
        let mut config = match pairs.into_iter().next() {
            Some(pair) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair))),
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        Ok(ClientTls {
            config: Arc::new(config),
        })
    }
}

impl ServerTls {
    /// Reads the files of a block. With `verify` and without `ca_file` this reads the system's
    /// authorities as well.
    pub fn new(settings: &model::Tls) -> Result<ServerTls, TlsSetupError> {
        let parameters = Parameters::new(Some(settings));
        let provider = parameters.provider.clone();
        let by_name = ByName::new(pairs(Some(settings), &provider)?);
        let by_name = by_name.ok_or(TlsSetupError::NoCertificate)?;
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(parameters.versions)?;
        let builder = if settings.verify || settings.map {
            let authorities = authorities(Some(settings))?;
            let check = ClientCheck::new(authorities, pins(Some(settings)), &provider)
                .map_err(|error| TlsSetupError::Settings(error.to_string()))?;
            builder.with_client_cert_verifier(Arc::new(check))
        } else {
            builder.with_no_client_auth()
        };
        let mut config = builder.with_cert_resolver(Arc::new(by_name));
        config.ticketer = rustls::crypto::ring::Ticketer::new()?;
        config.send_tls13_tickets = TICKETS;
        // Tickets leave the memory to the clients.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(ServerTls {
            config: Arc::new(config),
            timeout: settings.timeout,
        })
    }

    /// How long a peer may take for the handshake, or to begin it where it need not.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }
}

/// The name that a certificate must be for: `host` is a name, or an address with or without
/// brackets.
pub fn name(host: &str) -> Result<ServerName<'static>, TlsError> {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    let bare = bare.strip_suffix('.').unwrap_or(bare);
    ServerName::try_from(bare.to_owned()).map_err(|_| TlsError::BadHost { host: host.into() })
}

/// Versions, cipher suites and curves.
struct Parameters {
    provider: Arc<CryptoProvider>,
    versions: &'static [&'static SupportedProtocolVersion],
}

impl Parameters {
    fn new(settings: Option<&model::Tls>) -> Parameters {
        const BOTH: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];
        const NEW: &[&SupportedProtocolVersion] = &[&version::TLS13];
        let named = settings.map(|settings| settings.cipher_suites.as_slice());
        let curves = settings.map(|settings| settings.curves.as_slice());
        let suites = suites(named.unwrap_or_default());
        let has_old = suites.iter().any(|suite| suite.tls13().is_none());
        let min = settings.map_or(TlsVersion::V1_2, |settings| settings.min_version);
        let curves = match curves {
            None | Some([]) => &[Curve::X25519, Curve::P256, Curve::P384],
            Some(named) => named,
        };
        Parameters {
            provider: Arc::new(CryptoProvider {
                cipher_suites: suites,
                kx_groups: curves.iter().copied().map(group).collect(),
                ..default_provider()
            }),
            versions: match min {
                TlsVersion::V1_2 if has_old => BOTH,
                TlsVersion::V1_2 | TlsVersion::V1_3 => NEW,
            },
        }
    }
}

/// Those of TLS 1.3, which are always on, and of TLS 1.2 those that are named, or all.
fn suites(named: &[CipherSuite]) -> Vec<SupportedCipherSuite> {
    use CipherSuite as S;
    const ALL: [CipherSuite; 9] = [
        S::Aes128GcmSha256,
        S::Aes256GcmSha384,
        S::Chacha20Poly1305Sha256,
        S::EcdheEcdsaAes128GcmSha256,
        S::EcdheRsaAes128GcmSha256,
        S::EcdheEcdsaAes256GcmSha384,
        S::EcdheRsaAes256GcmSha384,
        S::EcdheEcdsaChacha20Poly1305Sha256,
        S::EcdheRsaChacha20Poly1305Sha256,
    ];
    let mut all: Vec<_> = ALL.into_iter().map(suite).collect();
    if !has_aes() {
        all.sort_by_key(|suite| !suite_words(*suite).contains("CHACHA20"));
    }
    if named.is_empty() {
        return all;
    }
    all.retain(|suite| suite.tls13().is_some());
    let old = named.iter().copied().map(suite);
    all.extend(old.filter(|suite| suite.tls13().is_none()));
    all
}

/// Whether the processor computes AES itself. Where it does not, ChaCha20 is several times faster.
fn has_aes() -> bool {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    return std::arch::is_x86_feature_detected!("aes")
        && std::arch::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

fn suite(suite: CipherSuite) -> SupportedCipherSuite {
    use CipherSuite as S;
    use cipher_suite as c;
    match suite {
        S::Aes128GcmSha256 => c::TLS13_AES_128_GCM_SHA256,
        S::Aes256GcmSha384 => c::TLS13_AES_256_GCM_SHA384,
        S::Chacha20Poly1305Sha256 => c::TLS13_CHACHA20_POLY1305_SHA256,
        S::EcdheEcdsaAes128GcmSha256 => c::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        S::EcdheEcdsaAes256GcmSha384 => c::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        S::EcdheEcdsaChacha20Poly1305Sha256 => c::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        S::EcdheRsaAes128GcmSha256 => c::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        S::EcdheRsaAes256GcmSha384 => c::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        S::EcdheRsaChacha20Poly1305Sha256 => c::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    }
}

fn group(curve: Curve) -> &'static dyn SupportedKxGroup {
    match curve {
        Curve::X25519 => kx_group::X25519,
        Curve::P256 => kx_group::SECP256R1,
        Curve::P384 => kx_group::SECP384R1,
    }
}

/// A suite's name as Go writes it (IANA's).
pub(super) fn suite_words(suite: SupportedCipherSuite) -> String {
    let name = suite.suite().as_str().unwrap_or("unknown");
    match name.strip_prefix("TLS13_") {
        Some(rest) => format!("TLS_{rest}"),
        None => name.to_owned(),
    }
}

fn pins(settings: Option<&model::Tls>) -> Pins {
    Pins(
        settings
            .map(|settings| settings.pinned_certs.clone())
            .unwrap_or_default(),
    )
}

fn authorities(settings: Option<&model::Tls>) -> Result<Authorities, TlsSetupError> {
    let Some(file) = settings.and_then(|settings| settings.ca_file.as_deref()) else {
        return Ok(Authorities::System);
    };
    let pem = fs::read(file).map_err(|cause| TlsSetupError::Open {
        file: file.into(),
        cause,
    })?;
    let bundle = CertificateDer::pem_slice_iter(&pem)
        .filter_map(Result::ok)
        .collect();
    Authorities::of(bundle).ok_or_else(|| TlsSetupError::Authorities { file: file.into() })
}

fn pairs(
    settings: Option<&model::Tls>,
    provider: &CryptoProvider,
) -> Result<Vec<Arc<CertifiedKey>>, TlsSetupError> {
    let files = settings
        .map(|settings| settings.certificates.as_slice())
        .unwrap_or_default();
    let count = files.len();
    let load = |(at, files)| match pair(files, provider) {
        Ok(pair) => Ok(Arc::new(pair)),
        Err(reason) => Err(TlsSetupError::KeyPair {
            place: (count > 1).then_some((at + 1, count)),
            reason,
        }),
    };
    files.iter().enumerate().map(load).collect()
}

fn pair(files: &CertificateFiles, provider: &CryptoProvider) -> Result<CertifiedKey, String> {
    let read = |file: &str| {
        fs::read(Path::new(file)).map_err(|cause| format!("open {file}: {}", errno::words(&cause)))
    };
    let CertificateFiles { cert, key } = files;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&read(cert)?)
        .filter_map(Result::ok)
        .collect();
    if chain.is_empty() {
        return Err(format!(
            "tls: failed to find any PEM data in certificate input: {cert}"
        ));
    }
    let secret = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|_| {
        format!("tls: failed to find PEM block with type ending in \"PRIVATE KEY\", unencrypted, in key input: {key}")
    })?;
    CertifiedKey::from_der(chain, secret, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            format!("tls: private key does not match public key: {cert}, {key}")
        }
        rustls::Error::InvalidCertificate(_) => format!("x509: malformed certificate: {cert}"),
        _ => format!("tls: failed to parse private key: {key}"),
    })
}

/// Chooses the certificate by the name that a client dialled; the first one serves the others.
#[derive(Debug)]
struct ByName {
    default: Arc<CertifiedKey>,
    /// In order, with their names in lower case.
    named: Vec<(Vec<String>, Arc<CertifiedKey>)>,
}

impl ByName {
    fn new(pairs: Vec<Arc<CertifiedKey>>) -> Option<ByName> {
        let default = pairs.first()?.clone();
        let mut named = Vec::new();
        if pairs.len() > 1 {
            for pair in pairs {
                let facts = pair.cert.first().and_then(|leaf| names::read(leaf));
                let hosts = facts.map(|facts| facts.certificate.dns).unwrap_or_default();
                let hosts = hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
                named.push((hosts, pair));
            }
        }
        Some(ByName { default, named })
    }

    fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let name = name.to_ascii_lowercase();
        // `*` stands for one label.
        let wildcard = name.split_once('.').map(|(_, rest)| format!("*.{rest}"));
        let mut wanted = Some(name).into_iter().chain(wildcard);
        wanted.find_map(|wanted| {
            let mut named = self.named.iter();
            named
                .find(|(hosts, _)| hosts.contains(&wanted))
                .map(|(_, pair)| pair)
        })
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| self.find(name));
        Some(named.unwrap_or(&self.default).clone())
    }
}
