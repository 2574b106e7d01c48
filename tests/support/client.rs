use std::sync::Arc;

use rustls::ClientConfig;
use serde_json::Value;

use super::{Wire, show};

/// A delivered message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Msg {
    pub subject: Vec<u8>,
    pub sid: Vec<u8>,
    pub reply: Option<Vec<u8>>,
    /// Present for HMSG: the header block as counted by its length.
    pub header: Option<Vec<u8>>,
    pub payload: Vec<u8>,
}

/// What a server says to a client.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    Info(Value),
    Msg(Msg),
    Ping,
    Pong,
    Ok,
    /// The text inside the quotes.
    Err(String),
    /// A line that no server should send.
    Other(Vec<u8>),
}

/// A blocking client that hides nothing: bytes go out as given, operations come in as sent.
#[derive(Debug)]
pub struct Client {
    pub wire: Wire,
    /// The INFO the server greeted with.
    pub info: Value,
    /// That INFO as it was on the wire, without its line end.
    pub info_line: Vec<u8>,
}

impl Client {
    /// Connects and reads INFO; sends nothing.
    pub fn connect(port: u16) -> Self {
        Self::greeted(Wire::dial(port).expect("connecting"))
    }

    /// Reads INFO from a connection.
    pub fn greeted(mut wire: Wire) -> Self {
        let info_line = wire.line().expect("INFO instead of the end of the stream");
        let json = info_line
            .strip_prefix(b"INFO ")
            .unwrap_or_else(|| panic!("not INFO: {}", show(&info_line)));
        let info = serde_json::from_slice(json).expect("INFO has JSON");
        Self {
            wire,
            info,
            info_line,
        }
    }

    /// Connects, sends CONNECT with `options` (JSON) and a PING, and waits for the PONG.
    pub fn with(port: u16, options: &str) -> Self {
        Self::connect(port).introduced(options)
    }

    /// Sends CONNECT with `options` (JSON) and a PING, and waits for the PONG.
    pub fn introduced(mut self, options: &str) -> Self {
        self.send(format!("CONNECT {options}\r\n"));
        let before = self.sync();
        assert!(
            before.iter().all(|op| *op == Op::Ok),
            "CONNECT {options}: {before:?}"
        );
        self
    }

    /// Reads INFO, then secures the connection and introduces itself as [`quiet`](Self::quiet) does.
    pub fn quiet_tls(port: u16, config: &Arc<ClientConfig>) -> Self {
        let mut client = Self::connect(port);
        client.wire.secure(config).expect("TLS behind INFO");
        client.introduced(QUIET)
    }

    /// A client as most are: not verbose, not pedantic, headers, protocol 1.
    pub fn quiet(port: u16) -> Self {
        Self::with(port, QUIET)
    }

    /// A quiet client with further options: `"user":"a","pass":"b"`.
    pub fn quiet_and(port: u16, more: &str) -> Self {
        Self::with(port, &format!("{},{more}}}", &QUIET[..QUIET.len() - 1]))
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.wire.send(bytes);
    }

    /// The next operation as it is, None at the end of the stream.
    pub fn raw_op(&mut self) -> Option<Op> {
        let line = self.wire.line()?;
        let verb = line.split(|b| *b == b' ').next().unwrap_or_default();
        let words = || {
            line.split(|b| *b == b' ')
                .filter(|w| !w.is_empty())
                .skip(1)
                .map(<[u8]>::to_vec)
        };
        Some(match verb {
            b"INFO" => Op::Info(serde_json::from_slice(&line[4..]).expect("INFO has JSON")),
            b"PING" if line.len() == 4 => Op::Ping,
            b"PONG" if line.len() == 4 => Op::Pong,
            b"+OK" if line.len() == 3 => Op::Ok,
            b"-ERR" => {
                let text = line[4..]
                    .strip_prefix(b" '")
                    .and_then(|t| t.strip_suffix(b"'"));
                let text = text.unwrap_or_else(|| panic!("-ERR without quotes: {}", show(&line)));
                Op::Err(String::from_utf8_lossy(text).into_owned())
            }
            b"MSG" | b"HMSG" => {
                let lengths = if verb == b"MSG" { 1 } else { 2 };
                let mut words: Vec<Vec<u8>> = words().collect();
                assert!(
                    words.len() == 2 + lengths || words.len() == 3 + lengths,
                    "arguments of {}",
                    show(&line)
                );
                let mut length = || {
                    let word = words.pop().expect("counted above");
                    let text = String::from_utf8(word).expect("a length is ASCII");
                    text.parse::<usize>().expect("a length is a number")
                };
                let total = length();
                let header = (lengths == 2).then(length);
                let mut payload = self.wire.payload(total);
                let header = header.map(|len| payload.drain(..len).collect());
                let reply = (words.len() == 3).then(|| words.pop().expect("counted above"));
                let sid = words.pop().expect("counted above");
                let subject = words.pop().expect("counted above");
                Op::Msg(Msg {
                    subject,
                    sid,
                    reply,
                    header,
                    payload,
                })
            }
            _ => Op::Other(line),
        })
    }

    /// The next operation that answers something: later INFOs are skipped, PINGs answered.
    pub fn op(&mut self) -> Option<Op> {
        loop {
            match self.raw_op() {
                Some(Op::Info(_)) => {}
                Some(Op::Ping) => self.send("PONG\r\n"),
                other => return other,
            }
        }
    }

    /// What the server still says before it answers a PING; fails if it closes.
    pub fn sync(&mut self) -> Vec<Op> {
        self.send("PING\r\n");
        let mut ops = Vec::new();
        loop {
            match self.op() {
                Some(Op::Pong) => return ops,
                Some(op) => ops.push(op),
                None => panic!("closed instead of PONG, after {ops:?}"),
            }
        }
    }

    /// Sends and returns all the server says to it.
    pub fn ask(&mut self, bytes: impl AsRef<[u8]>) -> Vec<Op> {
        self.send(bytes);
        self.sync()
    }

    /// Sends, and nothing must come back.
    pub fn tell(&mut self, bytes: impl AsRef<[u8]>) {
        let ops = self.ask(bytes.as_ref());
        assert!(ops.is_empty(), "to {}: {ops:?}", show(bytes.as_ref()));
    }

    /// The messages that have arrived by now, and nothing else has.
    pub fn messages(&mut self) -> Vec<Msg> {
        self.sync().into_iter().map(message).collect()
    }

    pub fn expect_msg(&mut self) -> Msg {
        self.op()
            .map(message)
            .expect("a message instead of the end of the stream")
    }

    pub fn expect_ok(&mut self) {
        assert_eq!(self.op(), Some(Op::Ok));
    }

    pub fn expect_pong(&mut self) {
        assert_eq!(self.op(), Some(Op::Pong));
    }

    pub fn expect_err(&mut self, text: &str) {
        assert_eq!(self.op(), Some(Op::Err(text.to_owned())));
    }

    /// The server closes, and says nothing more.
    pub fn expect_close(&mut self) {
        assert_eq!(self.op(), None);
    }

    /// The server says why and closes.
    pub fn expect_err_close(&mut self, text: &str) {
        self.expect_err(text);
        self.expect_close();
    }
}

fn message(op: Op) -> Msg {
    match op {
        Op::Msg(msg) => msg,
        other => panic!("a message was expected, not {other:?}"),
    }
}

impl Msg {
    pub fn sid(&self) -> String {
        String::from_utf8_lossy(&self.sid).into_owned()
    }

    pub fn subject(&self) -> String {
        String::from_utf8_lossy(&self.subject).into_owned()
    }

    pub fn reply(&self) -> Option<String> {
        self.reply
            .as_ref()
            .map(|r| String::from_utf8_lossy(r).into_owned())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }
}

pub const QUIET: &str = r#"{"verbose":false,"pedantic":false,"headers":true,"protocol":1}"#;
