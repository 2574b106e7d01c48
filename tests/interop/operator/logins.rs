//! Who is refused, with the same words in the log as the newest real server's (JWT authentication, user
//! validation), and who is let in with what.

use nkeys::{KeyPair, KeyPairType};
use serde_json::{Value, json};

use super::{hub_config, pair};
use crate::support::{
    Client, Credentials, Draft, Op, Operator, QUIET, Server, Target, account_key, nkey, now,
    sign_nonce,
};

/// A server whose accounts are all in its file.
fn start(
    target: &Target,
    operator: &Operator,
    accounts: &[(KeyPair, String)],
    more: &str,
) -> Server {
    let preload: Vec<String> = accounts
        .iter()
        .map(|(key, jwt)| format!("{}: {jwt}", key.public_key()))
        .collect();
    let config = hub_config(&format!(
        "debug: true\n{}resolver: MEMORY\nresolver_preload {{\n{}: {}\n{}\n}}\n{more}",
        operator.trust(),
        operator.system.public_key(),
        operator.system_jwt(),
        preload.join("\n")
    ));
    Server::start(target, &config)
}

/// An account's key and the JWT that the operator signs of it.
fn account(name: &str, fields: Value) -> (KeyPair, String) {
    let key = account_key(name);
    let jwt = Operator::new("O").sign(&Draft::account(&key, name).with(fields));
    (key, jwt)
}

/// The options of CONNECT for a nonce.
type Options = Box<dyn Fn(&str) -> Value>;

/// By a JWT, and the signature of the user's key.
fn by(who: Credentials) -> Options {
    Box::new(move |nonce| json!({"jwt": who.jwt, "sig": sign_nonce(&who.key, nonce)}))
}

/// A user of the account "good", changed.
fn good(change: impl FnOnce(Draft) -> Draft) -> Credentials {
    let key = account_key("good");
    Credentials::changed("U", &key, &key, change)
}

fn with(fields: Value) -> Options {
    by(good(|draft| draft.with(fields)))
}

fn of(account: &str) -> Options {
    let key = account_key(account);
    by(Credentials::new("U", &key, &key))
}

/// A user of the account "scoped" whom the signing key of a role signed.
fn scoped(role: &str, fields: Value) -> Options {
    let key = nkey(KeyPairType::User, "U");
    let draft = Draft::scoped(&key, &account_key("scoped"), "U").with(fields);
    let jwt = draft.sign(&account_key(role));
    by(Credentials { key, jwt })
}

fn knock(server: &Server, options: &Options) -> Client {
    let mut client = Client::connect(server.port());
    let nonce = client.info["nonce"].as_str().unwrap().to_owned();
    let mut all: Value = serde_json::from_str(QUIET).unwrap();
    for (name, value) in options(&nonce).as_object().unwrap() {
        all[name] = value.clone();
    }
    client.send(format!("CONNECT {all}\r\nPING\r\n"));
    client
}

/// All attempts, and what the log says of each.
fn attempts() -> Vec<(&'static str, Options, &'static str)> {
    let sure = || good(|draft| draft);
    let other = nkey(KeyPairType::User, "other");
    let no_longer = "User JWT no longer valid: ";
    let needs_jwt = "Authentication requires a user JWT";
    let weekday = json!({"times": [{"start": "00:00:00", "end": "00:00:01"}],
        "times_location": if now() % 86400 < 43200 { "Etc/GMT-11" } else { "UTC" }});
    vec![
        ("no JWT", Box::new(|_| json!({})), needs_jwt),
        (
            "a password",
            Box::new(|_| json!({"user": "a", "pass": "b"})),
            "",
        ),
        (
            "no JWT at all",
            Box::new(|_| json!({"jwt": "abc"})),
            needs_jwt,
        ),
        (
            "an account's JWT",
            Box::new(|_| json!({"jwt": account("good", json!({})).1})),
            needs_jwt,
        ),
        ("expired", by(good(|it| it.until(now() - 5))), no_longer),
        ("not yet", by(good(|it| it.from(now() + 500))), no_longer),
        ("wrong network", with(json!({"src": ["xx"]})), no_longer),
        (
            "no such account",
            of("nowhere"),
            "Account JWT lookup error: ",
        ),
        ("account of a stranger", of("stranger"), ""),
        (
            "signed by another account",
            by(Credentials::new(
                "U",
                &account_key("good"),
                &account_key("bearers"),
            )),
            "User JWT issuer is not known",
        ),
        (
            "limits in a scope",
            scoped("role", json!({"subs": 5})),
            "User JWT is not valid: scoped users require no permissions or limits set",
        ),
        (
            "bad template",
            scoped("bad role", json!({})),
            "User JWT generated invalid permissions",
        ),
        ("account expired", of("expired"), ""),
        (
            "bearer",
            {
                let key = account_key("bearers");
                by(Credentials::changed("U", &key, &key, |it| {
                    it.with(json!({"bearer_token": true}))
                }))
            },
            "Account does not allow bearer tokens",
        ),
        (
            "wrong type",
            with(json!({"allowed_connection_types": ["WEBSOCKET"]})),
            "Connection type not allowed",
        ),
        (
            "no signature",
            {
                let jwt = sure().jwt;
                Box::new(move |_| json!({"jwt": jwt}))
            },
            "Signature missing",
        ),
        (
            "no base64",
            {
                let jwt = sure().jwt;
                Box::new(move |_| json!({"jwt": jwt, "sig": "!!"}))
            },
            "Signature not valid base64",
        ),
        (
            "signed by another user",
            {
                let jwt = sure().jwt;
                Box::new(move |nonce| json!({"jwt": jwt, "sig": sign_nonce(&other, nonce)}))
            },
            "Signature not verified",
        ),
        ("revoked", of("revoking"), "User authentication revoked"),
        (
            "elsewhere",
            with(json!({"src": ["10.0.0.0/8"]})),
            "Bad src Ip 127.0.0.1",
        ),
        ("at another time", with(weekday), "Outside connect times"),
    ]
}

#[test]
fn refused_with_the_same_words() {
    let stranger = nkey(KeyPairType::Operator, "stranger");
    let signed = |name: &str, change: &dyn Fn(Draft) -> Draft, by: &KeyPair| {
        let key = account_key(name);
        let jwt = change(Draft::account(&key, name)).sign(by);
        (key, jwt)
    };
    let operator = Operator::new("O");
    let role = |name: &str, template: Value| json!({"kind": "user_scope", "key": account_key(name).public_key(), "role": name, "template": template});
    let accounts = [
        account("good", json!({})),
        account("bearers", json!({"limits": {"disallow_bearer": true}})),
        account("revoking", json!({"revocations": {"*": now()}})),
        account(
            "scoped",
            json!({"signing_keys": [
                role("role", json!({"pub": {"allow": ["a"]}})),
                role("bad role", json!({"pub": {"deny": ["a.{{tag(none)}}"]}})),
            ]}),
        ),
        signed("stranger", &|it| it, &stranger),
        signed("expired", &|it| it.until(now() - 5), &operator.signing),
    ];
    let mut wrong = Vec::new();
    for target in pair() {
        let server = start(&target, &operator, &accounts, "");
        knock(&server, &by(good(|it| it))).expect_pong();
        for (name, options, text) in attempts() {
            let mark = server.log_mark();
            let mut client = knock(&server, &options);
            let told = client.op();
            let mut was = |why: &str| {
                let log = server.log()[mark..].to_owned();
                wrong.push(format!("{}: {name}: {why}\n{log}", target.name()));
            };
            if told != Some(Op::Err("Authorization Violation".into())) || client.op().is_some() {
                was(&format!("{told:?}"));
                continue;
            }
            server.wait_for_log_after(mark, "Authentication");
            if !server.log()[mark..].contains(text) {
                was(text);
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn strict_operators_want_signing_keys_of_accounts() {
    let operator = Operator::new("O");
    let (lax, strict) = operator.lax_and_strict();
    let signing = account_key("good signing");
    let (key, jwt) = account("good", json!({"signing_keys": [signing.public_key()]}));
    for target in pair() {
        let config = hub_config(&format!(
            "debug: true\n{}resolver: MEMORY\nresolver_preload {{ {}: {jwt}, {}: {} }}\n",
            operator.trust().replace(&lax, &strict),
            key.public_key(),
            operator.system.public_key(),
            operator.system_jwt()
        ));
        let server = Server::start(&target, &config);
        Credentials::new("U", &key, &signing).login(server.port());
        let mut refused = Credentials::new("U", &key, &key).knock(server.port());
        refused.expect_err_close("Authorization Violation");
        server.wait_for_log("User JWT issuer is not known");
    }
}

#[test]
fn users_of_pinned_accounts_alone() {
    let operator = Operator::new("O");
    let accounts = [account("good", json!({})), account("other", json!({}))];
    let pinned = format!(
        "resolver_pinned_accounts: [ {} ]",
        accounts[0].0.public_key()
    );
    for target in pair() {
        let server = start(&target, &operator, &accounts, &pinned);
        super::user("U", "good").login(server.port());
        operator.system_user().login(server.port());
        let mut refused = super::user("U", "other").knock(server.port());
        refused.expect_err_close("Authorization Violation");
        let other = accounts[1].0.public_key();
        server.wait_for_log(&format!(
            "Account {other} not listed as operator pinned account"
        ));
    }
}

#[test]
fn bearers_need_no_signature() {
    let operator = Operator::new("O");
    let accounts = [account("good", json!({}))];
    for target in pair() {
        let server = start(&target, &operator, &accounts, "");
        let jwt = good(|draft| draft.with(json!({"bearer_token": true}))).jwt;
        let options: Options = Box::new(move |_| json!({"jwt": jwt}));
        knock(&server, &options).expect_pong();
    }
}

#[test]
fn who_has_no_jwt_comes_by_the_sentinel() {
    let operator = Operator::new("O");
    let accounts = [account("good", json!({}))];
    let sentinel = good(|draft| draft.with(json!({"bearer_token": true, "pub": {"deny": [">"]}})));
    let more = format!("default_sentinel: {}", sentinel.jwt);
    for target in pair() {
        let server = start(&target, &operator, &accounts, &more);
        let mut client = Client::quiet(server.port());
        let told = client.ask("PUB a 0\r\n\r\n");
        let violation = "Permissions Violation for Publish to \"a\"";
        assert_eq!(told, [Op::Err(violation.into())], "{}", target.name());
        // Who has one is who it says.
        let mut client = super::user("U", "good").login(server.port());
        client.tell("PUB a 0\r\n\r\n");
    }
}

#[test]
fn users_have_limits() {
    let operator = Operator::new("O");
    let accounts = [account("good", json!({}))];
    for target in pair() {
        let server = start(&target, &operator, &accounts, "");
        let login = |fields: Value| {
            let mut client = knock(&server, &with(fields));
            client.expect_pong();
            client
        };
        let mut client = login(json!({"subs": 1}));
        client.tell("SUB a 1\r\n");
        let told = client.ask("SUB b 2\r\n");
        assert_eq!(told, [Op::Err("maximum subscriptions exceeded".into())]);
        let mut client = login(json!({"payload": 4}));
        client.tell("PUB a 4\r\n1234\r\n");
        client.send("PUB a 5\r\n12345\r\n");
        client.expect_err_close("Maximum Payload Violation");
        // What is not said is 0.
        let key = nkey(KeyPairType::User, "U");
        let jwt = Draft::scoped(&key, &account_key("good"), "U").sign(&account_key("good"));
        let mut client = knock(&server, &by(Credentials { key, jwt }));
        let mut told = Vec::new();
        while let Some(op) = client.op() {
            told.push(op);
        }
        let err = Op::Err("maximum subscriptions exceeded".into());
        assert!(told.contains(&err), "{}: {told:?}", target.name());
    }
}

#[test]
fn who_asks_who_he_is_is_told() {
    let operator = Operator::new("O");
    let accounts = [account("good", json!({}))];
    let targets = pair();
    let told = targets.iter().map(|target| {
        let server = start(target, &operator, &accounts, "");
        let mut client = super::user("Hugo", "good").login(server.port());
        let answer = crate::common::request(&mut client, "$SYS.REQ.USER.INFO", "");
        super::json(&answer)["data"].clone()
    });
    let told: Vec<Value> = told.collect();
    assert!(told.windows(2).all(|two| two[0] == two[1]), "{told:#?}");
}
