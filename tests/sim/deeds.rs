//! What happens in a world: what clients and simulated hubs do, and what breaks.

use std::time::Duration;

use crate::oracle::Sub;
use crate::world::{End, Tick, World};

impl World {
    pub(crate) fn subject(&mut self) -> String {
        let subjects = self.plan.subjects;
        subjects[self.rng.below(subjects.len() as u64) as usize].into()
    }

    fn pattern(&mut self) -> String {
        let patterns = self.plan.patterns;
        if self.rng.below(2) == 0 {
            return self.subject();
        }
        patterns[self.rng.below(patterns.len() as u64) as usize].into()
    }

    fn group(&mut self) -> Option<&'static str> {
        [None, None, Some("G"), Some("H")][self.rng.below(4) as usize]
    }

    fn size(&mut self) -> usize {
        match self.rng.below(20) {
            0 => 20_000,
            1 => 5000,
            2..5 => 600,
            _ => self.rng.below(60) as usize,
        }
    }

    fn owned_by(&self, owner: u32) -> Vec<Sub> {
        let subs = self.oracle.subs.values();
        subs.filter(|sub| sub.owner == owner).cloned().collect()
    }

    fn client_acts(&mut self, client: usize) {
        let what = self.rng.below(16);
        let (subject, pattern, group) = (self.subject(), self.pattern(), self.group());
        let max = (self.rng.below(6) == 0).then(|| 1 + self.rng.below(5));
        let size = self.size();
        let one = &mut self.clients[client];
        let Some(conn) = one.conn.filter(|_| one.is_ready) else {
            return;
        };
        let owned = self.owned_by(self.clients[client].owner);
        let one = &mut self.clients[client];
        let (oracle, rng) = (&mut self.oracle, &mut self.rng);
        match what {
            0..5 if owned.len() < 6 => one.subscribe(&pattern, group, max, oracle),
            0..6 => {
                if !owned.is_empty() {
                    let number = owned[rng.below(owned.len() as u64) as usize].number;
                    one.unsubscribe(number, oracle);
                }
            }
            6..11 => one.publish(&subject, None, size, oracle, rng),
            11 => {
                let count = 20 + rng.below(60);
                let size = [30, 30, 2000, 9000][rng.below(4) as usize];
                for _ in 0..count {
                    one.publish(&subject, None, size, oracle, rng);
                }
            }
            12 | 13 => one.request(&subject, oracle, rng),
            14 => one.deaf_until = self.agenda.now + Duration::from_millis(rng.below(6000)),
            _ if rng.below(2) == 0 => one.close = true,
            _ => return self.reset(conn),
        }
        self.tend(client);
    }

    fn hub_acts(&mut self, hub: usize) {
        let owners: Vec<u32> = self.hubs[hub].clients.keys().copied().collect();
        if owners.is_empty() {
            return;
        }
        let owner = owners[self.rng.below(owners.len() as u64) as usize];
        let what = self.rng.below(12);
        let (subject, pattern, group) = (self.subject(), self.pattern(), self.group());
        let size = self.size();
        let owned = self.owned_by(owner);
        match what {
            0..3 if owned.len() < 5 => self.hub_subscribes(hub, owner, &pattern, group),
            0..5 => {
                if !owned.is_empty() {
                    let number = owned[self.rng.below(owned.len() as u64) as usize].number;
                    self.oracle.subs.remove(&number);
                    self.hubs[hub].advertise(&self.oracle);
                }
            }
            5 => {
                for _ in 0..20 + self.rng.below(40) {
                    self.hub_publishes(hub, owner, &subject, None, 3000);
                }
            }
            6 | 7 => {
                let inbox = format!("_INBOX.{owner}.{}", self.oracle.number());
                self.hub_subscribes(hub, owner, &inbox, None);
                self.hub_publishes(hub, owner, &subject, Some(&inbox), 10);
            }
            _ => self.hub_publishes(hub, owner, &subject, None, size),
        }
        self.flush_hub(hub);
    }

    pub(crate) fn hub_subscribes(
        &mut self,
        hub: usize,
        owner: u32,
        subject: &str,
        queue: Option<&str>,
    ) {
        let number = self.oracle.number();
        let sub = Sub {
            number,
            place: self.hubs[hub].place,
            subject: subject.to_owned(),
            queue: queue.map(str::to_owned),
            owner,
            max: None,
            delivered: 0,
        };
        self.oracle.subs.insert(number, sub);
        self.hubs[hub].advertise(&self.oracle);
    }

    pub(crate) fn hub_publishes(
        &mut self,
        hub: usize,
        owner: u32,
        subject: &str,
        reply: Option<&str>,
        size: usize,
    ) {
        let hub = &mut self.hubs[hub];
        hub.publish(owner, subject, reply, size, &mut self.oracle, &mut self.rng);
    }

    /// Something happens.
    pub(crate) fn act(&mut self, faults: bool) {
        if faults && self.rng.below(8) == 0 {
            return self.fault();
        }
        if !self.hubs.is_empty() && self.rng.below(4) == 0 {
            let hub = self.rng.below(self.hubs.len() as u64) as usize;
            self.hub_acts(hub);
        } else {
            let client = self.rng.below(self.clients.len() as u64) as usize;
            self.client_acts(client);
        }
    }

    fn fault(&mut self) {
        let open: Vec<usize> = (0..self.conns.len())
            .filter(|conn| self.conns[*conn].open == [true; 2])
            .collect();
        // Links are rarer than clients, and what it is about.
        let links: Vec<usize> = open
            .iter()
            .copied()
            .filter(|conn| self.conns[*conn].link.is_some())
            .collect();
        let from = if self.rng.below(3) > 0 { &links } else { &open };
        let Some(conn) = from
            .get(self.rng.below(from.len() as u64) as usize)
            .copied()
        else {
            return;
        };
        match self.rng.below(12) {
            0..3 => self.reset(conn),
            3 => {
                // Silence in one direction or both.
                let which = self.rng.below(3);
                for side in 0..2 {
                    self.conns[conn].pipes[side].cut |= which != side as u64;
                }
            }
            4..7 => {
                for side in 0..2 {
                    self.conns[conn].pipes[side].frozen = true;
                }
                let at = self.soon(15_000);
                self.push(at, Tick::Thaw(conn));
            }
            7 => {
                let server = self.rng.below(self.servers.len() as u64) as usize;
                if self.servers[server].is_up() {
                    self.kill(server);
                }
            }
            8 => {
                let server = self.rng.below(self.servers.len() as u64) as usize;
                let at = self.some_thread(server);
                let until = self.soon(5000);
                if let Some(thread) = self.thread(at) {
                    thread.stalled_until = until;
                    self.push(until, Tick::Resume(at));
                }
            }
            // One that takes its time, and a line that does.
            9 | 10 => {
                for pipe in &mut self.conns[conn].pipes {
                    pipe.slow_down(&mut self.rng);
                }
                let until = self.soon(12_000);
                for hub in &mut self.hubs {
                    if let Some(link) = hub.links.get_mut(&conn) {
                        link.deaf_until = until;
                    }
                }
            }
            _ if self.hubs.is_empty() => {
                let server = self.rng.below(self.servers.len() as u64) as usize;
                let ends = |conn: &usize| {
                    let ends = self.conns[*conn].ends;
                    ends.iter()
                        .any(|end| matches!(end, End::Server(at, _) if at.server == server))
                };
                let all: Vec<usize> = open.iter().copied().filter(ends).collect();
                for conn in all {
                    self.reset(conn);
                }
            }
            _ => {
                let hub = self.rng.below(self.hubs.len() as u64) as usize;
                self.hubs[hub].up = false;
                let links: Vec<usize> = self.hubs[hub].links.keys().copied().collect();
                let hard = self.rng.below(2) == 0;
                for conn in links {
                    if hard {
                        self.reset(conn);
                    } else {
                        self.close(conn, 1);
                    }
                }
                let at = self.soon(5000);
                self.push(at, Tick::HubUp(hub));
            }
        }
    }
}
