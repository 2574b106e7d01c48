//! Who wants what within one account: subscriptions by subject, literal ones by hash, wildcard ones
//! by trie, with a cache of what the trie answered.
//!
//! Knows no link and no verb. A member is *local* (a client: gets a copy per subscription) or
//! *distant* (a leaf link: gets one copy however many of its keys match), and the two are kept
//! apart so that the path of a message never has to ask.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use crate::slab::{NONE, Slab};
use crate::subject::has_wildcard;
use crate::trie::Trie;

/// One subject (or pattern) that somebody is interested in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct EntryId(pub(crate) u32);

/// One subscription, or one key of a leaf link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SubId(pub(crate) u32);

/// The name of a queue group within the account; [`GroupId::PLAIN`] for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct GroupId(pub(crate) u32);

impl GroupId {
    /// No queue group.
    pub(crate) const PLAIN: GroupId = GroupId(NONE);
}

/// Where a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// A client of this server.
    Local,
    /// Another server.
    Distant,
}

/// A short run of bytes kept in place up to 14 of them: the length of nearly every subscription id.
#[derive(Clone, Debug)]
pub(crate) enum Sid {
    Short {
        len: u8,
        bytes: [u8; 14],
    },
    /// Boxed twice, so that it is no larger than the other.
    Long(Box<Box<[u8]>>),
}

impl Sid {
    pub(crate) fn new(text: &[u8]) -> Self {
        let mut bytes = [0; 14];
        match bytes.get_mut(..text.len()) {
            Some(room) => {
                room.copy_from_slice(text);
                Sid::Short {
                    len: text.len() as u8,
                    bytes,
                }
            }
            None => Sid::Long(Box::new(text.into())),
        }
    }

    #[inline]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Sid::Short { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Sid::Long(bytes) => bytes,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Sub {
    /// The client's name for it; empty for a leaf's key.
    pub(crate) sid: Sid,
    /// The place of its link in the shard.
    pub(crate) link: u32,
    /// Whose it is, of a sibling's parties; [`NONE`]: the link's own.
    pub(crate) party: u32,
    /// What stands behind it instead of the link; [`NONE`]: nothing.
    pub(crate) shadow: u32,
    pub(crate) entry: EntryId,
    pub(crate) group: GroupId,
    /// Its place in the list of members.
    slot: u32,
    /// Share of a queue group's messages; 1 for a client. 0: never chosen.
    pub(crate) weight: u32,
    /// Copies handed out since it began; counted as far as [`Sub::max`] can be.
    pub(crate) delivered: u32,
    /// Copies after which it ends; [`Sub::NEVER`] is never.
    pub(crate) max: u32,
    pub(crate) reach: Reach,
    /// A wildcard over something its owner may not hear: each delivery asks the permissions.
    pub(crate) filtered: bool,
}

impl Sub {
    /// More copies than are counted.
    pub(crate) const NEVER: u32 = u32::MAX;
}

/// The members on one subject, or of one queue group on it: nearly always one, of either reach.
#[derive(Debug, Default)]
pub(crate) enum Members {
    #[default]
    None,
    Local(SubId),
    Distant(SubId),
    /// One of each.
    Both(SubId, SubId),
    Many(Box<Lists>),
}

/// The members by reach.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    local: Vec<SubId>,
    distant: Vec<SubId>,
}

impl Lists {
    fn of(&mut self, reach: Reach) -> &mut Vec<SubId> {
        match reach {
            Reach::Local => &mut self.local,
            Reach::Distant => &mut self.distant,
        }
    }
}

impl Members {
    #[inline]
    pub(crate) fn local(&self) -> &[SubId] {
        match self {
            Members::None | Members::Distant(_) => &[],
            Members::Local(id) | Members::Both(id, _) => std::slice::from_ref(id),
            Members::Many(lists) => &lists.local,
        }
    }

    #[inline]
    pub(crate) fn distant(&self) -> &[SubId] {
        match self {
            Members::None | Members::Local(_) => &[],
            Members::Distant(id) | Members::Both(_, id) => std::slice::from_ref(id),
            Members::Many(lists) => &lists.distant,
        }
    }

    fn is_empty(&self) -> bool {
        self.local().is_empty() && self.distant().is_empty()
    }

    fn take_lists(&mut self) -> Box<Lists> {
        match std::mem::take(self) {
            Members::Many(lists) => lists,
            few => Box::new(Lists {
                local: few.local().to_vec(),
                distant: few.distant().to_vec(),
            }),
        }
    }

    /// Answers its place in the list of its reach.
    fn push(&mut self, reach: Reach, id: SubId) -> u32 {
        let (now, slot) = match (&*self, reach) {
            (Members::None, Reach::Local) => (Members::Local(id), 0),
            (Members::None, Reach::Distant) => (Members::Distant(id), 0),
            (Members::Local(local), Reach::Distant) => (Members::Both(*local, id), 0),
            (Members::Distant(distant), Reach::Local) => (Members::Both(id, *distant), 0),
            _ => {
                let mut lists = self.take_lists();
                let list = lists.of(reach);
                list.push(id);
                let slot = list.len() - 1;
                (Members::Many(lists), slot as u32)
            }
        };
        *self = now;
        slot
    }

    /// Takes out what is at `slot` of the list of a reach; answers who moved there.
    fn swap_remove(&mut self, reach: Reach, slot: u32) -> Option<SubId> {
        let left = match (&*self, reach) {
            (Members::Local(_), Reach::Local) | (Members::Distant(_), Reach::Distant) => {
                Some(Members::None)
            }
            (Members::Both(local, _), Reach::Distant) => Some(Members::Local(*local)),
            (Members::Both(_, distant), Reach::Local) => Some(Members::Distant(*distant)),
            _ => None,
        };
        if let Some(left) = left {
            *self = left;
            return None;
        }
        let slot = slot as usize;
        let mut lists = self.take_lists();
        let list = lists.of(reach);
        if slot < list.len() {
            list.swap_remove(slot);
        }
        let moved = list.get(slot).copied();
        *self = match (&*lists.local, &*lists.distant) {
            ([], []) => Members::None,
            ([local], []) => Members::Local(*local),
            ([], [distant]) => Members::Distant(*distant),
            ([local], [distant]) => Members::Both(*local, *distant),
            _ => Members::Many(lists),
        };
        moved
    }
}

#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) id: GroupId,
    pub(crate) members: Members,
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) subject: Box<[u8]>,
    pub(crate) plain: Members,
    #[allow(clippy::box_collection)] // most entries have none: 8 bytes instead of 24
    groups: Option<Box<Vec<Group>>>,
    wild: bool,
    /// On the list of changes not yet shown to the neighbours.
    changed: bool,
}

impl Entry {
    #[inline]
    pub(crate) fn groups(&self) -> &[Group] {
        self.groups.as_ref().map_or(&[], |groups| groups.as_slice())
    }

    /// Whether nobody wants it; it is there until neighbours have heard of that.
    pub(crate) fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.groups.is_none()
    }

    /// The members outside of any group, or of one.
    pub(crate) fn members(&self, group: GroupId) -> Option<&Members> {
        if group == GroupId::PLAIN {
            return Some(&self.plain);
        }
        let group = self.groups().iter().find(|g| g.id == group)?;
        Some(&group.members)
    }

    fn members_mut(&mut self, group: GroupId) -> Option<&mut Members> {
        if group == GroupId::PLAIN {
            return Some(&mut self.plain);
        }
        let groups = self.groups.as_mut()?;
        groups
            .iter_mut()
            .find(|g| g.id == group)
            .map(|g| &mut g.members)
    }
}

#[derive(Debug)]
struct GroupName {
    name: Box<[u8]>,
    /// Entries that have the group.
    uses: u32,
}

/// What the account's members are interested in.
#[derive(Debug)]
pub(crate) struct Interest {
    entries: Slab<Entry>,
    by_subject: HashTable<EntryId>,
    wild: Trie,
    subs: Slab<Sub>,
    names: Slab<GroupName>,
    by_name: HashTable<GroupId>,
    hasher: FixedState,
    changed: Vec<EntryId>,
    cache: Cache,
}

impl Interest {
    /// `seed` keys the hash tables, so that no peer can choose subjects that collide.
    pub(crate) fn new(seed: u64) -> Self {
        let hasher = FixedState::with_seed(seed);
        Interest {
            entries: Slab::default(),
            by_subject: HashTable::new(),
            wild: Trie::new(hasher.clone()),
            subs: Slab::default(),
            names: Slab::default(),
            by_name: HashTable::new(),
            hasher,
            changed: Vec::new(),
            cache: Cache::default(),
        }
    }

    #[inline]
    fn hash(&self, bytes: &[u8]) -> u64 {
        self.hasher.hash_one(bytes)
    }

    #[inline]
    pub(crate) fn sub(&self, id: SubId) -> Option<&Sub> {
        self.subs.get(id.0)
    }

    #[inline]
    pub(crate) fn sub_mut(&mut self, id: SubId) -> Option<&mut Sub> {
        self.subs.get_mut(id.0)
    }

    #[inline]
    pub(crate) fn entry(&self, id: EntryId) -> Option<&Entry> {
        self.entries.get(id.0)
    }

    /// Subscriptions and leaf keys.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.subs.len()
    }

    pub(crate) fn entry_ids(&self) -> Vec<EntryId> {
        self.entries.iter().map(|(key, _)| EntryId(key)).collect()
    }

    pub(crate) fn group_name(&self, id: GroupId) -> Option<&[u8]> {
        self.names.get(id.0).map(|group| &*group.name)
    }

    pub(crate) fn group_by_name(&self, name: &[u8]) -> Option<GroupId> {
        self.by_name
            .find(self.hash(name), |id| self.group_name(*id) == Some(name))
            .copied()
    }

    pub(crate) fn entry_by_subject(&self, subject: &[u8]) -> Option<EntryId> {
        self.by_subject
            .find(self.hash(subject), |id| {
                self.entry(*id)
                    .is_some_and(|entry| *entry.subject == *subject)
            })
            .copied()
    }

    /// Adds a member on a valid pattern.
    pub(crate) fn add(
        &mut self,
        subject: &[u8],
        queue: Option<&[u8]>,
        reach: Reach,
        link: u32,
        sid: &[u8],
    ) -> SubId {
        let entry_id = self
            .entry_by_subject(subject)
            .unwrap_or_else(|| self.new_entry(subject));
        let group = match queue {
            None => GroupId::PLAIN,
            Some(name) => self.join_group(entry_id, name),
        };
        let id = SubId(self.subs.insert(Sub {
            sid: Sid::new(sid),
            link,
            party: NONE,
            shadow: NONE,
            entry: entry_id,
            group,
            slot: 0,
            weight: 1,
            delivered: 0,
            max: Sub::NEVER,
            reach,
            filtered: false,
        }));
        let slot = self
            .entries
            .get_mut(entry_id.0)
            .and_then(|entry| entry.members_mut(group))
            .map_or(0, |members| members.push(reach, id));
        if let Some(sub) = self.subs.get_mut(id.0) {
            sub.slot = slot;
        }
        self.touch(entry_id);
        id
    }

    /// Takes a member away. Its entry stays until [`Interest::forget_empty`], so that neighbours can
    /// be told first.
    pub(crate) fn remove(&mut self, id: SubId) -> Option<Sub> {
        let sub = self.subs.remove(id.0)?;
        if let Some(entry) = self.entries.get_mut(sub.entry.0) {
            let moved = entry
                .members_mut(sub.group)
                .and_then(|members| members.swap_remove(sub.reach, sub.slot));
            if let Some(moved) = moved.and_then(|id| self.subs.get_mut(id.0)) {
                moved.slot = sub.slot;
            }
            if sub.group != GroupId::PLAIN {
                self.leave_group(sub.entry, sub.group);
            }
        }
        self.touch(sub.entry);
        Some(sub)
    }

    /// Gives a queue member another share.
    pub(crate) fn set_weight(&mut self, id: SubId, weight: u32) {
        if let Some(sub) = self.subs.get_mut(id.0)
            && sub.weight != weight
        {
            sub.weight = weight;
            let entry = sub.entry;
            self.touch(entry);
        }
    }

    /// Whether anything changed since the neighbours were last told.
    #[inline]
    pub(crate) fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    /// The entries that changed, to tell the neighbours; give each to [`Interest::forget_empty`].
    pub(crate) fn take_changes(&mut self) -> Vec<EntryId> {
        std::mem::take(&mut self.changed)
    }

    /// The neighbours know about the entry: without members it goes.
    pub(crate) fn forget_empty(&mut self, id: EntryId) {
        let Some(entry) = self.entries.get_mut(id.0) else {
            return;
        };
        entry.changed = false;
        if !entry.is_empty() {
            return;
        }
        let Some(entry) = self.entries.remove(id.0) else {
            return;
        };
        if let Ok(found) = self
            .by_subject
            .find_entry(self.hasher.hash_one(&*entry.subject), |other| *other == id)
        {
            found.remove();
        }
        if entry.wild {
            self.wild.remove(&entry.subject);
            self.cache.expire();
        }
        if self.entries.len() == 0 {
            self.by_subject = HashTable::new();
        }
    }

    /// Calls `found` with each entry a message on `subject` matches.
    #[inline]
    pub(crate) fn matching(&mut self, subject: &[u8], found: &mut impl FnMut(EntryId, &Entry)) {
        let hash = self.hash(subject);
        let literal = self.by_subject.find(hash, |id| {
            self.entries
                .get(id.0)
                .is_some_and(|entry| *entry.subject == *subject && !entry.wild)
        });
        if let Some(id) = literal
            && let Some(entry) = self.entries.get(id.0)
        {
            found(*id, entry);
        }
        if self.wild.is_empty() {
            return;
        }
        let (wild, entries) = (&self.wild, &self.entries);
        for id in self.cache.answer(hash, subject, |all| {
            wild.walk(subject, &mut |id| all.push(EntryId(id)))
        }) {
            if let Some(entry) = entries.get(id.0) {
                found(*id, entry);
            }
        }
    }

    fn new_entry(&mut self, subject: &[u8]) -> EntryId {
        let wild = has_wildcard(subject);
        let id = EntryId(self.entries.insert(Entry {
            subject: subject.into(),
            plain: Members::default(),
            groups: None,
            wild,
            changed: false,
        }));
        let (entries, hasher) = (&self.entries, &self.hasher);
        self.by_subject
            .insert_unique(hasher.hash_one(subject), id, |id| {
                entries
                    .get(id.0)
                    .map_or(0, |entry| hasher.hash_one(&*entry.subject))
            });
        if wild {
            self.wild.insert(subject, id.0);
            self.cache.expire();
        }
        id
    }

    fn join_group(&mut self, entry: EntryId, name: &[u8]) -> GroupId {
        let id = self.group_by_name(name).unwrap_or_else(|| {
            let id = GroupId(self.names.insert(GroupName {
                name: name.into(),
                uses: 0,
            }));
            let (names, hasher) = (&self.names, &self.hasher);
            self.by_name.insert_unique(hasher.hash_one(name), id, |id| {
                names
                    .get(id.0)
                    .map_or(0, |group| hasher.hash_one(&*group.name))
            });
            id
        });
        if let Some(entry) = self.entries.get_mut(entry.0) {
            let groups = entry.groups.get_or_insert_default();
            if !groups.iter().any(|group| group.id == id) {
                groups.push(Group {
                    id,
                    members: Members::default(),
                });
                if let Some(name) = self.names.get_mut(id.0) {
                    name.uses += 1;
                }
            }
        }
        id
    }

    /// Drops the group from the entry when its last member left, and the name with its last use.
    ///
    /// The neighbours compare by name, so what they were told survives the number.
    fn leave_group(&mut self, entry: EntryId, id: GroupId) {
        let Some(entry) = self.entries.get_mut(entry.0) else {
            return;
        };
        let Some(groups) = entry.groups.as_mut() else {
            return;
        };
        let Some(at) = groups
            .iter()
            .position(|g| g.id == id && g.members.is_empty())
        else {
            return;
        };
        groups.swap_remove(at);
        if groups.is_empty() {
            entry.groups = None;
        }
        let Some(name) = self.names.get_mut(id.0) else {
            return;
        };
        name.uses -= 1;
        if name.uses == 0
            && let Some(gone) = self.names.remove(id.0)
            && let Ok(found) = self
                .by_name
                .find_entry(self.hasher.hash_one(&*gone.name), |other| *other == id)
        {
            found.remove();
        }
    }

    /// Puts the entry on the list of changes, as if a member had come or gone.
    pub(crate) fn touch(&mut self, id: EntryId) {
        if let Some(entry) = self.entries.get_mut(id.0)
            && !entry.changed
        {
            entry.changed = true;
            self.changed.push(id);
        }
    }
}

/// Answers of the trie by subject, direct mapped. A slot is taken only by a subject seen twice, so
/// a stream of unique subjects (reply inboxes) neither allocates nor evicts what is asked often.
#[derive(Debug, Default)]
struct Cache {
    slots: Vec<CacheSlot>,
    /// Counts changes of the set of patterns; an answer of another generation is void.
    generation: u64,
    /// The answer when it is not kept.
    scratch: Vec<EntryId>,
}

#[derive(Debug, Clone)]
struct Answer {
    subject: Box<[u8]>,
    entries: Box<[EntryId]>,
}

#[derive(Debug, Default, Clone)]
struct CacheSlot {
    hash: u64,
    generation: u64,
    kept: Option<Box<Answer>>,
}

impl Cache {
    /// A power of two; 24 KiB of slots once an account has wildcards and traffic.
    const SLOTS: usize = 1024;
    /// Longer subjects and answers are not kept: they would make the cache a store of a peer's bytes.
    const LONGEST_SUBJECT: usize = 128;
    const LONGEST_ANSWER: usize = 128;

    fn expire(&mut self) {
        self.generation += 1;
    }

    #[inline]
    fn answer(
        &mut self,
        hash: u64,
        subject: &[u8],
        walk: impl FnOnce(&mut Vec<EntryId>),
    ) -> &[EntryId] {
        if self.slots.is_empty() {
            self.slots.resize(Self::SLOTS, CacheSlot::default());
        }
        let at = hash as usize & (Self::SLOTS - 1);
        let hit = self.slots.get(at).is_some_and(|slot| {
            slot.hash == hash
                && slot.generation == self.generation
                && slot
                    .kept
                    .as_ref()
                    .is_some_and(|kept| *kept.subject == *subject)
        });
        if !hit {
            self.scratch.clear();
            walk(&mut self.scratch);
            let Some(slot) = self.slots.get_mut(at) else {
                return &self.scratch;
            };
            if slot.hash != hash {
                // First sight: note it, but keep what is there until it is asked again.
                if slot.kept.is_none() || slot.generation != self.generation {
                    *slot = CacheSlot {
                        hash,
                        generation: self.generation,
                        kept: None,
                    };
                } else {
                    slot.hash = hash;
                }
                return &self.scratch;
            }
            if subject.len() > Self::LONGEST_SUBJECT || self.scratch.len() > Self::LONGEST_ANSWER {
                return &self.scratch;
            }
            slot.generation = self.generation;
            slot.kept = Some(Box::new(Answer {
                subject: subject.into(),
                entries: self.scratch.as_slice().into(),
            }));
        }
        self.slots
            .get(at)
            .and_then(|slot| slot.kept.as_ref())
            .map_or(&[], |kept| &kept.entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matched(interest: &mut Interest, subject: &[u8]) -> Vec<u32> {
        let mut subs = Vec::new();
        interest.matching(subject, &mut |_, entry| {
            for members in
                std::iter::once(&entry.plain).chain(entry.groups().iter().map(|g| &g.members))
            {
                subs.extend(
                    members
                        .local()
                        .iter()
                        .chain(members.distant())
                        .map(|id| id.0),
                );
            }
        });
        subs.sort_unstable();
        subs
    }

    /// A million subscriptions are a million of these.
    #[cfg(target_pointer_width = "64")]
    #[test]
    fn they_are_small() {
        assert_eq!((size_of::<Sub>(), size_of::<Entry>()), (56, 48));
    }

    #[test]
    fn a_published_wildcard_token_finds_its_pattern_once() {
        let mut interest = Interest::new(1);
        let id = interest.add(b"foo.*", None, Reach::Local, 0, b"1");
        assert_eq!(matched(&mut interest, b"foo.*"), vec![id.0]);
        assert_eq!(matched(&mut interest, b"foo.bar"), vec![id.0]);
        assert!(matched(&mut interest, b"foo.").is_empty());
    }

    #[test]
    fn everything_is_given_back() {
        let mut interest = Interest::new(1);
        let ids: Vec<SubId> = (0..100u32)
            .map(|i| {
                let queue: Option<&[u8]> = (i % 3 == 0).then_some(b"q");
                let subject = format!("s.{}.{}", i % 7, if i % 2 == 0 { "*" } else { "x" });
                interest.add(subject.as_bytes(), queue, Reach::Local, 0, b"1")
            })
            .collect();
        for id in ids {
            interest.remove(id);
        }
        for entry in interest.take_changes() {
            interest.forget_empty(entry);
        }
        assert_eq!(interest.len(), 0);
        assert_eq!(interest.entries.len(), 0);
        assert_eq!(interest.names.len(), 0);
        assert!(interest.by_name.is_empty() && interest.by_subject.is_empty());
        assert!(interest.wild.is_empty());
    }

    proptest! {
        /// Cached or not, after any sequence of changes, a subject finds exactly the members whose
        /// pattern matches it.
        #[test]
        fn agrees_with_plain_matching(steps in prop::collection::vec(
            (0..3u8, "[ab*](\\.[ab*]){0,2}(\\.>)?", prop::option::of("[qr]"), any::<bool>()), 1..60)) {
            let mut interest = Interest::new(9);
            let mut model: Vec<(SubId, String)> = Vec::new();
            for (what, subject, queue, local) in steps {
                match what {
                    0 => {
                        let reach = if local { Reach::Local } else { Reach::Distant };
                        let id = interest.add(
                            subject.as_bytes(), queue.as_deref().map(str::as_bytes), reach, 0, b"7");
                        model.push((id, subject));
                    }
                    1 if !model.is_empty() => {
                        let (id, _) = model.swap_remove(subject.len() % model.len());
                        prop_assert!(interest.remove(id).is_some());
                        for entry in interest.take_changes() {
                            interest.forget_empty(entry);
                        }
                    }
                    _ => {
                        let mut expected: Vec<u32> = model.iter()
                            .filter(|(_, p)| crate::subject::matches(p.as_bytes(), subject.as_bytes()))
                            .map(|(id, _)| id.0).collect();
                        expected.sort_unstable();
                        for _ in 0..3 {
                            prop_assert_eq!(matched(&mut interest, subject.as_bytes()), expected.clone());
                        }
                    }
                }
            }
        }
    }
}
