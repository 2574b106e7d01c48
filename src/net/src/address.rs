//! When an address of this machine goes away.
//!
//! The system keeps a connection whose own address is gone (another network, a new lease) and tries
//! to send on it for as long as it is allowed to. Where the system says so (Linux, netlink), such a
//! connection is known at once; elsewhere its timeouts have to do.

use std::net::{IpAddr, UdpSocket};

/// Whether an address is still one of this machine's: a socket can be bound to it.
pub fn is_ours(address: IpAddr) -> bool {
    match UdpSocket::bind((address, 0)) {
        Ok(_) => true,
        // Anything else (no descriptors) says nothing about the address.
        Err(error) => error.kind() != std::io::ErrorKind::AddrNotAvailable,
    }
}

/// The address that this machine has on the way out, if there is one: what to tell peers that cannot
/// know it. Nothing is sent for it.
pub fn outward() -> Option<IpAddr> {
    // Addresses that nobody has (RFC 5737): the system only looks up the route.
    let socket = UdpSocket::bind(("0.0.0.0", 0)).ok()?;
    socket.connect(("192.0.2.1", 9)).ok()?;
    let ours = socket.local_addr().ok()?.ip();
    (!ours.is_unspecified() && !ours.is_loopback()).then_some(ours)
}

pub use watch::Watch;

#[cfg(any(target_os = "linux", target_os = "android"))]
mod watch {
    use std::io;
    use std::os::fd::OwnedFd;

    use async_io::Async;
    use rustix::net::netlink::SocketAddrNetlink;
    use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

    /// Netlink's groups of changes to addresses, of IPv4 and of IPv6.
    const GROUPS: u32 = 0x10 | 0x100;

    /// Hears of changes to this machine's addresses.
    #[derive(Debug)]
    pub struct Watch {
        socket: Async<OwnedFd>,
    }

    impl Watch {
        /// Listens from now on.
        pub fn start() -> io::Result<Self> {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let kind = SocketType::RAW;
            // Protocol 0 is NETLINK_ROUTE.
            let socket = socket_with(AddressFamily::NETLINK, kind, flags, None)?;
            bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
            Ok(Watch {
                socket: Async::new_nonblocking(socket)?,
            })
        }

        /// Ends when something has changed since the last call.
        pub async fn changed(&mut self) -> io::Result<()> {
            self.socket.readable().await?;
            // What changed does not matter: whoever asks looks at its own address.
            let mut scrap = [0u8; 4096];
            loop {
                match recv(&self.socket, &mut scrap, RecvFlags::empty()) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    // More came than the system keeps: that is a change too.
                    Err(rustix::io::Errno::AGAIN | rustix::io::Errno::NOBUFS) => return Ok(()),
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod watch {
    use std::io;

    /// Hears of nothing on this system.
    #[derive(Debug)]
    pub struct Watch(());

    impl Watch {
        /// Not served by this system.
        pub fn start() -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        /// Never ends.
        pub async fn changed(&mut self) -> io::Result<()> {
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn only_our_own_addresses_are_ours() {
        assert!(is_ours(Ipv4Addr::LOCALHOST.into()));
        // For documentation only: nobody has it.
        assert!(!is_ours(Ipv4Addr::new(192, 0, 2, 77).into()));
    }
}
