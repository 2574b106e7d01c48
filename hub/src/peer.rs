//! The kinds of neighbour that a thread of a hub has.

use petiole_core::link::acceptor::Acceptor;
use petiole_core::link::client::Client;
use petiole_core::link::internal::Internal;
use petiole_core::link::leaf::Leaf;
use petiole_core::link::sibling::Sibling;
use petiole_core::link::websocket::Farewell;
use petiole_core::neighbours;
use petiole_leaf::Peers;

neighbours! {
    /// Who is at the other end of a link of a hub.
    #[derive(Debug)]
    pub enum Peer with siblings {
        /// A client.
        Client(Client),
        /// A leaf that dialled us.
        Leaf(Box<Acceptor>),
        /// A hub that we dialled.
        Hub(Box<Leaf>),
        /// Another thread of this server.
        Sibling(Sibling),
        /// The server itself, in its system account.
        System(Box<Internal>),
    }
}

impl From<Client> for Peer {
    fn from(client: Client) -> Self {
        Peer::Client(client)
    }
}

impl From<Box<Leaf>> for Peer {
    fn from(leaf: Box<Leaf>) -> Self {
        Peer::Hub(leaf)
    }
}

impl Peer {
    /// How its WebSocket is closed.
    pub(crate) fn farewell(&self) -> Option<&Farewell> {
        match self {
            Peer::Client(client) => client.farewell(),
            Peer::Leaf(leaf) => leaf.farewell(),
            Peer::Hub(_) | Peer::Sibling(_) | Peer::System(_) => None,
        }
    }

    /// If it is a leaf that dialled us.
    pub(crate) fn leaf(&self) -> Option<&Acceptor> {
        match self {
            Peer::Leaf(leaf) => Some(leaf),
            _ => None,
        }
    }

    /// If it is the server itself.
    pub(crate) fn system(&self) -> Option<&Internal> {
        match self {
            Peer::System(system) => Some(system),
            _ => None,
        }
    }

    /// The same.
    pub(crate) fn system_mut(&mut self) -> Option<&mut Internal> {
        match self {
            Peer::System(system) => Some(system),
            _ => None,
        }
    }
}

impl Peers for Peer {
    fn client(&self) -> Option<&Client> {
        match self {
            Peer::Client(client) => Some(client),
            _ => None,
        }
    }

    fn hub(&self) -> Option<&Leaf> {
        match self {
            Peer::Hub(leaf) => Some(leaf),
            _ => None,
        }
    }

    fn into_hub(self) -> Option<Box<Leaf>> {
        match self {
            Peer::Hub(leaf) => Some(leaf),
            _ => None,
        }
    }
}
