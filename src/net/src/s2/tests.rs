use std::io::IoSlice;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const LEVELS: [Level; 4] = [Level::Uncompressed, Level::Fast, Level::Better, Level::Best];
const ID: &[u8] = b"\xff\x06\x00\x00S2sTwO";
/// As a Go server sends it.
const PING: &[u8] = b"\xff\x06\x00\x00S2sTwO\x01\x0a\x00\x00\xab\x90\xcc\x24PING\r\n";

fn chunk(kind: u8, body: &[u8]) -> Vec<u8> {
    let [a, b, c, _] = (body.len() as u32).to_le_bytes();
    [&[kind, a, b, c], body].concat()
}

fn raw(data: &[u8]) -> Vec<u8> {
    chunk(RAW, &[&checksum(data).to_le_bytes(), data].concat())
}

/// A chunk whose block stands for `data`.
fn compressed(block: &[u8], data: &[u8]) -> Vec<u8> {
    chunk(COMPRESSED, &[&checksum(data).to_le_bytes(), block].concat())
}

fn varint(mut n: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while n >= 0x80 {
        bytes.push(n as u8 | 0x80);
        n >>= 7;
    }
    bytes.push(n as u8);
    bytes
}

/// One decoder, its input in pieces of `piece` bytes, its output in pieces of `room`.
fn read(stream: &[u8], piece: usize, room: usize) -> (Vec<u8>, Option<S2Error>) {
    let (mut decoder, mut all, mut into) = (Decoder::new(), Vec::new(), vec![0; room]);
    for mut input in stream.chunks(piece) {
        while !input.is_empty() || decoder.has_output() {
            match decoder.decode(input, &mut into) {
                Ok(step) => {
                    all.extend_from_slice(&into[..step.produced]);
                    input = &input[step.consumed..];
                }
                Err(error) => {
                    assert_eq!(decoder.decode(PING, &mut into), Err(error), "it stays");
                    return (all, Some(error));
                }
            }
        }
        assert!(decoder.buffered() <= 2 * stream.len() + 8192);
    }
    (all, None)
}

/// Whole and in pieces.
fn decode(stream: &[u8]) -> Result<Vec<u8>, S2Error> {
    let (whole, error) = read(stream, usize::MAX, 64 << 10);
    for (piece, room) in [(1, 7), (5, 64 << 10), (4099, 100), (usize::MAX, 1)] {
        // Large streams in single bytes say nothing new and take long.
        let piece = piece.max(stream.len() / 10_000);
        let room = room.max(whole.len() / 10_000);
        assert!(
            read(stream, piece, room) == (whole.clone(), error),
            "in pieces of {piece}"
        );
    }
    error.map_or(Ok(whole), Err)
}

fn encode(level: Level, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Encoder::new().burst(level, &[IoSlice::new(data)], &mut out);
    out
}

/// Lines as they go over a leaf link.
fn lines(len: usize) -> Vec<u8> {
    let mut text = Vec::new();
    for i in 0.. {
        if text.len() >= len {
            break;
        }
        let payload = format!(
            "{{\"seq\":{i},\"value\":{},\"state\":\"ok\"}}",
            i * 7919 % 1000
        );
        text.extend_from_slice(format!("LMSG a.b.{} {}\r\n", i % 17, payload.len()).as_bytes());
        text.extend_from_slice(payload.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    text.truncate(len);
    text
}

/// Bytes that do not shrink.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut step = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..len).map(|_| step()).collect()
}

#[test]
fn a_ping_is_what_a_go_server_sends() {
    for level in LEVELS {
        assert_eq!(encode(level, b"PING\r\n"), PING);
    }
    assert_eq!(decode(PING).unwrap(), b"PING\r\n");
}

#[test]
fn nothing_is_no_burst() {
    let mut out = Vec::new();
    Encoder::new().burst(Level::Fast, &[], &mut out);
    Encoder::new().burst(Level::Fast, &[IoSlice::new(b"")], &mut out);
    assert_eq!(out, b"");
}

#[test]
fn identifiers_may_stand_anywhere_and_may_be_missing_later() {
    let snappy = b"\xff\x06\x00\x00sNaPpY";
    let stream = [
        PING,
        ID,
        ID,
        &raw(b"a"),
        snappy,
        &raw(b"b"),
        &raw(b""),
        PING,
    ]
    .concat();
    assert_eq!(decode(&stream).unwrap(), b"PING\r\nabPING\r\n");
    assert_eq!(
        decode(&[snappy, &PING[10..]].concat()).unwrap(),
        b"PING\r\n"
    );
}

#[test]
fn unknown_chunks_are_skipped_and_not_kept() {
    let padding = chunk(0xfe, &vec![7; 3 << 20]);
    let stream = [
        ID,
        &chunk(0x99, b"index"),
        &padding,
        &chunk(0x80, b""),
        &raw(b"a"),
    ]
    .concat();
    assert_eq!(decode(&stream).unwrap(), b"a");

    let mut decoder = Decoder::new();
    let mut into = [0; 64];
    let announced = [ID, &padding[..padding.len() - 1]].concat();
    for input in announced.chunks(64 << 10) {
        let step = decoder.decode(input, &mut into).unwrap();
        assert_eq!((step.consumed, step.produced), (input.len(), 0));
        assert_eq!(decoder.buffered(), 0);
    }
}

#[test]
fn repeats_of_every_length_code() {
    // Literal "abc", a copy of 4 from 3 back, then the repeat under test.
    let head = b"\x08abc\x01\x03";
    let codes: [(&[u8], usize); 11] = [
        (b"\x01\x00", 4),
        (b"\x05\x00", 5),
        (b"\x09\x00", 6),
        (b"\x0d\x00", 7),
        (b"\x11\x00", 8),
        (b"\x15\x00\x00", 8),
        (b"\x15\x00\xff", 263),
        (b"\x19\x00\x00\x00", 260),
        (b"\x19\x00\xff\xff", 65_795),
        (b"\x1d\x00\x00\x00\x00", 65_540),
        (b"\x1d\x00\x01\x02\x03", 65_540 + 0x03_0201),
    ];
    for (code, len) in codes {
        let data: Vec<u8> = b"abc".iter().copied().cycle().take(7 + len).collect();
        let block = [&varint(data.len())[..], head, code].concat();
        let stream = [ID, &compressed(&block, &data)].concat();
        assert!(decode(&stream).unwrap() == data, "{code:x?}");
    }
}

#[test]
fn every_kind_of_copy_and_literal() {
    let start = noise(70_000);
    let mut data = start.clone();
    // A literal with three bytes of length, then copies with offsets of one, two and four bytes.
    let mut block = vec![62 << 2];
    block.extend_from_slice(&(start.len() as u32 - 1).to_le_bytes()[..3]);
    block.extend_from_slice(&start);
    for (copy, offset, len) in [
        (&b"\x5d\xe9"[..], 0x2e9, 11),
        (b"\xfe\x01\x80", 0x8001, 64),
        (b"\xff\x00\x00\x01\x00", 0x1_0000, 64),
    ] {
        block.extend_from_slice(copy);
        let from = data.len() - offset;
        data.extend_from_within(from..from + len);
    }
    for (head, len) in [
        (&b"\xf0\x3c"[..], 61),
        (b"\xf4\x3c\x00", 61),
        (b"\xfc\x3c\x00\x00\x00", 61),
    ] {
        block.extend_from_slice(head);
        block.extend_from_slice(&start[..len]);
        data.extend_from_slice(&start[..len]);
    }
    let block = [varint(data.len()), block].concat();
    assert!(decode(&[ID, &compressed(&block, &data)].concat()).unwrap() == data);
}

#[test]
fn large_blocks_are_read() {
    let noise = noise(1_000_020);
    assert!(decode(&[ID, &raw(&noise)].concat()).unwrap() == noise);

    // A byte and a repeat: a block of 4 MiB in a few bytes.
    for len in [1_000_020, 1 << 20, MAX_BLOCK] {
        let repeat = (len - 5 - 65_540) as u32;
        let tail = [&[0x1d, 0], &repeat.to_le_bytes()[..3]].concat();
        let block = [&varint(len)[..], b"\x00x\x01\x01", &tail].concat();
        let data = vec![b'x'; len];
        let stream = [ID, &compressed(&block, &data), &raw(b"end")].concat();
        assert!(stream.len() < 64);
        let (all, error) = read(&stream, 3, 64 << 10);
        assert!(error.is_none() && all == [&data[..], b"end"].concat());
    }
}

#[test]
fn too_large_is_refused_before_it_costs_memory() {
    let mut body = vec![0; CHECKSUM];
    body.extend_from_slice(&varint(MAX_BLOCK + 1));
    body.extend_from_slice(&[0; 100]);
    let block = [ID, &chunk(COMPRESSED, &body)].concat();
    assert_eq!(decode(&block), Err(S2Error::BlockTooLarge));
    // The head of it is enough.
    assert_eq!(decode(&block[..40]), Err(S2Error::BlockTooLarge));
    for kind in [RAW, COMPRESSED] {
        let [a, b, c, _] = ((CHECKSUM + MAX_BLOCK + 1) as u32).to_le_bytes();
        let announced = [ID, &[kind, a, b, c]].concat();
        assert_eq!(decode(&announced), Err(S2Error::BlockTooLarge));
    }
    let huge = [ID, &compressed(b"\xff\xff\xff\xff\x0f\x00", b"")].concat();
    assert_eq!(decode(&huge), Err(S2Error::BlockTooLarge));
}

#[test]
fn memory_follows_what_has_come() {
    let mut decoder = Decoder::new();
    let mut into = [0; 64];
    let stream = [ID, &raw(&noise(MAX_BLOCK))].concat();
    let mut fed = 0;
    for input in stream[..stream.len() - 1].chunks(1000) {
        fed += input.len();
        assert_eq!(decoder.decode(input, &mut into).unwrap().produced, 0);
        assert!(decoder.buffered() <= 2 * fed);
    }
    let mut step = decoder.decode(&stream[stream.len() - 1..], &mut into);
    assert!(decoder.buffered() <= MAX_BLOCK);
    while decoder.has_output() {
        step = decoder.decode(b"", &mut into);
    }
    assert_eq!(step.unwrap().produced, 64);
    assert_eq!(decoder.buffered(), 0);
}

#[test]
fn what_is_corrupt_is_an_error() {
    use S2Error::*;
    let data = lines(1000);
    let good = encode(Level::Fast, &data);
    assert_eq!(good[10], COMPRESSED);
    let after = |chunk: &[u8]| [ID, chunk].concat();
    let mut bad_sum = PING.to_vec();
    bad_sum[14] ^= 1;
    let mut bad_data = PING.to_vec();
    bad_data[20] ^= 1;
    let mut bad_literal = good.clone();
    let letter = bad_literal.windows(4).position(|w| w == b"LMSG").unwrap();
    bad_literal[letter] = b'X';
    let cases: [(&str, Vec<u8>, S2Error); 18] = [
        ("clear text", b"INFO {}\r\n".to_vec(), NotS2),
        ("no identifier", PING[10..].to_vec(), NotS2),
        ("padding first", chunk(0xfe, b""), NotS2),
        ("another stream", chunk(0xff, b"S2sTwX"), UnknownIdentifier),
        (
            "a long identifier",
            chunk(0xff, b"S2sTwO!"),
            UnknownIdentifier,
        ),
        ("reserved", after(&chunk(0x02, b"")), ReservedChunk(2)),
        ("reserved", after(&chunk(0x7f, b"x")), ReservedChunk(0x7f)),
        ("checksum", bad_sum, BadChecksum),
        ("raw data", bad_data, BadChecksum),
        ("literal", bad_literal, BadChecksum),
        ("no checksum", after(&chunk(RAW, b"abc")), MalformedBlock),
        (
            "no block",
            after(&chunk(COMPRESSED, &[0; 4])),
            MalformedBlock,
        ),
        (
            "endless length",
            after(&chunk(COMPRESSED, &[0xff; 40])),
            MalformedBlock,
        ),
        (
            "short literal",
            after(&compressed(b"\x05\x10ab", b"")),
            MalformedBlock,
        ),
        (
            "repeat first",
            after(&compressed(b"\x05\x00a\x01\x00", b"")),
            MalformedBlock,
        ),
        (
            "copy before",
            after(&compressed(b"\x05\x00a\x01\x02", b"")),
            MalformedBlock,
        ),
        (
            "too little",
            after(&compressed(b"\x05\x00a", b"")),
            MalformedBlock,
        ),
        (
            "too much",
            after(&compressed(b"\x01\x00a\x01\x01", b"")),
            MalformedBlock,
        ),
    ];
    for (name, stream, error) in cases {
        assert_eq!(decode(&stream), Err(error), "{name}");
        assert!(!error.to_string().is_empty());
    }
}

#[test]
fn data_in_front_of_an_error_is_handed_out() {
    let stream = [PING, &chunk(0x02, b"")].concat();
    let expected = (b"PING\r\n".to_vec(), Some(S2Error::ReservedChunk(2)));
    for room in [1, 6, 100] {
        assert_eq!(read(&stream, usize::MAX, room), expected);
    }
}

#[test]
fn no_flipped_bit_goes_unseen() {
    let data = lines(300);
    let good = encode(Level::Better, &data);
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut stream = good.clone();
            stream[at] ^= 1 << bit;
            // A type may become one to skip, a length may announce more: then nothing is read.
            let (all, _) = read(&stream, usize::MAX, 4096);
            assert!(all.is_empty() || all == data, "byte {at} bit {bit}");
        }
    }
}

#[test]
fn chunks_hold_64_kib_and_join_small_pieces() {
    let (large, small) = (noise(150_000), lines(1000));
    let pieces = [
        IoSlice::new(&small[..300]),
        IoSlice::new(b""),
        IoSlice::new(&small[300..]),
    ];
    let (mut joined, mut whole) = (Vec::new(), Vec::new());
    Encoder::new().burst(Level::Fast, &pieces, &mut joined);
    Encoder::new().burst(Level::Fast, &[IoSlice::new(&small)], &mut whole);
    assert_eq!(joined, whole);

    for level in LEVELS {
        let stream = encode(level, &large);
        // Noise does not shrink: three raw chunks and the identifier.
        assert_eq!(
            stream.len(),
            ID.len() + large.len() + 3 * (HEADER + CHECKSUM)
        );
        assert_eq!(stream[10..14], [RAW, 4, 0, 1]);
        assert!(decode(&stream).unwrap() == large);
    }
}

#[test]
fn levels_save_what_they_promise() {
    let data = lines(100_000);
    let [uncompressed, fast, better, best] = LEVELS.map(|level| encode(level, &data).len());
    assert!(uncompressed > data.len() && fast < data.len() / 2);
    assert!(better < fast && best < better);
}

/// Data between noise and one repeated word, up to a little more than one chunk.
fn some_data() -> impl Strategy<Value = Vec<u8>> {
    let part = (vec(any::<u8>(), 0..40), 1..200usize).prop_map(|(word, times)| word.repeat(times));
    vec(part, 0..20)
        .prop_map(|parts| parts.concat())
        .boxed()
        .prop_union((0..80_000usize).prop_map(lines).boxed())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_was_encoded_is_read_back(
        data in some_data(),
        level in prop::sample::select(&LEVELS[..]),
        cut in 1..5000usize,
        piece in 1..5000usize,
        room in 1..5000usize,
    ) {
        let pieces: Vec<IoSlice> = data.chunks(cut).map(IoSlice::new).collect();
        let mut stream = Vec::new();
        Encoder::new().burst(level, &pieces, &mut stream);
        let chunks = data.len().div_ceil(64 << 10);
        prop_assert!(stream.len() <= ID.len() + data.len() + chunks * (HEADER + CHECKSUM));
        let (all, error) = read(&stream, piece, room);
        prop_assert!(error.is_none() && all == data);
    }

    #[test]
    fn hostile_bytes_are_the_same_whole_and_in_pieces(
        chunks in vec((0..4u8, vec(any::<u8>(), 0..60)), 0..6),
    ) {
        let mut stream = ID.to_vec();
        for (kind, body) in chunks {
            stream.extend(match kind {
                0 => chunk(COMPRESSED, &body),
                1 => chunk(0xfe, &body),
                2 => raw(&body),
                _ => body,
            });
        }
        let _ = decode(&stream);
    }
}
