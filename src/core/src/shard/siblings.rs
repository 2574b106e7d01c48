//! The other shards of this process: what they are told, what they want, and what is handed over.
//!
//! Nothing here waits for a sibling, and no sibling is ever held: what one is given counts as waiting
//! until it has taken it in, and holds producers as any other queue does.

use foldhash::fast::FixedState;
use hashbrown::hash_map::Entry;
use hashbrown::{HashMap, HashTable};

use super::flow::Hold;
use super::route::Wish;
use super::{AccountSeed, Shard};
use crate::interest::{EntryId, GroupId, Reach, Sub, SubId};
use crate::link::sibling::{Certainty, Notice, Origin, PartyId};
use crate::link::{LinkId, Neighbour, Role, Standing};
use crate::message::Message;
use crate::random::Entropy;
use crate::slab::{NONE, Slab};
use crate::subject::has_wildcard;
use crate::time::Instant;

/// The siblings of a shard, and those of their links that need to be told apart.
#[derive(Debug, Default)]
pub(super) struct Family {
    /// Their links' places.
    siblings: Vec<u32>,
    parties: Slab<Party>,
    by_name: HashMap<(u32, PartyId), u32, FixedState>,
    /// How many of our clients' subscriptions are filtered, by account, subject and group.
    filtered: HashMap<(u32, EntryId, GroupId), u32, FixedState>,
    /// Requests of which siblings have yet to say whether anybody heard them: how many of them.
    questions: HashMap<u64, usize, FixedState>,
}

impl Family {
    /// The places of the siblings' links.
    pub(super) fn siblings(&self) -> &[u32] {
        &self.siblings
    }

    /// Whether a sibling's link is at `place`.
    pub(super) fn has(&self, place: u32) -> bool {
        self.siblings.contains(&place)
    }
}

#[derive(Debug)]
struct Party {
    account: u32,
    standing: Standing,
    certainty: Certainty,
    subs: HashTable<SubId>,
}

impl<N: Neighbour> Shard<N> {
    /// A further shard of the same process: the same accounts, under the same names to leafs.
    pub fn another(&self, entropy: Box<dyn Entropy>) -> Self {
        let mut shard = Shard::bare(self.env.clone(), entropy);
        shard.all_clients = self.all_clients.clone();
        shard.wall = self.wall.clone();
        for account in &self.accounts {
            shard.add_account(AccountSeed {
                rules: account.rules.clone(),
                loop_name: account.loop_name.clone(),
                connections: account.connections.clone(),
            });
        }
        shard.offer_all_services();
        shard
    }

    /// A link to another shard, on both sides before any other link is opened.
    pub fn open_sibling(&mut self, now: Instant, sibling: N) -> LinkId {
        let link = self.open(now, sibling);
        self.family.siblings.push(link.place);
        for account in 0..self.accounts.len() as u32 {
            self.introduce_account(link.place, account);
        }
        link
    }

    /// Our clients in an account are parties to the sibling at `place`.
    pub(super) fn introduce_account(&mut self, place: u32, account: u32) {
        for certainty in Certainty::ALL {
            self.say_beside(place, |out| {
                Notice::Party {
                    party: PartyId::clients(account, certainty),
                    account,
                    role: Role::Client,
                    cluster: 0,
                }
                .write(out);
            });
        }
    }

    /// Takes what waits for a sibling. Each chunk is for its [`Shard::handle_lent`], and then for
    /// [`Shard::handle_returned`] here.
    pub fn lend(&mut self, sibling: LinkId) -> Option<impl Iterator<Item = Vec<u8>> + use<N>> {
        let link = self.links.get_mut(sibling.place);
        link.map(|link| link.out.lend())
    }

    /// A sibling's chunk.
    pub fn handle_lent(&mut self, now: Instant, sibling: LinkId, chunk: &[u8]) {
        self.now = now;
        self.consume(sibling.place, chunk);
        self.finish_batch(sibling.place);
        self.resume_released();
    }

    /// A sibling has taken in a chunk of ours.
    pub fn handle_returned(&mut self, now: Instant, sibling: LinkId, chunk: Vec<u8>) {
        self.now = now;
        if let Some(link) = self.links.get_mut(sibling.place) {
            link.out.give_back(chunk, &mut self.pool);
            link.progress = now;
        }
        self.release_drained(sibling.place);
    }

    /// How whoever wants this stands: the link, or the party behind it.
    #[inline]
    pub(super) fn standing_of(&self, sub: &Sub) -> Option<Standing> {
        if N::HAS_SIBLINGS && sub.party != NONE {
            let party = self.family.parties.get(sub.party);
            return party.map(|party| party.standing);
        }
        let link = self.links.get(sub.link);
        link.map(|link| link.neighbour.standing())
    }

    /// What is known of whether who wants this gets all that matches it.
    #[inline]
    pub(super) fn certainty_of(&self, sub: &Sub) -> Certainty {
        if N::HAS_SIBLINGS && sub.party != NONE {
            let party = self.family.parties.get(sub.party);
            return party.map_or(Certainty::Sure, |party| party.certainty);
        }
        Certainty::Sure
    }

    /// Routes what a sibling handed over.
    pub(super) fn relay(&mut self, place: u32, origin: &[u8], message: &Message<'_>) {
        let Some(origin) = Origin::read(origin, place) else {
            return;
        };
        self.stand_in(place, origin.account);
        let heard = self.route(origin, message, Wish::Nothing);
        let question = origin.question;
        if question == 0 {
            return;
        }
        self.say_beside(place, |out| {
            match (heard, message.reply) {
                (0, Some(reply)) => Notice::Unheard {
                    question,
                    producer: origin.producer,
                    subject: message.subject,
                    reply,
                },
                _ => Notice::Heard { question },
            }
            .write(out);
        });
    }

    /// So many siblings will say whether anybody heard a request.
    pub(super) fn await_answers(&mut self, question: u64, siblings: usize) {
        if siblings > 0 {
            self.family.questions.insert(question, siblings);
        }
    }

    /// A sibling's link is in one account at a time.
    fn stand_in(&mut self, place: u32, account: u32) {
        let Some(link) = self.links.get_mut(place) else {
            return;
        };
        let before = std::mem::replace(&mut link.account, account);
        if before != account {
            self.show_changes(before);
        }
    }

    /// What a sibling says beside messages.
    pub(super) fn note(&mut self, place: u32, notice: Notice<'_>) {
        match notice {
            Notice::Party {
                party,
                account,
                role,
                cluster,
            } => {
                let key = self.family.parties.insert(Party {
                    account,
                    standing: Standing {
                        reach: Reach::Distant,
                        role,
                        cluster,
                        isolated: false,
                        echo: false,
                    },
                    certainty: party.certainty(),
                    subs: HashTable::new(),
                });
                self.family.by_name.insert((place, party), key);
            }
            Notice::PartyGone { party } => {
                let Some(key) = self.family.by_name.remove(&(place, party)) else {
                    return;
                };
                let Some(party) = self.family.parties.remove(key) else {
                    return;
                };
                self.stand_in(place, party.account);
                for id in party.subs {
                    self.remove_key(party.account, id);
                }
            }
            Notice::Interest {
                party,
                subject,
                queue,
                weight,
            } => {
                let Some(key) = self.family.by_name.get(&(place, party)).copied() else {
                    return;
                };
                let Some(its) = self.family.parties.get_mut(key) else {
                    return;
                };
                let at = its.account;
                let mut subs = std::mem::take(&mut its.subs);
                self.stand_in(place, at);
                let queue_weight = queue.map(|name| (name, weight));
                match weight {
                    0 => self.clear_key(&mut subs, at, subject, queue),
                    _ if party.is_leaf() => {
                        self.set_key(&mut subs, at, subject, queue_weight, place, key);
                    }
                    // Of the shadows of clients we are told.
                    _ => {
                        self.set_plain_key(&mut subs, at, subject, queue_weight, place, key);
                    }
                }
                if let Some(its) = self.family.parties.get_mut(key) {
                    its.subs = subs;
                }
            }
            Notice::Hold { producer } => self.count_hold(producer, Hold::Begins),
            Notice::Release { producer } => self.count_hold(producer, Hold::Ends),
            Notice::Heard { question } => {
                self.family.questions.remove(&question);
            }
            Notice::Unheard {
                question,
                producer,
                subject,
                reply,
            } => {
                let Some(left) = self.family.questions.get_mut(&question) else {
                    return;
                };
                *left -= 1;
                if *left > 0 {
                    return;
                }
                self.family.questions.remove(&question);
                if self.is_ending(producer) {
                    return;
                }
                let message = Message {
                    reply: Some(reply),
                    ..Message::new(subject, b"")
                };
                self.answer_no_responders(producer.place, &message);
                self.touch(producer.place);
            }
        }
    }

    /// Says something to the sibling at `place`.
    pub(super) fn say_beside(&mut self, place: u32, write: impl FnOnce(&mut Vec<u8>)) {
        if let Some(link) = self.links.get_mut(place) {
            write(link.out.buffer(&mut self.pool));
            self.touch(place);
        }
    }

    pub(super) fn say_to_all_beside(&mut self, notice: Notice<'_>) {
        for i in 0..self.family.siblings.len() {
            if let Some(place) = self.family.siblings.get(i).copied() {
                self.say_beside(place, |out| notice.write(out));
            }
        }
    }

    #[inline]
    fn is_alone(&self) -> bool {
        !N::HAS_SIBLINGS || self.family.siblings.is_empty()
    }

    /// A client subscribed: siblings are told of the first one outside of any group, and of how many
    /// a group has.
    pub(super) fn show_client_beside(&mut self, at: u32, id: SubId) {
        if self.is_alone() {
            return;
        }
        let Some(account) = self.accounts.get(at as usize) else {
            return;
        };
        let Some(sub) = account.interest.sub(id) else {
            return;
        };
        let key = (at, sub.entry, sub.group);
        let certainty = certainty(sub);
        if certainty == Certainty::Filtered {
            *self.family.filtered.entry(key).or_default() += 1;
        }
        let count = self.count_clients(key, certainty);
        // Outside of groups only the first one is news.
        if key.2 == GroupId::PLAIN && count != 1 {
            return;
        }
        let Some(name) = self.name_of(key) else {
            return;
        };
        self.tell_clients(at, &name, certainty, count);
    }

    /// The subject and the group of subscriptions, to be told of when these may be gone.
    fn name_of(&self, (at, entry, group): (u32, EntryId, GroupId)) -> Option<Name> {
        let interest = &self.accounts.get(at as usize)?.interest;
        let subject = interest.entry(entry)?.subject.clone();
        Some((subject, interest.group_name(group).map(Into::into)))
    }

    /// Whether each delivery to a client's subscription asks its permissions is another matter from here
    /// on: siblings count it anew.
    pub(super) fn refilter(&mut self, at: u32, id: SubId, filtered: bool) {
        let Some(account) = self.accounts.get_mut(at as usize) else {
            return;
        };
        let Some(sub) = account.interest.sub_mut(id) else {
            return;
        };
        sub.filtered = filtered;
        let key = (at, sub.entry, sub.group);
        if self.is_alone() {
            return;
        }
        if filtered {
            *self.family.filtered.entry(key).or_default() += 1;
        } else {
            self.count_out(key);
        }
        let Some(name) = self.name_of(key) else {
            return;
        };
        for certainty in Certainty::ALL {
            let count = self.count_clients(key, certainty);
            self.tell_clients(at, &name, certainty, count);
        }
    }

    /// One filtered subscription less.
    fn count_out(&mut self, key: (u32, EntryId, GroupId)) {
        if let Entry::Occupied(mut count) = self.family.filtered.entry(key) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    /// How many of our clients want a subject from here on.
    fn tell_clients(&mut self, at: u32, name: &Name, certainty: Certainty, count: u32) {
        let (subject, queue) = name;
        self.say_to_all_beside(Notice::Interest {
            party: PartyId::clients(at, certainty),
            subject,
            queue: queue.as_deref(),
            weight: count,
        });
    }

    /// Takes a client's subscription away, and tells siblings what is left.
    pub(super) fn remove_client_sub(&mut self, at: u32, id: SubId) -> Option<Sub> {
        let alone = self.is_alone();
        let interest = &mut self.accounts.get_mut(at as usize)?.interest;
        if alone {
            let sub = interest.remove(id);
            self.drop_shadows(at, id);
            return sub;
        }
        let sub = interest.sub(id)?;
        let key = (at, sub.entry, sub.group);
        let name = self.name_of(key)?;
        let sub = self.accounts.get_mut(at as usize)?.interest.remove(id)?;
        let certainty = certainty(&sub);
        if certainty == Certainty::Filtered {
            self.count_out(key);
        }
        self.drop_shadows(at, id);
        let count = self.count_clients(key, certainty);
        if name.1.is_some() || count == 0 {
            self.tell_clients(at, &name, certainty, count);
        }
        Some(sub)
    }

    /// Our clients on a subject, in a group or outside of any.
    fn count_clients(&self, key: (u32, EntryId, GroupId), certainty: Certainty) -> u32 {
        let (at, entry, group) = key;
        let own = match group {
            GroupId::PLAIN => self.shadows.own(at, entry),
            _ => 0,
        };
        let filtered = self.family.filtered.get(&key).copied().unwrap_or(0);
        if certainty == Certainty::Filtered {
            return filtered;
        }
        let entry = self
            .accounts
            .get(at as usize)
            .and_then(|account| account.interest.entry(entry));
        let all = entry
            .and_then(|entry| entry.members(group))
            .map_or(0, |members| members.local().len() as u32);
        all.saturating_sub(filtered + own)
    }

    /// A link to another server takes part from now on.
    pub(super) fn begin_party(&mut self, place: u32) {
        if self.is_alone() {
            return;
        }
        let Some(link) = self.links.get(place) else {
            return;
        };
        let standing = link.neighbour.standing();
        let account = link.account;
        for certainty in Certainty::ALL {
            self.say_to_all_beside(Notice::Party {
                party: PartyId::leaf(place, certainty),
                account,
                role: standing.role,
                cluster: standing.cluster,
            });
        }
    }

    /// It does so no longer.
    pub(super) fn end_party(&mut self, place: u32) {
        if self.is_alone() {
            return;
        }
        for certainty in Certainty::ALL {
            let party = PartyId::leaf(place, certainty);
            self.say_to_all_beside(Notice::PartyGone { party });
        }
    }

    /// What a link to another server wants of one subject from here on.
    pub(super) fn show_key_beside(
        &mut self,
        place: u32,
        subject: &[u8],
        queue: Option<&[u8]>,
        weight: u32,
    ) {
        if self.is_alone() {
            return;
        }
        let link = self.links.get(place);
        let hears_all = link.is_some_and(|link| link.neighbour.hears_all());
        // It may be kept from hearing a part of what a wildcard matches.
        let certainty = if hears_all || !has_wildcard(subject) {
            Certainty::Sure
        } else {
            Certainty::Filtered
        };
        self.say_to_all_beside(Notice::Interest {
            party: PartyId::leaf(place, certainty),
            subject,
            queue,
            weight,
        });
    }
}

/// A subject, and the queue group.
type Name = (Box<[u8]>, Option<Box<[u8]>>);

fn certainty(sub: &Sub) -> Certainty {
    if sub.filtered {
        Certainty::Filtered
    } else {
        Certainty::Sure
    }
}
