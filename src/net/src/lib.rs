//! Sockets, timers and signals on smol's reactor. No NATS semantics: nothing here knows what the
//! bytes mean or which role asked for the socket.

pub mod clock;
pub mod dial;
pub mod driver;
pub mod errno;
pub mod listen;
pub mod signal;
pub mod transport;
