//! Operator, account and user JWTs for hubs in operator mode, and credentials files.

use nkeys::{KeyPair, KeyPairType};
use serde_json::{Value, json};

use crate::support::base64url;

/// A key pair that depends on nothing but its name.
pub(crate) fn key(kind: KeyPairType, name: &str) -> KeyPair {
    let mut seed = [3u8; 32];
    for (i, b) in name.bytes().enumerate() {
        seed[i % 32] = seed[i % 32].wrapping_mul(31).wrapping_add(b);
    }
    KeyPair::new_from_raw(kind, seed).expect("a seed of 32 bytes")
}

fn token(issuer: &KeyPair, subject: &KeyPair, name: &str, kind: &str, nats: Value) -> String {
    token_until(issuer, subject, name, kind, nats, 0)
}

/// As `token`, but it expires. 0: never.
fn token_until(
    issuer: &KeyPair,
    subject: &KeyPair,
    name: &str,
    kind: &str,
    mut nats: Value,
    until: u64,
) -> String {
    nats["type"] = json!(kind);
    nats["version"] = json!(2);
    let claims = json!({
        "jti": name,
        "iat": 1_700_000_000,
        "exp": until,
        "iss": issuer.public_key(),
        "sub": subject.public_key(),
        "name": name,
        "nats": nats,
    });
    let header = json!({"typ": "JWT", "alg": "ed25519-nkey"});
    let signed = format!(
        "{}.{}",
        base64url(header.to_string().as_bytes()),
        base64url(claims.to_string().as_bytes())
    );
    let sig = issuer
        .sign(signed.as_bytes())
        .expect("the issuer has its seed");
    format!("{signed}.{}", base64url(&sig))
}

/// One operator and its accounts.
pub(crate) struct Operator {
    key: KeyPair,
    accounts: Vec<(KeyPair, String)>,
}

impl Operator {
    pub(crate) fn new(accounts: &[&str]) -> Self {
        let operator = key(KeyPairType::Operator, "O");
        let limits = json!({"limits": {
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
            "conn": -1, "leaf": -1, "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1,
        }});
        let accounts = accounts.iter().map(|name| {
            let account = key(KeyPairType::Account, name);
            let jwt = token(&operator, &account, name, "account", limits.clone());
            (account, jwt)
        });
        let accounts = accounts.collect();
        Operator {
            key: operator,
            accounts,
        }
    }

    /// The public key of an account.
    pub(crate) fn account(&self, name: &str) -> String {
        key(KeyPairType::Account, name).public_key()
    }

    /// The hub's part: trust, and all accounts in memory.
    pub(crate) fn config(&self) -> String {
        let jwt = token(&self.key, &self.key, "O", "operator", json!({}));
        let preload: Vec<String> = self
            .accounts
            .iter()
            .map(|(key, jwt)| format!("{}: \"{jwt}\"", key.public_key()))
            .collect();
        format!(
            "operator: \"{jwt}\"\nresolver: MEMORY\nresolver_preload {{ {} }}\n",
            preload.join("\n")
        )
    }

    /// A user of an account with these further claims: the JWT and the seed.
    pub(crate) fn user(&self, account: &str, name: &str, claims: &Value) -> (String, String) {
        self.user_until(account, name, claims, 0)
    }

    fn user_until(
        &self,
        account: &str,
        name: &str,
        claims: &Value,
        until: u64,
    ) -> (String, String) {
        let user = key(KeyPairType::User, name);
        let mut nats = json!({"subs": -1, "data": -1, "payload": -1});
        for (field, value) in claims.as_object().into_iter().flatten() {
            nats[field] = value.clone();
        }
        let issuer = key(KeyPairType::Account, account);
        let jwt = token_until(&issuer, &user, name, "user", nats, until);
        (jwt, user.seed().expect("the key has its seed"))
    }

    /// The credentials file of a user.
    pub(crate) fn creds(&self, account: &str, name: &str, claims: &Value) -> String {
        decorate(self.user(account, name, claims))
    }

    /// The same of a user that expires at this time.
    pub(crate) fn creds_until(&self, account: &str, name: &str, until: u64) -> String {
        decorate(self.user_until(account, name, &Value::Null, until))
    }
}

fn decorate((jwt, seed): (String, String)) -> String {
    format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
}
