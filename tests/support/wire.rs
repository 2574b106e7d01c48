use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use super::{DEADLINE, show};

/// A byte stream that is read by lines and by lengths, each within a deadline.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    buf: Vec<u8>,
    eof: bool,
    deadline: Duration,
}

impl Wire {
    pub fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("TCP_NODELAY");
        // A peer that does not read must not hang the test either.
        stream
            .set_write_timeout(Some(DEADLINE))
            .expect("a write timeout");
        Self {
            stream,
            buf: Vec::new(),
            eof: false,
            deadline: DEADLINE,
        }
    }

    pub fn dial(port: u16) -> std::io::Result<Self> {
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map(Self::new)
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub fn set_deadline(&mut self, deadline: Duration) {
        self.deadline = deadline;
    }

    /// Sends, and fails the test if the peer is gone.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("sending");
    }

    /// Sends to a peer that may have closed already.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Reads more into the buffer: false at the end of the stream. A reset is an end too: whoever
    /// closes with unread input resets.
    fn fill(&mut self, until: Instant) -> bool {
        let mut chunk = [0; 16384];
        loop {
            if self.eof {
                return false;
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "nothing more within the deadline, unread: {}",
                show(&self.buf)
            );
            self.stream
                .set_read_timeout(Some(left))
                .expect("a read timeout");
            match self.stream.read(&mut chunk) {
                Ok(0) => self.eof = true,
                Ok(n) => {
                    self.buf.extend_from_slice(&chunk[..n]);
                    return true;
                }
                Err(e)
                    if matches!(e.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) =>
                {
                    self.eof = true;
                }
                Err(e)
                    if matches!(
                        e.kind(),
                        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                    ) => {}
                Err(e) => panic!("reading: {e}"),
            }
        }
    }

    /// A line with its end removed, or None at the end of the stream.
    pub fn line(&mut self) -> Option<Vec<u8>> {
        let until = Instant::now() + self.deadline;
        let mut seen = 0;
        loop {
            if let Some(end) = self.buf[seen..].iter().position(|b| *b == b'\n') {
                let mut line: Vec<u8> = self.buf.drain(..=seen + end).collect();
                line.pop();
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                return Some(line);
            }
            seen = self.buf.len();
            if !self.fill(until) {
                assert!(
                    self.buf.is_empty(),
                    "half a line before the end: {}",
                    show(&self.buf)
                );
                return None;
            }
        }
    }

    /// Exactly `len` bytes.
    pub fn exact(&mut self, len: usize) -> Vec<u8> {
        let until = Instant::now() + self.deadline;
        while self.buf.len() < len {
            assert!(
                self.fill(until),
                "the stream ended inside a payload: {}",
                show(&self.buf)
            );
        }
        self.buf.drain(..len).collect()
    }

    /// A payload of `len` bytes and the line end behind it.
    pub fn payload(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = self.exact(len + 2);
        assert!(
            bytes.ends_with(b"\r\n"),
            "payload without its end: {}",
            show(&bytes)
        );
        bytes.truncate(len);
        bytes
    }

    /// Everything up to the end of the stream.
    pub fn rest(&mut self) -> Vec<u8> {
        let until = Instant::now() + self.deadline;
        while self.fill(until) {}
        std::mem::take(&mut self.buf)
    }

    /// True if something was already read or arrives within `wait`; the end of the stream counts.
    pub fn readable(&mut self, wait: Duration) -> bool {
        if !self.buf.is_empty() || self.eof {
            return true;
        }
        self.stream
            .set_read_timeout(Some(wait))
            .expect("a read timeout");
        !matches!(self.stream.peek(&mut [0]), Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }
}
