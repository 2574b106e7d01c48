//! Who may come as a leaf, which account that is, and what it may do there.

use crate::common::{Joined, sorted, targets};
use crate::support::{Client, Msg, Pki, Server, Target, user_key};

use super::{BUSY, at, config, each_cell, each_of, hub, is_older, leaf, remote};

/// Two accounts with a user each.
const ACCOUNTS: &str = "accounts { A: { users: [ {user: a, password: a} ] }\n\
                        B: { users: [ {user: b, password: b} ] } }";
const A: &str = "\"user\":\"a\",\"pass\":\"a\"";

#[test]
fn a_leaf_is_held_to_the_permissions_of_its_user() {
    each_cell(BUSY, |cell| {
        let users = "accounts { A: { users: [ {user: a, password: a}, {user: u, password: p, permissions: {\n\
             subscribe: { allow: [\"in.>\", \"fence.>\"], deny: [\"in.no\", \"in.not.>\"] }\n\
             publish: { allow: [\"out.>\", \"fence.>\"], deny: \"out.no\" } } } ] } }";
        let hub = hub(&cell.hub, "", users);
        let leaf = leaf(&cell.leaf, "LEAF", &remote(&hub, "u:p@"));
        let mut joined = Joined::new(&leaf, &hub, "", A);
        let mut edge = Client::quiet(leaf.port());
        let mut core = Client::quiet_and(hub.port(), A);
        edge.tell(
            "SUB in.a 1\r\nSUB in.* 2\r\nSUB in.no 3\r\nSUB zz 4\r\nSUB zz.> 5\r\nSUB in.> 6\r\n\
             SUB in.not.a 7\r\nSUB in.q G 8\r\n",
        );
        core.tell("SUB out.> 1\r\nSUB zz 2\r\nSUB zz.* 3\r\nSUB in.a 4\r\nSUB out.no 5\r\n");
        joined.settle();
        for subject in ["out.no", "zz", "out.a", "zz.a", "out.no.a", "in.a"] {
            edge.send(format!("PUB {subject} 1\r\nx\r\n"));
        }
        // Its own clients are not those of the hub's user.
        assert_eq!(edge.messages().len(), 5);
        joined.settle();
        assert_eq!(sorted(subjects(&core.messages())), ["out.a", "out.no.a"]);
        core.tell("UNSUB 1\r\nUNSUB 2\r\nUNSUB 3\r\nUNSUB 4\r\nUNSUB 5\r\n");
        for subject in [
            "in.a", "in.no", "zz", "zz.a", "in.not.a", "in.b.c", "in.q", "out.a",
        ] {
            core.tell(format!("PUB {subject} 1\r\nx\r\n"));
        }
        joined.settle();
        let heard = sorted(subjects(&edge.messages()));
        assert_eq!(
            heard,
            ["in.a", "in.a", "in.a", "in.b.c", "in.q", "in.q", "in.q"]
        );
        for log in [hub.log(), leaf.log()] {
            assert!(!log.contains("Permissions Violation"), "{log}");
        }
    });
}

/// Wildcards that cover what the leaf may publish are told to it, too: the hub's clients hear what is
/// allowed of them.
#[test]
fn wildcards_reach_beyond_the_permissions_of_a_leaf() {
    each_cell(BUSY, |cell| {
        let users = "accounts { A: { users: [ {user: a, password: a}, {user: u, password: p, permissions: {\n\
             publish: { allow: [\"out.>\", \"fence.>\"], deny: \"out.no\" } } } ] } }";
        let hub = hub(&cell.hub, "", users);
        let leaf = leaf(&cell.leaf, "LEAF", &remote(&hub, "u:p@"));
        let mut joined = Joined::new(&leaf, &hub, "", A);
        let (mut edge, mut core) = (Client::quiet(leaf.port()), Client::quiet_and(hub.port(), A));
        core.tell("SUB > 1\r\n");
        joined.settle();
        core.messages();
        edge.tell("PUB out.no 1\r\nx\r\nPUB zz 1\r\nx\r\nPUB out.a 1\r\nx\r\n");
        joined.settle();
        assert_eq!(subjects(&core.messages()), ["out.a"]);
    });
}

/// Of the messages that are not the tests' own.
fn subjects(messages: &[Msg]) -> Vec<String> {
    let subjects = messages.iter().map(Msg::subject);
    subjects
        .filter(|subject| !subject.starts_with("fence."))
        .collect()
}

/// What a leaf proves itself with.
#[derive(Clone, Debug, Default)]
struct Proof {
    /// `user:password@`
    login: String,
    /// Further options of its remote.
    options: String,
}

impl Proof {
    fn login(login: &str) -> Proof {
        Proof {
            login: login.into(),
            options: String::new(),
        }
    }

    fn options(options: String) -> Proof {
        Proof {
            login: String::new(),
            options,
        }
    }
}

/// A way to say who may come.
#[derive(Debug)]
struct Rule {
    name: &'static str,
    leafnodes: String,
    more: String,
    /// What a client of the account says that the leaf is bound to.
    client: &'static str,
    right: Vec<Proof>,
    wrong: Vec<Proof>,
    /// The minor versions from which on hubs and leafs know it.
    since: (u32, u32),
}

impl Rule {
    fn new(name: &'static str, leafnodes: &str, more: &str, client: &'static str) -> Rule {
        Rule {
            name,
            leafnodes: leafnodes.into(),
            more: more.into(),
            client,
            right: Vec::new(),
            wrong: Vec::new(),
            since: (0, 0),
        }
    }

    fn takes(mut self, proofs: impl IntoIterator<Item = Proof>) -> Rule {
        self.right.extend(proofs);
        self
    }

    fn refuses(mut self, proofs: impl IntoIterator<Item = Proof>) -> Rule {
        self.wrong.extend(proofs);
        self
    }

    fn since(self, hub: u32, leaf: u32) -> Rule {
        Rule {
            since: (hub, leaf),
            ..self
        }
    }
}

fn rules(pki: &Pki) -> Vec<Rule> {
    let logins = |all: &[&str]| {
        all.iter()
            .map(|login| Proof::login(login))
            .collect::<Vec<_>>()
    };
    let key = user_key("leaf");
    let nkey = |name: &str| {
        let seed = user_key(name).seed().expect("a seed");
        Proof::options(format!("nkey: {seed}"))
    };
    let nkeys = format!(
        "accounts {{ A: {{ users: [ {{user: a, password: a}}, {{nkey: {}}} ] }} }}",
        key.public_key()
    );
    let lone_nkey = format!("authorization {{ nkey: {}, account: A }}", key.public_key());
    let shown = |name: &str, login: &str| Proof {
        login: login.into(),
        options: format!("tls {{ {}, {} }}", pki.ca(), pki.server(name).options()),
    };
    let mapped = format!(
        "tls {{ {}, {}, verify_and_map: true }}",
        pki.server("hub").options(),
        pki.ca()
    );
    let mapped_user =
        "accounts { A: { users: [ {user: a, password: a}, {user: \"CN=mapped\"} ] } }";
    let mapped_leaf =
        format!("{mapped}, authorization {{ users: [ {{user: \"CN=mapped\", account: A}} ] }}");
    vec![
        Rule::new("nobody needs to be anybody", "", "", "").takes(logins(&["", "x:y@"])),
        Rule::new(
            "users of the server",
            "",
            "authorization { users: [ {user: u, password: p}, {user: v, password: q} ] }",
            "\"user\":\"v\",\"pass\":\"q\"",
        )
        .takes(logins(&["u:p@"]))
        .refuses(logins(&["u:q@", "w:p@", "u@"])),
        Rule::new("users of accounts", "", ACCOUNTS, A)
            .takes(logins(&["a:a@"]))
            .refuses(logins(&["a:b@"])),
        Rule::new(
            "no_auth_user is for those who say nothing",
            "",
            &format!("{ACCOUNTS}\nno_auth_user: a"),
            A,
        )
        .takes(logins(&["", "a:a@"]))
        .refuses(logins(&["a:b@", "w:p@"])),
        Rule::new(
            "one user of the port",
            "authorization { user: u, password: p, account: A }",
            ACCOUNTS,
            A,
        )
        .takes(logins(&["u:p@"]))
        .refuses(logins(&["", "u:q@", "a:a@"])),
        Rule::new("one user of the port, in no account", "authorization { user: u, password: p }", "", "")
            .takes(logins(&["u:p@"]))
            .refuses(logins(&["", "u:q@"])),
        Rule::new(
            "users of the port",
            "authorization { users: [ {user: u, password: p, account: A}, {user: v, password: q, account: B} ] }",
            ACCOUNTS,
            A,
        )
        .takes(logins(&["u:p@"]))
        .refuses(logins(&["", "u:q@", "v:p@", "a:a@"])),
        Rule::new("a key of the server", "", &nkeys, A)
            .takes([nkey("leaf")])
            .refuses([nkey("other")])
            .since(0, 10),
        Rule::new("the key of the port", &lone_nkey, ACCOUNTS, A)
            .takes([nkey("leaf")])
            .refuses([nkey("other"), Proof::default(), Proof::login("a:a@")])
            .since(10, 10),
        Rule::new("a certificate of a user of the server", &mapped, mapped_user, A)
            .takes([shown("mapped", "")])
            .refuses([shown("stranger", ""), shown("stranger", "a:a@")]),
        Rule::new("a certificate of a user of the port", &mapped_leaf, ACCOUNTS, A)
            .takes([shown("mapped", "")])
            .refuses([shown("stranger", "")]),
    ]
}

#[test]
fn a_leaf_is_bound_to_its_account_or_turned_away() {
    let pki = Pki::new("CA");
    let rules = rules(&pki);
    let all: Vec<(&Rule, Target)> = rules
        .iter()
        .flat_map(|rule| targets().map(move |target| (rule, target)))
        .filter(|(rule, hub)| !is_older(hub, rule.since.0))
        .collect();
    let name = |(rule, hub): &(&Rule, Target)| format!("{}: hub {}", rule.name, hub.name());
    each_of(BUSY, &all, name, |(rule, hub_target)| {
        let hub = hub(hub_target, &rule.leafnodes, &rule.more);
        let port = hub.port_of("leaf");
        for target in targets().filter(|leaf| !is_older(leaf, rule.since.1)) {
            for Proof { login, options } in &rule.right {
                eprintln!(
                    "-- {}: {} with {login:?} {options}",
                    hub_target.name(),
                    target.name()
                );
                let leaf = leaf(&target, "LEAF", &at(port, login, options));
                Joined::new(&leaf, &hub, "", rule.client).settle();
            }
            for Proof { login, options } in &rule.wrong {
                eprintln!(
                    "-- {}: {} with {login:?} {options}",
                    hub_target.name(),
                    target.name()
                );
                let mark = hub.log_mark();
                let leaf = leaf(&target, "LEAF", &at(port, login, options));
                leaf.wait_for_log("Authorization Violation");
                hub.wait_for_log_after(mark, "authentication error");
                assert!(!leaf.log().contains("is up"), "it was let in");
            }
        }
    });
}

/// Who says nothing is nobody, where everybody is somebody. Before 2.15 hubs take such a leaf into
/// `$G`, which it has no business in.
#[test]
fn who_says_nothing_is_turned_away() {
    let hubs: Vec<Target> = targets().filter(|hub| !is_older(hub, 15)).collect();
    each_of(BUSY, &hubs, Target::name, |target| {
        for leafnodes in ["", "authorization { account: A }"] {
            let hub = hub(target, leafnodes, ACCOUNTS);
            for target in targets() {
                let leaf = leaf(&target, "LEAF", &remote(&hub, ""));
                leaf.wait_for_log("Authorization Violation");
                assert!(!leaf.log().contains("is up"), "it was let in");
            }
        }
    });
}

/// `account` alone says where everybody goes; before 2.15 it says nothing.
#[test]
fn an_account_for_whoever_comes() {
    each_cell(BUSY, |cell| {
        if is_older(&cell.hub, 15) {
            return;
        }
        let hub = hub(
            &cell.hub,
            "authorization { account: A }",
            "accounts { A: {} }",
        );
        let [one, two] = ["ONE", "TWO"].map(|name| leaf(&cell.leaf, name, &remote(&hub, "x:y@")));
        let mut global = Client::quiet(hub.port());
        global.tell("SUB > 1\r\n");
        Joined::new(&one, &two, "", "").settle();
        assert_eq!(global.messages(), [], "another account");
    });
}

#[test]
fn an_account_that_does_not_exist_refuses_the_start() {
    let listener =
        |leafnodes: &str| format!("host: \"127.0.0.1\", port: {{port:leaf}}, {leafnodes}");
    let all: Vec<Target> = targets().collect();
    each_of(BUSY, &all, Target::name, |target| {
        for leafnodes in [
            listener("authorization { account: NONE }"),
            listener("authorization { user: u, password: p, account: NONE }"),
            listener("authorization { users: [ {user: u, password: p, account: NONE} ] }"),
            "remotes: [ { url: \"nats://127.0.0.1:1\", account: NONE } ]".to_owned(),
        ] {
            let said = Server::refusal(target, &config(target, "HUB", &leafnodes, ACCOUNTS));
            assert!(
                said.contains("cannot find local account \"NONE\""),
                "{leafnodes}: {said}"
            );
        }
    });
}
