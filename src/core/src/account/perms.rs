//! Permissions, compiled for the path of a message.
//!
//! [`Perms`] is what a user may do, shared by all its connections; [`LinkPerms`] adds what one
//! connection needs to remember; [`LeafRules`] is what may cross a leaf link. Answers questions
//! only: the texts of violations and what follows from one belong to the caller.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::config::model::{Permissions, ResponseRule, SubjectRules};
use crate::subject;
use crate::time::Instant;

/// What a user may publish and subscribe to. Immutable; callers share it in an [`Arc`].
#[derive(Debug)]
pub struct Perms {
    /// As configured: a leaf is told.
    stated: Permissions,
    publish: Publish,
    subscribe: Rules,
    responses: Option<ResponseRule>,
}

/// The publish side: most users need no look at the subject at all.
#[derive(Debug)]
enum Publish {
    /// Neither allow nor deny.
    Everything,
    /// `allow_responses` without an allow list.
    Nothing,
    Some(Rules),
}

impl Perms {
    /// Compiles the permissions of one user. Entries that are no valid pattern (the configuration
    /// refuses them) match no subject.
    pub fn compile(permissions: &Permissions) -> Perms {
        let SubjectRules { allow, deny } = &permissions.publish;
        let publish = if allow.is_empty() && permissions.responses.is_some() {
            Publish::Nothing
        } else if allow.is_empty() && deny.is_empty() {
            Publish::Everything
        } else {
            Publish::Some(Rules::compile(&permissions.publish))
        };
        Perms {
            stated: permissions.clone(),
            publish,
            subscribe: Rules::compile(&permissions.subscribe),
            responses: permissions.responses,
        }
    }

    /// Whether they restrict nothing, like `permissions: {}`: callers can then do without.
    pub fn is_unrestricted(&self) -> bool {
        matches!(self.publish, Publish::Everything) && self.subscribe.is_empty()
    }

    /// As they were configured.
    pub fn stated(&self) -> &Permissions {
        &self.stated
    }

    /// Whether a leaf that is bound to the user may be sent a message on `subject`, which also is
    /// whether it may ask for a literal `subject`. Entries with a queue allow nothing.
    pub fn may_hear(&self, subject: &[u8]) -> bool {
        self.subscribe.permits(subject)
    }

    /// Whether a leaf that is bound to the user may be told that somebody here wants `pattern`: the user
    /// may publish all of it or, of a wildcard, a part. Real hubs leave some of the latter out, and
    /// then what the leaf publishes there does not arrive.
    pub fn may_be_offered(&self, pattern: &[u8]) -> bool {
        match &self.publish {
            Publish::Everything => true,
            Publish::Nothing => false,
            Publish::Some(Rules { allow, deny }) => {
                let part = subject::has_wildcard(pattern);
                let allowed = allow
                    .as_ref()
                    .is_none_or(|allow| allow.covers(pattern) || (part && allow.overlaps(pattern)));
                allowed && !deny.covers(pattern)
            }
        }
    }

    /// Whether the lists allow publishing to `subject`, whatever requests were received.
    pub fn may_publish(&self, subject: &[u8]) -> bool {
        match &self.publish {
            Publish::Everything => true,
            Publish::Nothing => false,
            Publish::Some(rules) => rules.permits(subject),
        }
    }

    /// Whether a SUB on `subject` (a pattern) in the group `queue` is in order: one allow entry
    /// covers it whole and no deny entry does.
    ///
    /// A plain allow entry holds for every group, one with a queue for the matching groups only
    /// and never without a group; a plain deny entry holds for all, one with a queue for the
    /// matching groups only.
    pub fn may_subscribe(&self, subject: &[u8], queue: Option<&[u8]>) -> bool {
        let rules = &self.subscribe;
        let allowed = match &rules.allow {
            None => true,
            Some(allow) => allow.covers(subject) || allow.covers_queue(subject, queue),
        };
        // A deny also strikes a pattern whose `>` it matches as if that were a plain token, as real
        // servers have it: `a.>` is refused under a denied `a.*`.
        let denied = rules.deny.covers(subject) || rules.deny.matches(subject);
        allowed && !denied && !rules.deny.covers_queue(subject, queue)
    }

    /// Whether some message for a subscription on `subject` may be denied: if so, the subscription
    /// is accepted and every delivery asks [`Perms::may_deliver`]. Never for a literal, which
    /// [`Perms::may_subscribe`] has decided.
    pub fn deny_overlaps(&self, subject: &[u8]) -> bool {
        let deny = &self.subscribe.deny;
        subject::has_wildcard(subject)
            && (deny.overlaps(subject)
                || deny
                    .queued
                    .iter()
                    .any(|entry| subject::overlaps(&entry.subject, subject)))
    }

    /// Whether a message on `subject` may reach a subscription in the group `queue`. To be asked
    /// before a member of a group is chosen, or the message is lost to the whole group.
    pub fn may_deliver(&self, subject: &[u8], queue: Option<&[u8]>) -> bool {
        let deny = &self.subscribe.deny;
        !deny.matches(subject)
            && !deny
                .queued
                .iter()
                .any(|entry| entry.holds_for(queue) && subject::matches(&entry.subject, subject))
    }
}

/// The permissions of one connection: the shared rules, and what makes them fast and stateful.
///
/// Three words while idle. The cache (1 KiB) exists from the first publish that had to look at the
/// lists, the open replies from the first request delivered to a user with `allow_responses`.
pub struct LinkPerms {
    rules: Arc<Perms>,
    cache: Option<Box<Cache>>,
    responses: Option<Box<Responses>>,
}

impl LinkPerms {
    /// Nothing cached, no reply open. After a change of the rules make a new one.
    pub fn new(rules: Arc<Perms>) -> Self {
        LinkPerms {
            rules,
            cache: None,
            responses: None,
        }
    }

    /// The shared rules.
    pub fn rules(&self) -> &Arc<Perms> {
        &self.rules
    }

    /// Whether the connection may publish to `subject` now. If only an open reply allows it, this
    /// counts as one of that reply's messages.
    ///
    /// An open reply is stronger than a deny entry, as it is stronger than a missing allow entry.
    pub fn may_publish(&mut self, now: Instant, subject: &[u8]) -> bool {
        let listed = match &self.rules.publish {
            Publish::Everything => return true,
            Publish::Nothing => false,
            Publish::Some(rules) => self
                .cache
                .get_or_insert_default()
                .get_or_insert_with(subject, || rules.permits(subject)),
        };
        // What responses allow changes with time and use, so it is never cached.
        listed
            || self
                .responses
                .as_mut()
                .is_some_and(|responses| responses.redeem(now, subject))
    }

    /// A message with the reply subject `reply` was delivered to this connection: opens that
    /// subject for publishing if the user has `allow_responses`. A subject already open starts
    /// afresh; one the lists allow anyway is not recorded.
    ///
    /// Memory is bounded by [`MAX_RESPONSES`] subjects and [`MAX_RESPONSE_BYTES`] bytes of them: at
    /// the bound the expired go, and if that is not enough the older half.
    pub fn track_response(&mut self, now: Instant, reply: &[u8]) {
        let Some(rule) = self.rules.responses else {
            return;
        };
        // Without looking into the cache: reply subjects are mostly used once.
        if rule.max == Some(0) || self.rules.may_publish(reply) {
            return;
        }
        self.responses
            .get_or_insert_default()
            .open(now, reply, rule);
    }

    /// See [`Perms::may_subscribe`].
    pub fn may_subscribe(&self, subject: &[u8], queue: Option<&[u8]>) -> bool {
        self.rules.may_subscribe(subject, queue)
    }

    /// See [`Perms::deny_overlaps`].
    pub fn deny_overlaps(&self, subject: &[u8]) -> bool {
        self.rules.deny_overlaps(subject)
    }

    /// See [`Perms::may_deliver`].
    pub fn may_deliver(&self, subject: &[u8], queue: Option<&[u8]>) -> bool {
        self.rules.may_deliver(subject, queue)
    }
}

impl fmt::Debug for LinkPerms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkPerms")
            .field("rules", &self.rules)
            .field(
                "open_responses",
                &self.responses.as_ref().map_or(0, |r| r.open.len()),
            )
            .finish_non_exhaustive()
    }
}

/// Reply subjects one connection may have open at once. A responder with this many requests
/// unanswered loses the right to answer the oldest.
pub const MAX_RESPONSES: usize = 4096;

/// Bytes of reply subjects one connection may have open at once: 4096 of an ordinary length.
pub const MAX_RESPONSE_BYTES: usize = 256 * 1024;

/// The replies open on one connection.
struct Responses {
    open: HashMap<Box<[u8]>, Open, RandomState>,
    /// Sum of the lengths of the keys.
    bytes: usize,
    /// Number of the next request; older ones have lower numbers.
    next: u64,
    /// Length at which expired entries are looked for. Twice what was alive the last time, so that
    /// the search costs each request a constant.
    sweep_at: usize,
}

struct Open {
    number: u64,
    /// `None`: any number of messages.
    left: Option<u64>,
    since: Instant,
    /// `None`: for as long as the connection lives.
    expires: Option<Duration>,
}

impl Open {
    fn is_expired(&self, now: Instant) -> bool {
        self.expires.is_some_and(|ttl| now.since(self.since) > ttl)
    }
}

/// Below this length no search for expired entries is worth it.
const SWEEP_MIN: usize = 32;

impl Default for Responses {
    fn default() -> Self {
        Responses {
            open: HashMap::default(),
            bytes: 0,
            next: 0,
            sweep_at: SWEEP_MIN,
        }
    }
}

impl Responses {
    fn redeem(&mut self, now: Instant, subject: &[u8]) -> bool {
        let Some(open) = self.open.get_mut(subject) else {
            return false;
        };
        let expired = open.is_expired(now);
        if !expired {
            match &mut open.left {
                None => return true,
                Some(left) if *left > 1 => {
                    *left -= 1;
                    return true;
                }
                // The last one.
                Some(_) => {}
            }
        }
        self.open.remove(subject);
        self.bytes = self.bytes.saturating_sub(subject.len());
        !expired
    }

    fn open(&mut self, now: Instant, reply: &[u8], rule: ResponseRule) {
        if reply.len() > MAX_RESPONSE_BYTES {
            return;
        }
        let number = self.next;
        self.next += 1;
        let entry = Open {
            number,
            left: rule.max,
            since: now,
            expires: rule.expires,
        };
        if let Some(known) = self.open.get_mut(reply) {
            *known = entry;
            return;
        }
        if self.open.len() >= self.sweep_at.min(MAX_RESPONSES)
            || self.bytes + reply.len() > MAX_RESPONSE_BYTES
        {
            self.make_room(now, reply.len());
        }
        self.bytes += reply.len();
        self.open.insert(reply.into(), entry);
    }

    fn make_room(&mut self, now: Instant, wanted: usize) {
        self.retain(|open| !open.is_expired(now));
        // Halves until it fits: each halving is paid for by the requests that filled it.
        while self.open.len() >= MAX_RESPONSES
            || (self.bytes + wanted > MAX_RESPONSE_BYTES && !self.open.is_empty())
        {
            let mut numbers: Vec<u64> = self.open.values().map(|open| open.number).collect();
            let middle = numbers.len() / 2;
            let (_, median, _) = numbers.select_nth_unstable(middle);
            let median = *median;
            // Strictly newer, so that at least one goes even of one.
            self.retain(|open| open.number > median);
        }
        self.sweep_at = SWEEP_MIN.max(self.open.len() * 2);
        self.open.shrink_to(self.sweep_at);
    }

    fn retain(&mut self, keep: impl Fn(&Open) -> bool) {
        let bytes = &mut self.bytes;
        self.open.retain(|reply, open| {
            let kept = keep(open);
            if !kept {
                *bytes = bytes.saturating_sub(reply.len());
            }
            kept
        });
    }
}

/// Answers of the publish lists for the subjects used last, direct-mapped: a hit is one compare.
#[derive(Default)]
struct Cache([Slot; SLOTS]);

const SLOTS: usize = 16;

/// Longer subjects are not remembered. Makes a slot 64 bytes.
const SLOT_BYTES: usize = 62;

struct Slot {
    /// 0: empty.
    len: u8,
    allowed: bool,
    subject: [u8; SLOT_BYTES],
}

impl Default for Slot {
    fn default() -> Self {
        Slot {
            len: 0,
            allowed: false,
            subject: [0; SLOT_BYTES],
        }
    }
}

impl Cache {
    fn get_or_insert_with(&mut self, subject: &[u8], decide: impl FnOnce() -> bool) -> bool {
        let Some(len) = u8::try_from(subject.len())
            .ok()
            .filter(|len| (1..=SLOT_BYTES).contains(&usize::from(*len)))
        else {
            return decide();
        };
        let Some(slot) = self.0.get_mut(slot_of(subject)) else {
            return decide();
        };
        if slot.len != len || slot.subject.get(..subject.len()) != Some(subject) {
            slot.allowed = decide();
            slot.len = len;
            if let Some(place) = slot.subject.get_mut(..subject.len()) {
                place.copy_from_slice(subject);
            }
        }
        slot.allowed
    }
}

/// Where a subject is remembered: subjects of one client differ at the end, seldom only in the
/// middle. Whoever makes them collide slows down nobody but himself.
fn slot_of(subject: &[u8]) -> usize {
    let word = |chunk: Option<&[u8; 8]>| {
        chunk.map_or_else(
            || subject.iter().fold(0, |all, b| all << 8 | u64::from(*b)),
            |chunk| u64::from_le_bytes(*chunk),
        )
    };
    let mixed = word(subject.last_chunk())
        ^ word(subject.first_chunk()).rotate_left(29)
        ^ (subject.len() as u64);
    (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60) as usize % SLOTS
}

/// What may cross a leaf link in the role of the spoke: the hub's `import` and `export` of INFO,
/// our `deny_imports` and `deny_exports`, and what every Go hub denies without saying so.
#[derive(Clone, Debug, Default)]
pub struct LeafRules {
    import: Rules,
    export: Rules,
    deny_imports: Patterns,
    deny_exports: Patterns,
    /// `$JS.<domain>.API.>` of the hub.
    domain_api: Option<Box<[u8]>>,
}

/// The rules a hub states in an INFO. What is absent leaves the earlier state as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct HubRules<'a> {
    /// `import`: what the hub may send us.
    pub import: Option<&'a SubjectRules>,
    /// `export`: what we may send to the hub.
    pub export: Option<&'a SubjectRules>,
    /// `domain`: the hub's JetStream domain.
    pub domain: Option<&'a str>,
}

/// Interest below these takes the link down on every Go hub, JetStream or not (leaf protocol, JetStream).
const HIDDEN: [&[u8]; 3] = [b"$JS.API.>", b"$KV.>", b"$OBJ.>"];

/// Interest the hub takes from every leaf.
const ALWAYS_ADVERTISED: [&[u8]; 3] = [b"$LDS.", b"$GR.", b"_GR_."];

/// Answers and acknowledgements, which the hub takes whatever `export` says.
const ALWAYS_SENT: [&[u8]; 2] = [b"_R_.", b"$JS.ACK."];

impl LeafRules {
    /// The rules before the hub has said anything: those of the remote's configuration.
    pub fn new(deny_imports: &[String], deny_exports: &[String]) -> Self {
        LeafRules {
            deny_imports: Patterns::compile(deny_imports),
            deny_exports: Patterns::compile(deny_exports),
            ..LeafRules::default()
        }
    }

    /// Takes over what an INFO of the hub says; the local denies stay.
    pub fn adopt(&mut self, hub: HubRules<'_>) {
        if let Some(import) = hub.import {
            self.import = Rules::compile(import);
        }
        if let Some(export) = hub.export {
            self.export = Rules::compile(export);
        }
        if let Some(domain) = hub.domain {
            let api = format!("$JS.{domain}.API.>").into_bytes();
            let plain = !domain.is_empty()
                && subject::is_valid_pattern(&api)
                && !subject::has_wildcard(domain.as_bytes());
            self.domain_api = plain.then(|| api.into());
        }
    }

    /// Whether `LS+ pattern` may be sent for interest of clients.
    ///
    /// Yes if an allow entry of `import` covers it, or overlaps it if it has wildcards; and no deny
    /// entry covers it. Entries with a queue permit nothing, because the hub takes them for nothing.
    pub fn may_advertise(&self, pattern: &[u8]) -> bool {
        self.may_advertise_to(pattern, None)
    }

    /// Whether `LS+ pattern queue n` may be sent: as [`LeafRules::may_advertise`], and no deny entry
    /// with a matching queue covers it.
    pub fn may_advertise_queue(&self, pattern: &[u8], queue: &[u8]) -> bool {
        self.may_advertise_to(pattern, Some(queue))
    }

    fn may_advertise_to(&self, pattern: &[u8], queue: Option<&[u8]>) -> bool {
        if is_always_advertised(pattern) {
            return true;
        }
        let hidden = HIDDEN.iter().copied().chain(self.domain_api.as_deref());
        if hidden
            .into_iter()
            .any(|outer| subject::covers(outer, pattern))
        {
            return false;
        }
        let allowed = match &self.import.allow {
            None => true,
            Some(allow) => {
                allow.covers(pattern) || (subject::has_wildcard(pattern) && allow.overlaps(pattern))
            }
        };
        allowed
            && !self.import.deny.covers(pattern)
            && !self.import.deny.covers_queue(pattern, queue)
            && !self.deny_imports.covers(pattern)
    }

    /// Whether a message from the hub on `subject` is to be taken; the others are dropped silently.
    pub fn may_receive(&self, subject: &[u8]) -> bool {
        self.import.permits(subject) && !self.deny_imports.matches(subject)
    }

    /// Whether a message on `subject` may be sent to the hub; the others are dropped silently.
    /// `_R_.` and `$JS.ACK.` pass the hub's lists, but not `deny_exports`.
    pub fn may_send(&self, subject: &[u8]) -> bool {
        (self.export.permits(subject) || starts_with_any(subject, &ALWAYS_SENT))
            && !self.deny_exports.matches(subject)
    }
}

/// What may cross a leaf link on the side of the acceptor: the permissions of the user that the leaf
/// is bound to, and what it says in CONNECT that it must not be sent.
#[derive(Debug, Default)]
pub struct AcceptorRules {
    perms: Option<LinkPerms>,
    deny: Patterns,
}

impl AcceptorRules {
    /// `perms`: `None` is everything; `deny` is `deny_pub` of CONNECT.
    pub fn new(perms: Option<Arc<Perms>>, deny: &[String]) -> Self {
        AcceptorRules {
            perms: perms.map(LinkPerms::new),
            deny: Patterns::compile(deny),
        }
    }

    /// The user's permissions, for INFO.
    pub fn stated(&self) -> Option<&Permissions> {
        let perms = self.perms.as_ref()?;
        Some(perms.rules().stated())
    }

    /// Whether the leaf may publish to `subject` now. Answers and acknowledgements always pass.
    pub fn may_receive(&mut self, now: Instant, subject: &[u8]) -> bool {
        let Some(perms) = &mut self.perms else {
            return true;
        };
        perms.may_publish(now, subject) || starts_with_any(subject, &ALWAYS_SENT)
    }

    /// Whether a message on `subject` may be sent to the leaf, and so whether it may ask for it by
    /// this very name.
    pub fn may_send(&self, subject: &[u8]) -> bool {
        let perms = self.perms.as_ref();
        perms.is_none_or(|perms| perms.rules().may_hear(subject)) && !self.deny.matches(subject)
    }

    /// From here on the leaf has these permissions.
    pub fn adopt(&mut self, perms: Option<Arc<Perms>>) {
        self.perms = perms.map(LinkPerms::new);
    }

    /// Whether there is nothing that must not be sent.
    pub fn sends_all(&self) -> bool {
        self.perms.is_none() && self.deny.is_empty()
    }

    /// Whether the leaf may be told that somebody here wants `pattern`.
    pub fn may_advertise(&self, pattern: &[u8]) -> bool {
        let perms = self.perms.as_ref();
        is_always_advertised(pattern)
            || perms.is_none_or(|perms| perms.rules().may_be_offered(pattern))
    }

    /// The leaf was sent a request with this reply: see [`LinkPerms::track_response`].
    pub fn track_response(&mut self, now: Instant, reply: &[u8]) {
        if let Some(perms) = &mut self.perms {
            perms.track_response(now, reply);
        }
    }
}

/// Whether interest in `subject` passes a leaf link whatever permissions say.
pub(crate) fn is_always_advertised(subject: &[u8]) -> bool {
    starts_with_any(subject, &ALWAYS_ADVERTISED)
}

fn starts_with_any(subject: &[u8], prefixes: &[&[u8]]) -> bool {
    prefixes.iter().any(|prefix| subject.starts_with(prefix))
}

/// An allow and a deny list.
#[derive(Clone, Debug, Default)]
struct Rules {
    /// `None`: everything. A list of which no entry is of use still restricts.
    allow: Option<List>,
    deny: List,
}

impl Rules {
    fn compile(rules: &SubjectRules) -> Rules {
        Rules {
            allow: (!rules.allow.is_empty()).then(|| List::compile(&rules.allow)),
            deny: List::compile(&rules.deny),
        }
    }

    fn is_empty(&self) -> bool {
        self.allow.is_none() && self.deny.is_empty()
    }

    /// Whether a message on `subject` is allowed and not denied, entries with a queue aside.
    fn permits(&self, subject: &[u8]) -> bool {
        self.allow
            .as_ref()
            .is_none_or(|allow| allow.matches(subject))
            && !self.deny.matches(subject)
    }
}

/// One list: entries for all, and entries for some queue groups.
#[derive(Clone, Debug, Default)]
struct List {
    plain: Patterns,
    queued: Box<[Queued]>,
}

/// An entry like `"foo q"`.
#[derive(Clone, Debug)]
struct Queued {
    subject: Box<[u8]>,
    queue: Box<[u8]>,
}

impl Queued {
    fn holds_for(&self, queue: Option<&[u8]>) -> bool {
        queue.is_some_and(|queue| subject::matches(&self.queue, queue))
    }
}

impl List {
    fn compile(entries: &[String]) -> List {
        let mut queued = Vec::new();
        for entry in entries {
            let mut words = entry.split_ascii_whitespace();
            if let (Some(subject), Some(queue), None) = (words.next(), words.next(), words.next()) {
                queued.push(Queued {
                    subject: subject.as_bytes().into(),
                    queue: queue.as_bytes().into(),
                });
            }
        }
        List {
            plain: Patterns::compile(entries),
            queued: queued.into(),
        }
    }

    fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.queued.is_empty()
    }

    fn matches(&self, subject: &[u8]) -> bool {
        self.plain.matches(subject)
    }

    fn covers(&self, pattern: &[u8]) -> bool {
        self.plain.covers(pattern)
    }

    fn overlaps(&self, pattern: &[u8]) -> bool {
        self.plain.overlaps(pattern)
    }

    fn covers_queue(&self, pattern: &[u8], queue: Option<&[u8]>) -> bool {
        self.queued
            .iter()
            .any(|entry| entry.holds_for(queue) && subject::covers(&entry.subject, pattern))
    }
}

/// A set of patterns without queues.
#[derive(Clone, Debug, Default)]
struct Patterns {
    /// Sorted.
    literals: Box<[Box<[u8]>]>,
    wild: Box<[Box<[u8]>]>,
}

impl Patterns {
    /// Entries that are no valid pattern, or have a queue, are left out.
    fn compile(entries: &[String]) -> Patterns {
        let mut literals = Vec::new();
        let mut wild = Vec::new();
        for entry in entries {
            let entry = entry.trim_ascii().as_bytes();
            if !subject::is_valid_pattern(entry) || entry.iter().any(u8::is_ascii_whitespace) {
                continue;
            }
            if subject::has_wildcard(entry) {
                wild.push(entry.into());
            } else {
                literals.push(entry.into());
            }
        }
        literals.sort_unstable();
        literals.dedup();
        Patterns {
            literals: literals.into(),
            wild: wild.into(),
        }
    }

    fn is_empty(&self) -> bool {
        self.literals.is_empty() && self.wild.is_empty()
    }

    /// Whether one of them matches the literal `subject`.
    fn matches(&self, subject: &[u8]) -> bool {
        self.has_literal(subject)
            || self
                .wild
                .iter()
                .any(|outer| subject::matches(outer, subject))
    }

    /// Whether one of them alone covers all of `pattern`.
    fn covers(&self, pattern: &[u8]) -> bool {
        self.has_literal(pattern)
            || self
                .wild
                .iter()
                .any(|outer| subject::covers(outer, pattern))
    }

    /// Whether one of them has a subject in common with `pattern`.
    fn overlaps(&self, pattern: &[u8]) -> bool {
        self.literals
            .iter()
            .chain(&self.wild)
            .any(|other| subject::overlaps(other, pattern))
    }

    fn has_literal(&self, subject: &[u8]) -> bool {
        self.literals
            .binary_search_by(|literal| literal.as_ref().cmp(subject))
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const T0: Instant = Instant::ZERO;

    fn rules(allow: &[&str], deny: &[&str]) -> SubjectRules {
        let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        SubjectRules {
            allow: owned(allow),
            deny: owned(deny),
        }
    }

    fn subscribe(allow: &[&str], deny: &[&str]) -> Perms {
        Perms::compile(&Permissions {
            subscribe: rules(allow, deny),
            ..Permissions::default()
        })
    }

    fn link(publish: SubjectRules, responses: Option<ResponseRule>) -> LinkPerms {
        LinkPerms::new(Arc::new(Perms::compile(&Permissions {
            publish,
            responses,
            ..Permissions::default()
        })))
    }

    fn rule(max: u64, seconds: u64) -> Option<ResponseRule> {
        Some(ResponseRule {
            max: Some(max),
            expires: Some(Duration::from_secs(seconds)),
        })
    }

    fn second(n: u64) -> Instant {
        T0 + Duration::from_secs(n)
    }

    #[test]
    fn c09_publish_allow_and_deny() {
        let mut perms = link(rules(&["ok.>", "one"], &["ok.no", "ok.x.*"]), None);
        let rows = [
            ("ok.yes", true),
            ("ok.a.b.c", true),
            ("one", true),
            ("ok.no", false),
            ("ok.x.y", false),
            ("ok.x.y.z", true),
            ("bad.x", false),
            ("ok", false),
            ("one.two", false),
            ("ok..a", false),
            ("", false),
        ];
        // Twice, so that the second round is answered by the cache.
        for (subject, expected) in rows.iter().chain(&rows) {
            assert_eq!(
                perms.may_publish(T0, subject.as_bytes()),
                *expected,
                "{subject}"
            );
        }
        let mut deny_only = link(rules(&[], &["no.>"]), None);
        assert!(deny_only.may_publish(T0, b"anything"));
        assert!(!deny_only.may_publish(T0, b"no.a"));
    }

    #[test]
    fn c10_queue_entries() {
        let perms = subscribe(&["foo", "bar v1", "bar v2.*"], &[]);
        let rows: &[(&str, Option<&str>, bool)] = &[
            ("bar", None, false),
            ("bar", Some("v1"), true),
            ("bar", Some("v2.x"), true),
            ("bar", Some("v2"), false),
            ("bar", Some("v3"), false),
            ("foo", None, true),
            ("foo", Some("g"), true),
            ("baz", Some("v1"), false),
        ];
        for (subject, queue, expected) in rows {
            assert_eq!(
                perms.may_subscribe(subject.as_bytes(), queue.map(str::as_bytes)),
                *expected,
                "{subject} {queue:?}"
            );
        }
        // A deny entry with a queue blocks only that queue, a plain one all.
        let perms = subscribe(&[], &["ok.q bad", "ok.r v.*", "no"]);
        let rows: &[(&str, Option<&str>, bool)] = &[
            ("ok.q", None, true),
            ("ok.q", Some("good"), true),
            ("ok.q", Some("bad"), false),
            ("ok.r", Some("v.1"), false),
            ("ok.r", Some("v"), true),
            ("no", None, false),
            ("no", Some("g"), false),
        ];
        for (subject, queue, expected) in rows {
            assert_eq!(
                perms.may_subscribe(subject.as_bytes(), queue.map(str::as_bytes)),
                *expected,
                "{subject} {queue:?}"
            );
        }
        // Only entries with queues still make an allow list.
        assert!(!subscribe(&["foo q"], &[]).may_subscribe(b"foo", None));
    }

    #[test]
    fn c11_partially_denied_wildcard_is_accepted_and_filtered() {
        let perms = subscribe(&["ok.>"], &["ok.no", "ok.q bad"]);
        assert!(!perms.may_subscribe(b">", None));
        assert!(perms.may_subscribe(b"ok.*", None));
        assert!(perms.deny_overlaps(b"ok.*"));
        assert!(!perms.may_deliver(b"ok.no", None));
        assert!(perms.may_deliver(b"ok.yes", None));
        // The queued entry filters its group only.
        assert!(perms.may_deliver(b"ok.q", None));
        assert!(perms.may_deliver(b"ok.q", Some(b"good")));
        assert!(!perms.may_deliver(b"ok.q", Some(b"bad")));
        // Nothing to filter: a disjoint wildcard, a literal.
        assert!(!perms.deny_overlaps(b"ok.a.*"));
        assert!(!perms.deny_overlaps(b"ok.no"));
        // Wholly denied.
        assert!(!subscribe(&[], &["a.>"]).may_subscribe(b"a.*", None));
    }

    #[test]
    fn c12_empty_lists_do_not_restrict() {
        let perms = Perms::compile(&Permissions::default());
        assert!(perms.is_unrestricted());
        assert!(perms.may_publish(b"a") && perms.may_subscribe(b">", None));
        assert!(perms.may_deliver(b"a", None) && !perms.deny_overlaps(b">"));
        assert!(!subscribe(&["a"], &[]).is_unrestricted());
        assert!(!subscribe(&[], &["a q"]).is_unrestricted());
        assert!(
            !Perms::compile(&Permissions {
                responses: rule(1, 1),
                ..Permissions::default()
            })
            .is_unrestricted()
        );
    }

    #[test]
    fn c13_responses_are_counted_and_expire() {
        let mut perms = link(rules(&[], &[]), rule(2, 1));
        assert!(!perms.may_publish(T0, b"unrelated"));
        perms.track_response(T0, b"rp.1");
        assert!(perms.may_publish(T0, b"rp.1"));
        assert!(!perms.may_publish(T0, b"rp.2"));
        assert!(perms.may_publish(second(1), b"rp.1"));
        assert!(!perms.may_publish(second(1), b"rp.1"), "third reply");
        perms.track_response(second(2), b"rp.2");
        let late = second(3) + Duration::from_nanos(1);
        assert!(!perms.may_publish(late, b"rp.2"), "late reply");
        // Once expired it stays closed, a new request opens it again.
        perms.track_response(late, b"rp.2");
        assert!(perms.may_publish(late, b"rp.2"));
    }

    #[test]
    fn responses_without_limits_and_beside_an_allow_list() {
        let forever = Some(ResponseRule {
            max: None,
            expires: None,
        });
        let mut perms = link(rules(&["ok.>"], &["no"]), forever);
        for subject in [b"rp".as_slice(), b"no", b"ok.a"] {
            perms.track_response(T0, subject);
        }
        for _ in 0..50 {
            assert!(perms.may_publish(second(1 << 30), b"rp"));
            assert!(perms.may_publish(T0, b"no"));
            assert!(perms.may_publish(T0, b"ok.b"));
            assert!(!perms.may_publish(T0, b"other"));
        }
        // What the list allows anyway takes no place.
        assert_eq!(perms.responses.as_ref().map(|r| r.open.len()), Some(2));
        // No rule, no memory.
        let mut none = link(rules(&["ok.>"], &[]), None);
        none.track_response(T0, b"rp");
        assert!(none.responses.is_none());
    }

    #[test]
    fn open_responses_are_bounded_in_number_and_bytes() {
        let forever = Some(ResponseRule {
            max: None,
            expires: None,
        });
        let mut perms = link(rules(&[], &[]), forever);
        for n in 0..3 * MAX_RESPONSES {
            perms.track_response(T0, format!("inbox.{n}").as_bytes());
            let open = perms.responses.as_ref().map_or(0, |r| r.open.len());
            assert!(open <= MAX_RESPONSES);
            assert!(perms.may_publish(T0, format!("inbox.{n}").as_bytes()));
        }
        assert!(!perms.may_publish(T0, b"inbox.0"));
        let long = "x".repeat(4000);
        for n in 0..200 {
            perms.track_response(T0, format!("{long}.{n}").as_bytes());
            let responses = perms.responses.as_ref();
            let bytes = responses.map_or(0, |r| r.open.keys().map(|key| key.len()).sum());
            assert!(bytes <= MAX_RESPONSE_BYTES);
            assert_eq!(responses.map(|r| r.bytes), Some(bytes));
        }
        assert!(perms.may_publish(T0, format!("{long}.199").as_bytes()));
        perms.track_response(T0, &vec![b'y'; MAX_RESPONSE_BYTES + 1]);
        assert!(!perms.may_publish(T0, &vec![b'y'; MAX_RESPONSE_BYTES + 1]));

        // With an expiry the map follows the requests of the last seconds.
        let mut perms = link(rules(&[], &[]), rule(1, 1));
        for n in 0..2000 {
            perms.track_response(second(n), format!("inbox.{n}").as_bytes());
        }
        assert!(perms.responses.as_ref().map_or(0, |r| r.open.len()) <= SWEEP_MIN);
    }

    #[test]
    fn memory_of_an_idle_connection() {
        assert_eq!(size_of::<LinkPerms>(), 3 * size_of::<usize>());
        assert_eq!(size_of::<Cache>(), SLOTS * 64);
    }

    fn leaf(import: &SubjectRules, export: &SubjectRules) -> LeafRules {
        let mut rules = LeafRules::default();
        rules.adopt(HubRules {
            import: Some(import),
            export: Some(export),
            domain: None,
        });
        rules
    }

    /// Leaf protocol, permissions.
    #[test]
    fn leaf_import_decides_interest_and_arrivals() {
        let rules = leaf(
            &rules(&["in.>", "_INBOX.>", "foo v1"], &["in.no", "in.q bad"]),
            &rules(&["out.>"], &["out.no"]),
        );
        for yes in ["in.a", "in.*", "in.>", ">", "*.a", "_INBOX.x", "*.*.x"] {
            assert!(rules.may_advertise(yes.as_bytes()), "{yes}");
        }
        for no in ["in.no", "zz", "zz.*", "in", "*", "foo", "out.a"] {
            assert!(!rules.may_advertise(no.as_bytes()), "{no}");
        }
        assert!(!rules.may_advertise_queue(b"foo", b"v1"));
        assert!(rules.may_advertise(b"in.q"));
        assert!(rules.may_advertise_queue(b"in.q", b"good"));
        assert!(!rules.may_advertise_queue(b"in.q", b"bad"));
        for always in ["$LDS.x", "$GR.x.*.>", "_GR_.a.b.c"] {
            assert!(rules.may_advertise(always.as_bytes()), "{always}");
        }
        for (subject, expected) in [
            ("in.a", true),
            ("in.no", false),
            ("zz", false),
            ("foo", false),
        ] {
            assert_eq!(rules.may_receive(subject.as_bytes()), expected, "{subject}");
        }
        for (subject, expected) in [
            ("out.a", true),
            ("out.no", false),
            ("in.a", false),
            ("_R_.x.y", true),
            ("$JS.ACK.S.C.1.1.1.1.1", true),
            ("$JS.API.INFO", false),
        ] {
            assert_eq!(rules.may_send(subject.as_bytes()), expected, "{subject}");
        }
    }

    #[test]
    fn leaf_local_denies_are_merged_and_outlive_an_info() {
        let mut rules = LeafRules::new(&["secret.>".into()], &["private.>".into()]);
        let check = |rules: &LeafRules| {
            assert!(!rules.may_advertise(b"secret.a") && !rules.may_advertise(b"secret.*"));
            assert!(!rules.may_receive(b"secret.a"));
            assert!(!rules.may_send(b"private.a"));
        };
        check(&rules);
        assert!(rules.may_advertise(b">") && rules.may_receive(b"a") && rules.may_send(b"a"));
        let everything = super::tests::rules(&[">"], &[]);
        rules.adopt(HubRules {
            import: Some(&everything),
            export: Some(&super::tests::rules(&["out"], &[])),
            domain: None,
        });
        check(&rules);
        assert!(rules.may_send(b"out") && !rules.may_send(b"a"));
        // An INFO without them leaves them.
        rules.adopt(HubRules::default());
        check(&rules);
        assert!(!rules.may_send(b"a"));
        rules.adopt(HubRules {
            export: Some(&everything),
            ..HubRules::default()
        });
        assert!(rules.may_send(b"a"));
    }

    /// Leaf protocol, JetStream.
    #[test]
    fn c43_leaf_never_shows_jetstream_interest() {
        let mut rules = LeafRules::default();
        let hidden = ["$JS.API.FOO", "$JS.API.>", "$KV.b.k", "$KV.b.*", "$OBJ.>"];
        for no in hidden {
            assert!(!rules.may_advertise(no.as_bytes()), "{no}");
            assert!(!rules.may_advertise_queue(no.as_bytes(), b"q"), "{no}");
            // Publishing to them is what reaches the hub's JetStream.
            assert!(rules.may_send(no.as_bytes()));
        }
        for yes in [">", "$JS.>", "$JS.ACK.S.>", "$KV", "*.b.k", "$JS.hub.API.X"] {
            assert!(rules.may_advertise(yes.as_bytes()), "{yes}");
        }
        let domain = |name| HubRules {
            domain: Some(name),
            ..HubRules::default()
        };
        rules.adopt(domain("hub"));
        for no in ["$JS.hub.API.X", "$JS.hub.API.>"] {
            assert!(!rules.may_advertise(no.as_bytes()), "{no}");
        }
        assert!(rules.may_advertise(b"$JS.other.API.X") && rules.may_advertise(b"$JS.*.API.>"));
        // Odd domains hide nothing.
        for odd in ["", "*", ">", "a..b"] {
            rules.adopt(domain(odd));
            assert!(rules.may_advertise(b"$JS.other.API.X"), "{odd}");
        }
    }

    // Reference: the rules as the documents say them, entry by entry.

    fn entry(text: &str) -> (&[u8], Option<&[u8]>) {
        match text.split_once(' ') {
            Some((subject, queue)) => (subject.as_bytes(), Some(queue.as_bytes())),
            None => (text.as_bytes(), None),
        }
    }

    fn says(list: &[String], queue: Option<&[u8]>, holds: impl Fn(&[u8]) -> bool) -> bool {
        list.iter().any(|text| {
            let (subject, group) = entry(text);
            holds(subject)
                && match group {
                    None => true,
                    Some(group) => queue.is_some_and(|queue| subject::matches(group, queue)),
                }
        })
    }

    fn naive_publish(rules: &SubjectRules, subject: &[u8]) -> bool {
        let holds = |pattern: &[u8]| subject::matches(pattern, subject);
        (rules.allow.is_empty() || says(&rules.allow, None, holds))
            && !says(&rules.deny, None, holds)
    }

    fn naive_subscribe(rules: &SubjectRules, pattern: &[u8], queue: Option<&[u8]>) -> bool {
        let holds = |outer: &[u8]| subject::covers(outer, pattern);
        // A plain deny also takes a `>` for a token.
        let strikes = |text: &String| {
            let (subject, group) = entry(text);
            group.is_none() && subject::matches(subject, pattern)
        };
        (rules.allow.is_empty() || says(&rules.allow, queue, holds))
            && !says(&rules.deny, queue, holds)
            && !rules.deny.iter().any(strikes)
    }

    fn pattern() -> impl Strategy<Value = String> {
        let token = prop::sample::select(vec!["a", "b", "c", "*", "a"]);
        (prop::collection::vec(token, 1..4), any::<bool>()).prop_map(|(tokens, open)| {
            let mut text = tokens.join(".");
            if open && tokens.len() < 3 {
                text.push_str(".>");
            }
            text
        })
    }

    fn literal() -> impl Strategy<Value = String> {
        let token = prop::sample::select(vec!["a", "b", "c", "*", ""]);
        let short = prop::collection::vec(token, 1..5).prop_map(|tokens| tokens.join("."));
        prop_oneof![9 => short, 1 => "[abc]{55,70}".prop_map(|tail| format!("a.{tail}"))]
    }

    fn queue() -> impl Strategy<Value = String> {
        prop::sample::select(vec!["q", "v.1", "v.2", "*", "v.*", ">"]).prop_map(str::to_owned)
    }

    fn list(queued: u32) -> impl Strategy<Value = Vec<String>> {
        let with_queue =
            (pattern(), queue()).prop_map(|(subject, queue)| format!("{subject} {queue}"));
        prop::collection::vec(prop_oneof![6 => pattern(), queued => with_queue], 0..6)
    }

    fn both(queued: u32) -> impl Strategy<Value = SubjectRules> {
        (list(queued), list(queued)).prop_map(|(allow, deny)| SubjectRules { allow, deny })
    }

    proptest! {
        #[test]
        fn publish_agrees_with_the_reference_cached_or_not(
            rules in both(0),
            subjects in prop::collection::vec(literal(), 1..80),
        ) {
            let mut perms = link(rules.clone(), None);
            for subject in &subjects {
                let expected = naive_publish(&rules, subject.as_bytes());
                prop_assert_eq!(perms.rules().may_publish(subject.as_bytes()), expected);
                prop_assert_eq!(perms.may_publish(T0, subject.as_bytes()), expected);
            }
        }

        #[test]
        fn subscribe_agrees_with_the_reference(
            rules in both(4),
            subject in pattern(),
            queue in prop::option::of(queue()),
        ) {
            let perms = Perms::compile(&Permissions {
                subscribe: rules.clone(),
                ..Permissions::default()
            });
            let (subject, queue) = (subject.as_bytes(), queue.as_deref().map(str::as_bytes));
            prop_assert_eq!(
                perms.may_subscribe(subject, queue),
                naive_subscribe(&rules, subject, queue)
            );
        }

        #[test]
        fn delivery_agrees_with_the_reference_and_the_flag_is_never_missing(
            rules in both(4),
            pattern in pattern(),
            message in literal(),
            queue in prop::option::of(queue()),
        ) {
            let perms = Perms::compile(&Permissions {
                subscribe: rules.clone(),
                ..Permissions::default()
            });
            let (pattern, message) = (pattern.as_bytes(), message.as_bytes());
            let queue = queue.as_deref().map(str::as_bytes);
            let denied = says(&rules.deny, queue, |outer| subject::matches(outer, message));
            prop_assert_eq!(perms.may_deliver(message, queue), !denied);
            // A literal subscription is decided at SUB, all others carry the flag.
            if denied
                && perms.may_subscribe(pattern, queue)
                && subject::matches(pattern, message)
            {
                prop_assert!(perms.deny_overlaps(pattern));
            }
        }

        #[test]
        fn responses_agree_with_a_list(
            max in prop::option::of(0..4u64),
            seconds in prop::option::of(0..4u64),
            allow in list(0),
            steps in prop::collection::vec((0..3u64, any::<bool>(), literal()), 1..60),
        ) {
            let rule = ResponseRule { max, expires: seconds.map(Duration::from_secs) };
            let rules = SubjectRules { allow: allow.clone(), deny: Vec::new() };
            let mut perms = link(rules.clone(), Some(rule));
            // Subject, messages so far, opened at.
            let mut open: Vec<(String, u64, u64)> = Vec::new();
            let mut clock = 0;
            for (wait, request, subject) in steps {
                clock += wait;
                let listed = !allow.is_empty() && naive_publish(&rules, subject.as_bytes());
                if request {
                    perms.track_response(second(clock), subject.as_bytes());
                    open.retain(|(known, ..)| *known != subject);
                    open.push((subject, 0, clock));
                } else {
                    let answered = open.iter_mut().find(|(known, used, since)| {
                        *known == subject
                            && max.is_none_or(|max| *used < max)
                            && seconds.is_none_or(|ttl| clock - since <= ttl)
                    });
                    let expected = listed || answered.is_some();
                    if let (false, Some((_, used, _))) = (listed, answered) {
                        *used += 1;
                    }
                    prop_assert_eq!(
                        perms.may_publish(second(clock), subject.as_bytes()),
                        expected
                    );
                }
            }
        }

        #[test]
        fn leaf_rules_agree_with_the_reference(
            import in both(3),
            export in both(3),
            deny_imports in list(0),
            deny_exports in list(0),
            pattern in pattern(),
            message in literal(),
        ) {
            let mut leaf = LeafRules::new(&deny_imports, &deny_exports);
            leaf.adopt(HubRules { import: Some(&import), export: Some(&export), domain: None });
            let (pattern, message) = (pattern.as_bytes(), message.as_bytes());
            let covers = |outer: &[u8]| subject::covers(outer, pattern);
            let fits = |outer: &[u8]| {
                covers(outer)
                    || (subject::has_wildcard(pattern) && subject::overlaps(outer, pattern))
            };
            prop_assert_eq!(
                leaf.may_advertise(pattern),
                (import.allow.is_empty() || says(&import.allow, None, fits))
                    && !says(&import.deny, None, covers)
                    && !says(&deny_imports, None, covers)
            );
            let matches = |outer: &[u8]| subject::matches(outer, message);
            prop_assert_eq!(
                leaf.may_receive(message),
                naive_publish(&import, message) && !says(&deny_imports, None, matches)
            );
            prop_assert_eq!(
                leaf.may_send(message),
                naive_publish(&export, message) && !says(&deny_exports, None, matches)
            );
        }

        #[test]
        fn arbitrary_lists_and_subjects_do_not_panic(
            lists in prop::collection::vec(".{0,12}", 0..8),
            subject in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let rules = SubjectRules { allow: lists.clone(), deny: lists };
            let mut perms = link(rules.clone(), rule(1, 1));
            let _ = perms.may_publish(T0, &subject);
            perms.track_response(T0, &subject);
            prop_assert!(perms.may_publish(T0, &subject));
            let leaf = leaf(&rules, &rules);
            let _ = leaf.may_advertise(&subject) | leaf.may_send(&subject);
        }
    }
}
