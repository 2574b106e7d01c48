//! Operator mode as `nsc` sets it up: keys, JWTs, credentials and the server's file, made without any
//! code of petiole's.

use std::time::{SystemTime, UNIX_EPOCH};

use nkeys::{KeyPair, KeyPairType};
use serde_json::{Value, json};

use super::{Client, QUIET, base64url, sign_nonce};

/// The time in Unix seconds.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since.expect("a clock past 1970").as_secs()).expect("a clock of this age")
}

/// A key pair that depends on nothing but its name.
pub fn nkey(kind: KeyPairType, name: &str) -> KeyPair {
    let mut seed = [11u8; 32];
    for (i, b) in name.bytes().enumerate() {
        seed[i % 32] = seed[i % 32].wrapping_mul(31).wrapping_add(b);
    }
    KeyPair::new_from_raw(kind, seed).expect("a seed of 32 bytes")
}

/// An account's identity or signing key.
pub fn account_key(name: &str) -> KeyPair {
    nkey(KeyPairType::Account, name)
}

/// A JWT that nobody has signed yet. It was issued a minute ago, and does not expire.
#[derive(Debug, Clone)]
pub struct Draft(Value);

impl Draft {
    /// `kind` as `nats.type` has it.
    pub fn new(kind: &str, subject: &KeyPair, name: &str) -> Self {
        Self(json!({
            "iat": now() - 60,
            "sub": subject.public_key(),
            "name": name,
            "nats": {"type": kind, "version": 2},
        }))
    }

    /// An account without limits.
    pub fn account(key: &KeyPair, name: &str) -> Self {
        Self::new("account", key, name).with(json!({"limits": {
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
            "conn": -1, "leaf": -1,
        }}))
    }

    /// A user of an account, without limits.
    pub fn user(key: &KeyPair, account: &KeyPair, name: &str) -> Self {
        Self::scoped(key, account, name).with(json!({"subs": -1, "data": -1, "payload": -1}))
    }

    /// A user whom the scope of a signing key limits.
    pub fn scoped(key: &KeyPair, account: &KeyPair, name: &str) -> Self {
        Self::new("user", key, name).with(json!({"issuer_account": account.public_key()}))
    }

    /// What an account that imports shows to one that wants to be asked.
    pub fn activation(importer: &KeyPair, subject: &str, kind: &str) -> Self {
        Self::new("activation", importer, subject).with(json!({"subject": subject, "kind": kind}))
    }

    /// What asks a resolver to delete accounts.
    pub fn deletion(by: &KeyPair, accounts: &[String]) -> Self {
        Self::new("generic", by, "deletion").with(json!({"accounts": accounts}))
    }

    /// Sets fields of `nats`; those of an object that is there already join it.
    pub fn with(mut self, fields: Value) -> Self {
        for (name, value) in fields.as_object().into_iter().flatten() {
            match (self.0["nats"][name].as_object_mut(), value.as_object()) {
                (Some(old), Some(new)) => old.extend(new.clone()),
                _ => self.0["nats"][name] = value.clone(),
            }
        }
        self
    }

    /// When it was issued.
    pub fn issued(mut self, at: i64) -> Self {
        self.0["iat"] = json!(at);
        self
    }

    /// From when on it counts.
    pub fn from(mut self, at: i64) -> Self {
        self.0["nbf"] = json!(at);
        self
    }

    /// Up to when it counts.
    pub fn until(mut self, at: i64) -> Self {
        self.0["exp"] = json!(at);
        self
    }

    pub fn sign(&self, issuer: &KeyPair) -> String {
        let mut claims = self.0.clone();
        claims["iss"] = json!(issuer.public_key());
        claims["jti"] = json!(claims["name"]);
        let header = json!({"typ": "JWT", "alg": "ed25519-nkey"});
        let part = |part: &Value| base64url(part.to_string().as_bytes());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = issuer.sign(signed.as_bytes());
        let signature = signature.expect("the issuer has its seed");
        format!("{signed}.{}", base64url(&signature))
    }
}

/// A user's key and JWT.
#[derive(Debug)]
pub struct Credentials {
    pub key: KeyPair,
    pub jwt: String,
}

impl Credentials {
    /// Those of a user whose key is named as the user is.
    pub fn new(name: &str, account: &KeyPair, issuer: &KeyPair) -> Self {
        Self::changed(name, account, issuer, |draft| draft)
    }

    /// As `new`, with a changed JWT.
    pub fn changed(
        name: &str,
        account: &KeyPair,
        issuer: &KeyPair,
        change: impl FnOnce(Draft) -> Draft,
    ) -> Self {
        let key = nkey(KeyPairType::User, name);
        let jwt = change(Draft::user(&key, account, name)).sign(issuer);
        Self { key, jwt }
    }

    /// Those of a file.
    pub fn read(text: &str) -> Self {
        let mut lines = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('-'));
        let mut next = || lines.next().expect("a JWT and a seed");
        let jwt = next().to_owned();
        let key = KeyPair::from_seed(next()).expect("a seed");
        Self { key, jwt }
    }

    /// The file.
    pub fn file(&self) -> String {
        let seed = self.key.seed().expect("the key has its seed");
        let jwt = &self.jwt;
        format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        )
    }

    /// The options of CONNECT that answer a nonce.
    pub fn options(&self, info: &Value) -> String {
        let nonce = info["nonce"].as_str().expect("a nonce in INFO");
        let (jwt, signature) = (&self.jwt, sign_nonce(&self.key, nonce));
        let quiet = &QUIET[..QUIET.len() - 1];
        format!("{quiet},\"no_responders\":true,\"jwt\":\"{jwt}\",\"sig\":\"{signature}\"}}")
    }

    /// A connection that has said who it is, and waits for what comes of it.
    pub fn knock(&self, port: u16) -> Client {
        let mut client = Client::connect(port);
        let options = self.options(&client.info);
        client.send(format!("CONNECT {options}\r\nPING\r\n"));
        client
    }

    /// A client that was let in.
    pub fn login(&self, port: u16) -> Client {
        let mut client = self.knock(port);
        client.expect_pong();
        client
    }
}

/// An operator that signs with a signing key, and its system account.
#[derive(Debug)]
pub struct Operator {
    pub key: KeyPair,
    pub signing: KeyPair,
    pub system: KeyPair,
}

impl Operator {
    pub fn new(name: &str) -> Self {
        let key = |kind, role: &str| nkey(kind, &format!("{name} {role}"));
        Self {
            key: key(KeyPairType::Operator, "identity"),
            signing: key(KeyPairType::Operator, "signing"),
            system: key(KeyPairType::Account, "system"),
        }
    }

    /// Its own JWT, to be changed.
    pub fn draft(&self) -> Draft {
        Draft::new("operator", &self.key, "OP").with(json!({
            "signing_keys": [self.signing.public_key()],
            "system_account": self.system.public_key(),
        }))
    }

    /// An account's JWT.
    pub fn sign(&self, draft: &Draft) -> String {
        draft.sign(&self.signing)
    }

    /// The system account's JWT: what every `nsc` gives it to share.
    pub fn system_jwt(&self) -> String {
        self.sign(&Draft::account(&self.system, "SYS").with(json!({"exports": [
            {"name": "account-monitoring-services", "subject": "$SYS.REQ.ACCOUNT.*.*", "type": "service",
             "response_type": "Stream", "account_token_position": 4},
            {"name": "account-monitoring-streams", "subject": "$SYS.ACCOUNT.*.>", "type": "stream",
             "account_token_position": 3},
        ]})))
    }

    /// A user of the system account that may do anything.
    pub fn system_user(&self) -> Credentials {
        Credentials::new("sys", &self.system, &self.system)
    }

    /// The user as whom `nsc push` and `nsc pull` come, for two minutes.
    pub fn pusher(&self) -> Credentials {
        Credentials::changed("nsc", &self.system, &self.system, |draft| {
            let subjects = ["UPDATE", "LIST", "DELETE", "PACK"];
            let allowed = subjects.map(|it| format!("$SYS.REQ.CLAIMS.{it}"));
            draft
                .with(json!({"pub": {"allow": allowed}, "sub": {"allow": ["_INBOX.>"]}}))
                .until(now() + 120)
        })
    }

    /// The lines by which a server trusts it.
    pub fn trust(&self) -> String {
        let jwt = self.draft().sign(&self.key);
        let system = self.system.public_key();
        format!("operator: {jwt}\nsystem_account: {system}\n")
    }

    /// Its JWT as it is, and as it would be if only its signing keys counted.
    pub fn lax_and_strict(&self) -> (String, String) {
        let strict = json!({"strict_signing_key_usage": true});
        let strict = self.draft().with(strict).sign(&self.key);
        (self.draft().sign(&self.key), strict)
    }

    /// What `nsc generate config --nats-resolver` writes, but for the folder.
    pub fn generated(&self) -> String {
        self.with_resolver(
            "type: full\n    dir: '{dir}/jwt'\n    allow_delete: true\n    interval: \"2m\"\n    \
             timeout: \"1.9s\"",
        )
    }

    /// The same with another block `resolver`.
    pub fn with_resolver(&self, resolver: &str) -> String {
        let (key, jwt) = (self.system.public_key(), self.system_jwt());
        format!(
            "# Operator named OP\n{}resolver {{\n    {resolver}\n}}\n\
             resolver_preload: {{\n\t{key}: {jwt},\n}}\n",
            self.trust()
        )
    }
}
