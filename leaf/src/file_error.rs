//! A file that a configuration names, and that cannot be used.

use std::fmt;

use petiole_core::config::model::Tls;
use petiole_net::tls::TlsSetupError;

/// What is wrong with a file that a `tls` block names. `Display` is nats-server's line.
#[derive(Debug)]
pub struct FileError {
    place: Option<String>,
    cause: TlsSetupError,
}

impl FileError {
    pub(crate) fn of(block: Option<&Tls>, cause: TlsSetupError) -> Self {
        FileError {
            place: block.and_then(|block| block.place.clone()),
            cause,
        }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "{place}: {}", self.cause),
            None => self.cause.fmt(f),
        }
    }
}

impl std::error::Error for FileError {}
