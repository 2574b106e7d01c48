//! Leafnode peers that speak raw bytes: a hub for a solicitor under test, a leaf for an acceptor.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use serde_json::{Value, json};

use super::{DEADLINE, Wire, show};

/// A listener that takes leafnode connections and says nothing by itself.
#[derive(Debug)]
pub struct FakeHub {
    port: u16,
    accepted: mpsc::Receiver<TcpStream>,
    ended: Arc<AtomicBool>,
}

impl FakeHub {
    /// Listens on a free port.
    pub fn start() -> Self {
        Self::start_on(0)
    }

    /// Listens on a given port (a hub that comes back).
    pub fn start_on(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("a free port");
        let port = listener.local_addr().expect("a bound port").port();
        let ended = Arc::new(AtomicBool::new(false));
        let (sender, accepted) = mpsc::channel();
        let end = Arc::clone(&ended);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if end.load(Ordering::Acquire) || sender.send(stream).is_err() {
                    break;
                }
            }
        });
        Self {
            port,
            accepted,
            ended,
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The next connection, in the order they came. Nothing was said on it yet.
    pub fn accept(&self) -> LeafLink {
        LeafLink::new(
            self.accepted
                .recv_timeout(DEADLINE)
                .expect("a solicitor connects"),
        )
    }

    /// The next connection if one comes within `wait`: for solicitors that must stay away.
    pub fn try_accept(&self, wait: Duration) -> Option<LeafLink> {
        self.accepted.recv_timeout(wait).ok().map(LeafLink::new)
    }

    /// Takes the next connection through a plain handshake without compression, with an INFO of
    /// the usual kind: returns the link and the solicitor's CONNECT.
    pub fn accept_leaf(&self) -> (LeafLink, Value) {
        let mut link = self.accept();
        link.send_info(&self.info());
        let connect = link.expect_connect();
        let mut second = self.info();
        second["connect_info"] = json!(true);
        second["remote_account"] = json!("$G");
        link.send_info(&second);
        (link, connect)
    }

    /// A usual first INFO of this hub; change what the test is about.
    pub fn info(&self) -> Value {
        json!({
            "server_id": "NAFAKEHUBAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "server_name": "FAKE",
            "version": "2.15.1",
            "proto": 1,
            "host": "127.0.0.1",
            "port": self.port,
            "headers": true,
            "auth_required": true,
            "max_payload": 1_048_576,
            "client_id": 5,
            "nonce": "AAAAAAAAAAAAAAA",
            "compression": "off",
            "info_on_connect": true,
            "leafnode_urls": [format!("127.0.0.1:{}", self.port)],
        })
    }
}

impl Drop for FakeHub {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        // Wakes the thread, which then closes the listener.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

/// What a leafnode peer says.
#[derive(Debug, Clone, PartialEq)]
pub enum LeafOp {
    Info(Value),
    Connect(Value),
    Ping,
    Pong,
    Err(String),
    /// The arguments behind `LS+`.
    Sub(String),
    /// The arguments behind `LS-`.
    Unsub(String),
    /// The arguments behind `LMSG`, without the size, and the payload.
    Msg {
        args: String,
        payload: Vec<u8>,
    },
    /// The arguments behind `HMSG`, without the sizes, the header block and the payload.
    HMsg {
        args: String,
        header: Vec<u8>,
        payload: Vec<u8>,
    },
    Other(Vec<u8>),
}

/// One side of a leafnode link.
#[derive(Debug)]
pub struct LeafLink {
    pub wire: Wire,
}

impl LeafLink {
    pub fn new(stream: TcpStream) -> Self {
        Self {
            wire: Wire::new(stream),
        }
    }

    /// Connects to a leafnode listener; nothing was read yet.
    pub fn dial(port: u16) -> Self {
        Self {
            wire: Wire::dial(port).expect("connecting to the leafnode port"),
        }
    }

    /// Connects to a leafnode listener and shakes hands without compression, with `connect` as
    /// the CONNECT: returns both INFOs.
    pub fn solicit(port: u16, connect: &Value) -> (Self, Value, Value) {
        let mut link = Self::dial(port);
        let first = link.expect_info();
        link.send(format!("CONNECT {connect}\r\n"));
        let second = link.expect_info();
        (link, first, second)
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.wire.send(bytes);
    }

    /// Sends INFO the way servers do, with a space before the line end.
    pub fn send_info(&mut self, info: &Value) {
        self.send(format!("INFO {info} \r\n"));
    }

    /// The next operation as it is, None at the end of the stream.
    pub fn raw_op(&mut self) -> Option<LeafOp> {
        let line = self.wire.line()?;
        let text = String::from_utf8_lossy(&line).into_owned();
        let (verb, args) = text.split_once(' ').unwrap_or((&text, ""));
        let json =
            || serde_json::from_str(args).unwrap_or_else(|e| panic!("{e} in {}", show(&line)));
        let size = |word: &str| {
            word.parse::<usize>()
                .unwrap_or_else(|e| panic!("{e} in {}", show(&line)))
        };
        Some(match verb {
            "INFO" => LeafOp::Info(json()),
            "CONNECT" => LeafOp::Connect(json()),
            "PING" => LeafOp::Ping,
            "PONG" => LeafOp::Pong,
            "-ERR" => LeafOp::Err(args.trim_matches('\'').to_owned()),
            "LS+" => LeafOp::Sub(args.to_owned()),
            "LS-" => LeafOp::Unsub(args.to_owned()),
            "LMSG" => {
                let (args, total) = args.rsplit_once(' ').expect("a subject and a size");
                LeafOp::Msg {
                    args: args.to_owned(),
                    payload: self.wire.payload(size(total)),
                }
            }
            "HMSG" => {
                let (args, total) = args.rsplit_once(' ').expect("a subject and two sizes");
                let (args, header) = args.rsplit_once(' ').expect("a subject and two sizes");
                let (header, total) = (size(header), size(total));
                let mut block = self.wire.payload(total);
                let payload = block.split_off(header);
                LeafOp::HMsg {
                    args: args.to_owned(),
                    header: block,
                    payload,
                }
            }
            _ => LeafOp::Other(line),
        })
    }

    /// The next operation that is not a PING; PINGs are answered.
    pub fn op(&mut self) -> Option<LeafOp> {
        loop {
            match self.raw_op() {
                Some(LeafOp::Ping) => self.send("PONG\r\n"),
                other => return other,
            }
        }
    }

    pub fn expect_info(&mut self) -> Value {
        match self.op() {
            Some(LeafOp::Info(info)) => info,
            other => panic!("INFO was expected, not {other:?}"),
        }
    }

    pub fn expect_connect(&mut self) -> Value {
        match self.op() {
            Some(LeafOp::Connect(connect)) => connect,
            other => panic!("CONNECT was expected, not {other:?}"),
        }
    }

    /// Reads on until this operation comes: returns what came before.
    pub fn wait_for(&mut self, wanted: &LeafOp) -> Vec<LeafOp> {
        let mut before = Vec::new();
        loop {
            match self.op() {
                Some(op) if op == *wanted => return before,
                Some(op) => before.push(op),
                None => panic!("closed before {wanted:?}, after {before:?}"),
            }
        }
    }

    /// Reads on until interest in each of these is announced: bursts have no order.
    pub fn wait_for_subs(&mut self, args: &[&str]) {
        let mut missing = args.to_vec();
        while !missing.is_empty() {
            match self.op() {
                Some(LeafOp::Sub(args)) => missing.retain(|m| *m != args),
                Some(_) => {}
                None => panic!("closed before interest in {missing:?}"),
            }
        }
    }

    /// What the peer still says before it answers a PING.
    pub fn sync(&mut self) -> Vec<LeafOp> {
        self.send("PING\r\n");
        self.wait_for(&LeafOp::Pong)
    }

    /// The peer closes, and says nothing more.
    pub fn expect_close(&mut self) {
        assert_eq!(self.op(), None);
    }

    pub fn expect_err_close(&mut self, text: &str) {
        assert_eq!(self.op(), Some(LeafOp::Err(text.to_owned())));
        self.expect_close();
    }
}
