//! The gateway's role: serve local clients, solicit hubs, relay between them, all on one thread.

mod accept;
mod explain;
mod file_error;
mod identity;
mod node;
mod peer;
mod reach;
mod run;

pub use file_error::FileError;
pub use identity::{Signature, Signer};
pub use node::{Node, NodeEvent, UplinkStatus};
pub use peer::Peer;
pub use run::{Leaf, Ready, RunError, check_files};
