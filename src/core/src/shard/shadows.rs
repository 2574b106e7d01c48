//! What stands in another account for a subscription: the shadows of imported streams, imported
//! services, and the place that waits for their responses. And the limits of accounts.
//!
//! A shadow is a subscription like any other, in the account that exports; what it is delivered gets
//! the subject that it has in the account that imports. Siblings make the shadows of other servers'
//! interest by themselves, as they know the same rules; those of clients they are told of.

use std::sync::atomic::Ordering;

use foldhash::fast::FixedState;
use hashbrown::hash_map::Entry;
use hashbrown::{HashMap, HashTable};

use super::Shard;
use super::interest::Keys;
use crate::account::imports::Shadow as Wanted;
use crate::account::limits::Connections;
use crate::interest::{EntryId, Interest, Reach, Sub, SubId};
use crate::link::Neighbour;
use crate::message::Message;
use crate::slab::{NONE, Slab};

/// What stands behind subscriptions that are not just a peer's.
#[derive(Debug, Default)]
pub(super) struct Shadows {
    all: Slab<Shadow>,
    /// The shadows of a subscription, by its account.
    of: HashMap<(u32, SubId), Vec<u32>, FixedState>,
    /// Imported services, which no client has subscribed to and no sibling is told of: how many on a
    /// subject, by account.
    own: HashMap<(u32, EntryId), u32, FixedState>,
}

/// What stands behind a subscription.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shadow {
    /// A subscription of another account.
    Stream(StreamShadow),
    /// An imported service of the account, by its number.
    Service(u32),
    /// Whoever asked a service of the account.
    Responses,
}

/// A subscription of an account, as it stands in one that it imports from.
#[derive(Clone, Copy, Debug)]
pub(super) struct StreamShadow {
    /// The account that imports.
    pub(super) importer: u32,
    /// The number of the import.
    import: u32,
    /// What it is a shadow of, in the account that imports.
    pub(super) parent: SubId,
    /// The account that exports.
    exporter: u32,
    /// Itself, there.
    sub: SubId,
}

impl Shadows {
    pub(super) fn get(&self, at: u32) -> Option<Shadow> {
        self.all.get(at).copied()
    }

    pub(super) fn add(&mut self, shadow: Shadow) -> u32 {
        self.all.insert(shadow)
    }

    pub(super) fn note_own(&mut self, account: u32, entry: EntryId) {
        *self.own.entry((account, entry)).or_default() += 1;
    }

    /// The subscription of an imported service is gone.
    pub(super) fn forget_own(&mut self, account: u32, entry: EntryId, shadow: u32) {
        self.all.remove(shadow);
        if let Entry::Occupied(mut count) = self.own.entry((account, entry)) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    pub(super) fn own(&self, account: u32, entry: EntryId) -> u32 {
        self.own.get(&(account, entry)).copied().unwrap_or(0)
    }
}

impl Shadow {
    /// The import by which it is one, of the account that imports.
    pub(super) fn import(self) -> Option<(u32, u32)> {
        match self {
            Shadow::Stream(shadow) => Some((shadow.importer, shadow.import)),
            Shadow::Service(_) | Shadow::Responses => None,
        }
    }
}

impl<N: Neighbour> Shard<N> {
    /// Gives a client's new subscription its shadows.
    pub(super) fn shadow_client(&mut self, place: u32, at: u32, parent: SubId, subject: &[u8]) {
        let Some(account) = self.accounts.get(at as usize) else {
            return;
        };
        if account.rules.imports.all_streams().is_empty() {
            return;
        }
        let rules = account.rules.clone();
        let Some(sub) = account.interest.sub(parent) else {
            return;
        };
        let (sid, filtered) = (sub.sid.clone(), sub.filtered);
        let queue: Option<Box<[u8]>> = account.interest.group_name(sub.group).map(Into::into);
        for wanted in rules.imports.shadows(subject) {
            let added = self.add_shadow(at, parent, &wanted, |interest| {
                let queue = queue.as_deref();
                let id = interest.add(&wanted.subject, queue, Reach::Local, place, sid.as_bytes());
                if let Some(sub) = interest.sub_mut(id) {
                    sub.filtered = filtered;
                }
                id
            });
            if let Some(id) = added {
                self.show_client_beside(wanted.exporter, id);
                self.show_changes_later(wanted.exporter);
            }
        }
    }

    /// Has `add` make a subscription the shadow of `parent` in the account that exports. Answers which
    /// one.
    fn add_shadow(
        &mut self,
        importer: u32,
        parent: SubId,
        wanted: &Wanted,
        add: impl FnOnce(&mut Interest) -> SubId,
    ) -> Option<SubId> {
        let exporter = self.accounts.get_mut(wanted.exporter as usize)?;
        let id = add(&mut exporter.interest);
        let shadow = self.shadows.add(Shadow::Stream(StreamShadow {
            importer,
            import: wanted.import,
            parent,
            exporter: wanted.exporter,
            sub: id,
        }));
        if let Some(sub) = exporter.interest.sub_mut(id) {
            sub.shadow = shadow;
        }
        let of = self.shadows.of.entry((importer, parent));
        of.or_default().push(shadow);
        Some(id)
    }

    /// Gives what another server wants its shadows.
    pub(super) fn shadow_key(
        &mut self,
        at: u32,
        parent: SubId,
        subject: &[u8],
        queue: Option<&[u8]>,
    ) {
        let Some(account) = self.accounts.get(at as usize) else {
            return;
        };
        if account.rules.imports.all_streams().is_empty() {
            return;
        }
        let rules = account.rules.clone();
        let Some(sub) = account.interest.sub(parent) else {
            return;
        };
        let (place, party, weight) = (sub.link, sub.party, sub.weight);
        if let Some(all) = self.shadows.of.get(&(at, parent)) {
            // Known: only its weight may be new.
            for shadow in all {
                if let Some(Shadow::Stream(shadow)) = self.shadows.all.get(*shadow)
                    && let Some(account) = self.accounts.get_mut(shadow.exporter as usize)
                {
                    account.interest.set_weight(shadow.sub, weight);
                }
            }
        } else {
            for wanted in rules.imports.shadows(subject) {
                self.add_shadow(at, parent, &wanted, |interest| {
                    let reach = Reach::Distant;
                    let id = interest.add(&wanted.subject, queue, reach, place, &[]);
                    interest.set_weight(id, weight);
                    if let Some(sub) = interest.sub_mut(id) {
                        sub.party = party;
                    }
                    id
                });
            }
        }
        for stream in rules.imports.all_streams() {
            self.show_changes_later(stream.exporter());
        }
    }

    /// Takes the shadows of a subscription away, which itself is gone.
    pub(super) fn drop_shadows(&mut self, at: u32, parent: SubId) {
        if self.shadows.of.is_empty() {
            return;
        }
        let Some(all) = self.shadows.of.remove(&(at, parent)) else {
            return;
        };
        for shadow in all {
            let Some(Shadow::Stream(shadow)) = self.shadows.all.remove(shadow) else {
                continue;
            };
            let sub = self
                .accounts
                .get(shadow.exporter as usize)
                .and_then(|account| account.interest.sub(shadow.sub));
            match sub.map(|sub| sub.reach) {
                Some(Reach::Local) => {
                    self.remove_client_sub(shadow.exporter, shadow.sub);
                }
                Some(Reach::Distant) => {
                    if let Some(account) = self.accounts.get_mut(shadow.exporter as usize) {
                        account.interest.remove(shadow.sub);
                    }
                }
                None => {}
            }
            self.show_changes_later(shadow.exporter);
        }
    }

    /// Neighbours hear of what changed in an account that is not the link's own.
    pub(super) fn show_changes_later(&mut self, at: u32) {
        if !self.stale.contains(&at) {
            self.stale.push(at);
        }
    }

    /// Takes an account's subscription away, whoever's it is.
    pub(super) fn remove_key(&mut self, at: u32, id: SubId) {
        if let Some(account) = self.accounts.get_mut(at as usize) {
            account.interest.remove(id);
        }
        self.drop_shadows(at, id);
    }

    /// A key of another server: `subs` are those of its link or party.
    pub(super) fn set_key(
        &mut self,
        subs: &mut HashTable<SubId>,
        at: u32,
        subject: &[u8],
        queue: Option<(&[u8], u32)>,
        place: u32,
        party: u32,
    ) {
        if let Some(id) = self.set_plain_key(subs, at, subject, queue, place, party) {
            self.shadow_key(at, id, subject, queue.map(|(name, _)| name));
        }
    }

    /// The same without shadows.
    pub(super) fn set_plain_key(
        &mut self,
        subs: &mut HashTable<SubId>,
        at: u32,
        subject: &[u8],
        queue: Option<(&[u8], u32)>,
        place: u32,
        party: u32,
    ) -> Option<SubId> {
        let account = self.accounts.get_mut(at as usize)?;
        let name = queue.map(|(name, _)| name);
        let weight = queue.map_or(1, |(_, weight)| weight);
        let keys = Keys {
            subs,
            interest: &mut account.interest,
            hasher: &self.hasher,
        };
        Some(keys.set(subject, name, weight, place, party))
    }

    /// The end of one.
    pub(super) fn clear_key(
        &mut self,
        subs: &mut HashTable<SubId>,
        at: u32,
        subject: &[u8],
        queue: Option<&[u8]>,
    ) {
        let Some(account) = self.accounts.get_mut(at as usize) else {
            return;
        };
        let keys = Keys {
            subs,
            interest: &mut account.interest,
            hasher: &self.hasher,
        };
        if let Some(id) = keys.clear(subject, queue) {
            self.drop_shadows(at, id);
        }
    }

    /// The subject that a message which a shadow got has for whoever it stands for.
    pub(super) fn local_subject(&self, shadow: &StreamShadow, subject: &[u8]) -> Option<Vec<u8>> {
        let rules = &self.accounts.get(shadow.importer as usize)?.rules;
        let stream = rules.imports.stream(shadow.import)?;
        let mut out = Vec::new();
        stream.local(subject, &mut out);
        Some(out)
    }

    /// What stands behind a subscription, if not just its link.
    #[inline]
    pub(super) fn shadow_of(&self, sub: &Sub) -> Option<Shadow> {
        if sub.shadow == NONE {
            return None;
        }
        self.shadows.get(sub.shadow)
    }

    /// Whether an account has room for one more connection of this reach, and takes it in.
    pub(super) fn admit_to(&mut self, at: u32, reach: Reach) -> bool {
        let Some(account) = self.accounts.get(at as usize) else {
            return false;
        };
        let limits = &account.rules.limits;
        let present = Connections {
            clients: account.connections.clients.load(Ordering::Relaxed),
            leafs: account.connections.leafs.load(Ordering::Relaxed),
        };
        let (counter, admitted) = match reach {
            Reach::Local => (&account.connections.clients, limits.admit_client(present)),
            Reach::Distant => (&account.connections.leafs, limits.admit_leaf(present)),
        };
        if admitted.is_ok() {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        admitted.is_ok()
    }

    /// A connection leaves the account.
    pub(super) fn leave_account(&self, at: u32, reach: Reach) {
        if let Some(account) = self.accounts.get(at as usize) {
            let counter = match reach {
                Reach::Local => &account.connections.clients,
                Reach::Distant => &account.connections.leafs,
            };
            counter.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A message under another subject.
pub(super) fn renamed<'m>(message: &Message<'m>, subject: &'m [u8]) -> Message<'m> {
    Message {
        subject,
        ..*message
    }
}
