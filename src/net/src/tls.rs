//! TLS over a socket: what a session is made with, the session as a stream, and the words for what
//! goes wrong. rustls does the cryptography.
//!
//! Knows no NATS: when TLS begins, and what comes before it, is decided elsewhere.

mod names;
mod settings;
mod stream;
#[cfg(test)]
mod tests;
mod verify;
mod words;

pub use settings::{ClientTls, ServerTls, TlsSetupError, name};
pub use stream::{TlsFacts, TlsStream};
pub use words::{TlsError, words};
