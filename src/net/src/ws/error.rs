//! What goes wrong with a WebSocket, in words that say which end to change.

use std::fmt;

use tungstenite::http::StatusCode;

/// Why a connection is no WebSocket, or no longer. The connection is of no use after any of these.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WsError {
    /// Host, path or program name hold what HTTP cannot carry.
    Address,
    /// The connection ended without an answer to the request: for the caller, who sees that.
    NoAnswer,
    /// The answer is no HTTP.
    NotHttp,
    /// The answer is the INFO of a NATS server.
    Nats,
    /// The answer is an alert of TLS.
    Tls,
    /// The answer has no end within [`MAX_HEAD`](super::MAX_HEAD) bytes.
    HeadTooLong,
    /// The answer begins like HTTP, but does not go on like it.
    MalformedHead,
    /// The answer is not 101.
    Status(u16),
    /// The answer lacks this header, or it says something else.
    NotUpgraded(&'static str),
    /// The answer belongs to another request.
    WrongAccept,
    /// The answer takes up an extension that was not offered.
    Extension,
    /// Compression is taken up without both `no_context_takeover`.
    ContextTakeover,
    /// The answer names a subprotocol; none was offered.
    Subprotocol,
    /// A frame is masked that must not be.
    Masked,
    /// A frame is not masked that has to be.
    Unmasked,
    /// A frame sets bits that were not agreed on.
    ReservedBits,
    /// A frame is of a kind that does not exist.
    Opcode(u8),
    /// A control frame is too long, compressed or in fragments, or a close frame makes no sense.
    Control,
    /// A message begins within a message, or goes on that has not begun.
    Fragment,
    /// A frame's length has more than 63 bits.
    Length,
    /// A compressed message is damaged.
    Inflate,
    /// A message is larger than this many bytes.
    TooBig(u64),
}

impl WsError {
    /// The code for the close frame that tells the other end. `None` before the upgrade.
    pub fn close_code(&self) -> Option<u16> {
        match self {
            WsError::Masked
            | WsError::Unmasked
            | WsError::ReservedBits
            | WsError::Opcode(_)
            | WsError::Control
            | WsError::Fragment
            | WsError::Length => Some(1002),
            WsError::Inflate => Some(1007),
            WsError::TooBig(_) => Some(1009),
            _ => None,
        }
    }
}

impl fmt::Display for WsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WsError::Address => f.write_str(
                "the host or the path of the URL cannot stand in an HTTP request: write spaces and \
                 other special characters of the path as %20 and the like",
            ),
            WsError::NoAnswer => f.write_str(
                "the connection ended without an answer to the WebSocket request: is there a \
                 websocket listener at this address, and does it want wss:// rather than ws://?",
            ),
            WsError::NotHttp => f.write_str(
                "the answer to the WebSocket request is not HTTP: is there a websocket listener at \
                 this address?",
            ),
            WsError::Nats => f.write_str(
                "the hub speaks NATS without WebSocket here: use nats-leaf:// instead of ws://, or \
                 the port of the hub's websocket listener",
            ),
            WsError::Tls => {
                f.write_str("the hub speaks TLS here: use wss:// instead of ws:// in the URL")
            }
            WsError::HeadTooLong => f.write_str(
                "the answer to the WebSocket request does not end: is there a websocket listener at \
                 this address?",
            ),
            WsError::MalformedHead => f.write_str(
                "the answer to the WebSocket request is damaged: is there a websocket listener at \
                 this address?",
            ),
            WsError::Status(code) => write!(
                f,
                "the answer to the WebSocket request is {}: {}",
                status(*code),
                advice(*code)
            ),
            WsError::NotUpgraded(header) => write!(
                f,
                "the answer to the WebSocket request lacks a proper `{header}` header: does a proxy \
                 between here and the hub take it away?"
            ),
            WsError::WrongAccept => f.write_str(
                "the answer to the WebSocket request belongs to another request: does a cache stand \
                 between here and the hub?",
            ),
            WsError::Extension => f.write_str(
                "the hub uses a WebSocket extension that was not offered: does a proxy between here \
                 and the hub change the headers?",
            ),
            WsError::ContextTakeover => f.write_str(
                "the hub wants to compress across WebSocket messages, which is not supported: set \
                 ws_compression to false for this remote",
            ),
            WsError::Subprotocol => f.write_str(
                "the answer to the WebSocket request names a subprotocol that was not asked for: is \
                 it a NATS hub that listens at this address?",
            ),
            WsError::Masked => violation(f, "a masked frame"),
            WsError::Unmasked => violation(f, "a frame without a mask"),
            WsError::ReservedBits => violation(f, "reserved bits that were not agreed on"),
            WsError::Opcode(code) => violation(f, format_args!("a frame of unknown kind {code}")),
            WsError::Control => violation(f, "a bad control frame"),
            WsError::Fragment => violation(f, "fragments out of order"),
            WsError::Length => violation(f, "an impossible length"),
            WsError::Inflate => {
                f.write_str("WebSocket: a compressed message is damaged")
            }
            WsError::TooBig(limit) => write!(
                f,
                "WebSocket: a message is larger than {limit} bytes"
            ),
        }
    }
}

impl std::error::Error for WsError {}

fn violation(f: &mut fmt::Formatter<'_>, what: impl fmt::Display) -> fmt::Result {
    write!(f, "WebSocket protocol violation by the peer: {what}")
}

/// A status with the text that belongs to it, whatever the peer wrote.
pub(crate) fn status(code: u16) -> String {
    let known = StatusCode::from_u16(code).ok();
    match known.and_then(|status| status.canonical_reason()) {
        Some(text) => format!("{code} {text}"),
        None => code.to_string(),
    }
}

fn advice(code: u16) -> &'static str {
    match code {
        200..=299 => {
            "an ordinary web server answers; is there a websocket listener at this address, and is \
             the path right?"
        }
        300..=399 => "redirects are not followed; put the address it leads to into the URL",
        400 => {
            "the request was not taken for a WebSocket one; use wss:// if there is TLS, or does a proxy \
             between here and the hub take away the `Upgrade` and `Connection` headers?"
        }
        401 => {
            "something in front of the hub wants a login over HTTP, which is not supported; let \
             WebSocket requests for this path pass"
        }
        403 => {
            "the hub or a proxy in front of it refuses this address; look at its access rules for \
             this path"
        }
        407 => "a proxy on the way wants a login; configure it as the proxy of this remote",
        429 | 503 => "the hub or a proxy in front of it takes no connection now",
        500..=599 => "the proxy in front of the hub does not reach it; is the hub running?",
        _ => "is there a websocket listener at this address, and is the path right?",
    }
}
