//! The S2 stream of a compressed leaf link: chunks with a checksum each, in both directions. No
//! I/O: [`Encoder`] and [`Decoder`] turn bytes into bytes.
//!
//! It never decides whether a link is compressed or at which level; that is negotiated above.
//!
//! A stream is a row of chunks: a type byte, a length of three bytes (little-endian), a body. There
//! is no end marker; every burst of a Go server starts with the identifier chunk again.

mod decode;
mod encode;
#[cfg(test)]
mod tests;

use std::fmt;

pub use decode::{Decoder, Step};
pub use encode::Encoder;
// Chosen by the core, since it may depend on the round trip.
pub use petiole_core::link::compression::Level;

/// Bytes that one block may stand for. Go servers send up to 1 MiB; the format allows 4 MiB.
pub const MAX_BLOCK: usize = 4 << 20;

/// Type and length of a chunk.
const HEADER: usize = 4;
/// The checksum in front of a chunk's data.
const CHECKSUM: usize = 4;

/// Chunk type: checksum, then an S2 block.
const COMPRESSED: u8 = 0x00;
/// Chunk type: checksum, then the data as it is.
const RAW: u8 = 0x01;
/// Chunk type: says what stream this is.
const IDENTIFIER: u8 = 0xff;
/// The first chunk type that a reader skips when it does not know it; all below are errors.
const FIRST_SKIPPABLE: u8 = 0x80;

/// The body of the identifier chunk.
const S2: [u8; 6] = *b"S2sTwO";
/// The same of a Snappy stream, which is an S2 stream without repeats.
const SNAPPY: [u8; 6] = *b"sNaPpY";

/// Why a stream cannot be read further. The link has to be closed: there is no way back to the
/// boundary of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum S2Error {
    /// The first chunk is not an identifier: not a compressed stream at all.
    NotS2,
    /// An identifier chunk that names something else.
    UnknownIdentifier,
    /// A chunk of a type that a reader must understand, and nobody does.
    ReservedChunk(u8),
    /// A chunk or a block of more than [`MAX_BLOCK`] bytes.
    BlockTooLarge,
    /// A block that cannot be decoded, or a chunk too short for its checksum.
    MalformedBlock,
    /// Data that is not what its checksum says.
    BadChecksum,
}

impl fmt::Display for S2Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotS2 => f.write_str("S2 compression was agreed but the peer does not compress"),
            Self::UnknownIdentifier => f.write_str("the peer compresses with something unknown"),
            Self::ReservedChunk(kind) => write!(f, "reserved S2 chunk type 0x{kind:02x}"),
            Self::BlockTooLarge => {
                write!(f, "S2 block of more than {} MiB", MAX_BLOCK >> 20)
            }
            Self::MalformedBlock => f.write_str("malformed S2 block"),
            Self::BadChecksum => f.write_str("S2 data with a bad checksum"),
        }
    }
}

impl std::error::Error for S2Error {}

/// The CRC-32C of uncompressed data, masked as the format wants it.
fn checksum(data: &[u8]) -> u32 {
    crc32c::crc32c(data)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}
