//! What carries the bytes of a link: TCP, TLS over it, and S2 or WebSocket frames over either.
//! Transforms of bytes; neither driver nor core knows them, but for the place in the stream where
//! one begins ([`Upgrade`]).

use std::io::{self, IoSlice};
use std::net::{IpAddr, TcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_io::{Async, Timer};
use petiole_core::config::WebScheme;
use petiole_core::link::websocket::Farewell;
use petiole_core::link::{Encoding, Secured, Upgrade};
use smol::future::{self, Future as _};

use crate::framing::Framing;
use crate::tcp::Tcp;
use crate::tls::{ClientTls, ServerTls, TlsFacts, TlsStream};
use crate::ws;

/// The first byte of a TLS record that opens a connection.
const TLS_HANDSHAKE: u8 = 0x16;

/// A connected byte stream.
pub struct Transport {
    carrier: Carrier,
    framing: Option<Box<Framing>>,
    upgrading: Option<Upgrade>,
    /// Of a link that may be under TLS. Boxed: the others are many.
    means: Option<Box<Means>>,
}

/// Whether TLS may begin now.
pub type Gate = Arc<dyn Fn() -> bool + Send + Sync>;

/// What TLS may begin with.
struct Means {
    side: Side,
    gate: Option<Gate>,
    /// Until when it may still begin.
    patience: Option<Timer>,
}

/// What TLS is done with, should the link want it.
#[derive(Clone)]
pub enum Side {
    /// We dialled a host of this name.
    Client(ClientTls, Arc<str>),
    /// We accepted.
    Server(ServerTls),
}

/// A byte stream below any frames.
pub(crate) enum Carrier {
    Tcp(Tcp),
    Tls(Box<TlsStream>),
    /// Being changed from one to the other, or broken by an attempt to.
    None,
}

impl Transport {
    /// A TCP connection that was accepted, and is never under TLS.
    pub fn clear(socket: Async<TcpStream>) -> Self {
        Transport {
            carrier: Carrier::Tcp(Tcp::new(socket)),
            framing: None,
            upgrading: None,
            means: None,
        }
    }

    /// A TCP connection, in clear for now.
    pub fn new(socket: Async<TcpStream>, side: Side) -> Self {
        let tcp = match side {
            Side::Client(..) => Tcp::dialled(socket),
            Side::Server(_) => Tcp::new(socket),
        };
        let means = Means {
            side,
            gate: None,
            patience: None,
        };
        Transport {
            carrier: Carrier::Tcp(tcp),
            framing: None,
            upgrading: None,
            means: Some(Box::new(means)),
        }
    }

    /// Asked whether TLS may begin, where the peer is free to begin it. If not, the upgrade fails
    /// with [`io::ErrorKind::QuotaExceeded`].
    pub fn set_gate(&mut self, gate: Gate) {
        if let Some(means) = &mut self.means {
            means.gate = Some(gate);
        }
    }

    /// Our own address, of a connection that has one.
    pub fn local_address(&mut self) -> Option<IpAddr> {
        let tcp = match &mut self.carrier {
            Carrier::Tcp(tcp) => tcp,
            Carrier::Tls(tls) => tls.tcp(),
            Carrier::None => return None,
        };
        tcp.local_address().ok().map(|address| address.ip())
    }

    /// Whether a read may bring bytes without waiting.
    pub fn may_have_more(&self) -> bool {
        let framed = self.framing.as_ref();
        framed.is_some_and(|framing| framing.may_have_more()) || self.carrier.may_have_more()
    }

    /// Reads what is there; 0 is the end.
    #[inline]
    pub fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        match &mut self.framing {
            None => self.carrier.poll_read(cx, into),
            Some(framing) => framing.poll_read(&mut self.carrier, cx, into),
        }
    }

    /// Writes as much as is taken. Under TLS, S2 and WebSocket that may still have to be flushed.
    #[inline]
    pub fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.framing {
            None => self.carrier.poll_write(cx, pieces),
            Some(framing) => framing.poll_write(&mut self.carrier, cx, pieces),
        }
    }

    /// Writes out what was taken.
    #[inline]
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.framing {
            None => self.carrier.poll_flush(cx),
            Some(framing) => framing.poll_flush(&mut self.carrier, cx),
        }
    }

    /// Nothing more will be written: says so in every layer that has a word for it.
    pub fn shutdown(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if let Some(framing) = &mut self.framing {
            framing.close();
            // A peer that does not take it is not waited for.
            if let Poll::Ready(Err(error)) = framing.poll_flush(&mut self.carrier, cx) {
                return Err(error);
            }
        }
        match &mut self.carrier {
            Carrier::Tcp(tcp) => tcp.shutdown(),
            Carrier::Tls(tls) => tls.shutdown(),
            Carrier::None => Ok(()),
        }
    }

    /// What the peer of a line that was dialled has not taken yet is not sent any more. What a hub
    /// gets of a link that we gave up could end the next one, if it comes late enough.
    pub fn forget(&mut self) {
        match &mut self.carrier {
            Carrier::Tcp(tcp) => tcp.forget(),
            Carrier::Tls(tls) => tls.tcp().forget(),
            Carrier::None => {}
        }
    }

    /// Reads what nobody will look at, as it is on the wire.
    pub fn poll_discard(
        &mut self,
        cx: &mut Context<'_>,
        scrap: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.carrier {
            Carrier::Tcp(tcp) => tcp.poll_read(cx, scrap),
            Carrier::Tls(tls) => tls.tcp().poll_read(cx, scrap),
            Carrier::None => Poll::Ready(Ok(0)),
        }
    }

    /// Whether S2 or WebSocket frames are used.
    #[inline]
    pub fn is_framed(&self) -> bool {
        self.framing.is_some()
    }

    /// How what is written from now on is framed.
    pub fn set_encoding(&mut self, encoding: Encoding) {
        if let Some(framing) = &mut self.framing {
            framing.set_encoding(encoding);
        }
    }

    /// In which words [`Transport::shutdown`] ends a WebSocket: without them it is going away.
    pub fn set_farewell(&mut self, farewell: Farewell) {
        if let Some(framing) = &mut self.framing {
            framing.set_farewell(farewell);
        }
    }

    /// Carries what follows otherwise. Everything before was flushed; `unread` was read and follows.
    /// Then poll [`Transport::poll_upgrade`].
    pub fn begin(&mut self, upgrade: Upgrade, unread: Vec<u8>) -> io::Result<()> {
        self.upgrading = Some(upgrade);
        match upgrade {
            Upgrade::Tls => self.begin_tls(&unread),
            Upgrade::TlsIfOffered => {
                if let Some(means) = &mut self.means
                    && let Side::Server(tls) = &means.side
                {
                    means.patience = Some(Timer::after(tls.timeout()));
                }
                Ok(())
            }
            Upgrade::S2 => {
                self.framing = Some(Box::new(Framing::s2(unread)));
                Ok(())
            }
        }
    }

    /// Whether [`Transport::poll_upgrade`] has not ended.
    #[inline]
    pub fn is_upgrading(&self) -> bool {
        self.upgrading.is_some()
    }

    /// Goes on with an upgrade to its end.
    pub fn poll_upgrade(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Secured>> {
        if self.upgrading == Some(Upgrade::TlsIfOffered)
            && let Carrier::Tcp(tcp) = &mut self.carrier
            && let Some(means) = &mut self.means
        {
            let first = match tcp.poll_first_byte(cx) {
                Poll::Ready(first) => first?,
                // Who waits to be spoken to does not begin with TLS.
                Poll::Pending => {
                    let Some(timer) = &mut means.patience else {
                        return Poll::Pending;
                    };
                    ready!(Pin::new(timer).poll(cx));
                    None
                }
            };
            means.patience = None;
            if first != Some(TLS_HANDSHAKE) {
                self.upgrading = None;
                return Poll::Ready(Ok(Secured::default()));
            }
            if means.gate.as_ref().is_some_and(|may_begin| !may_begin()) {
                return Poll::Ready(Err(io::ErrorKind::QuotaExceeded.into()));
            }
            self.begin_tls(&[])?;
        }
        let mut secured = Secured::default();
        if self.upgrading != Some(Upgrade::S2)
            && let Carrier::Tls(tls) = &mut self.carrier
        {
            ready!(tls.poll_handshake(cx))?;
            let TlsFacts {
                version,
                suite,
                resumed,
                peer,
            } = tls.facts();
            log::debug!("TLS handshake complete");
            log::debug!(
                "TLS version {version}, cipher suite {suite}{}",
                if resumed { ", resumed" } else { "" }
            );
            secured = Secured {
                tls: true,
                certificate: peer.map(Box::new),
            };
        }
        self.upgrading = None;
        Poll::Ready(Ok(secured))
    }

    /// TLS from the next byte on, to its end.
    pub async fn secure(&mut self) -> io::Result<Secured> {
        self.begin(Upgrade::Tls, Vec::new())?;
        future::poll_fn(|cx| self.poll_upgrade(cx)).await
    }

    /// Whether the peer's first byte is that of TLS.
    pub async fn begins_with_tls(&mut self) -> io::Result<bool> {
        let Carrier::Tcp(tcp) = &mut self.carrier else {
            return Ok(false);
        };
        let first = future::poll_fn(|cx| tcp.poll_first_byte(cx)).await?;
        Ok(first == Some(TLS_HANDSHAKE))
    }

    /// Asks for WebSocket, and frames what follows.
    pub async fn upgrade_to_websocket(&mut self, request: &ws::Request) -> io::Result<()> {
        self.send(request.bytes()).await?;
        let mut received = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            let count = self.receive(&mut chunk).await?;
            received.extend_from_slice(chunk.get(..count).unwrap_or_default());
            if let Some((accepted, used)) = request.check(&received).map_err(io::Error::other)? {
                let unread = received.split_off(used);
                self.frame(Framing::websocket(accepted, unread));
                return Ok(());
            }
            if count == 0 {
                return Err(io::Error::other(ws::WsError::NoAnswer));
            }
        }
    }

    /// How HTTP would name what carries it.
    pub(crate) fn web_scheme(&self) -> WebScheme {
        match self.carrier {
            Carrier::Tls(_) => WebScheme::Https,
            Carrier::Tcp(_) | Carrier::None => WebScheme::Http,
        }
    }

    /// Frames what follows.
    pub(crate) fn frame(&mut self, framing: Framing) {
        self.framing = Some(Box::new(framing));
    }

    /// Writes all of it, below any frames.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let count =
                future::poll_fn(|cx| self.carrier.poll_write(cx, &[IoSlice::new(rest)])).await?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            rest = rest.get(count..).unwrap_or_default();
        }
        future::poll_fn(|cx| self.carrier.poll_flush(cx)).await
    }

    /// Reads what there is, below any frames; 0 is the end.
    pub(crate) async fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        future::poll_fn(|cx| self.carrier.poll_read(cx, into)).await
    }

    /// Nothing more will be written: see [`Transport::shutdown`].
    pub(crate) async fn end(&mut self) -> io::Result<()> {
        future::poll_fn(|cx| Poll::Ready(self.shutdown(cx))).await
    }

    fn begin_tls(&mut self, unread: &[u8]) -> io::Result<()> {
        let Carrier::Tcp(tcp) = std::mem::replace(&mut self.carrier, Carrier::None) else {
            return Err(io::Error::other("TLS within TLS"));
        };
        let stream = match self.means.as_ref().map(|means| &means.side) {
            Some(Side::Client(tls, host)) => TlsStream::client(tcp, tls, host, unread),
            Some(Side::Server(tls)) => TlsStream::server(tcp, tls, unread),
            None => return Err(io::Error::other("TLS is not configured")),
        };
        self.carrier = Carrier::Tls(Box::new(stream?));
        Ok(())
    }
}

impl Carrier {
    fn may_have_more(&self) -> bool {
        match self {
            Carrier::Tcp(tcp) => tcp.may_have_more(),
            Carrier::Tls(tls) => tls.may_have_more(),
            Carrier::None => false,
        }
    }

    #[inline]
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Carrier::Tcp(tcp) => tcp.poll_read(cx, into),
            Carrier::Tls(tls) => tls.poll_read(cx, into),
            Carrier::None => Poll::Ready(Ok(0)),
        }
    }

    #[inline]
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Carrier::Tcp(tcp) => tcp.poll_write(cx, pieces),
            Carrier::Tls(tls) => tls.poll_write(cx, pieces),
            Carrier::None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    #[inline]
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Carrier::Tls(tls) => tls.poll_flush(cx),
            Carrier::Tcp(_) | Carrier::None => Poll::Ready(Ok(())),
        }
    }
}
