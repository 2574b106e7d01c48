//! Bytes to an S2 stream.

use std::io::IoSlice;

use minlz::s2;
use petiole_core::link::compression::Level;

use super::{CHECKSUM, COMPRESSED, HEADER, IDENTIFIER, RAW, S2, checksum};

/// Bytes of input per chunk. Every reader takes them, those of plain Snappy too.
const CHUNK: usize = 64 << 10;
/// What stands before a chunk's data.
const HEAD: usize = HEADER + CHECKSUM;

/// A piece that is a chunk of its own: to copy several together costs more than a chunk saves.
const WORTH_OWN_CHUNK: usize = CHUNK / 2;

/// Less than this goes as it is: a `PING` or a short line does not shrink.
const WORTH_TRYING: usize = 64;

/// The tables of the best level take 4.5 MiB, and clearing them takes longer than compressing a
/// smaller chunk, which then shrinks by two or three per cent more.
const WORTH_BEST: usize = 16 << 10;

/// Bytes to an S2 stream. Keeps nothing of one burst for the next, so one serves all links of a
/// thread; what it has is the room to work in: once used, 64 KiB (fast) or 144 KiB (better).
#[derive(Default)]
pub struct Encoder {
    tables: s2::Encoder,
}

impl Encoder {
    /// Owns nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends one burst to `out`: the identifier, then the bytes of all pieces in chunks of at most
    /// 64 KiB, whatever the pieces' sizes. No bytes, no burst.
    ///
    /// `out` grows by no more than the input, 10 bytes, and 8 for each chunk.
    pub fn burst(&mut self, level: Level, pieces: &[IoSlice<'_>], out: &mut Vec<u8>) {
        if pieces.iter().all(|piece| piece.is_empty()) {
            return;
        }
        out.extend_from_slice(&[IDENTIFIER, S2.len() as u8, 0, 0]);
        out.extend_from_slice(&S2);
        let mut pieces = Pieces::new(pieces);
        while let Some(first) = pieces.next(CHUNK) {
            let head = out.len();
            out.extend_from_slice(&[0; HEAD]);
            let (kind, sum) = if first.len() >= WORTH_OWN_CHUNK {
                self.body(level, first, out)
            } else {
                out.extend_from_slice(first);
                while let Some(more) = pieces.next(CHUNK - (out.len() - head - HEAD)) {
                    out.extend_from_slice(more);
                }
                self.body_in_place(level, head + HEAD, out)
            };
            let length = (out.len() - head - HEADER) as u32;
            let [a, b, c, _] = length.to_le_bytes();
            let [d, e, f, g] = sum.to_le_bytes();
            out[head..head + HEAD].copy_from_slice(&[kind, a, b, c, d, e, f, g]);
        }
    }

    /// Appends what stands for the data: the kind of the chunk, and its checksum.
    fn body(&mut self, level: Level, data: &[u8], out: &mut Vec<u8>) -> (u8, u32) {
        let kind = match self.compress(level, data) {
            Some(block) => {
                out.extend_from_slice(&block);
                COMPRESSED
            }
            None => {
                out.extend_from_slice(data);
                RAW
            }
        };
        (kind, checksum(data))
    }

    /// The same for data that was gathered at the end of `out`.
    fn body_in_place(&mut self, level: Level, body: usize, out: &mut Vec<u8>) -> (u8, u32) {
        let sum = checksum(&out[body..]);
        match self.compress(level, &out[body..]) {
            Some(block) => {
                out.truncate(body);
                out.extend_from_slice(&block);
                (COMPRESSED, sum)
            }
            None => (RAW, sum),
        }
    }

    /// The block for a chunk's data, if it saves enough for the reader's work to be worth it.
    fn compress(&mut self, level: Level, data: &[u8]) -> Option<Vec<u8>> {
        if data.len() < WORTH_TRYING {
            return None;
        }
        let block = match level {
            Level::Uncompressed => return None,
            Level::Fast => self.tables.encode(data),
            // Its tables are too large to be kept.
            Level::Best if data.len() >= WORTH_BEST => s2::encode_best(data),
            Level::Better | Level::Best => self.tables.encode_better(data),
        };
        (block.len() + data.len() / 16 <= data.len()).then_some(block)
    }
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

    /// The next bytes that are in one piece, at most so many; `None`: none, or no room for one.
    fn next(&mut self, most: usize) -> Option<&'a [u8]> {
        if most == 0 {
            return None;
        }
        while self.current.is_empty() {
            self.current = self.rest.next()?;
        }
        let (now, later) = self.current.split_at(most.min(self.current.len()));
        self.current = later;
        Some(now)
    }
}
