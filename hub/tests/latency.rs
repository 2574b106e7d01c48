//! The latency of services where who asks, who answers and who hears of it are on the same thread or on
//! several.
#![allow(clippy::unwrap_used)]

mod world;

use petiole_hub::Node;
use petiole_net::driver::Engine as _;
use serde_json::Value;

use world::{NOW, World, identity, written};

const CONFIG: &str = r#"
accounts {
  A { users: [{user: A, password: p}], exports: [{service: "s.*", latency: lat}] }
  B {
    users: [{user: B, password: p}]
    exports: [{service: "s.*", latency: lat}]
    imports: [{service: {account: A, subject: "s.*"}}]
  }
  C { users: [{user: C, password: p}], imports: [{service: {account: B, subject: "s.*"}}] }
}
"#;

const A: usize = 0;
const HEARS_A: usize = 1;
const B: usize = 2;
const HEARS_B: usize = 3;
const C: usize = 4;

fn stage(threads: usize) -> World {
    let mut world = World::new(threads, CONFIG);
    Node::serve_system(&mut world.nodes, NOW, "$SYS", &identity("H"));
    for account in ["A", "A", "B", "B", "C"] {
        world.client(account);
    }
    world.say(A, "SUB s.a 1\r\n");
    world.say(HEARS_A, "SUB lat 1\r\n");
    world.say(HEARS_B, "SUB lat 1\r\n");
    world.say(C, "SUB in 1\r\n");
    world.settle();
    world
}

fn heard(world: &mut World, peer: usize) -> String {
    for node in &mut world.nodes {
        // As the driver does with what came behind its back.
        if node.poll_timeout().is_some_and(|at| at <= NOW) {
            node.handle_timeout(NOW);
        }
    }
    world.settle();
    let (thread, link) = world.peers[peer];
    String::from_utf8(written(&mut world.nodes[thread], link)).unwrap()
}

/// The samples that a peer has got: status, who asked, who answered.
fn samples(world: &mut World, peer: usize) -> Vec<(u64, String, String)> {
    let heard = heard(world, peer);
    let bodies = heard.lines().filter(|line| line.starts_with('{'));
    bodies
        .map(|body| {
            let sample: Value = serde_json::from_str(body).unwrap();
            let name = |key: &str| {
                let who = &sample[key];
                let user = who["user"].as_str().unwrap_or_default();
                format!("{}/{user}", who["acc"].as_str().unwrap_or_default())
            };
            (
                sample["status"].as_u64().unwrap(),
                name("requestor"),
                name("responder"),
            )
        })
        .collect()
}

#[test]
fn samples_are_the_same_on_any_number_of_threads() {
    for threads in 1..=5 {
        let mut world = stage(threads);
        world.say(C, "PUB s.a in 0\r\n\r\n");
        let request = heard(&mut world, A);
        let reply = request.split(' ').find(|it| it.starts_with("_R_"));
        let reply = reply.unwrap_or_else(|| panic!("{threads}: {request}"));
        world.say(A, &format!("PUB {reply} 2\r\nok\r\n"));
        let answer = heard(&mut world, C);
        assert_eq!(answer, "MSG in 1 2\r\nok\r\n", "{threads}");
        let answered = vec![(200, "C/".to_owned(), "A/A".to_owned())];
        assert_eq!(samples(&mut world, HEARS_A), answered, "{threads}");
        assert_eq!(samples(&mut world, HEARS_B), answered, "{threads}");

        let unanswered = |status| vec![(status, "C/".to_owned(), "/".to_owned())];
        world.say(C, "PUB s.b in 0\r\n\r\n");
        assert_eq!(samples(&mut world, HEARS_A), unanswered(503), "{threads}");
        assert_eq!(samples(&mut world, HEARS_B), unanswered(503), "{threads}");
        world.say(C, "PUB s.a 0\r\n\r\n");
        assert_eq!(samples(&mut world, HEARS_A), unanswered(400), "{threads}");
        assert_eq!(samples(&mut world, HEARS_B), unanswered(400), "{threads}");
        // Of what `B` passes on it wants the answer as long as it is there.
        world.say(C, "PUB s.a in 0\r\n\r\nUNSUB 1\r\n");
        assert_eq!(samples(&mut world, HEARS_A), [], "{threads}");
        assert_eq!(samples(&mut world, HEARS_B), unanswered(408), "{threads}");
    }
}

/// A request of `B` itself is told of in `A` alone, and one of `A` nowhere.
#[test]
fn who_serves_tells() {
    let mut world = stage(3);
    world.say(B, "PUB s.a 0\r\n\r\n");
    world.say(A, "PUB s.a 0\r\n\r\n");
    let told = vec![(400, "B/".to_owned(), "/".to_owned())];
    assert_eq!(samples(&mut world, HEARS_A), told);
    assert_eq!(samples(&mut world, HEARS_B), []);
}
