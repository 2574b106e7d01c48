//! Bytes to an S2 stream. Keeps nothing between bursts, so one function serves all links.

use std::io::IoSlice;

use minlz::s2;
use petiole_core::link::compression::Level;

use super::{CHECKSUM, COMPRESSED, HEADER, IDENTIFIER, RAW, S2, checksum};

/// Bytes of input per chunk. Every reader takes them, those of plain Snappy too.
const CHUNK: usize = 64 << 10;

/// Less than this goes as it is: a `PING` or a short line does not shrink.
const WORTH_TRYING: usize = 64;

/// The tables of the best level take 4.5 MiB, and clearing them takes longer than compressing a
/// smaller chunk, which then shrinks by two or three per cent more.
const WORTH_BEST: usize = 16 << 10;

/// Appends one burst to `out`: the identifier, then the bytes of all pieces in chunks of at most
/// 64 KiB, whatever the pieces' sizes. No bytes, no burst.
///
/// `out` grows by no more than the input, 10 bytes, and 8 for each chunk.
pub fn encode_burst(level: Level, pieces: &[IoSlice<'_>], out: &mut Vec<u8>) {
    let mut left: usize = pieces.iter().map(|piece| piece.len()).sum();
    if left == 0 {
        return;
    }
    out.extend_from_slice(&[IDENTIFIER, S2.len() as u8, 0, 0]);
    out.extend_from_slice(&S2);
    let mut pieces = Pieces::new(pieces);
    while left > 0 {
        let len = left.min(CHUNK);
        let start = out.len();
        out.reserve(HEADER + CHECKSUM + len);
        out.extend_from_slice(&[0; HEADER + CHECKSUM]);
        pieces.take(len, out);
        finish_chunk(level, start, out);
        left -= len;
    }
}

/// Turns the data behind the room for a header at `start` into a chunk.
fn finish_chunk(level: Level, start: usize, out: &mut Vec<u8>) {
    let body = start + HEADER;
    let data = body + CHECKSUM;
    let sum = checksum(&out[data..]);
    let mut kind = RAW;
    if let Some(block) = compress(level, &out[data..]) {
        kind = COMPRESSED;
        out.truncate(data);
        out.extend_from_slice(&block);
    }
    let [a, b, c, _] = ((out.len() - body) as u32).to_le_bytes();
    out[start..body].copy_from_slice(&[kind, a, b, c]);
    out[body..data].copy_from_slice(&sum.to_le_bytes());
}

/// The block for a chunk's data, if it saves enough for the reader's work to be worth it.
fn compress(level: Level, data: &[u8]) -> Option<Vec<u8>> {
    if data.len() < WORTH_TRYING {
        return None;
    }
    let block = match level {
        Level::Uncompressed => return None,
        Level::Fast => s2::encode(data),
        Level::Best if data.len() >= WORTH_BEST => s2::encode_best(data),
        Level::Better | Level::Best => s2::encode_better(data),
    };
    (block.len() + data.len() / 16 <= data.len()).then_some(block)
}

/// The pieces as one row of bytes.
struct Pieces<'a> {
    current: &'a [u8],
    rest: std::slice::Iter<'a, IoSlice<'a>>,
}

impl<'a> Pieces<'a> {
    fn new(pieces: &'a [IoSlice<'a>]) -> Self {
        Pieces {
            current: &[],
            rest: pieces.iter(),
        }
    }

    /// Appends the next `len` bytes, or those that are left.
    fn take(&mut self, mut len: usize, out: &mut Vec<u8>) {
        while len > 0 {
            if self.current.is_empty() {
                match self.rest.next() {
                    Some(piece) => self.current = piece,
                    None => return,
                }
            }
            let (now, later) = self.current.split_at(len.min(self.current.len()));
            out.extend_from_slice(now);
            len -= now.len();
            self.current = later;
        }
    }
}
