//! What claims of each kind say, as it stands in the JWT: nothing is judged here.
//!
//! Numbers that are not there are 0, which is a limit and not the lack of one; below 0 is no limit.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::token::{DecodeError, json_error};

/// Claims of one kind whose signature was verified.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims<T> {
    /// What all kinds have.
    pub standard: Standard,
    /// What this kind has: `nats`.
    pub body: T,
}

/// What claims of all kinds have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standard {
    /// `jti`. Nothing is derived from it.
    pub id: String,
    /// `aud`
    pub audience: String,
    /// `iat`: 0 if absent.
    pub issued_at: i64,
    /// `exp`: the last second it holds in. `None`: for ever.
    pub expires: Option<i64>,
    /// `nbf`: the first second it holds in.
    pub not_before: Option<i64>,
    /// `iss`: the public key whose signature was verified.
    pub issuer: String,
    /// `name`
    pub name: String,
    /// `sub`: whom it is about. No key unless something says so.
    pub subject: String,
    /// `nats.tags`, in the case they are written in.
    pub tags: Vec<String>,
    /// 1 or 2.
    pub version: u64,
}

/// A kind of claims.
pub trait Kind: Sized + sealed::Sealed {
    /// `nats.type`
    #[doc(hidden)]
    const NAME: &'static str;
    /// The kinds of keys that issue it; empty: any.
    #[doc(hidden)]
    const ISSUERS: &'static [&'static str];
    #[doc(hidden)]
    fn read(nats: Map<String, Value>) -> Result<Self, DecodeError>;
}

mod sealed {
    /// Only the kinds of this module are.
    pub trait Sealed {}
}

macro_rules! kind {
    ($kind:ty, $name:literal, $issuers:expr) => {
        impl sealed::Sealed for $kind {}
        impl Kind for $kind {
            const NAME: &'static str = $name;
            const ISSUERS: &'static [&'static str] = &$issuers;
            fn read(nats: Map<String, Value>) -> Result<Self, DecodeError> {
                serde_json::from_value(Value::Object(nats)).map_err(json_error)
            }
        }
    };
}

kind!(Operator, "operator", ["operator"]);
kind!(Account, "account", ["account", "operator"]);
kind!(User, "user", ["account"]);
kind!(Activation, "activation", ["account", "operator"]);
kind!(Generic, "generic", []);

/// An operator's.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct Operator {
    /// Keys that sign accounts as the operator's own does.
    pub signing_keys: Vec<String>,
    /// Only signing keys sign, of the operator and of its accounts.
    pub strict_signing_key_usage: bool,
    /// The system account's key; empty: none is named.
    pub system_account: String,
    /// Where account JWTs are fetched from; empty: nowhere.
    pub account_server_url: String,
    /// Where clients connect; for tools.
    pub operator_service_urls: Vec<String>,
    /// The least version of a server; empty: any. [`Trust::in_operators`](super::Trust::in_operators)
    /// asks for it.
    pub assert_server_version: String,
}

/// An account's.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Account {
    /// What it may use. Without `limits` all are 0.
    pub limits: AccountLimits,
    /// What it imports.
    pub imports: Vec<Import>,
    /// What it exports.
    pub exports: Vec<Export>,
    /// Keys that sign users as the account's own does, or within a scope.
    pub signing_keys: Vec<SigningKey>,
    /// By public user key or `*`: users issued until this second are revoked.
    pub revocations: BTreeMap<String, i64>,
    /// Of users without permissions of their own; only its `pub`, `sub` and `resp` count.
    pub default_permissions: Grant,
    /// Destinations by source.
    pub mappings: BTreeMap<String, Vec<Weighted>>,
    /// Auth callout, which is not served: see [`Account::unserved`].
    pub authorization: Callout,
    /// Where traces go, which is not served: see [`Account::unserved`].
    pub trace: Option<Trace>,
    /// `cluster_traffic`; JetStream's, and left alone.
    pub cluster_traffic: String,
}

impl Account {
    /// Names of what it asks for and does not get, for a warning. An account with `authorization` lets
    /// users in that its callout might refuse, so whoever serves it should refuse it instead.
    pub fn unserved(&self) -> Vec<&'static str> {
        let mut out = Vec::new();
        if self.authorization.is_enabled() {
            out.push("authorization");
        }
        if self.trace.is_some() {
            out.push("trace");
        }
        out
    }
}

/// `limits` of an account. Those of JetStream are left alone.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct AccountLimits {
    /// Subscriptions of each connection.
    pub subs: i64,
    /// Bytes in all; never enforced, by no server.
    pub data: i64,
    /// Bytes of a message.
    pub payload: i64,
    /// Entries of `imports`.
    pub imports: i64,
    /// Entries of `exports`.
    pub exports: i64,
    /// Whether exports may have wildcards, where there is a limit on exports.
    pub wildcards: bool,
    /// Bearer tokens do not count as a proof.
    pub disallow_bearer: bool,
    /// Connections of clients and leafs.
    pub conn: i64,
    /// Connections of leafs.
    pub leaf: i64,
}

/// An entry of an account's `signing_keys`.
#[derive(Clone, Debug, PartialEq)]
pub enum SigningKey {
    /// Signs as the account does.
    Plain(String),
    /// What it signs has the permissions of its template, and none of its own.
    Scoped(Arc<Scope>),
}

impl SigningKey {
    /// The public key.
    pub fn key(&self) -> &str {
        match self {
            SigningKey::Plain(key) => key,
            SigningKey::Scoped(scope) => &scope.key,
        }
    }
}

impl<'de> Deserialize<'de> for SigningKey {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let error = <D::Error as serde::de::Error>::custom::<String>;
        match Value::deserialize(from)? {
            Value::String(key) => Ok(SigningKey::Plain(key)),
            Value::Object(mut map) => {
                let kind = map.get("kind").and_then(Value::as_str).unwrap_or_default();
                if kind != "user_scope" {
                    return Err(error(format!("unknown signing key scope {kind:?}")));
                }
                // In a template, unlike elsewhere, a limit that is not there is none.
                let template = map
                    .entry("template")
                    .or_insert_with(|| Value::Object(Map::new()));
                if let Value::Object(template) = template {
                    for limit in ["subs", "data", "payload"] {
                        template.entry(limit).or_insert_with(|| (-1).into());
                    }
                }
                serde_json::from_value(Value::Object(map))
                    .map(|scope| SigningKey::Scoped(Arc::new(scope)))
                    .map_err(|e| error(e.to_string()))
            }
            _ => Err(error("a signing key is neither a text nor a scope".into())),
        }
    }
}

/// What users may do whom a key has signed.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Scope {
    /// The public key.
    pub key: String,
    /// A name for people.
    pub role: String,
    /// What the user gets, once names and tags are filled in.
    pub template: Grant,
}

/// What a user, or the template of a scope, is given.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Grant {
    /// `pub`
    #[serde(rename = "pub")]
    pub publish: Rules,
    /// `sub`; entries may have a queue.
    #[serde(rename = "sub")]
    pub subscribe: Rules,
    /// `resp`
    #[serde(rename = "resp")]
    pub responses: Option<Response>,
    /// `src`: networks (CIDR) it connects from; empty: any. An array, or one text with commas.
    #[serde(deserialize_with = "networks")]
    pub src: Vec<String>,
    /// `times`: when it may connect; empty: always.
    pub times: Vec<TimeRange>,
    /// `times_location`: the IANA time zone of `times`; empty: the server's.
    #[serde(rename = "times_location")]
    pub location: String,
    /// Subscriptions.
    pub subs: i64,
    /// Bytes in all; never enforced, by no server.
    pub data: i64,
    /// Bytes of a message.
    pub payload: i64,
    /// `bearer_token`: whoever has the JWT is the user, without a signature.
    #[serde(rename = "bearer_token")]
    pub bearer: bool,
    /// Only through a proxy that is trusted.
    pub proxy_required: bool,
    /// `allowed_connection_types`; empty: all.
    #[serde(rename = "allowed_connection_types")]
    pub connection_types: Vec<String>,
}

impl Grant {
    /// Whether it gives nothing, as that of a user signed by a scoped key has to.
    pub fn is_empty(&self) -> bool {
        *self == Grant::default()
    }
}

fn networks<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Networks {
        Text(String),
        List(Vec<String>),
    }
    let trimmed = |text: &str| text.trim().to_owned();
    Ok(match Networks::deserialize(from)? {
        Networks::Text(text) => {
            let parts = text.split(',').map(trimmed);
            parts.filter(|part| !part.is_empty()).collect()
        }
        Networks::List(list) => list.iter().map(|entry| trimmed(entry)).collect(),
    })
}

/// Allow and deny lists.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct Rules {
    /// Empty: everything.
    pub allow: Vec<String>,
    /// Taken away from it.
    pub deny: Vec<String>,
}

/// `resp`: 0 is the default (1 message, 2 minutes), below 0 no limit.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct Response {
    /// Messages.
    pub max: i64,
    /// Nanoseconds.
    pub ttl: i64,
}

/// A window of each day, `hh:mm:ss` to `hh:mm:ss`; past midnight if it ends before it starts.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct TimeRange {
    /// `start`
    pub start: String,
    /// `end`
    pub end: String,
}

/// A user's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct User {
    /// What it may do by itself.
    pub grant: Grant,
    /// `issuer_account`: the account, if the issuer is one of its signing keys; may also be there if not.
    pub issuer_account: Option<String>,
}

impl<'de> Deserialize<'de> for User {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Own {
            issuer_account: String,
        }
        let error = <D::Error as serde::de::Error>::custom::<serde_json::Error>;
        let value = Value::deserialize(from)?;
        let own = Own::deserialize(&value).map_err(error)?;
        Ok(User {
            issuer_account: Some(own.issuer_account).filter(|key| !key.is_empty()),
            grant: serde_json::from_value(value).map_err(error)?,
        })
    }
}

/// An activation: an account lets another import something. The subject is the one that imports.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct Activation {
    /// `subject`: what may be imported, in the account that exports.
    pub subject: String,
    /// `kind`
    pub kind: ShareKind,
    /// The account that exports, if the issuer is one of its signing keys.
    pub issuer_account: String,
}

/// What has no kind of its own: a request to delete accounts.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct Generic {
    /// `accounts`: `None` if there is no such list.
    #[serde(deserialize_with = "texts")]
    pub accounts: Option<Vec<String>>,
}

fn texts<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<String>>, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(from)?).ok())
}

/// Streams or services.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum ShareKind {
    /// Nothing is said, which fits nothing.
    #[default]
    #[serde(skip)]
    Unknown,
    /// Messages go to who imports.
    Stream,
    /// Requests go to who exports.
    Service,
}

impl fmt::Display for ShareKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ShareKind::Unknown => "unknown",
            ShareKind::Stream => "stream",
            ShareKind::Service => "service",
        })
    }
}

/// An entry of an account's `imports`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct Import {
    /// A name for people.
    pub name: String,
    /// The subject; whose, see [`Import::exported`].
    pub subject: String,
    /// The public key of the account that exports.
    pub account: String,
    /// The activation, a JWT, where the export is not for everybody.
    pub token: String,
    /// `to`: the old way to name it here.
    pub to: String,
    /// `local_subject`: the name here; may have `$1`.
    pub local_subject: String,
    /// `type`
    #[serde(rename = "type")]
    pub kind: ShareKind,
    /// Who asks is told to the service.
    pub share: bool,
    /// Traces of a stream go on here.
    pub allow_trace: bool,
}

impl Import {
    /// The subject in the account that exports. Of a service the old `to` is that, and `subject` the
    /// name here.
    pub fn exported(&self) -> &str {
        let old = self.kind == ShareKind::Service && self.local_subject.is_empty();
        if old && !self.to.is_empty() {
            &self.to
        } else {
            &self.subject
        }
    }

    /// The subject here; `None`: the same. Of a stream the old `to` is put before it.
    pub fn local(&self) -> Option<String> {
        if !self.local_subject.is_empty() {
            return Some(self.local_subject.clone());
        }
        let to = Some(self.to.as_str()).filter(|to| !to.is_empty())?;
        Some(match self.kind {
            ShareKind::Service => self.subject.clone(),
            _ => format!("{}.{}", to.strip_suffix('.').unwrap_or(to), self.subject),
        })
    }
}

/// An entry of an account's `exports`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Export {
    /// A name for people.
    pub name: String,
    /// The subject.
    pub subject: String,
    /// `type`
    #[serde(rename = "type")]
    pub kind: ShareKind,
    /// Who imports needs an activation.
    pub token_req: bool,
    /// By public account key or `*`: activations issued until this second are revoked.
    pub revocations: BTreeMap<String, i64>,
    /// `response_type` of a service: empty, `Singleton`, `Stream` or `Chunked`.
    pub response_type: String,
    /// Nanoseconds; 0: the default.
    pub response_threshold: i64,
    /// `service_latency`
    #[serde(rename = "service_latency")]
    pub latency: Option<Latency>,
    /// The token of the subject, from 1, that names who imports; 0: none.
    pub account_token_position: u32,
    /// Shown by tools.
    pub advertise: bool,
    /// Traces go on in this account.
    pub allow_trace: bool,
}

/// `service_latency` of an export.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct Latency {
    /// Percent; 0, as `headers` in the JWT, is those whose headers ask for it.
    #[serde(deserialize_with = "sampling")]
    pub sampling: i64,
    /// The subject of the samples.
    pub results: String,
}

fn sampling<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Sampling {
        Percent(i64),
        Word(String),
    }
    match Sampling::deserialize(from)? {
        Sampling::Percent(percent) => Ok(percent),
        Sampling::Word(word) if word.eq_ignore_ascii_case("headers") => Ok(0),
        Sampling::Word(word) => {
            let text = format!("sampling {word:?} is neither a number nor \"headers\"");
            Err(<D::Error as serde::de::Error>::custom(text))
        }
    }
}

/// A destination of a mapping.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct Weighted {
    /// Where it goes.
    pub subject: String,
    /// Percent; 0 is 100.
    pub weight: u8,
    /// The only cluster it holds in; empty: any.
    pub cluster: String,
}

impl Weighted {
    /// The weight in percent.
    pub fn percent(&self) -> u8 {
        if self.weight == 0 { 100 } else { self.weight }
    }
}

/// `authorization` of an account: who is let in is decided by a service.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct Callout {
    /// Users that it is not asked about.
    pub auth_users: Vec<String>,
    /// Accounts it may put users into.
    pub allowed_accounts: Vec<String>,
    /// The key that requests are sealed with.
    pub xkey: String,
}

impl Callout {
    /// Whether the account has one.
    pub fn is_enabled(&self) -> bool {
        !self.auth_users.is_empty()
    }
}

/// `trace` of an account.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct Trace {
    /// `dest`
    pub dest: String,
    /// Percent.
    pub sampling: i64,
}
