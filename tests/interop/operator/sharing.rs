//! What accounts of JWTs export to each other, with and without an activation.

use serde_json::{Value, json};

use super::{Hub, pair};
use crate::common::eventually;
use crate::support::{Client, Credentials, Draft, account_key, now};

/// An exporter that wants to be asked, with these revocations of its exports.
fn exporter(revocations: Value) -> Draft {
    Draft::account(&account_key("exporter"), "exporter").with(json!({"exports": [
        {"name": "open", "subject": "open.>", "type": "stream"},
        {"name": "closed", "subject": "closed.>", "type": "stream", "token_req": true,
         "revocations": revocations},
        {"name": "service", "subject": "service", "type": "service", "token_req": true},
    ]}))
}

/// An importer of all that, with these activations.
fn importer(stream: &str, service: &str) -> Draft {
    let from = account_key("exporter").public_key();
    let import = |subject: &str, kind: &str, token: &str| json!({"name": subject, "subject": subject, "type": kind, "account": from, "token": token});
    Draft::account(&account_key("importer"), "importer").with(json!({"imports": [
        import("open.>", "stream", ""),
        import("closed.>", "stream", stream),
        import("service", "service", service),
    ]}))
}

fn activation(subject: &str, kind: &str) -> Draft {
    Draft::activation(&account_key("importer"), subject, kind)
}

fn login(hub: &Hub, name: &str) -> Client {
    let key = account_key(name);
    Credentials::new(name, &key, &key).login(hub.port())
}

/// Which of the subjects of both streams arrive at the importer.
fn arrives(from: &mut Client, to: &mut Client) -> Vec<String> {
    from.tell("PUB open.x 0\r\n\r\nPUB closed.x 0\r\n\r\n");
    to.messages().iter().map(|it| it.subject()).collect()
}

#[track_caller]
fn expect(from: &mut Client, to: &mut Client, wanted: &[&str]) {
    eventually("what arrives", || {
        let got = arrives(from, to);
        if got == wanted {
            Ok(())
        } else {
            Err(format!("{got:?}"))
        }
    });
}

#[test]
fn activations_open_what_is_closed() {
    for target in pair() {
        println!("{}", target.name());
        let mut hub = Hub::new(&target);
        let key = account_key("exporter");
        let stream = activation("closed.>", "stream").sign(&key);
        let service = activation("service", "service").sign(&key);
        hub.push_account(&exporter(json!({})));
        hub.push_account(&importer(&stream, &service));
        let mut from = login(&hub, "exporter");
        let mut to = login(&hub, "importer");
        to.tell("SUB *.x 1\r\nSUB reply 2\r\n");
        expect(&mut from, &mut to, &["open.x", "closed.x"]);
        from.tell("SUB service 1\r\n");
        to.tell("PUB service reply 0\r\n\r\n");
        let question = from.messages().pop().expect("a question").reply().unwrap();
        from.tell(format!("PUB {question} 2\r\nhi\r\n"));
        assert_eq!(to.messages()[0].text(), "hi");

        // Revoked: those that were issued until now.
        let revoked = json!({account_key("importer").public_key(): now()});
        hub.push_account(&exporter(revoked));
        expect(&mut from, &mut to, &["open.x"]);
        hub.push_account(&exporter(json!({})));
        expect(&mut from, &mut to, &["open.x", "closed.x"]);

        // Over after a while, by itself.
        let short = activation("closed.>", "stream").until(now() + 2).sign(&key);
        hub.push_account(&importer(&short, &service));
        expect(&mut from, &mut to, &["open.x"]);
    }
}

#[test]
fn activations_that_are_none() {
    for target in pair() {
        println!("{}", target.name());
        let mut hub = Hub::new(&target);
        let key = account_key("exporter");
        hub.push_account(&exporter(json!({})));
        let service = activation("service", "service").sign(&key);
        hub.push_account(&importer("", &service));
        let mut from = login(&hub, "exporter");
        let mut to = login(&hub, "importer");
        to.tell("SUB *.x 1\r\n");
        for (name, token) in [
            ("none", String::new()),
            (
                "of another",
                activation("closed.>", "stream").sign(&account_key("other")),
            ),
            (
                "over",
                activation("closed.>", "stream").until(now() - 5).sign(&key),
            ),
            (
                "for a service",
                activation("closed.>", "service").sign(&key),
            ),
            (
                "for another subject",
                activation("other", "stream").sign(&key),
            ),
            (
                "for another account",
                Draft::activation(&account_key("other"), "closed.>", "stream").sign(&key),
            ),
        ] {
            // Some are refused as a whole; then what was there before stays.
            let jwt = hub.operator.sign(&importer(&token, &service));
            hub.ask("UPDATE", &jwt);
            println!("{name}");
            expect(&mut from, &mut to, &["open.x"]);
        }
    }
}
