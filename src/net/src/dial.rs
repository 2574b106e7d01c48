//! Opening a TCP connection to a host that may have several addresses, each of which may be dead.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use async_io::{Async, Timer};
use smol::future::FutureExt;
use socket2::{SockRef, TcpKeepalive};

use crate::errno;
use crate::listen::join;

/// Why no connection was made. `Display` is in nats-server's words.
#[derive(Debug)]
#[non_exhaustive]
pub enum DialError {
    /// The name has no address, or nobody could say in time.
    Lookup {
        /// The name.
        host: String,
        /// What went wrong, in words.
        reason: String,
    },
    /// The last address tried did not take the connection.
    Connect {
        /// That address.
        address: String,
        /// What the system said.
        cause: io::Error,
    },
    /// The time was over before the last address tried answered.
    TimedOut {
        /// That address.
        address: String,
    },
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DialError::Lookup { host, reason } => {
                write!(f, "lookup for host \"{host}\": {reason}")
            }
            DialError::Connect { address, cause } => {
                write!(f, "dial tcp {address}: connect: {}", errno::words(cause))
            }
            DialError::TimedOut { address } => write!(f, "dial tcp {address}: i/o timeout"),
        }
    }
}

impl std::error::Error for DialError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            DialError::Connect { cause, .. } => Some(cause),
            _ => None,
        }
    }
}

/// Connects to `host` (a name, or an address with or without brackets) within `timeout`, name
/// look-up included.
///
/// The name is looked up anew each time, since a gateway outlives its hub's address. Its addresses
/// are tried in random order, so that many leafs spread over a hub; each gets an equal share of
/// the time that is left, so that a dead one cannot use it up.
pub async fn dial(host: &str, port: u16, timeout: Duration) -> Result<Async<TcpStream>, DialError> {
    let start = Instant::now();
    let mut addresses = resolve(host, port, timeout).await?;
    fastrand::shuffle(&mut addresses);
    let mut last = DialError::TimedOut {
        address: join(host, port),
    };
    let mut untried = addresses.len() as u32;
    for address in addresses {
        let left = timeout.saturating_sub(start.elapsed());
        if left.is_zero() {
            break;
        }
        match connect(address, left / untried.max(1)).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
        untried -= 1;
    }
    Err(last)
}

/// Bytes that the system may hold unsent: what a line of 64 kbit/s sends in a second. The rest waits
/// where it can be overtaken and counted.
pub(crate) const UNSENT: usize = 8 << 10;

/// Silence after which the system asks whether the peer is still there,
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
/// and how often it asks again.
const KEEPALIVE_STEP: Duration = Duration::from_secs(10);
/// How long what we send may go unacknowledged. A radio link that was out for longer has mostly
/// another address by then.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// Sets a connection up for a line that may be slow, and that may die without a word: its other end
/// is known to be gone within [`KEEPALIVE_IDLE`] and two steps. What the system does not serve is
/// left out. Answers whether the system holds little unsent.
pub(crate) fn prepare(stream: &Async<TcpStream>) -> bool {
    let socket = SockRef::from(stream.get_ref());
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE);
    #[cfg(unix)]
    let keepalive = keepalive.with_interval(KEEPALIVE_STEP).with_retries(2);
    is_served(socket.set_tcp_keepalive(&keepalive));
    #[cfg(any(target_os = "linux", target_os = "android"))]
    return {
        is_served(socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED)));
        is_served(socket.set_tcp_notsent_lowat(UNSENT as u32))
    };
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    false
}

fn is_served(set: io::Result<()>) -> bool {
    if let Err(error) = &set {
        log::debug!("a socket option is not served: {}", errno::words(error));
    }
    set.is_ok()
}

async fn connect(address: SocketAddr, timeout: Duration) -> Result<Async<TcpStream>, DialError> {
    let connected = async { Some(Async::<TcpStream>::connect(address).await) };
    match connected.or(expiry(timeout)).await {
        Some(Ok(stream)) => {
            // Only speed is lost if the peer is already gone.
            let _ = stream.get_ref().set_nodelay(true);
            Ok(stream)
        }
        Some(Err(cause)) => Err(DialError::Connect {
            address: address.to_string(),
            cause,
        }),
        None => Err(DialError::TimedOut {
            address: address.to_string(),
        }),
    }
}

/// The addresses of a host, at least one. Only a name costs a thread, which the system's resolver
/// needs: it blocks. A resolver that hangs keeps its thread for as long as it likes, not us.
async fn resolve(host: &str, port: u16, timeout: Duration) -> Result<Vec<SocketAddr>, DialError> {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Ok(vec![(ip, port).into()]);
    }
    let name = host.to_owned();
    let lookup = async {
        let found = move || (name.as_str(), port).to_socket_addrs();
        Some(smol::unblock(found).await)
    };
    let reason = match lookup.or(expiry(timeout)).await {
        Some(Ok(found)) => {
            let found: Vec<_> = found.collect();
            if !found.is_empty() {
                return Ok(found);
            }
            "no such host".into()
        }
        Some(Err(error)) => lookup_words(&error.to_string()),
        None => "i/o timeout".into(),
    };
    Err(DialError::Lookup {
        host: host.into(),
        reason,
    })
}

/// C libraries have several ways to say that a name does not exist.
fn lookup_words(text: &str) -> String {
    let text = text
        .strip_prefix("failed to lookup address information: ")
        .unwrap_or(text);
    match text {
        "Name or service not known"
        | "Name does not resolve"
        | "Name has no usable address"
        | "No address associated with hostname"
        | "nodename nor servname provided, or not known" => "no such host".into(),
        "Temporary failure in name resolution" | "Try again" => "server misbehaving".into(),
        other => other.to_lowercase(),
    }
}

async fn expiry<T>(timeout: Duration) -> Option<T> {
    Timer::after(timeout).await;
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::Listener;

    const SOON: Duration = Duration::from_secs(5);

    #[test]
    fn names_and_addresses_connect() {
        smol::block_on(async {
            let mut listener = Listener::bind("127.0.0.1", 0).unwrap();
            let port = listener.local_addr().port();
            for host in [
                "127.0.0.1",
                "localhost",
                "::ffff:127.0.0.1",
                "[::ffff:127.0.0.1]",
            ] {
                let (_, dialled) =
                    smol::future::zip(listener.accept(), dial(host, port, SOON)).await;
                let stream = dialled.unwrap_or_else(|error| panic!("{host}: {error}"));
                assert!(stream.get_ref().nodelay().unwrap());
            }
        });
    }

    #[test]
    fn a_refusal_is_in_gos_words() {
        smol::block_on(async {
            let listener = Listener::bind("127.0.0.1", 0).unwrap();
            let port = listener.local_addr().port();
            drop(listener);
            let error = dial("127.0.0.1", port, SOON).await.unwrap_err();
            let want = format!("dial tcp 127.0.0.1:{port}: connect: connection refused");
            assert_eq!(error.to_string(), want);
        });
    }

    #[test]
    fn a_name_without_an_address_is_named() {
        smol::block_on(async {
            let error = dial("no-such-host.invalid", 1, SOON).await.unwrap_err();
            let text = error.to_string();
            let start = "lookup for host \"no-such-host.invalid\": ";
            assert!(text.starts_with(start), "{text}");
        });
    }

    /// A listener whose queue is full answers no SYN: a dead address within one machine.
    #[test]
    #[cfg(target_os = "linux")]
    fn silence_ends_with_the_time() {
        smol::block_on(async {
            use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};
            let full = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
            bind(&full, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
            listen(&full, 0).unwrap();
            let address = SocketAddr::try_from(getsockname(&full).unwrap()).unwrap();
            let mut queued = Vec::new();
            let start = Instant::now();
            let error = loop {
                match dial("127.0.0.1", address.port(), Duration::from_millis(200)).await {
                    Ok(stream) => queued.push(stream),
                    Err(error) => break error,
                }
                assert!(queued.len() < 16);
            };
            assert_eq!(
                error.to_string(),
                format!("dial tcp {address}: i/o timeout")
            );
            assert!(start.elapsed() < Duration::from_secs(3));
        });
    }

    #[test]
    fn lookup_errors_are_in_gos_words() {
        for (text, want) in [
            (
                "failed to lookup address information: Name or service not known",
                "no such host",
            ),
            ("Name does not resolve", "no such host"),
            (
                "failed to lookup address information: Temporary failure in name resolution",
                "server misbehaving",
            ),
            ("Something New", "something new"),
        ] {
            assert_eq!(lookup_words(text), want);
        }
    }
}
