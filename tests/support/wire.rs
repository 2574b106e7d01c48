use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use super::{DEADLINE, show};

/// A byte stream, in clear or under TLS, that is read by lines and by lengths, each within a deadline.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
    buf: Vec<u8>,
    eof: bool,
    /// Why TLS ended, if not by a goodbye.
    failure: Option<String>,
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
            tls: None,
            buf: Vec::new(),
            eof: false,
            failure: None,
            deadline: DEADLINE,
        }
    }

    pub fn dial(port: u16) -> io::Result<Self> {
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map(Self::new)
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// TLS from here on, to the end of the handshake as far as this side can tell: with TLS 1.3 the
    /// peer may still refuse our certificate.
    pub fn secure(&mut self, config: &Arc<ClientConfig>) -> io::Result<()> {
        assert!(
            self.buf.is_empty(),
            "in clear where TLS begins: {}",
            show(&self.buf)
        );
        let name = ServerName::try_from("localhost").expect("a name");
        let session = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
        let tls = self.tls.insert(Box::new(session));
        self.stream.set_read_timeout(Some(self.deadline))?;
        while tls.is_handshaking() {
            tls.complete_io(&mut self.stream)?;
        }
        Ok(())
    }

    /// The session, if there is one.
    pub fn tls(&self) -> Option<&ClientConnection> {
        self.tls.as_deref()
    }

    /// Why TLS ended, if not by a goodbye.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    pub fn set_deadline(&mut self, deadline: Duration) {
        self.deadline = deadline;
    }

    /// Sends, and fails the test if the peer is gone.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("sending");
    }

    /// Sends to a peer that may have closed already.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        match &mut self.tls {
            None => self.stream.write_all(bytes.as_ref()),
            Some(tls) => {
                let mut stream = rustls::Stream::new(tls.as_mut(), &mut self.stream);
                stream.write_all(bytes.as_ref())?;
                stream.flush()
            }
        }
    }

    fn read(&mut self, chunk: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.stream.read(chunk),
            Some(tls) => rustls::Stream::new(tls.as_mut(), &mut self.stream).read(chunk),
        }
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
            match self.read(&mut chunk) {
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
                // rustls: no goodbye, or a word on what is wrong.
                Err(e) if self.tls.is_some() && e.kind() == ErrorKind::UnexpectedEof => {
                    self.eof = true;
                }
                Err(e) if self.tls.is_some() && e.kind() == ErrorKind::InvalidData => {
                    self.failure = Some(e.to_string());
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

    /// Waits for a byte or for the end, and says whether it is the end.
    pub fn is_at_end(&mut self) -> bool {
        let until = Instant::now() + self.deadline;
        self.buf.is_empty() && !self.fill(until)
    }

    /// Everything up to the end of the stream.
    pub fn rest(&mut self) -> Vec<u8> {
        let until = Instant::now() + self.deadline;
        while self.fill(until) {}
        std::mem::take(&mut self.buf)
    }

    /// True if something was already read or arrives within `wait`; the end of the stream counts, and
    /// so does whatever TLS has to say to itself.
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
