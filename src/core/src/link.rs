//! One peer as the core sees it: what it is (a [`Neighbour`]), what waits to be written to it, and
//! how it is kept alive.

pub mod acceptor;
pub mod admission;
pub mod client;
pub mod compression;
pub(crate) mod delay;
pub mod internal;
mod kinds;
pub mod leaf;
mod liveness;
mod pace;
pub mod queue;
pub(crate) mod requester;
pub mod sample;
pub mod sibling;
mod told;
pub mod uplink;
pub mod websocket;

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::account::Rules;
use crate::account::perms::Perms;
use crate::auth::certificate::Certificate;
use crate::auth::users::{Check, Identity, Mandate, Users};
use crate::config::model::{ConnectionType, Limits, Tls};
use crate::interest::Reach;
use crate::message::Message;
use crate::random::{Entropy, Random};
use crate::time::Instant;
use crate::wire::error::ProtoError;
use crate::wire::parse::{ParseLimits, Parsed};
use crate::wire::{Op, write};
use compression::Level;
use queue::{OutQueue, Pool};

/// Names a link of a shard. Never used again for another link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId {
    pub(crate) place: u32,
    pub(crate) turn: u32,
}

/// What every link of a server shares: who we are and what is allowed.
#[derive(Debug)]
pub struct Env {
    /// Who we are.
    pub server: Server,
    /// What a connection may do.
    pub limits: Limits,
    /// Who may connect. Shared by the threads of a server.
    pub users: Arc<Users>,
    /// TLS for clients; `None`: they connect in clear.
    pub tls: Option<ClientTls>,
}

/// What clients are told of TLS.
#[derive(Clone, Copy, Debug)]
pub struct ClientTls {
    /// They may also stay in clear.
    pub optional: bool,
    /// They need a certificate.
    pub verify: bool,
    /// Their certificate says which user they are.
    pub map: bool,
    /// Time for the handshake.
    pub timeout: Duration,
}

impl ClientTls {
    /// For peers that have no choice but the `tls` block of their listener.
    pub fn required(tls: &Tls) -> Self {
        ClientTls {
            optional: false,
            verify: tls.verify,
            map: tls.map,
            timeout: tls.timeout,
        }
    }
}

/// How this server names itself to peers.
#[derive(Clone, Debug)]
pub struct Server {
    /// Public server nkey, `N...`.
    pub id: String,
    /// `server_name`, or the id.
    pub name: String,
    /// The toolchain, where nats-server names its Go release. Informational.
    pub toolchain: &'static str,
    /// What clients are told as host.
    pub host: String,
    /// What clients are told as port.
    pub port: u16,
    /// False with `no_header_support`.
    pub headers: bool,
}

/// How a link stands to the rest of the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// A client, or another server.
    pub reach: Reach,
    /// Which of us is nearer to the stem.
    pub role: Role,
    /// Hash of the cluster name the peer announced; 0 for none.
    pub cluster: u64,
    /// Interest of other leafs is not shown on this link.
    pub isolated: bool,
    /// Whether its own publishes come back to its own subscriptions.
    pub echo: bool,
}

/// Who is at the other end of a link, as others are told.
#[derive(Clone, Copy, Debug)]
pub struct Portrait<'a> {
    /// The id in INFO and in the log.
    pub number: u64,
    /// The kind of connection.
    pub kind: ConnectionType,
    /// Where it is: the address it has behind a proxy that says so.
    pub address: IpAddr,
    /// When it connected.
    pub since: Instant,
    /// The account it is bound to; `None` until it has said who it is.
    pub account: Option<&'a Arc<str>>,
    /// Who it is, or says it is.
    pub identity: Option<&'a Identity>,
    /// What it calls itself; may be empty.
    pub name: &'a str,
    /// The language of its library; may be empty.
    pub lang: &'a str,
    /// The version of its library or server; may be empty.
    pub version: &'a str,
    /// How long it takes to answer, where that is known.
    pub round_trip: Option<Duration>,
    /// Why it is being closed.
    pub ending: Option<&'a str>,
}

/// Who is the hub on a link between servers; decides which interest travels (leaf protocol,
/// interest propagation).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A client: all of its interest travels.
    Client,
    /// The peer is our hub.
    Upstream,
    /// We are the peer's hub.
    Downstream,
}

/// Fifteen characters of 11 random bytes (client protocol, INFO).
fn draw_nonce(cx: &mut Cx<'_>) -> String {
    let mut bytes = [0u8; 11];
    cx.entropy.fill(&mut bytes);
    data_encoding::BASE64URL_NOPAD.encode(&bytes)
}

/// Leaf lines may be 16 times as long as a client's (leaf protocol, limits).
fn leaf_limits(env: &Env) -> ParseLimits {
    ParseLimits {
        control_line: env.limits.max_control_line.saturating_mul(16),
        payload: env.limits.max_payload,
        headers: true,
    }
}

/// The [`Standing::cluster`] of a name.
fn cluster_number(name: &str) -> u64 {
    use std::hash::BuildHasher;
    if name.is_empty() {
        return 0;
    }
    foldhash::fast::FixedState::with_seed(0).hash_one(name) | 1
}

/// What is at the other end of a link, and so how operations are understood and how interest and
/// messages are worded for it.
///
/// A neighbour translates: an operation into an [`Action`] for the shard, a delivery into bytes. It
/// changes its own state in place rather than consuming itself, because a message that comes back
/// to its publisher needs the publisher where it is. What it does not say of itself it has no use for.
pub trait Neighbour: Sized {
    /// Whether one of them can be another shard of this process: where none is, nothing of what
    /// shards say to each other is compiled.
    const HAS_SIBLINGS: bool = false;
    /// The link has just been opened.
    fn handle_open(&mut self, cx: &mut Cx<'_>) -> Result<Action<'static>, ProtoError>;
    /// The next operation in `buf`.
    fn parse<'a>(&self, buf: &'a [u8], env: &Env) -> Result<Parsed<'a>, ProtoError>;
    /// One operation of the peer.
    fn handle<'a>(&mut self, op: &'a Op<'a>, cx: &mut Cx<'_>) -> Result<Action<'a>, ProtoError>;
    /// [`Neighbour::poll_timeout`] has come.
    fn handle_timeout(&mut self, _: &mut Cx<'_>) -> Result<(), ProtoError> {
        Ok(())
    }
    /// It is not being read from, so its silence means nothing.
    fn excuse(&mut self) {}
    /// When it wants [`Neighbour::handle_timeout`]. Always some time ahead: no state without a
    /// deadline.
    fn poll_timeout(&self) -> Instant;
    /// The answer to [`Action::Verify`] or [`Event::Sign`].
    fn handle_proof(&mut self, _: Proof, _: &mut Cx<'_>) -> Result<Action<'static>, ProtoError> {
        Ok(Action::Done)
    }
    /// An [`Action::Upgrade`] is done.
    fn handle_upgraded(
        &mut self,
        _: Secured,
        _: &mut Cx<'_>,
    ) -> Result<Action<'static>, ProtoError> {
        Ok(Action::Done)
    }
    /// Something arrived from it since the last deadline, if only a part of an operation.
    fn handle_sign_of_life(&mut self) {}
    /// How what we send is put into blocks and frames.
    fn encoding(&self) -> Encoding {
        Encoding::default()
    }
    /// Messages that would wait longer than this are not queued.
    fn max_queue_time(&self) -> Option<Duration> {
        None
    }
    /// How long it may take nothing while something waits for it, where that is said for its kind.
    fn write_deadline(&self) -> Option<Duration> {
        None
    }
    /// How log lines name it.
    fn label(&self) -> String;
    /// Who it is, where others may be told.
    fn portrait(&self) -> Option<Portrait<'_>> {
        None
    }
    /// How it stands.
    fn standing(&self) -> Standing;
    /// Whether it may publish on `subject`; tells it if not. Asked by the shard where the account maps
    /// subjects: permissions are about what it maps them to (authentication, subject mappings).
    fn admit(&mut self, subject: &[u8], cx: &mut Cx<'_>) -> Result<Permit, ProtoError>;
    /// What its JWT says, if that is how it was let in.
    fn mandate(&self) -> Option<&Arc<Mandate>> {
        None
    }
    /// From here on its JWT says this, and it has these permissions.
    fn adopt(&mut self, _: Arc<Mandate>, _: Option<Arc<Perms>>) {}
    /// Whether it may keep a subscription that it has: `None` if not, else whether each delivery is to ask
    /// [`Neighbour::may_hear`].
    fn may_keep(&self, _: &[u8], _: Option<&[u8]>) -> Option<bool> {
        Some(true)
    }
    /// Whether there is nothing that it may not hear. May say no where that is so.
    fn hears_all(&self) -> bool {
        false
    }
    /// Whether a message on `subject` may go to it at all (in a queue group's name).
    fn may_hear(&self, subject: &[u8], queue: Option<&[u8]>) -> bool;
    /// Words a message for it. Answers whether it was taken.
    fn deliver(&mut self, message: &Message<'_>, to: Target<'_>, outlet: &mut Outlet<'_>) -> bool;
    /// Words what changed of our interest for it.
    fn offer(&mut self, _: &Offer<'_>, _: &mut Outlet<'_>) {}
    /// We are about to stop serving: tell it, if it can understand.
    fn announce_lame_duck(&mut self, _: &mut Cx<'_>) {}
    /// The link ends, in these words; for the log and for whoever dials again.
    fn note_end(&mut self, _: &str) {}
}

/// Whether a publish may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// It may.
    Granted,
    /// It may not, and its sender knows.
    Refused,
}

/// What the shard does for a neighbour's operation.
#[derive(Debug)]
pub enum Action<'a> {
    /// Nothing.
    Done,
    /// Route it.
    Publish {
        /// The message.
        message: &'a Message<'a>,
        /// Its sender wants to hear if nobody listens.
        wants_no_responders: bool,
    },
    /// It asks the server itself: answer it, or else route it.
    Ask {
        /// The message, which has a reply subject.
        message: &'a Message<'a>,
        /// Its sender wants to hear if nobody listens.
        wants_no_responders: bool,
    },
    /// Route what another shard hands over, to own links only.
    Relay {
        /// An [`Origin`](sibling::Origin), as it is written.
        origin: &'a [u8],
        /// The message.
        message: &'a Message<'a>,
    },
    /// Note what another shard says.
    Beside(sibling::Notice<'a>),
    /// A client's subscription.
    Subscribe {
        /// A valid pattern.
        subject: &'a [u8],
        /// The queue group.
        queue: Option<&'a [u8]>,
        /// The client's name for it.
        sid: &'a [u8],
        /// Each delivery asks [`Neighbour::may_hear`].
        filtered: bool,
    },
    /// Ends a client's subscription, now or after `max` deliveries.
    Unsubscribe {
        /// The client's name for it.
        sid: &'a [u8],
        /// `None` is now.
        max: Option<u64>,
    },
    /// A leaf's interest.
    Interest {
        /// A valid pattern.
        subject: &'a [u8],
        /// The queue group and its weight.
        queue: Option<(&'a [u8], u32)>,
    },
    /// A leaf's interest ends.
    InterestGone {
        /// The pattern.
        subject: &'a [u8],
        /// The queue group.
        queue: Option<&'a [u8]>,
    },
    /// The peer is somebody now: bind it to the account, without what it had before.
    Join {
        /// The account's name.
        account: Arc<str>,
    },
    /// A leaf link understands interest from now on: bind it, send all of ours.
    Attach {
        /// The account's name.
        account: Arc<str>,
        /// Subjects it wants without ever saying so.
        unsaid: &'static [&'static [u8]],
    },
    /// What the peer may be told changed: compare all of our interest again.
    Reoffer,
    /// Stop reading from it until it is found out who it is.
    Verify(Check),
    /// From the next byte on in both directions the link is carried otherwise: what is queued goes
    /// out as before, nothing more is read until [`Neighbour::handle_upgraded`].
    Upgrade(Upgrade),
}

/// A transform of a link's bytes that begins in the midst of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// TLS.
    Tls,
    /// TLS if the peer begins with it, else nothing.
    TlsIfOffered,
    /// S2 blocks in both directions.
    S2,
}

/// What a transport that works in blocks or frames has to keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoding {
    /// How hard S2 blocks are compressed.
    pub level: Level,
    /// Bytes that a compressed WebSocket message may stand for: the peer's `max_payload`.
    pub largest: usize,
}

impl Default for Encoding {
    /// Not compressed, any size.
    fn default() -> Self {
        Encoding {
            level: Level::Uncompressed,
            largest: usize::MAX,
        }
    }
}

/// What an [`Upgrade`] came to.
#[derive(Clone, Debug, Default)]
pub struct Secured {
    /// Whether the link is under TLS.
    pub tls: bool,
    /// Whom the peer's certificate names, where one was demanded.
    pub certificate: Option<Box<Certificate>>,
}

/// Something for the role to do or to know.
#[derive(Debug)]
pub enum Event {
    /// Run it away from this thread and bring the result with [`Shard::handle_proof`](crate::shard::Shard::handle_proof).
    Verify {
        /// For this link.
        link: LinkId,
        /// The work.
        check: Check,
    },
    /// Sign the nonce with the remote's credentials and bring the result with
    /// [`Shard::handle_proof`](crate::shard::Shard::handle_proof).
    Sign {
        /// For this link.
        link: LinkId,
        /// The remote's place in the configuration.
        remote: usize,
        /// What to sign.
        nonce: Box<[u8]>,
    },
    /// The hub named addresses it can be reached at.
    Discovered {
        /// The remote's place in the configuration.
        remote: usize,
        /// `host:port` each.
        addresses: Vec<String>,
    },
    /// A client, or a leaf that dialled us, is bound to its account: it has said who it is.
    Joined {
        /// The link.
        link: LinkId,
    },
    /// A client asks who it is and what it may do (system account, `$SYS.REQ.USER.INFO`).
    Asked {
        /// The client.
        link: LinkId,
        /// Where the answer goes, in its account.
        reply: Box<[u8]>,
    },
    /// A request to a service whose latency is measured is over.
    Measured(Box<sample::Sample>),
    /// The link is up.
    Synced {
        /// The link.
        link: LinkId,
        /// The remote's place in the configuration.
        remote: usize,
    },
}

/// What a slow computation outside of the core came to.
#[derive(Debug)]
pub enum Proof {
    /// Of [`Action::Verify`].
    Verified(Result<crate::auth::users::Verdict, crate::auth::users::AuthError>),
    /// Of [`Event::Sign`].
    Signed(Result<leaf::Signed, Cow<'static, str>>),
}

/// Whom a copy of a message is for.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// One subscription of a client.
    Subscription(&'a [u8]),
    /// A link as a whole.
    Link {
        /// The queue groups it was chosen for.
        queues: &'a [&'a [u8]],
        /// Where the message comes from.
        origin: &'a sibling::Origin,
    },
}

/// All that a leaf link may have to be told about one subject.
#[derive(Debug)]
pub struct Offer<'a> {
    /// Names the subject within the account while anybody has been told of it.
    pub(crate) entry: crate::interest::EntryId,
    /// The pattern.
    pub subject: &'a [u8],
    /// Somebody wants it outside of any queue group.
    pub plain: bool,
    /// Queue groups that want it, with the number of their members.
    pub groups: &'a [(&'a [u8], u32)],
}

/// Payloads from this size on are referenced, not copied, when more than one peer gets them. A
/// gathered piece costs about as much as copying one to four KiB.
const SHARE_FROM: usize = 4 << 10;

/// Where a delivery is written.
pub struct Outlet<'a> {
    pub(crate) now: Instant,
    pub(crate) queue: &'a mut OutQueue,
    pub(crate) pool: &'a mut Pool,
    pub(crate) body: &'a Body,
}

/// The body of a message on its way to one or several peers.
#[derive(Debug, Default)]
pub(crate) struct Body {
    shared: Option<Bytes>,
}

impl Body {
    /// For a message that goes to `targets` peers.
    pub(crate) fn of(message: &Message<'_>, targets: usize) -> Body {
        let share = targets > 1 && message.body.len() >= SHARE_FROM;
        Body {
            shared: share.then(|| Bytes::copy_from_slice(message.body)),
        }
    }
}

impl Outlet<'_> {
    /// Where to append an operation.
    #[inline]
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        self.queue.buffer(self.pool)
    }

    /// Appends `body`, the last `body.len()` bytes of the message's body, and the line end.
    #[inline]
    pub(crate) fn finish(&mut self, body: &[u8]) {
        match &self.body.shared {
            Some(shared) => {
                let from = shared.len().saturating_sub(body.len());
                self.queue.push_shared(shared.slice(from..));
                self.queue.rest().extend_from_slice(write::CRLF);
            }
            None => {
                let out = self.queue.rest();
                out.extend_from_slice(body);
                out.extend_from_slice(write::CRLF);
            }
        }
    }
}

/// What a neighbour may use while it handles something.
pub struct Cx<'a> {
    /// Now.
    pub now: Instant,
    /// Its own name.
    pub link: LinkId,
    /// What all links share.
    pub env: &'a Env,
    /// The account's rules; those of none before it is in one.
    pub rules: &'a Rules,
    /// Clients connected to the server, itself included.
    pub clients: usize,
    /// Its own subscriptions (a leaf: keys).
    pub subscriptions: usize,
    /// Chance.
    pub random: &'a mut Random,
    /// Secrets.
    pub entropy: &'a mut dyn Entropy,
    pub(crate) events: &'a mut std::collections::VecDeque<Event>,
    pub(crate) queue: &'a mut OutQueue,
    pub(crate) pool: &'a mut Pool,
}

impl Cx<'_> {
    /// Where to answer.
    pub fn out(&mut self) -> &mut Vec<u8> {
        self.queue.buffer(self.pool)
    }

    /// Tells the peer of an error that does not end the link.
    pub fn refuse(&mut self, error: &ProtoError) {
        error.write(self.out());
    }

    /// Says something that need not wait for the messages that are queued already.
    pub fn say_at_once(&mut self, line: &[u8]) {
        self.queue.push_urgent(line, self.pool);
    }

    /// Something for the role to do.
    pub fn emit(&mut self, event: Event) {
        self.events.push_back(event);
    }
}
