//! Whose signatures count, and what may be done with an account's JWT because of it.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use super::claims::{
    Account, AccountLimits, Claims, Generic, Operator, Scope, SigningKey, Standard,
};
use super::token::{DecodeError, decode};
use super::validity::{Issues, check_mappings};
use crate::auth::public_key::{is_account_key, is_operator_key};
use crate::config::quote;
use crate::wire::version::Version;

/// The keys that accounts are signed with, and the accounts that may be used at all. Immutable.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    keys: HashMap<Box<str>, Standing>,
    /// `None`: all.
    pinned: Option<HashSet<Box<str>>>,
}

/// What a key counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Signs,
    /// Of an operator with `strict_signing_key_usage`: in its accounts, too, only signing keys sign.
    SignsStrictly,
    /// The own key of such an operator.
    Identity,
}

impl Trust {
    /// Trust in `trusted_keys`. An error says which is no public operator key, in nats-server's words.
    pub fn in_keys(keys: &[String]) -> Result<Trust, String> {
        let mut out = Trust::default();
        for key in keys {
            out.add(key, Standing::Signs)?;
        }
        Ok(out)
    }

    /// Trust in operators, for a server of this version. An error says why there can be none, in
    /// nats-server's words.
    ///
    /// As in nats-server an operator is trusted because it is configured: neither time nor who signed it
    /// matters, see [`Claims::<Operator>::warning`].
    pub fn in_operators<'a>(
        operators: impl IntoIterator<Item = &'a Claims<Operator>>,
        version: Version,
    ) -> Result<Trust, String> {
        let mut out = Trust::default();
        for operator in operators {
            operator.check_version(version)?;
            let (identity, signing) = match operator.body.strict_signing_key_usage {
                true => (Standing::Identity, Standing::SignsStrictly),
                false => (Standing::Signs, Standing::Signs),
            };
            out.add(&operator.standard.subject, identity)?;
            for key in &operator.body.signing_keys {
                out.add(key, signing)?;
            }
        }
        Ok(out)
    }

    fn add(&mut self, key: &str, standing: Standing) -> Result<(), String> {
        if !is_operator_key(key) {
            let key = quote(key);
            return Err(format!(
                "trusted Keys {key} are required to be a valid public operator nkey"
            ));
        }
        self.keys.insert(key.into(), standing);
        Ok(())
    }

    /// Lets only users of these accounts in (`resolver_pinned_accounts`); the system account has to be
    /// among them.
    pub fn pinned_to<'a>(mut self, accounts: impl IntoIterator<Item = &'a str>) -> Trust {
        self.pinned = Some(accounts.into_iter().map(Into::into).collect());
        self
    }

    /// Whether the key signs accounts.
    pub fn signs(&self, key: &str) -> bool {
        let standing = self.keys.get(key);
        standing.is_some_and(|standing| *standing != Standing::Identity)
    }

    pub(super) fn permits(&self, account: &str) -> bool {
        let pinned = self.pinned.as_ref();
        pinned.is_none_or(|pinned| pinned.contains(account))
    }
}

impl Claims<Operator> {
    /// What is odd about an operator that is trusted all the same, for a warning at the start.
    pub fn warning(&self, now: i64) -> Option<String> {
        let Standard {
            issuer, subject, ..
        } = &self.standard;
        let operator = subject.escape_debug();
        let mut issues = Issues::default();
        self.standard.check_time(now, &mut issues);
        if let Some(issue) = issues.iter().next() {
            return Some(format!("operator {operator}: {issue}"));
        }
        if issuer != subject {
            let issuer = issuer.escape_debug();
            return Some(format!(
                "operator {operator} is not signed by its own key, but by {issuer}"
            ));
        }
        let strict = self.body.strict_signing_key_usage;
        (strict && self.body.signing_keys.is_empty()).then(|| {
            format!(
                "operator {operator} has strict_signing_key_usage and no signing_keys: none of its \
                 accounts can be used"
            )
        })
    }

    fn check_version(&self, server: Version) -> Result<(), String> {
        let asserted = &self.body.assert_server_version;
        if asserted.is_empty() {
            return Ok(());
        }
        let operator = self.standard.subject.escape_debug();
        let Some(wanted) = Version::parse(asserted) else {
            let asserted = asserted.escape_debug();
            return Err(format!(
                "operator {operator} expects version {asserted} got error instead: asserted server version must be of the form <major>.<minor>.<update>"
            ));
        };
        if wanted <= server {
            return Ok(());
        }
        let parts = ["major", "minor", "update"]
            .iter()
            .zip(wanted.0.iter().zip(server.0));
        let above = parts.into_iter().find(|(_, (wanted, ours))| *wanted > ours);
        let (part, (wanted, ours)) = above.unwrap_or((&"update", (&0, 0)));
        Err(format!(
            "operator {operator} expected {part} version {wanted} > server {part} version {ours}"
        ))
    }
}

/// An account that may be used: its JWT was verified, made sense, and somebody trusted issued it.
///
/// Only [`TrustedAccount::admit`] makes one, so that a look-up cannot forget to ask. Trust and time go
/// on: [`Presented::judge`](super::Presented::judge) asks for both again.
#[derive(Clone, Debug)]
pub struct TrustedAccount {
    claims: Claims<Account>,
    /// Whether the account's own key signs users.
    identity_signs: bool,
    /// Nobody needs to have issued it.
    bootstrap: bool,
}

impl TrustedAccount {
    /// Takes the JWT that a look-up of the account `id` found.
    pub fn admit(
        jwt: &str,
        id: &str,
        trust: &Trust,
        now: i64,
    ) -> Result<TrustedAccount, AccountRefusal> {
        let claims = decode::<Account>(jwt).map_err(AccountRefusal::Decode)?;
        let Standard {
            issuer, subject, ..
        } = &claims.standard;
        let standing = trust.keys.get(issuer.as_str()).copied();
        let identity_signs = match standing {
            Some(Standing::Signs) => true,
            Some(Standing::SignsStrictly) => false,
            Some(Standing::Identity) | None => {
                return Err(AccountRefusal::Untrusted(issuer.clone()));
            }
        };
        if subject != id {
            return Err(AccountRefusal::OtherAccount(subject.clone()));
        }
        let issues = claims.check(now);
        if !issues.is_empty() {
            return Err(AccountRefusal::Invalid(issues));
        }
        Ok(TrustedAccount {
            claims,
            identity_signs,
            bootstrap: false,
        })
    }

    /// The system account before its JWT can be had: its own key alone signs users, so that somebody can
    /// log in and push the JWT. `None` if `id` is no public account key.
    pub fn bootstrap(id: &str) -> Option<TrustedAccount> {
        let unlimited = AccountLimits {
            subs: -1,
            data: -1,
            payload: -1,
            imports: -1,
            exports: -1,
            wildcards: true,
            disallow_bearer: false,
            conn: -1,
            leaf: -1,
        };
        is_account_key(id).then(|| TrustedAccount {
            claims: Claims {
                standard: Standard {
                    subject: id.into(),
                    issuer: id.into(),
                    ..Standard::default()
                },
                body: Account {
                    limits: unlimited,
                    ..Account::default()
                },
            },
            identity_signs: true,
            bootstrap: true,
        })
    }

    /// What it says.
    pub fn claims(&self) -> &Claims<Account> {
        &self.claims
    }

    /// Its public key, which is its name everywhere.
    pub fn key(&self) -> &str {
        &self.claims.standard.subject
    }

    /// The last second it may be used in. Its connections then end with `Account Authentication Expired`.
    pub fn expires(&self) -> Option<i64> {
        self.claims.standard.expires
    }

    /// Whether `trust` still trusts who issued it.
    pub fn is_trusted(&self, trust: &Trust) -> bool {
        self.bootstrap || trust.signs(&self.claims.standard.issuer)
    }

    /// How a key signs users of this account; `None`: not at all.
    pub(super) fn signer(&self, key: &str) -> Option<Signer<'_>> {
        let mut found = None;
        for signing in &self.claims.body.signing_keys {
            match signing {
                // Of several the narrow one counts.
                SigningKey::Scoped(scope) if scope.key == key => {
                    return Some(Signer::Scoped(scope));
                }
                SigningKey::Plain(plain) if plain == key => found = Some(Signer::Plain),
                _ => {}
            }
        }
        let identity = self.identity_signs && key == self.key();
        found.or_else(|| identity.then_some(Signer::Plain))
    }

    /// Whether what was issued to `key` at `issued_at` does not count any more.
    pub(super) fn is_revoked(&self, key: &str, issued_at: i64) -> bool {
        is_revoked(&self.claims.body.revocations, key, issued_at)
    }
}

/// How a key signs users.
#[derive(Clone, Copy, Debug)]
pub(super) enum Signer<'a> {
    Plain,
    Scoped(&'a Arc<Scope>),
}

/// A revocation of `*` is one of everybody.
pub(super) fn is_revoked(
    revocations: &std::collections::BTreeMap<String, i64>,
    key: &str,
    issued_at: i64,
) -> bool {
    let revoked = |key: &str| revocations.get(key).is_some_and(|at| *at >= issued_at);
    revoked("*") || revoked(key)
}

/// Why an account's JWT is not used. `Display`: `account validation failed` and what exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountRefusal {
    /// It is no account JWT.
    Decode(DecodeError),
    /// This key issued it, which is not trusted.
    Untrusted(String),
    /// It is the JWT of this account.
    OtherAccount(String),
    /// It does not make sense, or not now.
    Invalid(Issues),
}

impl fmt::Display for AccountRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("account validation failed: ")?;
        match self {
            AccountRefusal::Decode(e) => e.fmt(f),
            AccountRefusal::Untrusted(key) => {
                write!(f, "issuer {} is not trusted", key.escape_debug())
            }
            AccountRefusal::OtherAccount(key) => {
                write!(f, "it is the JWT of account {}", key.escape_debug())
            }
            AccountRefusal::Invalid(issues) => issues.fmt(f),
        }
    }
}

impl std::error::Error for AccountRefusal {}

/// Judges the JWT of an update of an account, before it is stored (system account, checks for UPDATE).
/// `id`: the account in the subject of the request, if there is one.
///
/// Time does not matter, as the JWT may be stored before it holds. Unlike nats-server, which stores
/// what it then never uses, it has to be issued by somebody trusted.
pub fn check_update(
    jwt: &str,
    id: Option<&str>,
    trust: &Trust,
) -> Result<Claims<Account>, UpdateRefusal> {
    let claims = decode::<Account>(jwt).map_err(UpdateRefusal::Decode)?;
    let Standard {
        issuer, subject, ..
    } = &claims.standard;
    let refuse = |why: fn(String) -> UpdateRefusal| Err(why(subject.clone()));
    if id.is_some_and(|id| id != subject) {
        return refuse(UpdateRefusal::OtherAccount);
    }
    match trust.keys.get(issuer.as_str()) {
        Some(Standing::Signs | Standing::SignsStrictly) => {}
        Some(Standing::Identity) => return refuse(UpdateRefusal::NotASigningKey),
        None => return refuse(UpdateRefusal::Untrusted),
    }
    let issues = claims.check(0).of_content();
    if !issues.is_empty() {
        return Err(UpdateRefusal::Invalid(subject.clone(), issues));
    }
    match check_mappings(&claims.body) {
        Some(why) => Err(UpdateRefusal::Mapping(subject.clone(), why)),
        None => Ok(claims),
    }
}

/// Why an update of an account is refused; of which account, where that is known. `Display` is what stands
/// behind the ` - ` of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpdateRefusal {
    /// It is no account JWT.
    Decode(DecodeError),
    /// It is another account's than the subject of the request says.
    OtherAccount(String),
    /// The operator's own key issued it, and it is strict.
    NotASigningKey(String),
    /// Nobody trusted issued it.
    Untrusted(String),
    /// It does not make sense.
    Invalid(String, Issues),
    /// A mapping cannot be carried out.
    Mapping(String, String),
}

impl UpdateRefusal {
    /// The account of the JWT; `None` is `n/a` in answers.
    pub fn account(&self) -> Option<&str> {
        match self {
            UpdateRefusal::Decode(_) => None,
            UpdateRefusal::OtherAccount(account)
            | UpdateRefusal::NotASigningKey(account)
            | UpdateRefusal::Untrusted(account)
            | UpdateRefusal::Invalid(account, _)
            | UpdateRefusal::Mapping(account, _) => Some(account),
        }
    }

    /// Whether the answer begins with `jwt validation failed`, and not with what the resolver's kind says.
    pub fn is_validation(&self) -> bool {
        matches!(
            self,
            UpdateRefusal::Invalid(..) | UpdateRefusal::Mapping(..)
        )
    }
}

impl fmt::Display for UpdateRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UpdateRefusal::Decode(e) => e.fmt(f),
            UpdateRefusal::OtherAccount(_) => f.write_str("subject does not match jwt content"),
            UpdateRefusal::NotASigningKey(_) => {
                f.write_str("operator requires issuer to be a signing key")
            }
            UpdateRefusal::Untrusted(_) => f.write_str("issuer is not a trusted operator"),
            UpdateRefusal::Invalid(_, issues) => write!(f, "validation errors: {issues}"),
            UpdateRefusal::Mapping(_, why) => f.write_str(why),
        }
    }
}

impl std::error::Error for UpdateRefusal {}

/// Judges a request to delete accounts, and says which (system account, DELETE). Whether deletion is
/// configured at all is the caller's to ask.
///
/// Unlike nats-server one that is expired is refused: somebody may have kept it.
pub fn check_deletion(
    jwt: &str,
    trust: &Trust,
    system_account: &str,
    now: i64,
) -> Result<Vec<String>, DeletionRefusal> {
    let claims = decode::<Generic>(jwt).map_err(|e| DeletionRefusal {
        subject: String::new(),
        reason: e.to_string(),
    })?;
    let Standard {
        issuer, subject, ..
    } = &claims.standard;
    let refuse = |reason: &str| {
        Err(DeletionRefusal {
            subject: subject.clone(),
            reason: reason.into(),
        })
    };
    if issuer != subject {
        return refuse("not self signed");
    }
    if !trust.signs(issuer) {
        return refuse("not trusted");
    }
    let mut issues = Issues::default();
    claims.standard.check_time(now, &mut issues);
    if let Some(issue) = issues.iter().next() {
        return refuse(&issue.to_string());
    }
    let Some(accounts) = claims.body.accounts else {
        return refuse("malformed request");
    };
    if !accounts.iter().all(|account| is_account_key(account)) {
        return refuse("malformed request");
    }
    if accounts.iter().any(|account| account == system_account) {
        return refuse("not allowed to delete system account");
    }
    Ok(accounts)
}

/// Why accounts are not deleted. `Display` is the description in the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletionRefusal {
    /// Who asked; empty if that cannot be said.
    pub subject: String,
    /// Why not.
    pub reason: String,
}

impl fmt::Display for DeletionRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (subject, reason) = (self.subject.escape_debug(), &self.reason);
        write!(f, "delete accounts request by {subject} failed - {reason}")
    }
}

impl std::error::Error for DeletionRefusal {}
