//! How petiole proves itself to real hubs, which account it is bound to, and which address it uses.

use std::net::TcpListener;

use serde_json::{Value, json};

use crate::common::{Joined, each, get, hub, petiole, remote};
use crate::jwt::Operator;
use crate::support::{Client, RealServer, Server, TempDir, base64url, sign_nonce, user_key};

const ACCOUNTS: &str = "accounts { A: { users: [ {user: a, password: a} ] }\n\
                        B: { users: [ {user: b, password: b} ] } }";
const A: &str = "\"user\":\"a\",\"pass\":\"a\"";
const B: &str = "\"user\":\"b\",\"pass\":\"b\"";

/// The accounts of the hub that leafs are bound to, sorted.
fn bound(hub: &Server) -> Vec<String> {
    let leafz = get(hub.port_of("mon"), "/leafz").unwrap();
    let leafs = leafz["leafs"].as_array().cloned().unwrap_or_default();
    let mut accounts: Vec<String> = leafs
        .iter()
        .filter_map(|leaf| leaf["account"].as_str().map(str::to_owned))
        .collect();
    accounts.sort_unstable();
    accounts
}

#[test]
fn user_and_password_in_the_url() {
    each(|real| {
        let hub = hub(
            real,
            "authorization { users: [ {user: \"us@er\", password: \"p:ss\", account: A} ] }",
            ACCOUNTS,
        );
        let port = hub.port_of("leaf");
        let leaf = petiole(
            &format!("{{ url: \"nats://us%40er:p%3Ass@127.0.0.1:{port}\" }}"),
            "",
        );
        Joined::new(&leaf, &hub, "", A).settle();
        assert_eq!(bound(&hub), ["A"]);
    });
}

#[test]
fn a_wrong_password_is_tried_again() {
    each(|real| {
        let leafnodes = "authorization { user: u, password: right, account: A }";
        let mut hub = hub(real, leafnodes, ACCOUNTS);
        let port = hub.port_of("leaf");
        let leaf = petiole(
            &format!("{{ url: \"nats://u:other@127.0.0.1:{port}\" }}"),
            "",
        );
        leaf.wait_for_log("the hub says 'Authorization Violation'");
        assert!(!leaf.log().contains("other"), "the log shows the password");
        // The hub changes its mind.
        let text = crate::common::hub_config(leafnodes, ACCOUNTS).replace("right", "other");
        hub.rewrite_config(&text);
        hub.restart();
        Joined::new(&leaf, &hub, "", A).settle();
    });
}

#[test]
fn a_token_in_the_url() {
    each(|real| {
        // 2.9 knows no tokens on leaf links: the lone user name is all it sees.
        if real.version < (2, 10, 0) {
            return;
        }
        let hub = hub(real, "", "authorization { token: \"s3cr3t\" }");
        let port = hub.port_of("leaf");
        let leaf = petiole(
            &format!("{{ url: \"nats://s3cr3t@127.0.0.1:{port}\" }}"),
            "",
        );
        Joined::new(&leaf, &hub, "", "\"auth_token\":\"s3cr3t\"").settle();
    });
}

#[test]
fn item_12_an_nkey() {
    each(|real| {
        let key = user_key("leaf");
        let user = format!("{{nkey: {}}}", key.public_key());
        let hub = hub(
            real,
            "",
            &format!("accounts {{ A: {{ users: [ {{user: a, password: a}}, {user} ] }} }}"),
        );
        let seed = key.seed().unwrap();
        let leaf = petiole(&remote(hub.port_of("leaf"), &format!("nkey: {seed}")), "");
        Joined::new(&leaf, &hub, "", A).settle();
        assert_eq!(bound(&hub), ["A"]);
        assert!(!leaf.log().contains(&seed), "the log shows the seed");
    });
}

/// The further fields of the CONNECT of a client in account A of an operator-mode hub: a bearer, so
/// that it needs no signature.
fn bearer(operator: &Operator) -> String {
    let (jwt, _) = operator.user("A", "core", &json!({"bearer_token": true}));
    format!("\"jwt\":\"{jwt}\"")
}

fn operator_hub(real: &RealServer, operator: &Operator) -> Server {
    hub(real, "", &operator.config())
}

#[test]
fn item_13_credentials() {
    each(|real| {
        let operator = Operator::new(&["A", "B"]);
        let mut hub = operator_hub(real, &operator);
        let dir = TempDir::new();
        let path = dir.write("leaf.creds", operator.creds("A", "leaf", &Value::Null));
        let creds = format!("credentials: \"{}\"", path.display());
        let leaf = petiole(&remote(hub.port_of("leaf"), &creds), "");
        Joined::new(&leaf, &hub, "", &bearer(&operator)).settle();
        assert_eq!(bound(&hub), [operator.account("A")]);
        // The file changes: the next attempt uses it, for another account.
        dir.write("leaf.creds", operator.creds("B", "leaf", &Value::Null));
        let mark = leaf.log_mark();
        hub.restart();
        leaf.wait_for_log_after(mark, "is up");
        assert_eq!(bound(&hub), [operator.account("B")]);
    });
}

#[test]
fn item_57_credentials_of_almost_64k() {
    each(|real| {
        let operator = Operator::new(&["A"]);
        let hub = operator_hub(real, &operator);
        let dir = TempDir::new();
        let tags: Vec<String> = (0..700).map(|n| format!("tag:{n:050}")).collect();
        let jwt = operator.creds("A", "leaf", &json!({"tags": tags}));
        assert!(jwt.len() > 50_000, "{}", jwt.len());
        let path = dir.write("leaf.creds", jwt);
        let creds = format!("credentials: \"{}\"", path.display());
        let leaf = petiole(&remote(hub.port_of("leaf"), &creds), "");
        Joined::new(&leaf, &hub, "", &bearer(&operator)).settle();
    });
}

#[test]
fn item_45_permissions_of_a_jwt() {
    each(|real| {
        let operator = Operator::new(&["A"]);
        let hub = operator_hub(real, &operator);
        let dir = TempDir::new();
        let claims = json!({
            "sub": {"allow": ["in.>", "fence.>"], "deny": ["in.no"]},
            "pub": {"allow": ["out.>", "fence.>"]},
        });
        let path = dir.write("leaf.creds", operator.creds("A", "leaf", &claims));
        let creds = format!("credentials: \"{}\"", path.display());
        let leaf = petiole(&remote(hub.port_of("leaf"), &creds), "");
        let core = bearer(&operator);
        let mut joined = Joined::new(&leaf, &hub, "", &core);
        let mut edge = Client::quiet(leaf.port());
        let mut core = Client::quiet_and(hub.port(), &core);
        edge.tell("SUB in.a 1\r\nSUB in.no 2\r\nSUB zz 3\r\n");
        core.tell("SUB out.a 1\r\nSUB zz 2\r\n");
        joined.settle();
        edge.send("PUB out.a 1\r\nx\r\n");
        let mut other = Client::quiet(leaf.port());
        other.tell("PUB no.way 1\r\nx\r\n");
        core.send("PUB in.a 1\r\nx\r\nPUB in.no 1\r\nx\r\n");
        assert_eq!(edge.expect_msg().subject(), "in.a");
        assert_eq!(core.expect_msg().subject(), "out.a");
        joined.settle();
        assert_eq!(edge.messages(), []);
        assert!(!leaf.log().contains("is down"), "the link broke");
    });
}

#[test]
fn the_jwts_of_these_tests_are_proved_by_signatures() {
    // A client that signs is accepted by the hub, one that does not is not.
    each(|real| {
        let operator = Operator::new(&["A"]);
        let hub = operator_hub(real, &operator);
        let (jwt, _) = operator.user("A", "signer", &Value::Null);
        let key = crate::support::nkey(nkeys::KeyPairType::User, "signer");
        let mut client = hub.connect();
        let nonce = client.info["nonce"].as_str().unwrap().to_owned();
        let sig = sign_nonce(&key, &nonce);
        client.send(format!(
            "CONNECT {{\"verbose\":false,\"jwt\":\"{jwt}\",\"sig\":\"{sig}\"}}\r\n"
        ));
        client.tell("PUB foo 1\r\nx\r\n");
        let mut client = hub.connect();
        let sig = base64url(&[0; 64]);
        client.send(format!(
            "CONNECT {{\"verbose\":false,\"jwt\":\"{jwt}\",\"sig\":\"{sig}\"}}\r\n"
        ));
        client.expect_err_close("Authorization Violation");
    });
}

#[test]
fn a_user_that_expires_is_asked_anew() {
    each(|real| {
        let operator = Operator::new(&["A"]);
        let hub = operator_hub(real, &operator);
        let dir = TempDir::new();
        let soon = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs()
            + 2;
        let expiring = operator.creds_until("A", "leaf", soon);
        let path = dir.write("leaf.creds", expiring);
        let creds = format!("credentials: \"{}\"", path.display());
        let leaf = petiole(&remote(hub.port_of("leaf"), &creds), "");
        leaf.wait_for_log("is up");
        leaf.wait_for_log("the hub says 'User Authentication Expired'");
        let mark = leaf.log_mark();
        dir.write("leaf.creds", operator.creds("A", "leaf", &Value::Null));
        leaf.wait_for_log_after(mark, "is up");
    });
}

#[test]
fn remotes_of_several_accounts() {
    each(|real| {
        let hub = hub(
            real,
            "authorization { users: [ {user: la, password: p, account: A}, {user: lb, password: p, account: B} ] }",
            ACCOUNTS,
        );
        let port = hub.port_of("leaf");
        let remotes = [("EAST", "la"), ("WEST", "lb")].map(|(account, user)| {
            format!("{{ url: \"nats://{user}:p@127.0.0.1:{port}\", account: {account} }}")
        });
        let leaf = petiole(
            &remotes.join(", "),
            "accounts { EAST: { users: [ {user: a, password: a} ] }\n\
             WEST: { users: [ {user: b, password: b} ] }\n\
             HOME: { users: [ {user: h, password: h} ] } }",
        );
        let mut east = Joined::new(&leaf, &hub, A, A);
        let mut west = Joined::new(&leaf, &hub, B, B);
        assert_eq!(bound(&hub), ["A", "B"]);
        let mut clients = [A, B, "\"user\":\"h\",\"pass\":\"h\""]
            .map(|options| Client::quiet_and(leaf.port(), options));
        for client in &mut clients {
            client.tell("SUB foo 1\r\n");
        }
        east.settle();
        west.settle();
        Client::quiet_and(hub.port(), A).tell("PUB foo 1\r\na\r\n");
        Client::quiet_and(hub.port(), B).tell("PUB foo 1\r\nb\r\n");
        east.settle();
        west.settle();
        let [a, b, home] = clients.map(|mut client| {
            let texts: Vec<String> = client.messages().iter().map(|m| m.text()).collect();
            texts
        });
        // Two publishers, one of each account.
        assert_eq!((a, b), (vec!["a".to_owned()], vec!["b".to_owned()]));
        assert!(home.is_empty(), "{home:?}");
    });
}

#[test]
fn an_address_that_does_not_answer_is_passed_over() {
    each(|real| {
        let hub = hub(real, "", "");
        // Nobody listens on a port that was just given back, and one listens but never speaks.
        let dead = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = dead.local_addr().unwrap().port();
        let mute = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        drop(dead);
        let leaf = petiole(
            &format!(
                "{{ urls: [\"nats://127.0.0.1:{port}\", \"nats://127.0.0.1:{}\", \"nats://127.0.0.1:{}\"], \
                 no_randomize: true, first_info_timeout: \"300ms\" }}",
                mute.local_addr().unwrap().port(),
                hub.port_of("leaf"),
            ),
            "",
        );
        Joined::new(&leaf, &hub, "", "").settle();
        leaf.wait_for_log("no INFO within 300ms");
    });
}

#[test]
fn the_client_port_is_not_a_leafnode_port() {
    each(|real| {
        let hub = hub(real, "", "");
        let leaf = petiole(&remote(hub.port(), ""), "");
        leaf.wait_for_log("wrong port");
        let mut client = Client::quiet(leaf.port());
        client.tell("PUB still 1\r\nx\r\n");
    });
}
