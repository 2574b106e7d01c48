//! The operations of a link in words, for a log at trace level. Costs a comparison when it is off.

use log::trace;

use crate::link::queue::{Mark, OutQueue};

/// Payload bytes that are shown.
const SHOWN: usize = 1024;
/// Keys of CONNECT and INFO whose values are nobody's business.
const SECRET: [&str; 7] = [
    "pass",
    "auth_token",
    "jwt",
    "sig",
    "nkey",
    "nonce",
    "user_jwt",
];

/// Whether anybody listens.
#[inline]
pub(super) fn is_on() -> bool {
    log::log_enabled!(log::Level::Trace)
}

/// One whole operation of a peer, as it came.
pub(super) fn incoming(peer: &str, operation: &[u8]) {
    if peer.is_empty() {
        // Another shard: nothing of it is text.
        return;
    }
    let (line, rest) = split_line(operation);
    trace!("{peer} - <<- [{}]", shown_line(line));
    let payload = rest.strip_suffix(b"\r\n").unwrap_or(rest);
    if !rest.is_empty() {
        let shown = payload.get(..SHOWN).unwrap_or(payload);
        trace!(
            "{peer} - <<- MSG_PAYLOAD: [{:?}]",
            String::from_utf8_lossy(shown)
        );
    }
}

/// What was queued for a peer since `mark`.
pub(super) fn outgoing(peer: &str, queue: &OutQueue, mark: Mark) {
    if peer.is_empty() {
        return;
    }
    let mut bytes = queue.since(mark);
    while !bytes.is_empty() {
        let (line, rest) = split_line(bytes);
        trace!("{peer} - ->> [{}]", shown_line(line));
        // The rest is a payload.
        if line
            .split(|b| *b == b' ')
            .next()
            .is_some_and(|verb| verb.ends_with(b"MSG"))
        {
            return;
        }
        bytes = rest;
    }
}

fn split_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b'\n', bytes) {
        Some(end) => {
            let (line, rest) = bytes.split_at(end + 1);
            (line.trim_ascii_end(), rest)
        }
        None => (bytes, &[]),
    }
}

fn shown_line(line: &[u8]) -> String {
    let Some(brace) = memchr::memchr(b'{', line) else {
        return String::from_utf8_lossy(line).into_owned();
    };
    let (verb, json) = line.split_at(brace);
    let verb = String::from_utf8_lossy(verb);
    match serde_json::from_slice::<serde_json::Value>(json) {
        Ok(serde_json::Value::Object(mut object)) => {
            // A leaf sends the token of a URL as the user as well.
            let is_token = object
                .keys()
                .any(|key| key.eq_ignore_ascii_case("auth_token"));
            for (key, value) in &mut object {
                let is_secret = SECRET.iter().any(|secret| key.eq_ignore_ascii_case(secret))
                    || (is_token && key.eq_ignore_ascii_case("user"));
                if is_secret {
                    *value = "[REDACTED]".into();
                }
            }
            format!("{verb}{}", serde_json::Value::Object(object))
        }
        // Whatever it is, it may hold a secret.
        _ => format!("{verb}[REDACTED]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let line = br#"CONNECT {"user":"hush","auth_token":"hush"}"#;
        assert!(!shown_line(line).contains("hush"));
        let line = br#"CONNECT {"user":"u","PASS":"hush","sig":"hush"}"#;
        let shown = shown_line(line);
        assert!(
            shown.contains("\"u\"") && !shown.contains("hush"),
            "{shown}"
        );
        assert!(!shown_line(b"CONNECT {\"pass\":\"hush\"").contains("hush"));
        assert_eq!(shown_line(b"PUB a 2"), "PUB a 2");
    }
}
