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

/// Bytes behind a `PING` that are thrown away without complaint.
const LONGEST_SKIP: usize = 4096;

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
    // What follows these means nothing, and a real server skips it without end. Ours has an end, as
    // it is buffered, but not a configured one.
    let generous = ParseLimits {
        control_line: limits.control_line.max(LONGEST_SKIP),
        ..*limits
    };
    let limits = match verb {
        Verb::Ping | Verb::Pong | Verb::Ok => &generous,
        _ => limits,
    };
    let Some((args, len)) = line(buf, name.len(), limits)? else {
        return Ok(incomplete);
    };
    let op = match verb {
        Verb::Ping => Op::Ping,
        Verb::Pong => Op::Pong,
        Verb::Ok => Op::Ok,
        Verb::Connect => Op::Connect(args.trim_ascii()),
        Verb::Info if args.trim_ascii().is_empty() => {
            return Err(ProtoError::Malformed("INFO without its JSON"));
        }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::write::{self, Headers};

    const LIMITS: ParseLimits = ParseLimits {
        control_line: 4096,
        payload: 1 << 20,
        headers: true,
    };
    const LEAF_LIMITS: ParseLimits = ParseLimits {
        control_line: usize::MAX,
        payload: usize::MAX,
        headers: true,
    };

    #[derive(Clone, Copy, Debug)]
    enum Peer {
        Client,
        Leaf,
    }

    impl Peer {
        fn parse<'a>(self, buf: &'a [u8], limits: &ParseLimits) -> Result<Parsed<'a>> {
            match self {
                Peer::Client => client(buf, limits),
                Peer::Leaf => leaf(buf, limits),
            }
        }
    }

    /// What a connection does with the parser: keeps an incomplete tail, honours `need`, stops at
    /// the first error. Operations are kept as text, since they borrow the buffer.
    fn feed<'c>(
        peer: Peer,
        limits: &ParseLimits,
        chunks: impl IntoIterator<Item = &'c [u8]>,
    ) -> (Vec<String>, Option<ProtoError>) {
        let mut buf = Vec::new();
        let mut need = 1;
        let mut ops = Vec::new();
        for chunk in chunks {
            buf.extend_from_slice(chunk);
            let mut at = 0;
            while buf.len() - at >= need {
                match peer.parse(&buf[at..], limits) {
                    Ok(Parsed::Op { op, len }) => {
                        assert!(len > 0 && len <= buf.len() - at);
                        ops.push(format!("{op:?}"));
                        at += len;
                        need = 1;
                    }
                    Ok(Parsed::Incomplete { need: more }) => {
                        assert!(more > buf.len() - at);
                        need = more;
                    }
                    Err(error) => return (ops, Some(error)),
                }
            }
            buf.drain(..at);
        }
        (ops, None)
    }

    /// The only operation in `bytes`, which must be all of them.
    fn whole(peer: Peer, bytes: &[u8]) -> Op<'_> {
        match peer.parse(bytes, &LIMITS) {
            Ok(Parsed::Op { op, len }) if len == bytes.len() => op,
            other => panic!("{peer:?} {:?}: {other:?}", String::from_utf8_lossy(bytes)),
        }
    }

    fn message<'a>(subject: &'a [u8], reply: Option<&'a [u8]>, body: &'a [u8]) -> Message<'a> {
        Message {
            subject,
            reply,
            queue_list: b"",
            header_len: 0,
            body,
        }
    }

    const HEADED: &[u8] = b"NATS/1.0\r\nfoo: bar\r\n\r\nhello";

    #[test]
    fn client_accepts() {
        let sub = |subject, queue, sid| Op::Subscribe {
            subject,
            queue,
            sid,
        };
        let unsub = |sid, max| Op::Unsubscribe { sid, max };
        let headed = |reply, header_len, body| {
            Op::Publish(Message {
                header_len,
                ..message(b"h", reply, body)
            })
        };
        let rows: &[(&[u8], Op<'_>)] = &[
            (b"PUB a 1\nx\r\n", Op::Publish(message(b"a", None, b"x"))),
            (
                b"PUB a 00001\r\nx\r\n",
                Op::Publish(message(b"a", None, b"x")),
            ),
            (
                b"pUb\ta \t r  0 \r\n\r\n",
                Op::Publish(message(b"a", Some(b"r"), b"")),
            ),
            (
                b"PUB  a 2\r\n\r\n\r\n",
                Op::Publish(message(b"a", None, b"\r\n")),
            ),
            (
                b"HPUB h rr 22 27\r\nNATS/1.0\r\nfoo: bar\r\n\r\nhello\r\n",
                headed(Some(b"rr"), 22, HEADED),
            ),
            (
                b"hpub\th 22 27\r\nNATS/1.0\r\nfoo: bar\r\n\r\nhello\r\n",
                headed(None, 22, HEADED),
            ),
            (b"HPUB h 0 2\r\nhi\r\n", headed(None, 0, b"hi")),
            (b"HPUB h 5 5\r\nhello\r\n", headed(None, 5, b"hello")),
            (b"SUB a 1\n", sub(b"a", None, b"1")),
            (b"SUB\ta\t1\r\n", sub(b"a", None, b"1")),
            (b"sub a q..q x-y\r\n", sub(b"a", Some(b"q..q"), b"x-y")),
            (b"SUB \x01\xff 1\r\n", sub(b"\x01\xff", None, b"1")),
            (b"UNSUB 99\r\n", unsub(b"99", None)),
            (b"UNSUB 1 x\r\n", unsub(b"1", None)),
            (b"UNSUB 1 -1\r\n", unsub(b"1", None)),
            (b"UNSUB 1 0\r\n", unsub(b"1", None)),
            (b"unsub 1 5\r\n", unsub(b"1", Some(5))),
            (b"UNSUB 1 1234567890\r\n", unsub(b"1", None)),
            (b"PING\r\n", Op::Ping),
            (b"PiNg\n", Op::Ping),
            (b"PING extra\r\n", Op::Ping),
            (b"PINGX\r\n", Op::Ping),
            (b"pong\r\n", Op::Pong),
            (b"+OK\r\n", Op::Ok),
            (b"-ERR 'Some Text'\r\n", Op::Err(b"Some Text")),
            (b"-ERR it's\r\n", Op::Err(b"it's")),
            (b"-ERR '\r\n", Op::Err(b"'")),
            (b"CONNECT {}\r\n", Op::Connect(b"{}")),
            (b"connect\t {\"a\": 1} \n", Op::Connect(b"{\"a\": 1}")),
            (b"CONNECT{}\r\n", Op::Connect(b"{}")),
            (b"INFO {} \r\n", Op::Info(b"{}")),
        ];
        for (bytes, op) in rows {
            assert_eq!(whole(Peer::Client, bytes), *op);
            let bytewise = feed(Peer::Client, &LIMITS, bytes.chunks(1));
            assert_eq!(bytewise, (vec![format!("{op:?}")], None));
        }
    }

    #[test]
    fn client_refuses() {
        let unknown: &[&[u8]] = &[
            b"FOO\r\n",
            b"F",
            b"\r\n",
            b"\n",
            b" PING\r\n",
            b"MSG a 1 0\r\n\r\n",
            b"LS+ a\r\n",
            b"LMSG a 0\r\n\r\n",
            b"RS+ a b\r\n",
            b"A+ a\r\n",
            b"SUB\r\n",
            b"SUB\n",
            b"SUBX",
            b"UNSUB\r\n",
            b"PUB\r\n",
            b"PUBx",
            b"HPUB\r\n",
            b"P\x0fB a 0\r\n",
            b"PUB\0a 0\r\n",
            b"-ERR\r\n",
            b"PUB a 1\r\nxy\r\n",
            b"PUB a 1\r\nxy",
            b"PUB a 1\nx\n",
            b"PUB a 1\r\nx\rz",
        ];
        for bytes in unknown {
            let result = client(bytes, &LIMITS);
            assert_eq!(result, Err(ProtoError::UnknownOperation), "{bytes:?}");
        }
        let malformed: &[&[u8]] = &[
            b"SUB a\r\n",
            b"SUB  \r\n",
            b"SUB \n",
            b"SUB a b c d\r\n",
            b"UNSUB 1 2 3\r\n",
            b"UNSUB \r\n",
            b"PUB a\r\n",
            b"PUB \r\n",
            b"PUB a x\r\n",
            b"PUB a -1\r\n",
            b"PUB a +1\r\n",
            b"PUB a 1 2 3\r\n",
            b"PUB a b c 1 2\r\n",
            b"PUB a 1234567890\r\n",
            b"HPUB a 12\r\n",
            b"HPUB a\r\n",
            b"HPUB a 5 4\r\n",
            b"HPUB a x 4\r\n",
            b"HPUB a r 1 2 3\r\n",
        ];
        for bytes in malformed {
            let result = client(bytes, &LIMITS);
            assert!(
                matches!(result, Err(ProtoError::Malformed(_))),
                "{result:?}"
            );
        }
        let no_headers = ParseLimits {
            headers: false,
            ..LIMITS
        };
        let result = client(b"HPUB a 0 0\r\n\r\n", &no_headers);
        assert!(matches!(result, Err(ProtoError::Malformed(_))));
    }

    #[test]
    fn control_line_limit() {
        let long = |n: usize| "x".repeat(n);
        let too_long = Err(ProtoError::ControlLineTooLong);
        let fits = format!("SUB {} 1\r\n", long(4090));
        assert!(matches!(
            client(fits.as_bytes(), &LIMITS),
            Ok(Parsed::Op { .. })
        ));
        let exact = format!("SUB   \t{} 1\r\n", long(4094));
        assert!(matches!(
            client(exact.as_bytes(), &LIMITS),
            Ok(Parsed::Op { .. })
        ));
        for line in [
            format!("SUB {} 1\r\n", long(4095)),
            format!("SUB {}", long(4097)),
            format!("PUB {}", long(5000)),
            format!("PUB {} 1\r\n", long(4096)),
            format!("CONNECT {}", long(5000)),
            format!("PING{}", long(5000)),
            format!("SUB {}", " ".repeat(5000)),
            format!("LMSG {}", long(5000)),
        ] {
            let peer = if line.starts_with('L') {
                Peer::Leaf
            } else {
                Peer::Client
            };
            assert_eq!(peer.parse(line.as_bytes(), &LIMITS), too_long);
            let bytewise = feed(peer, &LIMITS, line.as_bytes().chunks(1));
            assert_eq!(bytewise, (vec![], Some(ProtoError::ControlLineTooLong)));
        }
        let partial = format!("SUB {}\r", long(4096));
        assert_eq!(
            client(partial.as_bytes(), &LIMITS),
            Ok(Parsed::Incomplete {
                need: partial.len() + 1
            })
        );
        let leaf_line = format!("LS+ {}\r\n", long(100_000));
        assert!(matches!(
            leaf(leaf_line.as_bytes(), &LEAF_LIMITS),
            Ok(Parsed::Op { .. })
        ));
    }

    #[test]
    fn payload_limit_is_judged_on_the_control_line() {
        let limits = ParseLimits {
            payload: 5,
            ..LIMITS
        };
        assert_eq!(
            client(b"PUB a 5\r\n", &limits),
            Ok(Parsed::Incomplete { need: 16 })
        );
        for line in [
            &b"PUB a 6\r\n"[..],
            b"HPUB a 1 6\r\n",
            b"PUB a 999999999\r\n",
        ] {
            assert_eq!(client(line, &limits), Err(ProtoError::PayloadTooLarge));
        }
        for line in [&b"LMSG a 6\r\n"[..], b"HMSG a 1 6\r\n"] {
            assert_eq!(leaf(line, &limits), Err(ProtoError::PayloadTooLarge));
            assert!(matches!(
                leaf(line, &LEAF_LIMITS),
                Ok(Parsed::Incomplete { .. })
            ));
        }
    }

    #[test]
    fn leaf_messages_as_captured() {
        let headed = Message {
            header_len: 22,
            ..message(b"hub.sub", None, HEADED)
        };
        let rows: &[(&[u8], Message<'_>)] = &[
            (
                b"LMSG hub.sub 5\r\nhello\r\n",
                message(b"hub.sub", None, b"hello"),
            ),
            (
                b"LMSG hub.sub rep.ly 5\r\nhello\r\n",
                message(b"hub.sub", Some(b"rep.ly"), b"hello"),
            ),
            (
                b"HMSG hub.sub 22 27\r\nNATS/1.0\r\nfoo: bar\r\n\r\nhello\r\n",
                headed,
            ),
            (
                b"HMSG hub.sub rep 22 27\r\nNATS/1.0\r\nfoo: bar\r\n\r\nhello\r\n",
                Message {
                    reply: Some(b"rep"),
                    ..headed
                },
            ),
            (
                b"HMSG hub.sub | G H 22 27\r\nNATS/1.0\r\nfoo: bar\r\n\r\nhello\r\n",
                Message {
                    queue_list: b"G H",
                    ..headed
                },
            ),
            (
                b"LMSG hub.q | G 2\r\nhi\r\n",
                Message {
                    queue_list: b"G",
                    ..message(b"hub.q", None, b"hi")
                },
            ),
            (
                b"LMSG hub.q + r.q G 2\r\nhi\r\n",
                Message {
                    queue_list: b"G",
                    ..message(b"hub.q", Some(b"r.q"), b"hi")
                },
            ),
            (
                b"HMSG hub.q + r.h G 22 27\r\nNATS/1.0\r\nfoo: bar\r\n\r\nhello\r\n",
                Message {
                    subject: b"hub.q",
                    reply: Some(b"r.h"),
                    queue_list: b"G",
                    ..headed
                },
            ),
            (
                b"LMSG pq | G1 G2 1\r\nx\r\n",
                Message {
                    queue_list: b"G1 G2",
                    ..message(b"pq", None, b"x")
                },
            ),
            (b"LMSG a | 2\r\nhi\r\n", message(b"a", Some(b"|"), b"hi")),
        ];
        for (bytes, expected) in rows {
            assert_eq!(whole(Peer::Leaf, bytes), Op::Publish(*expected));
            let mut out = Vec::new();
            write::lmsg(&mut out, expected, expected.queues(), Headers::Keep);
            assert_eq!(out, *bytes);
        }
        // Understood, though nobody writes it so.
        assert_eq!(
            whole(Peer::Leaf, b"lmsg\ta  |\tG1 \tG2  1 \nx\r\n"),
            Op::Publish(Message {
                queue_list: b"G1 \tG2",
                ..message(b"a", None, b"x")
            })
        );
        assert_eq!(
            whole(Peer::Leaf, b"LMSG a + r 1\r\nx\r\n"),
            Op::Publish(message(b"a", Some(b"r"), b"x"))
        );
        assert_eq!(
            whole(Peer::Leaf, b"HMSG a 0 1\r\nx\r\n"),
            Op::Publish(message(b"a", None, b"x"))
        );
    }

    /// A line, its subject, its queue.
    type InterestRow<'a, Queue> = (&'a [u8], &'a [u8], Option<Queue>);

    #[test]
    fn leaf_interest_as_captured() {
        let rows: &[InterestRow<'_, (&[u8], u32)>] = &[
            (b"LS+ leaf.sub\r\n", b"leaf.sub", None),
            (b"LS+ leaf.q G 1\r\n", b"leaf.q", Some((b"G", 1))),
            (
                b"LS+ leaf.q G 999999999\r\n",
                b"leaf.q",
                Some((b"G", 999_999_999)),
            ),
            (b"LS+ leaf.q G 0\r\n", b"leaf.q", Some((b"G", 0))),
        ];
        for (bytes, subject, queue) in rows {
            let (subject, queue) = (*subject, *queue);
            assert_eq!(whole(Peer::Leaf, bytes), Op::Interest { subject, queue });
            let mut out = Vec::new();
            write::interest(&mut out, subject, queue);
            assert_eq!(out, *bytes);
        }
        assert_eq!(
            whole(Peer::Leaf, b"ls+ a..b\tG x\n"),
            Op::Interest {
                subject: b"a..b",
                queue: Some((b"G", 0))
            }
        );
        let rows: &[InterestRow<'_, &[u8]>] = &[
            (b"LS- leaf.sub\r\n", b"leaf.sub", None),
            (b"LS- foo G\r\n", b"foo", Some(b"G")),
        ];
        for (bytes, subject, queue) in rows {
            let (subject, queue) = (*subject, *queue);
            assert_eq!(
                whole(Peer::Leaf, bytes),
                Op::InterestGone { subject, queue }
            );
            let mut out = Vec::new();
            write::interest_gone(&mut out, subject, queue);
            assert_eq!(out, *bytes);
        }
        assert_eq!(whole(Peer::Leaf, write::PING), Op::Ping);
        assert_eq!(whole(Peer::Leaf, write::PONG), Op::Pong);
        assert_eq!(whole(Peer::Leaf, write::OK), Op::Ok);
        assert_eq!(
            whole(Peer::Leaf, b"INFO {\"a\":1} \r\n"),
            Op::Info(b"{\"a\":1}")
        );
        assert_eq!(whole(Peer::Leaf, b"CONNECT {}\r\n"), Op::Connect(b"{}"));
    }

    #[test]
    fn leaf_refuses() {
        for bytes in [
            &b"MSG a 1 0\r\n"[..],
            b"FOO",
            b"LHMSG a 0\r\n",
            b"LS a\r\n",
            b"LS+\r\n",
            b"\r\n",
            b"LMSG a 1\r\nxy\r\n",
            b"LMSG a 1\nx\n",
        ] {
            let result = leaf(bytes, &LIMITS);
            assert_eq!(result, Err(ProtoError::UnknownOperation), "{bytes:?}");
        }
        for bytes in [
            &b"LMSG a\r\n"[..],
            b"LMSG \r\n",
            b"LMSG a b c 2\r\n",
            b"LMSG a || q 2\r\n",
            b"LMSG a x\r\n",
            b"LMSG a -1\r\n",
            b"LMSG a 1234567890\r\n",
            b"LMSG a | q\rr 1\r\n",
            b"HMSG a 2\r\n",
            b"HMSG a 3 2\r\n",
            b"HMSG a b c 1 2\r\n",
            b"LS+ a b\r\n",
            b"LS+ a b 1 2\r\n",
            b"LS+ \r\n",
            b"LS- \r\n",
            b"LS- a b c\r\n",
            b"SUB foo 1\r\n",
            b"PUB foo 1\r\n",
        ] {
            let result = leaf(bytes, &LIMITS);
            assert!(
                matches!(result, Err(ProtoError::Malformed(_))),
                "{bytes:?} {result:?}"
            );
        }
    }

    /// A word that may stand as subject, reply, sid or queue: any bytes but the separators.
    fn word() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            "[a-z*>.]{1,12}".prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 1..12).prop_map(|mut bytes| {
                for b in &mut bytes {
                    if is_separator(*b) || *b == b'\n' {
                        *b = b'_';
                    }
                }
                bytes
            }),
        ]
    }

    fn separator() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            4 => Just(b" ".to_vec()),
            1 => "[ \t]{1,3}".prop_map(String::into_bytes),
        ]
    }

    fn verb(name: &'static str) -> impl Strategy<Value = Vec<u8>> {
        any::<u16>().prop_map(move |lower| {
            name.bytes()
                .enumerate()
                .map(|(i, b)| {
                    if lower >> i & 1 == 1 {
                        b.to_ascii_lowercase()
                    } else {
                        b
                    }
                })
                .collect()
        })
    }

    /// A verb, its arguments with odd separators, one of the two line ends.
    fn line_of(
        name: &'static str,
        args: impl Strategy<Value = Vec<Vec<u8>>>,
    ) -> impl Strategy<Value = Vec<u8>> {
        (verb(name), args, separator(), any::<bool>()).prop_map(|(verb, args, gap, cr)| {
            let mut out = verb;
            for arg in args {
                out.extend_from_slice(&gap);
                out.extend_from_slice(&arg);
            }
            out.extend_from_slice(if cr { b"\r\n" } else { b"\n" });
            out
        })
    }

    fn payload() -> impl Strategy<Value = (Vec<u8>, usize)> {
        (
            prop::collection::vec(any::<u8>(), 0..40),
            any::<prop::sample::Index>(),
        )
            .prop_map(|(body, at)| (at.index(body.len() + 1), body))
            .prop_map(|(header_len, body)| (body, header_len))
    }

    /// A whole operation of a client.
    fn client_op() -> impl Strategy<Value = Vec<u8>> {
        let words = |range: std::ops::Range<usize>| prop::collection::vec(word(), range);
        let publish = (words(1..3), payload(), any::<bool>()).prop_flat_map(
            |(mut args, (body, header_len), headed)| {
                if headed {
                    args.push(header_len.to_string().into_bytes());
                }
                args.push(body.len().to_string().into_bytes());
                line_of(if headed { "HPUB" } else { "PUB" }, Just(args)).prop_map(
                    move |mut line| {
                        line.extend_from_slice(&body);
                        line.extend_from_slice(b"\r\n");
                        line
                    },
                )
            },
        );
        prop_oneof![
            4 => publish,
            1 => line_of("SUB", words(2..4)),
            1 => line_of("UNSUB", words(1..3)),
            1 => line_of("PING", words(0..2)),
            1 => line_of("PONG", words(0..1)),
            1 => line_of("CONNECT", words(1..2)),
            1 => line_of("INFO", words(1..2)),
            1 => line_of("-ERR", words(1..3)),
            1 => line_of("+OK", words(0..1)),
        ]
    }

    /// A whole operation of a leaf, as we write it, with its meaning.
    fn leaf_op() -> impl Strategy<Value = (Vec<u8>, String)> {
        let message = (
            word(),
            prop::option::of(word()),
            prop::collection::vec(word(), 0..3),
            payload(),
        )
            .prop_map(|(subject, reply, queues, (body, header_len))| {
                let list = queues.join(&b' ');
                let message = Message {
                    subject: &subject,
                    reply: reply.as_deref(),
                    queue_list: &list,
                    header_len,
                    body: &body,
                };
                let mut out = Vec::new();
                write::lmsg(&mut out, &message, message.queues(), Headers::Keep);
                let mut apart = Vec::new();
                let rest = write::lmsg_head(&mut apart, &message, message.queues(), Headers::Keep);
                apart.extend_from_slice(rest);
                apart.extend_from_slice(write::CRLF);
                assert_eq!(out, apart);
                (out, format!("{:?}", Op::Publish(message)))
            });
        let interest = (word(), prop::option::of((word(), 0u32..1_000_000_000))).prop_map(
            |(subject, queue)| {
                let queue = queue
                    .as_ref()
                    .map(|(name, weight)| (name.as_slice(), *weight));
                let mut out = Vec::new();
                write::interest(&mut out, &subject, queue);
                let subject = subject.as_slice();
                (out, format!("{:?}", Op::Interest { subject, queue }))
            },
        );
        let gone = (word(), prop::option::of(word())).prop_map(|(subject, queue)| {
            let mut out = Vec::new();
            write::interest_gone(&mut out, &subject, queue.as_deref());
            let op = Op::InterestGone {
                subject: &subject,
                queue: queue.as_deref(),
            };
            (out, format!("{op:?}"))
        });
        prop_oneof![3 => message, 1 => interest, 1 => gone]
    }

    /// The same bytes in pieces that end at the given places.
    fn pieces<'a>(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        let mut out = Vec::new();
        let mut from = 0;
        for cut in cuts.into_iter().chain([bytes.len()]) {
            out.push(&bytes[from..cut]);
            from = cut;
        }
        out
    }

    fn cuts() -> impl Strategy<Value = Vec<prop::sample::Index>> {
        prop::collection::vec(any::<prop::sample::Index>(), 0..8)
    }

    /// Every prefix of an operation wants more, and never more than the operation has.
    fn check_need(peer: Peer, op: &[u8]) {
        for have in 0..op.len() {
            match peer.parse(&op[..have], &LIMITS) {
                Ok(Parsed::Incomplete { need }) => assert!(have < need && need <= op.len()),
                other => panic!("{have} of {op:?}: {other:?}"),
            }
        }
        whole(peer, op);
    }

    fn hostile() -> impl Strategy<Value = Vec<u8>> {
        let bit = prop_oneof![
            client_op(),
            leaf_op().prop_map(|(bytes, _)| bytes),
            prop::collection::vec(any::<u8>(), 0..20),
            "(PUB|HPUB|SUB|UNSUB|LMSG|HMSG|LS\\+|LS-|-ERR|INFO|PING)[ \t\r+|a0-9]{0,20}\r?\n?"
                .prop_map(String::into_bytes),
        ];
        prop::collection::vec(bit, 0..6).prop_map(|bits| bits.concat())
    }

    proptest! {
        #[test]
        fn hostile_bytes_give_the_same_whole_or_split(
            bytes in hostile(),
            cuts in cuts(),
            control_line in prop_oneof![Just(usize::MAX), 0..40usize],
            payload in prop_oneof![Just(usize::MAX), 0..40usize],
            headers in any::<bool>(),
        ) {
            let limits = ParseLimits { control_line, payload, headers };
            for peer in [Peer::Client, Peer::Leaf] {
                let expected = feed(peer, &limits, [bytes.as_slice()]);
                prop_assert_eq!(&feed(peer, &limits, pieces(&bytes, &cuts)), &expected);
                prop_assert_eq!(&feed(peer, &limits, bytes.chunks(1)), &expected);
            }
        }

        #[test]
        fn client_streams_split_anywhere(
            ops in prop::collection::vec(client_op(), 0..8),
            cuts in cuts(),
        ) {
            for op in &ops {
                check_need(Peer::Client, op);
            }
            let bytes = ops.concat();
            let expected = feed(Peer::Client, &LIMITS, [bytes.as_slice()]);
            prop_assert_eq!(expected.0.len(), ops.len());
            prop_assert_eq!(&expected.1, &None);
            prop_assert_eq!(feed(Peer::Client, &LIMITS, pieces(&bytes, &cuts)), expected);
        }

        #[test]
        fn what_we_write_to_a_leaf_parses_back(
            ops in prop::collection::vec(leaf_op(), 0..8),
            cuts in cuts(),
        ) {
            for (op, _) in &ops {
                check_need(Peer::Leaf, op);
            }
            let (lines, expected): (Vec<_>, Vec<_>) = ops.into_iter().unzip();
            let bytes = lines.concat();
            prop_assert_eq!(
                feed(Peer::Leaf, &LIMITS, pieces(&bytes, &cuts)),
                (expected, None)
            );
        }
    }
}
