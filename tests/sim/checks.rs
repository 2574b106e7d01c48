//! When a world is at rest, and what must be true then.

use std::collections::BTreeMap;
use std::time::Duration;

use petiole_core::link::uplink::State;
use petiole_core::time::Instant;

use crate::model::{Key, Map};
use crate::plan::Role;
use crate::server::Thread;
use crate::world::{End, World};

/// How long the last messages of a probe may take.
const ARRIVAL: Duration = Duration::from_secs(5);
/// How long a probe takes at most.
pub(crate) const PROBE: Duration = Duration::from_millis(5600);

/// Names for loop detection, and those of responses, are chance.
fn has_chosen_name(key: &Key) -> bool {
    !key.0.starts_with("$LDS.") && !key.0.starts_with("_R_.")
}

impl World {
    /// No more faults: what is broken is found out and mended by the parties themselves.
    pub(crate) fn calm_down(&mut self) {
        for conn in 0..self.conns.len() {
            self.thaw(conn);
        }
        for client in &mut self.clients {
            client.deaf_until = Instant::ZERO;
        }
        for link in self.hubs.iter_mut().flat_map(|hub| hub.links.values_mut()) {
            link.deaf_until = Instant::ZERO;
        }
        let mut left = 500;
        let broken = loop {
            let what = match self.is_quiet() {
                Ok(broken) => break broken,
                Err(what) => what,
            };
            left -= 1;
            assert!(left > 0, "it never gets quiet: {what}");
            // Not in step with anybody's pings, which are then always on their way.
            self.run_for(Duration::from_millis(900 + left * 37 % 211));
            for client in 0..self.clients.len() {
                // An answer to a ping behind everything else.
                let one = &mut self.clients[client];
                if left % 100 == 90 && one.is_ready {
                    one.fence();
                    self.tend(client);
                }
            }
        };
        self.oracle.break_ring(broken);
    }

    /// Where a link's remote stands.
    fn state_of(&mut self, link: usize) -> Option<State> {
        let below = self.plan.model.links[link].below.server;
        let server = &mut self.servers[below];
        let remote = server.links.iter().position(|other| *other == link)?;
        server.dialler()?.uplinks().get(remote).copied()
    }

    /// Exactly one link of the ring is cut, and stays so for the length of a probe.
    fn broken_at(&mut self) -> Result<usize, String> {
        let ring = self.plan.ring.clone();
        let states: Vec<_> = ring
            .iter()
            .map(|link| (*link, self.state_of(*link)))
            .collect();
        let is_up = |state: &Option<State>| matches!(state, Some(State::Synced { .. }));
        let down: Vec<_> = states.iter().filter(|(_, state)| !is_up(state)).collect();
        match down[..] {
            [(link, Some(State::Waiting { until }))] if *until > self.agenda.now + PROBE => {
                Ok(*link)
            }
            _ => Err(format!("the ring: {states:?}")),
        }
    }

    /// Where the ring is broken, once nothing happens by itself any more.
    fn is_quiet(&mut self) -> Result<Option<usize>, String> {
        for link in 0..self.plan.model.links.len() {
            let state = self.state_of(link);
            let is_up = matches!(state, Some(State::Synced { .. }));
            if !is_up && !self.plan.ring.contains(&link) {
                return Err(format!("link {link}: {state:?}"));
            }
        }
        for (number, server) in self.servers.iter().enumerate() {
            if !server.is_up() {
                return Err(format!("server {number} is down"));
            }
            let now = self.agenda.now;
            let is_busy = |thread: &Thread| {
                !thread.ready.is_empty() || thread.has_mail || thread.stalled_until > now
            };
            if server.threads.iter().any(is_busy) {
                return Err(format!("server {number} is busy"));
            }
        }
        for (number, wire) in self.conns.iter().enumerate() {
            if wire.open == [false; 2] {
                continue;
            }
            if wire.pipes.iter().any(|pipe| pipe.cut) || wire.open != [true; 2] {
                return Err(format!("connection {number} is half open"));
            }
            if wire.pipes.iter().any(|pipe| !pipe.is_quiet()) {
                return Err(format!("connection {number} is busy"));
            }
        }
        for (number, client) in self.clients.iter().enumerate() {
            if client.wanted && !(client.is_ready && client.is_settled()) {
                return Err(format!("client {number} is not settled"));
            }
        }
        let mut hubs = self.hubs.iter();
        if hubs.any(|hub| hub.links.values().any(|link| !link.out.is_empty())) {
            return Err("a hub is busy".into());
        }
        if self.plan.ring.is_empty() {
            return Ok(None);
        }
        self.broken_at().map(Some)
    }

    /// Both sides of every link know exactly what the other wants.
    pub(crate) fn check_interest(&mut self) {
        let mut told: BTreeMap<usize, [Map; 2]> = BTreeMap::new();
        for (number, conn) in self.conns.iter().enumerate() {
            let Some(link) = conn.link.filter(|_| conn.open == [true; 2]) else {
                continue;
            };
            let both = match conn.ends[1] {
                End::Hub(hub) => {
                    let link = &self.hubs[hub].links[&number];
                    [&link.wanted, &link.told]
                }
                _ => [&conn.told[0], &conn.told[1]],
            };
            let both = both.map(|interest| interest.now.clone());
            let twice = told.insert(link, both);
            assert!(twice.is_none(), "link {link} is there twice");
        }
        let wants = self.oracle.wants();
        let model = &self.oracle.model;
        for (number, link) in model.links.iter().enumerate() {
            let seen = told.get(&number);
            if model.cut.contains(&number) {
                assert!(seen.is_none(), "link {number} is cut");
                continue;
            }
            let seen = seen.unwrap_or_else(|| panic!("link {number} is not there"));
            for (side, by) in link.ends().into_iter().enumerate() {
                let mut chosen = seen[side].clone();
                chosen.retain(|key, _| has_chosen_name(key));
                let due = model.told(&wants, number, by);
                assert_eq!(
                    chosen, due,
                    "what {by:?} tells over link {number}: {link:?}"
                );
                let mut loops = 0;
                for (subject, _) in seen[side].keys() {
                    loops += usize::from(subject.starts_with("$LDS."));
                }
                let due = model.joined(number, by);
                assert_eq!(loops, due, "names of accounts over link {number}: {link:?}");
            }
        }
        self.check_holdings(&told);
    }

    /// Every thread of a server without imports holds what its clients and links want.
    fn check_holdings(&mut self, told: &BTreeMap<usize, [Map; 2]>) {
        let (plan, oracle) = (&self.plan, &self.oracle);
        for (number, server) in self.servers.iter_mut().enumerate() {
            if plan
                .model
                .imports
                .iter()
                .any(|import| import.server == number)
            {
                continue;
            }
            for (account, name) in plan.accounts.iter().enumerate() {
                let place = crate::plan::place(number, account);
                let mut all: BTreeMap<Key, usize> = BTreeMap::new();
                let subs = oracle.subs.values().filter(|sub| sub.place == place);
                for sub in subs {
                    *all.entry(sub.key()).or_default() += 1;
                }
                for (link, [below, above]) in told {
                    let link = &plan.model.links[*link];
                    let beside = if link.below == place {
                        Some(above)
                    } else if link.above == place {
                        Some(below)
                    } else {
                        None
                    };
                    for key in beside.into_iter().flat_map(Map::keys) {
                        *all.entry(key.clone()).or_default() += 1;
                    }
                }
                let is_single = matches!(plan.servers[number], Role::Gateway | Role::Hub(1));
                for thread in &mut server.threads {
                    let held = thread.node.interest(name);
                    if is_single {
                        assert_eq!(held, all, "what {place:?} holds");
                    } else {
                        // How many each thread stands for is its own affair.
                        let keys =
                            |map: &BTreeMap<Key, usize>| map.keys().cloned().collect::<Vec<_>>();
                        assert_eq!(keys(&held), keys(&all), "what a thread of {place:?} holds");
                    }
                }
            }
        }
    }

    /// Everything is connected: what is sent now arrives.
    pub(crate) fn probe(&mut self) {
        self.publish_probe();
        self.oracle.check_due();
        // What had its last message is over. A ring may be tried again by now.
        if self.plan.ring.is_empty() {
            self.check_interest();
        }
    }

    fn publish_probe(&mut self) {
        self.oracle.probing = true;
        self.oracle.ended.clear();
        for _ in 0..16 {
            let (subject, size) = (self.subject(), self.rng.below(200) as usize);
            let size = if self.rng.below(8) == 0 { 5000 } else { size };
            let asks = self.rng.below(3) == 0;
            let who =
                self.rng
                    .below((self.clients.len() + self.hubs.len()) as u64) as usize;
            if let Some(client) = self.clients.get_mut(who) {
                if asks {
                    client.request(&subject, &mut self.oracle, &mut self.rng);
                } else {
                    client.publish(&subject, None, size, &mut self.oracle, &mut self.rng);
                }
                self.tend(who);
            } else {
                let hub = who - self.clients.len();
                if let Some(owner) = self.hubs[hub].clients.keys().next().copied() {
                    let inbox = format!("_INBOX.{owner}.{}", self.oracle.number());
                    if asks {
                        self.hub_subscribes(hub, owner, &inbox, None);
                    }
                    let inbox = asks.then_some(&*inbox);
                    self.hub_publishes(hub, owner, &subject, inbox, size);
                    self.flush_hub(hub);
                }
            }
            let pause = self.rng.below(30);
            self.run_for(Duration::from_millis(pause));
        }
        self.run_for(ARRIVAL);
        self.oracle.probing = false;
    }

    /// Since when each link outside of the ring is up.
    fn rest(&mut self) -> Vec<Option<State>> {
        let rest = 0..self.plan.model.links.len();
        let rest: Vec<usize> = rest.filter(|link| !self.plan.ring.contains(link)).collect();
        rest.into_iter().map(|link| self.state_of(link)).collect()
    }

    /// A ring that was broken for a while is tried again: whoever is joined without it hears everything
    /// meanwhile, and nobody the same for ever.
    pub(crate) fn let_rings_close(&mut self) {
        if self.plan.ring.is_empty() {
            return;
        }
        self.oracle.break_ring(None);
        for _ in 0..6 {
            let before = self.rest();
            self.publish_probe();
            // A server beside the ring may hear its own name before those of the ring hear theirs, and
            // takes its only link for the loop.
            self.oracle.record.closings += 1;
            let is_up = |state: &Option<State>| matches!(state, Some(State::Synced { .. }));
            if before.iter().all(is_up) && self.rest() == before {
                self.oracle.check_due();
            } else {
                self.oracle.record.mistaken += 1;
                self.oracle.forget_due();
            }
        }
    }

    /// All clients leave; nothing of them remains. Then the servers stop.
    pub(crate) fn finish(&mut self) {
        for client in 0..self.clients.len() {
            self.clients[client].wanted = false;
            self.tend(client);
        }
        self.oracle.subs.clear();
        for hub in 0..self.hubs.len() {
            self.hubs[hub].advertise(&self.oracle);
            self.flush_hub(hub);
        }
        self.run_for(Duration::from_secs(3));
        self.check_interest();
        let now = self.agenda.now;
        for number in 0..self.servers.len() {
            let server = &mut self.servers[number];
            server.closing = true;
            let joins = |link: usize| {
                let link = self.plan.model.links[link];
                link.ends().map(|end| usize::from(end.server == number))
            };
            let links = 0..self.plan.model.links.len();
            let links = links.filter(|link| !self.oracle.model.cut.contains(link));
            let due: usize = links.flat_map(joins).sum();
            let mut open = 0;
            for thread in &mut server.threads {
                assert_eq!(thread.node.clients(), 0);
                open += thread.node.links().len();
                thread.node.shut_down(now);
            }
            assert_eq!(open, due, "links of server {number}");
            for thread in 0..server.threads.len() {
                self.pump(self.at(number, thread), None);
            }
        }
        self.run_for(Duration::from_secs(3));
        for thread in self
            .servers
            .iter_mut()
            .flat_map(|server| &mut server.threads)
        {
            assert!(thread.node.links().is_empty(), "links leak");
            assert!(thread.drivers.is_empty(), "drivers leak");
        }
    }
}
