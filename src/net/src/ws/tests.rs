use std::io::IoSlice;

use proptest::prelude::*;

use super::*;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ANSWER: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
const TAKEN_UP: &str = "Sec-WebSocket-Extensions: permessage-deflate; \
    server_no_context_takeover; client_no_context_takeover\r\n";
const BOTH: Options = Options {
    compression: true,
    no_masking: true,
};
const NONE: Options = Options {
    compression: false,
    no_masking: false,
};
const PLAIN: Accepted = Accepted {
    deflate: false,
    masking: true,
};
const DEFLATE: Accepted = Accepted {
    deflate: true,
    masking: true,
};

fn request(options: Options) -> Request {
    Request::new("hub:7422", "/leafnode", "petiole/1", options, KEY).unwrap()
}

fn answer(options: Options, text: &str) -> Result<Option<(Accepted, usize)>, WsError> {
    request(options).check(text.as_bytes())
}

#[test]
fn the_request_says_what_is_asked_for() {
    let text = |options| String::from_utf8(request(options).bytes().to_vec()).unwrap();
    let plain = text(NONE).to_lowercase();
    assert!(plain.starts_with("get /leafnode http/1.1\r\n"));
    assert!(plain.ends_with("\r\n\r\n"));
    for line in [
        "host: hub:7422",
        "user-agent: petiole/1",
        "connection: upgrade",
        "upgrade: websocket",
        "sec-websocket-version: 13",
        "sec-websocket-key: dghlihnhbxbszsbub25jzq==",
    ] {
        assert_eq!(
            plain.matches(&format!("\r\n{line}\r\n")).count(),
            1,
            "{line}"
        );
    }
    assert!(!plain.contains("extensions") && !plain.contains("masking"));
    let both = text(BOTH).to_lowercase();
    assert!(both.contains("\r\nnats-no-masking: true\r\n"));
    assert!(both.contains(&TAKEN_UP.to_lowercase()));
}

#[test]
fn keys_differ_and_have_sixteen_bytes() {
    assert_ne!(key(), key());
    let decoded = data_encoding::BASE64.decode(key().as_bytes()).unwrap();
    assert_eq!(decoded.len(), 16);
}

#[test]
fn nothing_slips_into_the_request() {
    for (host, path) in [
        ("hub\r\nX: y", "/leafnode"),
        ("hub", "/leaf node"),
        ("hub", "/x\r\nX: y"),
        ("hub", ""),
    ] {
        let made = Request::new(host, path, "petiole", NONE, KEY);
        assert_eq!(made.unwrap_err(), WsError::Address, "{host:?} {path:?}");
    }
}

#[test]
fn the_path_ends_with_leafnode() {
    for (path, want) in [
        ("", "/leafnode"),
        ("/", "/leafnode"),
        ("//", "/leafnode"),
        ("/leafnode", "/leafnode"),
        ("/leafnode/", "/leafnode"),
        ("/some/path", "/some/path/leafnode"),
        ("/some/path/", "/some/path/leafnode"),
        ("/x/leafnode", "/x/leafnode"),
        ("/xleafnode", "/xleafnode/leafnode"),
        ("/leafnode/x", "/leafnode/x/leafnode"),
        ("path", "/path/leafnode"),
        ("leafnode", "/leafnode"),
        ("/x?token=a/b", "/x/leafnode?token=a/b"),
        ("?q", "/leafnode?q"),
    ] {
        assert_eq!(leaf_path(path), want, "{path}");
        Request::new("hub", &leaf_path(path), "petiole", NONE, KEY).unwrap();
    }
}

#[test]
fn an_answer_accepts_only_what_was_asked_for() {
    let unmasked = "Nats-No-Masking: true\r\n";
    for (options, headers, deflate, masking) in [
        (NONE, String::new(), false, true),
        (NONE, unmasked.into(), false, true),
        (BOTH, String::new(), false, true),
        (BOTH, unmasked.into(), false, false),
        (BOTH, "Nats-No-Masking: no\r\n".into(), false, true),
        (BOTH, TAKEN_UP.into(), true, true),
        (BOTH, format!("{TAKEN_UP}{unmasked}"), true, false),
        (BOTH, TAKEN_UP.to_uppercase(), true, true),
        (
            BOTH,
            TAKEN_UP.replace("; client", "; server_max_window_bits=\"10\" ;client"),
            true,
            true,
        ),
    ] {
        let head = format!("{ANSWER}{headers}\r\n");
        let behind = format!("{head}\u{2}INFO");
        let want = Ok(Some((Accepted { deflate, masking }, head.len())));
        assert_eq!(answer(options, &behind), want, "{headers}");
        for cut in 0..head.len() {
            assert_eq!(answer(options, &head[..cut]), Ok(None));
        }
    }
}

#[test]
fn header_values_may_be_lists_in_any_case() {
    let text = "HTTP/1.1 101 x\r\nUPGRADE: h2c, WebSocket\r\nconnection: keep-alive\r\n\
        connection: x , uPGRADE\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    assert!(answer(NONE, text).unwrap().is_some());
}

#[test]
fn an_answer_that_refuses_names_the_end_to_change() {
    let more = |headers: &str| format!("{ANSWER}{headers}\r\n");
    let half = TAKEN_UP.replace("; client_no_context_takeover", "");
    let window = TAKEN_UP.replace("; client", "; server_max_window_bits=16; client");
    let twice = TAKEN_UP.replace("; client", "; server_no_context_takeover; client");
    for (options, text, want) in [
        (
            NONE,
            "INFO {\"server_id\"".into(),
            "nats-leaf:// instead of ws://",
        ),
        (NONE, "\u{15}\u{3}\u{1}".into(), "use wss://"),
        (NONE, "SSH-2.0".into(), "not HTTP"),
        (NONE, "HTTP/2".into(), "not HTTP"),
        (NONE, "HTTP/1.1 20 x\r\n\r\n".into(), "damaged"),
        (NONE, "HTTP/1.1 101 x\r\nno colon\r\n\r\n".into(), "damaged"),
        (NONE, "HTTP/1.0 101 x\r\n\r\n".into(), "damaged"),
        (NONE, "HTTP/1.0 200 OK\r\n\r\n".into(), "200 OK"),
        (
            NONE,
            "HTTP/1.1 308 x\r\n\r\n".into(),
            "308 Permanent Redirect: redirects",
        ),
        (NONE, "HTTP/1.1 400 x\r\n\r\n".into(), "400 Bad Request"),
        (NONE, "HTTP/1.1 401 x\r\n\r\n".into(), "401 Unauthorized"),
        (NONE, "HTTP/1.1 403 x\r\n\r\n".into(), "403 Forbidden"),
        (
            NONE,
            "HTTP/1.1 404 x\r\n\r\n".into(),
            "404 Not Found: is there a websocket listener at this address",
        ),
        (NONE, "HTTP/1.1 407 x\r\n\r\n".into(), "407"),
        (NONE, "HTTP/1.1 502 x\r\n\r\n".into(), "502 Bad Gateway"),
        (NONE, "HTTP/1.1 999\n\n".into(), "is 999:"),
        (
            NONE,
            ANSWER.replace("Upgrade: web", "Upgrade: wib") + "\r\n",
            "`Upgrade`",
        ),
        (
            NONE,
            ANSWER.replace("n: Upg", "n: Opg") + "\r\n",
            "`Connection`",
        ),
        (
            NONE,
            ANSWER.replace("Accept", "Except") + "\r\n",
            "`Sec-WebSocket-Accept`",
        ),
        (
            NONE,
            ANSWER.replace("s3p", "S3p") + "\r\n",
            "another request",
        ),
        (
            NONE,
            more("Sec-WebSocket-Protocol: mqtt\r\n"),
            "subprotocol",
        ),
        (NONE, more(TAKEN_UP), "not offered"),
        (BOTH, more("Sec-WebSocket-Extensions: x\r\n"), "not offered"),
        (BOTH, more(&format!("{TAKEN_UP}{TAKEN_UP}")), "not offered"),
        (BOTH, more(&window), "not offered"),
        (BOTH, more(&twice), "not offered"),
        (BOTH, more(&half), "ws_compression"),
        (
            BOTH,
            more("Sec-WebSocket-Extensions: permessage-deflate\r\n"),
            "ws_compression",
        ),
        (
            BOTH,
            "HTTP/1.1 ".to_owned() + &"x".repeat(MAX_HEAD),
            "does not end",
        ),
        (
            BOTH,
            more(&format!("X: {}\r\n", "x".repeat(MAX_HEAD))),
            "does not end",
        ),
    ] {
        let error = answer(options, &text).unwrap_err();
        assert!(error.to_string().contains(want), "{error} has no {want:?}");
        assert_eq!(error.close_code(), None);
    }
}

/// What a hub sees: the payload of the frames, with their first bytes.
fn unmask(mut wire: &[u8], masking: bool) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let [first, second, rest @ ..] = wire {
        assert_eq!(second & MASK != 0, masking);
        let (len, rest) = match second & 127 {
            126 => (
                usize::from(u16::from_be_bytes([rest[0], rest[1]])),
                &rest[2..],
            ),
            127 => (
                u64::from_be_bytes(rest[..8].try_into().unwrap()) as usize,
                &rest[8..],
            ),
            len => (usize::from(len), rest),
        };
        let (mask, rest) = rest.split_at(if masking { 4 } else { 0 });
        let (payload, rest) = rest.split_at(len);
        let byte = |(at, byte): (usize, &u8)| byte ^ mask.get(at % 4).copied().unwrap_or(0);
        frames.push((*first, payload.iter().enumerate().map(byte).collect()));
        wire = rest;
    }
    assert!(wire.is_empty());
    frames
}

fn hub_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..=125 => frame.push(len as u8),
        len @ 126..=0xffff => {
            frame.push(126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            frame.push(127);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

fn inflate(payload: &[u8]) -> Vec<u8> {
    decode(DEFLATE, &[hub_frame(0xc2, payload)]).unwrap()
}

/// Feeds piece by piece, reading in between, and checks what has to hold at all times.
fn decode(accepted: Accepted, pieces: &[Vec<u8>]) -> Result<Vec<u8>, WsError> {
    let mut decoder = Decoder::new(accepted, u64::MAX);
    let mut got = Vec::new();
    for piece in pieces {
        feed(&mut decoder, piece, &mut got)?;
    }
    Ok(got)
}

fn feed(decoder: &mut Decoder, mut piece: &[u8], got: &mut Vec<u8>) -> Result<(), WsError> {
    loop {
        let used = decoder.feed(piece)?;
        let waiting = decoder.waiting();
        assert!(waiting <= 128 << 10);
        assert!(used == piece.len() || waiting >= 64 << 10);
        piece = &piece[used..];
        let mut some = vec![0; 50_000];
        let mut count = decoder.read(&mut some);
        got.extend_from_slice(&some[..count]);
        if piece.is_empty() {
            while count > 0 {
                count = decoder.read(&mut some);
                got.extend_from_slice(&some[..count]);
            }
            return Ok(());
        }
    }
}

#[test]
fn the_examples_of_the_rfcs_are_read() {
    for (wire, want) in [
        (&b"\x81\x05Hello"[..], &b"Hello"[..]),
        (b"\x82\x05Hello", b"Hello"),
        (b"\x01\x03Hel\x80\x02lo", b"Hello"),
        (b"\x01\x03Hel\x8a\x00\x80\x02lo", b"Hello"),
        (b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00", b"Hello"),
        (b"\x41\x03\xf2\x48\xcd\x80\x04\xc9\xc9\x07\x00", b"Hello"),
        (b"\xc1\x0b\x00\x05\x00\xfa\xffHello\x00", b"Hello"),
        // With a block that says it is the last one, and with two blocks.
        (b"\xc1\x08\xf3\x48\xcd\xc9\xc9\x07\x00\x00", b"Hello"),
        (
            b"\xc1\x0d\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",
            b"Hello",
        ),
        (b"\xc1\x01\x00", b""),
        (b"\x82\x00\x82\x7e\x00\x01x", b"x"),
    ] {
        let whole = decode(DEFLATE, &[wire.to_vec()]).unwrap();
        assert_eq!(whole, want, "{wire:02x?}");
        let bytes: Vec<_> = wire.iter().map(|byte| vec![*byte]).collect();
        assert_eq!(decode(DEFLATE, &bytes).unwrap(), want, "{wire:02x?}");
    }
}

#[test]
fn violations_end_the_link() {
    for (wire, accepted, want, code) in [
        (&b"\x82\x85"[..], PLAIN, WsError::Masked, 1002),
        (b"\xa2\x00", DEFLATE, WsError::ReservedBits, 1002),
        (b"\x92\x00", DEFLATE, WsError::ReservedBits, 1002),
        (b"\xc2\x00", PLAIN, WsError::ReservedBits, 1002),
        (b"\x42\x00\xc0\x00", DEFLATE, WsError::ReservedBits, 1002),
        (b"\x83\x00", PLAIN, WsError::Opcode(3), 1002),
        (b"\x8b\x00", PLAIN, WsError::Opcode(11), 1002),
        (b"\x89\x7e", PLAIN, WsError::Control, 1002),
        (b"\x09\x00", PLAIN, WsError::Control, 1002),
        (b"\xc9\x00", DEFLATE, WsError::Control, 1002),
        (b"\x88\x01x", PLAIN, WsError::Control, 1002),
        (b"\x88\x02\x03\xed", PLAIN, WsError::Control, 1002),
        (b"\x80\x00", PLAIN, WsError::Fragment, 1002),
        (b"\x02\x00\x82\x00", PLAIN, WsError::Fragment, 1002),
        (b"\x82\x7f\x80\0\0\0\0\0\0\0", PLAIN, WsError::Length, 1002),
        (b"\xc2\x02\xff\xff", DEFLATE, WsError::Inflate, 1007),
        (
            b"\x82\x7f\0\0\0\0\x01\0\0\0",
            PLAIN,
            WsError::TooBig(1000),
            1009,
        ),
        (b"\x02\x7e\x03\xe8", PLAIN, WsError::TooBig(1000), 1009),
    ] {
        // The last one is not too big in itself.
        let mut wire = wire.to_vec();
        if wire.starts_with(b"\x02\x7e") {
            wire.extend_from_slice(&[b'x'; 1000]);
            wire.extend_from_slice(b"\x80\x01");
        }
        for size in [1, wire.len()] {
            let mut decoder = Decoder::new(accepted, 1000);
            let mut pieces = wire.chunks(size);
            let error = pieces.find_map(|piece| decoder.feed(piece).err());
            assert_eq!(error, Some(want.clone()), "{wire:02x?}");
        }
        assert_eq!(want.close_code(), Some(code));
        assert!(!want.to_string().is_empty());
    }
}

#[test]
fn a_flood_out_of_few_bytes_is_bounded() {
    let zeros = vec![0; 8 << 20];
    let mut deflater = flate2::Compress::new(flate2::Compression::best(), false);
    let mut small = Vec::with_capacity(64 << 10);
    deflater
        .compress_vec(&zeros, &mut small, flate2::FlushCompress::Sync)
        .unwrap();
    small.truncate(small.len() - TAIL.len());
    let wire = hub_frame(0xc2, &small);
    assert!(wire.len() < 10_000);
    assert_eq!(decode(DEFLATE, std::slice::from_ref(&wire)), Ok(zeros));

    let mut decoder = Decoder::new(DEFLATE, 1 << 20);
    let mut got = Vec::new();
    let result = feed(&mut decoder, &wire, &mut got);
    assert_eq!(result, Err(WsError::TooBig(1 << 20)));
    assert!(got.len() <= 1 << 20);
}

#[test]
fn a_large_frame_is_handed_on_as_it_comes() {
    let mut decoder = Decoder::new(PLAIN, u64::MAX);
    let head = [&[0x82, 127][..], &(1_u64 << 40).to_be_bytes()].concat();
    assert_eq!(decoder.feed(&head), Ok(10));
    for _ in 0..3 {
        assert_eq!(decoder.feed(&[7; 40_000]), Ok(40_000));
        assert_eq!(decoder.feed(&[7; 40_000]), Ok((64 << 10) - 40_000));
        assert_eq!(decoder.feed(&[7; 40_000]), Ok(0));
        assert_eq!(decoder.read(&mut vec![0; 100_000]), 64 << 10);
        assert_eq!(decoder.read(&mut [0; 1]), 0);
    }
}

#[test]
fn pings_are_answered_with_their_payload() {
    for accepted in combinations() {
        let mut decoder = Decoder::new(accepted, u64::MAX);
        let mut encoder = Encoder::new(accepted, 1);
        let mut got = Vec::new();
        // The last of several, between the fragments of a message.
        let wire = b"\x02\x01a\x89\x01x\x8a\x02hi\x89\x04ping\x80\x01b";
        feed(&mut decoder, wire, &mut got).unwrap();
        assert_eq!(got, b"ab");
        let mut out = Vec::new();
        encoder.reply(&decoder.take_reply().unwrap(), &mut out);
        assert_eq!(unmask(&out, accepted.masking), [(0x8a, b"ping".to_vec())]);
        assert_eq!(decoder.take_reply(), None);
    }
}

#[test]
fn a_close_is_echoed_and_is_the_end() {
    for (payload, echo, words) in [
        (&b""[..], &b""[..], "the peer closed the WebSocket"),
        (
            b"\x03\xf0Auth\nviolation",
            b"\x03\xf0",
            "the peer closed the WebSocket: 1008 (not authorized): \"Auth\\nviolation\"",
        ),
        (
            b"\x0f\xa0\xff",
            b"\x0f\xa0",
            "the peer closed the WebSocket: 4000: \"\u{fffd}\"",
        ),
    ] {
        let mut decoder = Decoder::new(PLAIN, u64::MAX);
        let mut got = Vec::new();
        let mut wire = b"\x82\x01a".to_vec();
        wire.extend(hub_frame(0x88, payload));
        assert_eq!(decoder.closed(), None);
        feed(&mut decoder, &wire, &mut got).unwrap();
        feed(&mut decoder, b"\x82\x01b\xff\xff\xff", &mut got).unwrap();
        assert_eq!(got, b"a");
        assert_eq!(decoder.closed().unwrap().to_string(), words);
        let mut out = Vec::new();
        Encoder::new(PLAIN, 1).reply(&decoder.take_reply().unwrap(), &mut out);
        assert_eq!(unmask(&out, true), [(0x88, echo.to_vec())]);
    }
}

#[test]
fn our_close_has_its_code_and_is_our_last_frame() {
    let mut out = Vec::new();
    let mut encoder = Encoder::new(PLAIN, 1);
    encoder.close(1001, &"é".repeat(70), &mut out);
    encoder.close(1002, "", &mut out);
    encoder.frame(&[IoSlice::new(b"PING\r\n")], 1 << 20, &mut out);
    let reason = "é".repeat(61);
    let payload = [b"\x03\xe9", reason.as_bytes()].concat();
    assert_eq!(unmask(&out, true), [(0x88, payload)]);
}

#[test]
fn a_burst_is_one_frame_and_each_has_its_own_mask() {
    let mut encoder = Encoder::new(PLAIN, 1);
    let mut out = b"before".to_vec();
    let burst = vec![b'x'; 100_000];
    encoder.frame(&[IoSlice::new(&burst)], 10, &mut out);
    let first = out.split_off(6);
    assert_eq!(out, b"before");
    assert_eq!(unmask(&first, true), [(0x82, burst.clone())]);
    encoder.frame(&[IoSlice::new(&burst)], 10, &mut out);
    assert_ne!(first, out[6..]);
    let mut other = Vec::new();
    Encoder::new(PLAIN, 2).frame(&[IoSlice::new(&burst)], 10, &mut other);
    assert_ne!(first, other);
    let mut none = Vec::new();
    encoder.frame(&[], 10, &mut none);
    encoder.frame(&[IoSlice::new(b"")], 10, &mut none);
    assert!(none.is_empty());
}

#[test]
fn messages_are_compressed_if_that_makes_them_smaller() {
    let mut random = fastrand::Rng::with_seed(7);
    let noise: Vec<u8> = (0..1000).map(|_| random.u8(..)).collect();
    for (burst, max_payload, firsts) in [
        (vec![b'x'; 64], 1 << 20, &[0x82][..]),
        (vec![b'x'; 65], 1 << 20, &[0xc2]),
        (noise, 1 << 20, &[0x82]),
        (vec![b'x'; 65_536], 1 << 20, &[0xc2]),
        (vec![b'x'; 65_537], 1 << 20, &[0xc2, 0x82]),
        (vec![b'x'; 3000], 1000, &[0xc2, 0xc2, 0xc2]),
        (vec![b'x'; 3000], 64, &[0x82]),
        (vec![b'x'; 3000], 0, &[0x82]),
    ] {
        let mut encoder = Encoder::new(DEFLATE, 1);
        for _ in 0..2 {
            let mut out = Vec::new();
            encoder.frame(&[IoSlice::new(&burst)], max_payload, &mut out);
            let frames = unmask(&out, true);
            let got: Vec<_> = frames.iter().map(|(first, _)| *first).collect();
            assert_eq!(got, firsts);
            check_messages(&frames, max_payload, &burst);
        }
    }
}

/// Each compressed message for itself gives no more than it may, all together what was sent.
fn check_messages(frames: &[(u8, Vec<u8>)], max_payload: usize, sent: &[u8]) {
    let mut got = Vec::new();
    for (first, payload) in frames {
        if first & RSV1 != 0 {
            let inflated = inflate(payload);
            assert!(inflated.len() <= max_payload.min(64 << 10));
            assert!(payload.len() < inflated.len());
            got.extend(inflated);
        } else {
            got.extend_from_slice(payload);
        }
    }
    assert!(got == sent);
}

fn combinations() -> [Accepted; 4] {
    [(false, false), (false, true), (true, false), (true, true)]
        .map(|(deflate, masking)| Accepted { deflate, masking })
}

/// Bytes that compress like a link's: words of a few letters, repeated.
fn burst() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        Just(b"LMSG sensors.room.temperature 12\r\n".to_vec()),
        (1_usize..5000).prop_map(|len| vec![b'x'; len]),
    ];
    prop::collection::vec(word, 0..40).prop_map(|words| words.concat())
}

fn cut(bytes: &[u8], cuts: &[prop::sample::Index]) -> Vec<Vec<u8>> {
    let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.windows(2)
        .map(|pair| bytes[pair[0]..pair[1]].to_vec())
        .collect()
}

fn cuts() -> impl Strategy<Value = Vec<prop::sample::Index>> {
    prop::collection::vec(any::<prop::sample::Index>(), 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_is_written_arrives(
        bursts in prop::collection::vec((burst(), cuts()), 0..4),
        max_payload in prop_oneof![0_usize..300, Just(1 << 20)],
        seed in any::<u64>(),
    ) {
        for accepted in combinations() {
            let mut encoder = Encoder::new(accepted, seed);
            for (burst, cuts) in &bursts {
                let pieces = cut(burst, cuts);
                let slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
                let mut out = Vec::new();
                encoder.frame(&slices, max_payload, &mut out);
                let frames = unmask(&out, accepted.masking);
                prop_assert!(accepted.deflate || frames.len() == usize::from(!burst.is_empty()));
                check_messages(&frames, max_payload, burst);
            }
        }
    }

    #[test]
    fn whatever_a_hub_writes_is_read_in_any_pieces(
        messages in prop::collection::vec((burst(), cuts(), any::<bool>()), 0..4),
        pieces in cuts(),
    ) {
        let mut wire = Vec::new();
        let mut want = Vec::new();
        let mut encoder = Encoder::new(Accepted { deflate: true, masking: false }, 0);
        for (burst, cuts, compress) in &messages {
            want.extend_from_slice(burst);
            let mut out = Vec::new();
            encoder.frame(&[IoSlice::new(burst)], if *compress { usize::MAX } else { 0 }, &mut out);
            // Each message in fragments, with a ping before each.
            for (first, payload) in unmask(&out, false) {
                let fragments = cut(&payload, cuts);
                for (at, fragment) in fragments.iter().enumerate() {
                    wire.extend(hub_frame(0x89, b"?"));
                    let kind = if at == 0 { first & !FIN } else { 0 };
                    let fin = if at + 1 == fragments.len() { FIN } else { 0 };
                    wire.extend(hub_frame(kind | fin, fragment));
                }
            }
        }
        prop_assert_eq!(decode(DEFLATE, &cut(&wire, &pieces)), Ok(want));
    }

    /// What our own dialling side writes, masks and all, its other end reads in any pieces.
    #[test]
    fn whatever_a_dialler_writes_is_read_in_any_pieces(
        bursts in prop::collection::vec(burst(), 0..4),
        pieces in cuts(),
        seed in any::<u64>(),
    ) {
        for accepted in combinations() {
            let mut encoder = Encoder::new(accepted, seed);
            let mut wire = Vec::new();
            for burst in &bursts {
                encoder.frame(&[IoSlice::new(burst)], usize::MAX, &mut wire);
            }
            let mut ping = Vec::new();
            encoder.control(opcode::PING, b"ping", &mut ping);
            wire.extend_from_slice(&ping);
            let mut decoder = Decoder::accepting(accepted, u64::MAX);
            let mut got = Vec::new();
            for piece in cut(&wire, &pieces) {
                prop_assert_eq!(feed(&mut decoder, &piece, &mut got), Ok(()));
            }
            prop_assert!(got == bursts.concat());
            let mut out = Vec::new();
            Encoder::accepting(accepted).reply(&decoder.take_reply().unwrap(), &mut out);
            prop_assert_eq!(unmask(&out, false), [(0x8a, b"ping".to_vec())]);
            // With the mask that was agreed on, or not at all.
            let other = Accepted { masking: !accepted.masking, ..accepted };
            let error = Decoder::accepting(other, u64::MAX).feed(&wire).unwrap_err();
            prop_assert_eq!(
                error,
                if accepted.masking { WsError::Masked } else { WsError::Unmasked }
            );
        }
    }

    #[test]
    fn arbitrary_frames_never_panic(wire in prop::collection::vec(any::<u8>(), 0..300)) {
        for accepted in combinations() {
            let _ = decode(accepted, std::slice::from_ref(&wire));
            let mut decoder = Decoder::accepting(accepted, 1 << 20);
            let _ = feed(&mut decoder, &wire, &mut Vec::new());
        }
    }
}
