//! A TCP connection that is polled in place: no system call that is known to bring nothing.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_io::Async;
use socket2::SockRef;

use crate::dial;

/// A TCP connection.
pub struct Tcp {
    socket: Async<TcpStream>,
    /// The last read filled its buffer, or the reactor said there is something: reading may bring
    /// bytes. After a short read it would only bring "try again", a system call for nothing.
    readable: bool,
    /// The same for writing: false from "try again" until the reactor says there is room.
    writable: bool,
    /// The system is to hold little unsent ([`Tcp::dialled`]): it is asked before a write, because a
    /// write never waits while the last packet it has put together has room, which may be 64 KiB.
    is_careful: bool,
    /// Bytes for which it need not be asked again: it held less than [`dial::UNSENT`] before so many
    /// were written.
    room: usize,
}

impl Tcp {
    /// Of a connected socket.
    pub fn new(socket: Async<TcpStream>) -> Self {
        Tcp {
            socket,
            readable: false,
            writable: true,
            is_careful: false,
            room: 0,
        }
    }

    /// Of a socket that was dialled: the line may be slow, and die without a word.
    pub fn dialled(socket: Async<TcpStream>) -> Self {
        Tcp {
            is_careful: dial::prepare(&socket),
            ..Self::new(socket)
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
            let wanted: usize = pieces.iter().map(|piece| piece.len()).sum();
            if self.is_careful && wanted > self.room {
                if !has_room(self.socket.get_ref()) {
                    self.writable = false;
                    continue;
                }
                self.room = dial::UNSENT;
            }
            let written = match pieces {
                [only] => self.socket.get_ref().write(only),
                _ => self.socket.get_ref().write_vectored(pieces),
            };
            match written {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => {
                    let count = *done.as_ref().unwrap_or(&0);
                    self.room = self.room.saturating_sub(count);
                    return Poll::Ready(done);
                }
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

    /// On a line that may be slow: what is not sent when the socket is closed is thrown away, and the
    /// peer is told so if it can be.
    pub fn forget(&mut self) {
        if self.is_careful {
            // Without it the rest is sent, as is the rule.
            let _ = SockRef::from(self.socket.get_ref()).set_linger(Some(Duration::ZERO));
        }
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

#[cfg(test)]
#[cfg(any(target_os = "linux", target_os = "android"))]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// What the other end reads of a connection that was closed, dialled or not.
    fn end(is_dialled: bool, is_forgotten: bool) -> io::Result<usize> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        let near = Async::new(near).unwrap();
        let mut tcp = match is_dialled {
            true => Tcp::dialled(near),
            false => Tcp::new(near),
        };
        if is_forgotten {
            tcp.forget();
        }
        drop(tcp);
        far.read(&mut [0])
    }

    #[test]
    fn only_a_line_to_a_hub_is_forgotten() {
        let kind = |end: io::Result<usize>| end.map_err(|error| error.kind());
        assert_eq!(kind(end(true, true)), Err(io::ErrorKind::ConnectionReset));
        assert_eq!(kind(end(true, false)), Ok(0));
        assert_eq!(kind(end(false, true)), Ok(0));
    }
}
