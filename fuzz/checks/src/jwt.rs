//! JWTs. A file is read in two ways: as a JWT, and as lines of JSON: the claims of two accounts, of a
//! user and of a request to delete accounts. What is missing is empty.
//!
//! The claims are signed by who would sign them, so that they get past the signature. In their text
//! `OPERATOR`, `ACCOUNT`, `OTHER`, `SIGNING`, `SCOPED` and `USER` stand for public keys. A user with an
//! `issuer_account` is signed by the key `SIGNING`, with a name that begins with `s` by `SCOPED`. In the
//! second account an import's `token` that is an object is the claims of an activation by the first.

use data_encoding::BASE64URL_NOPAD;
use nkeys::{KeyPair, KeyPairType};
use petiole_core::account;
use petiole_core::account::perms::Perms;
use petiole_core::auth::jwt::{
    Account, Activation, Clock, Generic, Kind, Operator, Peer, Presented, Proxied, Refusal,
    Session, Trust, TrustedAccount, User, Zone, Zones, check_deletion, check_update, decode,
    sharing,
};
use petiole_core::config::model::ConnectionType;
use serde_json::{Map, Value};

const NOW: i64 = 1_700_000_000;
const NONCE: &[u8] = b"nonce";

pub(crate) fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    as_it_is::<Operator>(text);
    as_it_is::<Account>(text);
    as_it_is::<User>(text);
    as_it_is::<Activation>(text);
    as_it_is::<Generic>(text);
    Keys::new().judge(text);
}

/// What is decoded is decoded again, and only because somebody signed it.
fn as_it_is<T: Kind + PartialEq + std::fmt::Debug>(text: &str) {
    let decoded = decode::<T>(text);
    assert_eq!(decode::<T>(text), decoded);
    match decoded {
        Ok(claims) => assert!(KeyPair::from_public_key(&claims.standard.issuer).is_ok()),
        Err(error) => line(&error.to_string()),
    }
}

/// What goes into the log is one line, of a length that does not fill it.
fn line(text: &str) {
    assert!(!text.is_empty() && !text.contains(['\n', '\r']), "{text:?}");
}

/// The hour of the day is that of UTC; names of zones that are short are zones.
struct Fixed;

impl Zones for Fixed {
    fn offset(&self, zone: Zone<'_>, _: i64) -> Option<i32> {
        match zone {
            Zone::Local => Some(0),
            Zone::Named(name) => (name.len() < 4).then_some(-12_600),
        }
    }
}

const CLOCK: Clock<'static> = Clock {
    now: NOW,
    zones: &Fixed,
};

struct Keys {
    operator: KeyPair,
    account: KeyPair,
    other: KeyPair,
    signing: KeyPair,
    scoped: KeyPair,
    user: KeyPair,
}

impl Keys {
    fn new() -> Keys {
        let key = |kind, number| {
            KeyPair::new_from_raw(kind, [number; 32]).expect("any 32 bytes are a key")
        };
        Keys {
            operator: key(KeyPairType::Operator, 1),
            account: key(KeyPairType::Account, 2),
            other: key(KeyPairType::Account, 3),
            signing: key(KeyPairType::Account, 4),
            scoped: key(KeyPairType::Account, 5),
            user: key(KeyPairType::User, 6),
        }
    }

    fn judge(&self, text: &str) {
        let mut text = text.to_owned();
        for (name, key) in [
            ("OPERATOR", &self.operator),
            ("ACCOUNT", &self.account),
            ("OTHER", &self.other),
            ("SIGNING", &self.signing),
            ("SCOPED", &self.scoped),
            ("USER", &self.user),
        ] {
            text = text.replace(name, &key.public_key());
        }
        let mut lines = text.lines().map(object);
        let mut next = || lines.next().unwrap_or_default();
        let (first, second, user, request) = (next(), next(), next(), next());
        let second = self.with_activations(second);

        let trust = Trust::in_keys(&[self.operator.public_key()]).expect("an operator's key");
        let mut admitted = Vec::new();
        for (claims, key) in [(first, &self.account), (second, &self.other)] {
            let jwt = mint(&self.operator, &key.public_key(), "account", claims);
            let account = TrustedAccount::admit(&jwt, &key.public_key(), &trust, NOW);
            match check_update(&jwt, None, &trust) {
                // What may be stored may be used, in its time.
                Ok(claims) => {
                    let standard = &claims.standard;
                    let in_time = standard.expires.is_none_or(|last| last >= NOW)
                        && standard.not_before.is_none_or(|first| first <= NOW)
                        && standard.subject == key.public_key();
                    assert_eq!(account.is_ok(), in_time);
                }
                Err(refusal) => line(&refusal.to_string()),
            }
            match account {
                Ok(account) => admitted.push(account),
                Err(refusal) => line(&refusal.to_string()),
            }
        }
        share(&admitted);
        for account in &admitted {
            self.login(account, user.clone(), &trust);
        }
        let jwt = mint(
            &self.operator,
            &self.operator.public_key(),
            "generic",
            request,
        );
        let system = self.other.public_key();
        match check_deletion(&jwt, &trust, &system, NOW) {
            Ok(accounts) => assert!(!accounts.contains(&system)),
            Err(refusal) => line(&refusal.to_string()),
        }
    }

    fn with_activations(&self, mut claims: Map<String, Value>) -> Map<String, Value> {
        let imports = claims
            .get_mut("nats")
            .and_then(|nats| nats.get_mut("imports"));
        for import in imports.and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(token) = import.get_mut("token")
                && let Value::Object(claims) = token
            {
                let claims = std::mem::take(claims);
                *token = mint(
                    &self.account,
                    &self.other.public_key(),
                    "activation",
                    claims,
                )
                .into();
            }
        }
        claims
    }

    fn login(&self, account: &TrustedAccount, claims: Map<String, Value>, trust: &Trust) {
        let issuer_account = claims
            .get("nats")
            .and_then(|nats| nats.get("issuer_account"));
        let name = claims.get("name").and_then(Value::as_str);
        let by = match issuer_account {
            None => [&self.account, &self.other]
                .into_iter()
                .find(|key| key.public_key() == account.key()),
            Some(_) if name.is_some_and(|name| name.starts_with('s')) => Some(&self.scoped),
            Some(_) => Some(&self.signing),
        };
        let Some(by) = by else {
            return;
        };
        let jwt = mint(by, &self.user.public_key(), "user", claims);
        let signature = BASE64URL_NOPAD.encode(&self.user.sign(NONCE).expect("a seed signs"));
        let judged = login(&jwt, account, trust, Some(&signature));
        let unsigned = login(&jwt, account, trust, None);
        match judged {
            Err(refusal) => {
                line(&refusal.to_string());
                refusal.detail().iter().for_each(|detail| line(detail));
                assert!(unsigned.is_err());
            }
            Ok(mut session) => {
                line(&session.to_string());
                assert_eq!(*session.account, *account.key());
                assert_eq!(*session.user, *self.user.public_key());
                assert!(session.expires.is_none_or(|last| last >= NOW));
                assert!(account.expires().is_none_or(|last| last >= NOW));
                assert_eq!(unsigned.is_ok(), session.is_bearer);
                assert!(!session.is_bearer || !account.claims().body.limits.disallow_bearer);
                if let Some(permissions) = &session.permissions {
                    let _ = Perms::compile(permissions);
                }
                let before = session.permissions.clone();
                assert_eq!(session.renew(account), Ok(()));
                assert_eq!(session.permissions, before);
            }
        }
    }
}

fn login(
    jwt: &str,
    account: &TrustedAccount,
    trust: &Trust,
    signature: Option<&str>,
) -> Result<Session, Refusal> {
    let peer = Peer {
        nonce: NONCE,
        signature,
        address: Some([127, 0, 0, 1].into()),
        kind: ConnectionType::Standard,
        proxied: Proxied::No,
    };
    let presented = Presented::read(Some(jwt), peer.proxied, trust, CLOCK)?;
    presented.judge(Ok(account), &peer, trust, CLOCK)
}

fn share(admitted: &[TrustedAccount]) {
    let shared = sharing::accounts(admitted, NOW);
    assert_eq!(shared.accounts.len(), admitted.len());
    assert!(shared.until.is_none_or(|last| last >= NOW));
    for problem in &shared.problems {
        line(&problem.to_string());
    }
    for (account, of) in shared.accounts.iter().zip(admitted) {
        assert_eq!(account.name, of.key());
        assert!(account.imports.len() <= of.claims().body.imports.len());
    }
    for error in account::check(&shared.accounts, None) {
        line(&error.to_string());
    }
}

/// A line that is no object is an empty one.
fn object(line: &str) -> Map<String, Value> {
    serde_json::from_str(line).unwrap_or_default()
}

/// Claims of the second version unless they say something else, by and about whom they should be.
fn mint(by: &KeyPair, about: &str, kind: &str, mut claims: Map<String, Value>) -> String {
    let of_first = claims.contains_key("type");
    claims.insert("iss".into(), by.public_key().into());
    claims.entry("sub").or_insert_with(|| about.into());
    let nats = claims.entry("nats").or_insert_with(|| Map::new().into());
    if let Value::Object(nats) = nats
        && !of_first
    {
        nats.entry("type").or_insert_with(|| kind.into());
        nats.entry("version").or_insert_with(|| 2.into());
    }
    let header = BASE64URL_NOPAD.encode(br#"{"typ":"JWT","alg":"ed25519-nkey"}"#);
    let body = BASE64URL_NOPAD.encode(Value::Object(claims).to_string().as_bytes());
    let signed = match of_first {
        true => body.clone(),
        false => format!("{header}.{body}"),
    };
    let signature = by.sign(signed.as_bytes()).expect("a seed signs");
    format!("{header}.{body}.{}", BASE64URL_NOPAD.encode(&signature))
}
