//! Operations to bytes, appended to a buffer.
//!
//! Owns the spelling of every line we send. Sizes are reserved once; numbers are written without
//! the formatting machinery.

use crate::message::Message;

/// A whole `PING`.
pub const PING: &[u8] = b"PING\r\n";
/// A whole `PONG`.
pub const PONG: &[u8] = b"PONG\r\n";
/// A whole `+OK`.
pub const OK: &[u8] = b"+OK\r\n";
/// What follows every payload.
pub const CRLF: &[u8] = b"\r\n";

/// Whether the receiver understands header blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Headers {
    /// It gets them.
    Keep,
    /// It did not negotiate them: it gets the bare payload and its size.
    Strip,
}

impl Headers {
    /// The length of the header block and the body as the receiver gets them.
    #[inline]
    fn of<'a>(self, message: &Message<'a>) -> (usize, &'a [u8]) {
        match self {
            Self::Keep => (message.header_len, message.body),
            Self::Strip => (0, message.payload()),
        }
    }
}

/// `MSG` or `HMSG` to a client, whole.
///
/// Client protocol, delivery: the subject as published, the subscription's sid, the reply if there
/// is one. A message without a header block goes as `MSG`.
#[inline]
pub fn msg(out: &mut Vec<u8>, message: &Message<'_>, sid: &[u8], headers: Headers) {
    let (header_len, body) = headers.of(message);
    let reply = message.reply.map_or(0, <[u8]>::len);
    out.reserve(message.subject.len() + sid.len() + reply + body.len() + OVERHEAD);
    msg_line(out, message, sid, header_len, body.len());
    out.extend_from_slice(body);
    out.extend_from_slice(CRLF);
}

/// The control line of [`msg`] alone. What must follow is the slice it returns, then [`CRLF`]; the
/// caller may have a way to send it without copying.
#[inline]
pub fn msg_head<'a>(
    out: &mut Vec<u8>,
    message: &Message<'a>,
    sid: &[u8],
    headers: Headers,
) -> &'a [u8] {
    let (header_len, body) = headers.of(message);
    let reply = message.reply.map_or(0, <[u8]>::len);
    out.reserve(message.subject.len() + sid.len() + reply + OVERHEAD);
    msg_line(out, message, sid, header_len, body.len());
    body
}

/// The `HMSG` that tells a requester that nobody listens on `subject`, sent to its own
/// subscription `sid` on `reply`.
///
/// Client protocol, no responders: status 503 and the subject asked for, no payload.
pub fn no_responders(out: &mut Vec<u8>, reply: &[u8], sid: &[u8], subject: &[u8]) {
    const STATUS: &[u8] = b"NATS/1.0 503\r\nNats-Subject: ";
    const END: &[u8] = b"\r\n\r\n";
    let header_len = STATUS.len() + subject.len() + END.len();
    let message = Message {
        subject: reply,
        reply: None,
        queue_list: &[],
        header_len,
        body: &[],
    };
    out.reserve(reply.len() + sid.len() + header_len + OVERHEAD);
    msg_line(out, &message, sid, header_len, header_len);
    out.extend_from_slice(STATUS);
    out.extend_from_slice(subject);
    out.extend_from_slice(END);
    out.extend_from_slice(CRLF);
}

/// `LMSG` or `HMSG` to a leaf peer, whole. `queues` are the groups chosen for this link; the
/// message's own list, what it came with, is not looked at.
///
/// Leaf protocol, steady-state verbs: with queues the line has an indicator, `+` before a reply
/// and `|` without one.
#[inline]
pub fn lmsg<'q>(
    out: &mut Vec<u8>,
    message: &Message<'_>,
    queues: impl IntoIterator<Item = &'q [u8], IntoIter: Clone>,
    headers: Headers,
) {
    let (header_len, body) = headers.of(message);
    let queues = queues.into_iter();
    out.reserve(leaf_line_len(message, queues.clone()) + body.len());
    leaf_line(out, message, queues, header_len, body.len());
    out.extend_from_slice(body);
    out.extend_from_slice(CRLF);
}

/// The control line of [`lmsg`] alone. What must follow is the slice it returns, then [`CRLF`].
#[inline]
pub fn lmsg_head<'a, 'q>(
    out: &mut Vec<u8>,
    message: &Message<'a>,
    queues: impl IntoIterator<Item = &'q [u8], IntoIter: Clone>,
    headers: Headers,
) -> &'a [u8] {
    let (header_len, body) = headers.of(message);
    let queues = queues.into_iter();
    out.reserve(leaf_line_len(message, queues.clone()));
    leaf_line(out, message, queues, header_len, body.len());
    body
}

/// `LS+`: we want what is published to `subject`; with a queue group, that many members do.
pub fn interest(out: &mut Vec<u8>, subject: &[u8], queue: Option<(&[u8], u32)>) {
    let queue_len = queue.map_or(0, |(name, _)| name.len());
    out.reserve(subject.len() + queue_len + OVERHEAD);
    out.extend_from_slice(b"LS+ ");
    out.extend_from_slice(subject);
    if let Some((name, weight)) = queue {
        out.push(b' ');
        out.extend_from_slice(name);
        out.push(b' ');
        decimal(out, weight.into());
    }
    out.extend_from_slice(CRLF);
}

/// `LS-`: we no longer want it. No weight.
pub fn interest_gone(out: &mut Vec<u8>, subject: &[u8], queue: Option<&[u8]>) {
    out.reserve(subject.len() + queue.map_or(0, <[u8]>::len) + OVERHEAD);
    out.extend_from_slice(b"LS- ");
    out.extend_from_slice(subject);
    if let Some(name) = queue {
        out.push(b' ');
        out.extend_from_slice(name);
    }
    out.extend_from_slice(CRLF);
}

/// The `INFO` with which a leaf asks its hub for compression (leaf protocol, compression): the last
/// that it says in clear.
pub fn compression_info(out: &mut Vec<u8>, mode: &str) {
    info(out, format!("{{\"compression\":\"{mode}\"}}").as_bytes());
}

/// An `INFO` line. It has a space before CR LF, as clients have always seen it.
pub fn info(out: &mut Vec<u8>, json: &[u8]) {
    out.reserve(json.len() + OVERHEAD);
    out.extend_from_slice(b"INFO ");
    out.extend_from_slice(json);
    out.extend_from_slice(b" \r\n");
}

/// A `CONNECT` line. It has no space before CR LF.
pub fn connect(out: &mut Vec<u8>, json: &[u8]) {
    out.reserve(json.len() + OVERHEAD);
    out.extend_from_slice(b"CONNECT ");
    out.extend_from_slice(json);
    out.extend_from_slice(CRLF);
}

/// Appends `value` in decimal.
#[inline]
pub fn decimal(out: &mut Vec<u8>, mut value: u64) {
    if value < 10 {
        out.push(b'0' + value as u8);
        return;
    }
    let mut digits = [0; 20];
    let mut used = 0;
    for place in digits.iter_mut().rev() {
        *place = b'0' + (value % 10) as u8;
        value /= 10;
        used += 1;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(20 - used..).unwrap_or_default());
}

/// Verb, separators, indicator, two sizes of up to 20 digits, two line ends: never more than this.
const OVERHEAD: usize = 64;

#[inline]
fn msg_line(out: &mut Vec<u8>, message: &Message<'_>, sid: &[u8], header_len: usize, len: usize) {
    out.extend_from_slice(if header_len == 0 { b"MSG " } else { b"HMSG " });
    out.extend_from_slice(message.subject);
    out.push(b' ');
    out.extend_from_slice(sid);
    if let Some(reply) = message.reply {
        out.push(b' ');
        out.extend_from_slice(reply);
    }
    sizes(out, header_len, len);
}

#[inline]
fn leaf_line<'q>(
    out: &mut Vec<u8>,
    message: &Message<'_>,
    queues: impl Iterator<Item = &'q [u8]>,
    header_len: usize,
    len: usize,
) {
    out.extend_from_slice(if header_len == 0 { b"LMSG " } else { b"HMSG " });
    out.extend_from_slice(message.subject);
    let mut queues = queues.peekable();
    match (message.reply, queues.peek()) {
        (None, None) => {}
        (None, Some(_)) => out.extend_from_slice(b" |"),
        (Some(reply), first) => {
            out.extend_from_slice(if first.is_some() { b" + " } else { b" " });
            out.extend_from_slice(reply);
        }
    }
    for queue in queues {
        out.push(b' ');
        out.extend_from_slice(queue);
    }
    sizes(out, header_len, len);
}

fn leaf_line_len<'q>(message: &Message<'_>, queues: impl Iterator<Item = &'q [u8]>) -> usize {
    let reply = message.reply.map_or(0, <[u8]>::len);
    let names: usize = queues.map(|name| name.len() + 1).sum();
    message.subject.len() + reply + names + OVERHEAD
}

#[inline]
fn sizes(out: &mut Vec<u8>, header_len: usize, len: usize) {
    if header_len != 0 {
        out.push(b' ');
        decimal(out, header_len as u64);
    }
    out.push(b' ');
    decimal(out, len as u64);
    out.extend_from_slice(CRLF);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEADED: Message<'_> = Message {
        subject: b"h",
        reply: Some(b"rr"),
        queue_list: b"ignored",
        header_len: 22,
        body: b"NATS/1.0\r\nfoo: bar\r\n\r\nhello",
    };

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn messages_to_clients() {
        let plain = Message {
            reply: None,
            header_len: 0,
            body: b"hello",
            ..HEADED
        };
        let rows = [
            (plain, Headers::Keep, "MSG h 20 5\r\nhello\r\n"),
            (plain, Headers::Strip, "MSG h 20 5\r\nhello\r\n"),
            (
                HEADED,
                Headers::Keep,
                "HMSG h 20 rr 22 27\r\nNATS/1.0\r\nfoo: bar\r\n\r\nhello\r\n",
            ),
            (HEADED, Headers::Strip, "MSG h 20 rr 5\r\nhello\r\n"),
        ];
        for (message, headers, expected) in rows {
            assert_eq!(written(|out| msg(out, &message, b"20", headers)), expected);
            let apart = written(|out| {
                let body = msg_head(out, &message, b"20", headers);
                out.extend_from_slice(body);
                out.extend_from_slice(CRLF);
            });
            assert_eq!(apart, expected);
        }
    }

    #[test]
    fn messages_to_leafs_without_headers() {
        let queues: [&[u8]; 2] = [b"G1", b"G2"];
        assert_eq!(
            written(|out| lmsg(out, &HEADED, [], Headers::Strip)),
            "LMSG h rr 5\r\nhello\r\n"
        );
        assert_eq!(
            written(|out| lmsg(out, &HEADED, queues, Headers::Strip)),
            "LMSG h + rr G1 G2 5\r\nhello\r\n"
        );
    }

    #[test]
    fn nobody_listens() {
        assert_eq!(
            written(|out| no_responders(out, b"r.1", b"7", b"none")),
            "HMSG r.1 7 36 36\r\nNATS/1.0 503\r\nNats-Subject: none\r\n\r\n\r\n"
        );
    }

    #[test]
    fn json_lines_end_as_they_always_did() {
        assert_eq!(written(|out| info(out, b"{}")), "INFO {} \r\n");
        assert_eq!(written(|out| connect(out, b"{}")), "CONNECT {}\r\n");
    }

    #[test]
    fn one_reservation_is_enough() {
        let subject = [b's'; 300];
        let message = Message {
            subject: &subject,
            body: &[0; 5000],
            ..HEADED
        };
        let queues: [&[u8]; 3] = [b"one", b"two", &subject];
        let mut out = Vec::new();
        out.reserve_exact(leaf_line_len(&message, queues.into_iter()) + 5000);
        let capacity = out.capacity();
        lmsg(&mut out, &message, queues, Headers::Keep);
        assert_eq!(out.capacity(), capacity);
    }

    #[test]
    fn decimals() {
        for value in [
            0,
            9,
            10,
            99,
            100,
            u64::from(u32::MAX),
            u64::MAX - 1,
            u64::MAX,
        ] {
            assert_eq!(written(|out| decimal(out, value)), value.to_string());
        }
    }

    proptest! {
        #[test]
        fn any_decimal(value: u64, shift in 0..64u32) {
            let value = value >> shift;
            prop_assert_eq!(written(|out| decimal(out, value)), value.to_string());
        }
    }
}
