//! The S2 codec of compressed links.
//!
//! The first byte of a file says what the others are:
//!
//! | byte | the others |
//! |---|---|
//! | `b` | a block, which gets a header and the checksum of what it stands for |
//! | `p` | data to compress, repeated with changes until it fills more than a chunk |
//! | any | a stream as a peer sends it |
//!
//! Blocks and streams are data to compress as well.

mod reference;

use std::io::IoSlice;

use petiole_net::s2::{Decoder, Encoder, Level, MAX_BLOCK, S2Error};

/// Decoded bytes of one file that are looked at: a few bytes can stand for megabytes.
const MOST: usize = MAX_BLOCK + 1024;
/// A little more than one chunk of an encoder.
const LARGE: usize = 66 << 10;
/// Bytes that an idle decoder may keep, twice.
const SLACK: usize = 8 << 10;
const IDENTIFIER: &[u8] = b"\xff\x06\x00\x00S2sTwO";

pub(crate) fn check(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else {
        return;
    };
    match kind {
        b'p' => return round_trip(&repeated(data)),
        b'b' => block(data),
        _ => drop(whole_and_in_pieces(data)),
    }
    round_trip(data);
}

/// Data for the encoders' larger tables, without a large file.
fn repeated(data: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    let mut data = data.to_vec();
    for round in 0usize.. {
        if data.is_empty() || all.len() > LARGE {
            break;
        }
        all.extend_from_slice(&data);
        let at = round * 7 % data.len();
        data[at] = data[at].wrapping_add(round as u8 | 1);
    }
    all
}

/// A block stands for what the reference says, or for nothing.
fn block(block: &[u8]) {
    let expected = reference::decode(block, MAX_BLOCK);
    let sum = reference::checksum(expected.as_deref().unwrap_or_default());
    let [a, b, c, _] = (block.len() as u32 + 4).to_le_bytes();
    let stream = [IDENTIFIER, &[0, a, b, c], &sum.to_le_bytes(), block].concat();
    let (all, error) = whole_and_in_pieces(&stream);
    match expected {
        Some(expected) => assert!(error.is_none() && all == expected, "{error:?}"),
        None => assert!(all.is_empty() && error.is_some()),
    }
}

fn whole_and_in_pieces(stream: &[u8]) -> (Vec<u8>, Option<S2Error>) {
    let whole = read(stream, usize::MAX, 64 << 10);
    for (piece, room) in [(1, 64 << 10), (7, 5), (1000, 4096)] {
        // So that a block of megabytes is not read byte by byte.
        let room = room.max(whole.0.len() / 1000);
        assert!(read(stream, piece, room) == whole, "pieces of {piece}");
    }
    whole
}

/// What one decoder makes of a stream that comes in pieces of `piece` bytes.
fn read(stream: &[u8], piece: usize, room: usize) -> (Vec<u8>, Option<S2Error>) {
    let (mut decoder, mut all, mut into) = (Decoder::new(), Vec::new(), vec![0; room]);
    let mut came = 0;
    for mut input in stream.chunks(piece) {
        came += input.len();
        while !input.is_empty() || decoder.has_output() {
            let step = match decoder.decode(input, &mut into) {
                Ok(step) => step,
                Err(error) => {
                    assert_eq!(decoder.decode(input, &mut into), Err(error), "it stays");
                    assert!(!decoder.has_output() && decoder.buffered() == 0);
                    return (all, Some(error));
                }
            };
            assert!(step.consumed > 0 || step.produced > 0, "no progress");
            assert!(decoder.buffered() <= 2 * came + MAX_BLOCK + SLACK);
            input = &input[step.consumed..];
            all.extend_from_slice(&into[..step.produced]);
            if all.len() >= MOST {
                all.truncate(MOST);
                return (all, None);
            }
        }
        assert!(decoder.buffered() <= 2 * came + SLACK, "a block was kept");
    }
    (all, None)
}

/// The bytes as data, in pieces of the sizes that they say themselves.
fn round_trip(data: &[u8]) {
    let mut pieces = Vec::new();
    let mut rest = data;
    while let [size, ..] = rest {
        let (piece, later) = rest.split_at(rest.len().min(usize::from(*size) * 16));
        pieces.push(IoSlice::new(piece));
        rest = if piece.is_empty() {
            pieces.push(IoSlice::new(&rest[..1]));
            &rest[1..]
        } else {
            later
        };
    }
    for level in [Level::Uncompressed, Level::Fast, Level::Better, Level::Best] {
        let mut stream = Vec::new();
        Encoder::new().burst(level, &pieces, &mut stream);
        let chunks = data.len().div_ceil(64 << 10);
        assert!(stream.len() <= 10 + data.len() + 8 * chunks, "it grew");
        let (all, error) = read(&stream, usize::MAX, 64 << 10);
        assert!(error.is_none() && all == data, "{level:?} {error:?}");
    }
}
