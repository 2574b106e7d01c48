//! Why a link to a hub was not made or did not last, and which end to change.

use std::io;

use petiole_core::config::model::Way;
use petiole_net::clock::unix_now;
use petiole_net::errno;
use petiole_net::tls::TlsError;

use crate::wall;

/// The cause in words, with what to do about it where that is known.
pub(crate) fn explain(error: &io::Error, way: &Way) -> String {
    let words = errno::words(error);
    let Some(tls) = TlsError::of(error) else {
        return words;
    };
    if let TlsError::Expired { .. } | TlsError::NotValidYet { .. } = tls
        && let Some(doubt) = wall::doubt(unix_now())
    {
        return format!("TLS leafnode handshake error: {words}: {doubt}");
    }
    let configured = way.tls.as_ref();
    let has_certificate = configured.is_some_and(|tls| !tls.certificates.is_empty());
    let hint = match tls {
        TlsError::NotTls { first } if first.starts_with(b"INFO") => {
            "the hub sent INFO in clear: it does not expect TLS first; remove handshake_first from \
             this remote's tls block, or set it on the hub"
        }
        TlsError::NotTls { first } if first.starts_with(b"HTTP") => {
            "the hub answers HTTP in clear: use ws:// without a tls block, or configure tls on the \
             hub's websocket"
        }
        TlsError::NotTls { .. } => "what is there does not speak TLS",
        TlsError::UnknownAuthority { .. }
            if configured.is_some_and(|tls| tls.ca_file.is_some()) =>
        {
            "the hub's certificate was not signed by an authority in this remote's ca_file"
        }
        TlsError::UnknownAuthority { .. } => {
            "set ca_file in this remote's tls block to the authority that signed the hub's \
             certificate"
        }
        TlsError::WrongName { .. } => {
            "dial the hub by a name that is in its certificate, or add this one to the certificate"
        }
        TlsError::Expired { .. } => "renew the hub's certificate, if this machine's clock is right",
        TlsError::NotValidYet { .. } => "is this machine's clock right?",
        TlsError::NotPinned { key } => {
            return format!(
                "TLS leafnode handshake error: {words}: add {key} to this remote's pinned_certs if the \
                 hub is the right one"
            );
        }
        TlsError::PeerAlert(alert) if is_about_certificate(alert) && !has_certificate => {
            "the hub demands a client certificate: set cert_file and key_file in this remote's tls \
             block"
        }
        TlsError::PeerAlert(alert) if is_about_certificate(alert) => {
            "the hub does not accept this remote's certificate: is it signed by an authority in the \
             hub's ca_file?"
        }
        TlsError::PeerAlert("handshake failure" | "protocol version not supported")
        | TlsError::NoCommonParameters(_) => {
            "the two ends have no TLS version, cipher suite or curve in common: see min_version, \
             cipher_suites and curve_preferences"
        }
        _ => return format!("TLS leafnode handshake error: {words}"),
    };
    format!("TLS leafnode handshake error: {words}: {hint}")
}

/// Whether a hub gave up because of the certificate that it was shown, or was not shown.
fn is_about_certificate(alert: &str) -> bool {
    alert.contains("certificate")
}
