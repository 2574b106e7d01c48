//! What a peer did wrong, and the exact words it is told.
//!
//! Owns every `-ERR` text of client and leaf links. Never decides what a connection does next,
//! except by [`ProtoError::closes`].

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use super::version::Version;

/// The peer broke the protocol, or asked for what it may not have.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProtoError {
    /// A verb we do not know, an empty line, a payload that is not followed by CR LF.
    UnknownOperation,
    /// A known verb with bad arguments. Such a peer is closed without a word; the text is for the
    /// log.
    Malformed(&'static str),
    /// A control line longer than `max_control_line`.
    ControlLineTooLong,
    /// A message longer than `max_payload`.
    PayloadTooLarge,
    /// Bad or missing credentials.
    AuthorizationViolation,
    /// The JWT of a user, or the time in which it may connect, is over.
    UserExpired,
    /// A user's JWT does not count any more.
    UserRevoked,
    /// The JWT of an account is over, or was deleted.
    AccountExpired,
    /// No credentials in time.
    AuthenticationTimeout,
    /// `CONNECT` with a `protocol` other than 0 or 1.
    InvalidClientProtocol,
    /// `CONNECT` with `no_responders` but without headers.
    NoRespondersNeedsHeaders,
    /// The server's `max_connections` is reached.
    MaxConnections,
    /// The account's limit of connections is reached.
    MaxAccountConnections,
    /// More TLS handshakes per second than `connection_rate_limit`.
    Throttled,
    /// Leaf: more handshakes per second than `max_handshakes_per_second`; the peer is to come back after
    /// this long. The text is ours; [`throttled_for`] reads it.
    ThrottledFor(Duration),
    /// TLS was not agreed on. Such a peer is closed without a word: none would be understood.
    HandshakeFailed,
    /// Too many of our `PING`s are unanswered.
    StaleConnection,
    /// The connection's limit of subscriptions is reached; this one is dropped.
    MaxSubscriptions,
    /// `SUB` on a malformed subject.
    InvalidSubject,
    /// Pedantic mode: `PUB` to a subject with an empty or wildcard token. The message is still
    /// processed.
    InvalidPublishSubject,
    /// Not allowed to publish to this subject.
    PublishDenied(Box<[u8]>),
    /// Not allowed to publish with this reply subject.
    ReplyDenied(Box<[u8]>),
    /// Not allowed to subscribe.
    SubscribeDenied {
        /// The pattern asked for.
        subject: Box<[u8]>,
        /// The queue group, if it was a queue subscription.
        queue: Option<Box<[u8]>>,
    },
    /// The pattern has more tokens than `max_subscription_tokens`.
    TooManyTokens(Box<[u8]>),
    /// Leaf: our own loop-detection subject came back to us.
    LoopDetected {
        /// The local account of the link.
        account: Box<[u8]>,
    },
    /// Leaf: both ends carry the same cluster name.
    SameCluster,
    /// Leaf: the acceptor's second `INFO` did not come in time.
    StaleLeafLink,
    /// Leaf: a client dialled the leaf port.
    WrongPort,
    /// Leaf: a gateway of this name dialled the leaf port.
    GatewayOnLeafPort(Box<str>),
    /// Leaf: older than `min_version`.
    TooOld(Version),
    /// Leaf: the peer's cluster name contains a space.
    ClusterNameHasSpaces,
    /// Leaf: `LS+` on a malformed subject; it is dropped.
    InvalidSubscription,
    /// Leaf: the same remote connected again; this, the older link, gives way.
    DuplicateLink,
    /// Leaf: the peer's `INFO` names a compression mode that nobody knows.
    UnknownCompression(Box<str>),
}

impl ProtoError {
    /// The text between the quotes of the `-ERR`; `None` when the peer is closed without a word.
    ///
    /// Client protocol, errors; leaf protocol, errors: the texts are exact, since peers and their
    /// libraries compare them.
    pub fn text(&self) -> Option<Cow<'static, [u8]>> {
        let fixed: &'static str = match self {
            Self::Malformed(_) | Self::HandshakeFailed => return None,
            Self::UnknownOperation => "Unknown Protocol Operation",
            Self::ControlLineTooLong => "maximum control line exceeded",
            Self::PayloadTooLarge => "Maximum Payload Violation",
            Self::AuthorizationViolation => "Authorization Violation",
            Self::UserExpired => "User Authentication Expired",
            Self::UserRevoked => "User Authentication Revoked",
            Self::AccountExpired => "Account Authentication Expired",
            Self::AuthenticationTimeout => "Authentication Timeout",
            Self::InvalidClientProtocol => "invalid client protocol",
            Self::NoRespondersNeedsHeaders => "no responders requires headers support",
            Self::MaxConnections => "maximum connections exceeded",
            Self::MaxAccountConnections => "maximum account active connections exceeded",
            Self::Throttled => "Connection throttling is active. Please try again later.",
            Self::StaleConnection => "Stale Connection",
            Self::MaxSubscriptions => "maximum subscriptions exceeded",
            Self::InvalidSubject => "Invalid Subject",
            Self::InvalidPublishSubject => "Invalid Publish Subject",
            Self::SameCluster => "remote leafnode has same cluster name",
            Self::StaleLeafLink => "Stale Leaf Node Connection - Closing",
            Self::WrongPort => "attempted to connect to leaf node port",
            Self::ClusterNameHasSpaces => "cluster name cannot contain spaces",
            Self::InvalidSubscription => "Invalid Subscription",
            Self::DuplicateLink => "Duplicate Remote LeafNode Connection",
            Self::TooOld(wanted) => {
                let before = "connection rejected since minimum version required is ";
                return Some(sentence(before, wanted.to_string().as_bytes(), ""));
            }
            Self::ThrottledFor(wait) => {
                let millis = wait.as_millis();
                return Some(format!("{THROTTLED_FOR}{millis} ms.").into_bytes().into());
            }
            Self::GatewayOnLeafPort(name) => {
                let before = "Rejecting connection from gateway ";
                return Some(sentence(before, name.as_bytes(), " on the leafnode port"));
            }
            Self::PublishDenied(subject) => {
                return Some(sentence(
                    "Permissions Violation for Publish to ",
                    subject,
                    "",
                ));
            }
            Self::ReplyDenied(reply) => {
                let before = "Permissions Violation for Publish with Reply of ";
                return Some(sentence(before, reply, ""));
            }
            Self::TooManyTokens(subject) => {
                return Some(sentence(SUBSCRIPTION, subject, ", too many tokens"));
            }
            Self::SubscribeDenied {
                subject,
                queue: None,
            } => return Some(sentence(SUBSCRIPTION, subject, "")),
            Self::SubscribeDenied {
                subject,
                queue: Some(queue),
            } => {
                let mut text = sentence(SUBSCRIPTION, subject, " using queue ").into_owned();
                quote(&mut text, queue);
                return Some(text.into());
            }
            Self::UnknownCompression(mode) => {
                let before = "unsupported route compression mode ";
                return Some(sentence(before, mode.as_bytes(), ""));
            }
            Self::LoopDetected { account } => {
                return Some(sentence(
                    "Loop detected for leafnode account=",
                    account,
                    ". Delaying attempt to reconnect for 30s",
                ));
            }
        };
        Some(Cow::Borrowed(fixed.as_bytes()))
    }

    /// Whether the connection ends with it.
    ///
    /// For permissions this is the client's rule: it stays open. A leaf link on which we are the
    /// hub closes on them too; that is the link's decision.
    pub fn closes(&self) -> bool {
        !matches!(
            self,
            Self::MaxSubscriptions
                | Self::InvalidSubject
                | Self::InvalidPublishSubject
                | Self::PublishDenied(_)
                | Self::ReplyDenied(_)
                | Self::SubscribeDenied { .. }
                | Self::TooManyTokens(_)
                | Self::InvalidSubscription
        )
    }

    /// Why a connection that ends with it was closed, in the words of the monitoring pages.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::ControlLineTooLong => "Maximum Control Line Exceeded",
            Self::PayloadTooLarge => "Maximum Message Payload Exceeded",
            Self::AuthorizationViolation => "Authentication Failure",
            Self::UserExpired | Self::AccountExpired => "Authentication Expired",
            Self::UserRevoked => "Credentials Revoked",
            Self::AuthenticationTimeout => "Authentication Timeout",
            Self::InvalidClientProtocol => "Bad Client Protocol Version",
            Self::NoRespondersNeedsHeaders => "No Responders Requires Headers",
            Self::MaxConnections | Self::Throttled | Self::ThrottledFor(_) => {
                "Maximum Connections Exceeded"
            }
            Self::MaxAccountConnections => "Maximum Account Connections Exceeded",
            Self::HandshakeFailed => "TLS Handshake Failure",
            Self::StaleConnection | Self::StaleLeafLink => "Stale Connection",
            Self::MaxSubscriptions => "Maximum Subscriptions Exceeded",
            Self::SameCluster => "Cluster Names Identical",
            Self::WrongPort | Self::GatewayOnLeafPort(_) => "Incorrect Port",
            Self::DuplicateLink => "Duplicate Remote LeafNode Connection",
            Self::TooOld(_) => "Minimum Version Required",
            Self::UnknownOperation
            | Self::Malformed(_)
            | Self::InvalidSubject
            | Self::InvalidPublishSubject
            | Self::PublishDenied(_)
            | Self::ReplyDenied(_)
            | Self::SubscribeDenied { .. }
            | Self::TooManyTokens(_)
            | Self::LoopDetected { .. }
            | Self::ClusterNameHasSpaces
            | Self::InvalidSubscription
            | Self::UnknownCompression(_) => "Protocol Violation",
        }
    }

    /// The same of a subscription that ends by it (client protocol, live updates): the text ends with its
    /// `sid`.
    pub fn write_about(&self, sid: &str, out: &mut Vec<u8>) {
        if let Some(text) = self.text() {
            out.extend_from_slice(b"-ERR '");
            out.extend_from_slice(&text);
            out.extend_from_slice(b" (sid \"");
            out.extend_from_slice(sid.as_bytes());
            out.extend_from_slice(b"\")'\r\n");
        }
    }

    /// Appends the `-ERR` line, or nothing when there is no text.
    pub fn write(&self, out: &mut Vec<u8>) {
        if let Some(text) = self.text() {
            out.reserve(text.len() + 9);
            out.extend_from_slice(b"-ERR '");
            out.extend_from_slice(&text);
            out.extend_from_slice(b"'\r\n");
        }
    }
}

impl fmt::Display for ProtoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, self.text()) {
            (Self::Malformed(what), _) => write!(f, "malformed: {what}"),
            (_, Some(text)) => f.write_str(&String::from_utf8_lossy(&text)),
            (_, None) => f.write_str(self.reason()),
        }
    }
}

impl std::error::Error for ProtoError {}

/// Before the milliseconds of [`ProtoError::ThrottledFor`].
const THROTTLED_FOR: &str = "Connection throttling is active. Please try again in ";

/// How long the sender of this `-ERR` text wants us to wait, if it is [`ProtoError::ThrottledFor`]'s.
pub fn throttled_for(text: &[u8]) -> Option<Duration> {
    let rest = text.strip_prefix(THROTTLED_FOR.as_bytes())?;
    let millis = rest.strip_suffix(b" ms.")?;
    let all_digits = !millis.is_empty() && millis.iter().all(u8::is_ascii_digit);
    let millis = std::str::from_utf8(millis).ok().filter(|_| all_digits)?;
    // More than fits is as long as it gets.
    Some(Duration::from_millis(millis.parse().unwrap_or(u64::MAX)))
}

const SUBSCRIPTION: &str = "Permissions Violation for Subscription to ";

fn sentence(before: &str, quoted: &[u8], after: &str) -> Cow<'static, [u8]> {
    let mut text = Vec::with_capacity(before.len() + quoted.len() + after.len() + 2);
    text.extend_from_slice(before.as_bytes());
    quote(&mut text, quoted);
    text.extend_from_slice(after.as_bytes());
    text.into()
}

/// Quotes as Go's `%q` does: what can be printed stays, the rest becomes an escape. The result
/// never contains a line break, so a hostile subject cannot end the `-ERR` line.
fn quote(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                '\x07' => out.extend_from_slice(b"\\a"),
                '\x08' => out.extend_from_slice(b"\\b"),
                '\t' => out.extend_from_slice(b"\\t"),
                '\n' => out.extend_from_slice(b"\\n"),
                '\x0b' => out.extend_from_slice(b"\\v"),
                '\x0c' => out.extend_from_slice(b"\\f"),
                '\r' => out.extend_from_slice(b"\\r"),
                ' '..='~' => out.push(c as u8),
                '\0'..='\x7f' => hex(out, b'x', c.into(), 2),
                _ if is_printable(c) => {
                    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                }
                '\0'..='\u{ffff}' => hex(out, b'u', c.into(), 4),
                _ => hex(out, b'U', c.into(), 8),
            }
        }
        for byte in chunk.invalid() {
            hex(out, b'x', (*byte).into(), 2);
        }
    }
    out.push(b'"');
}

/// The standard library knows which characters print, but only tells through its own escaping.
/// The leading letter keeps a combining mark from being escaped for standing alone.
fn is_printable(c: char) -> bool {
    String::from_iter(['a', c]).escape_debug().count() == 2
}

fn hex(out: &mut Vec<u8>, kind: u8, value: u32, digits: u32) {
    out.extend_from_slice(&[b'\\', kind]);
    for place in (0..digits).rev() {
        let nibble = (value >> (4 * place)) & 0xf;
        out.push(char::from_digit(nibble, 16).unwrap_or('0') as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(error: ProtoError) -> String {
        let mut out = Vec::new();
        error.write(&mut out);
        String::from_utf8(out).unwrap_or_default()
    }

    #[test]
    fn denied_subjects_are_quoted() {
        use ProtoError::*;
        let rows = [
            (
                PublishDenied((*b"bad.x").into()),
                r#"Permissions Violation for Publish to "bad.x""#,
            ),
            (
                ReplyDenied((*b"_R_.x").into()),
                r#"Permissions Violation for Publish with Reply of "_R_.x""#,
            ),
            (
                SubscribeDenied {
                    subject: (*b"q").into(),
                    queue: None,
                },
                r#"Permissions Violation for Subscription to "q""#,
            ),
            (
                SubscribeDenied {
                    subject: (*b"q").into(),
                    queue: Some((*b"v2").into()),
                },
                r#"Permissions Violation for Subscription to "q" using queue "v2""#,
            ),
            (
                TooManyTokens((*b"a.b.c.d").into()),
                r#"Permissions Violation for Subscription to "a.b.c.d", too many tokens"#,
            ),
            (
                LoopDetected {
                    account: (*b"$G").into(),
                },
                r#"Loop detected for leafnode account="$G". Delaying attempt to reconnect for 30s"#,
            ),
        ];
        for (error, text) in rows {
            assert_eq!(line(error), format!("-ERR '{text}'\r\n"));
        }
    }

    #[test]
    fn what_is_no_appointment_is_none() {
        let wait = |text: &str| throttled_for(text.as_bytes());
        let before = THROTTLED_FOR;
        assert_eq!(
            wait(&format!("{before}7 ms.")),
            Some(Duration::from_millis(7))
        );
        let most = Some(Duration::from_millis(u64::MAX));
        assert_eq!(wait(&format!("{before}99999999999999999999999 ms.")), most);
        for other in [
            "",
            "7",
            "+7 ms.",
            "-7 ms.",
            " 7 ms.",
            "7 ms",
            " ms.",
            "7 s.",
            "\u{0667} ms.",
        ] {
            assert_eq!(wait(&format!("{before}{other}")), None, "{other}");
        }
        let nats_servers = ProtoError::Throttled
            .text()
            .unwrap_or_default()
            .into_owned();
        assert_eq!(throttled_for(&nats_servers), None);
    }

    proptest! {
        #[test]
        fn appointments_are_read_as_they_are_written(millis: u64) {
            let wait = Duration::from_millis(millis);
            let text = ProtoError::ThrottledFor(wait).text().unwrap_or_default().into_owned();
            prop_assert_eq!(throttled_for(&text), Some(wait));
        }

        #[test]
        fn no_text_is_too_much(text: Vec<u8>) {
            throttled_for(&text);
            throttled_for(&[THROTTLED_FOR.as_bytes(), &text].concat());
        }
    }

    #[test]
    fn quoting_is_gos() {
        let rows: &[(&[u8], &str)] = &[
            (b"a\"b\\c", r#""a\"b\\c""#),
            ("a.\u{e9}\u{4e16}".as_bytes(), "\"a.\u{e9}\u{4e16}\""),
            ("e\u{301}".as_bytes(), "\"e\u{301}\""),
            (b"\x00\x07\x1f\x7f", r#""\x00\a\x1f\x7f""#),
            (b"\xff.\xe4\xb8", r#""\xff.\xe4\xb8""#),
            ("\u{85}\u{a0}\u{200b}".as_bytes(), r#""\u0085\u00a0\u200b""#),
            ("\u{e0001}".as_bytes(), r#""\U000e0001""#),
            (b"\r\n\t", r#""\r\n\t""#),
            (b"it's", "\"it's\""),
        ];
        for (bytes, expected) in rows {
            let mut out = Vec::new();
            quote(&mut out, bytes);
            assert_eq!(String::from_utf8_lossy(&out), *expected);
        }
    }

    #[test]
    fn malformed_says_nothing() {
        let error = ProtoError::Malformed("why");
        assert_eq!(line(error.clone()), "");
        assert!(error.closes());
        assert_eq!(error.to_string(), "malformed: why");
        assert_eq!(error.reason(), "Protocol Violation");
        assert_eq!(
            line(ProtoError::UnknownOperation),
            "-ERR 'Unknown Protocol Operation'\r\n"
        );
        assert!(!ProtoError::InvalidPublishSubject.closes());
    }
}
