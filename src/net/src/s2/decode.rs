//! An S2 stream to bytes.
//!
//! Memory is what the peer has really sent of one chunk, and one decoded block; a link that waits
//! for the next burst owns next to nothing.

use std::mem;

use minlz::s2;

use super::{
    CHECKSUM, COMPRESSED, FIRST_SKIPPABLE, HEADER, IDENTIFIER, MAX_BLOCK, RAW, S2, S2Error, SNAPPY,
    checksum,
};

/// A buffer of this size may stay with an idle link: bursts of a few lines need no new one.
const KEEP: usize = 2 << 10;

/// Bytes of a block's head in which its decoded length has ended, if it ever does.
const LENGTH_SEEN: usize = 10;

/// Reads an S2 stream.
#[derive(Debug, Default)]
pub struct Decoder {
    state: State,
    /// An identifier has come. Later bursts need none.
    identified: bool,
    /// What has come of a chunk that is not complete.
    partial: Vec<u8>,
    /// Data that found no room, of which `taken` bytes are handed out.
    block: Vec<u8>,
    taken: usize,
    failed: Option<S2Error>,
}

/// What one call did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Bytes of the input that are done with; the others are to be passed again.
    pub consumed: usize,
    /// Bytes written to the start of the output.
    pub produced: usize,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Between chunks, or within the first bytes of one.
    Header { bytes: [u8; HEADER], have: usize },
    /// Within a chunk that is thrown away.
    Skip { left: usize },
    /// Within a chunk whose body is needed as a whole.
    Body { kind: u8, len: usize },
}

impl Default for State {
    fn default() -> Self {
        State::Header {
            bytes: [0; HEADER],
            have: 0,
        }
    }
}

impl Decoder {
    /// A decoder at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads from `input` until that is used up or `into`, which must not be empty, is full. To be
    /// called again while input is left or [`Decoder::has_output`]; an error comes once all data in
    /// front of it was handed out, and every time from then on.
    ///
    /// A block that fits into `into` is decoded in place, so room for 64 KiB saves a copy.
    pub fn decode(&mut self, input: &[u8], into: &mut [u8]) -> Result<Step, S2Error> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let mut done = Step::default();
        loop {
            done.produced += self.drain(&mut into[done.produced..]);
            let input = &input[done.consumed..];
            let into = &mut into[done.produced..];
            if input.is_empty() || into.is_empty() {
                return Ok(done);
            }
            match self.advance(input, into) {
                Ok(step) => {
                    done.consumed += step.consumed;
                    done.produced += step.produced;
                }
                Err(error) => {
                    *self = Decoder {
                        failed: Some(error),
                        ..Decoder::default()
                    };
                    // What the failed step looked at counts as not consumed, so there is a next call.
                    return if done == Step::default() {
                        Err(error)
                    } else {
                        Ok(done)
                    };
                }
            }
        }
    }

    /// Whether there is decoded data that found no room: call again without waiting for the peer.
    pub fn has_output(&self) -> bool {
        self.taken < self.block.len()
    }

    /// Bytes of memory behind this decoder: at most twice what came of an incomplete chunk, a
    /// decoded block and a few KiB.
    pub fn buffered(&self) -> usize {
        self.partial.capacity() + self.block.capacity()
    }

    /// Hands out what waits.
    fn drain(&mut self, into: &mut [u8]) -> usize {
        let waiting = &self.block[self.taken..];
        let count = waiting.len().min(into.len());
        into[..count].copy_from_slice(&waiting[..count]);
        self.taken += count;
        if self.taken == self.block.len() {
            self.taken = 0;
            clear(&mut self.block);
        }
        count
    }

    /// One part of a chunk: nothing waits, and neither slice is empty.
    fn advance(&mut self, input: &[u8], into: &mut [u8]) -> Result<Step, S2Error> {
        let mut step = Step::default();
        match &mut self.state {
            State::Header { bytes, have } => {
                step.consumed = input.len().min(HEADER - *have);
                let end = *have + step.consumed;
                bytes[*have..end].copy_from_slice(&input[..step.consumed]);
                *have = end;
                if end == HEADER {
                    let header = *bytes;
                    self.state = self.begin(header)?;
                }
            }
            State::Skip { left } => {
                step.consumed = input.len().min(*left);
                *left -= step.consumed;
                if *left == 0 {
                    self.state = State::default();
                }
            }
            State::Body { kind, len } => {
                let (kind, len) = (*kind, *len);
                if self.partial.is_empty() && input.len() >= len {
                    step.consumed = len;
                    step.produced = self.finish(kind, &input[..len], into)?;
                } else {
                    step.consumed = input.len().min(len - self.partial.len());
                    self.gather(len, &input[..step.consumed]);
                    if self.partial.len() == len {
                        let mut body = mem::take(&mut self.partial);
                        step.produced = self.finish(kind, &body, into)?;
                        clear(&mut body);
                        self.partial = body;
                    } else if kind == COMPRESSED && self.partial.len() >= CHECKSUM + LENGTH_SEEN {
                        // Too large is known long before the chunk is complete.
                        decoded_len(&self.partial[CHECKSUM..])?;
                    }
                }
            }
        }
        Ok(step)
    }

    /// What a header promises.
    fn begin(&self, [kind, a, b, c]: [u8; HEADER]) -> Result<State, S2Error> {
        let len = u32::from_le_bytes([a, b, c, 0]) as usize;
        match kind {
            IDENTIFIER if len == S2.len() => Ok(State::Body { kind, len }),
            IDENTIFIER => Err(S2Error::UnknownIdentifier),
            _ if !self.identified => Err(S2Error::NotS2),
            COMPRESSED | RAW if len < CHECKSUM => Err(S2Error::MalformedBlock),
            // What does not shrink is sent raw, so a block is no longer than its data.
            COMPRESSED | RAW if len - CHECKSUM > MAX_BLOCK => Err(S2Error::BlockTooLarge),
            COMPRESSED | RAW => Ok(State::Body { kind, len }),
            FIRST_SKIPPABLE.. if len == 0 => Ok(State::default()),
            FIRST_SKIPPABLE.. => Ok(State::Skip { left: len }),
            _ => Err(S2Error::ReservedChunk(kind)),
        }
    }

    /// Keeps bytes of a chunk of `len`. What is reserved follows what has come, not what was
    /// announced.
    fn gather(&mut self, len: usize, bytes: &[u8]) {
        let have = self.partial.len();
        if self.partial.capacity() - have < bytes.len() {
            self.partial
                .reserve_exact(bytes.len().max(have).min(len - have));
        }
        self.partial.extend_from_slice(bytes);
    }

    /// Takes in a whole chunk. The number of bytes that were written to `into`; more may wait.
    fn finish(&mut self, kind: u8, body: &[u8], into: &mut [u8]) -> Result<usize, S2Error> {
        self.state = State::default();
        if kind == IDENTIFIER {
            self.identified = true;
            return match body == S2 || body == SNAPPY {
                true => Ok(0),
                false => Err(S2Error::UnknownIdentifier),
            };
        }
        let (sum, data) = body
            .split_first_chunk::<CHECKSUM>()
            .ok_or(S2Error::MalformedBlock)?;
        let sum = u32::from_le_bytes(*sum);
        if kind == RAW {
            verify(sum, data)?;
            let (now, later) = data.split_at(data.len().min(into.len()));
            into[..now.len()].copy_from_slice(now);
            self.block.extend_from_slice(later);
            return Ok(now.len());
        }
        let len = decoded_len(data)?;
        if let Some(into) = into.get_mut(..len) {
            decompress(sum, data, into)?;
            return Ok(len);
        }
        let mut block = vec![0; len];
        decompress(sum, data, &mut block)?;
        self.block = block;
        Ok(0)
    }
}

fn decoded_len(block: &[u8]) -> Result<usize, S2Error> {
    match s2::decode_len(block) {
        Ok((len, _)) if len <= MAX_BLOCK => Ok(len),
        Ok(_) => Err(S2Error::BlockTooLarge),
        Err(_) => Err(S2Error::MalformedBlock),
    }
}

/// `into` is as long as the block says.
fn decompress(sum: u32, block: &[u8], into: &mut [u8]) -> Result<(), S2Error> {
    s2::decode_into(into, block).map_err(|_| S2Error::MalformedBlock)?;
    verify(sum, into)
}

fn verify(sum: u32, data: &[u8]) -> Result<(), S2Error> {
    match checksum(data) == sum {
        true => Ok(()),
        false => Err(S2Error::BadChecksum),
    }
}

/// Empties a buffer, and gives it back unless it is small.
fn clear(buffer: &mut Vec<u8>) {
    buffer.clear();
    if buffer.capacity() > KEEP {
        *buffer = Vec::new();
    }
}
