//! A TCP connection that is polled in place: no system call that is known to bring nothing.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::task::{Context, Poll, ready};

use async_io::Async;

use crate::dial;

/// A TCP connection.
pub struct Tcp {
    socket: Async<TcpStream>,
    /// The last read filled its buffer, or the reactor said there is something: reading may bring
    /// bytes. After a short read it would only bring "try again", a system call for nothing.
    readable: bool,
    /// The same for writing: false from "try again" until the reactor says there is room.
    writable: bool,
    /// The system is to hold little unsent ([`crate::dial::prepare`]): it is asked before each write,
    /// because a write never waits while the last packet it has put together has room, which may be 64
    /// KiB.
    is_careful: bool,
}

impl Tcp {
    /// Of a connected socket.
    pub fn new(socket: Async<TcpStream>) -> Self {
        Tcp {
            is_careful: dial::holds_little(&socket),
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
            if self.is_careful && !has_room(self.socket.get_ref()) {
                self.writable = false;
                continue;
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

    /// The first byte the peer sent, which stays to be read; `None` is the end.
    pub fn poll_first_byte(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<u8>>> {
        let mut first = [0];
        loop {
            match self.socket.get_ref().peek(&mut first) {
                Ok(count) => return Poll::Ready(Ok(first.first().copied().filter(|_| count > 0))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.socket.poll_readable(cx))?;
                    self.readable = true;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Our own end.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.socket.get_ref().local_addr()
    }

    /// Nothing more will be written.
    pub fn shutdown(&mut self) -> io::Result<()> {
        self.socket.get_ref().shutdown(Shutdown::Write)
    }
}

/// Whether the system wants more to send right now. An error is left for the write to tell.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn has_room(socket: &TcpStream) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut wanted = [PollFd::new(socket, PollFlags::OUT)];
    !matches!(poll(&mut wanted, Some(&Timespec::default())), Ok(0))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn has_room(_: &TcpStream) -> bool {
    true
}
