//! No secret in the log, whatever goes wrong and however much is logged.

use crate::common::{config, hub};
use crate::jwt::Operator;
use crate::support::{Client, Pki, Proxy, Server, TempDir, newest, skip_loudly, user_key};

#[test]
fn no_secret_is_logged() {
    let Some(real) = newest() else {
        skip_loudly("secrets: no real server");
        return;
    };
    let pki = Pki::new("CA");
    let pair = pki.server("leaf");
    let operator = Operator::new(&["A"]);
    let dir = TempDir::new();
    let creds = operator.creds("A", "leaf", &serde_json::Value::Null);
    let path = dir.write("leaf.creds", &creds);
    let seed = user_key("leaf").seed().unwrap();
    let hub = hub(
        real,
        "",
        "websocket { host: \"127.0.0.1\", port: {port:ws}, no_tls: true }\n\
         authorization { user: u, password: right }",
    );
    let (port, ws) = (hub.port_of("leaf"), hub.port_of("ws"));
    let (http, socks) = (
        Proxy::http(Some("eDp5")),
        Proxy::socks5(Some(("proxyuser", "another"))),
    );
    let remotes = [
        format!("{{ url: \"nats://u:urlpassword@127.0.0.1:{port}\" }}"),
        format!("{{ url: \"ws://u:wspassword@127.0.0.1:{ws}\" }}"),
        format!("{{ url: \"nats://urltoken@127.0.0.1:{port}\" }}"),
        format!(
            "{{ url: \"tls://u:tlspassword@127.0.0.1:{port}\", tls {{ {} }} }}",
            pair.options()
        ),
        format!("{{ url: \"nats://127.0.0.1:{port}\", nkey: {seed} }}"),
        format!(
            "{{ url: \"nats://localhost:{port}\", credentials: \"{}\" }}",
            path.display()
        ),
        format!(
            "{{ url: \"nats://127.0.0.1:{port}\", account: A, proxy {{ url: \"http://127.0.0.1:{}\", \
             username: proxyuser, password: httppassword }} }}",
            http.port()
        ),
        format!(
            "{{ url: \"ws://127.0.0.1:{ws}\", account: A, proxy {{ url: \
             \"socks5://proxyuser:sockspassword@127.0.0.1:{}\" }} }}",
            socks.port()
        ),
    ];
    let more = "debug: true\ntrace: true\n\
                accounts { A: { users: [ {user: a, password: userpassword} ] } }";
    let leaf = Server::start_petiole(&config(&remotes.join("\n"), more));
    let mut refused = Client::connect(leaf.port());
    refused.send(
        "CONNECT {\"user\":\"a\",\"pass\":\"clientpassword\",\"auth_token\":\"clienttoken\"}\r\n",
    );
    refused.expect_err("Authorization Violation");
    Client::quiet_and(leaf.port(), "\"user\":\"a\",\"pass\":\"userpassword\"");
    let refused_by =
        |port| format!("proxy 127.0.0.1:{port}: the proxy refused the user and password");
    for said in [
        "Authorization Violation",
        "does not ask for TLS",
        &refused_by(http.port()),
        &refused_by(socks.port()),
    ] {
        leaf.wait_for_log(said);
    }
    let jwt = creds
        .lines()
        .find(|line| line.starts_with("ey"))
        .expect("a JWT");
    let creds_seed = creds
        .lines()
        .find(|line| line.starts_with("SU"))
        .expect("a seed");
    let key = std::fs::read_to_string(&pair.key).unwrap();
    let key = key.lines().nth(1).expect("a key");
    let log = leaf.log();
    for secret in [
        "urlpassword",
        "wspassword",
        "urltoken",
        "tlspassword",
        "httppassword",
        "sockspassword",
        "userpassword",
        "clientpassword",
        "clienttoken",
        "another",
        jwt,
        creds_seed,
        &seed,
        key,
        // As it stands in the header of the request to the proxy.
        "cHJveHl1c2VyOmh0dHBwYXNzd29yZA==",
    ] {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
}
