//! What carries the bytes of a link: TCP. TLS, WebSocket and S2 become further kinds, each a
//! transform of bytes; neither driver nor core will know them.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::task::{Context, Poll, ready};

use async_io::Async;

/// A connected byte stream.
pub struct Transport {
    socket: Async<TcpStream>,
    /// The last read filled its buffer, or the reactor said there is something: reading may bring
    /// bytes. After a short read it would only bring "try again", a system call for nothing.
    readable: bool,
    /// The same for writing: false from "try again" until the reactor says there is room.
    writable: bool,
}

impl Transport {
    /// A plain TCP connection.
    pub fn tcp(socket: Async<TcpStream>) -> Self {
        Transport {
            socket,
            readable: false,
            writable: true,
        }
    }

    /// Whether a read may bring bytes without waiting.
    pub fn may_have_more(&self) -> bool {
        self.readable
    }

    /// Reads what is there; 0 is the end.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            if !self.readable {
                ready!(self.socket.poll_readable(cx))?;
                self.readable = true;
            }
            match self.socket.get_ref().read(into) {
                Ok(count) => {
                    self.readable = count == into.len();
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Writes as much as is taken.
    pub fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            if !self.writable {
                ready!(self.socket.poll_writable(cx))?;
                self.writable = true;
            }
            let written = match pieces {
                [only] => self.socket.get_ref().write(only),
                _ => self.socket.get_ref().write_vectored(pieces),
            };
            match written {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return Poll::Ready(done),
            }
        }
    }

    /// Nothing more will be written.
    pub fn shutdown(&mut self) -> io::Result<()> {
        self.socket.get_ref().shutdown(Shutdown::Write)
    }
}
