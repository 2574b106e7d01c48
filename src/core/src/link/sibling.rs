//! A link to another shard of the same process: what shards say to each other, and how.
//!
//! Every shard tells each other one what its own links are interested in, and hands over each message
//! that one of them wants, at most once per shard. What came from a sibling goes to own links only:
//! nothing crosses twice. Both ends are the same program, so the operations are of fixed layout,
//! in the machine's own byte order, and never in pieces.

use crate::interest::Reach;
use crate::link::{Action, Cx, Env, LinkId, Neighbour, Outlet, Permit, Role, Standing, Target};
use crate::message::Message;
use crate::time::Instant;
use crate::wire::Op;
use crate::wire::error::ProtoError;
use crate::wire::parse::Parsed;

/// Where a message comes from, as far as its way depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The place of the account, which is the same in all shards.
    pub(crate) account: u32,
    /// The link that published it, in the shard where it arrived.
    pub(crate) producer: LinkId,
    /// How that link stands.
    pub(crate) standing: Standing,
    /// It has crossed from another shard.
    pub(crate) crossed: Crossed,
    /// Which queue groups it is for.
    pub(crate) groups: Groups,
    /// Not 0: whether anybody heard it is to be [answered](Notice::Heard) under this number.
    pub(crate) question: u64,
}

/// Which queue groups of a subject a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Groups {
    /// All.
    Any,
    /// Those it names: where a server or a sibling has chosen already.
    Named,
}

/// Whether a message is where it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crossed {
    /// From a peer of this shard.
    Not,
    /// From a sibling, whose place this is.
    From(u32),
}

impl Origin {
    /// Every byte crosses from one core's cache to another's: what is nearly always zero is left out.
    fn write(&self, out: &mut Vec<u8>) {
        let standing = &self.standing;
        let mut flags = role_to_byte(standing.role);
        for (flag, set) in [
            (LOCAL, standing.reach == Reach::Local),
            (CLUSTER, standing.cluster != 0),
            (QUESTION, self.question != 0),
        ] {
            flags |= if set { flag } else { 0 };
        }
        let mut head = [0; ORIGIN];
        head[0] = flags;
        head[1..5].copy_from_slice(&self.account.to_ne_bytes());
        head[5..9].copy_from_slice(&self.producer.place.to_ne_bytes());
        head[9..].copy_from_slice(&self.producer.turn.to_ne_bytes());
        out.extend_from_slice(&head);
        for number in [standing.cluster, self.question] {
            if number != 0 {
                out.extend_from_slice(&number.to_ne_bytes());
            }
        }
    }

    /// What [`Op::Relayed`] brought from the sibling at `place`.
    pub(crate) fn read(mut bytes: &[u8], place: u32) -> Option<Self> {
        let rest = &mut bytes;
        let flags = byte(rest)?;
        Some(Origin {
            account: number(rest)?,
            producer: LinkId {
                place: number(rest)?,
                turn: number(rest)?,
            },
            standing: Standing {
                reach: if flags & LOCAL == 0 {
                    Reach::Distant
                } else {
                    Reach::Local
                },
                role: role_of_byte(flags & ROLE),
                cluster: match flags & CLUSTER {
                    0 => 0,
                    _ => long(rest)?,
                },
                isolated: false,
                echo: false,
            },
            crossed: Crossed::From(place),
            groups: Groups::Named,
            question: match flags & QUESTION {
                0 => 0,
                _ => long(rest)?,
            },
        })
    }
}

/// Bytes of an origin that are always there.
const ORIGIN: usize = 13;
/// In the first of them.
const ROLE: u8 = 3;
const LOCAL: u8 = 4;
const CLUSTER: u8 = 8;
const QUESTION: u8 = 16;

/// The length of the origin that begins with these flags.
fn origin_length(flags: u8) -> usize {
    let long = |flag| if flags & flag == 0 { 0 } else { 8 };
    ORIGIN + long(CLUSTER) + long(QUESTION)
}

/// A group of own links whose interest a sibling keeps apart, because other rules hold for it: all
/// clients of an account, or one leaf link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PartyId(u32);

/// Whether who wants a subject gets all that matches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Certainty {
    /// It does.
    Sure,
    /// Permissions are asked for each message, where they are known.
    Filtered,
}

impl Certainty {
    /// Both.
    pub(crate) const ALL: [Certainty; 2] = [Certainty::Sure, Certainty::Filtered];
}

impl PartyId {
    /// All clients of an account, as far as their subscriptions are of this kind.
    pub(crate) fn clients(account: u32, certainty: Certainty) -> Self {
        let filtered = u32::from(certainty == Certainty::Filtered);
        PartyId((account << 2) | filtered << 1)
    }

    /// The leaf link at a place, as far as its keys are of this kind.
    pub(crate) fn leaf(place: u32, certainty: Certainty) -> Self {
        let filtered = u32::from(certainty == Certainty::Filtered);
        PartyId((place << 2) | filtered << 1 | 1)
    }

    /// Whether it is a leaf link.
    pub(crate) fn is_leaf(self) -> bool {
        self.0 & 1 == 1
    }

    /// What is known of its interest.
    pub(crate) fn certainty(self) -> Certainty {
        if self.0 & 2 == 0 {
            Certainty::Sure
        } else {
            Certainty::Filtered
        }
    }
}

/// What shards tell each other beside messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice<'a> {
    /// A party begins.
    Party {
        /// Which.
        party: PartyId,
        /// The place of its account.
        account: u32,
        /// How its links stand.
        role: Role,
        /// [`Standing::cluster`].
        cluster: u64,
    },
    /// A party ends, and with it its interest.
    PartyGone {
        /// Which.
        party: PartyId,
    },
    /// What a party wants of one subject from here on.
    Interest {
        /// Which.
        party: PartyId,
        /// A valid pattern.
        subject: &'a [u8],
        /// The queue group.
        queue: Option<&'a [u8]>,
        /// How many members there are; 0: none any more.
        weight: u32,
    },
    /// A consumer here is outrun by a producer there, which is not to be read from.
    Hold {
        /// The producer.
        producer: LinkId,
    },
    /// It may be read from again, as far as that consumer goes.
    Release {
        /// The producer.
        producer: LinkId,
    },
    /// Somebody got the message that asked so.
    Heard {
        /// [`Origin::question`].
        question: u64,
    },
    /// Nobody did.
    Unheard {
        /// [`Origin::question`].
        question: u64,
        /// Who published it.
        producer: LinkId,
        /// Its subject.
        subject: &'a [u8],
        /// Where answers were to go.
        reply: &'a [u8],
    },
}

/// What an operation begins with.
const RELAYED: u8 = 1;
const PARTY: u8 = 2;
const PARTY_GONE: u8 = 3;
const INTEREST: u8 = 4;
const HOLD: u8 = 5;
const RELEASE: u8 = 6;
const HEARD: u8 = 7;
const UNHEARD: u8 = 8;

/// For a length: there is none.
const ABSENT: u32 = u32::MAX;

impl Notice<'_> {
    /// Appends it.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match *self {
            Notice::Party {
                party,
                account,
                role,
                cluster,
            } => {
                out.push(PARTY);
                out.extend_from_slice(&party.0.to_ne_bytes());
                out.extend_from_slice(&account.to_ne_bytes());
                out.push(role_to_byte(role));
                out.extend_from_slice(&cluster.to_ne_bytes());
            }
            Notice::PartyGone { party } => {
                out.push(PARTY_GONE);
                out.extend_from_slice(&party.0.to_ne_bytes());
            }
            Notice::Interest {
                party,
                subject,
                queue,
                weight,
            } => {
                out.push(INTEREST);
                out.extend_from_slice(&party.0.to_ne_bytes());
                out.extend_from_slice(&weight.to_ne_bytes());
                put_length(out, Some(subject));
                put_length(out, queue);
                out.extend_from_slice(subject);
                out.extend_from_slice(queue.unwrap_or_default());
            }
            Notice::Hold { producer } => put_link(out, HOLD, producer),
            Notice::Release { producer } => put_link(out, RELEASE, producer),
            Notice::Heard { question } => {
                out.push(HEARD);
                out.extend_from_slice(&question.to_ne_bytes());
            }
            Notice::Unheard {
                question,
                producer,
                subject,
                reply,
            } => {
                put_link(out, UNHEARD, producer);
                out.extend_from_slice(&question.to_ne_bytes());
                put_length(out, Some(subject));
                put_length(out, Some(reply));
                out.extend_from_slice(subject);
                out.extend_from_slice(reply);
            }
        }
    }
}

/// Appends a message for the queue groups `queues`.
fn write_message(out: &mut Vec<u8>, origin: &Origin, message: &Message<'_>, queues: &[&[u8]]) {
    let names: usize = queues.iter().map(|name| name.len() + 1).sum();
    let reply = message.reply.unwrap_or_default();
    let lengths = message.subject.len() + reply.len() + names + message.body.len();
    out.reserve(64 + lengths);
    out.push(RELAYED);
    origin.write(out);
    put_lengths(
        out,
        [
            message.subject.len(),
            // One more than the length: 0 is none.
            message.reply.map_or(0, |reply| reply.len() + 1),
            names,
            message.header_len,
            message.body.len(),
        ],
    );
    out.extend_from_slice(message.subject);
    out.extend_from_slice(reply);
    for name in queues {
        out.extend_from_slice(name);
        out.push(b' ');
    }
    out.extend_from_slice(message.body);
}

/// The lengths of a message's parts, a byte each where that is enough.
#[inline]
fn put_lengths(out: &mut Vec<u8>, lengths: [usize; 5]) {
    if lengths.iter().all(|length| *length < LONG) {
        out.extend_from_slice(&lengths.map(|length| length as u8));
    } else {
        for length in lengths {
            put_varint(out, length);
        }
    }
}

#[inline]
fn lengths(rest: &mut &[u8]) -> Option<[usize; 5]> {
    if let Some((short, later)) = rest.split_first_chunk::<5>()
        && short.iter().all(|length| usize::from(*length) < LONG)
    {
        *rest = later;
        return Some(short.map(usize::from));
    }
    let mut lengths = [0; 5];
    for length in &mut lengths {
        *length = varint(rest)?;
    }
    Some(lengths)
}

/// What takes more than one byte.
const LONG: usize = 0x80;

/// Seven bits a byte, the low ones first.
fn put_varint(out: &mut Vec<u8>, mut number: usize) {
    while number >= LONG {
        out.push(number as u8 | LONG as u8);
        number >>= 7;
    }
    out.push(number as u8);
}

fn varint(rest: &mut &[u8]) -> Option<usize> {
    let mut number = 0;
    for shift in (0..usize::BITS).step_by(7) {
        let next = byte(rest)?;
        number |= usize::from(next & 0x7f) << shift;
        if usize::from(next) < LONG {
            return Some(number);
        }
    }
    None
}

fn put_length(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    let length = bytes.map_or(ABSENT, |bytes| bytes.len() as u32);
    out.extend_from_slice(&length.to_ne_bytes());
}

fn put_link(out: &mut Vec<u8>, kind: u8, link: LinkId) {
    out.push(kind);
    out.extend_from_slice(&link.place.to_ne_bytes());
    out.extend_from_slice(&link.turn.to_ne_bytes());
}

fn role_to_byte(role: Role) -> u8 {
    match role {
        Role::Client => 0,
        Role::Upstream => 1,
        Role::Downstream => 2,
    }
}

fn role_of_byte(byte: u8) -> Role {
    match byte {
        0 => Role::Client,
        1 => Role::Upstream,
        _ => Role::Downstream,
    }
}

fn byte(rest: &mut &[u8]) -> Option<u8> {
    take(rest, 1)?.first().copied()
}

fn number(rest: &mut &[u8]) -> Option<u32> {
    take(rest, 4)?.try_into().ok().map(u32::from_ne_bytes)
}

fn long(rest: &mut &[u8]) -> Option<u64> {
    take(rest, 8)?.try_into().ok().map(u64::from_ne_bytes)
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (now, later) = rest.split_at_checked(count)?;
    *rest = later;
    Some(now)
}

/// `Some(None)` for what is absent.
fn take_optional<'a>(rest: &mut &'a [u8], length: u32) -> Option<Option<&'a [u8]>> {
    if length == ABSENT {
        return Some(None);
    }
    take(rest, length as usize).map(Some)
}

/// A message at the front, behind what says that it is one.
#[inline]
fn read_message<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], Message<'a>)> {
    let origin = take(rest, origin_length(*rest.first()?))?;
    let [subject, reply, names, header_len, body] = lengths(rest)?;
    let message = Message {
        subject: take(rest, subject)?,
        reply: match reply {
            0 => None,
            length => Some(take(rest, length - 1)?),
        },
        queue_list: take(rest, names)?,
        header_len,
        body: take(rest, body)?,
    };
    Some((origin, message))
}

/// What else is at the front.
fn read_notice<'a>(rest: &mut &'a [u8]) -> Option<Notice<'a>> {
    let notice = match byte(rest)? {
        PARTY => Notice::Party {
            party: PartyId(number(rest)?),
            account: number(rest)?,
            role: role_of_byte(byte(rest)?),
            cluster: long(rest)?,
        },
        PARTY_GONE => Notice::PartyGone {
            party: PartyId(number(rest)?),
        },
        INTEREST => {
            let party = PartyId(number(rest)?);
            let weight = number(rest)?;
            let (subject, queue) = (number(rest)?, number(rest)?);
            Notice::Interest {
                party,
                subject: take(rest, subject as usize)?,
                queue: take_optional(rest, queue)?,
                weight,
            }
        }
        kind @ (HOLD | RELEASE) => {
            let producer = LinkId {
                place: number(rest)?,
                turn: number(rest)?,
            };
            if kind == HOLD {
                Notice::Hold { producer }
            } else {
                Notice::Release { producer }
            }
        }
        HEARD => Notice::Heard {
            question: long(rest)?,
        },
        UNHEARD => {
            let producer = LinkId {
                place: number(rest)?,
                turn: number(rest)?,
            };
            let question = long(rest)?;
            let (subject, reply) = (number(rest)?, number(rest)?);
            Notice::Unheard {
                question,
                producer,
                subject: take(rest, subject as usize)?,
                reply: take(rest, reply as usize)?,
            }
        }
        _ => return None,
    };
    Some(notice)
}

/// The other end of a link between two shards.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sibling;

impl Neighbour for Sibling {
    const HAS_SIBLINGS: bool = true;

    fn handle_open(&mut self, _: &mut Cx<'_>) -> Result<Action<'static>, ProtoError> {
        Ok(Action::Done)
    }

    #[inline]
    fn parse<'a>(&self, buf: &'a [u8], _: &Env) -> Result<Parsed<'a>, ProtoError> {
        const BROKEN: ProtoError = ProtoError::Malformed("what another thread handed over");
        let mut rest = buf;
        if let Some((&RELAYED, later)) = rest.split_first() {
            rest = later;
            let (origin, message) = read_message(&mut rest).ok_or(BROKEN)?;
            return Ok(Parsed::Op {
                op: Op::Relayed { origin, message },
                len: buf.len() - rest.len(),
            });
        }
        let notice = read_notice(&mut rest).ok_or(BROKEN)?;
        Ok(Parsed::Op {
            op: Op::Beside(notice),
            len: buf.len() - rest.len(),
        })
    }

    #[inline]
    fn handle<'a>(&mut self, op: &'a Op<'a>, _: &mut Cx<'_>) -> Result<Action<'a>, ProtoError> {
        match op {
            Op::Relayed { origin, message } => Ok(Action::Relay { origin, message }),
            Op::Beside(notice) => Ok(Action::Beside(*notice)),
            _ => Err(ProtoError::UnknownOperation),
        }
    }

    /// It lives as long as we do.
    fn poll_timeout(&self) -> Instant {
        Instant::NEVER
    }

    /// Nothing that it is told is a line of the log.
    fn label(&self) -> String {
        String::new()
    }

    #[inline]
    fn standing(&self) -> Standing {
        Standing {
            reach: Reach::Distant,
            role: Role::Client,
            cluster: 0,
            isolated: false,
            echo: false,
        }
    }

    /// It was asked there.
    fn admit(&mut self, _: &[u8], _: &mut Cx<'_>) -> Result<Permit, ProtoError> {
        Ok(Permit::Granted)
    }

    /// Its own rules are asked there.
    #[inline]
    fn may_hear(&self, _: &[u8], _: Option<&[u8]>) -> bool {
        true
    }

    fn deliver(&mut self, message: &Message<'_>, to: Target<'_>, outlet: &mut Outlet<'_>) -> bool {
        let Target::Link { queues, origin } = to else {
            return false;
        };
        write_message(outlet.buffer(), origin, message, queues);
        true
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn link(place: u32, turn: u32) -> LinkId {
        LinkId { place, turn }
    }

    proptest! {
        #[test]
        fn messages_come_back(
            subject in "[a-z.]{0,40}", reply in prop::option::of("[a-z.]{0,40}"),
            names in prop::collection::vec("[a-z]{1,9}", 0..5),
            body in prop::collection::vec(any::<u8>(), 0..300),
            (account, place, turn, cluster) in any::<(u32, u32, u32, u64)>(), local in any::<bool>(),
        ) {
            let origin = Origin {
                account,
                producer: link(place, turn),
                standing: Standing {
                    cluster,
                    reach: if local { Reach::Local } else { Reach::Distant },
                    ..Sibling.standing()
                },
                crossed: Crossed::From(3),
                groups: Groups::Named,
                question: if local { 1 << 33 } else { 0 },
            };
            let message = Message {
                subject: subject.as_bytes(),
                reply: reply.as_deref().map(str::as_bytes),
                queue_list: b"",
                header_len: body.len() / 2,
                body: &body,
            };
            let names: Vec<&[u8]> = names.iter().map(|name| name.as_bytes()).collect();
            let mut bytes = Vec::new();
            write_message(&mut bytes, &origin, &message, &names);
            let whole = bytes.len();
            bytes.extend_from_slice(b"next");
            prop_assert_eq!(bytes[0], RELAYED);
            let mut rest = &bytes[1..];
            let Some((head, read)) = read_message(&mut rest) else {
                return Err(TestCaseError::fail("no message"));
            };
            prop_assert_eq!(rest, b"next");
            prop_assert_eq!(Origin::read(head, 3), Some(origin));
            prop_assert_eq!(read.queues().collect::<Vec<_>>(), names);
            prop_assert_eq!(Message { queue_list: b"", ..read }, message);
            for cut in 1..whole {
                prop_assert!(read_message(&mut &bytes[1..cut]).is_none());
            }
        }
    }

    #[test]
    fn notices_come_back() {
        let party = PartyId::leaf(7, Certainty::Sure);
        for notice in [
            Notice::Party {
                party,
                account: 2,
                role: Role::Downstream,
                cluster: 1 << 40,
            },
            Notice::PartyGone {
                party: PartyId::clients(9, Certainty::Filtered),
            },
            Notice::Interest {
                party,
                subject: b"a.*",
                queue: None,
                weight: 1,
            },
            Notice::Interest {
                party,
                subject: b"a",
                queue: Some(b"q"),
                weight: 0,
            },
            Notice::Hold {
                producer: link(1, 2),
            },
            Notice::Release {
                producer: link(3, 4),
            },
            Notice::Heard { question: 5 },
            Notice::Unheard {
                question: 6,
                producer: link(7, 8),
                subject: b"s",
                reply: b"r.1",
            },
        ] {
            let mut bytes = Vec::new();
            notice.write(&mut bytes);
            assert_eq!(read_notice(&mut &bytes[..]), Some(notice));
        }
        assert_eq!(read_notice(&mut &b"\x63"[..]), None);
    }
}
