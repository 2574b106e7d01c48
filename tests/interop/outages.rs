//! Links that are cut, stalled or half-open at any moment, and hubs that come and go: petiole is
//! always back, with what its clients want by then.

use std::time::{Duration, Instant};

use petiole_core::random::Random;

use crate::common::{Joined, announced, each, eventually, hub, petiole, remote, sorted};
use crate::support::{Client, RealServer, Relay, Server, servers};

/// All outages, shared out to the versions.
const OUTAGES: usize = 200;
/// Restarts of a hub of each version.
const RESTARTS: usize = 10;
/// So that a link that leads nowhere is noticed within about a second, on both sides.
const QUICK: &str = "ping_interval: \"300ms\"\nping_max: 2\nwrite_deadline: \"300ms\"";

/// Traffic, interest that changes, and what has become of it.
struct Life {
    rng: Random,
    edge: Client,
    core: Client,
    /// Subjects that the edge's client has subscribed to, besides its own `down`.
    wanted: Vec<u64>,
    rounds: u64,
}

impl Life {
    fn new(seed: u64, leaf: &Server, hub: &Server) -> Self {
        let mut edge = Client::quiet(leaf.port());
        let mut core = Client::quiet(hub.port());
        edge.tell("SUB down 1\r\n");
        core.tell("SUB up 1\r\nSUB noise.up 2\r\n");
        Life {
            rng: Random::new(seed),
            edge,
            core,
            wanted: Vec::new(),
            rounds: 0,
        }
    }

    /// The clients are pinged as often as the link.
    fn stay(&mut self) {
        self.edge.sync();
        self.core.sync();
    }

    /// Some messages both ways.
    fn chatter(&mut self) {
        for _ in 0..1 + self.rng.below(5) {
            let size = 1 + self.rng.below(3000) as usize;
            let body = "x".repeat(size);
            self.edge.send(format!("PUB noise.up {size}\r\n{body}\r\n"));
            self.core.send(format!("PUB down {size}\r\n{body}\r\n"));
        }
    }

    fn change_interest(&mut self) {
        for _ in 0..1 + self.rng.below(3) {
            let subject = self.rng.below(8);
            match self.wanted.iter().position(|one| *one == subject) {
                Some(at) => {
                    self.wanted.swap_remove(at);
                    self.edge.send(format!("UNSUB {}\r\n", subject + 10));
                }
                None => {
                    self.wanted.push(subject);
                    let sid = subject + 10;
                    self.edge.send(format!("SUB want.{subject} {sid}\r\n"));
                }
            }
        }
    }

    /// A message of this moment crosses, either way.
    fn cross(&mut self) {
        self.rounds += 1;
        let text = format!("round {}", self.rounds);
        pass("up", &text, &mut self.edge, &mut self.core);
        pass("down", &text, &mut self.core, &mut self.edge);
    }

    fn is_right(&mut self, hub: &Server) {
        self.edge.sync();
        let mut wanted: Vec<String> = self.wanted.iter().map(|n| format!("want.{n}")).collect();
        wanted.push("down".into());
        let wanted = sorted(wanted);
        eventually("the hub's view of the leaf's interest", || {
            self.stay();
            let got = announced(hub)?;
            match got == wanted {
                true => Ok(()),
                false => Err(format!("{got:?} instead of {wanted:?}")),
            }
        });
        self.cross();
    }
}

/// Says it until it arrives.
fn pass(subject: &str, text: &str, from: &mut Client, to: &mut Client) {
    eventually(subject, || {
        from.send(format!("PUB {subject} {}\r\n{text}\r\n", text.len()));
        from.sync();
        match to.messages().iter().any(|msg| msg.text() == text) {
            true => Ok(()),
            false => Err(format!("{text:?} does not cross")),
        }
    });
}

fn suffer(real: &RealServer, count: usize) {
    let hub = hub(real, "", QUICK);
    let relay = Relay::to(hub.port_of("leaf"));
    // The address that the hub lists does not lead through the relay.
    let all_through = "ignore_discovered_servers: true";
    let leaf = petiole(&remote(relay.port(), all_through), QUICK);
    let mut life = Life::new(7, &leaf, &hub);
    life.is_right(&hub);
    let mut ways = [0; 3];
    for _ in 0..count {
        let before = relay.made();
        life.chatter();
        let pause = Duration::from_micros(life.rng.below(30_000));
        std::thread::park_timeout(pause);
        let way = life.rng.below(3) as usize;
        ways[way] += 1;
        match way {
            0 => relay.cut(),
            1 => relay.half_open(),
            _ => relay.stall(),
        }
        life.chatter();
        life.change_interest();
        // Half of the stalls are over before anybody has noticed.
        if way == 2 && life.rng.below(2) == 0 {
            std::thread::park_timeout(pause);
            relay.resume();
        } else {
            eventually("the leaf dials again", || {
                life.stay();
                match relay.made() > before {
                    true => Ok(()),
                    false => Err("not yet".into()),
                }
            });
            // What was held back comes late, to whoever is left.
            relay.resume();
        }
        life.change_interest();
        life.is_right(&hub);
    }
    let (major, minor, patch) = real.version;
    println!(
        "{major}.{minor}.{patch}: {count} outages ({} cut, {} half-open, {} stalled), {} links",
        ways[0],
        ways[1],
        ways[2],
        relay.made()
    );
}

#[test]
fn two_hundred_outages() {
    let versions = servers().len().max(1);
    let share = OUTAGES.div_ceil(versions);
    let begin = Instant::now();
    // The versions wait beside each other: the time is mostly that until an outage is noticed.
    std::thread::scope(|scope| {
        for real in servers() {
            scope.spawn(move || suffer(real, share));
        }
    });
    let done = share * servers().len();
    println!("{done} outages in {:.1?}", begin.elapsed());
}

#[test]
fn a_hub_that_restarts_is_rejoined_soon() {
    each(|real| {
        let mut hub = hub(real, "", "");
        let leaf = petiole(&remote(hub.port_of("leaf"), ""), "");
        Joined::new(&leaf, &hub, "", "");
        let mut edge = Client::quiet(leaf.port());
        edge.tell("SUB down 1\r\n");
        let mut times = Vec::new();
        for round in 0..RESTARTS {
            hub.restart();
            let begin = Instant::now();
            let text = format!("after restart {round}");
            let mut core = Client::quiet(hub.port());
            pass("down", &text, &mut core, &mut edge);
            times.push(begin.elapsed());
        }
        times.sort_unstable();
        println!(
            "rejoined within {:.0?} (median of {RESTARTS}), at most {:.0?}",
            times[RESTARTS / 2],
            times[RESTARTS - 1]
        );
    });
}
