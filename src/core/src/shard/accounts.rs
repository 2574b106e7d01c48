//! Accounts that come, and accounts that change, while the server runs.
//!
//! All shards of a server have the same accounts at the same places. Whoever makes one known
//! ([`Shard::learn`]) does so in each shard before anything of another shard is taken in that could
//! already speak of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Connections, Shard};
use crate::account::Rules;
use crate::account::perms::Perms;
use crate::auth::users::Mandate;
use crate::interest::{Interest, Reach, SubId};
use crate::link::{LinkId, Neighbour, Role};
use crate::random::{self, Entropy};
use crate::slab::NONE;
use crate::time::Instant;
use crate::wire::error::ProtoError;

/// An account as every shard of a server knows it.
#[derive(Clone, Debug)]
pub struct AccountSeed {
    pub(super) rules: Arc<Rules>,
    /// The subject by which the server finds itself behind a leaf (leaf protocol, loop detection).
    pub(super) loop_name: Arc<str>,
    pub(super) connections: Arc<Connections>,
}

impl AccountSeed {
    /// An account that no shard has yet.
    pub fn new(rules: Arc<Rules>, entropy: &mut dyn Entropy) -> Self {
        AccountSeed {
            rules,
            loop_name: format!("$LDS.{}", random::name::<22>(entropy)).into(),
            connections: Arc::default(),
        }
    }
}

impl<N: Neighbour> Shard<N> {
    /// Makes an account known, behind those that are. Its number is its place among them.
    pub fn learn(&mut self, now: Instant, seed: &AccountSeed) {
        self.now = now;
        let at = self.accounts.len() as u32;
        self.add_account(seed.clone());
        for sibling in self.family.siblings().to_vec() {
            self.introduce_account(sibling, at);
        }
        self.offer_services(at);
        self.show_changes(at);
    }

    /// From here on an account has these rules. What its links subscribed to gets the streams and
    /// services that the rules import; what is above their limits is closed by [`Shard::enforce`].
    pub fn revise(&mut self, now: Instant, at: u32, rules: Arc<Rules>) {
        self.now = now;
        let Some(account) = self.accounts.get_mut(at as usize) else {
            return;
        };
        let before = std::mem::replace(&mut account.rules, rules);
        let without_imports = before.imports.is_empty() && account.rules.imports.is_empty();
        if !without_imports {
            self.withdraw_services(at);
            self.offer_services(at);
            for parent in self.parents(at) {
                self.drop_shadows(at, parent.id);
                if parent.is_client {
                    self.shadow_client(parent.link, at, parent.id, &parent.subject);
                } else {
                    let queue = parent.queue.as_deref();
                    self.shadow_key(at, parent.id, &parent.subject, queue);
                }
            }
        }
        self.show_changes(at);
        self.resume_released();
    }

    /// Closes what an account may no longer have: connections beyond its limits, the newest first, and
    /// those with too many subscriptions. One shard at a time, as all count together.
    pub fn enforce(&mut self, now: Instant, at: u32) {
        self.now = now;
        let Some(account) = self.accounts.get(at as usize) else {
            return;
        };
        let (limits, connections) = (account.rules.limits.clone(), account.connections.clone());
        let mut links: Vec<(u32, LinkId, Reach, usize)> = Vec::new();
        for (place, link) in self.links.iter() {
            let standing = link.neighbour.standing();
            let counts = standing.role != Role::Upstream && link.ending.is_none();
            if link.account == at && counts && !self.family.has(place) && !self.own.is_at(place) {
                let id = LinkId {
                    place,
                    turn: link.turn,
                };
                links.push((link.turn, id, standing.reach, link.subs.len()));
            }
        }
        links.sort_unstable_by_key(|(turn, ..)| std::cmp::Reverse(*turn));
        for (_, link, reach, subscriptions) in links {
            let (most, present) = match reach {
                Reach::Local => (
                    limits.max_connections,
                    connections.clients.load(Ordering::Relaxed)
                        + connections.leafs.load(Ordering::Relaxed),
                ),
                Reach::Distant => (
                    limits.max_leafnodes,
                    connections.leafs.load(Ordering::Relaxed),
                ),
            };
            let too_many = reach == Reach::Local
                && limits
                    .subscriptions(None)
                    .is_some_and(|most| subscriptions > most);
            if most.is_some_and(|most| present > most) {
                self.refuse(now, link, &ProtoError::MaxAccountConnections);
            } else if too_many {
                self.refuse(now, link, &ProtoError::MaxSubscriptions);
                self.close(now, link, ProtoError::MaxSubscriptions.reason());
            }
        }
    }

    /// From here on the JWT of who is at the other end of a link says this, and gives these permissions.
    /// Subscriptions that they do not cover end, and their owner is told.
    pub fn renew(
        &mut self,
        now: Instant,
        link: LinkId,
        mandate: Arc<Mandate>,
        perms: Option<Arc<Perms>>,
    ) {
        self.now = now;
        let place = link.place;
        let Some(it) = self.links.get_mut(place).filter(|it| it.turn == link.turn) else {
            return;
        };
        it.neighbour.adopt(mandate, perms);
        let at = it.account;
        let Some(account) = self.accounts.get(at as usize) else {
            return;
        };
        let interest = &account.interest;
        let mut lost = Vec::new();
        let mut changed = Vec::new();
        for id in it.subs.iter().copied() {
            let Some(sub) = interest.sub(id) else {
                continue;
            };
            let Some(entry) = interest.entry(sub.entry) else {
                continue;
            };
            let queue = interest.group_name(sub.group);
            match it.neighbour.may_keep(&entry.subject, queue) {
                None => lost.push((
                    id,
                    ProtoError::SubscribeDenied {
                        subject: entry.subject.clone(),
                        queue: queue.map(Into::into),
                    },
                    String::from_utf8_lossy(sub.sid.as_bytes()).into_owned(),
                )),
                Some(filtered) if filtered != sub.filtered && sub.reach == Reach::Local => {
                    changed.push((id, filtered));
                }
                Some(_) => {}
            }
        }
        for (id, error, sid) in lost {
            let label = self.links.get(place).map(|it| it.neighbour.label());
            log::error!("{} - {error} (sid {sid:?})", label.unwrap_or_default());
            self.append(place, |out| error.write_about(&sid, out));
            self.end_sub(place, id);
        }
        for (id, filtered) in changed {
            self.refilter(at, id, filtered);
        }
        self.show_changes(at);
        self.wake(place);
        self.resume_released();
    }

    /// What links and parties subscribed to in an account, which may have shadows in others.
    fn parents(&self, at: u32) -> Vec<Parent> {
        let Some(account) = self.accounts.get(at as usize) else {
            return Vec::new();
        };
        let interest = &account.interest;
        let mut all = Vec::new();
        for entry in interest.entry_ids() {
            let Some(entry) = interest.entry(entry) else {
                continue;
            };
            let groups = entry.groups().iter().map(|group| &group.members);
            for members in std::iter::once(&entry.plain).chain(groups) {
                for id in members.local().iter().chain(members.distant()) {
                    all.extend(self.parent(interest, *id, &entry.subject));
                }
            }
        }
        all
    }

    fn parent(&self, interest: &Interest, id: SubId, subject: &[u8]) -> Option<Parent> {
        let sub = interest.sub(id).filter(|sub| sub.shadow == NONE)?;
        let role = self.standing_of(sub)?.role;
        let is_client = role == Role::Client;
        // Of the shadows of other shards' clients we are told.
        if is_client && sub.party != NONE {
            return None;
        }
        Some(Parent {
            id,
            link: sub.link,
            is_client,
            subject: subject.into(),
            queue: interest.group_name(sub.group).map(Into::into),
        })
    }
}

/// A subscription of a link or a party.
struct Parent {
    id: SubId,
    link: u32,
    is_client: bool,
    subject: Box<[u8]>,
    queue: Option<Box<[u8]>>,
}
