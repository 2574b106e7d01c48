#![allow(clippy::unwrap_used)]

use data_encoding::BASE64URL_NOPAD;
use nkeys::{KeyPair, KeyPairType};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::mint::{key, mint, with_header};
use super::sharing::accounts;
use super::*;
use crate::account;
use crate::config::model::{
    self, Audience, ConnectionType, Import as ModelImport, Permissions, Sampling,
};
use crate::wire::version::Version;

/// When everything happens.
const NOW: i64 = 1_700_000_000;

const VERSION: Version = Version([2, 10, 3]);

const NONCE: &[u8] = b"a nonce of text";

/// Local time is UTC, and there is one other zone.
struct Utc;

impl Zones for Utc {
    fn offset(&self, zone: Zone<'_>, _: i64) -> Option<i32> {
        match zone {
            Zone::Local => Some(0),
            Zone::Named(name) => (name == "Far/East").then_some(9 * 3600),
        }
    }
}

fn clock(now: i64) -> Clock<'static> {
    Clock { now, zones: &Utc }
}

fn operator() -> KeyPair {
    key(KeyPairType::Operator, 1)
}

fn operator_signing() -> KeyPair {
    key(KeyPairType::Operator, 2)
}

fn account() -> KeyPair {
    key(KeyPairType::Account, 3)
}

fn account_signing() -> KeyPair {
    key(KeyPairType::Account, 4)
}

fn scoped() -> KeyPair {
    key(KeyPairType::Account, 5)
}

fn user() -> KeyPair {
    key(KeyPairType::User, 6)
}

/// `over` replaces what `base` has, object by object.
fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (name, value) in over {
                merge(base.entry(name).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}

fn operator_jwt(nats: Value) -> String {
    let mut claims = json!({
        "sub": operator().public_key(),
        "nats": {"type": "operator", "version": 2, "signing_keys": [operator_signing().public_key()]},
    });
    merge(&mut claims["nats"], nats);
    mint(&operator(), claims)
}

fn account_claims(of: &KeyPair, over: Value) -> Value {
    let mut claims = json!({
        "sub": of.public_key(),
        "name": "acc",
        "nats": {
            "type": "account",
            "version": 2,
            "limits": {"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1,
                       "wildcards": true, "conn": -1, "leaf": -1},
            "signing_keys": [account_signing().public_key()],
        },
    });
    merge(&mut claims, over);
    claims
}

fn account_jwt(over: Value) -> String {
    mint(&operator(), account_claims(&account(), over))
}

fn user_jwt(by: &KeyPair, over: Value) -> String {
    let mut claims = json!({
        "sub": user().public_key(),
        "name": "bob",
        "nats": {"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1},
    });
    merge(&mut claims, over);
    mint(by, claims)
}

fn trust_in(operator: &str) -> Trust {
    Trust::in_operators([&decode::<Operator>(operator).unwrap()], VERSION).unwrap()
}

fn trust() -> Trust {
    trust_in(&operator_jwt(json!({})))
}

fn strict() -> Trust {
    trust_in(&operator_jwt(json!({"strict_signing_key_usage": true})))
}

fn admitted(over: Value) -> TrustedAccount {
    let id = account().public_key();
    TrustedAccount::admit(&account_jwt(over), &id, &trust(), NOW).unwrap()
}

fn signature() -> String {
    BASE64URL_NOPAD.encode(&user().sign(NONCE).unwrap())
}

fn peer(signature: Option<&str>) -> Peer<'_> {
    Peer {
        nonce: NONCE,
        signature,
        address: Some("127.0.0.1".parse().unwrap()),
        kind: ConnectionType::Standard,
        proxied: Proxied::No,
    }
}

/// Both steps, for somebody who signs as it should.
fn login(jwt: &str, account: &TrustedAccount, now: i64) -> Result<Session, Refusal> {
    let signature = signature();
    login_as(jwt, account, &peer(Some(&signature)), now)
}

fn login_as(
    jwt: &str,
    account: &TrustedAccount,
    peer: &Peer<'_>,
    now: i64,
) -> Result<Session, Refusal> {
    let presented = Presented::read(Some(jwt), peer.proxied, &trust(), clock(now))?;
    presented.judge(Ok(account), peer, &trust(), clock(now))
}

fn refused(result: Result<Session, Refusal>) -> String {
    result
        .map(|session| session.account)
        .unwrap_err()
        .to_string()
}

fn scope(template: Value) -> Value {
    json!({"nats": {"signing_keys": [
        account_signing().public_key(),
        {"kind": "user_scope", "key": scoped().public_key(), "role": "r", "template": template},
    ]}})
}

/// One whom the scoped key has signed.
fn scoped_jwt(over: Value) -> String {
    let mut claims = json!({
        "sub": user().public_key(),
        "name": "bob",
        "nats": {"type": "user", "version": 2, "issuer_account": account().public_key()},
    });
    merge(&mut claims, over);
    mint(&scoped(), claims)
}

#[test]
fn what_is_decoded_is_what_was_encoded() {
    let jwt = user_jwt(
        &account(),
        json!({
            "aud": "a", "exp": 5, "nbf": 4, "iat": 3, "jti": "J", "unknown": [1],
            "nats": {
                "pub": {"allow": ["a"], "deny": null},
                "sub": {"deny": ["b q"]},
                "resp": {"max": 2, "ttl": 7},
                "src": " 10.0.0.0/8, ::1/128,", "times": [{"start": "01:00:00", "end": "02:00:00"}],
                "times_location": "Far/East", "subs": 3, "payload": 0, "data": null,
                "bearer_token": true, "proxy_required": true, "more": {},
                "allowed_connection_types": ["WEBSOCKET"], "issuer_account": "", "tags": ["T:x"],
            },
        }),
    );
    let claims = decode::<User>(&format!(" {jwt}\r\n")).unwrap();
    let standard = &claims.standard;
    assert_eq!(
        (
            standard.id.as_str(),
            standard.audience.as_str(),
            standard.name.as_str()
        ),
        ("J", "a", "bob")
    );
    assert_eq!(
        (
            standard.issued_at,
            standard.expires,
            standard.not_before,
            standard.version
        ),
        (3, Some(5), Some(4), 2)
    );
    assert_eq!(standard.issuer, account().public_key());
    assert_eq!(standard.subject, user().public_key());
    assert_eq!(standard.tags, ["T:x"]);
    let grant = &claims.body.grant;
    assert_eq!(
        (grant.publish.allow.len(), grant.publish.deny.len()),
        (1, 0)
    );
    assert_eq!(grant.subscribe.deny, ["b q"]);
    assert_eq!(grant.responses, Some(Response { max: 2, ttl: 7 }));
    assert_eq!(grant.src, ["10.0.0.0/8", "::1/128"]);
    assert_eq!(grant.location, "Far/East");
    assert_eq!((grant.subs, grant.payload, grant.data), (3, 0, 0));
    assert!(grant.bearer && grant.proxy_required);
    assert_eq!(claims.body.issuer_account, None);
}

/// Texts of nats-server 2.15.1, where it has the same causes.
#[test]
fn what_cannot_be_decoded() {
    let operator = operator();
    let body = |nats: Value| json!({"sub": operator.public_key(), "nats": nats});
    let nats = json!({"type": "operator", "version": 2});
    let head = |header: Value| with_header(&operator, &header, body(nats.clone()));
    let good = operator_jwt(json!({}));
    let mut forged = good.clone();
    forged.replace_range(good.len() - 6.., "AAAAAA");
    let issued_by = |by: &KeyPair| mint(by, body(nats.clone()));
    let lies = mint(
        &key(KeyPairType::Operator, 9),
        json!({"sub": "", "iss": operator.public_key(), "nats": nats}),
    );
    let [header, claims, signature]: [&str; 3] =
        good.split('.').collect::<Vec<_>>().try_into().unwrap();
    for (jwt, wanted) in [
        (String::new(), "expected 3 chunks"),
        ("abc".into(), "expected 3 chunks"),
        (format!("{good}."), "expected 3 chunks"),
        ("!.!.!".into(), "illegal base64 data"),
        (
            format!("{header}=.{claims}.{signature}"),
            "illegal base64 data",
        ),
        (
            "YWJj.YWJj.YWJj".into(),
            "malformed JSON: expected value at line 1 column 1",
        ),
        ("W10.W10.".into(), "malformed JSON: expected an object"),
        (
            head(json!({"typ": "JWT", "alg": "none"})),
            "unexpected \"none\" algorithm",
        ),
        (
            head(json!({"typ": "JWT", "alg": "ed25519-x"})),
            "unexpected \"ed25519-x\" algorithm",
        ),
        (
            head(json!({"typ": "X", "alg": "ed25519"})),
            "not supported type \"X\"",
        ),
        (head(json!({})), "not supported type \"\""),
        (
            mint(&operator, body(json!({"type": "operator", "version": 3}))),
            "JWT was generated by a newer version",
        ),
        (
            mint(&operator, body(json!({"type": "operator"}))),
            "library supports version 2 or less - received 0",
        ),
        (
            mint(&operator, body(json!({"type": "operator", "version": 1}))),
            "library supports version 2 or less - received 1",
        ),
        (forged, "claim failed V2 signature verification"),
        (lies, "claim failed V2 signature verification"),
        (
            format!("{header}.{claims}."),
            "claim failed V2 signature verification",
        ),
        (
            issued_by(&account()),
            "unable to validate expected prefixes - [operator]",
        ),
        (account_jwt(json!({})), "not operator claim"),
        (user_jwt(&account(), json!({})), "not operator claim"),
        (
            mint(&operator, body(json!({"type": "cluster", "version": 2}))),
            "not operator claim",
        ),
        (
            operator_jwt(json!({"operator_service_urls": vec!["nats://x"; 100_000]})),
            "token size 1467193 exceeds maximum of 1048576 bytes: token too large",
        ),
    ] {
        let error = decode::<Operator>(&jwt).unwrap_err().to_string();
        assert_eq!(error, wanted, "{}", jwt.get(..200).unwrap_or(&jwt));
    }
    let error = |jwt: &str| decode::<Account>(jwt).unwrap_err().to_string();
    assert_eq!(error(&good), "not account claim");
    assert_eq!(
        error(&mint(&user(), account_claims(&account(), json!({})))),
        "unable to validate expected prefixes - [account operator]"
    );
    for odd in [
        json!({"nats": {"signing_keys": [{"kind": "foo", "key": "x"}]}}),
        json!({"nats": {"exports": [{"subject": "a", "type": "foo"}]}}),
        json!({"nats": {"exports": [{"subject": "a", "type": "service", "account_token_position": -1}]}}),
        json!({"nats": {"mappings": {"a": [{"subject": "b", "weight": 300}]}}}),
        json!({"nats": {"imports": [null]}}),
        json!({"iat": 0.5}),
        json!({"sub": 7}),
        json!({"nats": {"tags": "x"}}),
    ] {
        let error = error(&account_jwt(odd.clone()));
        assert!(error.starts_with("malformed JSON: "), "{odd}: {error}");
    }
}

#[test]
fn headers_in_any_case_and_the_old_algorithm() {
    let claims = json!({"sub": user().public_key(), "nats": {"type": "user", "version": 2}});
    for header in [
        json!({"typ": "jwt", "alg": "ED25519"}),
        json!({"typ": "Jwt", "alg": "Ed25519-Nkey", "kid": "x"}),
    ] {
        let jwt = with_header(&account(), &header, claims.clone());
        assert!(decode::<User>(&jwt).is_ok());
    }
}

#[test]
fn the_first_version_has_its_fields_elsewhere() {
    let claims = json!({
        "sub": user().public_key(), "type": "user", "name": "old", "tags": ["v1"],
        "issuer_account": account().public_key(),
        "nats": {"pub": {"allow": ["a"]}, "max": 3, "payload": 44, "src": "127.0.0.1/32"},
    });
    let jwt = mint(&account_signing(), claims.clone());
    let read = decode::<User>(&jwt).unwrap();
    assert_eq!(
        (read.standard.version, read.standard.tags.as_slice()),
        (1, &["v1".to_owned()][..])
    );
    assert_eq!(read.body.issuer_account, Some(account().public_key()));
    assert_eq!((read.body.grant.payload, read.body.grant.subs), (44, -1));
    let session = login(&jwt, &admitted(json!({})), NOW).unwrap();
    assert_eq!(
        (session.max_payload, session.max_subscriptions),
        (Some(44), None)
    );

    let activation = mint(
        &account(),
        json!({"sub": "", "type": "activation", "nats": {"subject": "a", "type": "stream"}}),
    );
    let activation = decode::<Activation>(&activation).unwrap();
    assert_eq!(activation.body.kind, ShareKind::Stream);

    // Its signature covers the claims only.
    let header = json!({"typ": "JWT", "alg": "ed25519"});
    let jwt = with_header(&account_signing(), &header, claims);
    assert_eq!(
        decode::<User>(&jwt).unwrap_err().to_string(),
        "claim failed V1 signature verification"
    );
}

#[test]
fn a_session_is_what_the_claims_say() {
    let account_ = admitted(json!({}));
    let jwt = user_jwt(
        &account_signing(),
        json!({"exp": NOW + 60, "iat": 77, "nats": {
            "issuer_account": account().public_key(), "tags": ["a:b", "C"], "subs": 5, "payload": 9,
            "pub": {"allow": ["p"]}, "resp": {"max": 0, "ttl": -1},
        }}),
    );
    let presented = Presented::read(Some(&jwt), Proxied::No, &trust(), clock(NOW)).unwrap();
    assert_eq!(presented.account(), account().public_key());
    assert_eq!(presented.user(), user().public_key());
    let session = login(&jwt, &account_, NOW).unwrap();
    assert_eq!(*session.account, *account().public_key());
    assert_eq!(*session.user, *user().public_key());
    assert_eq!((&*session.name, &*session.account_name), ("bob", "acc"));
    assert_eq!(*session.issuer, *account_signing().public_key());
    assert_eq!((session.issued_at, session.expires), (77, Some(NOW + 60)));
    assert_eq!(
        (session.max_subscriptions, session.max_payload),
        (Some(5), Some(9))
    );
    assert!(!session.is_bearer);
    let permissions = session.permissions.clone().unwrap();
    assert_eq!(permissions.publish.allow, ["p"]);
    let responses = permissions.responses.unwrap();
    assert_eq!((responses.max, responses.expires), (Some(1), None));
    let (u, s, a) = (
        user().public_key(),
        account_signing().public_key(),
        account().public_key(),
    );
    assert_eq!(
        session.to_string(),
        format!(
            "Authenticated JWT: Client \"{u}\" (claim-name: \"bob\", claim-tags: [\"a:b\" \"C\"]) signed with \"{s}\" by Account \"{a}\" (claim-name: \"acc\")"
        )
    );
    // An issuer account that is the issuer says nothing new.
    let same = json!({"nats": {"issuer_account": account().public_key()}});
    assert!(login(&user_jwt(&account(), same), &account_, NOW).is_ok());
    // Limits that are not there are 0.
    let bare = json!({"sub": user().public_key(), "nats": {"type": "user", "version": 2}});
    let session = login(&mint(&account(), bare), &account_, NOW).unwrap();
    assert_eq!(
        (session.max_subscriptions, session.max_payload),
        (Some(0), Some(0))
    );
    assert_eq!(session.permissions, None);
}

/// Texts of nats-server 2.15.1.
#[test]
fn users_that_do_not_make_sense() {
    let account_ = admitted(json!({}));
    let invalid = |over: Value| {
        let text = refused(login(&user_jwt(&account(), over), &account_, NOW));
        let text = text
            .strip_prefix("User JWT no longer valid: &{Issues:[")
            .unwrap();
        text.strip_suffix("]}").unwrap().to_owned()
    };
    let of = |nats: Value| invalid(json!({"nats": nats}));
    assert_eq!(invalid(json!({"exp": NOW - 1})), "claim is expired");
    assert_eq!(invalid(json!({"nbf": NOW + 1})), "claim is not yet valid");
    assert_eq!(
        invalid(json!({"exp": NOW - 1, "nbf": NOW + 1, "nats": {"src": ["xx"]}})),
        "claim is expired claim is not yet valid invalid cidr \"xx\" in user src limits"
    );
    assert_eq!(
        of(json!({"src": ["127.0.0.1"]})),
        "invalid cidr \"127.0.0.1\" in user src limits"
    );
    assert_eq!(
        of(json!({"times": [{"start": "1:2", "end": ""}]})),
        "start in time range is invalid \"1:2\" time ranges end must contain an end"
    );
    assert_eq!(
        of(json!({"times_location": "Mars/X"})),
        "could not parse iana time zone by name: unknown time zone Mars/X"
    );
    assert_eq!(
        of(json!({"issuer_account": "junk"})),
        "account_id is not an account public key"
    );
    assert_eq!(
        of(json!({"pub": {"allow": ["a..b", " ", "a q"]}, "sub": {"allow": ["a b c", "x q"]}})),
        "Permission Subject \"a b c\" contains too many spaces \
         subject \"a..b\" cannot contain consecutive `.` \
         Permission Subject \" \" is not allowed to contain queue \
         Permission Subject \"a q\" is not allowed to contain queue"
    );
    assert_eq!(
        of(json!({"pub": {"deny": ["", ".a"]}})),
        "subject cannot be empty subject \".a\" cannot start or end with a `.`"
    );
    // Both ends of the time belong to it.
    for over in [
        json!({"exp": NOW}),
        json!({"nbf": NOW}),
        json!({"exp": 0, "nbf": 0}),
    ] {
        assert!(login(&user_jwt(&account(), over), &account_, NOW).is_ok());
    }
}

#[test]
fn each_step_refuses_in_its_own_words() {
    let plain = admitted(json!({}));
    let jwt = user_jwt(&account(), json!({}));
    let text = |over: Value, account: &TrustedAccount| {
        refused(login(&user_jwt(&account_keys(), over), account, NOW))
    };
    fn account_keys() -> KeyPair {
        account()
    }

    // 1: no JWT, or something else.
    for jwt in [
        None,
        Some(""),
        Some("abc"),
        Some(account_jwt(json!({})).as_str()),
    ] {
        let refusal = Presented::read(jwt, Proxied::No, &trust(), clock(NOW)).unwrap_err();
        assert_eq!(refusal.to_string(), "Authentication requires a user JWT");
        let detail = refusal.detail();
        assert_eq!(detail.is_some(), jwt.is_some_and(|jwt| !jwt.is_empty()));
    }
    // 2
    let proxied = json!({"nats": {"proxy_required": true}});
    assert_eq!(text(proxied.clone(), &plain), "proxy connection required");
    let signature = signature();
    let behind_one = Peer {
        proxied: Proxied::Yes,
        ..peer(Some(&signature))
    };
    let proxied = user_jwt(&account(), proxied);
    assert!(login_as(&proxied, &plain, &behind_one, NOW).is_ok());
    // 4
    let other = key(KeyPairType::Account, 9).public_key();
    let pinned = trust().pinned_to([other.as_str()]);
    let refusal = Presented::read(Some(&jwt), Proxied::No, &pinned, clock(NOW)).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        format!(
            "Account {} not listed as operator pinned account",
            account().public_key()
        )
    );
    let pinned = trust().pinned_to([account().public_key().as_str()]);
    assert!(Presented::read(Some(&jwt), Proxied::No, &pinned, clock(NOW)).is_ok());
    // 5
    let failed = |lookup: Lookup| {
        let presented = Presented::read(Some(&jwt), Proxied::No, &trust(), clock(NOW)).unwrap();
        let refusal = presented.judge(Err(lookup), &peer(None), &trust(), clock(NOW));
        refusal.unwrap_err()
    };
    assert_eq!(
        failed(Lookup::Missing).to_string(),
        "Account JWT lookup error: account missing"
    );
    assert_eq!(
        failed(Lookup::Failed("fetching jwt timed out".into())).to_string(),
        "Account JWT lookup error: fetching jwt timed out"
    );
    let id = account().public_key();
    let expired = account_jwt(json!({"exp": NOW - 1}));
    let expired = TrustedAccount::admit(&expired, &id, &trust(), NOW).unwrap_err();
    let refusal = failed(Lookup::Refused(expired));
    assert_eq!(
        refusal.to_string(),
        "Account JWT lookup error: account validation failed"
    );
    assert_eq!(
        refusal.detail().unwrap(),
        "account validation failed: [claim is expired]"
    );
    // The account of somebody else is none.
    let another = key(KeyPairType::Account, 9);
    let another_jwt = mint(&operator(), account_claims(&another, json!({})));
    let another = TrustedAccount::admit(&another_jwt, &other, &trust(), NOW).unwrap();
    assert_eq!(
        refused(login(&jwt, &another, NOW)),
        "Account JWT lookup error: account missing"
    );
    // 6: trust was changed since the look-up.
    let presented = Presented::read(Some(&jwt), Proxied::No, &trust(), clock(NOW)).unwrap();
    let refusal = presented
        .judge(
            Ok(&plain),
            &peer(Some(&signature)),
            &Trust::default(),
            clock(NOW),
        )
        .unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "Account JWT not signed by trusted operator"
    );
    // 7
    let by_another = json!({"nats": {"issuer_account": account().public_key()}});
    let by_another = user_jwt(&key(KeyPairType::Account, 9), by_another);
    assert_eq!(
        refused(login(&by_another, &plain, NOW)),
        "User JWT issuer is not known"
    );
    let by_strict = mint(&operator_signing(), account_claims(&account(), json!({})));
    let by_strict = TrustedAccount::admit(&by_strict, &id, &strict(), NOW).unwrap();
    assert_eq!(
        refused(login(&jwt, &by_strict, NOW)),
        "User JWT issuer is not known"
    );
    let signed = user_jwt(
        &account_signing(),
        json!({"nats": {"issuer_account": id.as_str()}}),
    );
    assert!(login(&signed, &by_strict, NOW).is_ok());
    // 8
    let within = admitted(scope(json!({"pub": {"deny": ["d.{{tag(dept)}}"]}})));
    for over in [
        json!({"nats": {"subs": 1}}),
        json!({"nats": {"bearer_token": true}}),
        json!({"nats": {"src": ["10.0.0.0/8"]}}),
        json!({"nats": {"resp": {}}}),
    ] {
        assert_eq!(
            refused(login(&scoped_jwt(over), &within, NOW)),
            "User JWT is not valid: scoped users require no permissions or limits set"
        );
    }
    assert_eq!(
        refused(login(&scoped_jwt(json!({})), &within, NOW)),
        "User JWT generated invalid permissions"
    );
    // 9
    let short = admitted(json!({"exp": NOW + 5}));
    assert_eq!(short.expires(), Some(NOW + 5));
    assert!(login(&jwt, &short, NOW + 5).is_ok());
    assert_eq!(
        refused(login(&jwt, &short, NOW + 6)),
        "Account JWT has expired"
    );
    // 10
    let bearer = user_jwt(&account(), json!({"nats": {"bearer_token": true}}));
    let no_bearer = admitted(json!({"nats": {"limits": {"disallow_bearer": true}}}));
    assert_eq!(
        refused(login(&bearer, &no_bearer, NOW)),
        "Account does not allow bearer tokens"
    );
    assert!(login(&jwt, &no_bearer, NOW).is_ok());
    let session = login_as(&bearer, &plain, &peer(None), NOW).unwrap();
    assert!(session.is_bearer);
    // 11
    let types = |types: Value| json!({"nats": {"allowed_connection_types": types}});
    assert_eq!(
        text(types(json!(["FOO", "b"])), &plain),
        "invalid connection types [\"FOO\" \"B\"]"
    );
    assert_eq!(
        text(types(json!(["LEAFNODE"])), &plain),
        "Connection type not allowed"
    );
    let some = user_jwt(&account(), types(json!(["FOO", "standard"])));
    assert_eq!(login(&some, &plain, NOW).unwrap().unknown_types, ["FOO"]);
    // 12
    let with = |signature: Option<&str>| login_as(&jwt, &plain, &peer(signature), NOW);
    assert_eq!(refused(with(None)), "Signature missing");
    assert_eq!(refused(with(Some(""))), "Signature missing");
    assert_eq!(refused(with(Some("!!"))), "Signature not valid base64");
    let foreign = BASE64URL_NOPAD.encode(&account().sign(NONCE).unwrap());
    assert_eq!(refused(with(Some(&foreign))), "Signature not verified");
    let of_nothing = BASE64URL_NOPAD.encode(&user().sign(b"").unwrap());
    let no_nonce = Peer {
        nonce: b"",
        ..peer(Some(&of_nothing))
    };
    assert_eq!(
        refused(login_as(&jwt, &plain, &no_nonce, NOW)),
        "Signature not verified"
    );
    for subject in [json!("junk"), json!(account().public_key())] {
        for bearer in [false, true] {
            let over = json!({"sub": subject, "nats": {"bearer_token": bearer}});
            assert_eq!(
                text(over, &plain),
                "User nkey not valid: not a public user nkey"
            );
        }
    }
    // 13
    let revoked = |key: &str| admitted(json!({"nats": {"revocations": {key: 1000}}}));
    for key in [user().public_key().as_str(), "*"] {
        let account = revoked(key);
        assert_eq!(
            text(json!({"iat": 1000}), &account),
            "User authentication revoked"
        );
        assert!(
            login(
                &user_jwt(&account_keys(), json!({"iat": 1001})),
                &account,
                NOW
            )
            .is_ok()
        );
    }
    // 14
    let from = |src: Value| json!({"nats": {"src": src}});
    let refusal = login(
        &user_jwt(&account(), from(json!(["10.0.0.0/8"]))),
        &plain,
        NOW,
    );
    let refusal = refusal.unwrap_err();
    assert_eq!(refusal.to_string(), "Bad src Ip 127.0.0.1");
    assert!(refusal.is_error());
    let near = user_jwt(&account(), from(json!("10.0.0.0/8,127.0.0.9/24")));
    assert!(login(&near, &plain, NOW).is_ok());
    // 15: NOW is 22:13:20 in UTC and 07:13:20 in the far east.
    let at = |start: &str, end: &str, zone: &str| json!({"nats": {"times": [{"start": start, "end": end}], "times_location": zone}});
    let refusal = login(
        &user_jwt(&account(), at("08:00:00", "17:00:00", "")),
        &plain,
        NOW,
    );
    let refusal = refusal.unwrap_err();
    assert_eq!(refusal.to_string(), "Outside connect times");
    assert!(refusal.is_error());
    for (window, left) in [
        (at("22:00:00", "22:14:20", ""), 60),
        (at("07:00:00", "07:13:30", "Far/East"), 10),
        (at("22:00:00", "01:00:00", "UTC"), 2 * 3600 + 46 * 60 + 40),
    ] {
        let session = login(&user_jwt(&account(), window.clone()), &plain, NOW).unwrap();
        assert_eq!(session.expires, Some(NOW + left));
        let mut sooner = window;
        sooner["exp"] = json!(NOW + 5);
        let session = login(&user_jwt(&account(), sooner), &plain, NOW).unwrap();
        assert_eq!(session.expires, Some(NOW + 5));
    }
}

#[test]
fn a_look_up_that_takes_long_does_not_prolong_a_jwt() {
    let jwt = user_jwt(&account(), json!({"exp": NOW + 1}));
    let presented = Presented::read(Some(&jwt), Proxied::No, &trust(), clock(NOW)).unwrap();
    let signature = signature();
    let account_ = admitted(json!({}));
    let peer = peer(Some(&signature));
    let judged = presented.judge(Ok(&account_), &peer, &trust(), clock(NOW + 2));
    assert_eq!(
        refused(judged),
        "User JWT no longer valid: &{Issues:[claim is expired]}"
    );
}

#[test]
fn permissions_are_of_the_user_or_the_scope_or_the_account() {
    let defaults = json!({"nats": {"default_permissions": {"pub": {"allow": ["dp"]}}}});
    let account_ = admitted(defaults.clone());
    let allowed = |session: &Session| -> Vec<String> {
        session.permissions.as_ref().unwrap().publish.allow.clone()
    };
    let session = login(&user_jwt(&account(), json!({})), &account_, NOW).unwrap();
    assert_eq!(allowed(&session), ["dp"]);
    let own = user_jwt(&account(), json!({"nats": {"sub": {"deny": ["x"]}}}));
    let session = login(&own, &account_, NOW).unwrap();
    assert_eq!(allowed(&session), Vec::<String>::new());
    assert_eq!(session.permissions.unwrap().subscribe.deny, ["x"]);

    let mut within = scope(json!({
        "pub": {"allow": ["{{name()}}.{{account-name()}}.{{tag(t)}}"]}, "subs": 7,
        "allowed_connection_types": ["STANDARD"], "bearer_token": true,
    }));
    merge(&mut within, defaults);
    let account_ = admitted(within);
    let jwt = scoped_jwt(json!({"nats": {"tags": ["t:1", "t:2"]}}));
    let session = login_as(&jwt, &account_, &peer(None), NOW).unwrap();
    assert_eq!(allowed(&session), ["bob.acc.1", "bob.acc.2"]);
    // What a template does not limit is not limited.
    assert_eq!(
        (session.max_subscriptions, session.max_payload),
        (Some(7), None)
    );
    assert!(session.is_bearer);
    // One who got nothing may nothing, and never everything.
    let session = login_as(&scoped_jwt(json!({})), &account_, &peer(None), NOW).unwrap();
    let permissions = session.permissions.unwrap();
    assert_eq!(
        (permissions.publish.allow.len(), permissions.publish.deny),
        (0, vec![">".to_owned()])
    );
    // A scope that says nothing leaves the account's.
    let mut silent = scope(json!({}));
    merge(
        &mut silent,
        json!({"nats": {"default_permissions": {"pub": {"allow": ["dp"]}}}}),
    );
    let session = login(&scoped_jwt(json!({})), &admitted(silent), NOW).unwrap();
    assert_eq!(allowed(&session), ["dp"]);
}

#[test]
fn sessions_under_new_claims_of_their_account() {
    let old = admitted(scope(json!({"subs": 1})));
    let mut plain = login(&user_jwt(&account(), json!({"iat": 50})), &old, NOW).unwrap();
    let mut within = login(&scoped_jwt(json!({"iat": 50})), &old, NOW).unwrap();
    let bearer = user_jwt(&account(), json!({"nats": {"bearer_token": true}}));
    let mut bearer = login(&bearer, &old, NOW).unwrap();
    assert_eq!(
        (plain.renew(&old), within.renew(&old), bearer.renew(&old)),
        (Ok(()), Ok(()), Ok(()))
    );
    let revoked = |at: i64| {
        let mut over = scope(json!({"subs": 1}));
        merge(&mut over, json!({"nats": {"revocations": {"*": at}}}));
        admitted(over)
    };
    assert_eq!(plain.renew(&revoked(49)), Ok(()));
    assert_eq!(plain.renew(&revoked(50)), Err(Withdrawn::Revoked));
    assert_eq!(within.renew(&revoked(50)), Err(Withdrawn::Revoked));
    let no_bearer = admitted(json!({"nats": {"limits": {"disallow_bearer": true}}}));
    assert_eq!(bearer.renew(&no_bearer), Err(Withdrawn::Bearer));
    assert_eq!(plain.renew(&no_bearer), Ok(()));
    // Another scope, or none.
    assert_eq!(
        within.renew(&admitted(scope(json!({"subs": 2})))),
        Err(Withdrawn::Issuer)
    );
    assert_eq!(within.renew(&admitted(json!({}))), Err(Withdrawn::Issuer));
    // New defaults hold for who has nothing else.
    let defaults = json!({"nats": {"default_permissions": {"pub": {"deny": ["x"]}}}});
    plain.renew(&admitted(defaults)).unwrap();
    assert_eq!(plain.permissions.clone().unwrap().publish.deny, ["x"]);
    plain.renew(&old).unwrap();
    assert_eq!(plain.permissions, None);
    assert_eq!(
        Withdrawn::Revoked.peer_text(),
        Some("User Authentication Revoked")
    );
    assert_eq!(
        Withdrawn::Bearer.peer_text(),
        Some("Authorization Violation")
    );
    assert_eq!(Withdrawn::Issuer.peer_text(), None);
}

#[test]
fn accounts_are_admitted_by_trust() {
    let id = account().public_key();
    let claims = account_claims(&account(), json!({}));
    let admit = |by: &KeyPair, trust: &Trust| {
        let admitted = TrustedAccount::admit(&mint(by, claims.clone()), &id, trust, NOW);
        admitted.map(|account| account.key().to_owned())
    };
    assert_eq!(admit(&operator(), &trust()), Ok(id.clone()));
    assert_eq!(admit(&operator_signing(), &trust()), Ok(id.clone()));
    assert_eq!(admit(&operator_signing(), &strict()), Ok(id.clone()));
    let key_ = key(KeyPairType::Operator, 9);
    for (by, trust) in [
        (operator(), strict()),
        (key_, trust()),
        (account(), trust()),
        (operator(), Trust::default()),
    ] {
        let refusal = admit(&by, &trust).unwrap_err();
        assert_eq!(refusal, AccountRefusal::Untrusted(by.public_key()));
        assert!(
            refusal
                .to_string()
                .starts_with("account validation failed: issuer O")
                || refusal
                    .to_string()
                    .starts_with("account validation failed: issuer A")
        );
    }
    let by_keys = Trust::in_keys(&[operator().public_key()]).unwrap();
    assert_eq!(admit(&operator(), &by_keys), Ok(id.clone()));
    assert!(admit(&operator_signing(), &by_keys).is_err());

    let wrong = |jwt: &str| {
        let refusal = TrustedAccount::admit(jwt, &id, &trust(), NOW).unwrap_err();
        refusal.to_string()
    };
    let other = key(KeyPairType::Account, 9);
    assert_eq!(
        wrong(&mint(&operator(), account_claims(&other, json!({})))),
        format!(
            "account validation failed: it is the JWT of account {}",
            other.public_key()
        )
    );
    assert_eq!(
        wrong(&account_jwt(json!({"nbf": NOW + 1}))),
        "account validation failed: [claim is not yet valid]"
    );
    assert_eq!(wrong("x"), "account validation failed: expected 3 chunks");
}

#[test]
fn the_system_account_before_it_can_be_had() {
    let id = account().public_key();
    let account_ = TrustedAccount::bootstrap(&id).unwrap();
    assert!(login(&user_jwt(&account(), json!({})), &account_, NOW).is_ok());
    let by_another = json!({"nats": {"issuer_account": id}});
    let by_another = user_jwt(&account_signing(), by_another);
    assert_eq!(
        refused(login(&by_another, &account_, NOW)),
        "User JWT issuer is not known"
    );
    assert!(TrustedAccount::bootstrap(&user().public_key()).is_none());
    assert!(account_.is_trusted(&strict()));
}

/// Texts of nats-server 2.15.1, where it has them.
#[test]
fn operators_that_cannot_be_trusted() {
    let of = |nats: Value| {
        let operator = decode::<Operator>(&operator_jwt(nats)).unwrap();
        Trust::in_operators([&operator], VERSION).map(|_| ())
    };
    let o = operator().public_key();
    for version in ["", "2.10.3", "2.9.99", "1.99.99"] {
        assert_eq!(of(json!({"assert_server_version": version})), Ok(()));
    }
    for (nats, wanted) in [
        (
            json!({"assert_server_version": "99.0.0"}),
            format!("operator {o} expected major version 99 > server major version 2"),
        ),
        (
            json!({"assert_server_version": "2.11.0"}),
            format!("operator {o} expected minor version 11 > server minor version 10"),
        ),
        (
            json!({"assert_server_version": "2.10.4"}),
            format!("operator {o} expected update version 4 > server update version 3"),
        ),
        (
            json!({"assert_server_version": "x"}),
            format!(
                "operator {o} expects version x got error instead: asserted server version must be of the form <major>.<minor>.<update>"
            ),
        ),
        (
            json!({"signing_keys": ["junk"]}),
            "trusted Keys \"junk\" are required to be a valid public operator nkey".to_owned(),
        ),
    ] {
        assert_eq!(of(nats), Err(wanted));
    }
    let account = account().public_key();
    let error = Trust::in_keys(std::slice::from_ref(&account)).unwrap_err();
    assert!(error.contains(&account));
}

#[test]
fn operators_that_are_odd() {
    let warning = |jwt: &str| decode::<Operator>(jwt).unwrap().warning(NOW);
    assert_eq!(warning(&operator_jwt(json!({}))), None);
    let nats = json!({"type": "operator", "version": 2});
    let o = operator_signing().public_key();
    for (claims, part) in [
        (
            json!({"sub": o, "nats": nats}),
            "is not signed by its own key",
        ),
        (
            json!({"sub": o, "exp": 5, "nats": nats}),
            ": claim is expired",
        ),
        (
            json!({"sub": operator().public_key(),
                   "nats": {"type": "operator", "version": 2, "strict_signing_key_usage": true}}),
            "no signing_keys",
        ),
    ] {
        let warning = warning(&mint(&operator(), claims)).unwrap();
        assert!(warning.contains(part), "{warning}");
    }
}

/// Descriptions of nats-server 2.15.1.
#[test]
fn updates() {
    let update = |jwt: &str| {
        check_update(jwt, None, &trust())
            .map(|claims| claims.standard.subject)
            .map_err(|refusal| refusal.to_string())
    };
    let id = account().public_key();
    assert_eq!(update(&account_jwt(json!({}))), Ok(id.clone()));
    // Time is not looked at.
    assert_eq!(update(&account_jwt(json!({"exp": 5}))), Ok(id.clone()));
    assert_eq!(
        update(&account_jwt(json!({"nbf": NOW * 9}))),
        Ok(id.clone())
    );

    let refuse = |jwt: &str, id: Option<&str>, trust: &Trust| {
        check_update(jwt, id, trust).map(|_| ()).unwrap_err()
    };
    let none = refuse("abc", None, &trust());
    assert_eq!(
        (none.to_string().as_str(), none.account()),
        ("expected 3 chunks", None)
    );
    let jwt = account_jwt(json!({}));
    let other = refuse(&jwt, Some("A"), &trust());
    assert_eq!(other.to_string(), "subject does not match jwt content");
    assert_eq!(
        (other.account(), other.is_validation()),
        (Some(id.as_str()), false)
    );
    assert_eq!(
        refuse(&jwt, Some(&id), &strict()).to_string(),
        "operator requires issuer to be a signing key"
    );
    assert_eq!(
        refuse(&jwt, None, &Trust::default()).to_string(),
        "issuer is not a trusted operator"
    );

    let invalid = |nats: Value| {
        let refusal = refuse(&account_jwt(json!({"nats": nats})), None, &trust());
        assert!(refusal.is_validation());
        let text = refusal.to_string();
        match text.strip_prefix("validation errors: [") {
            Some(text) => text.strip_suffix(']').unwrap().to_owned(),
            None => text,
        }
    };
    let valid = |nats: Value| {
        let updated = update(&account_jwt(json!({"nats": nats.clone()})));
        assert_eq!(updated, Ok(id.clone()), "{nats}");
    };
    let limits = json!({"imports": 0, "exports": 0, "wildcards": false});
    let export = json!({"name": "e", "subject": "a.*", "type": "stream"});
    let import = json!({"name": "i", "subject": "z", "account": id, "type": "stream"});
    assert_eq!(
        invalid(json!({"limits": limits, "exports": [export], "imports": [import]})),
        "the account contains more imports than allowed by the operator \
         the account contains more exports than allowed by the operator \
         the account contains wildcard exports that are not allowed by the operator"
    );
    assert_eq!(
        invalid(json!({"signing_keys": ["junk"]})),
        "\"junk\" is not a valid account signing key"
    );
    assert_eq!(
        invalid(json!({"signing_keys": [{"kind": "user_scope", "key": "x"}]})),
        "x is not an account public key"
    );
    assert_eq!(
        invalid(
            json!({"default_permissions": {"pub": {"allow": ["a b", "a..b"]},
                       "sub": {"allow": ["q w e"], "deny": [".x"]}}})
        ),
        "Permission Subject \"q w e\" contains too many spaces \
         subject \".x\" cannot start or end with a `.` \
         Permission Subject \"a b\" is not allowed to contain queue \
         subject \"a..b\" cannot contain consecutive `.`"
    );
    let to = |subject: &str, weight: u8, cluster: &str| json!({"subject": subject, "weight": weight, "cluster": cluster});
    for (mappings, wanted) in [
        (
            json!({"a": [to("b", 60, ""), to("c", 60, "")]}),
            "Mapping \"a\" exceeds 100% among all of it's weighted to mappings",
        ),
        (
            json!({"a": [to("b", 0, ""), to("c", 1, "")]}),
            "Mapping \"a\" exceeds 100% among all of it's weighted to mappings",
        ),
        (
            json!({"a": [to("b", 60, "k"), to("c", 60, "k"), to("d", 90, "l")]}),
            "Mapping \"a\" in cluster \"k\" exceeds 100% among all of it's weighted to mappings",
        ),
        (
            json!({"x..y": [to("", 10, "")]}),
            "subject \"x..y\" cannot contain consecutive `.` subject cannot be empty",
        ),
        (
            json!({"a.*": [to("b.$2", 0, "")]}),
            "mapping \"a.*\" -> \"b.$2\": invalid mapping destination: wildcard index out of range in $2: [2]",
        ),
    ] {
        assert_eq!(invalid(json!({"mappings": mappings})), wanted);
    }
    valid(json!({"mappings": {"a": [], "b.*": [to("c.$1", 60, "k"), to("d", 60, "")]}}));

    let exports = |exports: &[Value]| {
        let full = exports.iter().map(|over| {
            let mut export = json!({"name": "e", "type": "service", "subject": "a.*"});
            merge(&mut export, over.clone());
            export
        });
        json!({"exports": full.collect::<Vec<_>>()})
    };
    for (entries, wanted) in [
        (
            vec![json!({}), json!({"subject": "a.b"})],
            "service export subject \"a.*\" already exports \"a.b\"",
        ),
        (
            vec![json!({"type": "stream"}), json!({"type": "stream"})],
            "stream export subject \"a.*\" already exports \"a.*\"",
        ),
        (
            vec![json!({"response_type": "singleton"})],
            "invalid response type for service: \"singleton\"",
        ),
        (
            vec![json!({"type": "stream", "response_type": "Stream"})],
            "invalid response type for stream: \"Stream\"",
        ),
        (
            vec![json!({"type": "stream", "allow_trace": true})],
            "AllowTrace only valid for service export",
        ),
        (
            vec![json!({"service_latency": {"sampling": 300, "results": "a.*"}})],
            "sampling percentage needs to be between 1-100 results subject can not contain wildcards",
        ),
        (
            vec![json!({"type": "stream", "service_latency": {"sampling": "headers"}})],
            "latency tracking only permitted for services subject cannot be empty",
        ),
        (
            vec![json!({"response_threshold": -1})],
            "negative response threshold is invalid",
        ),
        (
            vec![json!({"type": "stream", "response_threshold": 5})],
            "response threshold only valid for services",
        ),
        (vec![json!({"subject": ""})], "subject cannot be empty"),
        (
            vec![json!({"subject": "a b"})],
            "subject \"a b\" cannot have spaces",
        ),
        (
            vec![json!({"account_token_position": 1})],
            "Account Token Position 1 matches 'a' but must match a * in: a.*",
        ),
        (
            vec![json!({"account_token_position": 3})],
            "Account Token Position 3 exceeds length of subject 'a.*'",
        ),
        (
            vec![json!({"subject": "a", "account_token_position": 1})],
            "Account Token Position can only be used with wildcard subjects: a",
        ),
        (
            vec![json!({"subject": "a.>", "account_token_position": 2})],
            "Account Token Position 2 matches '>' but must match a * in: a.>",
        ),
    ] {
        assert_eq!(invalid(exports(&entries)), wanted);
    }
    valid(exports(&[
        json!({}),
        json!({"type": "stream"}),
        json!({"subject": "b"}),
    ]));
    valid(exports(&[
        json!({"token_req": true, "account_token_position": 2,
                           "service_latency": {"sampling": 0, "results": "x"}}),
    ]));

    let imports = |imports: &[Value]| {
        let full = imports.iter().map(|over| {
            let mut import =
                json!({"name": "i", "type": "service", "subject": "a.b", "account": "S"});
            merge(&mut import, over.clone());
            import
        });
        json!({"imports": full.collect::<Vec<_>>()})
    };
    for (entries, wanted) in [
        (
            vec![json!({}), json!({"subject": "a.*"})],
            "overlapping subject namespace for \"a.*\" and \"a.b\" in same account \"S\"",
        ),
        (
            vec![json!({"to": "x", "local_subject": "y.z", "subject": "y.z"})],
            "Local Subject replaces To",
        ),
        (
            vec![json!({"account": ""})],
            "account to import from is not specified",
        ),
        (
            vec![json!({"type": "stream", "share": true})],
            "sharing information (for latency tracking) is only valid for services: \"a.b\"",
        ),
        (
            vec![json!({"allow_trace": true})],
            "AllowTrace only valid for stream import",
        ),
        (vec![json!({"subject": ""})], "subject cannot be empty"),
        (
            vec![json!({"subject": "a.*", "local_subject": "b.$2"})],
            "Reference $2 in \"b.$2\" reference * in \"a.*\" that do not exist \
             subject does not contain enough * or reference wildcards $[0-9]",
        ),
        (
            vec![json!({"subject": "a.*", "local_subject": "b.$1.$1"})],
            "subject does not contain enough * or reference wildcards $[0-9]",
        ),
        (
            vec![json!({"token": "junk"})],
            "import \"a.b\" contains an invalid activation token",
        ),
    ] {
        assert_eq!(invalid(imports(&entries)), wanted);
    }
    valid(imports(&[
        json!({"type": "stream"}),
        json!({"type": "stream", "subject": "a.*"}),
    ]));
    valid(imports(&[
        json!({"subject": "a.*", "local_subject": "b.*"}),
        json!({"to": "x"}),
    ]));
    valid(imports(&[
        json!({"subject": "a.*", "local_subject": "b.$1"}),
        json!({"account": "T"}),
    ]));

    assert_eq!(
        invalid(json!({"trace": {"dest": "a.*", "sampling": 200}})),
        "the account Trace.Destination subject \"a.*\" is not a valid publish subject \
         the account Trace.Sampling value '200' is not valid, should be in the range [1..100]"
    );
    assert_eq!(
        invalid(json!({"authorization": {"auth_users": ["x"], "allowed_accounts": ["y", "*"]}})),
        "AuthUser \"x\" is not a valid user public key Account \"y\" is not a valid account public key"
    );
    let about_a_user = mint(&operator(), account_claims(&user(), json!({})));
    assert_eq!(
        refuse(&about_a_user, None, &trust()).to_string(),
        "validation errors: [invalid public key]"
    );
}

#[test]
fn what_an_account_asks_for_and_does_not_get() {
    assert!(admitted(json!({})).claims().body.unserved().is_empty());
    let asking = admitted(json!({"nats": {
        "authorization": {"auth_users": [user().public_key()]},
        "trace": {"dest": "t"}, "cluster_traffic": "owner",
    }}));
    assert_eq!(asking.claims().body.unserved(), ["authorization", "trace"]);
}

/// Descriptions of nats-server 2.15.1.
#[test]
fn deletions() {
    let id = account().public_key();
    let system = key(KeyPairType::Account, 9).public_key();
    let request = |by: &KeyPair, over: Value| {
        let mut claims = json!({"sub": by.public_key(),
                                "nats": {"accounts": [id], "type": "generic", "version": 2}});
        merge(&mut claims, over);
        mint(by, claims)
    };
    let check = |jwt: &str, trust: &Trust| {
        check_deletion(jwt, trust, &system, NOW).map_err(|refusal| refusal.to_string())
    };
    for by in [operator(), operator_signing()] {
        assert_eq!(
            check(&request(&by, json!({})), &trust()),
            Ok(vec![id.clone()])
        );
    }
    let nobody = request(&operator(), json!({"nats": {"accounts": []}}));
    assert_eq!(check(&nobody, &trust()), Ok(vec![]));
    let stranger = key(KeyPairType::Operator, 9);
    for (jwt, by, reason) in [
        ("abc".to_owned(), String::new(), "expected 3 chunks"),
        (
            request(&stranger, json!({})),
            stranger.public_key(),
            "not trusted",
        ),
        (
            request(&account(), json!({})),
            account().public_key(),
            "not trusted",
        ),
        (
            request(&operator(), json!({"sub": operator_signing().public_key()})),
            operator_signing().public_key(),
            "not self signed",
        ),
        (
            request(&operator(), json!({"nats": {"accounts": "x"}})),
            operator().public_key(),
            "malformed request",
        ),
        (
            request(&operator(), json!({"nats": {"accounts": null}})),
            operator().public_key(),
            "malformed request",
        ),
        (
            request(&operator(), json!({"nats": {"accounts": [id, "junk"]}})),
            operator().public_key(),
            "malformed request",
        ),
        (
            request(&operator(), json!({"nats": {"accounts": [id, system]}})),
            operator().public_key(),
            "not allowed to delete system account",
        ),
        (
            request(&operator(), json!({"exp": NOW - 1})),
            operator().public_key(),
            "claim is expired",
        ),
    ] {
        let wanted = format!("delete accounts request by {by} failed - {reason}");
        assert_eq!(check(&jwt, &trust()), Err(wanted));
    }
    assert!(check(&request(&operator(), json!({})), &strict()).is_err());
}

/// An account that exports, and what another makes of it: the model, checked as that of a file is.
fn shared(exports: Value, import: impl FnOnce(&KeyPair, &KeyPair) -> Value) -> sharing::Accounts {
    let (exporter, importer) = (account(), key(KeyPairType::Account, 9));
    let mut import_ = json!({"name": "i", "account": exporter.public_key(), "type": "service"});
    merge(&mut import_, import(&exporter, &importer));
    let one = account_claims(&exporter, json!({"nats": {"exports": exports}}));
    let two = account_claims(&importer, json!({"nats": {"imports": [import_]}}));
    let admit = |claims: Value, of: &KeyPair| {
        TrustedAccount::admit(&mint(&operator(), claims), &of.public_key(), &trust(), NOW).unwrap()
    };
    let (one, two) = (admit(one, &exporter), admit(two, &importer));
    let out = accounts([&one, &two], NOW);
    assert_eq!(out.accounts.len(), 2);
    assert_eq!(out.accounts[0].name, exporter.public_key());
    out
}

fn activation(by: &KeyPair, to: &KeyPair, over: Value) -> String {
    let mut claims = json!({"sub": to.public_key(), "nats": {
        "type": "activation", "version": 2, "subject": "pv.*", "kind": "service"}});
    merge(&mut claims, over);
    mint(by, claims)
}

#[test]
fn activations() {
    let exports = json!([{"name": "p", "subject": "pv.*", "type": "service", "token_req": true}]);
    let importer = key(KeyPairType::Account, 9).public_key();
    let outcome = |exports: &Value, token: &dyn Fn(&KeyPair, &KeyPair) -> Option<String>| {
        let out = shared(
            exports.clone(),
            |exporter, importer| json!({"subject": "pv.a", "token": token(exporter, importer)}),
        );
        // What is left fits together.
        assert_eq!(account::check(&out.accounts, Some("S")), []);
        let model::Export::Service(export) = &out.accounts[0].exports[0] else {
            panic!("no service");
        };
        match out.problems.as_slice() {
            [] => {
                assert_eq!(export.audience, Audience::Accounts(vec![importer.clone()]));
                assert_eq!(out.accounts[1].imports.len(), 1);
                Ok(out.until)
            }
            [problem] => {
                assert_eq!(export.audience, Audience::Accounts(vec![]));
                assert!(out.accounts[1].imports.is_empty());
                let start = format!(
                    "account JWT {importer}: Error adding service import \"pv.a\": service import not authorized: "
                );
                Err(problem.to_string().strip_prefix(&start).unwrap().to_owned())
            }
            more => panic!("{more:?}"),
        }
    };
    let signed_for = json!({"nats": {"issuer_account": account().public_key()}});
    let good: [(Value, KeyPair); 4] = [
        (json!({}), account()),
        (json!({"nats": {"subject": "pv.a"}}), account()),
        (json!({"exp": NOW}), account()),
        (signed_for.clone(), account_signing()),
    ];
    for (over, by) in &good {
        let until = over.get("exp").and_then(Value::as_i64);
        let token = |_: &KeyPair, to: &KeyPair| Some(activation(by, to, over.clone()));
        assert_eq!(outcome(&exports, &token), Ok(until), "{over}");
    }
    let refused = |over: Value, by: KeyPair, wanted: &str| {
        let token = |_: &KeyPair, to: &KeyPair| Some(activation(&by, to, over.clone()));
        assert_eq!(outcome(&exports, &token), Err(wanted.to_owned()), "{over}");
    };
    assert_eq!(
        outcome(&exports, &|_, _| None),
        Err("it needs an activation token".into())
    );
    refused(
        json!({"exp": NOW - 1}),
        account(),
        "the activation token is not valid: [claim is expired]",
    );
    refused(
        json!({"nbf": NOW + 1}),
        account(),
        "the activation token is not valid: [claim is not yet valid]",
    );
    // Whoever may say that it signs for the account.
    refused(
        signed_for.clone(),
        key(KeyPairType::Account, 8),
        "the activation token is not signed by the account that exports",
    );
    refused(
        json!({"nats": {"issuer_account": key(KeyPairType::Account, 8).public_key()}}),
        account(),
        "the activation token is not signed by the account that exports",
    );
    // Revoked, for this account or for all; not if it was issued later.
    for (of, at, wanted) in [
        (importer.as_str(), 1000, false),
        ("*", 1000, false),
        ("*", 999, true),
        ("A", 1000, true),
    ] {
        let mut exports = exports.clone();
        exports[0]["revocations"] = json!({of: at});
        let token = |by: &KeyPair, to: &KeyPair| Some(activation(by, to, json!({})));
        assert_eq!(outcome(&exports, &token).is_ok(), wanted, "{of} {at}");
    }
    // What never fits makes the importing account one that cannot be used.
    for (over, wanted) in [
        (
            json!({"sub": account().public_key()}),
            "activation token doesn't match account it is being included in, \"pv.a\"",
        ),
        (
            json!({"nats": {"kind": "stream"}}),
            "mismatch between token import type stream and type of import service",
        ),
        (
            json!({"nats": {"subject": "pv.b"}}),
            "activation token import subject \"pv.b\" doesn't match import \"pv.a\"",
        ),
    ] {
        let to = key(KeyPairType::Account, 9);
        let token = activation(&account(), &to, over);
        let import = json!({"subject": "pv.a", "token": token, "type": "service",
                            "account": account().public_key()});
        let claims = account_claims(&to, json!({"nats": {"imports": [import]}}));
        let claims = decode::<Account>(&mint(&operator(), claims)).unwrap();
        let issues = claims.check(NOW);
        let texts: Vec<String> = issues.iter().map(ToString::to_string).collect();
        assert_eq!(texts.first().map_or("", String::as_str), wanted);
    }
}

/// One activation does not open what another import of the same account asks for.
#[test]
fn an_activation_is_for_its_subject_only() {
    let (exporter, importer) = (account(), key(KeyPairType::Account, 9));
    let exports = json!([{"name": "p", "subject": "pv.*", "type": "service", "token_req": true}]);
    let token = activation(&exporter, &importer, json!({"nats": {"subject": "pv.a"}}));
    let import = |subject: &str, token: &str| json!({"subject": subject, "type": "service", "account": exporter.public_key(), "token": token});
    let imports = json!([import("pv.a", &token), import("pv.b", "")]);
    let one = account_claims(&exporter, json!({"nats": {"exports": exports}}));
    let two = account_claims(&importer, json!({"nats": {"imports": imports}}));
    let admit = |claims: Value, of: &KeyPair| {
        TrustedAccount::admit(&mint(&operator(), claims), &of.public_key(), &trust(), NOW).unwrap()
    };
    let (one, two) = (admit(one, &exporter), admit(two, &importer));
    let out = accounts([&one, &two], NOW);
    let [ModelImport::Service(kept)] = out.accounts[1].imports.as_slice() else {
        panic!("{:?}", out.accounts[1].imports);
    };
    assert_eq!(kept.subject, "pv.a");
    assert_eq!(out.problems.len(), 1);
}

/// As nats-server 2.15.1 says in its debug lines (`Adding service import ...`).
#[test]
fn names_of_imports() {
    for (import, subject, to) in [
        (json!({"subject": "a"}), "a", None),
        (
            json!({"subject": "local.x", "to": "sv.x"}),
            "sv.x",
            Some("local.x"),
        ),
        (
            json!({"subject": "sv.x", "local_subject": "local.x"}),
            "sv.x",
            Some("local.x"),
        ),
        (json!({"subject": "st.a", "type": "stream"}), "st.a", None),
        (
            json!({"subject": "st.a", "to": "pre", "type": "stream"}),
            "st.a",
            Some("pre.st.a"),
        ),
        (
            json!({"subject": "st.*", "to": "pre.", "type": "stream"}),
            "st.*",
            Some("pre.st.*"),
        ),
        (
            json!({"subject": "st.*", "local_subject": "my.$1", "type": "stream"}),
            "st.*",
            Some("my.$1"),
        ),
    ] {
        let exports =
            json!([{"subject": ">", "type": "service"}, {"subject": ">", "type": "stream"}]);
        let out = shared(exports, |_, _| import.clone());
        assert_eq!(account::check(&out.accounts, Some("S")), []);
        let (exported, local) = match &out.accounts[1].imports[0] {
            ModelImport::Service(service) => (&service.subject, &service.to),
            ModelImport::Stream(stream) => (&stream.subject, &stream.to),
        };
        assert_eq!(
            (exported.as_str(), local.as_deref()),
            (subject, to),
            "{import}"
        );
    }
}

#[test]
fn exports_limits_and_mappings() {
    let exports = json!([
        {"subject": "s", "type": "service", "response_type": "Chunked", "response_threshold": 5000,
         "allow_trace": true},
        {"subject": "l.*", "type": "service", "account_token_position": 2,
         "service_latency": {"sampling": 25, "results": "lat"}},
        {"subject": "h", "type": "service", "service_latency": {"sampling": "Headers", "results": "lat"}},
        {"subject": "m", "type": "service", "response_type": "Stream",
         "service_latency": {"sampling": 1, "results": "lat"}},
        {"subject": "t", "type": "stream"},
    ]);
    let jwt = account_jwt(json!({"nats": {
        "exports": exports,
        "limits": {"conn": 4, "leaf": 0, "subs": 7, "payload": -1},
        "mappings": {
            "a.>": [{"subject": "w.>"}],
            "a.*": [{"subject": "b.$2"}],
            "a.b": [{"subject": "x", "weight": 30}, {"subject": "y", "weight": 20, "cluster": "k"}],
            "*.b": [{"subject": "z.$1"}],
            "e": [],
        },
    }}));
    let id = account().public_key();
    let account_ = TrustedAccount::admit(&jwt, &id, &trust(), NOW).unwrap();
    let out = accounts([&account_], NOW);
    assert_eq!(account::check(&out.accounts, Some("S")), []);
    let [converted] = out.accounts.as_slice() else {
        panic!("not one");
    };
    let limits = &converted.limits;
    assert_eq!(
        (limits.max_connections, limits.max_leafnodes),
        (Some(4), Some(0))
    );
    assert_eq!(
        (limits.max_subscriptions, limits.max_payload),
        (Some(7), None)
    );
    let services: Vec<&model::ServiceExport> = converted
        .exports
        .iter()
        .filter_map(|export| match export {
            model::Export::Service(service) => Some(service),
            model::Export::Stream(_) => None,
        })
        .collect();
    assert_eq!(services.len(), 4);
    assert_eq!(services[0].response, model::ResponseType::Chunked);
    assert_eq!(services[0].threshold.as_nanos(), 5000);
    assert!(services[0].allow_trace);
    assert_eq!(services[1].audience, Audience::Token(2));
    assert_eq!(services[1].threshold.as_secs(), 120);
    let sampling = |at: usize| {
        services[at]
            .latency
            .as_ref()
            .map(|latency| latency.sampling)
    };
    assert_eq!(sampling(1), Some(Sampling::Percent(25)));
    assert_eq!(sampling(2), Some(Sampling::Headers));
    assert_eq!(sampling(3), None);
    // The narrower first; what cannot be carried out is told and left out.
    let sources: Vec<&str> = converted
        .mappings
        .iter()
        .map(|m| m.source.as_str())
        .collect();
    assert_eq!(sources, ["a.b", "a.>", "*.b"]);
    assert_eq!(converted.mappings[0].destinations[0].weight, 30);
    assert_eq!(
        converted.mappings[0].destinations[1].cluster.as_deref(),
        Some("k")
    );
    assert_eq!(converted.mappings[1].destinations[0].weight, 100);
    let [problem] = out.problems.as_slice() else {
        panic!("{:?}", out.problems);
    };
    assert!(
        problem
            .text
            .starts_with("Error adding subject mapping \"a.*\": ")
    );
}

#[test]
fn what_a_peer_chose_does_not_fill_the_log() {
    let long = "x".repeat(10_000);
    let header = json!({"typ": long, "alg": "ed25519"});
    let jwt = with_header(&account(), &header, json!({}));
    assert!(decode::<User>(&jwt).unwrap_err().to_string().len() < 200);
    let entries = vec!["a..b"; 1000];
    let jwt = user_jwt(&account(), json!({"nats": {"pub": {"allow": entries}}}));
    let text = refused(login(&jwt, &admitted(json!({})), NOW));
    assert!(text.len() < 2000 && text.contains(" ...]"), "{text}");
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z.*> ${}/:,0-9]{0,9}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        let names = "(allow|deny|start|end|subject|key|kind|type|weight|max|ttl|\\*|a)";
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map(names, inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_text_is_decoded_or_not(text in ".{0,60}", parts in "[A-Za-z0-9_-]{0,20}(\\.[A-Za-z0-9_-]{0,20}){2}") {
        for text in [text, parts] {
            prop_assert!(decode::<User>(&text).is_err());
            prop_assert!(decode::<Account>(&text).is_err());
            prop_assert!(decode::<Generic>(&text).is_err());
        }
    }

    /// A JWT of which a byte was changed is none.
    #[test]
    fn a_changed_jwt_is_none(at: prop::sample::Index, to in "[A-Za-z0-9_.-]") {
        let jwt = user_jwt(&account(), json!({}));
        let at = at.index(jwt.len());
        let mut changed = jwt.clone();
        changed.replace_range(at..=at, &to);
        if changed != jwt {
            prop_assert!(decode::<User>(&changed).is_err());
        }
    }

    /// What was minted is read, whatever names and times it has.
    #[test]
    fn what_was_minted_is_read(name in ".{0,20}", exp in 0i64.., iat: i64, subs: i64, tags in prop::collection::vec(".{0,9}", 0..4)) {
        let jwt = user_jwt(&account(), json!({"name": name, "exp": exp, "iat": iat,
                                               "nats": {"subs": subs, "tags": tags}}));
        let claims = decode::<User>(&jwt).unwrap();
        prop_assert_eq!(claims.standard.name, name);
        prop_assert_eq!(claims.standard.issued_at, iat);
        prop_assert_eq!(claims.standard.expires.unwrap_or(0), exp);
        prop_assert_eq!(claims.standard.tags, tags);
        prop_assert_eq!(claims.body.grant.subs, subs);
    }

    /// Claims of any shape, signed as they should be, go through all there is.
    #[test]
    fn claims_of_any_shape(
        field in "(pub|sub|resp|src|times|times_location|subs|allowed_connection_types|issuer_account|tags|\
                  imports|exports|limits|signing_keys|revocations|default_permissions|mappings|authorization|trace)",
        value in any_json(),
        name in ".{0,5}",
        now: i64,
    ) {
        let over = json!({"nats": {field.as_str(): value}, "name": name});
        let id = account().public_key();
        let account_ = TrustedAccount::admit(&account_jwt(over.clone()), &id, &trust(), now);
        let account_ = account_.unwrap_or_else(|_| admitted(scope(over["nats"].clone())));
        let out = accounts([&account_], now);
        prop_assert!(account::check(&out.accounts, Some("S")).len() <= 1000);
        if let Ok(session) = login(&user_jwt(&account(), over.clone()), &account_, now) {
            prop_assert_eq!(&*session.account, id.as_str());
            let permissions = session.permissions.unwrap_or_else(Permissions::default);
            let _ = crate::account::perms::Perms::compile(&permissions);
        }
        let _ = login(&scoped_jwt(json!({"name": name})), &account_, now);
        let _ = check_update(&account_jwt(over), None, &trust());
    }
}
