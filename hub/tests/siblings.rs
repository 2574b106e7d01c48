//! A server of several threads behaves as one of a single thread: the same deliveries, and leafs are
//! told the same interest.
#![allow(clippy::unwrap_used)]

mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use petiole_net::driver::Engine as _;
use proptest::prelude::*;

use world::{NOW, World};

/// Two accounts. B has a stream of A under another name, and a service of A.
const ACCOUNTS: &str = r#"
accounts {
  A { users: [{user: A, password: p}], exports: [{stream: "a.*"}, {service: b}] }
  B {
    users: [{user: B, password: p}]
    imports: [{stream: {account: A, subject: "a.*"}, to: "c.*"}, {service: {account: A, subject: b}}]
  }
}"#;

#[derive(Clone, Debug)]
enum Step {
    Want(usize, &'static str, bool),
    Drop(usize, &'static str, bool),
    Publish(usize, &'static str),
    Leave(usize),
}

/// Clients 0 to 5, leafs outside of groups 6 to 8, leafs in groups 9 and 10.
const CLIENTS: usize = 6;
const LEAFS: usize = 11;

fn populate(world: &mut World) {
    for account in ["A", "A", "A", "A", "B", "B"] {
        world.client(account);
    }
    for (account, cluster) in [("A", "x"), ("A", "x"), ("B", "x"), ("A", "y"), ("A", "z")] {
        world.leaf(account, cluster);
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let subject =
        || prop::sample::select(vec!["a", "b", "*", "a.b", "a.*", "*.b", ">", "c.b", "c.*"]);
    let step = prop_oneof![
        9 => (0..LEAFS, subject(), any::<bool>()).prop_map(|(p, s, q)| Step::Want(p, s, q)),
        4 => (0..LEAFS, subject(), any::<bool>()).prop_map(|(p, s, q)| Step::Drop(p, s, q)),
        9 => (0..LEAFS, prop::sample::select(vec!["a", "b", "a.b", "a.c"]))
            .prop_map(|(p, s)| Step::Publish(p, s)),
        1 => (0..LEAFS).prop_map(Step::Leave),
    ];
    prop::collection::vec(step, 1..80)
}

/// What a step has a peer say.
fn words(step: &Step, number: usize) -> (usize, String) {
    let in_group = |peer: usize, wish: bool| match peer {
        0..CLIENTS => wish,
        CLIENTS..9 => false,
        _ => true,
    };
    match step {
        Step::Want(peer, subject, wish) if in_group(*peer, *wish) && *peer < CLIENTS => {
            (*peer, format!("SUB {subject} g q.{subject}\r\n"))
        }
        Step::Want(peer, subject, wish) if in_group(*peer, *wish) => {
            (*peer, format!("LS+ {subject} g 2\r\n"))
        }
        Step::Want(peer, subject, _) if *peer < CLIENTS => {
            (*peer, format!("SUB {subject} p.{subject}\r\n"))
        }
        Step::Want(peer, subject, _) => (*peer, format!("LS+ {subject}\r\n")),
        Step::Drop(peer, subject, wish) if *peer < CLIENTS => {
            let kind = if *wish { "q" } else { "p" };
            (*peer, format!("UNSUB {kind}.{subject}\r\n"))
        }
        Step::Drop(peer, subject, wish) if in_group(*peer, *wish) => {
            (*peer, format!("LS- {subject} g\r\n"))
        }
        Step::Drop(peer, subject, _) => (*peer, format!("LS- {subject}\r\n")),
        Step::Publish(peer, subject) if *peer < CLIENTS => {
            (*peer, format!("PUB {subject} 6\r\n{number:06}\r\n"))
        }
        Step::Publish(peer, subject) => {
            (*peer, format!("LMSG {subject} + r g 6\r\n{number:06}\r\n"))
        }
        Step::Leave(peer) => (*peer, String::new()),
    }
}

/// Deliveries as far as they do not depend on chance: who in a group gets a message does, whether
/// that is a client or a leaf does not.
fn certain(heard: &[String]) -> Vec<String> {
    let mut plain = Vec::new();
    let mut groups = Vec::new();
    for (peer, text) in heard.iter().enumerate() {
        let mut parts = text.split('\n');
        while let (Some(line), Some(body)) = (parts.next(), parts.next()) {
            if peer < CLIENTS && line.contains(" q.") {
                groups.push(format!("client {body}"));
            } else if peer >= 9 {
                groups.push(format!("leaf {body}"));
            } else {
                plain.push(format!("{peer} {line} {body}"));
            }
        }
    }
    plain.extend(groups);
    // In which order two copies of a message, or messages of two publishers, come is chance.
    plain.sort();
    plain
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn threads_make_no_difference(steps in steps()) {
        let mut one = World::new(1, ACCOUNTS);
        let mut three = World::new(3, ACCOUNTS);
        populate(&mut one);
        populate(&mut three);
        let mut gone = Vec::new();
        for (number, step) in steps.iter().enumerate() {
            let (peer, text) = words(step, number);
            let is_here = !gone.contains(&peer);
            for world in [&mut one, &mut three].into_iter().filter(|_| is_here) {
                if text.is_empty() {
                    let (thread, link) = world.peers[peer];
                    let node = &mut world.nodes[thread];
                    node.handle_closed(NOW, link, "gone");
                    while node.poll_wake().is_some() {}
                } else {
                    world.say(peer, &text);
                }
            }
            if text.is_empty() {
                gone.push(peer);
            }
            // Now and then several changes reach the other threads at once.
            let next = steps.get(number + 1);
            if number % 3 != 0 && matches!(next, Some(Step::Want(..) | Step::Drop(..))) {
                continue;
            }
            one.settle();
            three.settle();
            let (left, right) = (one.hear(), three.hear());
            prop_assert_eq!(certain(&left), certain(&right), "{:?}", step);
            prop_assert_eq!(&one.told, &three.told, "{:?}", step);
        }
    }
}

/// A producer that outruns a consumer of another thread waits for it, nobody else does.
#[test]
fn a_slow_consumer_holds_its_producer_across_threads() {
    let mut world = World::new(2, ACCOUNTS);
    for _ in 0..4 {
        world.client("A");
    }
    let reads = |world: &World, peer: usize| {
        let (thread, link) = world.peers[peer];
        world.nodes[thread].wants(link).read
    };
    world.say(1, "SUB fast 1\r\n");
    let body = "x".repeat(60_000);
    let publish = format!("PUB fast {}\r\n{body}\r\n", body.len());
    let mut sent = 0;
    while reads(&world, 0) {
        world.say(0, &publish);
        world.settle();
        sent += 1;
        assert!(sent < 100, "the producer is not held");
    }
    assert!(reads(&world, 2), "another client of its thread is held");
    world.say(2, "PING\r\n");
    let heard = world.hear();
    assert_eq!(heard[2], "PONG\n");
    let taken = heard[1].lines().filter(|line| line.starts_with("MSG"));
    assert_eq!(taken.count(), sent);
    assert!(reads(&world, 0), "the producer is still held");
    // A thread that takes nothing in holds producers as well.
    for _ in 0..40 {
        if reads(&world, 0) {
            world.say(0, &publish);
        }
    }
    assert!(
        !reads(&world, 0),
        "what another thread has not taken in grows"
    );
    world.settle();
    world.hear();
    world.settle();
    assert!(reads(&world, 0));
}

/// Whether a thread was woken.
#[derive(Default)]
struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A thread on which nothing else happens hears that its producer may go on, however little may wait.
#[test]
fn a_held_producer_wakes_its_thread() {
    for max_pending in ["64K", "1M", "64M"] {
        let limits = format!("max_payload: 16K, max_pending: {max_pending}\n");
        let mut world = World::new(2, &(limits + ACCOUNTS));
        world.client("A");
        world.client("A");
        world.say(1, "SUB fast 1\r\n");
        world.settle();
        let publish = format!("PUB fast 8000\r\n{}\r\n", "x".repeat(8000));
        let (_, producer) = world.peers[0];
        while world.nodes[0].wants(producer).read {
            world.say(0, &publish);
        }
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(bell.clone());
        let listen = world.nodes[0].poll_arrival(&Context::from_waker(&waker));
        assert!(listen.is_pending());
        world.nodes[1].take_in(NOW);
        assert!(bell.0.load(Ordering::Relaxed), "max_pending {max_pending}");
    }
}

/// All members of a group are equal, wherever they are.
#[test]
fn groups_are_spread_evenly_over_threads() {
    let mut world = World::new(3, ACCOUNTS);
    for _ in 0..6 {
        world.client("A");
    }
    // Three members in the first thread, one each in the others.
    for (peer, sid) in [(0, 1), (0, 2), (3, 1), (1, 1), (2, 1)] {
        world.say(peer, &format!("SUB jobs workers {sid}\r\n"));
    }
    let mut counts = [0u32; 6];
    for _ in 0..5000 {
        world.say(4, "PUB jobs 0\r\n\r\n");
        world.settle();
        for (peer, heard) in world.hear().iter().enumerate() {
            counts[peer] += heard.matches("MSG").count() as u32;
        }
    }
    assert_eq!(counts.iter().sum::<u32>(), 5000);
    for (peer, share) in [(0, 2000), (3, 1000), (1, 1000), (2, 1000)] {
        let off = counts[peer].abs_diff(share);
        assert!(off < 150, "{counts:?}");
    }
}

/// Another thread knows which of its leafs may not hear a part of what they want.
#[test]
fn a_group_does_not_choose_a_leaf_in_vain() {
    let restricted = r#"accounts { A { users: [
        {user: A, password: p}
        {user: B, password: p, permissions: {publish: ">", subscribe: {deny: a.x}}}
    ] } }"#;
    let mut world = World::new(3, restricted);
    world.client("A");
    world.leaf("B", "x");
    world.leaf("A", "y");
    world.say(1, "LS+ a.* g 5\r\n");
    world.say(2, "LS+ a.* g 1\r\n");
    world.settle();
    let mut counts = [0; 3];
    for _ in 0..100 {
        world.say(0, "PUB a.x 0\r\n\r\nPUB a.y 0\r\n\r\n");
        world.settle();
        for (peer, heard) in world.hear().iter().enumerate() {
            counts[peer] += heard.matches("LMSG a.x").count();
        }
    }
    assert_eq!(counts, [0, 0, 100]);
}
