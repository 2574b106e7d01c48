//! A WebSocket as clients have it: a request that is made of parts, and frames one by one.

use std::io::IoSlice;
use std::sync::Arc;

use petiole_net::ws::{Accepted, Decoder, Encoder};
use rustls::ClientConfig;
use serde_json::Value;

use super::{Wire, show};

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const OPCODES: u8 = 0x0f;
const CLOSE: u8 = 8;

/// A request that is not sent yet: as a client sends it, if nothing is changed.
#[derive(Clone)]
pub struct Visit {
    port: u16,
    method: &'static str,
    path: String,
    headers: Vec<(String, String)>,
    tls: Option<Arc<ClientConfig>>,
}

/// The answer to a request that is not taken.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    pub status: u16,
    pub body: String,
}

/// A connection that was upgraded.
pub struct WsClient {
    pub wire: Wire,
    /// The head of the answer.
    pub answer: String,
    encoder: Encoder,
    decoder: Decoder,
    text: Vec<u8>,
    /// What was compressed so far.
    pub compressed: usize,
}

/// A frame of the server's. The payload is inflated.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    pub opcode: u8,
    pub payload: Vec<u8>,
}

/// How a server has closed, and what it said before.
#[derive(Debug, PartialEq, Eq)]
pub struct End {
    pub said: String,
    pub close: Option<(u16, String)>,
}

impl Visit {
    pub fn new(port: u16) -> Self {
        let headers = [
            ("Host", &*format!("127.0.0.1:{port}")),
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("Sec-WebSocket-Version", "13"),
        ];
        Visit {
            port,
            method: "GET",
            path: "/".into(),
            headers: headers
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            tls: None,
        }
    }

    pub fn method(self, method: &'static str) -> Self {
        Visit { method, ..self }
    }

    pub fn path(self, path: &str) -> Self {
        let path = path.to_owned();
        Visit { path, ..self }
    }

    pub fn tls(self, config: &Arc<ClientConfig>) -> Self {
        let tls = Some(config.clone());
        Visit { tls, ..self }
    }

    /// Sets a header; an empty one is left out.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(had, _)| had != name);
        if !value.is_empty() {
            self.headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    pub fn deflate(self) -> Self {
        let offer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        self.header("Sec-WebSocket-Extensions", offer)
    }

    pub fn text(&self) -> String {
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text + "\r\n"
    }

    /// Connects and asks.
    pub fn ask(&self) -> Result<WsClient, Refused> {
        let mut wire = Wire::dial(self.port).expect("a listener");
        if let Some(config) = &self.tls {
            wire.secure(config).expect("TLS");
        }
        WsClient::ask(wire, &self.text())
    }

    /// A client that has read INFO.
    #[track_caller]
    pub fn client(&self) -> WsClient {
        let mut client = self.ask().expect("an upgrade");
        client.info();
        client
    }

    /// A client that has introduced itself, as one that understands no further INFO: nats-server 2.15
    /// sends one behind CONNECT.
    #[track_caller]
    pub fn quiet(&self) -> WsClient {
        let mut client = self.client();
        client.say("CONNECT {\"verbose\":false,\"pedantic\":false}\r\nPING\r\n");
        client.expect("PONG\r\n");
        client
    }
}

impl WsClient {
    /// Asks with these words.
    pub fn ask(mut wire: Wire, request: &str) -> Result<Self, Refused> {
        wire.send(request);
        let mut lines = Vec::new();
        loop {
            let line = wire.line().expect("an answer");
            if line.is_empty() {
                break;
            }
            lines.push(String::from_utf8(line).expect("text"));
        }
        let answer = lines.join("\n");
        let status: u16 = answer[9..12].parse().expect("a status");
        let lower = answer.to_lowercase();
        if status != 101 {
            let length = lower
                .lines()
                .find_map(|l| l.strip_prefix("content-length: "));
            let length = length.map_or(0, |text| text.parse().expect("a length"));
            let body = String::from_utf8(wire.exact(length)).expect("text");
            return Err(Refused { status, body });
        }
        // The key of RFC 6455's own example.
        assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
        let accepted = Accepted {
            deflate: lower.contains("permessage-deflate"),
            masking: !lower.contains("nats-no-masking: true"),
        };
        Ok(WsClient {
            wire,
            answer,
            encoder: Encoder::new(accepted, 7),
            decoder: Decoder::new(accepted, u64::MAX),
            text: Vec::new(),
            compressed: 0,
        })
    }

    /// Sends in one frame, compressed if that was agreed on.
    pub fn say(&mut self, text: impl AsRef<[u8]>) {
        let mut out = Vec::new();
        self.encoder
            .frame(&[IoSlice::new(text.as_ref())], usize::MAX, &mut out);
        // The server may have closed already.
        let _ = self.wire.try_send(out);
    }

    /// Sends a frame with this first byte, masked.
    pub fn frame(&mut self, first: u8, payload: &[u8]) {
        let _ = self.wire.try_send(masked(first, payload));
    }

    /// The next frame of the server's, or the end.
    pub fn next(&mut self) -> Option<Frame> {
        if self.wire.is_at_end() {
            return None;
        }
        let mut bytes = self.wire.exact(2);
        let (first, second) = (bytes[0], bytes[1]);
        assert_eq!(second & 0x80, 0, "masked: {}", show(&bytes));
        let extended = match second {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let long = self.wire.exact(extended);
        let length = match extended {
            0 => usize::from(second),
            _ => long.iter().fold(0, |n, byte| n << 8 | usize::from(*byte)),
        };
        bytes.extend(long);
        let payload = self.wire.exact(length);
        assert_eq!(first & FIN, FIN, "a fragment");
        let opcode = first & OPCODES;
        if opcode >= CLOSE {
            return Some(Frame { opcode, payload });
        }
        self.compressed += usize::from(first & RSV1 != 0);
        bytes.extend(payload);
        let mut inflated = Vec::new();
        let mut rest = &bytes[..];
        while !rest.is_empty() || self.decoder.waiting() > 0 {
            let used = self.decoder.feed(rest).expect("frames");
            rest = &rest[used..];
            let mut some = [0; 16384];
            let count = self.decoder.read(&mut some);
            inflated.extend_from_slice(&some[..count]);
        }
        Some(Frame {
            opcode,
            payload: inflated,
        })
    }

    /// Reads data up to where `text` has been said, which must be all that is.
    #[track_caller]
    pub fn expect(&mut self, text: &str) {
        while self.text.len() < text.len() {
            match self.next() {
                Some(Frame { opcode: 2, payload }) => self.text.extend(payload),
                other => panic!("{other:?} after {}", show(&self.text)),
            }
        }
        let said: Vec<u8> = self.text.drain(..text.len()).collect();
        if said != text.as_bytes() {
            let (said, text) = (show(&said), show(text.as_bytes()));
            panic!("{:.200} instead of {:.200}", said, text);
        }
    }

    /// The INFO that is next.
    #[track_caller]
    pub fn info(&mut self) -> Value {
        let frame = self.next().expect("INFO");
        let text = String::from_utf8(frame.payload).expect("text");
        let json = text.strip_prefix("INFO ").expect("INFO");
        serde_json::from_str(json).expect("JSON")
    }

    /// All up to the end.
    pub fn end(&mut self) -> End {
        let mut close = None;
        while let Some(Frame { opcode, payload }) = self.next() {
            match (opcode, &payload[..]) {
                (2, _) => self.text.extend(payload),
                (CLOSE, [high, low, reason @ ..]) => {
                    let code = u16::from_be_bytes([*high, *low]);
                    close = Some((code, String::from_utf8_lossy(reason).into_owned()));
                }
                other => panic!("{other:?}"),
            }
        }
        End {
            said: String::from_utf8(std::mem::take(&mut self.text)).expect("text"),
            close,
        }
    }
}

/// A frame of a client's, byte by byte.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let mut frame = vec![first];
    match u8::try_from(payload.len()) {
        Ok(length) if length < 126 => frame.push(0x80 | length),
        _ => {
            frame.push(0x80 | 127);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(
        payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    frame
}
