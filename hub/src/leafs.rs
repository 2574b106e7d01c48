//! The listener for leafs: what `leafnodes` says, made ready.

use std::net::SocketAddr;
use std::sync::Arc;

use petiole_core::auth::users::Users;
use petiole_core::config::model::{Config, HandshakeFirst, LeafListener};
use petiole_core::link::ClientTls;
use petiole_core::link::acceptor::LeafPort;
use petiole_leaf::{FileError, Greeter};
use petiole_net::address;
use petiole_net::listen::{ListenError, Listener, join};

use crate::explain;
use crate::throttle::Throttle;

/// Leafs that may be in the handshake of TLS first at the same time; each costs a few kilobytes.
const MOST_HANDSHAKES: usize = 10_000;

/// What is known of the listener before it listens.
pub(crate) struct Leafs {
    listener: LeafListener,
    /// Our name where we are a leaf ourselves: it stands for a cluster.
    cluster: String,
    users: Option<Arc<Users>>,
    greeter: Arc<Greeter>,
    throttle: Option<Arc<Throttle>>,
}

impl Leafs {
    /// Reads the certificates; `None`: no leafs are accepted.
    pub(crate) fn new(config: &Config, name: &str) -> Result<Option<Self>, FileError> {
        let Some(listener) = &config.leafnodes else {
            return Ok(None);
        };
        let cluster = if config.remotes.is_empty() {
            String::new()
        } else {
            name.to_owned()
        };
        Ok(Some(Leafs {
            cluster,
            users: Users::compile_for_leafs(config).map(Arc::new),
            greeter: {
                let greeter = Greeter::new(listener.tls.as_ref(), MOST_HANDSHAKES)?;
                Arc::new(greeter.with_hints(explain::hint_of_first))
            },
            throttle: Throttle::new(listener).map(Arc::new),
            listener: listener.clone(),
        }))
    }

    /// How they are greeted.
    pub(crate) fn greeter(&self) -> &Arc<Greeter> {
        &self.greeter
    }

    /// How many are taken in; `None`: as many as come.
    pub(crate) fn throttle(&self) -> Option<&Arc<Throttle>> {
        self.throttle.as_ref()
    }

    /// Listens. Says so in the log.
    pub(crate) fn bind(&self) -> Result<(Listener, Arc<LeafPort>), ListenError> {
        let LeafListener { host, port, .. } = &self.listener;
        let listener = Listener::bind(host, *port)?;
        let address = listener.local_addr();
        let port = self.port(address);
        log::info!(
            "Listening for leafnode connections on {}",
            join(host, address.port())
        );
        if self.listener.advertise.is_some() {
            let told = join(&port.host, port.port);
            log::info!("Advertise address for leafnode is set to {told}");
        }
        let first = self.listener.tls.as_ref().map(|tls| tls.handshake_first);
        if first == Some(HandshakeFirst::Yes) {
            log::warn!(
                "Leafs that do not have handshake_first in the tls block of their remote will fail to \
                 connect"
            );
        }
        Ok((listener, Arc::new(port)))
    }

    /// What links know of the port (leaf protocol, INFO). Of a wildcard leafs are told an address that
    /// they can dial.
    fn port(&self, address: SocketAddr) -> LeafPort {
        let listener = &self.listener;
        let (host, port) = match &listener.advertise {
            Some(told) => (told.host.clone(), told.port.unwrap_or(address.port())),
            None if address.ip().is_unspecified() => {
                let host = address::outward().map(|ip| ip.to_string());
                (host.unwrap_or(listener.host.clone()), address.port())
            }
            None => (listener.host.clone(), address.port()),
        };
        let urls = if listener.no_advertise {
            Vec::new()
        } else {
            vec![join(&host, port)]
        };
        LeafPort {
            host,
            port,
            urls,
            cluster: self.cluster.clone(),
            compression: listener.compression.clone(),
            users: self.users.clone(),
            tls: listener.tls.as_ref().map(ClientTls::required),
            auth_timeout: listener.auth_timeout,
            min_version: listener.min_version,
            isolate: listener.isolate,
            write_deadline: listener.write_deadline,
        }
    }
}
