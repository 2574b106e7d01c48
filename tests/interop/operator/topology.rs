//! A datacenter and a site as published: an operator with signing keys, an account with a signing key that
//! was pushed, a service at the hub, and clients without credentials at a leaf that has some.

use super::{Hub, hub_config, targets};
use crate::common::eventually;
use crate::support::{
    Client, Credentials, Draft, Operator, Pki, Server, Target, TempDir, account_key,
};
use serde_json::json;

/// A leaf with these credentials and a remote.
pub(super) fn leaf(target: &Target, creds: &Credentials, remote: &str) -> Server {
    let dir = TempDir::new();
    dir.write("user.creds", creds.file());
    let config = format!(
        "host: \"127.0.0.1\"\nport: {{port}}\nserver_name: LEAF\n\
         leafnodes {{ reconnect: 1, remotes: [ {{ {remote}\ncredentials: \"{{dir}}/user.creds\" }} ] }}\n"
    );
    Server::start_with(target, &config, &[], dir, crate::support::Ready::Info)
}

/// An account that is pushed, and a user whom its signing key signed.
fn account(hub: &mut Hub) -> Credentials {
    let (app, signing) = (account_key("APP"), account_key("APP signing"));
    let draft = Draft::account(&app, "APP").with(json!({"signing_keys": [signing.public_key()]}));
    hub.push_account(&draft);
    Credentials::new("site", &app, &signing)
}

/// The question of a client at the leaf, who is nobody, is answered by a service at the hub.
fn greet(hub: &Hub, leaf: &Server, service: &Credentials) {
    let mut service = service.login(hub.port());
    service.tell("SUB greet 1\r\n");
    let mut asker = Client::quiet(leaf.port());
    asker.tell("SUB _INBOX.g 1\r\n");
    let reply = eventually("a request crosses the link", || {
        asker.tell("PUB greet _INBOX.g 0\r\n\r\n");
        let question = service.messages().into_iter().next();
        question.and_then(|it| it.reply()).ok_or("none came".into())
    });
    // More questions may be under way.
    service.send(format!("PUB {reply} 5\r\nhello\r\n"));
    assert_eq!(asker.expect_msg().text(), "hello");
}

#[test]
fn every_hub_serves_every_leaf() {
    for hub in targets() {
        let mut hub = Hub::new(&hub);
        let creds = account(&mut hub);
        for target in targets() {
            println!("{} at {}", target.name(), hub.server.target().name());
            let url = format!(
                "url: \"nats-leaf://127.0.0.1:{}\"",
                hub.server.port_of("leaf")
            );
            let leaf = leaf(&target, &creds, &url);
            greet(&hub, &leaf, &creds);
        }
    }
}

#[test]
fn leafs_come_under_tls_and_over_websocket() {
    let pki = Pki::new("CA");
    let tls = format!("tls {{ {} }}", pki.server("hub").options());
    let ca = format!("tls {{ {} }}", pki.ca());
    let clear = "no_tls: true";
    for (leafnodes, websocket, scheme, port, remote) in [
        (&*tls, clear, "tls", "leaf", &*ca),
        ("", clear, "ws", "ws", ""),
        ("", &tls, "wss", "ws", &ca),
    ] {
        let operator = Operator::new("O");
        let config = hub_config(&format!(
            "websocket {{ host: \"127.0.0.1\", port: {{port:ws}}, {websocket} }}\n{}",
            operator.generated()
        ))
        .replace("{port:leaf} }", &format!("{{port:leaf}}\n{leafnodes} }}"));
        let mut hub = Hub::with(&Target::Petiole, &config, operator);
        let creds = account(&mut hub);
        for target in targets() {
            println!("{} by {scheme}", target.name());
            let url = format!(
                "url: \"{scheme}://127.0.0.1:{}\"\n{remote}",
                hub.server.port_of(port)
            );
            let leaf = leaf(&target, &creds, &url);
            greet(&hub, &leaf, &creds);
        }
    }
}

/// A hub that starts again has what was pushed.
#[test]
fn what_was_pushed_stays() {
    let mut hub = Hub::new(&Target::Petiole);
    let creds = account(&mut hub);
    let url = format!(
        "url: \"nats-leaf://127.0.0.1:{}\"",
        hub.server.port_of("leaf")
    );
    let leaf = leaf(&Target::Petiole, &creds, &url);
    greet(&hub, &leaf, &creds);
    hub.server.restart();
    greet(&hub, &leaf, &creds);
}
