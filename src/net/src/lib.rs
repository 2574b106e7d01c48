//! Sockets, timers and signals on smol's reactor. No NATS semantics: nothing here knows what the
//! bytes mean or which role asked for the socket.

pub mod address;
pub mod clock;
pub mod dial;
pub mod driver;
pub mod errno;
mod framing;
pub mod listen;
pub mod proxy;
pub mod s2;
pub mod signal;
mod tcp;
pub mod tls;
pub mod transport;
pub mod ws;
