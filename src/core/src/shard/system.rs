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
    /// client, neither of the server nor of its account.
    pub fn open_own(&mut self, now: Instant, neighbour: N) -> LinkId {
        let link = self.open(now, neighbour);
        if self.standing_is_local(link) {
            self.clients -= 1;
            self.all_clients
                .fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
            if let Some(link) = self.links.get(link.place) {
                self.leave_account(link.account, Reach::Local);
            }
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

    /// Has the server hear a subject (a valid pattern) in its own account, as a member of a group or not. What comes is kept with
    /// `sid`.
    pub fn subscribe_as_server(
        &mut self,
        now: Instant,
        subject: &[u8],
        queue: Option<&[u8]>,
        sid: &[u8],
    ) {
        self.now = now;
        let Some(LinkId { place, .. }) = self.own.link else {
            return;
        };
        self.subscribe(place, subject, queue, sid, false);
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;
    use crate::auth::users::Users;
    use crate::config::model::Config;
    use crate::link::client::Client;
    use crate::link::internal::Internal;
    use crate::link::queue::WritePlan;
    use crate::link::{Env, Secured, Server};
    use crate::random::Random;

    crate::neighbours! {
        #[derive(Debug)]
        enum Peer {
            Client(Box<Client>),
            Own(Internal),
        }
    }

    const NOW: Instant = Instant::from_nanos(1);

    fn shard() -> Shard<Peer> {
        let config = Config::default();
        let env = Env {
            server: Server {
                id: "N1".into(),
                name: "S".into(),
                toolchain: "rust",
                host: "127.0.0.1".into(),
                port: 4222,
                headers: true,
            },
            limits: config.limits.clone(),
            users: Arc::new(Users::compile(&config)),
            tls: None,
        };
        Shard::new(env, ["SYS"], Box::new(Random::new(1)))
    }

    fn client(shard: &mut Shard<Peer>) -> LinkId {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let client = Client::new(NOW, 1, address, Secured::default());
        let link = shard.open(NOW, Peer::Client(Box::new(client)));
        shard.handle_bytes(NOW, link, b"CONNECT {\"verbose\":false}\r\n");
        heard(shard, link);
        link
    }

    fn heard(shard: &mut Shard<Peer>, link: LinkId) -> String {
        let mut bytes = Vec::new();
        {
            let mut plan = WritePlan::new();
            shard.poll_transmit(link, &mut plan);
            plan.iter().for_each(|piece| bytes.extend_from_slice(piece));
        }
        shard.handle_transmitted(NOW, link, bytes.len());
        String::from_utf8(bytes).unwrap()
    }

    fn mail(shard: &mut Shard<Peer>) -> Vec<(String, String)> {
        let Some(Peer::Own(own)) = shard.own_mut() else {
            return Vec::new();
        };
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let all = own.take_mail();
        all.iter()
            .map(|mail| (text(&mail.sid), text(mail.payload())))
            .collect()
    }

    #[test]
    fn the_server_hears_and_says() {
        let mut shard = shard();
        let own = shard.open_own(NOW, Peer::Own(Internal::new("$G".into())));
        let link = client(&mut shard);
        assert_eq!((shard.clients(), shard.links()), (1, vec![link]));
        shard.subscribe_as_server(NOW, b"ask.*", None, b"7");
        shard.handle_bytes(NOW, link, b"SUB told.> 1\r\nPUB ask.a 2\r\nhi\r\n");
        assert_eq!(mail(&mut shard), [("7".into(), "hi".into())]);

        assert!(shard.is_wanted("$G", b"told.x"));
        assert!(!shard.is_wanted("$G", b"other"));
        assert!(!shard.is_wanted("SYS", b"told.x"));
        assert!(!shard.is_wanted("none", b"told.x"));
        shard.publish_as_server(NOW, "$G", &Message::new(b"told.x", b"yes"));
        shard.publish_as_server(NOW, "SYS", &Message::new(b"told.x", b"no"));
        assert_eq!(heard(&mut shard, link), "MSG told.x 1 3\r\nyes\r\n");
        // What it says itself does not come back.
        shard.publish_as_server(NOW, "$G", &Message::new(b"ask.a", b"me"));
        assert_eq!(mail(&mut shard), []);
        assert!(shard.is_own(own) && !shard.is_own(link));
    }

    #[test]
    fn who_asks_the_server_is_an_event() {
        let mut shard = shard();
        let link = client(&mut shard);
        while shard.poll_event().is_some() {}
        let ask = b"SUB in 1\r\nPUB $SYS.REQ.USER.INFO in 0\r\n\r\n";
        shard.handle_bytes(NOW, link, ask);
        assert!(shard.poll_event().is_none());
        shard.answer_clients();
        shard.handle_bytes(NOW, link, ask);
        let Some(Event::Asked { link: who, reply }) = shard.poll_event() else {
            panic!("no event");
        };
        assert_eq!((who, &*reply), (link, &b"in"[..]));
        assert_eq!(shard.traffic(link).unwrap().in_msgs, 2);
        // Without a reply subject there is nothing to tell.
        shard.handle_bytes(NOW, link, b"PUB $SYS.REQ.USER.INFO 0\r\n\r\n");
        assert!(shard.poll_event().is_none());
    }

    #[test]
    fn loads_are_those_of_links_with_an_account() {
        let mut shard = shard();
        shard.open_own(NOW, Peer::Own(Internal::new("SYS".into())));
        shard.subscribe_as_server(NOW, b"a", None, b"1");
        let link = client(&mut shard);
        shard.handle_bytes(NOW, link, b"SUB x 1\r\nSUB y 2\r\nPUB x 3\r\nabc\r\n");
        let loads = shard.loads();
        let shown: Vec<_> = loads
            .iter()
            .map(|it| (&*it.account, it.clients, it.leafs, it.subscriptions))
            .collect();
        assert_eq!(shown, [("$G", 1, 0, 2), ("SYS", 0, 0, 1)]);
        let traffic = loads[0].client_traffic;
        assert_eq!((traffic.in_bytes, traffic.out_msgs), (3, 1));
        assert_eq!(shard.account_of(link).map(|it| &**it), Some("$G"));
    }

    #[test]
    fn mail_has_a_bound() {
        let mut shard = shard();
        shard.open_own(NOW, Peer::Own(Internal::new("$G".into())));
        shard.subscribe_as_server(NOW, b"a", None, b"1");
        let link = client(&mut shard);
        let body = vec![b'x'; 1 << 20];
        for _ in 0..9 {
            shard.handle_bytes(NOW, link, b"PUB a 1048576\r\n");
            shard.handle_bytes(NOW, link, &body);
            shard.handle_bytes(NOW, link, b"\r\n");
        }
        assert_eq!(mail(&mut shard).len(), 7);
        shard.handle_bytes(NOW, link, b"PUB a 1\r\nx\r\n");
        assert_eq!(mail(&mut shard).len(), 1);
    }
}
