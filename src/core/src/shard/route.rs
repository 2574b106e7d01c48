//! Where one message goes: plain subscribers, one member of each queue group, each leaf link at most
//! once (leaf protocol, message flow).

use super::Shard;
use super::shadows::{Shadow, renamed};
use crate::account::mapping::Mapped;
use crate::interest::{EntryId, GroupId, Reach, Sub, SubId};
use crate::link::sibling::{Certainty, Crossed, Groups, Origin};
use crate::link::{Body, LinkId, Neighbour, Outlet, Permit, Role, Target};
use crate::message::Message;
use crate::random;
use crate::slab::NONE;
use crate::wire::write;

/// Lists that are filled anew for each message and keep their memory.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// Clients' subscriptions.
    local: Vec<SubId>,
    /// Links to other servers and shards.
    distant: Vec<Distant>,
    /// Queue groups and the entry each was found on.
    groups: Vec<(GroupId, EntryId)>,
    /// Subscriptions that had their last message.
    finished: Vec<(u32, SubId)>,
}

impl Scratch {
    fn is_empty(&self) -> bool {
        self.local.is_empty() && self.distant.is_empty() && self.groups.is_empty()
    }
}

/// Who in a queue group gets a message.
enum Member {
    /// A subscription of this shard.
    Local(SubId),
    /// One of the clients in the shard behind this link.
    Beside(u32, Certainty),
}

/// A link that a message goes to.
#[derive(Clone, Copy, Debug)]
struct Distant {
    link: u32,
    /// What it was chosen for.
    group: GroupId,
    certainty: Certainty,
    /// By which it wants it under another subject; [`NONE`]: under this one.
    shadow: u32,
}

/// The shadow of a key of one of our own links; siblings see to theirs.
fn own_shadow(sub: &Sub) -> u32 {
    if sub.party == NONE { sub.shadow } else { NONE }
}

/// What the publisher wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Nothing,
    /// Whether anybody got it.
    ToKnow,
}

/// A list that a burst made larger than this is let go.
const KEEP: usize = 64 << 10;

impl<N: Neighbour> Shard<N> {
    /// Routes a message of the link at `from`.
    pub(super) fn publish(&mut self, from: u32, message: &Message<'_>, wants_no_responders: bool) {
        let Some(link) = self.links.get_mut(from) else {
            return;
        };
        link.traffic.in_msgs += 1;
        link.traffic.in_bytes += message.body.len() as u64;
        let standing = link.neighbour.standing();
        let origin = Origin {
            account: link.account,
            producer: LinkId {
                place: from,
                turn: link.turn,
            },
            standing,
            crossed: Crossed::Not,
            groups: match standing.reach {
                Reach::Local => Groups::Any,
                Reach::Distant => Groups::Named,
            },
            question: 0,
        };
        let wish = if wants_no_responders {
            Wish::ToKnow
        } else {
            Wish::Nothing
        };
        let Some(account) = self.accounts.get(origin.account as usize) else {
            return;
        };
        let heard = if account.rules.mappings.is_empty() {
            self.route(origin, message, wish)
        } else {
            let Some(heard) = self.publish_mapped(origin, message, wish) else {
                return;
            };
            heard
        };
        if heard == 0 && wants_no_responders {
            self.answer_no_responders(from, message);
        }
    }

    /// Routes a message under the subject that its account maps it to. Permissions are about that one.
    /// `None`: its sender may not.
    fn publish_mapped(
        &mut self,
        origin: Origin,
        message: &Message<'_>,
        wish: Wish,
    ) -> Option<usize> {
        let from = origin.producer.place;
        let account = self.accounts.get(origin.account as usize)?;
        let mut changed = Vec::new();
        let mappings = &account.rules.mappings;
        let mapped = mappings.map(message.subject, &mut self.random, &mut changed);
        let subject = match mapped {
            Mapped::Same | Mapped::Dropped => message.subject,
            Mapped::Changed => &changed,
        };
        match self.ask(from, |neighbour, cx| neighbour.admit(subject, cx))? {
            Ok(Permit::Granted) => {}
            Ok(Permit::Refused) => return None,
            Err(error) => {
                self.fail(from, &error);
                return None;
            }
        }
        if mapped == Mapped::Dropped {
            return Some(0);
        }
        Some(self.route(origin, &renamed(message, subject), wish))
    }

    /// Answers how many were reached, as far as that is known here.
    pub(super) fn route(&mut self, mut origin: Origin, message: &Message<'_>, wish: Wish) -> usize {
        let Some(account) = self.accounts.get_mut(origin.account as usize) else {
            return 0;
        };
        let mut scratch = self.scratch.pop().unwrap_or_default();
        let interest = &mut account.interest;
        interest.matching(message.subject, &mut |id, entry| {
            scratch.local.extend_from_slice(entry.plain.local());
            for sub in entry.plain.distant() {
                // Resolved to links below, where the borrow allows it.
                scratch.distant.push(Distant {
                    link: sub.0,
                    group: GroupId::PLAIN,
                    certainty: Certainty::Sure,
                    shadow: NONE,
                });
            }
            scratch
                .groups
                .extend(entry.groups().iter().map(|group| (group.id, id)));
        });
        let mut heard = 0;
        if !scratch.is_empty() {
            self.resolve_distant(&origin, message, &mut scratch);
            if !scratch.groups.is_empty() {
                self.choose_members(&origin, message, &mut scratch);
            }
            heard = self.deliver_all(&mut origin, message, &mut scratch, wish);
            for (place, sub) in scratch.finished.drain(..) {
                self.end_sub(place, sub);
            }
            scratch.local.clear();
            scratch.distant.clear();
            scratch.groups.clear();
        }
        if scratch.local.capacity() <= KEEP {
            self.scratch.push(scratch);
        }
        heard
    }

    /// Which links the keys that match belong to, as far as the message may cross them.
    fn resolve_distant(&self, origin: &Origin, message: &Message<'_>, scratch: &mut Scratch) {
        let interest = self.interest_of(origin);
        scratch.distant.retain_mut(|distant| {
            let sub = interest.and_then(|interest| interest.sub(SubId(distant.link)));
            sub.is_some_and(|sub| {
                distant.link = sub.link;
                distant.certainty = self.certainty_of(sub);
                distant.shadow = own_shadow(sub);
                self.may_cross(origin, sub, message.subject)
            })
        });
    }

    /// One member of each group, a group being its name however many subjects it was found on.
    fn choose_members(&mut self, origin: &Origin, message: &Message<'_>, scratch: &mut Scratch) {
        let mut groups = std::mem::take(&mut scratch.groups);
        groups.sort_unstable();
        for run in groups.chunk_by(|a, b| a.0 == b.0) {
            let Some((group, _)) = run.first() else {
                continue;
            };
            if origin.groups == Groups::Named && !self.is_named(origin, *group, message) {
                continue;
            }
            match self.choose_client(origin, message, run) {
                Some(Member::Local(sub)) => scratch.local.push(sub),
                Some(Member::Beside(link, certainty)) => scratch.distant.push(Distant {
                    link,
                    group: *group,
                    certainty,
                    shadow: NONE,
                }),
                None => {
                    if let Some((link, shadow)) = self.choose_distant(origin, message, run) {
                        scratch.distant.push(Distant {
                            link,
                            group: *group,
                            certainty: Certainty::Sure,
                            shadow,
                        });
                    }
                }
            }
        }
        groups.clear();
        scratch.groups = groups;
    }

    fn is_named(&self, origin: &Origin, group: GroupId, message: &Message<'_>) -> bool {
        let name = self
            .interest_of(origin)
            .and_then(|interest| interest.group_name(group));
        name.is_some_and(|name| message.queues().any(|queue| queue == name))
    }

    fn interest_of(&self, origin: &Origin) -> Option<&crate::interest::Interest> {
        self.accounts
            .get(origin.account as usize)
            .map(|account| &account.interest)
    }

    /// A client of this server wins over another server; all clients are equal, in whichever shard
    /// they are.
    fn choose_client(
        &mut self,
        origin: &Origin,
        message: &Message<'_>,
        run: &[(GroupId, EntryId)],
    ) -> Option<Member> {
        let draw = self.random.draw();
        let here: usize = self
            .members(origin, run)
            .map(|members| members.local().len())
            .sum();
        let beside = if N::HAS_SIBLINGS {
            self.clients_beside(origin, message, run, Certainty::Sure)
                .fold(0, |sum, (_, weight)| sum + weight)
        } else {
            0
        };
        let elsewhere = |certainty, mut left: u64| {
            self.clients_beside(origin, message, run, certainty)
                .find_map(|(link, weight)| {
                    if left < weight {
                        return Some(Member::Beside(link, certainty));
                    }
                    left -= weight;
                    None
                })
        };
        // Where permissions are asked elsewhere, the message would be lost if they say no: only if
        // there is nobody else.
        let doubtful = || elsewhere(Certainty::Filtered, 0).filter(|_| N::HAS_SIBLINGS);
        if here == 0 && beside == 0 {
            return doubtful();
        }
        let draw = random::scale(draw, here as u64 + beside);
        if draw >= here as u64 {
            return elsewhere(Certainty::Sure, draw - here as u64);
        }
        let start = draw as usize;
        let interest = self.interest_of(origin)?;
        let all = || {
            self.members(origin, run)
                .flat_map(|members| members.local())
        };
        let from = origin.producer.place;
        all()
            .skip(start)
            .chain(all().take(start))
            .copied()
            .find(|id| {
                interest.sub(*id).is_some_and(|sub| {
                    let echoed =
                        sub.link == from && !origin.standing.echo && origin.crossed == Crossed::Not;
                    !echoed
                        && (!sub.filtered
                            || self.links.get(sub.link).is_some_and(|link| {
                                let queue = interest.group_name(sub.group);
                                link.neighbour.may_hear(message.subject, queue)
                            }))
                })
            })
            .map(Member::Local)
            .or_else(|| elsewhere(Certainty::Sure, 0))
            .or_else(doubtful)
    }

    /// A link in proportion to the members behind it, and the shadow by which it is one.
    fn choose_distant(
        &mut self,
        origin: &Origin,
        message: &Message<'_>,
        run: &[(GroupId, EntryId)],
    ) -> Option<(u32, u32)> {
        let draw = self.random.draw();
        let among = |certainty| {
            let weighted = || {
                self.distant_members(origin, message, run)
                    .filter(|sub| self.certainty_of(sub) == certainty)
                    .map(|sub| ((sub.link, own_shadow(sub)), u64::from(sub.weight)))
            };
            let total: u64 = weighted().map(|(_, weight)| weight).sum();
            let mut left = random::scale(draw, total);
            weighted()
                .filter(|(_, weight)| *weight > 0)
                .find_map(|(chosen, weight)| {
                    if left < weight {
                        return Some(chosen);
                    }
                    left -= weight;
                    None
                })
        };
        // What is chosen in doubt may be refused where permissions are known, and then nobody gets it.
        let doubtful = || among(Certainty::Filtered).filter(|_| N::HAS_SIBLINGS);
        among(Certainty::Sure).or_else(doubtful)
    }

    fn members<'a>(
        &'a self,
        origin: &Origin,
        run: &'a [(GroupId, EntryId)],
    ) -> impl Iterator<Item = &'a crate::interest::Members> + use<'a, N> {
        let interest = self.interest_of(origin);
        run.iter().filter_map(move |(group, entry)| {
            let entry = interest?.entry(*entry)?;
            entry.members(*group)
        })
    }

    /// The members of a group behind other links, as far as the message may cross those.
    fn distant_members<'a>(
        &'a self,
        origin: &'a Origin,
        message: &'a Message<'_>,
        run: &'a [(GroupId, EntryId)],
    ) -> impl Iterator<Item = &'a Sub> + use<'a, N> {
        let interest = self.interest_of(origin);
        self.members(origin, run)
            .flat_map(|members| members.distant())
            .filter_map(move |id| interest?.sub(*id))
            .filter(|sub| self.may_cross(origin, sub, message.subject))
    }

    /// The links to siblings that have clients in a group, and how many each.
    fn clients_beside<'a>(
        &'a self,
        origin: &'a Origin,
        message: &'a Message<'_>,
        run: &'a [(GroupId, EntryId)],
        certainty: Certainty,
    ) -> impl Iterator<Item = (u32, u64)> + use<'a, N> {
        self.distant_members(origin, message, run)
            .filter(move |sub| self.certainty_of(sub) == certainty)
            .filter(|sub| {
                self.standing_of(sub)
                    .is_some_and(|it| it.role == Role::Client)
            })
            .map(|sub| (sub.link, u64::from(sub.weight)))
    }

    /// Never back where it came from, nor to another member of the cluster it came from, nor to a
    /// second sibling.
    fn may_cross(&self, origin: &Origin, sub: &Sub, subject: &[u8]) -> bool {
        let from_here = origin.crossed == Crossed::Not;
        if from_here && sub.link == origin.producer.place || !from_here && sub.party != NONE {
            return false;
        }
        let (Some(standing), Some(link)) = (self.standing_of(sub), self.links.get(sub.link)) else {
            return false;
        };
        let cluster = origin.standing.cluster;
        (cluster == 0 || cluster != standing.cluster)
            // Of a shadow, the link knows another subject (see `deliver_import`).
            && (own_shadow(sub) != NONE || link.neighbour.may_hear(subject, None))
    }

    /// Answers how many were reached.
    fn deliver_all(
        &mut self,
        origin: &mut Origin,
        message: &Message<'_>,
        scratch: &mut Scratch,
        wish: Wish,
    ) -> usize {
        let body = Body::of(message, scratch.local.len() + scratch.distant.len());
        let mut heard = 0;
        let shown = shown_to_clients(origin, message);
        for id in &scratch.local {
            heard +=
                usize::from(self.deliver_local(origin, &shown, *id, &body, &mut scratch.finished));
        }
        if scratch.distant.is_empty() {
            return heard;
        }
        // What the message leads to (a reply) must find its way back: interest goes first.
        self.show_changes(origin.account);
        let all_doubtful = || {
            let mut all = scratch.distant.iter();
            all.all(|distant| distant.certainty == Certainty::Filtered)
        };
        // What was reached by a message within this one is not marked as reached by it.
        self.sequence += 1;
        if N::HAS_SIBLINGS && wish == Wish::ToKnow && heard == 0 && all_doubtful() {
            origin.question = self.sequence;
        }
        let mut asked = 0;
        for i in 0..scratch.distant.len() {
            let Some(distant) = scratch.distant.get(i).copied() else {
                break;
            };
            let reached = if distant.shadow == NONE {
                self.deliver_distant(origin, message, distant.link, &body, scratch)
            } else {
                self.deliver_import(origin, message, i, &body, scratch)
            };
            asked += usize::from(reached);
        }
        if origin.question != 0 && origin.crossed == Crossed::Not {
            self.await_answers(origin.question, asked);
        }
        heard + asked
    }

    #[inline]
    fn deliver_local(
        &mut self,
        origin: &Origin,
        message: &Message<'_>,
        id: SubId,
        body: &Body,
        finished: &mut Vec<(u32, SubId)>,
    ) -> bool {
        let Some(sub) = self.interest_of(origin).and_then(|all| all.sub(id)) else {
            return false;
        };
        let (place, filtered) = (sub.link, sub.filtered);
        // The subscription that counts, and the account it is in.
        let mut counted = (origin.account, id);
        let local;
        let mut renamed_message;
        let mut message = message;
        if sub.shadow != NONE {
            match self.shadow_of(sub) {
                Some(Shadow::Service(service)) => return self.request(origin, message, service),
                Some(Shadow::Responses) => return self.respond(origin, message),
                Some(Shadow::Stream(shadow)) => {
                    let Some(subject) = self.local_subject(&shadow, message.subject) else {
                        return false;
                    };
                    local = subject;
                    renamed_message = renamed(message, &local);
                    message = &mut renamed_message;
                    counted = (shadow.importer, shadow.parent);
                }
                None => return false,
            }
        }
        let own = place == origin.producer.place && origin.crossed == Crossed::Not;
        if own && !origin.standing.echo {
            return false;
        }
        // Only what was just chosen is asked about its group: the plain ones have none.
        if filtered {
            let interest = self.interest_of(origin);
            let queue = interest.and_then(|interest| {
                let sub = interest.sub(id)?;
                interest.group_name(sub.group)
            });
            let may = |link: &super::Link<N>| link.neighbour.may_hear(message.subject, queue);
            if !self.links.get(place).is_some_and(may) {
                return false;
            }
        }
        let Some(link) = self.links.get_mut(place) else {
            return false;
        };
        let (account, counter) = counted;
        let Some(counter_of) = self.accounts.get_mut(account as usize) else {
            return false;
        };
        let Some(sub) = counter_of.interest.sub_mut(counter) else {
            return false;
        };
        if sub.delivered >= sub.max && sub.max != Sub::NEVER {
            return false;
        }
        if link.out.len() + message.body.len() > self.env.limits.max_pending {
            link.traffic.dropped += 1;
            let pending = link.out.len();
            self.drop_slow_consumer(place, pending);
            return false;
        }
        sub.delivered = sub.delivered.saturating_add(1);
        if sub.delivered >= sub.max && sub.max != Sub::NEVER {
            finished.push((place, counter));
        }
        let mark = link.out.mark();
        let mut outlet = Outlet {
            now: self.now,
            queue: &mut link.out,
            pool: &mut self.pool,
            body,
        };
        link.neighbour.deliver(
            message,
            Target::Subscription(sub.sid.as_bytes()),
            &mut outlet,
        );
        self.trace_since(place, mark);
        self.delivered(origin, place, message);
        true
    }

    fn deliver_distant(
        &mut self,
        origin: &Origin,
        message: &Message<'_>,
        place: u32,
        body: &Body,
        scratch: &Scratch,
    ) -> bool {
        let sequence = self.sequence;
        if self
            .links
            .get(place)
            .is_none_or(|link| link.mark == sequence || link.ending.is_some())
        {
            return false;
        }
        if let Some(link) = self.links.get_mut(place) {
            link.mark = sequence;
        }
        let same = |distant: &Distant| distant.link == place && distant.shadow == NONE;
        let taken = self.word_for_link(origin, message, place, body, scratch, same);
        if taken {
            self.delivered(origin, place, message);
        }
        taken
    }

    /// One copy for a link for each import by which it wants the message, under the subject it has there.
    fn deliver_import(
        &mut self,
        origin: &Origin,
        message: &Message<'_>,
        at: usize,
        body: &Body,
        scratch: &Scratch,
    ) -> bool {
        let import = |distant: &Distant| {
            let shadow = self.shadows.get(distant.shadow)?;
            Some((distant.link, shadow.import()?))
        };
        let Some(distant) = scratch.distant.get(at) else {
            return false;
        };
        let (wanted, place) = (import(distant), distant.link);
        let mut earlier = scratch.distant.iter().take(at);
        if wanted.is_none() || earlier.any(|other| import(other) == wanted) {
            return false;
        }
        let Some(Shadow::Stream(shadow)) = self.shadows.get(distant.shadow) else {
            return false;
        };
        let Some(subject) = self.local_subject(&shadow, message.subject) else {
            return false;
        };
        let may = |link: &super::Link<N>| link.neighbour.may_hear(&subject, None);
        if !self.links.get(place).is_some_and(may) {
            return false;
        }
        let same: Vec<bool> = scratch
            .distant
            .iter()
            .map(|other| import(other) == wanted)
            .collect();
        let mut same = same.into_iter();
        let message = renamed(message, &subject);
        let taken = self.word_for_link(origin, &message, place, body, scratch, |_| {
            same.next().unwrap_or(false)
        });
        if taken {
            self.delivered(origin, place, &message);
        }
        taken
    }

    /// The one copy for a link, with all the queue groups it was chosen for: those of the entries that
    /// `same` accepts.
    fn word_for_link(
        &mut self,
        origin: &Origin,
        message: &Message<'_>,
        place: u32,
        body: &Body,
        scratch: &Scratch,
        mut same: impl FnMut(&Distant) -> bool,
    ) -> bool {
        let Some(account) = self.accounts.get(origin.account as usize) else {
            return false;
        };
        let mut names: heapless::Vec<&[u8], 16> = heapless::Vec::new();
        let mut spilled = Vec::new();
        for distant in &scratch.distant {
            if same(distant)
                && distant.group != GroupId::PLAIN
                && let Some(name) = account.interest.group_name(distant.group)
                && let Err(name) = names.push(name)
            {
                spilled.push(name);
            }
        }
        if !spilled.is_empty() {
            spilled.extend_from_slice(&names);
        }
        let queues: &[&[u8]] = if spilled.is_empty() { &names } else { &spilled };
        let Some(link) = self.links.get_mut(place) else {
            return false;
        };
        // Losing a message is allowed, losing the link is worse, and memory has an end.
        let queued = link.out.len();
        let fits = queued + message.body.len() <= self.env.limits.max_pending;
        let in_time = match &mut link.delay {
            Some(delay) => delay.admits(self.now, queued),
            None => true,
        };
        if !fits || !in_time {
            if link.traffic.dropped == 0 {
                let mut who = link.neighbour.label();
                if who.is_empty() {
                    who.push_str("another thread");
                }
                log::warn!(
                    "{who} - the line is behind by {queued} bytes{}: messages for it are dropped",
                    if in_time {
                        ""
                    } else {
                        ", the oldest for longer than max_queue_time"
                    },
                );
            }
            link.traffic.dropped += 1;
            return false;
        }
        let mark = link.out.mark();
        let mut outlet = Outlet {
            now: self.now,
            queue: &mut link.out,
            pool: &mut self.pool,
            body,
        };
        let taken = link
            .neighbour
            .deliver(message, Target::Link { queues, origin }, &mut outlet);
        self.trace_since(place, mark);
        taken
    }

    /// Counts it, wakes the receiver's driver once per batch, and slows a producer that outruns it.
    #[inline]
    fn delivered(&mut self, origin: &Origin, place: u32, message: &Message<'_>) {
        let high_water = self.high_water();
        let slows =
            origin.standing.reach == Reach::Local && !self.env.limits.no_fast_producer_stall;
        let Some(link) = self.links.get_mut(place) else {
            return;
        };
        link.traffic.out_msgs += 1;
        link.traffic.out_bytes += message.body.len() as u64;
        if !link.woken {
            if !link.blocked {
                link.progress = self.now;
            }
            link.woken = true;
            self.wakes.push(place);
        }
        if slows && link.out.len() > high_water {
            self.hold(origin, place);
        }
    }

    pub(super) fn drop_slow_consumer(&mut self, place: u32, pending: usize) {
        if self
            .links
            .get(place)
            .is_none_or(|link| link.ending.is_some())
        {
            return;
        }
        log::warn!(
            "Slow Consumer Detected: MaxPending of {} Exceeded ({pending} bytes wait)",
            self.env.limits.max_pending
        );
        self.end(place, "Slow Consumer (Pending Bytes)", true);
    }

    /// Nobody heard a request: its sender is told on its own plain subscription for the reply.
    pub(super) fn answer_no_responders(&mut self, from: u32, message: &Message<'_>) {
        let Some(reply) = message.reply else { return };
        let Some(link) = self.links.get(from) else {
            return;
        };
        let Some(account) = self.accounts.get_mut(link.account as usize) else {
            return;
        };
        let mut own = None;
        let mut candidates: Vec<SubId> = Vec::new();
        account.interest.matching(reply, &mut |_, entry| {
            candidates.extend_from_slice(entry.plain.local());
        });
        for id in candidates {
            if account.interest.sub(id).is_some_and(|sub| sub.link == from) {
                own = Some(id);
                break;
            }
        }
        let Some(id) = own else { return };
        let Some(sub) = account.interest.sub(id) else {
            return;
        };
        let Some(link) = self.links.get_mut(from) else {
            return;
        };
        // Not a delivery that an UNSUB counts.
        write::no_responders(
            link.out.buffer(&mut self.pool),
            reply,
            sub.sid.as_bytes(),
            message.subject,
        );
    }
}

/// JetStream's deliveries cross a link with the consumer's inbox as subject and
/// `ack-reply@original-subject` as reply; a client is shown the two halves (leaf protocol, reply
/// subjects). Everything else is shown as it came.
fn shown_to_clients<'a>(origin: &Origin, message: &Message<'a>) -> Message<'a> {
    let mut shown = *message;
    if origin.standing.reach == Reach::Distant
        && let Some(reply) = message.reply
        && reply.starts_with(b"$JS.ACK.")
        && let Some((ack, subject)) = split_ack(reply)
    {
        shown.subject = subject;
        shown.reply = Some(ack);
    }
    shown
}

/// Splits at the first `@` behind at least eight dots, if there is anything behind it.
fn split_ack(reply: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut dots = 0;
    for (at, byte) in reply.iter().enumerate() {
        match byte {
            b'.' => dots += 1,
            b'@' if dots >= 8 => {
                let (ack, subject) = (reply.get(..at)?, reply.get(at + 1..)?);
                return (!subject.is_empty()).then_some((ack, subject));
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jetstream_replies_are_split() {
        let reply = b"$JS.ACK.S.L.1.1.1.1795396781301678307.1@orders.1";
        assert_eq!(
            split_ack(reply),
            Some((
                &b"$JS.ACK.S.L.1.1.1.1795396781301678307.1"[..],
                &b"orders.1"[..]
            ))
        );
        assert_eq!(split_ack(b"$JS.ACK.S.L.1.1.1.1.1@"), None);
        assert_eq!(split_ack(b"$JS.ACK.a@b"), None);
    }
}
