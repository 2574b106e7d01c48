//! The header block of a message: a line `NATS/1.0`, fields, an empty line (client protocol, headers).

use crate::message::Message;

/// The field in which a service is told who asks (accounts, services).
pub(crate) const REQUEST_INFO: &[u8] = b"Nats-Request-Info";

const VERSION: &[u8] = b"NATS/1.0";

/// Appends the body of `message` with a field of this value, in place of any of its name that it had.
/// Answers the length of the header block.
pub(crate) fn set(message: &Message<'_>, name: &[u8], value: &[u8], out: &mut Vec<u8>) -> usize {
    let start = out.len();
    let block = message.body.get(..message.header_len).unwrap_or_default();
    let mut lines = block
        .split_inclusive(|byte| *byte == b'\n')
        .filter(|line| *line != b"\r\n");
    // The first line may carry a status.
    match lines.next() {
        Some(first) => out.extend_from_slice(first),
        None => {
            out.extend_from_slice(VERSION);
            out.extend_from_slice(b"\r\n");
        }
    }
    for line in lines.filter(|line| !is_named(line, name)) {
        out.extend_from_slice(line);
    }
    for part in [name, b": ", value, b"\r\n\r\n"] {
        out.extend_from_slice(part);
    }
    let length = out.len() - start;
    out.extend_from_slice(message.payload());
    length
}

fn is_named(line: &[u8], name: &[u8]) -> bool {
    line.strip_prefix(name)
        .is_some_and(|rest| rest.first() == Some(&b':'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn with(body: &[u8], header_len: usize) -> (String, usize) {
        let message = Message {
            subject: b"s",
            reply: None,
            queue_list: b"",
            header_len,
            body,
        };
        let mut out = Vec::new();
        let length = set(&message, b"A", b"1", &mut out);
        (String::from_utf8_lossy(&out).into_owned(), length)
    }

    #[test]
    fn a_field_is_added_or_replaced() {
        let made = |text: &str, length| (text.to_string(), length);
        assert_eq!(with(b"hi", 0), made("NATS/1.0\r\nA: 1\r\n\r\nhi", 18));
        assert_eq!(
            with(b"NATS/1.0\r\nB: 2\r\n\r\nhi", 18),
            made("NATS/1.0\r\nB: 2\r\nA: 1\r\n\r\nhi", 24)
        );
        assert_eq!(
            with(b"NATS/1.0 503 x\r\nA: 7\r\nAB: 2\r\n\r\n", 31),
            made("NATS/1.0 503 x\r\nAB: 2\r\nA: 1\r\n\r\n", 31)
        );
    }

    proptest! {
        #[test]
        fn any_block_gets_one(body in prop::collection::vec(any::<u8>(), 0..60), cut in 0..60usize) {
            let header_len = cut.min(body.len());
            let (_, length) = with(&body, header_len);
            prop_assert!(length >= 6);
        }
    }
}
