//! Subjects and patterns: what is valid, what matches, what covers what.
//!
//! A subject is any run of bytes without white space, its tokens separated by `.`. A token is a
//! wildcard only if it is exactly `*` (one token) or `>` (the rest, at least one).

/// The tokens of a subject or pattern.
pub fn tokens(subject: &[u8]) -> impl Iterator<Item = &[u8]> {
    subject.split(|b| *b == b'.')
}

/// Whether a `SUB` on it is in order: no empty token, `>` only at the end.
pub fn is_valid_pattern(pattern: &[u8]) -> bool {
    let mut closed = false;
    for token in tokens(pattern) {
        if token.is_empty() || closed {
            return false;
        }
        closed = token == b">";
    }
    true
}

/// Whether it is a valid subject to publish to in pedantic mode: no empty token, no wildcard.
pub fn is_valid_literal(subject: &[u8]) -> bool {
    tokens(subject).all(|token| !token.is_empty() && token != b"*" && token != b">")
}

/// Whether any token of the pattern is a wildcard.
pub fn has_wildcard(pattern: &[u8]) -> bool {
    // Most subjects contain neither byte at all.
    memchr::memchr2(b'*', b'>', pattern).is_some()
        && tokens(pattern).any(|token| token == b"*" || token == b">")
}

/// Whether a message published to `subject` reaches a subscription on `pattern`. Wildcard tokens
/// of the subject are plain tokens here (`foo.*` reaches `foo.*` and `*.*`, not `foo.bar`).
pub fn matches(pattern: &[u8], subject: &[u8]) -> bool {
    let mut rest = tokens(subject);
    for wanted in tokens(pattern) {
        if wanted == b">" {
            let mut count = 0;
            return rest.all(|token| {
                count += 1;
                !token.is_empty()
            }) && count > 0;
        }
        match rest.next() {
            Some(token) if !token.is_empty() && (wanted == b"*" || wanted == token) => {}
            _ => return false,
        }
    }
    rest.next().is_none()
}

/// Whether every subject that `inner` can match is also matched by `outer`.
pub fn covers(outer: &[u8], inner: &[u8]) -> bool {
    let mut inner = tokens(inner);
    for wanted in tokens(outer) {
        if wanted == b">" {
            return inner.next().is_some_and(|first| !first.is_empty())
                && inner.all(|token| !token.is_empty());
        }
        match inner.next() {
            Some([]) => return false,
            Some(b">") => return false,
            Some(token) if wanted == b"*" || wanted == token => {}
            _ => return false,
        }
    }
    inner.next().is_none()
}

/// Whether some subject is matched by both patterns.
pub fn overlaps(one: &[u8], other: &[u8]) -> bool {
    let mut one = tokens(one);
    let mut other = tokens(other);
    loop {
        match (one.next(), other.next()) {
            (None, None) => return true,
            (Some(b">"), Some(_)) | (Some(_), Some(b">")) => return true,
            (Some(a), Some(b)) if a == b || a == b"*" || b == b"*" => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The client protocol's table of matches.
    #[test]
    fn matching_table() {
        let rows: &[(&str, &[&str], &[&str])] = &[
            ("foo", &["foo"], &["foo.bar"]),
            ("foo.*", &["foo.bar", "foo.*"], &["foo", "foo.x.baz"]),
            ("foo.>", &["foo.bar", "foo.x.baz"], &["foo"]),
            ("*.bar", &["foo.bar"], &["bar"]),
            ("*.*", &["foo.bar"], &["bar"]),
            ("foo.*.baz", &["foo.x.baz"], &[]),
            ("*", &["foo", "fo*"], &["foo.bar"]),
            (">", &["foo", "a.b.c"], &["a..b", "a."]),
            ("fo*", &["fo*"], &["foo"]),
            ("foo.*", &["foo.>"], &["foo."]),
        ];
        for (pattern, yes, no) in rows {
            for subject in *yes {
                assert!(
                    matches(pattern.as_bytes(), subject.as_bytes()),
                    "{pattern} should match {subject}"
                );
            }
            for subject in *no {
                assert!(
                    !matches(pattern.as_bytes(), subject.as_bytes()),
                    "{pattern} should not match {subject}"
                );
            }
        }
    }

    #[test]
    fn validity() {
        for good in ["foo", "foo.*bar", "foo>bar", "fo*", "a.*.>", ">", "*"] {
            assert!(is_valid_pattern(good.as_bytes()), "{good}");
        }
        for bad in ["", "foo..bar", ".foo", "foo.", ".", "foo.>.bar"] {
            assert!(!is_valid_pattern(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn covering_and_overlap() {
        assert!(covers(b"in.>", b"in.*"));
        assert!(covers(b">", b">"));
        assert!(covers(b"*.a", b"*.a"));
        assert!(!covers(b"ok.>", b">"));
        assert!(!covers(b"a.*", b"a.>"));
        assert!(overlaps(b"*.a", b"in.>"));
        assert!(!overlaps(b"out.*", b"in.>"));
        assert!(!overlaps(b"a", b"a.>"));
        assert!(overlaps(b"a.*", b"*.b"));
    }
}
