//! Bytes to operations.
//!
//! Stateless: each call looks at the start of a contiguous buffer and finds one operation, or says
//! how many bytes it wants first. Nothing is copied. Knows no connection: whether an operation is
//! in order at this moment is for the caller to say.

use memchr::memchr;

use super::Op;
use super::error::ProtoError;
use crate::message::Message;

/// How long things may be on this connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseLimits {
    /// Bytes of a control line behind its verb and separator, without the line end; `usize::MAX`
    /// is no limit.
    pub control_line: usize,
    /// Bytes of a message, header block included; `usize::MAX` is no limit.
    pub payload: usize,
    /// Whether `HPUB` is allowed. A leaf's `HMSG` always is.
    pub headers: bool,
}

/// What the start of the buffer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// One whole operation.
    Op {
        /// The operation.
        op: Op<'a>,
        /// The bytes it occupies.
        len: usize,
    },
    /// Part of one operation.
    Incomplete {
        /// The buffer must hold that many bytes before it is worth asking again. Exact once the
        /// size of a payload is known, else one more than there are.
        need: usize,
    },
}

type Result<T> = std::result::Result<T, ProtoError>;

/// The first operation of a client's `buf`.
///
/// Client protocol, framing: verbs in any case, arguments separated by runs of SP or TAB, a line
/// ends with LF and the CR before it is optional, a payload is followed by exactly CR LF. What
/// cannot become a known verb is refused at its first wrong byte.
#[inline]
pub fn client<'a>(buf: &'a [u8], limits: &ParseLimits) -> Result<Parsed<'a>> {
    if let Some(head) = buf.first_chunk() {
        let head = u32::from_le_bytes(*head);
        if head & FOLD_3 == PUB {
            return publish::<1>(buf, 4, limits);
        }
        if head & FOLD_4 == HPUB && buf.get(4) == Some(&b' ') {
            return publish::<2>(buf, 5, limits);
        }
    }
    rare(buf, limits, &CLIENT_VERBS)
}

/// The first operation of a leaf peer's `buf`.
///
/// Leaf protocol, steady-state verbs: framed as the client protocol, with `LMSG`, `HMSG`, `LS+`
/// and `LS-` in place of the client's verbs.
#[inline]
pub fn leaf<'a>(buf: &'a [u8], limits: &ParseLimits) -> Result<Parsed<'a>> {
    if let Some(head) = buf.first_chunk() {
        let head = u32::from_le_bytes(*head);
        if head & FOLD_4 == LMSG && buf.get(4) == Some(&b' ') {
            return routed::<1>(buf, 5, limits);
        }
        if head & FOLD_4 == HMSG && buf.get(4) == Some(&b' ') {
            return routed::<2>(buf, 5, limits);
        }
    }
    rare(buf, limits, &LEAF_VERBS)
}

// The hot verbs are compared as one number. Clearing bit 5 folds a letter's case and maps no other
// byte onto a letter.
const FOLD_3: u32 = u32::from_le_bytes([0xdf, 0xdf, 0xdf, 0xff]);
const FOLD_4: u32 = u32::from_le_bytes([0xdf; 4]);
const PUB: u32 = u32::from_le_bytes(*b"PUB ");
const HPUB: u32 = u32::from_le_bytes(*b"HPUB");
const LMSG: u32 = u32::from_le_bytes(*b"LMSG");
const HMSG: u32 = u32::from_le_bytes(*b"HMSG");

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Pub,
    Hpub,
    Sub,
    Unsub,
    Lmsg,
    Hmsg,
    Interest,
    InterestGone,
    Ping,
    Pong,
    Connect,
    Info,
    Ok,
    Err,
    /// What only a client may say, said by a leaf.
    Misplaced,
}

impl Verb {
    /// `CONNECT{}` and `PINGX` are understood; `SUBX` is not.
    fn needs_separator(self) -> bool {
        !matches!(
            self,
            Self::Ping | Self::Pong | Self::Connect | Self::Info | Self::Ok
        )
    }
}

const CLIENT_VERBS: [(&[u8], Verb); 10] = [
    (b"PING", Verb::Ping),
    (b"PONG", Verb::Pong),
    (b"SUB", Verb::Sub),
    (b"UNSUB", Verb::Unsub),
    (b"PUB", Verb::Pub),
    (b"HPUB", Verb::Hpub),
    (b"CONNECT", Verb::Connect),
    (b"INFO", Verb::Info),
    (b"+OK", Verb::Ok),
    (b"-ERR", Verb::Err),
];

const LEAF_VERBS: [(&[u8], Verb); 14] = [
    (b"LS+", Verb::Interest),
    (b"LS-", Verb::InterestGone),
    (b"PING", Verb::Ping),
    (b"PONG", Verb::Pong),
    (b"LMSG", Verb::Lmsg),
    (b"HMSG", Verb::Hmsg),
    (b"INFO", Verb::Info),
    (b"CONNECT", Verb::Connect),
    (b"+OK", Verb::Ok),
    (b"-ERR", Verb::Err),
    (b"SUB", Verb::Misplaced),
    (b"UNSUB", Verb::Misplaced),
    (b"PUB", Verb::Misplaced),
    (b"HPUB", Verb::Misplaced),
];

/// Every verb, the hot ones too when they are spelt unusually.
fn rare<'a>(
    buf: &'a [u8],
    limits: &ParseLimits,
    verbs: &[(&'static [u8], Verb)],
) -> Result<Parsed<'a>> {
    let incomplete = Parsed::Incomplete {
        need: buf.len() + 1,
    };
    let Some((name, verb)) = verbs.iter().find(|(name, _)| {
        buf.iter()
            .zip(*name)
            .all(|(have, want)| have.eq_ignore_ascii_case(want))
    }) else {
        return Err(ProtoError::UnknownOperation);
    };
    if buf.len() < name.len() {
        return Ok(incomplete);
    }
    if verb.needs_separator() {
        match buf.get(name.len()) {
            None => return Ok(incomplete),
            Some(b' ' | b'\t') => {}
            Some(_) => return Err(ProtoError::UnknownOperation),
        }
    }
    match verb {
        Verb::Pub => return publish::<1>(buf, name.len(), limits),
        Verb::Hpub => return publish::<2>(buf, name.len(), limits),
        Verb::Lmsg => return routed::<1>(buf, name.len(), limits),
        Verb::Hmsg => return routed::<2>(buf, name.len(), limits),
        Verb::Misplaced => return Err(ProtoError::Malformed("a client's verb on a leaf link")),
        _ => {}
    }
    let Some((args, len)) = line(buf, name.len(), limits)? else {
        return Ok(incomplete);
    };
    let op = match verb {
        Verb::Ping => Op::Ping,
        Verb::Pong => Op::Pong,
        Verb::Ok => Op::Ok,
        Verb::Connect => Op::Connect(args.trim_ascii()),
        Verb::Info => Op::Info(args.trim_ascii()),
        Verb::Err => Op::Err(unquote(args.trim_ascii())),
        Verb::Sub => subscribe(args)?,
        Verb::Unsub => unsubscribe(args)?,
        Verb::Interest => interest(args)?,
        Verb::InterestGone => interest_gone(args)?,
        // Returned above.
        Verb::Pub | Verb::Hpub | Verb::Lmsg | Verb::Hmsg | Verb::Misplaced => {
            return Err(ProtoError::UnknownOperation);
        }
    };
    Ok(Parsed::Op { op, len })
}

/// `PUB` with `SIZES` 1, `HPUB` with 2: subject, maybe a reply, the sizes. `start` is behind the
/// verb.
#[inline(always)]
fn publish<'a, const SIZES: usize>(
    buf: &'a [u8],
    start: usize,
    limits: &ParseLimits,
) -> Result<Parsed<'a>> {
    let Some((mut args, next)) = line(buf, start, limits)? else {
        return Ok(Parsed::Incomplete {
            need: buf.len() + 1,
        });
    };
    if SIZES == 2 && !limits.headers {
        return Err(ProtoError::Malformed("HPUB without negotiated headers"));
    }
    let bad_count = ProtoError::Malformed(if SIZES == 1 {
        "argument count of PUB"
    } else {
        "argument count of HPUB"
    });
    let subject = token(&mut args);
    let second = token(&mut args);
    let third = token(&mut args);
    let (reply, header_size, size) = if SIZES == 1 {
        match (second, third) {
            ([], _) => return Err(bad_count),
            (size, []) => (None, None, size),
            (reply, size) => (Some(reply), None, size),
        }
    } else {
        match (second, third, token(&mut args)) {
            (_, [], _) => return Err(bad_count),
            (header, size, []) => (None, Some(header), size),
            (reply, header, size) => (Some(reply), Some(header), size),
        }
    };
    if !args.is_empty() && !token(&mut args).is_empty() {
        return Err(bad_count);
    }
    message(buf, next, limits, header_size, size, |header_len, body| {
        Message {
            subject,
            reply,
            queue_list: &[],
            header_len,
            body,
        }
    })
}

/// `LMSG` with `SIZES` 1, `HMSG` with 2. Counted without the sizes: one argument is the subject,
/// two are subject and reply, more have an indicator second: `|` (queues follow) or `+` (a reply,
/// then queues).
#[inline(always)]
fn routed<'a, const SIZES: usize>(
    buf: &'a [u8],
    start: usize,
    limits: &ParseLimits,
) -> Result<Parsed<'a>> {
    let Some((mut args, next)) = line(buf, start, limits)? else {
        return Ok(Parsed::Incomplete {
            need: buf.len() + 1,
        });
    };
    let size = last_token(&mut args);
    let header_size = if SIZES == 2 {
        Some(last_token(&mut args))
    } else {
        None
    };
    let subject = token(&mut args);
    if subject.is_empty() {
        return Err(ProtoError::Malformed("argument count of LMSG or HMSG"));
    }
    let second = token(&mut args);
    let mut queue_list: &[u8] = &[];
    let mut reply = None;
    if !second.is_empty() {
        let mut rest = args;
        let third = token(&mut rest);
        match second {
            _ if third.is_empty() => reply = Some(second),
            b"|" => queue_list = trim(args),
            b"+" => {
                reply = Some(third);
                queue_list = trim(rest);
            }
            _ => return Err(ProtoError::Malformed("reply indicator of LMSG or HMSG")),
        }
        if memchr(b'\r', queue_list).is_some() {
            return Err(ProtoError::Malformed("stray CR in LMSG or HMSG"));
        }
    }
    message(buf, next, limits, header_size, size, |header_len, body| {
        Message {
            subject,
            reply,
            queue_list,
            header_len,
            body,
        }
    })
}

/// The sizes are read and judged before the payload arrives; then the payload and its CR LF are
/// taken from `start` on.
#[inline(always)]
fn message<'a>(
    buf: &'a [u8],
    start: usize,
    limits: &ParseLimits,
    header_size: Option<&[u8]>,
    size: &[u8],
    build: impl FnOnce(usize, &'a [u8]) -> Message<'a>,
) -> Result<Parsed<'a>> {
    const BAD: ProtoError = ProtoError::Malformed("size of a message");
    let total = number(size).ok_or(BAD)?;
    let header_len = match header_size {
        Some(digits) => number(digits).ok_or(BAD)?,
        None => 0,
    };
    if header_len > total {
        return Err(ProtoError::Malformed(
            "header block longer than its message",
        ));
    }
    let total = total as usize;
    if total > limits.payload {
        return Err(ProtoError::PayloadTooLarge);
    }
    let end = start + total;
    let Some(block) = buf.get(start..end + 2) else {
        return match buf.get(end) {
            Some(byte) if *byte != b'\r' => Err(ProtoError::UnknownOperation),
            _ => Ok(Parsed::Incomplete { need: end + 2 }),
        };
    };
    match block.split_last_chunk() {
        Some((body, b"\r\n")) => Ok(Parsed::Op {
            op: Op::Publish(build(header_len as usize, body)),
            len: end + 2,
        }),
        _ => Err(ProtoError::UnknownOperation),
    }
}

fn subscribe(mut args: &[u8]) -> Result<Op<'_>> {
    let parts = [(); 4].map(|()| token(&mut args));
    match parts {
        [_, [], ..] | [_, _, _, [_, ..]] => Err(ProtoError::Malformed("argument count of SUB")),
        [subject, sid, [], _] => Ok(Op::Subscribe {
            subject,
            queue: None,
            sid,
        }),
        [subject, queue, sid, _] => Ok(Op::Subscribe {
            subject,
            queue: Some(queue),
            sid,
        }),
    }
}

fn unsubscribe(mut args: &[u8]) -> Result<Op<'_>> {
    let parts = [(); 3].map(|()| token(&mut args));
    match parts {
        [[], ..] | [_, _, [_, ..]] => Err(ProtoError::Malformed("argument count of UNSUB")),
        [sid, max, _] => Ok(Op::Unsubscribe {
            sid,
            max: number(max).filter(|max| *max > 0).map(u64::from),
        }),
    }
}

fn interest(mut args: &[u8]) -> Result<Op<'_>> {
    let parts = [(); 4].map(|()| token(&mut args));
    match parts {
        [subject @ [_, ..], [], ..] => Ok(Op::Interest {
            subject,
            queue: None,
        }),
        [subject, queue, weight @ [_, ..], []] => Ok(Op::Interest {
            subject,
            queue: Some((queue, number(weight).unwrap_or(0))),
        }),
        _ => Err(ProtoError::Malformed("argument count of LS+")),
    }
}

fn interest_gone(mut args: &[u8]) -> Result<Op<'_>> {
    let parts = [(); 3].map(|()| token(&mut args));
    match parts {
        [[], ..] | [_, _, [_, ..]] => Err(ProtoError::Malformed("argument count of LS-")),
        [subject, queue, _] => Ok(Op::InterestGone {
            subject,
            queue: Some(queue).filter(|queue| !queue.is_empty()),
        }),
    }
}

/// The line from `start` up to its LF, with the position behind it; `None` while it is partial. The
/// limit holds for partial lines too, so what a peer can make us buffer is bounded.
#[inline(always)]
fn line<'a>(
    buf: &'a [u8],
    start: usize,
    limits: &ParseLimits,
) -> Result<Option<(&'a [u8], usize)>> {
    let rest = buf.get(start..).unwrap_or_default();
    let found = memchr(b'\n', rest).and_then(|end| Some((rest.get(..end)?, start + end + 1)));
    let args = found.map_or(rest, |(args, _)| args);
    if args.len() > limits.control_line {
        check_length(args, limits.control_line)?;
    }
    Ok(found)
}

/// The separators in front and the CR at the end do not count. A run of separators longer than the
/// limit is refused by itself: it must not grow the buffer either.
#[cold]
fn check_length(args: &[u8], limit: usize) -> Result<()> {
    let args = args.strip_suffix(b"\r").unwrap_or(args);
    let run = args
        .iter()
        .take_while(|b| matches!(b, b' ' | b'\t'))
        .count();
    if run > limit || args.len() - run > limit {
        return Err(ProtoError::ControlLineTooLong);
    }
    Ok(())
}

/// CR separates as well: so the one before the LF needs no care, and no subject can contain one.
#[inline(always)]
fn is_separator(byte: u8) -> bool {
    byte <= b' ' && matches!(byte, b' ' | b'\t' | b'\r')
}

fn trim(mut args: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = args
        && is_separator(*first)
    {
        args = rest;
    }
    while let [rest @ .., last] = args
        && is_separator(*last)
    {
        args = rest;
    }
    args
}

/// Takes the first argument; empty when there is none.
#[inline(always)]
fn token<'a>(args: &mut &'a [u8]) -> &'a [u8] {
    let mut rest = *args;
    while let [first, tail @ ..] = rest
        && is_separator(*first)
    {
        rest = tail;
    }
    let end = rest
        .iter()
        .position(|b| is_separator(*b))
        .unwrap_or(rest.len());
    let (token, tail) = rest.split_at_checked(end).unwrap_or((rest, &[]));
    *args = tail;
    token
}

/// Takes the last argument; empty when there is none.
#[inline(always)]
fn last_token<'a>(args: &mut &'a [u8]) -> &'a [u8] {
    let mut rest = *args;
    while let [head @ .., last] = rest
        && is_separator(*last)
    {
        rest = head;
    }
    let start = rest
        .iter()
        .rposition(|b| is_separator(*b))
        .map_or(0, |at| at + 1);
    let (head, token) = rest.split_at_checked(start).unwrap_or((&[], rest));
    *args = head;
    token
}

/// One to nine decimal digits, leading zeros included.
#[inline(always)]
fn number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || digits.len() > 9 {
        return None;
    }
    let mut value = 0u32;
    for digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.wrapping_mul(10).wrapping_add(digit.into());
    }
    Some(value)
}

fn unquote(text: &[u8]) -> &[u8] {
    match text {
        [b'\'', inner @ .., b'\''] => inner,
        _ => text,
    }
}
