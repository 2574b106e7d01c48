//! The two kinds of neighbour a gateway has.

use petiole_core::link::Neighbour;
use petiole_core::link::client::Client;
use petiole_core::link::leaf::Leaf;
use petiole_core::neighbours;

/// The kinds of neighbour of a role that serves clients and dials hubs, whatever else it does.
pub trait Peers: Neighbour + From<Client> + From<Box<Leaf>> {
    /// If it is a client.
    fn client(&self) -> Option<&Client>;
    /// If it is a hub we dialled.
    fn hub(&self) -> Option<&Leaf>;
    /// If it was a hub we dialled.
    fn into_hub(self) -> Option<Box<Leaf>>;
}

neighbours! {
    /// Who is at the other end of a link of a gateway.
    #[derive(Debug)]
    pub enum Peer {
        /// A local client.
        Client(Client),
        /// A hub we dialled.
        Hub(Box<Leaf>),
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

impl Peers for Peer {
    fn client(&self) -> Option<&Client> {
        match self {
            Peer::Client(client) => Some(client),
            Peer::Hub(_) => None,
        }
    }

    fn hub(&self) -> Option<&Leaf> {
        match self {
            Peer::Hub(leaf) => Some(leaf),
            Peer::Client(_) => None,
        }
    }

    fn into_hub(self) -> Option<Box<Leaf>> {
        match self {
            Peer::Hub(leaf) => Some(leaf),
            Peer::Client(_) => None,
        }
    }
}
