//! Who wants what: subscriptions and leaf keys of the links, and what leaf links are told of them.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::Shard;
use crate::interest::{EntryId, Interest, Reach, Sub, SubId};
use crate::link::{Body, Neighbour, Offer, Outlet, Role, Standing};
use crate::slab::NONE;
use crate::wire::error::ProtoError;
use crate::wire::write;

/// What the names of accounts for loop detection begin with.
const LOOP_DETECTION: &[u8] = b"$LDS.";

/// What another server wants, each key found by what it names.
pub(super) struct Keys<'a> {
    pub(super) subs: &'a mut HashTable<SubId>,
    pub(super) interest: &'a mut Interest,
    pub(super) hasher: &'a FixedState,
}

impl Keys<'_> {
    fn find(&self, hash: u64, subject: &[u8], queue: Option<&[u8]>) -> Option<SubId> {
        let interest = &*self.interest;
        self.subs
            .find(hash, |id| {
                interest.sub(*id).is_some_and(|sub| {
                    interest
                        .entry(sub.entry)
                        .is_some_and(|entry| *entry.subject == *subject)
                        && interest.group_name(sub.group) == queue
                })
            })
            .copied()
    }

    /// Adds a key of the link at `place` (of one of its parties), or gives it another weight.
    pub(super) fn set(
        self,
        subject: &[u8],
        queue: Option<&[u8]>,
        weight: u32,
        place: u32,
        party: u32,
    ) -> SubId {
        let hash = self.hasher.hash_one((subject, queue));
        if let Some(id) = self.find(hash, subject, queue) {
            self.interest.set_weight(id, weight);
            return id;
        }
        let id = self
            .interest
            .add(subject, queue, Reach::Distant, place, &[]);
        if let Some(sub) = self.interest.sub_mut(id) {
            sub.party = party;
        }
        self.interest.set_weight(id, weight);
        let (interest, hasher) = (&*self.interest, self.hasher);
        self.subs.insert_unique(hash, id, |id| {
            interest.sub(*id).map_or(0, |sub| {
                let subject = interest
                    .entry(sub.entry)
                    .map_or(&[][..], |entry| &entry.subject);
                hasher.hash_one((subject, interest.group_name(sub.group)))
            })
        });
        id
    }

    /// Takes a key away. Answers which it was.
    pub(super) fn clear(self, subject: &[u8], queue: Option<&[u8]>) -> Option<SubId> {
        let hash = self.hasher.hash_one((subject, queue));
        let id = self.find(hash, subject, queue)?;
        if let Ok(found) = self.subs.find_entry(hash, |other| *other == id) {
            found.remove();
        }
        self.interest.remove(id);
        Some(id)
    }
}

/// Whether an account's limits count a connection: clients, and leafs that dialled us.
fn counts(standing: Standing) -> bool {
    standing.role != Role::Upstream
}

impl<N: Neighbour> Shard<N> {
    pub(super) fn join(&mut self, place: u32, account: &str) {
        self.leave(place);
        let Some(at) = self.by_name.get(account).copied() else {
            log::error!("account {account:?} of a user does not exist");
            return self.fail(place, &ProtoError::AuthorizationViolation);
        };
        let Some(link) = self.links.get(place) else {
            return;
        };
        let standing = link.neighbour.standing();
        if counts(standing) && !self.admit_to(at, standing.reach) {
            return self.fail(place, &ProtoError::MaxAccountConnections);
        }
        if let Some(link) = self.links.get_mut(place) {
            link.account = at;
        }
    }

    pub(super) fn attach(&mut self, place: u32, account: &str, unsaid: &[&[u8]]) {
        self.join(place, account);
        let Some(link) = self.links.get(place) else {
            return;
        };
        let Some(account) = self.accounts.get_mut(link.account as usize) else {
            return;
        };
        account.leafs.push(place);
        self.begin_party(place);
        for subject in unsaid {
            self.want(place, subject, None);
        }
        // The name for loop detection goes first: a loop is then cut before the rest is sent.
        let at = self.links.get(place).map_or(NONE, |link| link.account);
        let name = self
            .accounts
            .get(at as usize)
            .map(|account| account.loop_name.clone());
        self.append(place, |out| {
            write::interest(out, name.as_deref().unwrap_or_default().as_bytes(), None);
        });
        self.offer_all(place);
        self.append(place, |out| out.extend_from_slice(write::PING));
    }

    /// Takes away all that a link subscribed to.
    pub(super) fn leave(&mut self, place: u32) {
        let Some(link) = self.links.get_mut(place) else {
            return;
        };
        let at = std::mem::replace(&mut link.account, NONE);
        let subs = std::mem::take(&mut link.subs);
        let Some(account) = self.accounts.get_mut(at as usize) else {
            return;
        };
        let is_leaf = account.leafs.contains(&place);
        account.leafs.retain(|leaf| *leaf != place);
        let standing = link.neighbour.standing();
        if counts(standing) && !self.own.is_at(place) {
            self.leave_account(at, standing.reach);
        }
        for id in subs {
            if is_leaf {
                // Siblings are told of all of them together below.
                self.remove_key(at, id);
            } else {
                self.remove_client_sub(at, id);
            }
        }
        if is_leaf {
            self.end_party(place);
        }
        self.show_changes(at);
    }

    pub(super) fn sid_hash(&self, sid: &[u8]) -> u64 {
        self.hasher.hash_one(sid)
    }

    pub(super) fn find_sub(&self, place: u32, sid: &[u8]) -> Option<SubId> {
        let link = self.links.get(place)?;
        let interest = &self.accounts.get(link.account as usize)?.interest;
        link.subs
            .find(self.sid_hash(sid), |id| {
                interest
                    .sub(*id)
                    .is_some_and(|sub| sub.sid.as_bytes() == sid)
            })
            .copied()
    }

    pub(super) fn subscribe(
        &mut self,
        place: u32,
        subject: &[u8],
        queue: Option<&[u8]>,
        sid: &[u8],
        filtered: bool,
    ) {
        // A second SUB of a live sid is acknowledged and ignored.
        if self.find_sub(place, sid).is_some() {
            return;
        }
        let hash = self.sid_hash(sid);
        let Some(link) = self.links.get_mut(place) else {
            return;
        };
        let Some(account) = self.accounts.get_mut(link.account as usize) else {
            return;
        };
        let at = link.account;
        let id = account
            .interest
            .add(subject, queue, Reach::Local, place, sid);
        if filtered && let Some(sub) = account.interest.sub_mut(id) {
            sub.filtered = true;
        }
        let (interest, hasher) = (&account.interest, &self.hasher);
        link.subs.insert_unique(hash, id, |id| {
            interest
                .sub(*id)
                .map_or(0, |sub| hasher.hash_one(sub.sid.as_bytes()))
        });
        self.show_client_beside(at, id);
        self.shadow_client(place, at, id, subject);
    }

    pub(super) fn unsubscribe(&mut self, place: u32, sid: &[u8], max: Option<u64>) {
        let Some(id) = self.find_sub(place, sid) else {
            return;
        };
        let account = self.links.get(place).map_or(NONE, |link| link.account);
        let Some(account) = self.accounts.get_mut(account as usize) else {
            return;
        };
        if let Some(max) = max
            && let Some(sub) = account.interest.sub_mut(id)
            && u64::from(sub.delivered) < max
        {
            sub.max = u32::try_from(max).unwrap_or(Sub::NEVER);
            return;
        }
        self.end_sub(place, id);
    }

    /// Ends a client's subscription.
    pub(super) fn end_sub(&mut self, place: u32, id: SubId) {
        let at = self.links.get(place).map_or(NONE, |link| link.account);
        let Some(sub) = self.remove_client_sub(at, id) else {
            return;
        };
        let Some(link) = self.links.get_mut(place) else {
            return;
        };
        let hash = self.hasher.hash_one(sub.sid.as_bytes());
        if let Ok(found) = link.subs.find_entry(hash, |other| *other == id) {
            found.remove();
        }
        // The message that was its last may have come from another account.
        self.show_changes_later(at);
    }

    pub(super) fn want(&mut self, place: u32, subject: &[u8], queue: Option<(&[u8], u32)>) {
        let at = self.links.get(place).map_or(NONE, |link| link.account);
        if let Some(account) = self.accounts.get(at as usize)
            && account.loop_name.as_bytes() == subject
        {
            // A link that we dialled sees this by itself, and says how long to wait.
            let error = ProtoError::LoopDetected {
                account: account.name.as_bytes().into(),
            };
            if let Some(link) = self.links.get(place) {
                log::error!("{} - {error}", link.neighbour.label());
            }
            return self.fail(place, &error);
        }
        let Some(link) = self.links.get_mut(place) else {
            return;
        };
        let mut subs = std::mem::take(&mut link.subs);
        self.set_key(&mut subs, at, subject, queue, place, NONE);
        if let Some(link) = self.links.get_mut(place) {
            link.subs = subs;
        }
        let name = queue.map(|(name, _)| name);
        let weight = queue.map_or(1, |(_, weight)| weight);
        self.show_key_beside(place, subject, name, weight);
    }

    pub(super) fn unwant(&mut self, place: u32, subject: &[u8], queue: Option<&[u8]>) {
        let Some(link) = self.links.get_mut(place) else {
            return;
        };
        let at = link.account;
        let mut subs = std::mem::take(&mut link.subs);
        self.clear_key(&mut subs, at, subject, queue);
        if let Some(link) = self.links.get_mut(place) {
            link.subs = subs;
        }
        self.show_key_beside(place, subject, queue, 0);
    }

    /// Tells the leaf links of an account what changed since they were last told.
    pub(super) fn show_changes(&mut self, at: u32) {
        if !self.stale.is_empty() {
            for at in std::mem::take(&mut self.stale) {
                self.show_changes(at);
            }
        }
        let Some(account) = self.accounts.get_mut(at as usize) else {
            return;
        };
        if !account.interest.has_changes() {
            return;
        }
        let leafs = account.leafs.clone();
        let changes = account.interest.take_changes();
        for entry in &changes {
            self.note_lost(at, *entry);
            for place in &leafs {
                self.offer(*place, *entry);
            }
            if let Some(account) = self.accounts.get_mut(at as usize) {
                account.interest.forget_empty(*entry);
            }
        }
        for place in leafs {
            self.touch(place);
        }
    }

    /// Compares all interest of the account with what a leaf link has been told.
    pub(super) fn offer_all(&mut self, place: u32) {
        let Some(link) = self.links.get(place) else {
            return;
        };
        let Some(account) = self.accounts.get(link.account as usize) else {
            return;
        };
        let interest = &account.interest;
        let is_name = |id: &EntryId| {
            let entry = interest.entry(*id);
            entry.is_some_and(|entry| entry.subject.starts_with(LOOP_DETECTION))
        };
        // Where there is a loop, all names come around by it: what is in it shall find its own before
        // what hangs on it does, which would be cut off.
        let (names, rest): (Vec<_>, Vec<_>) = interest.entry_ids().into_iter().partition(is_name);
        for entry in names.into_iter().chain(rest) {
            self.offer(place, entry);
        }
        if let Some(link) = self.links.get_mut(place) {
            link.snapshot = link.out.len();
        }
        self.touch(place);
    }

    /// Words one subject for one leaf link: what clients and other leafs want, as far as the link
    /// may know (leaf protocol, interest propagation).
    pub(super) fn offer(&mut self, place: u32, id: crate::interest::EntryId) {
        let Some(link) = self.links.get(place) else {
            return;
        };
        let Some(account) = self.accounts.get(link.account as usize) else {
            return;
        };
        let Some(entry) = account.interest.entry(id) else {
            return;
        };
        let to = link.neighbour.standing();
        let loop_detection = entry.subject.starts_with(LOOP_DETECTION);
        let counts = |id: &SubId| {
            let Some(sub) = account.interest.sub(*id) else {
                return 0;
            };
            let Some(standing) = self.standing_of(sub) else {
                return 0;
            };
            let travels = sub.link != place
                && !to.isolated
                && (standing.cluster == 0 || standing.cluster != to.cluster)
                && (standing.role != Role::Upstream
                    || to.role == Role::Downstream
                    || loop_detection);
            if travels { sub.weight } else { 0 }
        };
        let plain = !entry.plain.local().is_empty()
            || entry.plain.distant().iter().any(|id| counts(id) > 0);
        let mut groups: heapless::Vec<(&[u8], u32), 8> = heapless::Vec::new();
        let mut many = Vec::new();
        for group in entry.groups() {
            let Some(name) = account.interest.group_name(group.id) else {
                continue;
            };
            let distant: u32 = group
                .members
                .distant()
                .iter()
                .map(counts)
                .fold(0, u32::saturating_add);
            let weight = (group.members.local().len() as u32).saturating_add(distant);
            if weight > 0
                && let Err(spilled) = groups.push((name, weight))
            {
                many.push(spilled);
            }
        }
        let groups: &[(&[u8], u32)] = if many.is_empty() {
            &groups
        } else {
            many.extend_from_slice(&groups);
            &many
        };
        let subject = entry.subject.clone();
        let offer = Offer {
            entry: id,
            subject: &subject,
            plain,
            groups,
        };
        let Some(link) = self.links.get_mut(place) else {
            return;
        };
        let mark = link.out.mark();
        let mut outlet = Outlet {
            now: self.now,
            queue: &mut link.out,
            pool: &mut self.pool,
            body: &Body::default(),
        };
        link.neighbour.offer(&offer, &mut outlet);
        self.trace_since(place, mark);
    }
}
