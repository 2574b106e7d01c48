//! The gateway's role: serve local clients, solicit hubs, relay between them, all on one thread.

mod accept;
mod credentials;
mod explain;
mod file_error;
mod identity;
mod node;
mod peer;
mod reach;
mod run;
mod stop;
mod wall;
mod worker;

pub use accept::{Greeter, Hint};
pub use file_error::FileError;
pub use identity::{Signature, Signer};
pub use node::{Node, NodeEvent, UplinkStatus};
pub use peer::{Peer, Peers};
pub use reach::Reach;
pub use run::{Leaf, Parts, Ready, RunError, SystemEntropy, check_files, describe};
pub use stop::{End, Stopper, obey};
pub use worker::{Host, Judge, Judging, Worker};
