//! The server as one that takes part itself: its own subscriptions and messages, and what its links
//! come to, by account.

use std::sync::Arc;

use super::{Shard, Traffic};
use crate::interest::Reach;
use crate::link::internal;
use crate::link::sibling::{Crossed, Groups, Origin};
use crate::link::{Event, LinkId, Neighbour};
use crate::message::Message;
use crate::slab::NONE;
use crate::time::Instant;

use super::route::Wish;

/// What a shard has of the server itself.
#[derive(Debug, Default)]
pub(super) struct Own {
    /// The link in which the server hears something.
    link: Option<LinkId>,
    /// Requests that any client may make of the server leave as events.
    answers: bool,
}

impl Own {
    /// Whether the server's own link is at `place`.
    pub(super) fn is_at(&self, place: u32) -> bool {
        self.link.is_some_and(|link| link.place == place)
    }
}

/// What the links of a shard that are bound to one account come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountLoad {
    /// The account's name.
    pub account: Arc<str>,
    /// Clients.
    pub clients: usize,
    /// Links to other servers.
    pub leafs: usize,
    /// Subscriptions, and keys of other servers.
    pub subscriptions: usize,
    /// What came and went over these links since they were opened: of clients.
    pub client_traffic: Traffic,
    /// Of links to other servers.
    pub leaf_traffic: Traffic,
}

impl Traffic {
    /// Both together.
    pub fn plus(self, other: Traffic) -> Traffic {
        Traffic {
            in_msgs: self.in_msgs + other.in_msgs,
            in_bytes: self.in_bytes + other.in_bytes,
            out_msgs: self.out_msgs + other.out_msgs,
            out_bytes: self.out_bytes + other.out_bytes,
            dropped: self.dropped + other.dropped,
        }
    }
}

impl<N: Neighbour> Shard<N> {
    /// Opens the link in which the server itself hears something; once, an
    /// [`Internal`](crate::link::internal::Internal). No connection is behind it, and it counts as no
    /// client.
    pub fn open_own(&mut self, now: Instant, neighbour: N) -> LinkId {
        let link = self.open(now, neighbour);
        if self.standing_is_local(link) {
            self.clients -= 1;
            self.all_clients
                .fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        }
        self.own.link = Some(link);
        link
    }

    fn standing_is_local(&self, link: LinkId) -> bool {
        self.link(link)
            .is_some_and(|link| link.neighbour.standing().reach == Reach::Local)
    }

    /// The neighbour of [`Shard::open_own`].
    pub fn own_mut(&mut self) -> Option<&mut N> {
        let link = self.links.get_mut(self.own.link?.place)?;
        Some(&mut link.neighbour)
    }

    /// Whether a link is that of [`Shard::open_own`], to which nothing is ever written.
    pub fn is_own(&self, link: LinkId) -> bool {
        self.own.link == Some(link)
    }

    /// The neighbour of [`Shard::open_own`], to be looked at.
    pub fn own(&self) -> Option<&N> {
        let link = self.links.get(self.own.link?.place)?;
        Some(&link.neighbour)
    }

    /// The account that a link is bound to; `None` once it is being closed.
    pub fn account_of(&self, link: LinkId) -> Option<&Arc<str>> {
        let account = self.accounts.get(self.link(link)?.account as usize);
        account.map(|account| &account.name)
    }

    /// The names of all accounts.
    pub fn accounts(&self) -> impl Iterator<Item = &Arc<str>> {
        self.accounts.iter().map(|account| &account.name)
    }

    /// From here on what clients ask the server itself leaves as [`Event::Asked`].
    pub fn answer_clients(&mut self) {
        self.own.answers = true;
    }

    /// Has the server hear a subject (a valid pattern) in its own account. What comes is kept with
    /// `sid`.
    pub fn subscribe_as_server(&mut self, now: Instant, subject: &[u8], sid: &[u8]) {
        self.now = now;
        let Some(LinkId { place, .. }) = self.own.link else {
            return;
        };
        self.subscribe(place, subject, None, sid, false);
        let account = self.links.get(place).map_or(NONE, |link| link.account);
        self.show_changes(account);
    }

    /// Whether anybody wants a message on `subject` in an account.
    pub fn is_wanted(&mut self, account: &str, subject: &[u8]) -> bool {
        let Some(at) = self.by_name.get(account) else {
            return false;
        };
        let Some(account) = self.accounts.get_mut(*at as usize) else {
            return false;
        };
        let mut wanted = false;
        account
            .interest
            .matching(subject, &mut |_, _| wanted = true);
        wanted
    }

    /// Routes a message that the server itself says in an account.
    pub fn publish_as_server(&mut self, now: Instant, account: &str, message: &Message<'_>) {
        self.now = now;
        let Some(at) = self.by_name.get(account).copied() else {
            return;
        };
        let nobody = LinkId {
            place: NONE,
            turn: 0,
        };
        let origin = Origin {
            account: at,
            producer: self.own.link.unwrap_or(nobody),
            standing: internal::STANDING,
            crossed: Crossed::Not,
            groups: Groups::Any,
            question: 0,
        };
        self.route(origin, message, Wish::Nothing);
        self.show_changes(at);
        self.resume_released();
    }

    /// A client asks the server itself for something.
    pub(super) fn ask_server(
        &mut self,
        place: u32,
        message: &Message<'_>,
        wants_no_responders: bool,
    ) {
        let Some(reply) = message.reply.filter(|_| self.own.answers) else {
            return self.publish(place, message, wants_no_responders);
        };
        let Some(link) = self.links.get_mut(place) else {
            return;
        };
        link.traffic.in_msgs += 1;
        link.traffic.in_bytes += message.body.len() as u64;
        let link = LinkId {
            place,
            turn: link.turn,
        };
        self.events.push_back(Event::Asked {
            link,
            reply: reply.into(),
        });
    }

    /// What the links come to, for each account that has any.
    pub fn loads(&self) -> Vec<AccountLoad> {
        let mut loads: Vec<Option<AccountLoad>> = vec![None; self.accounts.len()];
        for (place, link) in self.links.iter() {
            if self.family.has(place) {
                continue;
            }
            let (Some(account), Some(load)) = (
                self.accounts.get(link.account as usize),
                loads.get_mut(link.account as usize),
            ) else {
                continue;
            };
            let load = load.get_or_insert_with(|| AccountLoad {
                account: account.name.clone(),
                clients: 0,
                leafs: 0,
                subscriptions: 0,
                client_traffic: Traffic::default(),
                leaf_traffic: Traffic::default(),
            });
            load.subscriptions += link.subs.len();
            if self.own.is_at(place) {
                continue;
            }
            if link.neighbour.standing().reach == Reach::Local {
                load.clients += 1;
                load.client_traffic = load.client_traffic.plus(link.traffic);
            } else {
                load.leafs += 1;
                load.leaf_traffic = load.leaf_traffic.plus(link.traffic);
            }
        }
        loads.into_iter().flatten().collect()
    }
}
