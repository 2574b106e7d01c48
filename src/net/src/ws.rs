//! WebSocket (RFC 6455, RFC 7692) as a byte transform: the upgrade of a connection, by the one who
//! dialled and by the one who accepted ([`accept`]), and frames around the bytes of a link.
//!
//! Reads and writes no socket: bytes go in and come out. Knows nothing of what the frames carry.

pub mod accept;
mod decode;
mod encode;
mod error;
mod upgrade;

pub use decode::{Closed, Decoder, Reply};
pub use encode::Encoder;
pub use error::WsError;
pub(crate) use error::status;
pub(crate) use upgrade::status_code;
pub use upgrade::{Accepted, MAX_HEAD, Options, Request, key, leaf_path};

/// The most bytes of a link that one compressed message carries. nats-server 2.15 closes a link
/// when more than its `max_payload` comes out of one message.
pub const MAX_COMPRESSED: usize = 64 << 10;

/// A burst of no more bytes than this is not worth compressing.
const MIN_COMPRESSED: usize = 64;

/// What each compressed message ends with; it is left out on the wire.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// The first byte of a frame: the last one of its message.
const FIN: u8 = 0x80;
/// The first byte of a frame: its message is compressed.
const RSV1: u8 = 0x40;
/// The first byte of a frame: bits that nobody has given a meaning.
const RSV23: u8 = 0x30;
/// The second byte of a frame: a mask follows.
const MASK: u8 = 0x80;
/// The most bytes that a control frame carries.
const MAX_CONTROL: usize = 125;

/// The kinds of frames.
mod opcode {
    pub(super) const CONTINUATION: u8 = 0;
    pub(super) const TEXT: u8 = 1;
    pub(super) const BINARY: u8 = 2;
    pub(super) const CLOSE: u8 = 8;
    pub(super) const PING: u8 = 9;
    pub(super) const PONG: u8 = 10;
}

/// Puts a mask on a payload, or takes it off, eight bytes at a time.
fn apply_mask(mask: [u8; 4], payload: &mut [u8]) {
    let narrow = u32::from_ne_bytes(mask);
    if narrow == 0 {
        return;
    }
    let wide = u64::from(narrow) << 32 | u64::from(narrow);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests;
