//! Why a TLS session did not come about or ended, in the words of nats-server (Go's).

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use der::DateTime;
use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

use super::names::{self, Facts};
use super::verify::{NotPinned, Refused};
use crate::errno;

/// What went wrong with a connection that may be under TLS, for the log.
pub fn words(error: &io::Error) -> String {
    TlsError::of(error).map_or_else(|| errno::words(error), ToString::to_string)
}

/// What went wrong with a session. `Display` is what follows `TLS handshake error: ` in the log.
#[derive(Debug)]
#[non_exhaustive]
pub enum TlsError {
    /// The peer does not speak TLS.
    NotTls {
        /// What it sent instead, at most 16 bytes.
        first: Vec<u8>,
    },
    /// No authority that is trusted has signed the peer's certificate.
    UnknownAuthority {
        /// Its subject.
        subject: String,
        /// SHA-256 of the certificate in hex.
        sha256: String,
    },
    /// The certificate is for another host.
    WrongName {
        /// The host that was dialled.
        host: String,
        /// The host names and addresses that the certificate is for.
        names: Vec<String>,
    },
    /// The certificate was valid, or this machine's clock is ahead.
    Expired {
        /// Now, in seconds since 1970.
        now: u64,
        /// The end.
        not_after: u64,
    },
    /// The certificate is not valid yet, or this machine's clock is behind.
    NotValidYet {
        /// Now, in seconds since 1970.
        now: u64,
        /// The beginning.
        not_before: u64,
    },
    /// The certificate is valid, but its key is not in `pinned_certs`.
    NotPinned {
        /// SHA-256 of its public key in hex: what `pinned_certs` would hold.
        key: String,
    },
    /// Something else is wrong with the certificate.
    BadCertificate(String),
    /// The client showed no certificate, and one is demanded.
    NoCertificate,
    /// The peer gave up, for this reason.
    PeerAlert(&'static str),
    /// The peer and we have no version, cipher suite or curve in common.
    NoCommonParameters(&'static str),
    /// What was dialled cannot be the name of a host.
    BadHost {
        /// What was dialled.
        host: String,
    },
    /// The peer ended the connection during the handshake.
    Closed,
    /// The connection broke.
    Io(io::Error),
    /// What else may go wrong, in rustls's words.
    Other(Error),
}

impl TlsError {
    /// The error within an I/O error of a [`TlsStream`](super::TlsStream).
    pub fn of(error: &io::Error) -> Option<&TlsError> {
        error.get_ref()?.downcast_ref()
    }

    /// What rustls says, together with what is known of the certificate that it refused.
    pub(super) fn explain(error: Error, host: &str, refused: Option<Refused>) -> TlsError {
        let error = match (&error, &refused) {
            (Error::InvalidCertificate(_), Some(refused)) => refused.error.clone(),
            _ => error,
        };
        match error {
            Error::NoCertificatesPresented => TlsError::NoCertificate,
            Error::AlertReceived(alert) => TlsError::PeerAlert(alert_words(alert)),
            Error::PeerIncompatible(what) => match parameter_words(&what) {
                Some(words) => TlsError::NoCommonParameters(words),
                None => TlsError::Other(Error::PeerIncompatible(what)),
            },
            Error::InvalidCertificate(error) => certificate(error, host, refused),
            other => TlsError::Other(other),
        }
    }
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        let kind = match error {
            TlsError::Io(error) => return error,
            TlsError::Closed => io::ErrorKind::UnexpectedEof,
            TlsError::PeerAlert(_) => io::ErrorKind::ConnectionAborted,
            _ => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, error)
    }
}

fn certificate(error: CertificateError, host: &str, refused: Option<Refused>) -> TlsError {
    match error {
        CertificateError::ExpiredContext { time, not_after } => TlsError::Expired {
            now: time.as_secs(),
            not_after: not_after.as_secs(),
        },
        CertificateError::NotValidYetContext { time, not_before } => TlsError::NotValidYet {
            now: time.as_secs(),
            not_before: not_before.as_secs(),
        },
        CertificateError::UnknownIssuer => unknown_authority(refused),
        // Signed by one that is trusted by name, but has another key now.
        CertificateError::BadSignature if refused.is_some() => unknown_authority(refused),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            TlsError::WrongName {
                host: host.to_owned(),
                names: refused
                    .and_then(|refused| refused.facts())
                    .map(hosts)
                    .unwrap_or_default(),
            }
        }
        CertificateError::Other(error) => match error.0.downcast_ref::<NotPinned>() {
            Some(NotPinned(key)) => TlsError::NotPinned {
                key: names::hex(key),
            },
            None => TlsError::BadCertificate(format!("{:?}", error.0)),
        },
        CertificateError::BadEncoding => TlsError::BadCertificate("malformed certificate".into()),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            let words = "certificate specifies an incompatible key usage";
            TlsError::BadCertificate(words.into())
        }
        other => TlsError::BadCertificate(other.to_string()),
    }
}

fn unknown_authority(refused: Option<Refused>) -> TlsError {
    let (subject, sha256) = refused.map(Refused::describe).unwrap_or_default();
    TlsError::UnknownAuthority { subject, sha256 }
}

/// The hosts a certificate is for.
fn hosts(facts: Facts) -> Vec<String> {
    let addresses = facts.addresses.iter().map(IpAddr::to_string);
    facts.certificate.dns.into_iter().chain(addresses).collect()
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const VERIFY: &str = "tls: failed to verify certificate: x509:";
        const EXPIRED: &str = "certificate has expired or is not yet valid: current time";
        match self {
            TlsError::NotTls { .. } => {
                f.write_str("tls: first record does not look like a TLS handshake")
            }
            TlsError::UnknownAuthority { subject, sha256 } => write!(
                f,
                "{VERIFY} certificate signed by unknown authority ({} SHA-256: {sha256})",
                subject.escape_debug()
            ),
            TlsError::WrongName { host, names } => {
                write!(f, "{VERIFY} {}", name_words(host, names).escape_debug())
            }
            TlsError::Expired { now, not_after } => {
                write!(
                    f,
                    "{VERIFY} {EXPIRED} {} is after {}",
                    date(*now),
                    date(*not_after)
                )
            }
            TlsError::NotValidYet { now, not_before } => {
                write!(
                    f,
                    "{VERIFY} {EXPIRED} {} is before {}",
                    date(*now),
                    date(*not_before)
                )
            }
            TlsError::NotPinned { .. } => f.write_str("certificate not pinned"),
            TlsError::BadCertificate(what) => write!(f, "{VERIFY} {what}"),
            TlsError::NoCertificate => f.write_str("tls: client didn't provide a certificate"),
            TlsError::PeerAlert(alert) => write!(f, "remote error: tls: {alert}"),
            TlsError::NoCommonParameters(what) => write!(f, "tls: {what}"),
            TlsError::BadHost { host } => write!(
                f,
                "tls: \"{}\" is neither a host name nor an address",
                host.escape_debug()
            ),
            TlsError::Closed => f.write_str("EOF"),
            TlsError::Io(error) => f.write_str(&errno::words(error)),
            TlsError::Other(error) => write!(f, "tls: {error}"),
        }
    }
}

impl std::error::Error for TlsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TlsError::Io(error) => Some(error),
            TlsError::Other(error) => Some(error),
            _ => None,
        }
    }
}

fn name_words(host: &str, names: &[String]) -> String {
    let is_address = |name: &str| name.parse::<IpAddr>().is_ok();
    let wants_address = is_address(host);
    let of_kind: Vec<&str> = names
        .iter()
        .map(String::as_str)
        .filter(|name| is_address(name) == wants_address)
        .collect();
    if !of_kind.is_empty() {
        format!(
            "certificate is valid for {}, not {host}",
            of_kind.join(", ")
        )
    } else if wants_address {
        format!("cannot validate certificate for {host} because it doesn't contain any IP SANs")
    } else {
        format!("certificate is not valid for any names, but wanted to match {host}")
    }
}

/// Seconds since 1970 as a date (RFC 3339).
fn date(seconds: u64) -> String {
    match DateTime::from_unix_duration(Duration::from_secs(seconds)) {
        Ok(date) => date.to_string(),
        Err(_) => format!("{seconds} s after 1970"),
    }
}

fn parameter_words(what: &PeerIncompatible) -> Option<&'static str> {
    use PeerIncompatible as P;
    Some(match what {
        P::NoCipherSuitesInCommon => "no cipher suite supported by both client and server",
        P::NoKxGroupsInCommon | P::NoEcPointFormatsInCommon => {
            "no ECDHE curve supported by both client and server"
        }
        P::NoSignatureSchemesInCommon | P::NoCertificateRequestSignatureSchemesInCommon => {
            "peer doesn't support any of the certificate's signature algorithms"
        }
        P::Tls12NotOffered
        | P::Tls12NotOfferedOrEnabled
        | P::Tls13RequiredForQuic
        | P::SupportedVersionsExtensionRequired
        | P::ServerDoesNotSupportTls12Or13
        | P::ServerTlsVersionIsDisabledByOurConfig => "client offered only unsupported versions",
        _ => return None,
    })
}

/// What Go calls an alert.
fn alert_words(alert: AlertDescription) -> &'static str {
    use AlertDescription as A;
    match alert {
        A::CloseNotify => "close notify",
        A::UnexpectedMessage => "unexpected message",
        A::BadRecordMac => "bad record MAC",
        A::DecryptionFailed => "decryption failed",
        A::RecordOverflow => "record overflow",
        A::DecompressionFailure => "decompression failure",
        A::HandshakeFailure => "handshake failure",
        A::BadCertificate => "bad certificate",
        A::UnsupportedCertificate => "unsupported certificate",
        A::CertificateRevoked => "revoked certificate",
        A::CertificateExpired => "expired certificate",
        A::CertificateUnknown => "unknown certificate",
        A::IllegalParameter => "illegal parameter",
        A::UnknownCA => "unknown certificate authority",
        A::AccessDenied => "access denied",
        A::DecodeError => "error decoding message",
        A::DecryptError => "error decrypting message",
        A::ExportRestriction => "export restriction",
        A::ProtocolVersion => "protocol version not supported",
        A::InsufficientSecurity => "insufficient security level",
        A::InternalError => "internal error",
        A::InappropriateFallback => "inappropriate fallback",
        A::UserCanceled => "user canceled",
        A::NoRenegotiation => "no renegotiation",
        A::MissingExtension => "missing extension",
        A::UnsupportedExtension => "unsupported extension",
        A::CertificateUnobtainable => "certificate unobtainable",
        A::UnrecognisedName => "unrecognized name",
        A::BadCertificateStatusResponse => "bad certificate status response",
        A::BadCertificateHashValue => "bad certificate hash value",
        A::UnknownPSKIdentity => "unknown PSK identity",
        A::CertificateRequired => "certificate required",
        A::NoApplicationProtocol => "no application protocol",
        _ => "unknown alert",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_explained_in_gos_words() {
        for (host, names, want) in [
            (
                "a.x",
                &["b.x", "10.0.0.1", "c.x"][..],
                "certificate is valid for b.x, c.x, not a.x",
            ),
            (
                "10.0.0.2",
                &["b.x", "10.0.0.1"],
                "certificate is valid for 10.0.0.1, not 10.0.0.2",
            ),
            (
                "10.0.0.2",
                &["b.x"],
                "cannot validate certificate for 10.0.0.2 because it doesn't contain any IP SANs",
            ),
            (
                "a.x",
                &[],
                "certificate is not valid for any names, but wanted to match a.x",
            ),
        ] {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(name_words(host, &names), want);
        }
    }

    #[test]
    fn times_are_dates() {
        let error = TlsError::Expired {
            now: 1_577_923_200,
            not_after: 0,
        };
        assert_eq!(
            error.to_string(),
            "tls: failed to verify certificate: x509: certificate has expired or is not yet valid: \
             current time 2020-01-02T00:00:00Z is after 1970-01-01T00:00:00Z"
        );
        assert_eq!(date(u64::MAX), "18446744073709551615 s after 1970");
    }
}
