//! What live connections see of a change of their account, and what is said of them (live updates, effect
//! on live connections): the same at petiole and at the newest real server.

use nkeys::KeyPair;
use serde_json::{Value, json};

use super::{Hub, json as body, pair, user};
use crate::common::eventually;
use crate::support::{Client, Credentials, Draft, Op, POLL, Target, account_key, now};

/// What a client was told, and why it was closed if it was.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    told: Vec<String>,
    reason: Option<String>,
}

/// A server, who hears of ends in it, and an account of its own.
struct Row<'a> {
    hub: &'a mut Hub,
    ends: &'a mut Client,
    name: &'a str,
    key: KeyPair,
}

impl Row<'_> {
    fn draft(&self) -> Draft {
        Draft::account(&self.key, self.name)
    }

    fn push(&mut self, draft: &Draft) {
        self.hub.push_account(draft);
    }

    fn with(&mut self, fields: Value) {
        let draft = self.draft().with(fields);
        self.push(&draft);
    }

    fn user(&self) -> Credentials {
        user(self.name, self.name)
    }

    fn login(&self, who: &Credentials) -> Client {
        who.login(self.hub.port())
    }

    /// What a client is told before it is closed, and why that is said to be.
    fn closed(&mut self, client: &mut Client) -> Outcome {
        let mut told = Vec::new();
        loop {
            match client.op() {
                Some(Op::Err(text)) => told.push(text),
                Some(Op::Pong) => {}
                Some(other) => panic!("{other:?}"),
                None => break,
            }
        }
        let subject = format!("$SYS.ACCOUNT.{}.DISCONNECT", self.key.public_key());
        let reason = loop {
            let end = self.ends.expect_msg();
            if end.subject() == subject {
                break body(&end)["reason"].as_str().map(str::to_owned);
            }
        };
        Outcome { told, reason }
    }

    /// What a client is told that stays.
    fn stays(&mut self, client: &mut Client) -> Outcome {
        let told = client.sync().into_iter().map(|op| match op {
            Op::Err(text) => text,
            other => panic!("{other:?}"),
        });
        let told = told.collect();
        Outcome { told, reason: None }
    }

    /// Nobody of the account is let in: at nats-server up to the end of the second in which that begins.
    fn refuses(&self, who: &Credentials) {
        eventually("refused", || {
            let mut client = who.knock(self.hub.port());
            match client.op() {
                Some(Op::Err(text)) if text == "Authorization Violation" => {
                    client.expect_close();
                    Ok(())
                }
                other => Err(format!("{other:?}")),
            }
        });
    }
}

type Run = fn(&mut Row<'_>) -> Outcome;

/// The changes, what clients see of them, and the reason.
const ROWS: [(&str, Run, &[&str], Option<&str>); 17] = [
    (
        "user revoked",
        |row| {
            let who = row.user();
            row.with(json!({}));
            let mut client = row.login(&who);
            row.with(json!({"revocations": {who.key.public_key(): now()}}));
            let outcome = row.closed(&mut client);
            row.refuses(&who);
            outcome
        },
        &["User Authentication Revoked"],
        Some("Credentials Revoked"),
    ),
    (
        "all users revoked",
        |row| {
            row.with(json!({}));
            let mut client = row.login(&row.user());
            row.with(json!({"revocations": {"*": now()}}));
            row.closed(&mut client)
        },
        &["User Authentication Revoked"],
        Some("Credentials Revoked"),
    ),
    (
        "older users revoked",
        |row| {
            let who = row.user();
            row.with(json!({}));
            let mut client = row.login(&who);
            row.with(json!({"revocations": {who.key.public_key(): now() - 3600}}));
            row.login(&who);
            row.stays(&mut client)
        },
        &[],
        None,
    ),
    (
        "bearer tokens forbidden",
        |row| {
            let who = Credentials::changed(row.name, &row.key, &row.key, |draft| {
                draft.with(json!({"bearer_token": true}))
            });
            row.with(json!({}));
            let mut client = row.login(&who);
            row.with(json!({"limits": {"disallow_bearer": true}}));
            row.closed(&mut client)
        },
        &["Authorization Violation"],
        Some("Authentication Failure"),
    ),
    (
        "signing key removed",
        |row| {
            let signing = account_key(&format!("{} signing", row.name));
            row.with(json!({"signing_keys": [signing.public_key()]}));
            let who = Credentials::new(row.name, &row.key, &signing);
            let mut client = row.login(&who);
            row.with(json!({}));
            let outcome = row.closed(&mut client);
            row.refuses(&who);
            outcome
        },
        &[],
        Some("Authentication Failure"),
    ),
    (
        "scope changed",
        |row| {
            let signing = account_key(&format!("{} signing", row.name));
            let scope = |subject: &str| {
                json!({"signing_keys": [{
                    "kind": "user_scope", "key": signing.public_key(), "role": "r",
                    "template": {"pub": {"allow": [subject]}},
                }]})
            };
            row.with(scope("a"));
            let key = row.user().key;
            let jwt = Draft::scoped(&key, &row.key, row.name).sign(&signing);
            let mut client = row.login(&Credentials { key, jwt });
            assert!(client.ask("PUB a 0\r\n\r\n").is_empty());
            assert_eq!(client.ask("PUB b 0\r\n\r\n").len(), 1);
            row.with(scope("b"));
            row.closed(&mut client)
        },
        &[],
        Some("Authentication Failure"),
    ),
    (
        "fewer connections",
        |row| {
            row.with(json!({}));
            let mut first = row.login(&row.user());
            let mut second = row.login(&row.user());
            row.with(json!({"limits": {"conn": 1}}));
            // petiole closes the newest of one of its threads.
            let is_petiole = *row.hub.server.target() == Target::Petiole;
            eventually("one is closed", || {
                if is_petiole && first.wire.readable(POLL) {
                    std::mem::swap(&mut first, &mut second);
                }
                let is_it = second.wire.readable(POLL);
                is_it.then_some(()).ok_or("none is".into())
            });
            let outcome = row.closed(&mut second);
            first.tell("");
            let mut third = row.user().knock(row.hub.port());
            third.expect_err_close("maximum account active connections exceeded");
            outcome
        },
        &["maximum account active connections exceeded"],
        Some("Maximum Account Connections Exceeded"),
    ),
    (
        "no connections",
        |row| {
            row.with(json!({}));
            let mut client = row.login(&row.user());
            row.with(json!({"limits": {"conn": 0}}));
            row.closed(&mut client)
        },
        &["maximum account active connections exceeded"],
        Some("Maximum Account Connections Exceeded"),
    ),
    (
        "fewer subscriptions",
        |row| {
            row.with(json!({}));
            let mut client = row.login(&row.user());
            client.tell("SUB a 1\r\nSUB b 2\r\n");
            row.with(json!({"limits": {"subs": 1}}));
            row.closed(&mut client)
        },
        &["maximum subscriptions exceeded"],
        Some("Maximum Subscriptions Exceeded"),
    ),
    (
        "default permissions narrower",
        |row| {
            row.with(json!({}));
            let mut client = row.login(&row.user());
            client.tell("SUB a 1\r\nSUB b 2\r\n");
            row.with(json!({"default_permissions": {"sub": {"allow": ["a"]}}}));
            let told = match client.op() {
                Some(Op::Err(text)) => vec![text],
                other => panic!("{other:?}"),
            };
            assert_eq!(row.stays(&mut client).told, Vec::<String>::new());
            Outcome { told, reason: None }
        },
        &["Permissions Violation for Subscription to \"b\" (sid \"2\")"],
        None,
    ),
    (
        "account expires",
        |row| {
            row.with(json!({}));
            let who = row.user();
            let mut client = row.login(&who);
            let draft = row.draft().until(now() + 2);
            row.push(&draft);
            let outcome = row.closed(&mut client);
            row.refuses(&who);
            outcome
        },
        &["Account Authentication Expired"],
        Some("Authentication Expired"),
    ),
    (
        "user expires",
        |row| {
            row.with(json!({}));
            let who =
                Credentials::changed(row.name, &row.key, &row.key, |draft| draft.until(now() + 2));
            let mut client = row.login(&who);
            let outcome = row.closed(&mut client);
            row.refuses(&who);
            outcome
        },
        &["User Authentication Expired"],
        Some("Authentication Expired"),
    ),
    (
        "account deleted",
        |row| {
            row.with(json!({}));
            let mut client = row.login(&row.user());
            let signing = &row.hub.operator.signing;
            let ids = [row.key.public_key()];
            let request = Draft::deletion(signing, &ids).sign(signing);
            let answer = row.hub.ask("DELETE", &request);
            assert_eq!(answer["data"]["message"], "deleted 1 accounts", "{answer}");
            row.closed(&mut client)
        },
        &["Account Authentication Expired"],
        Some("Authentication Expired"),
    ),
    (
        "export removed",
        |row| {
            let other = account_key(&format!("{} other", row.name));
            row.with(json!({"exports": [{"name": "e", "subject": "e.>", "type": "stream"}]}));
            let import = json!({"imports": [{
                "name": "e", "subject": "e.>", "type": "stream", "account": row.key.public_key(),
            }]});
            row.push(&Draft::account(&other, "other").with(import));
            let mut importer = row.login(&Credentials::new("importer", &other, &other));
            let mut exporter = row.login(&row.user());
            importer.tell("SUB e.> 1\r\n");
            eventually("the import delivers", || {
                exporter.tell("PUB e.x 1\r\nx\r\n");
                importer.messages().pop().map(drop).ok_or("nothing".into())
            });
            row.with(json!({}));
            eventually("the import is over", || {
                importer.sync();
                exporter.tell("PUB e.x 1\r\ny\r\n");
                match importer.messages().pop() {
                    None => Ok(()),
                    Some(_) => Err("it still delivers".into()),
                }
            });
            row.stays(&mut importer)
        },
        &[],
        None,
    ),
    (
        "import removed",
        |row| {
            let other = account_key(&format!("{} other", row.name));
            let export = json!({"exports": [{"name": "e", "subject": "e", "type": "service"}]});
            row.push(&Draft::account(&other, "other").with(export));
            row.with(json!({"imports": [{
                "name": "e", "subject": "e", "type": "service", "account": other.public_key(),
            }]}));
            let mut service = row.login(&Credentials::new("service", &other, &other));
            let mut asker = row.login(&row.user());
            service.tell("SUB e 1\r\n");
            asker.tell("SUB r 1\r\n");
            eventually("the import delivers", || {
                asker.send("PUB e r 1\r\nx\r\n");
                // Or that nobody is there.
                asker.sync();
                service.messages().pop().map(drop).ok_or("nothing".into())
            });
            row.with(json!({}));
            eventually("the import is over", || {
                service.sync();
                asker.send("PUB e r 1\r\ny\r\n");
                asker.sync();
                match service.messages().pop() {
                    None => Ok(()),
                    Some(_) => Err("it still delivers".into()),
                }
            });
            row.stays(&mut asker)
        },
        &[],
        None,
    ),
    (
        "same JWT again",
        |row| {
            let jwt = row.hub.operator.sign(&row.draft());
            row.hub.push(&jwt);
            let mut client = row.login(&row.user());
            row.hub.push(&jwt);
            row.stays(&mut client)
        },
        &[],
        None,
    ),
    (
        "trusted no longer",
        |row| {
            // Neither takes it into use: those who are there stay.
            row.with(json!({}));
            let mut client = row.login(&row.user());
            let jwt = row
                .draft()
                .with(json!({"limits": {"conn": 0}}))
                .sign(&row.key);
            row.hub.ask("UPDATE", &jwt);
            row.login(&row.user());
            row.stays(&mut client)
        },
        &[],
        None,
    ),
];

#[test]
fn what_clients_see_of_changes() {
    let mut wrong = Vec::new();
    for target in pair() {
        let mut hub = Hub::new(&target);
        let mut ends = hub.watch("$SYS.ACCOUNT.*.DISCONNECT");
        for (name, run, told, reason) in ROWS {
            println!("{}: {name}", target.name());
            let key = account_key(name);
            let (hub, ends) = (&mut hub, &mut ends);
            let got = run(&mut Row {
                hub,
                ends,
                name,
                key,
            });
            let wanted = Outcome {
                told: told.iter().map(|it| (*it).to_owned()).collect(),
                reason: reason.map(str::to_owned),
            };
            if got != wanted {
                wrong.push(format!("{}: {name}: {got:?}", target.name()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Leafs are closed as clients are, and refused when they come again.
#[test]
fn leafs_are_revoked_too() {
    for target in pair() {
        println!("{}", target.name());
        let mut hub = Hub::new(&target);
        let app = account_key("APP");
        let draft = Draft::account(&app, "APP");
        hub.push_account(&draft);
        let id = app.public_key();
        let mut events = hub.watch(&format!("$SYS.ACCOUNT.{id}.*"));
        let who = user("site", "APP");
        let url = format!(
            "url: \"nats-leaf://127.0.0.1:{}\"",
            hub.server.port_of("leaf")
        );
        let leaf = super::topology::leaf(&Target::Petiole, &who, &url);
        let mut next = |what: &str| loop {
            let event = events.expect_msg();
            if event.subject().ends_with(what) {
                break body(&event);
            }
        };
        next(".CONNECT");
        hub.push_account(&draft.with(json!({"revocations": {who.key.public_key(): now()}})));
        assert_eq!(next(".DISCONNECT")["reason"], "Credentials Revoked");
        leaf.wait_for_log("User Authentication Revoked");
        leaf.wait_for_log("Authorization Violation");
    }
}
