//! The gateway's role: serve local clients, solicit hubs, relay between them, all on one thread.

mod accept;
mod explain;
mod identity;
mod node;
mod peer;
mod reach;
mod run;

pub use identity::{Signature, Signer};
pub use node::{Node, NodeEvent, UplinkStatus};
pub use peer::Peer;
pub use run::{FileError, Leaf, Ready, RunError, check_files};
