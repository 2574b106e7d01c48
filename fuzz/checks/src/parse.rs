//! Bytes to operations. A file is two letters and a stream: the first letter chooses the limits,
//! the second how the stream is cut into pieces.

use petiole_core::message::Message;
use petiole_core::random::Random;
use petiole_core::wire::error::ProtoError;
use petiole_core::wire::parse::{self, ParseLimits, Parsed};
use petiole_core::wire::{Op, write};

/// Which protocol, and how an operation is written back if we have a writer for it.
pub(crate) struct Dialect {
    parse: for<'a> fn(&'a [u8], &ParseLimits) -> Result<Parsed<'a>, ProtoError>,
    write: fn(&Op<'_>) -> Option<Vec<u8>>,
}

pub(crate) const CLIENT: Dialect = Dialect {
    parse: parse::client,
    write: write_client,
};

pub(crate) const LEAF: Dialect = Dialect {
    parse: parse::leaf,
    write: write_leaf,
};

const NONE: ParseLimits = ParseLimits {
    control_line: usize::MAX,
    payload: usize::MAX,
    headers: true,
};

/// What a partial operation may add to its limits: verb, separator, two line ends, and the byte
/// that is asked for.
const AROUND: usize = 32;

/// How a stream ended.
#[derive(Debug, PartialEq)]
enum End {
    Empty,
    Partial { rest: usize },
    Refused { at: usize, error: ProtoError },
}

pub(crate) fn check(data: &[u8], dialect: Dialect) {
    let [limits, cuts, stream @ ..] = data else {
        return;
    };
    let limits = limits_of(*limits);
    let mut random = Random::new((*cuts).into());
    let (ops, end) = whole(stream, &limits, &dialect, &mut random);
    let pieces = pieces(stream.len(), *cuts, &mut random);
    let (cut_ops, cut_end) = in_pieces(stream, &pieces, &limits, &dialect);
    assert_eq!(ops, cut_ops, "pieces change the operations");
    assert_eq!(end, cut_end, "pieces change the end");
    for (op, _) in &ops {
        written_and_read_again(op, &dialect);
    }
}

fn limits_of(letter: u8) -> ParseLimits {
    ParseLimits {
        control_line: [usize::MAX, 4096, 64, 12][usize::from(letter & 3)],
        payload: [usize::MAX, 1 << 20, 300, 4][usize::from(letter >> 2 & 3)],
        headers: letter >> 4 & 1 == 1,
    }
}

type Ops<'a> = Vec<(Op<'a>, usize)>;

fn whole<'a>(
    stream: &'a [u8],
    limits: &ParseLimits,
    dialect: &Dialect,
    random: &mut Random,
) -> (Ops<'a>, End) {
    let mut ops = Vec::new();
    let mut at = 0;
    while at < stream.len() {
        let rest = &stream[at..];
        match (dialect.parse)(rest, limits) {
            Ok(Parsed::Op { op, len }) => {
                assert!(
                    len > 0 && len <= rest.len(),
                    "length {len} of {}",
                    rest.len()
                );
                // No part of it is taken for an operation, or for an error.
                for part in [1, len - 1, random.below(len as u64) as usize] {
                    let parsed = (dialect.parse)(&rest[..part], limits);
                    if part < len {
                        let Ok(Parsed::Incomplete { need }) = parsed else {
                            panic!("{part} bytes of {op:?} are {parsed:?}");
                        };
                        assert!(
                            need > part && need <= len,
                            "need {need} of {len}, at {part}"
                        );
                    }
                }
                // What follows it does not matter.
                assert_eq!(
                    (dialect.parse)(&rest[..len], limits),
                    Ok(Parsed::Op { op, len })
                );
                ops.push((op, len));
                at += len;
            }
            Ok(Parsed::Incomplete { need }) => {
                check_need(need, rest.len(), limits);
                return (ops, End::Partial { rest: rest.len() });
            }
            Err(error) => return (ops, End::Refused { at, error }),
        }
    }
    (ops, End::Empty)
}

fn check_need(need: usize, have: usize, limits: &ParseLimits) {
    assert!(need > have, "need {need} with {have}");
    // The control line counts without its leading separators, which are bounded by the same number.
    let most = limits
        .control_line
        .saturating_mul(2)
        .saturating_add(limits.payload)
        .saturating_add(AROUND);
    assert!(need <= most, "need {need}, at most {most} can be asked for");
}

/// Where the pieces of a stream end.
fn pieces(len: usize, cuts: u8, random: &mut Random) -> Vec<usize> {
    // From single bytes to long pieces.
    let most = 1u64 << (cuts % 8);
    let mut ends = Vec::new();
    let mut at = 0;
    while at < len {
        at = (at + 1 + random.below(most) as usize).min(len);
        ends.push(at);
    }
    ends
}

/// As a link does it: what is not complete waits until there is as much as was asked for.
fn in_pieces<'a>(
    stream: &'a [u8],
    ends: &[usize],
    limits: &ParseLimits,
    dialect: &Dialect,
) -> (Ops<'a>, End) {
    let mut ops = Vec::new();
    let mut at = 0;
    let mut need = 0;
    let mut exact = None;
    for end in ends {
        // At the end of the stream what is there is looked at in any case.
        while at < *end && (end - at >= need || *end == stream.len()) {
            let have = end - at;
            match (dialect.parse)(&stream[at..*end], limits) {
                Ok(Parsed::Op { op, len }) => {
                    assert!(
                        exact.is_none_or(|exact| exact == len),
                        "{exact:?} for {len}"
                    );
                    ops.push((op, len));
                    at += len;
                    (need, exact) = (0, None);
                }
                Ok(Parsed::Incomplete { need: more }) => {
                    check_need(more, have, limits);
                    assert!(
                        exact.is_none_or(|exact| exact == more),
                        "{exact:?}, now {more}"
                    );
                    if more > have + 1 {
                        exact = Some(more);
                    }
                    need = more;
                    break;
                }
                Err(error) => return (ops, End::Refused { at, error }),
            }
        }
    }
    let end = match stream.len() - at {
        0 => End::Empty,
        rest => End::Partial { rest },
    };
    (ops, end)
}

fn written_and_read_again(op: &Op<'_>, dialect: &Dialect) {
    let Some(line) = (dialect.write)(op) else {
        return;
    };
    let parsed = (dialect.parse)(&line, &NONE);
    let Ok(Parsed::Op { op: again, len }) = parsed else {
        panic!(
            "{op:?} is written as {:?}: {parsed:?}",
            line.escape_ascii().to_string()
        );
    };
    assert_eq!(len, line.len());
    match (op, again) {
        (Op::Publish(message), Op::Publish(again)) => same_message(message, &again),
        (op, again) => assert_eq!(*op, again),
    }
}

fn same_message(one: &Message<'_>, other: &Message<'_>) {
    assert_eq!(one.subject, other.subject);
    assert_eq!(one.reply, other.reply);
    assert_eq!(one.header_len, other.header_len);
    assert_eq!(one.body, other.body);
    assert!(one.queues().eq(other.queues()), "{one:?} became {other:?}");
    assert_eq!(one.payload().len() + one.header_len, one.body.len());
}

/// We only write what a server writes; the verbs without arguments are left.
fn write_client(op: &Op<'_>) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match op {
        Op::Ping => out.extend_from_slice(write::PING),
        Op::Pong => out.extend_from_slice(write::PONG),
        Op::Ok => out.extend_from_slice(write::OK),
        Op::Info(json) => write::info(&mut out, json),
        Op::Connect(json) => write::connect(&mut out, json),
        _ => return None,
    }
    Some(out)
}

fn write_leaf(op: &Op<'_>) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match op {
        Op::Publish(message) => {
            let queues: Vec<&[u8]> = message.queues().collect();
            write::lmsg(
                &mut out,
                message,
                queues.iter().copied(),
                write::Headers::Keep,
            );
        }
        Op::Interest { subject, queue } => write::interest(&mut out, subject, *queue),
        Op::InterestGone { subject, queue } => write::interest_gone(&mut out, subject, *queue),
        op => return write_client(op),
    }
    Some(out)
}
