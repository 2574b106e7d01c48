//! The harness itself, proved on the real servers: what other tests rely on.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use serde_json::json;
use support::{Client, FakeHub, LeafLink, LeafOp, Server, servers, skip_loudly};

const PLAIN: &str = "host: \"127.0.0.1\"\nport: {port}\n";

#[test]
fn servers_are_distinct_and_ordered() {
    let versions: Vec<_> = servers().iter().map(|s| s.version).collect();
    assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
}

#[test]
fn a_server_restarts_on_its_port() {
    let Some(real) = support::newest() else {
        return skip_loudly("harness: no real server");
    };
    let mut server = Server::start_real(real, PLAIN);
    let (port, id) = (server.port(), server.connect().info["server_id"].clone());
    let mut client = Client::quiet(port);
    let mark = server.log_mark();
    server.restart();
    client.expect_close();
    server.wait_for_log_after(mark, "Server is ready");
    assert_eq!(server.port(), port);
    assert_ne!(server.connect().info["server_id"], id);
    server.rewrite_config(&format!("{PLAIN}max_payload: 1000\n"));
    let mark = server.log_mark();
    server.signal("HUP");
    server.wait_for_log_after(mark, "Reloaded");
    assert_eq!(server.connect().info["max_payload"], 1000);
    server.stop();
    assert!(support::Wire::dial(port).is_err());
}

#[test]
fn a_real_leaf_dials_the_fake_hub() {
    for real in servers() {
        let hub = FakeHub::start();
        let config = format!(
            "{PLAIN}server_name: LEAF\nleafnodes {{ reconnect: 1, remotes: [ {{ url: \"nats://127.0.0.1:{}\" }} ] }}\n",
            hub.port()
        );
        let leaf = Server::start_real(real, &config);
        let (mut link, connect) = hub.accept_leaf();
        assert_eq!(connect["name"], "LEAF");
        let mut client = Client::quiet(leaf.port());
        client.tell("SUB down.* 1\r\nSUB work G 2\r\n");
        link.wait_for_subs(&["down.*", "work G 1"]);
        link.send("LMSG down.a re.ply 2\r\nhi\r\n");
        link.sync();
        let msg = client.expect_msg();
        assert_eq!(
            (msg.text().as_str(), msg.reply().as_deref()),
            ("hi", Some("re.ply"))
        );
        link.send("LS+ up\r\n");
        link.sync();
        client.tell("PUB up 2\r\nyo\r\n");
        link.wait_for(&LeafOp::Msg {
            args: "up".to_owned(),
            payload: b"yo".to_vec(),
        });
        // The hub goes; the leaf comes again.
        drop(link);
        let (mut link, _) = hub.accept_leaf();
        link.wait_for_subs(&["down.*"]);
    }
}

#[test]
fn a_fake_leaf_dials_a_real_hub() {
    for real in servers() {
        let config = format!("{PLAIN}leafnodes {{ host: \"127.0.0.1\", port: {{port:leaf}} }}\n");
        let hub = Server::start_real(real, &config);
        let connect = json!({"version": "2.15.1", "server_id": "NFAKE", "name": "FAKE", "cluster": "FAKE", "headers": true});
        let (mut link, first, second) = LeafLink::solicit(hub.port_of("leaf"), &connect);
        assert!(first["nonce"].is_string());
        assert_eq!(second["connect_info"], true);
        link.send("LS+ up\r\n");
        link.sync();
        let mut client = Client::quiet(hub.port());
        client.tell("HPUB up 12 14\r\nNATS/1.0\r\n\r\nhi\r\n");
        link.wait_for(&LeafOp::HMsg {
            args: "up".to_owned(),
            header: b"NATS/1.0\r\n\r\n".to_vec(),
            payload: b"hi".to_vec(),
        });
        link.send("FOO\r\n");
        link.expect_err_close("Unknown Protocol Operation");
    }
}
