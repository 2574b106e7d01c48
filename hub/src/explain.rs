//! Why a leaf's handshake failed, and which end to change.

use std::io;

use petiole_net::errno;
use petiole_net::tls::TlsError;

/// Of TLS behind INFO.
pub(crate) fn tls(error: &io::Error) -> String {
    let words = TlsError::of(error).map_or_else(|| errno::words(error), ToString::to_string);
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return format!(
            "{words}: a leaf whose remote has handshake_first takes our INFO for a broken handshake. \
             Take it out there, or set it here (leafnodes, tls)"
        );
    }
    words
}
