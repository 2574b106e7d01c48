//! Accounts that share at random, on one thread or several, against what the documents say of it (accounts,
//! exports and imports).
#![allow(clippy::unwrap_used)]

mod world;

use std::fmt::Write as _;

use proptest::prelude::*;

use world::World;

const ACCOUNTS: [&str; 4] = ["A", "B", "C", "D"];
/// Of each account, on different threads if there are several.
const CLIENTS: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Stream,
    Service,
}

/// An import: everybody exports streams on `s.*` and services on `q.*`, and the local pattern has another
/// first token.
#[derive(Clone, Debug)]
struct Import {
    importer: usize,
    exporter: usize,
    kind: Kind,
    local: &'static str,
}

impl Import {
    fn exported(&self) -> &'static str {
        match self.kind {
            Kind::Stream => "s",
            Kind::Service => "q",
        }
    }
}

fn config(imports: &[Import]) -> String {
    let mut text = String::from("accounts {\n");
    for (number, name) in ACCOUNTS.iter().enumerate() {
        let mut list = String::new();
        for import in imports.iter().filter(|import| import.importer == number) {
            let (exporter, from) = (ACCOUNTS[import.exporter], import.exported());
            let kind = if import.kind == Kind::Stream {
                "stream"
            } else {
                "service"
            };
            let local = import.local;
            writeln!(
                list,
                "{{{kind}: {{account: {exporter}, subject: \"{from}.*\"}}, to: \"{local}.*\"}}"
            )
            .unwrap();
        }
        writeln!(
            text,
            "{name} {{ users: [{{user: {name}, password: p}}], exports: [{{stream: \"s.*\"}}, {{service: \
             \"q.*\"}}], imports: [\n{list}] }}"
        )
        .unwrap();
    }
    text + "}"
}

/// Who gets a message, and under which subject: what a publish in an account comes to, one entry for each
/// copy. `hops` stops what is a cycle.
fn deliveries(
    imports: &[Import],
    wanted: &[(usize, &'static str)],
    account: usize,
    subject: &str,
    out: &mut Vec<(usize, String, String)>,
) {
    let matches = |pattern: &str, subject: &str| {
        petiole_core::subject::matches(pattern.as_bytes(), subject.as_bytes())
    };
    let of = |account: usize| {
        wanted
            .iter()
            .filter(move |(client, _)| client / CLIENTS == account)
    };
    for (client, pattern) in of(account) {
        if matches(pattern, subject) {
            out.push((*client, subject.into(), (*pattern).into()));
        }
    }
    let (first, rest) = subject.split_once('.').unwrap();
    for import in imports {
        // A stream: whoever wants its local name here, once for each import.
        if import.kind == Kind::Stream && import.exporter == account && first == import.exported() {
            let local = format!("{}.{rest}", import.local);
            for (client, pattern) in of(import.importer) {
                if matches(pattern, &local) {
                    out.push((*client, local.clone(), (*pattern).into()));
                }
            }
        }
        // A request: it is published there.
        if import.kind == Kind::Service && import.importer == account && first == import.local {
            let there = format!("{}.{rest}", import.exported());
            deliveries(imports, wanted, import.exporter, &there, out);
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Subscribe(usize, &'static str),
    Unsubscribe(usize, &'static str),
    Publish(usize, &'static str, &'static str),
}

fn imports() -> impl Strategy<Value = Vec<Import>> {
    let kind = prop_oneof![Just(Kind::Stream), Just(Kind::Service)];
    let local = prop::sample::select(vec!["s", "q", "x", "y"]);
    let import = (0..4usize, 0..4usize, kind, local);
    let import = import.prop_map(|(one, other, kind, local)| Import {
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
            (import.importer, import.exporter, import.kind as u8, local)
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
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_is_shared_arrives(imports in imports(), steps in steps(), threads in 1..4usize) {
        let mut world = World::new(threads, &config(&imports));
        for account in ACCOUNTS {
            for _ in 0..CLIENTS {
                world.client(account);
            }
        }
        let mut wanted: Vec<(usize, &str)> = Vec::new();
        for step in &steps {
            match *step {
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
                    let mut due = Vec::new();
                    deliveries(&imports, &wanted, client / CLIENTS, &subject, &mut due);
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
        importer: 1,
        exporter: 0,
        kind: Kind::Stream,
        local: "x",
    };
    for threads in 1..3 {
        let mut world = World::new(threads, &config(std::slice::from_ref(&import)));
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
