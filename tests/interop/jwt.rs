//! Operator, account and user JWTs for hubs in operator mode, and credentials files.

use nkeys::{KeyPair, KeyPairType};
use serde_json::{Value, json};

use crate::support::{Credentials, Draft, account_key, nkey};

/// A JWT, as an issuer made it long ago.
fn draft(kind: &str, subject: &KeyPair, name: &str) -> Draft {
    Draft::new(kind, subject, name).issued(1_700_000_000)
}

/// One operator and its accounts.
pub(crate) struct Operator {
    key: KeyPair,
    accounts: Vec<(KeyPair, String)>,
}

impl Operator {
    pub(crate) fn new(accounts: &[&str]) -> Self {
        let operator = nkey(KeyPairType::Operator, "O");
        let limits = json!({"limits": {
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
            "conn": -1, "leaf": -1, "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1,
        }});
        let accounts = accounts.iter().map(|name| {
            let account = account_key(name);
            let jwt = draft("account", &account, name)
                .with(limits.clone())
                .sign(&operator);
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
        account_key(name).public_key()
    }

    /// The hub's part: trust, and all accounts in memory.
    pub(crate) fn config(&self) -> String {
        let jwt = draft("operator", &self.key, "O").sign(&self.key);
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
        let Credentials { key, jwt } = sign(account, name, |draft| draft.with(claims.clone()));
        (jwt, key.seed().expect("the key has its seed"))
    }

    /// The credentials file of a user.
    pub(crate) fn creds(&self, account: &str, name: &str, claims: &Value) -> String {
        sign(account, name, |draft| draft.with(claims.clone())).file()
    }

    /// The same of a user that expires at this time.
    pub(crate) fn creds_until(&self, account: &str, name: &str, until: u64) -> String {
        let until = i64::try_from(until).expect("a time");
        sign(account, name, |draft| draft.until(until)).file()
    }
}

/// A user of an account without limits, with a changed JWT.
fn sign(account: &str, name: &str, change: impl FnOnce(Draft) -> Draft) -> Credentials {
    let key = nkey(KeyPairType::User, name);
    let unlimited = json!({"subs": -1, "data": -1, "payload": -1});
    let jwt = change(draft("user", &key, name).with(unlimited)).sign(&account_key(account));
    Credentials { key, jwt }
}
