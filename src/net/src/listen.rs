//! A TCP listener: where it binds, and accepting that goes on whatever happens.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use async_io::{Async, Timer};

use crate::errno;

/// Peers that have connected and wait to be accepted. A gateway that comes back from a power cut
/// meets all its clients at once; with a short queue their SYNs are dropped and retried a second
/// later. The kernel lowers it to its own limit.
const BACKLOG: i32 = 1024;

/// The first pause after an error that another `accept` would meet again (no file descriptors).
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// The longest such pause: how long a client may wait once descriptors are free again.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// One line per second is enough to see a listener in trouble, and does not fill a flash disk.
const LOG_EVERY: Duration = Duration::from_secs(1);

/// A bound socket that takes connections.
#[derive(Debug)]
pub struct Listener {
    socket: Async<TcpListener>,
    local: SocketAddr,
    trouble: Trouble,
}

/// Why a listener could not be had. `Display` is nats-server's line.
#[derive(Debug)]
pub struct ListenError {
    address: String,
    step: &'static str,
    cause: io::Error,
}

impl Listener {
    /// Binds `host` (an address, a name, or empty for every address) and `port` (0: the system
    /// chooses). Like nats-server, `0.0.0.0` and `::` both mean every address of both families.
    ///
    /// A name is looked up on the calling thread: call it at start, before the reactor has work.
    pub fn bind(host: &str, port: u16) -> Result<Listener, ListenError> {
        let failed = |step| {
            move |cause| ListenError {
                address: join(host, port),
                step,
                cause,
            }
        };
        let wanted = resolve(host, port).map_err(failed("lookup"))?;
        let socket = open_any(wanted).map_err(failed("bind"))?;
        let socket = Async::new(socket).map_err(failed("listen"))?;
        let local = socket.get_ref().local_addr().map_err(failed("listen"))?;
        Ok(Listener {
            socket,
            local,
            trouble: Trouble::default(),
        })
    }

    /// Where it listens; the port is the real one.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The next connection and its peer, with IPv4 peers as IPv4 addresses. Never gives up: an
    /// error is logged at most once per second and followed by a pause where one helps.
    pub async fn accept(&mut self) -> (Async<TcpStream>, SocketAddr) {
        loop {
            let error = match self.socket.accept().await {
                Ok((stream, peer)) => {
                    self.trouble.pause = None;
                    // Only speed is lost if the peer is already gone.
                    let _ = stream.get_ref().set_nodelay(true);
                    return (stream, canonical(peer));
                }
                Err(error) => error,
            };
            let answer = self.trouble.on(&error, Instant::now());
            if answer.log {
                log::error!(
                    "Error accepting on {}: {}",
                    self.local,
                    errno::words(&error)
                );
            }
            if let Some(pause) = answer.pause {
                Timer::after(pause).await;
            }
        }
    }
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ListenError {
            address,
            step,
            cause,
        } = self;
        let cause = errno::words(cause);
        write!(
            f,
            "Error listening on port: {address}, \"listen tcp {address}: {step}: {cause}\""
        )
    }
}

impl std::error::Error for ListenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

/// `host:port`, with brackets where the host has colons.
pub fn join(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// The one address a listener binds. Of a name's addresses an IPv4 one is preferred, as Go does.
fn resolve(host: &str, port: u16) -> io::Result<SocketAddr> {
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    if host.is_empty() {
        return Ok((Ipv6Addr::UNSPECIFIED, port).into());
    }
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok((ip, port).into());
    }
    let mut first = None;
    for address in (host, port).to_socket_addrs()? {
        if address.is_ipv4() {
            return Ok(address);
        }
        first.get_or_insert(address);
    }
    first.ok_or_else(|| io::Error::other("no such host"))
}

/// A wildcard of either family is bound as both; a kernel without IPv6 leaves IPv4.
fn open_any(address: SocketAddr) -> io::Result<TcpListener> {
    if !address.ip().is_unspecified() {
        return open(address);
    }
    let port = address.port();
    match open((Ipv6Addr::UNSPECIFIED, port).into()) {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            open((Ipv4Addr::UNSPECIFIED, port).into())
        }
        done => done,
    }
}

#[cfg(unix)]
fn open(address: SocketAddr) -> io::Result<TcpListener> {
    use rustix::net::{AddressFamily, SocketType, bind, listen, socket, sockopt};

    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = socket(family, SocketType::STREAM, None)?;
    // No child process may keep the port.
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    // A restart must not wait for the last connections' TIME_WAIT to end.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        // Only the wildcard takes IPv4 as well, whatever the system's default is.
        sockopt::set_ipv6_v6only(&socket, !address.ip().is_unspecified())?;
    }
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

#[cfg(not(unix))]
fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let _ = BACKLOG;
    TcpListener::bind(address)
}

/// A peer that came over IPv4 to a socket of both families looks like `::ffff:1.2.3.4`.
fn canonical(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

/// What an error of `accept` leads to.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    pause: Option<Duration>,
    log: bool,
}

/// The errors of `accept` so far: the last pause since a connection came, the last line.
#[derive(Debug, Default)]
struct Trouble {
    pause: Option<Duration>,
    logged: Option<Instant>,
}

impl Trouble {
    fn on(&mut self, error: &io::Error, now: Instant) -> Answer {
        let gone = matches!(
            error.kind(),
            io::ErrorKind::ConnectionAborted
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::Interrupted
        );
        if gone {
            // The error was about one peer that is no longer in the queue.
            return Answer {
                pause: None,
                log: false,
            };
        }
        let pause = match self.pause {
            None => PAUSE_MIN,
            Some(last) => (last * 2).min(PAUSE_MAX),
        };
        self.pause = Some(pause);
        let log = self
            .logged
            .is_none_or(|last| now.saturating_duration_since(last) >= LOG_EVERY);
        if log {
            self.logged = Some(now);
        }
        Answer {
            pause: Some(pause),
            log,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smol::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn every_kind_of_host_can_be_reached() {
        smol::block_on(async {
            for host in ["0.0.0.0", "::", "[::]", "", "localhost", "127.0.0.1"] {
                let mut listener = Listener::bind(host, 0).unwrap();
                let port = listener.local_addr().port();
                assert_ne!(port, 0);
                let client = Async::<TcpStream>::connect(([127, 0, 0, 1], port));
                let ((mut served, peer), client) =
                    smol::future::zip(listener.accept(), client).await;
                let mut client = client.unwrap();
                assert_eq!(peer, client.get_ref().local_addr().unwrap(), "{host}");
                assert!(served.get_ref().nodelay().unwrap());
                client.write_all(b"x").await.unwrap();
                let mut byte = [0];
                served.read_exact(&mut byte).await.unwrap();
                assert_eq!(&byte, b"x");
            }
        });
    }

    #[test]
    fn a_port_in_use_is_named() {
        for host in ["127.0.0.1", "0.0.0.0"] {
            let first = Listener::bind(host, 0).unwrap();
            let port = first.local_addr().port();
            assert_eq!(
                Listener::bind(host, port).unwrap_err().to_string(),
                format!(
                    "Error listening on port: {host}:{port}, \
                     \"listen tcp {host}:{port}: bind: address already in use\""
                )
            );
        }
    }

    #[test]
    fn a_foreign_address_is_named() {
        let error = Listener::bind("192.0.2.1", 4222).unwrap_err().to_string();
        assert!(
            error.ends_with("bind: cannot assign requested address\""),
            "{error}"
        );
    }

    #[test]
    fn hosts_are_joined_to_ports() {
        assert_eq!(join("a", 1), "a:1");
        assert_eq!(join("::1", 1), "[::1]:1");
    }

    #[test]
    fn pauses_grow_and_lines_are_few() {
        let full = io::Error::other("too many open files");
        let mut trouble = Trouble::default();
        let start = Instant::now();
        let mut now = start;
        let mut pauses = Vec::new();
        let mut lines = 0;
        while now - start < Duration::from_secs(10) {
            let answer = trouble.on(&full, now);
            lines += usize::from(answer.log);
            let pause = answer.pause.unwrap();
            pauses.push(pause);
            now += pause;
        }
        assert_eq!(pauses[..3], [10, 20, 40].map(Duration::from_millis));
        assert_eq!(pauses.last(), Some(&PAUSE_MAX));
        assert!((8..=11).contains(&lines), "{lines}");
    }

    #[test]
    fn a_lost_peer_costs_no_time() {
        for kind in [io::ErrorKind::ConnectionAborted, io::ErrorKind::Interrupted] {
            let answer = Trouble::default().on(&kind.into(), Instant::now());
            assert_eq!(
                answer,
                Answer {
                    pause: None,
                    log: false
                }
            );
        }
    }
}
