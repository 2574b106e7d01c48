//! The wire: bytes to operations and back. Owns every verb's spelling; knows no connection.

pub mod error;
pub(crate) mod header;
pub mod info;
pub mod parse;
pub mod version;
pub mod write;

use crate::message::Message;

/// The version that peers are told. Clients gate features on it and hubs may demand one, so it
/// names the nats-server whose behaviour this one follows, not our own release.
pub const VERSION: &str = "2.15.1";

/// One operation of a peer. All slices borrow the buffer it was parsed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op<'a> {
    /// `CONNECT`: the JSON text.
    Connect(&'a [u8]),
    /// `INFO`: the JSON text.
    Info(&'a [u8]),
    /// `PING`
    Ping,
    /// `PONG`
    Pong,
    /// `+OK`
    Ok,
    /// `-ERR`: the text without its quotes.
    Err(&'a [u8]),
    /// `PUB`, `HPUB` (clients), `LMSG`, `HMSG` (leafs).
    Publish(Message<'a>),
    /// `SUB`
    Subscribe {
        /// The pattern, not validated.
        subject: &'a [u8],
        /// The queue group.
        queue: Option<&'a [u8]>,
        /// The client's own name for the subscription.
        sid: &'a [u8],
    },
    /// `UNSUB`
    Unsubscribe {
        /// The client's own name for the subscription.
        sid: &'a [u8],
        /// Deliveries in total since `SUB` after which it ends; `None` ends it now (also for 0,
        /// negative and unreadable numbers).
        max: Option<u64>,
    },
    /// `LS+`
    Interest {
        /// The pattern, not validated.
        subject: &'a [u8],
        /// The queue group and its weight (0 when the number was unreadable).
        queue: Option<(&'a [u8], u32)>,
    },
    /// `LS-`
    InterestGone {
        /// The pattern, not validated.
        subject: &'a [u8],
        /// The queue group.
        queue: Option<&'a [u8]>,
    },
    /// A message that another shard of this process hands over.
    Relayed {
        /// [`Origin`](crate::link::sibling::Origin), as it is written.
        origin: &'a [u8],
        /// The message, for the queue groups it names.
        message: Message<'a>,
    },
    /// What another shard of this process says otherwise.
    Beside(crate::link::sibling::Notice<'a>),
}
