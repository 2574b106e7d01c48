//! The datacenter's role: all that a gateway does, and leafs that dial in, on all threads of the machine.

mod explain;
mod inbox;
mod leafs;
mod node;
mod operator;
mod peer;
pub mod resolver;
mod run;
mod system;
mod throttle;
mod websocket;

pub use node::Node;
pub use peer::Peer;
pub use run::{Hub, check_files};
