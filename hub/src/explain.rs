//! Why a leaf's handshake failed, and which end to change.

use std::borrow::Cow;
use std::io;

use petiole_net::tls::{self, TlsError};

/// Where TLS begins on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begin {
    BehindInfo,
    First,
}

/// Of TLS behind INFO, for the log.
pub(crate) fn tls(error: &io::Error) -> String {
    let words = tls::words(error);
    match hint(error, Begin::BehindInfo) {
        Some(hint) => format!("{words}: {hint}"),
        None => words,
    }
}

/// What to do about it where TLS is first.
pub(crate) fn hint_of_first(error: &io::Error) -> Option<Cow<'static, str>> {
    hint(error, Begin::First)
}

fn hint(error: &io::Error, begin: Begin) -> Option<Cow<'static, str>> {
    use io::ErrorKind as Kind;
    let Some(tls) = TlsError::of(error) else {
        return match error.kind() {
            Kind::TimedOut | Kind::ConnectionReset | Kind::BrokenPipe | Kind::UnexpectedEof => {
                Some(speechless(begin).into())
            }
            _ => None,
        };
    };
    let hint = match tls {
        TlsError::Closed => speechless(begin),
        TlsError::NotTls { first } if first.starts_with(b"GET ") => {
            "this is no port for WebSocket: use nats-leaf:// instead of ws:// in the leaf's remote"
        }
        TlsError::NotTls { first } if is_leaf_in_clear(first) => {
            "the leaf goes on in clear: give its remote a tls block"
        }
        TlsError::NotTls { .. } => "whoever dialled does not speak TLS",
        // Go's TLS keeps back a certificate of an authority that it was not asked for.
        TlsError::NoCertificate => {
            "verify is set here (leafnodes, tls): set cert_file and key_file in the tls block of the \
             leaf's remote to a certificate that an authority in our ca_file has signed"
        }
        TlsError::UnknownAuthority { .. } => {
            "the leaf's certificate was not signed by an authority in our ca_file (leafnodes, tls): \
             add its authority here, or give the leaf another certificate"
        }
        TlsError::Expired { .. } => {
            "renew the leaf's certificate, if this machine's clock is right"
        }
        TlsError::NotValidYet { .. } => "is this machine's clock right?",
        TlsError::BadCertificate(_) => "give the leaf's remote another certificate",
        TlsError::NotPinned { key } => {
            let hint = format!(
                "add {key} to pinned_certs here (leafnodes, tls) if the leaf is the right one"
            );
            return Some(hint.into());
        }
        TlsError::PeerAlert("unknown certificate authority") => {
            "set ca_file in the tls block of the leaf's remote to the authority that signed our \
             certificate"
        }
        TlsError::PeerAlert("expired certificate") => {
            "renew our certificate (leafnodes, tls), if the leaf's clock is right"
        }
        TlsError::PeerAlert(alert) if alert.contains("certificate") => {
            "the leaf does not accept our certificate: the ca_file of its remote's tls block has to have \
             the authority that signed it, and it has to be valid for the host that the leaf dials"
        }
        TlsError::PeerAlert("unexpected message") if begin == Begin::BehindInfo => {
            speechless(begin)
        }
        TlsError::PeerAlert("handshake failure" | "protocol version not supported")
        | TlsError::NoCommonParameters(_) => {
            "the two ends have no TLS version, cipher suite or curve in common: see min_version, \
             cipher_suites and curve_preferences here (leafnodes, tls)"
        }
        _ => return None,
    };
    Some(hint.into())
}

/// Who breaks off without a word mostly took the beginning for another one.
fn speechless(begin: Begin) -> &'static str {
    match begin {
        Begin::BehindInfo => {
            "a leaf whose remote has handshake_first takes our INFO for a broken handshake: take it out \
             there, or set it here (leafnodes, tls)"
        }
        Begin::First => {
            "a leaf whose remote does not have handshake_first waits for our INFO: set it in the tls \
             block there, or set it to auto here (leafnodes, tls)"
        }
    }
}

fn is_leaf_in_clear(first: &[u8]) -> bool {
    ["CONNECT", "INFO"].iter().any(|verb| {
        let start = first.get(..verb.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(verb.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_is_told_apart() {
        let rows = [
            (
                TlsError::Closed,
                "take it out there, or set it here",
                "set it in the tls block there",
            ),
            (
                TlsError::NoCertificate,
                "set cert_file and key_file",
                "set cert_file and key_file",
            ),
            (
                TlsError::NotTls {
                    first: b"CONNECT {".into(),
                },
                "give its remote a tls block",
                "give its remote a tls block",
            ),
            (
                TlsError::PeerAlert("unknown certificate authority"),
                "set ca_file in the tls block of the leaf's remote",
                "set ca_file in the tls block of the leaf's remote",
            ),
        ];
        for (error, behind, first) in rows {
            let error = io::Error::from(error);
            let said = tls(&error);
            assert!(said.contains(behind), "{said}");
            let said = hint_of_first(&error).unwrap_or_default();
            assert!(said.contains(first), "{said}");
        }
        let silent = hint_of_first(&io::ErrorKind::TimedOut.into());
        assert_eq!(silent.as_deref(), Some(speechless(Begin::First)));
        assert_eq!(
            tls(&TlsError::PeerAlert("user canceled").into()),
            "remote error: tls: user canceled"
        );
    }
}
