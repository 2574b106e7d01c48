//! Where one message goes: plain subscribers, one member of each queue group, each leaf link at most
//! once (leaf protocol, message flow).

use super::{Shard, trace};
use crate::interest::{EntryId, GroupId, Reach, SubId};
use crate::link::{Body, Neighbour, Outlet, Standing, Target};
use crate::message::Message;
use crate::wire::write;

/// Lists that are filled anew for each message and keep their memory.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// Clients' subscriptions.
    local: Vec<SubId>,
    /// Leaf links, with the queue group each was chosen for.
    distant: Vec<(u32, GroupId)>,
    /// Queue groups and the entry each was found on.
    groups: Vec<(GroupId, EntryId)>,
    /// Subscriptions that had their last message.
    finished: Vec<(u32, SubId)>,
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
        let origin = link.neighbour.standing();
        let at = link.account;
        let Some(account) = self.accounts.get_mut(at as usize) else {
            return;
        };
        self.sequence += 1;

        let scratch = &mut self.scratch;
        let interest = &mut account.interest;
        interest.matching(message.subject, &mut |id, entry| {
            scratch.local.extend_from_slice(entry.plain.local());
            for sub in entry.plain.distant() {
                // Resolved to links below, where the borrow allows it.
                scratch.distant.push((sub.0, GroupId::PLAIN));
            }
            scratch
                .groups
                .extend(entry.groups().iter().map(|group| (group.id, id)));
        });
        if scratch.local.is_empty() && scratch.distant.is_empty() && scratch.groups.is_empty() {
            if wants_no_responders {
                self.answer_no_responders(from, message);
            }
            return;
        }
        for (sub, _) in &mut scratch.distant {
            *sub = interest.sub(SubId(*sub)).map_or(from, |sub| sub.link);
        }
        // Out of the way of what follows, which needs all of the shard.
        let mut scratch = std::mem::take(scratch);
        if !scratch.groups.is_empty() {
            self.choose_members(from, origin, message, &mut scratch);
        }
        let heard = self.deliver_all(from, origin, message, &mut scratch);
        if heard == 0 && wants_no_responders {
            self.answer_no_responders(from, message);
        }
        for (place, sub) in scratch.finished.drain(..) {
            self.end_sub(place, sub);
        }
        scratch.local.clear();
        scratch.distant.clear();
        scratch.groups.clear();
        if scratch.local.capacity() > KEEP {
            scratch = Scratch::default();
        }
        self.scratch = scratch;
    }

    /// One member of each group, a group being its name however many subjects it was found on.
    fn choose_members(
        &mut self,
        from: u32,
        origin: Standing,
        message: &Message<'_>,
        scratch: &mut Scratch,
    ) {
        let mut groups = std::mem::take(&mut scratch.groups);
        groups.sort_unstable();
        for run in groups.chunk_by(|a, b| a.0 == b.0) {
            let Some((group, _)) = run.first() else {
                continue;
            };
            // A server names the groups it wants served.
            if origin.reach == Reach::Distant && !self.is_named(from, *group, message) {
                continue;
            }
            if let Some(sub) = self.choose_local(from, origin, message, run) {
                scratch.local.push(sub);
            } else if let Some(link) = self.choose_distant(from, origin, message, run) {
                scratch.distant.push((link, *group));
            }
        }
        groups.clear();
        scratch.groups = groups;
    }

    fn is_named(&self, from: u32, group: GroupId, message: &Message<'_>) -> bool {
        let name = self
            .interest_of(from)
            .and_then(|interest| interest.group_name(group));
        name.is_some_and(|name| message.queues().any(|queue| queue == name))
    }

    fn interest_of(&self, place: u32) -> Option<&crate::interest::Interest> {
        let link = self.links.get(place)?;
        self.accounts
            .get(link.account as usize)
            .map(|account| &account.interest)
    }

    /// A local member wins over any distant one; all local members are equal.
    fn choose_local(
        &mut self,
        from: u32,
        origin: Standing,
        message: &Message<'_>,
        run: &[(GroupId, EntryId)],
    ) -> Option<SubId> {
        let count: usize = self
            .members(from, run)
            .map(|members| members.local().len())
            .sum();
        if count == 0 {
            return None;
        }
        let start = self.random.below(count as u64) as usize;
        let interest = self.interest_of(from)?;
        let all = || self.members(from, run).flat_map(|members| members.local());
        all()
            .skip(start)
            .chain(all().take(start))
            .copied()
            .find(|id| {
                interest.sub(*id).is_some_and(|sub| {
                    let echoed = sub.link == from && !origin.echo;
                    !echoed
                        && (!sub.filtered
                            || self.links.get(sub.link).is_some_and(|link| {
                                let queue = interest.group_name(sub.group);
                                link.neighbour.may_hear(message.subject, queue)
                            }))
                })
            })
    }

    /// A link in proportion to the members behind it.
    fn choose_distant(
        &mut self,
        from: u32,
        origin: Standing,
        message: &Message<'_>,
        run: &[(GroupId, EntryId)],
    ) -> Option<u32> {
        let draw = self.random.draw();
        let interest = self.interest_of(from)?;
        let weighted = || {
            self.members(from, run)
                .flat_map(|members| members.distant())
                .filter_map(|id| interest.sub(*id))
                .filter(|sub| self.may_cross(from, origin, sub.link, message.subject))
                .map(|sub| (sub.link, u64::from(sub.weight)))
        };
        let total: u64 = weighted().map(|(_, weight)| weight).sum();
        let mut left = ((u128::from(draw) * u128::from(total)) >> 64) as u64;
        weighted()
            .filter(|(_, weight)| *weight > 0)
            .find_map(|(link, weight)| {
                if left < weight {
                    return Some(link);
                }
                left -= weight;
                None
            })
    }

    fn members<'a>(
        &'a self,
        from: u32,
        run: &'a [(GroupId, EntryId)],
    ) -> impl Iterator<Item = &'a crate::interest::Members> + 'a {
        let interest = self.interest_of(from);
        run.iter().filter_map(move |(group, entry)| {
            let entry = interest?.entry(*entry)?;
            entry
                .groups()
                .iter()
                .find(|g| g.id == *group)
                .map(|g| &g.members)
        })
    }

    /// Never back where it came from, nor to another member of the cluster it came from.
    fn may_cross(&self, from: u32, origin: Standing, to: u32, subject: &[u8]) -> bool {
        to != from
            && self.links.get(to).is_some_and(|link| {
                let standing = link.neighbour.standing();
                (origin.cluster == 0 || origin.cluster != standing.cluster)
                    && link.neighbour.may_hear(subject, None)
            })
    }

    /// Answers how many were reached.
    fn deliver_all(
        &mut self,
        from: u32,
        origin: Standing,
        message: &Message<'_>,
        scratch: &mut Scratch,
    ) -> usize {
        let body = Body::of(message, scratch.local.len() + scratch.distant.len());
        let mut heard = 0;
        let shown = shown_to_clients(origin, message);
        for id in &scratch.local {
            heard += usize::from(self.deliver_local(
                from,
                origin,
                &shown,
                *id,
                &body,
                &mut scratch.finished,
            ));
        }
        if scratch.distant.is_empty() {
            return heard;
        }
        // What the message leads to (a reply) must find its way back: interest goes first.
        let at = self
            .links
            .get(from)
            .map_or(crate::slab::NONE, |link| link.account);
        self.show_changes(at);
        for i in 0..scratch.distant.len() {
            let Some((place, _)) = scratch.distant.get(i).copied() else {
                break;
            };
            heard +=
                usize::from(self.deliver_distant(from, origin, message, place, &body, scratch));
        }
        heard
    }

    #[inline]
    fn deliver_local(
        &mut self,
        from: u32,
        origin: Standing,
        message: &Message<'_>,
        id: SubId,
        body: &Body,
        finished: &mut Vec<(u32, SubId)>,
    ) -> bool {
        let at = self
            .links
            .get(from)
            .map_or(crate::slab::NONE, |link| link.account);
        let Some(account) = self.accounts.get_mut(at as usize) else {
            return false;
        };
        let Some(sub) = account.interest.sub(id) else {
            return false;
        };
        let (place, filtered) = (sub.link, sub.filtered);
        if place == from && !origin.echo {
            return false;
        }
        // Only what was just chosen is asked about its group: the plain ones have none.
        if filtered {
            let queue = account.interest.group_name(sub.group);
            let may = |link: &super::Link<N>| link.neighbour.may_hear(message.subject, queue);
            if !self.links.get(place).is_some_and(may) {
                return false;
            }
        }
        let Some(sub) = account.interest.sub_mut(id) else {
            return false;
        };
        let Some(link) = self.links.get_mut(place) else {
            return false;
        };
        if sub.delivered >= sub.max {
            return false;
        }
        if link.out.len() + message.body.len() > self.env.limits.max_pending {
            link.traffic.dropped += 1;
            let pending = link.out.len();
            self.drop_slow_consumer(place, pending);
            return false;
        }
        sub.delivered += 1;
        if sub.delivered >= sub.max {
            finished.push((place, id));
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
        if self.tracing {
            trace::outgoing(&link.neighbour.label(), &link.out, mark);
        }
        self.delivered(from, origin, place, message);
        true
    }

    fn deliver_distant(
        &mut self,
        from: u32,
        origin: Standing,
        message: &Message<'_>,
        place: u32,
        body: &Body,
        scratch: &Scratch,
    ) -> bool {
        let sequence = self.sequence;
        if self
            .links
            .get(place)
            .is_none_or(|link| link.mark == sequence)
            || !self.may_cross(from, origin, place, message.subject)
        {
            return false;
        }
        let taken = self.word_for_link(from, message, place, body, scratch);
        if taken {
            self.delivered(from, origin, place, message);
        }
        taken
    }

    /// The one copy for a link, with all the queue groups it was chosen for.
    fn word_for_link(
        &mut self,
        from: u32,
        message: &Message<'_>,
        place: u32,
        body: &Body,
        scratch: &Scratch,
    ) -> bool {
        let at = self
            .links
            .get(from)
            .map_or(crate::slab::NONE, |link| link.account);
        let Some(account) = self.accounts.get(at as usize) else {
            return false;
        };
        let mut names: heapless::Vec<&[u8], 16> = heapless::Vec::new();
        let mut spilled = Vec::new();
        for (link, group) in &scratch.distant {
            if *link == place
                && *group != GroupId::PLAIN
                && let Some(name) = account.interest.group_name(*group)
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
        link.mark = self.sequence;
        // Losing a message is allowed, losing the link is worse, and memory has an end.
        let queued = link.out.len();
        let fits = queued + message.body.len() <= self.env.limits.max_pending;
        let in_time = match &mut link.delay {
            Some(delay) => delay.admits(self.now, queued),
            None => true,
        };
        if !fits || !in_time {
            if link.traffic.dropped == 0 {
                log::warn!(
                    "{} - the line is behind by {queued} bytes{}: messages for it are dropped",
                    link.neighbour.label(),
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
            .deliver(message, Target::Link(queues), &mut outlet);
        if self.tracing {
            trace::outgoing(&link.neighbour.label(), &link.out, mark);
        }
        taken
    }

    /// Counts it, wakes the receiver's driver once per batch, and slows a producer that outruns it.
    #[inline]
    fn delivered(&mut self, from: u32, origin: Standing, place: u32, message: &Message<'_>) {
        let high_water = self.high_water();
        let slows = origin.reach == Reach::Local && !self.env.limits.no_fast_producer_stall;
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
            self.hold(from, place);
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
    fn answer_no_responders(&mut self, from: u32, message: &Message<'_>) {
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
fn shown_to_clients<'a>(origin: Standing, message: &Message<'a>) -> Message<'a> {
    let mut shown = *message;
    if origin.reach == Reach::Distant
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
