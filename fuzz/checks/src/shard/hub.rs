//! What peers make of our bytes: a client's framing, and a hub's view of our interest.

use std::collections::BTreeMap;

use petiole_core::wire::Op;
use petiole_core::wire::parse::{self, ParseLimits, Parsed};

const LIMITS: ParseLimits = ParseLimits {
    control_line: usize::MAX,
    payload: usize::MAX,
    headers: true,
};

/// Interest as the other side of a link knows it: subject, queue group and weight.
pub(crate) type View = BTreeMap<(Vec<u8>, Option<Vec<u8>>), u32>;

/// Takes all whole operations from a hub's `received`, and remembers the interest.
pub(crate) fn read_leaf(received: &mut Vec<u8>, view: &mut View) {
    let mut at = 0;
    while at < received.len() {
        match parse::leaf(&received[at..], &LIMITS) {
            Ok(Parsed::Op { op, len }) => {
                match op {
                    Op::Interest { subject, queue } => {
                        let key = (subject.to_vec(), queue.map(|(name, _)| name.to_vec()));
                        let weight = queue.map_or(1, |(_, weight)| weight);
                        let before = view.insert(key, weight);
                        assert_ne!(before, Some(weight), "said twice: {op:?}");
                    }
                    Op::InterestGone { subject, queue } => {
                        let key = (subject.to_vec(), queue.map(<[u8]>::to_vec));
                        assert!(view.remove(&key).is_some(), "never said: {op:?}");
                    }
                    _ => {}
                }
                at += len;
            }
            Ok(Parsed::Incomplete { .. }) => break,
            Err(error) => panic!(
                "we wrote {:?}: {error}",
                received[at..].escape_ascii().to_string()
            ),
        }
    }
    received.drain(..at);
}

/// Takes all whole operations from a client's `received`.
pub(crate) fn read_client(received: &mut Vec<u8>) {
    let mut at = 0;
    while let Some(len) = client_op(&received[at..]) {
        at += len;
    }
    received.drain(..at);
}

fn client_op(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let line = &bytes[..end];
    let shown = || line.escape_ascii().to_string();
    assert!(
        !line.contains(&b'\n') && !line.contains(&b'\r'),
        "{}",
        shown()
    );
    let mut words = line.split(|b| *b == b' ');
    let (sizes, least) = match words.next() {
        Some(b"MSG") => (1, 3),
        Some(b"HMSG") => (2, 4),
        Some(b"PING" | b"PONG" | b"+OK") => {
            assert_eq!(words.next(), None, "{}", shown());
            return Some(end + 2);
        }
        Some(b"INFO") => {
            assert!(line.starts_with(b"INFO {") && line.ends_with(b"} "));
            return Some(end + 2);
        }
        Some(b"-ERR") => {
            assert!(line.starts_with(b"-ERR '") && line.ends_with(b"'"));
            return Some(end + 2);
        }
        _ => panic!("a client got {:?}", shown()),
    };
    let words: Vec<&[u8]> = words.collect();
    assert!(
        words.iter().all(|word| !word.is_empty()) && (least..=least + 1).contains(&words.len()),
        "{}",
        shown()
    );
    let size = |word: &[u8]| -> usize {
        let text = std::str::from_utf8(word).ok();
        text.and_then(|text| text.parse().ok())
            .unwrap_or_else(|| panic!("{}", shown()))
    };
    let total = size(words[words.len() - 1]);
    if sizes == 2 {
        assert!(size(words[words.len() - 2]) <= total, "{}", shown());
    }
    let after = end + 2 + total;
    let tail = bytes.get(after..after + 2)?;
    assert_eq!(tail, b"\r\n", "{}", shown());
    Some(after + 2)
}
