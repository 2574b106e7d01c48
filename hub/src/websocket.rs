//! The listener for clients and leafs that come over WebSocket: what `websocket` says, made ready,
//! and the way of a connection there up to where INFO is due.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_io::{Async, Timer};
use petiole_core::auth::users::Users;
use petiole_core::config::model::{Compression, Config, WebsocketListener};
use petiole_core::link::acceptor::LeafPort;
use petiole_core::link::websocket::{WebsocketPort, WebsocketVisit};
use petiole_core::link::{ClientTls, Secured};
use petiole_leaf::{FileError, Greeter};
use petiole_net::driver::linger;
use petiole_net::listen::{ListenError, Listener, join};
use petiole_net::tls;
use petiole_net::transport::Transport;
use petiole_net::ws::accept::{Kind, UpgradeError, Upgraded, Upgrades, turn_away_in_clear};
use smol::future::FutureExt as _;

use crate::throttle::Throttle;

/// Connections that may be in the handshakes at the same time: a request takes up to 16 KiB.
const MOST_HANDSHAKES: usize = 4096;

/// What is known of the listener before it listens.
pub(crate) struct Websocket {
    listener: WebsocketListener,
    door: Arc<Door>,
}

/// The listener as each connection needs to know it.
#[derive(Clone)]
pub(crate) struct WebsocketGate {
    door: Arc<Door>,
    clients: Arc<WebsocketPort>,
    /// `None`: no leafs are accepted.
    leafs: Option<Arc<LeafPort>>,
    /// How many of them are taken in, wherever they come.
    throttle: Option<Arc<Throttle>>,
}

/// Who has come, and how it is carried.
pub(crate) enum Visitor {
    Client(WebsocketVisit),
    Leaf(Arc<LeafPort>, Option<Arc<Throttle>>),
}

/// What a connection has to get past.
struct Door {
    greeter: Greeter,
    upgrades: Upgrades,
    patience: Duration,
    /// Connections that have not.
    pending: AtomicUsize,
}

impl Websocket {
    /// Reads the certificates; `None`: there is no such listener.
    pub(crate) fn new(config: &Config) -> Result<Option<Self>, FileError> {
        let Some(listener) = &config.websocket else {
            return Ok(None);
        };
        let door = Door {
            greeter: Greeter::new(listener.tls.as_ref(), MOST_HANDSHAKES)?,
            upgrades: Upgrades::new(listener, &config.limits),
            patience: listener.handshake_timeout,
            pending: AtomicUsize::new(0),
        };
        Ok(Some(Websocket {
            door: Arc::new(door),
            listener: listener.clone(),
        }))
    }

    /// Listens. Says so in the log.
    pub(crate) fn bind(&self) -> Result<Listener, ListenError> {
        let WebsocketListener { host, port, .. } = &self.listener;
        let listener = Listener::bind(host, *port)?;
        let scheme = match self.listener.tls {
            Some(_) => "wss",
            None => "ws",
        };
        log::info!(
            "Listening for websocket clients on {scheme}://{}",
            join(host, listener.local_addr().port())
        );
        if self.listener.tls.is_none() {
            log::warn!(
                "Websocket not configured with TLS. DO NOT USE IN PRODUCTION! Passwords and messages \
                 are readable on the way"
            );
        }
        Ok(listener)
    }

    /// What connections need to know of the listener at `address`; `leafs` is the port of leafs that
    /// come without WebSocket, and how many are taken in.
    pub(crate) fn gate(
        &self,
        config: &Config,
        address: SocketAddr,
        leafs: Option<(&LeafPort, Option<Arc<Throttle>>)>,
    ) -> WebsocketGate {
        let (leafs, throttle) = leafs.unzip();
        let listener = &self.listener;
        let host = listener.host.clone();
        let users = Users::compile_for_websocket_leafs(config, listener).map(Arc::new);
        let leafs = leafs.map(|port| LeafPort {
            compression: Compression::Off,
            users,
            tls: listener.tls.as_ref().map(ClientTls::required),
            ..port.clone()
        });
        WebsocketGate {
            door: self.door.clone(),
            clients: Arc::new(WebsocketPort::new(config, listener, host, address.port())),
            leafs: leafs.map(Arc::new),
            throttle: throttle.flatten(),
        }
    }
}

impl WebsocketGate {
    /// Takes a connection through TLS and the HTTP request, to where INFO is due. `None`: it has been
    /// turned away.
    pub(crate) async fn greet(
        &self,
        socket: Async<TcpStream>,
        peer: SocketAddr,
    ) -> Option<(Transport, (Secured, Visitor))> {
        let mut transport = self.door.greeter.open(socket);
        let (secured, upgraded) = match self.door.pass(&mut transport, peer).await {
            Passed::In(secured, upgraded) => (secured, upgraded),
            Passed::Answered => {
                // Outside of what is counted, as it has a bound of its own.
                linger(transport).await;
                return None;
            }
            Passed::Out => return None,
        };
        let visitor = match upgraded.kind {
            Kind::Client => Visitor::Client(WebsocketVisit {
                port: self.clients.clone(),
                cookies: upgraded.cookies,
                forwarded_for: upgraded.forwarded_for,
            }),
            Kind::Leaf => match &self.leafs {
                Some(port) => Visitor::Leaf(port.clone(), self.throttle.clone()),
                // After the upgrade, and without a word, as nats-server.
                None => {
                    log::error!(
                        "{peer} - Not configured to accept leaf node connections: give leafnodes a port"
                    );
                    return None;
                }
            },
        };
        Some((transport, (secured, visitor)))
    }
}

impl AsRef<Greeter> for WebsocketGate {
    fn as_ref(&self) -> &Greeter {
        &self.door.greeter
    }
}

/// How far a connection came.
enum Passed {
    In(Secured, Upgraded),
    /// It was told why not.
    Answered,
    Out,
}

impl Door {
    async fn pass(&self, transport: &mut Transport, peer: SocketAddr) -> Passed {
        let Some(_place) = Place::take(&self.pending) else {
            log::debug!(
                "{peer} - turned away: {MOST_HANDSHAKES} WebSocket handshakes are under way"
            );
            return Passed::Out;
        };
        let mut stage = Stage::Tls;
        let passed = async {
            let secured = self.secure(transport).await?;
            stage = Stage::Request;
            let upgraded = self.upgrades.upgrade(transport).await?;
            Ok(Some((secured, upgraded)))
        };
        let late = async {
            Timer::after(self.patience).await;
            Ok(None)
        };
        let result: Result<_, UpgradeError> = passed.or(late).await;
        match (result, stage) {
            (Ok(Some((secured, upgraded))), _) => Passed::In(secured, upgraded),
            (Ok(None), Stage::Tls) => {
                log::error!("{peer} - TLS handshake timeout");
                Passed::Out
            }
            (Ok(None), Stage::Request) => {
                let patience = self.patience;
                log::error!(
                    "{peer} - websocket handshake error: no whole request within {patience:?}"
                );
                Passed::Out
            }
            // Looked at and left alone: what checks of a load balancer do.
            (Err(UpgradeError::Left), _) => {
                log::debug!("{peer} - websocket handshake error: {}", UpgradeError::Left);
                Passed::Out
            }
            // Counted, and said once a second.
            (Err(UpgradeError::Io(error)), Stage::Tls)
                if error.kind() == io::ErrorKind::QuotaExceeded =>
            {
                Passed::Out
            }
            (Err(UpgradeError::Io(error)), stage) => {
                log::error!("{peer} - {} error: {}", stage.name(), tls::words(&error));
                Passed::Out
            }
            (Err(UpgradeError::Refused(refusal)), stage) => {
                log::error!("{peer} - {} error: {refusal}", stage.name());
                Passed::Answered
            }
        }
    }

    async fn secure(&self, transport: &mut Transport) -> Result<Secured, UpgradeError> {
        if !self.greeter.has_tls() {
            return Ok(Secured::default());
        }
        if !transport.begins_with_tls().await? {
            return Err(turn_away_in_clear(transport).await);
        }
        Ok(self.greeter.secure_now(transport).await?)
    }
}

/// What a connection is at.
#[derive(Clone, Copy)]
enum Stage {
    Tls,
    Request,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Stage::Tls => "TLS handshake",
            Stage::Request => "websocket handshake",
        }
    }
}

/// One of the connections that are counted, until this is dropped.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(pending: &'a AtomicUsize) -> Option<Self> {
        let place = Place(pending);
        (pending.fetch_add(1, Ordering::Relaxed) < MOST_HANDSHAKES).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn places_are_given_back() {
        let pending = AtomicUsize::new(MOST_HANDSHAKES - 1);
        let last = Place::take(&pending).unwrap();
        assert!(Place::take(&pending).is_none());
        drop(last);
        let again = Place::take(&pending);
        assert!(again.is_some() && Place::take(&pending).is_none());
        drop(again);
        assert_eq!(pending.into_inner(), MOST_HANDSHAKES - 1);
    }
}
