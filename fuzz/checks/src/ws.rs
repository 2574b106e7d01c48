//! WebSocket. A file is three bytes and data: what was negotiated (bit 0 compression, bit 1 no
//! masking), how the data is cut into pieces, and a limit; see `limit`.
//!
//! For the upgrade the data is the hub's answer to a request with the key of RFC 6455's example, or
//! the request of whoever dials us; there bit 1 is same_origin, bit 2 allowed_origins, bit 3 TLS.
//! For frames it is the hub's stream, and then a burst that we send.

use std::io::IoSlice;

use petiole_core::config::WebScheme;
use petiole_core::config::model::{Limits, WebsocketListener};
use petiole_core::random::Random;
use petiole_net::ws::accept::{Answer, Upgrades};
use petiole_net::ws::{
    Accepted, Decoder, Encoder, MAX_COMPRESSED, MAX_HEAD, Options, Request, WsError,
};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// What a decoder may hold.
const MOST_WAITING: usize = 128 << 10;

pub(crate) fn check_upgrade(data: &[u8]) {
    let [letter, cuts, _, answer @ ..] = data else {
        return;
    };
    let options = Options {
        compression: letter & 1 != 0,
        no_masking: letter & 2 != 0,
    };
    let request = Request::new("hub:7422", "/leafnode", "petiole", options, KEY)
        .expect("nothing is wrong with this request");
    let whole = request.check(answer);
    match &whole {
        Ok(Some((accepted, len))) => {
            assert!(*len <= MAX_HEAD && *len <= answer.len());
            assert!(options.compression || !accepted.deflate);
            assert!(options.no_masking || accepted.masking);
        }
        Ok(None) => assert!(answer.len() < MAX_HEAD),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert_eq!(error.close_code(), None);
        }
    }
    let mut received = 0;
    for piece in pieces(answer, *cuts) {
        received += piece.len();
        let result = request.check(&answer[..received]);
        if result != Ok(None) {
            assert_eq!(result, whole, "pieces change the result");
            return;
        }
    }
    assert_eq!(whole, Ok(None), "pieces change the result");
}

pub(crate) fn check_accept(data: &[u8]) {
    let [letter, cuts, _, request @ ..] = data else {
        return;
    };
    let mut listener = WebsocketListener {
        compression: letter & 1 != 0,
        same_origin: letter & 2 != 0,
        headers: vec![("X-One".into(), "a".into())],
        ..WebsocketListener::default()
    };
    if letter & 4 != 0 {
        listener.allowed_origins = vec!["http://a.com".into(), "https://h:1".into()];
    }
    listener.cookies.user = Some("cu".into());
    listener.cookies.pass = Some("cp".into());
    let scheme = if letter & 8 != 0 {
        WebScheme::Https
    } else {
        WebScheme::Http
    };
    let upgrades = Upgrades::new(&listener, &Limits::default());
    let whole = upgrades.check(request, scheme);
    match &whole {
        Ok(Some(answer)) => check_answer(answer, &listener, request),
        Ok(None) => assert!(request.len() < MAX_HEAD),
        Err(refusal) => {
            assert!((400..=505).contains(&refusal.status()));
            assert!(!refusal.to_string().is_empty());
            assert!(refusal.answer().starts_with(b"HTTP/1.1 "));
        }
    }
    let mut received = 0;
    for piece in pieces(request, *cuts) {
        received += piece.len();
        let result = upgrades.check(&request[..received], scheme);
        if result != Ok(None) {
            assert_eq!(result, whole, "pieces change the result");
            return;
        }
    }
    assert_eq!(whole, Ok(None), "pieces change the result");
}

fn check_answer(answer: &Answer, listener: &WebsocketListener, request: &[u8]) {
    assert!(answer.used <= MAX_HEAD && answer.used <= request.len());
    let accepted = answer.upgraded.accepted;
    assert!(listener.compression || !accepted.deflate);
    let text = std::str::from_utf8(&answer.bytes).expect("an answer is text");
    assert!(text.starts_with("HTTP/1.1 101 ") && text.ends_with("\r\nX-One: a\r\n\r\n"));
    // Nothing of the request gets into it.
    assert_eq!(text.matches("\r\n\r\n").count(), 1);
    assert_eq!(text.contains("Nats-No-Masking"), !accepted.masking);
    assert_eq!(text.contains("permessage-deflate"), accepted.deflate);
    if request.windows(KEY.len()).any(|it| it == KEY.as_bytes()) && text.contains("s3pPLMBiTxaQ") {
        let options = Options {
            compression: true,
            no_masking: true,
        };
        let ours = Request::new("h:1", "/leafnode", "petiole", options, KEY)
            .expect("nothing is wrong with this request");
        let end = ours.check(&answer.bytes);
        assert_eq!(end, Ok(Some((accepted, answer.bytes.len()))));
    }
}

pub(crate) fn check_frames(data: &[u8]) {
    let [letter, cuts, limit_of, stream @ ..] = data else {
        return;
    };
    let accepted = Accepted {
        deflate: letter & 1 != 0,
        masking: letter & 2 == 0,
    };
    let limit = limit(*limit_of);
    let whole = decode(accepted, limit, &[stream]);
    let cut = decode(accepted, limit, &pieces(stream, *cuts));
    assert_eq!(whole.end, cut.end, "pieces change the end");
    let (short, long) = if whole.bytes.len() < cut.bytes.len() {
        (&whole.bytes, &cut.bytes)
    } else {
        (&cut.bytes, &whole.bytes)
    };
    // What still comes out before an error depends on when it is seen.
    let failed = matches!(whole.end, End::Refused(_));
    assert!(
        failed && long.starts_with(short) || short == long,
        "pieces change the bytes"
    );

    there_and_back(accepted, limit, *cuts, stream);
}

/// 0 to 255 times 16 bytes, or none.
fn limit(byte: u8) -> u64 {
    match byte {
        255 => u64::MAX,
        byte => u64::from(byte) * 16,
    }
}

fn pieces(stream: &[u8], cuts: u8) -> Vec<&[u8]> {
    let mut random = Random::new(cuts.into());
    let mut rest = stream;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let most = match cuts {
            // Byte by byte, unless that takes too long.
            0 => stream.len() / 1000,
            _ => random.below(2 * u64::from(cuts)) as usize,
        };
        let (piece, next) = rest.split_at(rest.len().min(most + 1));
        pieces.push(piece);
        rest = next;
    }
    pieces
}

#[derive(Debug, PartialEq)]
enum End {
    Open,
    Closed { code: Option<u16>, reason: String },
    Refused(Refusal),
}

#[derive(Debug, PartialEq)]
enum Refusal {
    /// A message that is both damaged and too big is the one or the other.
    Message,
    Frame(WsError),
}

struct Decoded {
    bytes: Vec<u8>,
    end: End,
}

fn decode(accepted: Accepted, limit: u64, pieces: &[&[u8]]) -> Decoded {
    let mut decoder = Decoder::new(accepted, limit);
    let mut bytes = Vec::new();
    for piece in pieces {
        if let Err(error) = feed(&mut decoder, piece, &mut bytes) {
            assert!(!error.to_string().is_empty());
            assert!(error.close_code().is_some());
            let refusal = match error {
                WsError::Inflate | WsError::TooBig(_) => Refusal::Message,
                error => Refusal::Frame(error),
            };
            let end = End::Refused(refusal);
            return Decoded { bytes, end };
        }
    }
    let mut reply = Vec::new();
    let due = decoder.take_reply();
    if let Some(due) = &due {
        Encoder::new(accepted, 0).reply(due, &mut reply);
        let frames = unmask(&reply, accepted.masking);
        assert!(matches!(frames.as_slice(), [(0x88 | 0x8a, payload)] if payload.len() <= 125));
    }
    let end = match decoder.closed() {
        Some(closed) => {
            assert!(due.is_some(), "a close is echoed");
            assert!(!closed.to_string().contains('\n'));
            End::Closed {
                code: closed.code,
                reason: closed.reason.clone(),
            }
        }
        None => End::Open,
    };
    Decoded { bytes, end }
}

fn feed(decoder: &mut Decoder, mut piece: &[u8], bytes: &mut Vec<u8>) -> Result<(), WsError> {
    let mut some = vec![0; 10_000];
    loop {
        let fed = decoder.feed(piece);
        assert!(decoder.waiting() <= MOST_WAITING, "too much waits");
        loop {
            let count = decoder.read(&mut some);
            bytes.extend_from_slice(&some[..count]);
            if count == 0 {
                break;
            }
        }
        let used = fed?;
        assert!(used > 0 || piece.is_empty(), "it does not go on");
        piece = &piece[used..];
        if piece.is_empty() {
            return Ok(());
        }
    }
}

/// A burst of ours, as a hub reads it.
fn there_and_back(accepted: Accepted, limit: u64, cuts: u8, burst: &[u8]) {
    let max_payload = usize::try_from(limit).unwrap_or(usize::MAX);
    let parts = pieces(burst, cuts);
    let slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
    let mut encoder = Encoder::new(accepted, limit);
    let mut wire = Vec::new();
    // Twice, as the second must not lean on the first.
    for _ in 0..2 {
        wire.clear();
        encoder.frame(&slices, max_payload, &mut wire);
        let mut got = Vec::new();
        for (first, payload) in unmask(&wire, accepted.masking) {
            match first {
                0x82 => got.extend(payload),
                0xc2 => {
                    assert!(accepted.deflate);
                    let most = max_payload.min(MAX_COMPRESSED) as u64;
                    let message = decode(accepted, most, &[&hub_frame(first, &payload)]);
                    assert_eq!(message.end, End::Open);
                    assert!(payload.len() < message.bytes.len());
                    got.extend(message.bytes);
                }
                other => panic!("a frame that begins with {other:#x}"),
            }
        }
        assert!(got == burst, "a burst changes on its way");
        let mut got = Vec::new();
        let mut decoder = Decoder::accepting(accepted, u64::MAX);
        assert_eq!(feed(&mut decoder, &wire, &mut got), Ok(()));
        assert!(got == burst, "the one who accepted reads something else");
    }
}

/// The frames as a hub sees them: first byte and payload.
fn unmask(mut wire: &[u8], masking: bool) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Some((first, rest)) = wire.split_first() {
        let (second, rest) = rest.split_first().expect("a head has two bytes");
        assert_eq!(second & 0x80 != 0, masking);
        let bytes = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let (len, rest) = rest.split_at(bytes);
        let len = match bytes {
            0 => usize::from(second & 0x7f),
            _ => len
                .iter()
                .fold(0, |len, byte| len << 8 | usize::from(*byte)),
        };
        assert_eq!(
            bytes,
            if len < 126 {
                0
            } else if len < 1 << 16 {
                2
            } else {
                8
            }
        );
        let (mask, rest) = rest.split_at(if masking { 4 } else { 0 });
        let (payload, rest) = rest.split_at(len);
        let mut payload = payload.to_vec();
        if masking {
            for (at, byte) in payload.iter_mut().enumerate() {
                *byte ^= mask[at % 4];
            }
        }
        frames.push((*first, payload));
        wire = rest;
    }
    frames
}

fn hub_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first, 127];
    frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}
