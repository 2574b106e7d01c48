//! Accounts that share at random, and other things later, on one thread or several, against what the
//! documents say of it (accounts, exports and imports).
#![allow(clippy::unwrap_used)]

#[allow(dead_code)] // The simulation uses all of it.
#[path = "../../tests/sim/model.rs"]
mod model;
mod world;

use proptest::prelude::*;

use model::{Import, Kind, Model, Place, Want};
use world::World;

const ACCOUNTS: [&str; 4] = ["A", "B", "C", "D"];
/// Of each account, on different threads if there are several.
const CLIENTS: usize = 2;

fn sharing(imports: &[Import]) -> Model {
    Model {
        imports: imports.to_vec(),
        ..Model::default()
    }
}

fn place_of(client: usize) -> Place {
    Place {
        server: 0,
        account: client / CLIENTS,
    }
}

#[derive(Clone, Debug)]
enum Step {
    Subscribe(usize, &'static str),
    Unsubscribe(usize, &'static str),
    Publish(usize, &'static str, &'static str),
    Revise(Vec<Import>),
}

fn imports() -> impl Strategy<Value = Vec<Import>> {
    let kind = prop_oneof![Just(Kind::Stream), Just(Kind::Service)];
    let local = prop::sample::select(vec!["s", "q", "x", "y"]);
    let import = (0..4usize, 0..4usize, kind, local);
    let import = import.prop_map(|(one, other, kind, local)| Import {
        server: 0,
        // Always from an account further on: nothing comes back.
        importer: one.min(other),
        exporter: one.max(other),
        kind,
        local,
    });
    prop::collection::vec(import, 0..8).prop_map(|mut all| {
        all.retain(|import| import.importer != import.exporter);
        // The same twice is refused when it is read.
        let key = |import: &Import| {
            let local = match import.kind {
                Kind::Stream => "",
                Kind::Service => import.local,
            };
            (import.importer, import.exporter, import.kind, local)
        };
        all.sort_by_key(key);
        all.dedup_by_key(|import| key(import));
        all
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let client = 0..ACCOUNTS.len() * CLIENTS;
    let pattern =
        || prop::sample::select(vec!["s.a", "s.*", "q.*", "x.a", "x.*", "y.b", "*.a", ">"]);
    let first = prop::sample::select(vec!["s", "q", "x", "y"]);
    let rest = prop::sample::select(vec!["a", "b"]);
    let step = prop_oneof![
        4 => (client.clone(), pattern()).prop_map(|(c, p)| Step::Subscribe(c, p)),
        1 => (client.clone(), pattern()).prop_map(|(c, p)| Step::Unsubscribe(c, p)),
        5 => (client, first, rest).prop_map(|(c, f, r)| Step::Publish(c, f, r)),
        1 => imports().prop_map(Step::Revise),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_is_shared_arrives(mut imports in imports(), steps in steps(), threads in 1..4usize) {
        let mut world = World::new(threads, &sharing(&imports).accounts(0, &ACCOUNTS));
        for account in ACCOUNTS {
            for _ in 0..CLIENTS {
                world.client(account);
            }
        }
        let mut wanted: Vec<(usize, &str)> = Vec::new();
        for step in &steps {
            match step.clone() {
                Step::Revise(other) => {
                    imports = other;
                    world.revise(&sharing(&imports).accounts(0, &ACCOUNTS));
                }
                Step::Subscribe(client, pattern) => {
                    world.say(client, &format!("SUB {pattern} {pattern}\r\n"));
                    if !wanted.contains(&(client, pattern)) {
                        wanted.push((client, pattern));
                    }
                }
                Step::Unsubscribe(client, pattern) => {
                    world.say(client, &format!("UNSUB {pattern}\r\n"));
                    wanted.retain(|other| *other != (client, pattern));
                }
                Step::Publish(client, first, rest) => {
                    let subject = format!("{first}.{rest}");
                    world.say(client, &format!("PUB {subject} 1\r\nx\r\n"));
                    world.settle();
                    let wants = wanted.iter().zip(0..).map(|((client, subject), number)| Want {
                        number,
                        owner: *client as u32,
                        place: place_of(*client),
                        subject,
                        queue: None,
                    });
                    let wants: Vec<Want<'_>> = wants.collect();
                    let outcome = sharing(&imports).publish(&wants, place_of(client), &subject, None);
                    let copy = |(number, subject): (u64, String)| {
                        let (client, pattern) = wanted[number as usize];
                        (client, subject, pattern.to_owned())
                    };
                    let mut due: Vec<_> = outcome.plain.into_iter().map(copy).collect();
                    due.sort();
                    let mut got = Vec::new();
                    for (client, heard) in world.hear().iter().enumerate() {
                        for line in heard.lines().filter(|line| line.starts_with("MSG ")) {
                            let words: Vec<&str> = line.split(' ').collect();
                            got.push((client, words[1].to_owned(), words[2].to_owned()));
                        }
                    }
                    got.sort();
                    prop_assert_eq!(got, due, "{:?} {:?} {:?}", step, imports, wanted);
                }
            }
            world.settle();
        }
    }
}

/// A subscription ends with its last message, from whichever account that comes: no leaf is told of it any
/// longer (leaf protocol, encoding rules).
#[test]
fn messages_of_other_accounts_end_what_counts_them() {
    let import = Import {
        server: 0,
        importer: 1,
        exporter: 0,
        kind: Kind::Stream,
        local: "x",
    };
    for threads in 1..3 {
        let mut world = World::new(threads, &sharing(&[import]).accounts(0, &ACCOUNTS));
        world.client("A");
        world.client("B");
        world.leaf("B", "below");
        world.say(1, "SUB x.* 1\r\nUNSUB 1 1\r\n");
        world.settle();
        world.hear();
        assert!(world.told[2].contains_key("x.*"));
        world.say(0, "PUB s.a 1\r\nx\r\n");
        world.settle();
        assert_eq!(world.hear()[1], "MSG x.a 1 1\nx\n");
        assert!(world.told[2].is_empty(), "{threads}: {:?}", world.told);
    }
}
