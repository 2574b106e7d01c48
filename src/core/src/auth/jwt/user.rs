//! Whether a user with a JWT may connect, and as what: the steps of nats-server, in its order.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::claims::{Claims, Grant, Scope, User};
use super::source;
use super::template::{self, Names};
use super::times::{self, Admission, Clock};
use super::token::{DecodeError, decode};
use super::trust::{AccountRefusal, Signer, Trust, TrustedAccount};
use super::validity::Issues;
use crate::auth::nkey::{self, NkeyError};
use crate::config::model::{ConnectionType, Permissions, ResponseRule, SubjectRules};
use crate::config::quote;

/// What is known of the connection besides the JWT.
#[derive(Clone, Copy)]
pub struct Peer<'a> {
    /// The text of INFO's `nonce`.
    pub nonce: &'a [u8],
    /// `sig` of CONNECT.
    pub signature: Option<&'a str>,
    /// Where it comes from; `None` if it has no address, which is in no network.
    pub address: Option<IpAddr>,
    /// How it connected.
    pub kind: ConnectionType,
    /// Whether a proxy vouches for it.
    pub proxied: Proxied,
}

/// Whether a proxy that is trusted vouches for a connection (`proxies`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxied {
    /// One does.
    Yes,
    /// None does.
    No,
}

/// What the look-up of an account did not find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// There is no such account.
    Missing,
    /// There is one that may not be used.
    Refused(AccountRefusal),
    /// Nobody could be asked, as the text says.
    Failed(String),
}

impl fmt::Display for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lookup::Missing => f.write_str("account missing"),
            Lookup::Refused(_) => f.write_str("account validation failed"),
            Lookup::Failed(why) => f.write_str(why),
        }
    }
}

/// A user's JWT that is in order by itself. Whether it counts is the account's to say.
#[derive(Clone, Debug)]
#[must_use]
pub struct Presented {
    claims: Claims<User>,
}

impl Presented {
    /// The first step: takes `jwt` of CONNECT; empty is the same as absent.
    pub fn read(
        jwt: Option<&str>,
        proxied: Proxied,
        trust: &Trust,
        clock: Clock<'_>,
    ) -> Result<Presented, Refusal> {
        let jwt = jwt.filter(|jwt| !jwt.is_empty()).ok_or(Refusal::NoJwt)?;
        let claims = decode::<User>(jwt).map_err(Refusal::Jwt)?;
        if claims.body.grant.proxy_required && proxied == Proxied::No {
            return Err(Refusal::ProxyRequired);
        }
        let issues = claims.check(clock);
        if !issues.is_empty() {
            return Err(Refusal::Invalid(issues));
        }
        let presented = Presented { claims };
        if !trust.permits(presented.account()) {
            return Err(Refusal::NotPinned(presented.account().into()));
        }
        Ok(presented)
    }

    /// The public key of the account to look up.
    pub fn account(&self) -> &str {
        let issuer = &self.claims.standard.issuer;
        self.claims.body.issuer_account.as_ref().unwrap_or(issuer)
    }

    /// The user's public key, for `authentication error - JWT User`. Not verified to be one.
    pub fn user(&self) -> &str {
        &self.claims.standard.subject
    }

    /// The second step: takes what the look-up of [`Presented::account`] gave. `clock` is the time of now,
    /// not that of the first step.
    pub fn judge(
        self,
        account: Result<&TrustedAccount, Lookup>,
        peer: &Peer<'_>,
        trust: &Trust,
        clock: Clock<'_>,
    ) -> Result<Session, Refusal> {
        let account = account.map_err(Refusal::Lookup)?;
        if account.key() != self.account() {
            return Err(Refusal::Lookup(Lookup::Missing));
        }
        if !account.is_trusted(trust) {
            return Err(Refusal::AccountNotTrusted);
        }
        let standard = &self.claims.standard;
        let signer = account
            .signer(&standard.issuer)
            .ok_or(Refusal::UnknownIssuer)?;
        let (grant, scope) = self.grant(account, signer)?;
        // The look-up may have been quick, its result old.
        if account.expires().is_some_and(|last| clock.now > last) {
            return Err(Refusal::AccountExpired);
        }
        if standard.expires.is_some_and(|last| clock.now > last) {
            let mut issues = Issues::default();
            standard.check_time(clock.now, &mut issues);
            return Err(Refusal::Invalid(issues));
        }
        if grant.bearer && account.claims().body.limits.disallow_bearer {
            return Err(Refusal::Bearer);
        }
        let types = Types::of(&grant.connection_types);
        if types.known.is_empty() && !types.unknown.is_empty() {
            return Err(Refusal::UnknownTypes(types.unknown));
        }
        if !types.known.is_empty() && !types.known.contains(&peer.kind) {
            return Err(Refusal::ConnectionType);
        }
        self.check_signature(&grant, peer)?;
        if account.is_revoked(&standard.subject, standard.issued_at) {
            return Err(Refusal::Revoked);
        }
        if !source::permits(&grant.src, peer.address) {
            return Err(Refusal::Source(peer.address));
        }
        let Admission::Open(until) = times::admission(&grant, clock) else {
            return Err(Refusal::Times);
        };
        let own = permissions(&grant);
        let of_account = own.is_none();
        Ok(Session {
            account: account.key().into(),
            account_name: account.claims().standard.name.as_str().into(),
            user: standard.subject.as_str().into(),
            name: standard.name.as_str().into(),
            tags: standard.tags.clone(),
            issuer: standard.issuer.as_str().into(),
            issued_at: standard.issued_at,
            permissions: own.or_else(|| permissions(&account.claims().body.default_permissions)),
            max_subscriptions: limit(grant.subs),
            max_payload: limit(grant.payload),
            expires: standard.expires.into_iter().chain(until).min(),
            is_bearer: grant.bearer,
            unknown_types: types.unknown,
            of_account,
            scope,
        })
    }

    /// What the user is given, by itself or by the scope of who signed it.
    fn grant(
        &self,
        account: &TrustedAccount,
        signer: Signer<'_>,
    ) -> Result<(Grant, Option<Arc<Scope>>), Refusal> {
        let own = &self.claims.body.grant;
        let Signer::Scoped(scope) = signer else {
            return Ok((own.clone(), None));
        };
        if !own.is_empty() {
            return Err(Refusal::ScopedGrant);
        }
        let (user, by) = (&self.claims.standard, &account.claims().standard);
        let names = Names {
            name: &user.name,
            subject: &user.subject,
            tags: &user.tags,
            account_name: &by.name,
            account: &by.subject,
            account_tags: &by.tags,
        };
        let filled = template::fill_in(&scope.template, names).map_err(|_| Refusal::Template)?;
        Ok((filled, Some(scope.clone())))
    }

    /// Unlike nats-server the subject has to be a user's key even if nothing is verified with it.
    fn check_signature(&self, grant: &Grant, peer: &Peer<'_>) -> Result<(), Refusal> {
        let user = &self.claims.standard.subject;
        let signature = peer.signature.filter(|text| !text.is_empty());
        if !grant.bearer && signature.is_none() {
            return Err(Refusal::NoSignature);
        }
        if !nkey::is_user_key(user) {
            return Err(Refusal::UserKey);
        }
        if grant.bearer {
            return Ok(());
        }
        // A nonce that is not there would be one that everybody knows.
        if peer.nonce.is_empty() {
            return Err(Refusal::WrongSignature);
        }
        nkey::verify(user, peer.nonce, signature.unwrap_or_default()).map_err(|e| match e {
            NkeyError::MalformedSignature => Refusal::MalformedSignature,
            _ => Refusal::WrongSignature,
        })
    }
}

/// `allowed_connection_types`.
struct Types {
    known: Vec<ConnectionType>,
    unknown: Vec<String>,
}

impl Types {
    fn of(names: &[String]) -> Types {
        let mut out = Types {
            known: Vec::new(),
            unknown: Vec::new(),
        };
        for name in names {
            match name.to_uppercase().as_str() {
                "STANDARD" => out.known.push(ConnectionType::Standard),
                "WEBSOCKET" => out.known.push(ConnectionType::Websocket),
                "LEAFNODE" => out.known.push(ConnectionType::Leafnode),
                "LEAFNODE_WS" => out.known.push(ConnectionType::LeafnodeWs),
                "MQTT" => out.known.push(ConnectionType::Mqtt),
                "MQTT_WS" => out.known.push(ConnectionType::MqttWs),
                "IN_PROCESS" => out.known.push(ConnectionType::InProcess),
                other => out.unknown.push(other.to_owned()),
            }
        }
        out
    }
}

/// A number that is a limit unless it is below 0.
pub(super) fn limit(number: i64) -> Option<usize> {
    (number >= 0).then(|| usize::try_from(number).unwrap_or(usize::MAX))
}

/// `None`: it says nothing of permissions, so that the account's hold.
pub(super) fn permissions(grant: &Grant) -> Option<Permissions> {
    let rules = |rules: &super::claims::Rules| SubjectRules {
        allow: rules.allow.clone(),
        deny: rules.deny.clone(),
    };
    let out = Permissions {
        publish: rules(&grant.publish),
        subscribe: rules(&grant.subscribe),
        responses: grant.responses.map(|response| ResponseRule {
            max: match response.max {
                0 => Some(1),
                max => u64::try_from(max).ok(),
            },
            expires: match response.ttl {
                0 => Some(Duration::from_secs(120)),
                ttl => u64::try_from(ttl).ok().map(Duration::from_nanos),
            },
        }),
    };
    (out != Permissions::default()).then_some(out)
}

/// A user who was let in.
#[derive(Clone, Debug)]
pub struct Session {
    /// The public key of the account it is bound to, which is the account's name.
    pub account: Arc<str>,
    /// What the account's JWT calls it.
    pub account_name: Arc<str>,
    /// The user's public key.
    pub user: Arc<str>,
    /// What its JWT calls it.
    pub name: Arc<str>,
    /// Its tags.
    pub tags: Vec<String>,
    /// The public key that signed it: the account's, or one of its signing keys.
    pub issuer: Arc<str>,
    /// When it was issued.
    pub issued_at: i64,
    /// What it may do: its own, its scope's, else the account's; `None`: everything.
    pub permissions: Option<Permissions>,
    /// Its subscriptions. The account's limit and the server's hold as well, the lowest counts. `None`:
    /// unlimited; 0 is a limit.
    pub max_subscriptions: Option<usize>,
    /// The bytes of its messages, likewise.
    pub max_payload: Option<usize>,
    /// The last second of the session, by its JWT's expiry or the end of a time window; it then ends with
    /// `User Authentication Expired`. The account has its own: [`TrustedAccount::expires`].
    pub expires: Option<i64>,
    /// Whether the JWT was the only proof.
    pub is_bearer: bool,
    /// Connection types that the JWT allows and nobody knows, for the log
    /// (`invalid connection types [...]`).
    pub unknown_types: Vec<String>,
    /// Whether its permissions are the account's.
    of_account: bool,
    /// The scope it was signed within.
    scope: Option<Arc<Scope>>,
}

impl Session {
    /// Asks whether the session may go on under the new claims of its account, and takes over what they
    /// change in `permissions` (those are the account's, if the user has none of its own).
    pub fn renew(&mut self, account: &TrustedAccount) -> Result<(), Withdrawn> {
        let same = match account.signer(&self.issuer) {
            None => false,
            Some(Signer::Plain) => self.scope.is_none(),
            Some(Signer::Scoped(scope)) => self.scope.as_ref() == Some(scope),
        };
        if !same {
            return Err(Withdrawn::Issuer);
        }
        if account.is_revoked(&self.user, self.issued_at) {
            return Err(Withdrawn::Revoked);
        }
        let claims = &account.claims().body;
        if self.is_bearer && claims.limits.disallow_bearer {
            return Err(Withdrawn::Bearer);
        }
        if self.of_account {
            self.permissions = permissions(&claims.default_permissions);
        }
        Ok(())
    }
}

/// The start of the debug line of a login.
impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (user, name) = (quote(&self.user), quote(&self.name));
        let tags = list(&self.tags);
        let (issuer, account) = (quote(&self.issuer), quote(&self.account));
        let account_name = quote(&self.account_name);
        write!(
            f,
            "Authenticated JWT: Client {user} (claim-name: {name}, claim-tags: {tags}) signed with {issuer} by Account {account} (claim-name: {account_name})"
        )
    }
}

/// Texts as Go shows a list of them.
fn list(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| quote(text)).collect();
    format!("[{}]", quoted.join(" "))
}

/// Why a session may not go on under new claims of its account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withdrawn {
    /// The user was revoked.
    Revoked,
    /// The account takes no bearer tokens any more.
    Bearer,
    /// Who signed the user does not sign any more, or within another scope.
    Issuer,
}

impl Withdrawn {
    /// The text of the `-ERR` before the connection is closed; `None`: it is closed without one.
    pub fn peer_text(self) -> Option<&'static str> {
        match self {
            Withdrawn::Revoked => Some("User Authentication Revoked"),
            Withdrawn::Bearer => Some("Authorization Violation"),
            Withdrawn::Issuer => None,
        }
    }
}

/// Why a user is not let in. `Display` is nats-server's log line, [`Refusal::detail`] says more where
/// that is too little. Peers are told `Authorization Violation`, whatever the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no JWT.
    NoJwt,
    /// There is something else.
    Jwt(DecodeError),
    /// It may only come through a proxy.
    ProxyRequired,
    /// The JWT does not make sense, or not now.
    Invalid(Issues),
    /// The account is none of those that may be used.
    NotPinned(String),
    /// There is no account for it.
    Lookup(Lookup),
    /// Nobody trusted issued the account any more.
    AccountNotTrusted,
    /// Who signed the user does not sign for its account.
    UnknownIssuer,
    /// It is given something by itself, though it was signed within a scope.
    ScopedGrant,
    /// The template of the scope does not fit it.
    Template,
    /// The account is expired.
    AccountExpired,
    /// The account takes no bearer tokens.
    Bearer,
    /// It may only connect in ways that nobody knows: those.
    UnknownTypes(Vec<String>),
    /// It may not connect this way.
    ConnectionType,
    /// It proves nothing.
    NoSignature,
    /// The signature is no base64 of 64 bytes.
    MalformedSignature,
    /// The JWT is about something that is no user key.
    UserKey,
    /// The signature is not the user's.
    WrongSignature,
    /// The user was revoked.
    Revoked,
    /// It comes from outside its networks.
    Source(Option<IpAddr>),
    /// It comes at the wrong time.
    Times,
}

impl Refusal {
    /// Whether the line is an error, as few are; else it is a debug line.
    pub fn is_error(&self) -> bool {
        matches!(self, Refusal::Source(_) | Refusal::Times)
    }

    /// What exactly was wrong, for a further debug line.
    pub fn detail(&self) -> Option<String> {
        match self {
            Refusal::Jwt(e) => Some(format!("User JWT not valid: {e}")),
            Refusal::Lookup(Lookup::Refused(e)) => Some(e.to_string()),
            _ => None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Refusal::NoJwt | Refusal::Jwt(_) => "Authentication requires a user JWT",
            Refusal::ProxyRequired => "proxy connection required",
            Refusal::Invalid(issues) => {
                return write!(f, "User JWT no longer valid: &{{Issues:{issues}}}");
            }
            Refusal::NotPinned(account) => {
                let account = account.escape_debug();
                return write!(f, "Account {account} not listed as operator pinned account");
            }
            Refusal::Lookup(lookup) => return write!(f, "Account JWT lookup error: {lookup}"),
            Refusal::AccountNotTrusted => "Account JWT not signed by trusted operator",
            Refusal::UnknownIssuer => "User JWT issuer is not known",
            Refusal::ScopedGrant => {
                "User JWT is not valid: scoped users require no permissions or limits set"
            }
            Refusal::Template => "User JWT generated invalid permissions",
            Refusal::AccountExpired => "Account JWT has expired",
            Refusal::Bearer => "Account does not allow bearer tokens",
            Refusal::UnknownTypes(types) => {
                return write!(f, "invalid connection types {}", list(types));
            }
            Refusal::ConnectionType => "Connection type not allowed",
            Refusal::NoSignature => "Signature missing",
            Refusal::MalformedSignature => "Signature not valid base64",
            Refusal::UserKey => "User nkey not valid: not a public user nkey",
            Refusal::WrongSignature => "Signature not verified",
            Refusal::Revoked => "User authentication revoked",
            Refusal::Source(Some(address)) => return write!(f, "Bad src Ip {address}"),
            Refusal::Source(None) => "Bad src Ip",
            Refusal::Times => "Outside connect times",
        };
        f.write_str(text)
    }
}

impl std::error::Error for Refusal {}
