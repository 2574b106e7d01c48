//! Who may connect, and as whom: the users of the configuration and the order in which a CONNECT
//! is judged (as nats-server does it, without operator mode and callout), with or without a
//! certificate that says who it is.
//!
//! Decides; sends nothing and logs nothing. No password, token or signature appears in any `Debug`
//! or `Display` here.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::certificate::{Certificate, DistinguishedName};
use super::jwt::{Refusal, Session};
use super::nkey::{self, NkeyError};
use crate::account::perms::Perms;
use crate::config::model::{
    Auth, Config, ConnectionType, GLOBAL_ACCOUNT, LeafUsers, Permissions, Secret, User,
    UserIdentity, WebsocketListener,
};
use crate::time::Instant;

/// What a CONNECT says about who sends it. Empty strings count as absent, as on the wire.
#[derive(Clone, Copy, Default)]
pub struct Claim<'a> {
    /// `user`
    pub user: Option<&'a str>,
    /// `pass`
    pub pass: Option<&'a str>,
    /// `auth_token`
    pub token: Option<&'a str>,
    /// `nkey`
    pub nkey: Option<&'a str>,
    /// `sig`
    pub sig: Option<&'a str>,
    /// `jwt`: counts in operator mode, and nothing else does then.
    pub jwt: Option<&'a str>,
}

impl<'a> Claim<'a> {
    /// Whether it claims nothing.
    pub fn is_anonymous(&self) -> bool {
        [self.user, self.pass, self.token, self.nkey]
            .into_iter()
            .all(|field| given(field).is_none())
    }

    /// Whom a log line may name, whether or not it is true.
    pub(crate) fn identity(&self) -> Option<Identity> {
        if let Some(nkey) = given(self.nkey) {
            Some(Identity::Nkey(nkey.into()))
        } else if let Some(user) = given(self.user) {
            Some(Identity::User(user.into()))
        } else {
            given(self.token).map(|_| Identity::Token)
        }
    }
}

impl fmt::Debug for Claim<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim")
            .field("user", &self.user)
            .field("nkey", &self.nkey)
            .finish_non_exhaustive()
    }
}

fn given(field: Option<&str>) -> Option<&str> {
    field.filter(|text| !text.is_empty())
}

/// Whom a connection belongs to.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The account it is bound to.
    pub account: Arc<str>,
    /// Who it is, for the log and for monitoring.
    pub identity: Identity,
    /// What it may do; `None`: everything.
    pub perms: Option<Arc<Perms>>,
    /// What else its JWT says, in operator mode.
    pub mandate: Option<Arc<Mandate>>,
}

/// What a JWT says of a connection besides what it may do.
#[derive(Debug)]
pub struct Mandate {
    /// As it was judged, to be judged again when its account changes.
    pub session: Session,
    /// When the connection ends; `None`: never.
    pub until: Option<Instant>,
}

/// Who somebody is. `Display`: `user:x`, `nkey:U...`, `jwt:U...`, `token` or `anonymous`, peers' text
/// escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Nobody in particular, where nobody needs to be.
    Anonymous,
    /// A user by name.
    User(Arc<str>),
    /// A user by public nkey.
    Nkey(Arc<str>),
    /// A user by the public nkey of its JWT.
    Jwt(Arc<str>),
    /// Whoever knows the token.
    Token,
}

impl Identity {
    /// As monitoring and events name it; `None` for nobody in particular.
    pub fn name(&self) -> Option<&str> {
        match self {
            Identity::Anonymous => None,
            Identity::User(name) | Identity::Nkey(name) | Identity::Jwt(name) => Some(name),
            Identity::Token => Some("[REDACTED]"),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identity::Anonymous => f.write_str("anonymous"),
            Identity::User(name) => write!(f, "user:{}", name.escape_debug()),
            Identity::Nkey(key) => write!(f, "nkey:{}", key.escape_debug()),
            Identity::Jwt(key) => write!(f, "jwt:{}", key.escape_debug()),
            Identity::Token => f.write_str("token"),
        }
    }
}

/// Why somebody is not let in. Peers get [`AuthError::PEER_TEXT`], whatever the reason.
///
/// `Display` is the log line after the connection's name, like
/// `authentication error - User "u"`; [`AuthError::reason`] adds the step for a debug line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthError {
    identity: Option<Identity>,
    reason: Reason,
}

impl AuthError {
    /// The text of the `-ERR` before the connection is closed.
    pub const PEER_TEXT: &'static str = "Authorization Violation";

    /// A JWT that is refused: `user` is the public nkey that it names, if it can be read.
    pub fn of_jwt(user: Option<&str>, refusal: Refusal) -> Self {
        AuthError {
            identity: user.map(|user| Identity::Jwt(user.into())),
            reason: Reason::Jwt(Box::new(refusal)),
        }
    }

    /// The refusal of a JWT.
    pub fn refusal(&self) -> Option<&Refusal> {
        match &self.reason {
            Reason::Jwt(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// What was wrong, without secrets; for the log, never for the peer.
    pub fn reason(&self) -> Cow<'static, str> {
        let fixed = match &self.reason {
            Reason::Jwt(refusal) => return refusal.to_string().into(),
            Reason::NoCredentials => "no credentials of a configured kind",
            Reason::UnknownUser => "unknown user",
            Reason::UnknownNkey => "unknown nkey",
            Reason::ConnectionType => "connection type not allowed",
            Reason::NeedsCertificate => "requires a client certificate",
            Reason::NoCertificate => "user required in cert, no TLS connection state",
            Reason::UnknownCertificate => "user in cert not found",
            Reason::WrongPassword => "wrong password",
            Reason::WrongToken => "wrong token",
            Reason::BadHash => "the configured bcrypt hash is malformed",
            Reason::NoSignature => "signature missing",
            Reason::NoNonce => "no nonce was sent",
            Reason::Signature(NkeyError::MalformedSignature) => "signature not valid base64",
            Reason::Signature(NkeyError::WrongSignature) => "signature not verified",
            Reason::Signature(_) => "the configured nkey is not valid",
        };
        fixed.into()
    }
}

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("authentication error")?;
        match &self.identity {
            Some(Identity::User(name)) => write!(f, " - User \"{}\"", name.escape_debug()),
            Some(Identity::Nkey(key)) => write!(f, " - Nkey \"{}\"", key.escape_debug()),
            Some(Identity::Jwt(key)) => write!(f, " - JWT User \"{}\"", key.escape_debug()),
            Some(Identity::Token) => f.write_str(" - Token \"[REDACTED]\""),
            Some(Identity::Anonymous) | None => Ok(()),
        }
    }
}

impl std::error::Error for AuthError {}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Reason {
    NoCredentials,
    UnknownUser,
    UnknownNkey,
    ConnectionType,
    NeedsCertificate,
    NoCertificate,
    UnknownCertificate,
    WrongPassword,
    WrongToken,
    BadHash,
    NoSignature,
    NoNonce,
    Signature(NkeyError),
    Jwt(Box<Refusal>),
}

/// The answer to a claim.
#[derive(Debug)]
#[must_use]
pub enum Outcome {
    /// Let in.
    Accepted(Verdict),
    /// Nothing speaks against it so far.
    Slow(Check),
}

/// What is found out away from the event loop, while the connection counts as not yet authenticated (with
/// its timeout running).
#[derive(Debug)]
pub enum Check {
    /// A password is compared by bcrypt, which takes from a few milliseconds to seconds.
    Password(SlowCheck),
    /// The account of a JWT is looked up.
    Jwt(JwtCheck),
}

/// A JWT and all that it takes to judge it. `Debug` shows no secret.
pub struct JwtCheck {
    /// `jwt` of CONNECT, or in its place the one of who sends none; empty if there is none at all.
    pub jwt: Secret,
    /// The text of INFO's `nonce`.
    pub nonce: Box<str>,
    /// `sig` of CONNECT.
    pub signature: Option<Secret>,
    /// Where it comes from.
    pub address: IpAddr,
    /// How it connected.
    pub kind: ConnectionType,
}

impl fmt::Debug for JwtCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtCheck")
            .field("address", &self.address)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// What the log says about how a certificate was mapped to a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MappingNotes {
    /// A debug line: by which of its names the user was found, or why none was.
    pub debug: Option<String>,
    /// A warning: CONNECT named a user, which is not looked at.
    pub warning: Option<String>,
}

/// The comparison of one password with its bcrypt hash, to be run away from the event loop.
///
/// Owns everything it needs and is [`Send`]: hand it to a thread and go on serving the others. Anybody who knows a user name can cause one of these, so callers bound how many run at
/// once. `Debug` shows no secret.
pub struct SlowCheck {
    hash: Arc<str>,
    given: Secret,
    verdict: Verdict,
    wrong: Reason,
}

impl SlowCheck {
    /// Compares. Blocks for as long as the hash's cost demands.
    pub fn run(self) -> Result<Verdict, AuthError> {
        let reason = match bcrypt::verify(self.given.reveal(), &self.hash) {
            Ok(true) => return Ok(self.verdict),
            Ok(false) => self.wrong,
            Err(_) => Reason::BadHash,
        };
        Err(AuthError {
            identity: Some(self.verdict.identity),
            reason,
        })
    }
}

impl fmt::Debug for SlowCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlowCheck")
            .field("verdict", &self.verdict)
            .finish_non_exhaustive()
    }
}

/// Whether users come with JWTs, and what is used for who brings none.
fn operator_mode(config: &Config) -> Option<Sentinel> {
    let mode = &config.operator;
    let sentinel = mode.default_sentinel.as_ref();
    mode.is_on()
        .then(|| sentinel.map(|jwt| Secret::new(&*jwt.text)))
}

/// Whether a configured password or token is a bcrypt hash: `^\$2[abxy]\$\d{2}\$`.
pub fn is_bcrypt(text: &str) -> bool {
    matches!(
        text.as_bytes(),
        [
            b'$',
            b'2',
            b'a' | b'b' | b'x' | b'y',
            b'$',
            b'0'..=b'9',
            b'0'..=b'9',
            b'$',
            ..
        ]
    )
}

/// The users of a configuration, found by what a CONNECT names.
///
/// Immutable: after a reload compile a new one. Equal permissions are compiled once.
#[derive(Debug)]
pub struct Users {
    /// By name: global users and those of accounts.
    named: Table,
    /// By public nkey.
    nkeys: Table,
    /// `authorization { token }`
    token: Option<Expected>,
    /// `authorization { user, password }`
    single: Option<(Arc<str>, Expected)>,
    no_auth_user: Option<NoAuthUser>,
    /// Of whoever is let in and is no user of an account.
    account: Arc<str>,
    plaintext: bool,
    /// Operator mode: who has no JWT uses this one, if there is one, and all else means nothing.
    operator: Option<Sentinel>,
    /// The user names that are distinguished names, in the order of the configuration; only where
    /// certificates are mapped.
    distinguished: Vec<(DistinguishedName, Arc<str>)>,
}

/// `default_sentinel`.
type Sentinel = Option<Secret>;

type Table = HashMap<Arc<str>, Entry, RandomState>;

#[derive(Debug)]
struct Entry {
    verdict: Verdict,
    types: Types,
    /// `None` for nkeys.
    password: Option<Expected>,
    /// It has no password, as a certificate says who it is: where none does, that is nobody.
    needs_certificate: bool,
}

impl Entry {
    /// One that may connect by any kind of connection.
    fn new(verdict: Verdict, password: Option<Expected>) -> Entry {
        Entry {
            verdict,
            types: Types::new(&[]),
            password,
            needs_certificate: false,
        }
    }
}

#[derive(Debug)]
struct NoAuthUser {
    verdict: Verdict,
    types: Types,
}

impl Users {
    /// Compiles the users of a configuration that was checked. Of two users of one name, which the
    /// check refuses, the first counts; a `no_auth_user` that does not exist lets nobody in.
    pub fn compile(config: &Config) -> Users {
        Users::with(config, &config.auth)
    }

    /// The users as the websocket listener knows them, where it does not go by what all listeners
    /// do: its own single user, token and `no_auth_user` then stand for the global ones, of which
    /// none counts. Users by name and by nkey are the same everywhere.
    pub fn compile_websocket(config: &Config, listener: &WebsocketListener) -> Option<Users> {
        listener.overrides_auth().then(|| {
            let own = Auth {
                users: config.auth.users.clone(),
                ..listener.auth.clone()
            };
            Users::with(config, &own)
        })
    }

    fn with(config: &Config, auth: &Auth) -> Users {
        let leaf_tls = config
            .leafnodes
            .as_ref()
            .and_then(|leafs| leafs.tls.as_ref());
        let websocket_tls = config.websocket.as_ref().and_then(|it| it.tls.as_ref());
        let listeners = [
            (ConnectionType::Standard, config.tls.as_ref()),
            (ConnectionType::Leafnode, leaf_tls),
            (ConnectionType::Websocket, websocket_tls),
            (ConnectionType::LeafnodeWs, websocket_tls),
        ];
        let mapping = listeners
            .into_iter()
            .filter(|(_, tls)| tls.is_some_and(|tls| tls.map));
        let mut compiler = Compiler {
            mapped: mapping.map(|(kind, _)| kind).collect(),
            ..Compiler::default()
        };
        let global: Arc<str> = GLOBAL_ACCOUNT.into();
        for user in &auth.users {
            compiler.add(user, &global);
        }
        for account in &config.accounts {
            let name: Arc<str> = account.name.as_str().into();
            for user in &account.users {
                compiler.add(user, &name);
            }
        }
        let Compiler {
            named,
            nkeys,
            mut plaintext,
            distinguished,
            ..
        } = compiler;
        let single = auth.user.as_ref().map(|(name, password)| {
            plaintext |= !is_bcrypt(password);
            (Arc::from(name.as_str()), Expected::new(password))
        });
        let no_auth_user = auth.no_auth_user.as_deref().and_then(|name| {
            let entry = named.get(name).or_else(|| nkeys.get(name))?;
            Some(NoAuthUser {
                verdict: entry.verdict.clone(),
                types: entry.types,
            })
        });
        Users {
            named,
            nkeys,
            token: auth.token.as_deref().map(Expected::new),
            single,
            no_auth_user,
            account: global,
            plaintext,
            operator: operator_mode(config),
            distinguished,
        }
    }

    /// The users that `leafnodes.authorization` of a checked configuration gives its listener.
    /// `None`: leafs are judged by those of [`Users::compile`].
    ///
    /// An account without users counts only where clients need not prove who they are. Distinguished
    /// names of these users are only known as one text, not by their parts.
    pub fn compile_for_leafs(config: &Config) -> Option<Users> {
        let listener = config.leafnodes.as_ref()?;
        let auth = &listener.auth;
        let maps = listener.tls.as_ref().is_some_and(|tls| tls.map);
        let name = |account: &Option<String>| -> Arc<str> {
            account.as_deref().unwrap_or(GLOBAL_ACCOUNT).into()
        };
        let mut users = Users {
            named: Table::default(),
            nkeys: Table::default(),
            token: None,
            single: None,
            no_auth_user: None,
            account: name(&auth.account),
            plaintext: false,
            operator: None,
            distinguished: Vec::new(),
        };
        match &auth.users {
            LeafUsers::Clients if config.auth_required() || auth.account.is_none() => return None,
            LeafUsers::Clients => {}
            LeafUsers::One { user, password } => {
                users.single = Some((user.as_str().into(), Expected::new(password)));
            }
            LeafUsers::Nkey(key) => {
                let key: Arc<str> = key.as_str().into();
                let verdict = users.outsider(Identity::Nkey(key.clone()));
                users.nkeys.insert(key, Entry::new(verdict, None));
            }
            LeafUsers::Listed(list) => {
                for listed in list {
                    let user: Arc<str> = listed.user.as_str().into();
                    let verdict = Verdict {
                        account: name(&listed.account),
                        identity: Identity::User(user.clone()),
                        perms: None,
                        mandate: None,
                    };
                    let password = Expected::new(&listed.password);
                    let entry = Entry {
                        needs_certificate: maps && listed.password.is_empty(),
                        ..Entry::new(verdict, Some(password))
                    };
                    users.named.entry(user).or_insert(entry);
                }
            }
        }
        Some(users)
    }

    /// The users that leafs over WebSocket are judged by: those of [`Users::compile_for_leafs`], else
    /// those of clients, with the `no_auth_user` of the websocket listener in place of the global one.
    /// Its user and token are for clients alone. `None`: those of [`Users::compile`].
    pub fn compile_for_websocket_leafs(
        config: &Config,
        listener: &WebsocketListener,
    ) -> Option<Users> {
        Users::compile_for_leafs(config).or_else(|| {
            let no_auth_user = listener.auth.no_auth_user.clone();
            no_auth_user.is_some().then(|| {
                let auth = Auth {
                    no_auth_user,
                    ..config.auth.clone()
                };
                Users::with(config, &auth)
            })
        })
    }

    /// Whether anybody has to prove anything.
    pub fn auth_required(&self) -> bool {
        self.operator.is_some()
            || !self.named.is_empty()
            || !self.nkeys.is_empty()
            || self.token.is_some()
            || self.single.is_some()
    }

    /// `auth_required` of INFO: not said where `no_auth_user` lets everybody in.
    pub fn info_auth_required(&self) -> bool {
        self.auth_required() && self.no_auth_user.is_none()
    }

    /// Whether INFO must carry a nonce.
    pub fn needs_nonce(&self) -> bool {
        self.operator.is_some() || !self.nkeys.is_empty()
    }

    /// The JWT that a CONNECT is judged by, where that is all that counts: its own or the sentinel's,
    /// empty if there is none.
    pub fn jwt<'c>(&'c self, claim: &Claim<'c>) -> Option<&'c str> {
        let sentinel = self.operator.as_ref()?;
        let own = given(claim.jwt);
        let other = || sentinel.as_ref().map_or("", Secret::reveal);
        Some(own.unwrap_or_else(other))
    }

    /// Whether `Plaintext passwords detected, use nkeys or bcrypt` is due at the start. Tokens do
    /// not count, and no passwords at all do not where certificates are mapped to users.
    pub fn has_plaintext_passwords(&self) -> bool {
        self.plaintext
    }

    /// Whom a connection of this kind belongs to that has said nothing about itself: nobody in
    /// particular where nobody is asked, else `no_auth_user` if its connection types allow it.
    /// `None`: the first operation must be CONNECT.
    pub fn anonymous(&self, kind: ConnectionType) -> Option<Verdict> {
        if !self.auth_required() {
            return Some(self.outsider(Identity::Anonymous));
        }
        let user = self.no_auth_user.as_ref()?;
        user.types.allow(kind).then(|| user.verdict.clone())
    }

    /// Judges a CONNECT: `nonce` is the text that INFO carried, `kind` how the peer connected.
    ///
    /// A known and an unknown user take different times where bcrypt is configured, as with every
    /// NATS server: a user name is no secret.
    pub fn check(
        &self,
        claim: &Claim<'_>,
        nonce: &[u8],
        kind: ConnectionType,
    ) -> Result<Outcome, AuthError> {
        let judged = self.judge(claim, nonce, kind, None);
        judged.map_err(|reason| AuthError {
            identity: claim.identity(),
            reason,
        })
    }

    /// Judges a CONNECT on a listener whose clients' certificates say which users they are. The
    /// certificate was verified; `None`: the connection is in clear. Users with nkeys come first, as
    /// without certificates; the password of a user that is found is still compared.
    pub fn check_certificate(
        &self,
        claim: &Claim<'_>,
        nonce: &[u8],
        certificate: Option<&Certificate>,
        kind: ConnectionType,
    ) -> (Result<Outcome, AuthError>, MappingNotes) {
        let mut mapping = Mapping {
            certificate,
            user: None,
            notes: MappingNotes::default(),
        };
        let judged = self.judge(claim, nonce, kind, Some(&mut mapping));
        let judged = judged.map_err(|reason| AuthError {
            identity: mapping.user.map(Identity::User).or(claim.identity()),
            reason,
        });
        (judged, mapping.notes)
    }

    fn judge(
        &self,
        claim: &Claim<'_>,
        nonce: &[u8],
        kind: ConnectionType,
        mapping: Option<&mut Mapping<'_>>,
    ) -> Result<Outcome, Reason> {
        if !self.auth_required() {
            return Ok(Outcome::Accepted(self.outsider(Identity::Anonymous)));
        }
        let mapping = mapping.filter(|_| !self.named.is_empty());
        // Wrong credentials never fall back to it, nor does who shows a certificate need it.
        if claim.is_anonymous()
            && mapping.is_none()
            && let Some(user) = &self.no_auth_user
        {
            return if user.types.allow(kind) {
                Ok(Outcome::Accepted(user.verdict.clone()))
            } else {
                Err(Reason::ConnectionType)
            };
        }
        if !self.nkeys.is_empty()
            && let Some(key) = given(claim.nkey)
        {
            let entry = self.nkeys.get(key).ok_or(Reason::UnknownNkey)?;
            if !entry.types.allow(kind) {
                return Err(Reason::ConnectionType);
            }
            let signature = given(claim.sig).ok_or(Reason::NoSignature)?;
            // A signature over nothing could be replayed for ever.
            if nonce.is_empty() {
                return Err(Reason::NoNonce);
            }
            nkey::verify(key, nonce, signature).map_err(Reason::Signature)?;
            return Ok(Outcome::Accepted(entry.verdict.clone()));
        }
        let pass = claim.pass.unwrap_or_default();
        if let Some(mapping) = mapping {
            let entry = self.map(mapping, kind)?;
            if let Some(user) = given(claim.user) {
                mapping.notes.warning = Some(format!(
                    "User {user:?} found in connect proto, but user required from cert"
                ));
            }
            let password = entry.password.as_ref().ok_or(Reason::WrongPassword)?;
            return password.compare(pass, entry.verdict.clone(), Reason::WrongPassword);
        }
        if !self.named.is_empty()
            && let Some(name) = given(claim.user)
        {
            let entry = self.named.get(name).ok_or(Reason::UnknownUser)?;
            if !entry.types.allow(kind) {
                return Err(Reason::ConnectionType);
            }
            let password = entry.password.as_ref().ok_or(Reason::WrongPassword)?;
            if entry.needs_certificate {
                return Err(Reason::NeedsCertificate);
            }
            return password.compare(pass, entry.verdict.clone(), Reason::WrongPassword);
        }
        // A `user` sent alone is no token on a client connection.
        if let Some(token) = &self.token {
            let sent = given(claim.token).ok_or(Reason::NoCredentials)?;
            return token.compare(sent, self.outsider(Identity::Token), Reason::WrongToken);
        }
        if let Some((name, password)) = &self.single {
            let user = given(claim.user).ok_or(Reason::NoCredentials)?;
            if user != name.as_ref() {
                return Err(Reason::UnknownUser);
            }
            let verdict = self.outsider(Identity::User(name.clone()));
            return password.compare(pass, verdict, Reason::WrongPassword);
        }
        Err(Reason::NoCredentials)
    }

    /// The user a certificate means: the first of its names that is one who may connect like this.
    fn map(&self, mapping: &mut Mapping<'_>, kind: ConnectionType) -> Result<&Entry, Reason> {
        let Some(certificate) = mapping.certificate else {
            mapping.notes.debug = Some("User required in cert, no TLS connection state".into());
            return Err(Reason::NoCertificate);
        };
        let known = |name: &str| {
            let (name, entry) = self.named.get_key_value(name)?;
            entry.types.allow(kind).then_some((name, entry))
        };
        let alike = |is_alike: &dyn Fn(&DistinguishedName) -> bool| {
            let mut alike = self.distinguished.iter().filter(|(name, _)| is_alike(name));
            alike.find_map(|(_, name)| known(name))
        };
        let first_of = |names: &[String]| names.iter().find_map(|name| known(name));
        let subject = || {
            let with_domain = certificate.subject_with_domain.as_deref();
            with_domain
                .and_then(known)
                .or_else(|| known(&certificate.subject))
        };
        let found = None
            .or_else(|| Some(("email found in cert", first_of(&certificate.emails)?)))
            .or_else(|| Some(("SAN found in cert", first_of(&certificate.dns)?)))
            .or_else(|| Some(("URI found in cert", first_of(&certificate.uris)?)))
            .or_else(|| {
                let user = alike(&|name| *name == certificate.name)
                    .or_else(|| alike(&|name| name.is_permutation_of(&certificate.name)))?;
                Some(("DistinguishedNameMatch", user))
            })
            .or_else(|| Some(("certificate subject", subject()?)));
        let Some((by, (name, entry))) = found else {
            let subject = &certificate.subject;
            mapping.notes.debug = Some(format!("User in cert [{subject:?}], not found"));
            return Err(Reason::UnknownCertificate);
        };
        mapping.notes.debug = Some(format!("Using {by} for auth [{name:?}]"));
        mapping.user = Some(name.clone());
        Ok(entry)
    }

    /// Whoever is let in and is no user of an account.
    fn outsider(&self, identity: Identity) -> Verdict {
        Verdict {
            account: self.account.clone(),
            identity,
            perms: None,
            mandate: None,
        }
    }
}

/// What a certificate is asked for, and what comes of it.
struct Mapping<'a> {
    certificate: Option<&'a Certificate>,
    user: Option<Arc<str>>,
    notes: MappingNotes,
}

#[derive(Default)]
struct Compiler<'a> {
    named: Table,
    nkeys: Table,
    plaintext: bool,
    /// The kinds of connections whose certificates are mapped to users.
    mapped: Vec<ConnectionType>,
    distinguished: Vec<(DistinguishedName, Arc<str>)>,
    /// `default_permissions` arrive as a copy in every user; they become one again here.
    perms: Vec<(&'a Permissions, Arc<Perms>)>,
}

impl<'a> Compiler<'a> {
    fn add(&mut self, user: &'a User, account: &Arc<str>) {
        let perms = user
            .permissions
            .as_ref()
            .and_then(|perms| self.share(perms));
        let types = Types::new(&user.connection_types);
        let mut needs_certificate = false;
        let (table, name, password) = match &user.identity {
            UserIdentity::Password { user, password } => {
                let is_mapped = self.mapped.iter().any(|kind| types.allow(*kind));
                needs_certificate = is_mapped && password.is_empty();
                self.plaintext |= !is_bcrypt(password) && !needs_certificate;
                (&mut self.named, user, Some(Expected::new(password)))
            }
            UserIdentity::Nkey(key) => (&mut self.nkeys, key, None),
        };
        let name: Arc<str> = name.as_str().into();
        if !self.mapped.is_empty()
            && password.is_some()
            && let Some(distinguished) = DistinguishedName::parse(&name)
        {
            self.distinguished.push((distinguished, name.clone()));
        }
        let identity = if password.is_some() {
            Identity::User(name.clone())
        } else {
            Identity::Nkey(name.clone())
        };
        table.entry(name).or_insert(Entry {
            verdict: Verdict {
                account: account.clone(),
                identity,
                perms,
                mandate: None,
            },
            types,
            password,
            needs_certificate,
        });
    }

    /// `None` for those that restrict nothing.
    fn share(&mut self, permissions: &'a Permissions) -> Option<Arc<Perms>> {
        let known = self.perms.iter().find(|(known, _)| *known == permissions);
        let compiled = match known {
            Some((_, compiled)) => compiled.clone(),
            None => {
                let compiled = Arc::new(Perms::compile(permissions));
                self.perms.push((permissions, compiled.clone()));
                compiled
            }
        };
        (!compiled.is_unrestricted()).then_some(compiled)
    }
}

/// A set of connection types; 0 is all of them.
#[derive(Clone, Copy, Debug)]
struct Types(u8);

impl Types {
    fn new(types: &[ConnectionType]) -> Types {
        Types(types.iter().fold(0, |all, kind| all | Types::bit(*kind)))
    }

    fn allow(self, kind: ConnectionType) -> bool {
        self.0 == 0 || self.0 & Types::bit(kind) != 0
    }

    fn bit(kind: ConnectionType) -> u8 {
        match kind {
            ConnectionType::Standard => 1,
            ConnectionType::Websocket => 1 << 1,
            ConnectionType::Leafnode => 1 << 2,
            ConnectionType::LeafnodeWs => 1 << 3,
            ConnectionType::Mqtt => 1 << 4,
            ConnectionType::MqttWs => 1 << 5,
            ConnectionType::InProcess => 1 << 6,
        }
    }
}

/// A configured password or token.
enum Expected {
    Bcrypt(Arc<str>),
    Plain {
        /// Filled up to a power of two, so that reading it needs no look at its length.
        padded: Box<[u8]>,
        len: usize,
    },
}

impl Expected {
    fn new(text: &str) -> Expected {
        if is_bcrypt(text) {
            return Expected::Bcrypt(text.into());
        }
        let mut padded = text.as_bytes().to_vec();
        padded.resize(text.len().next_power_of_two().max(64), 0);
        Expected::Plain {
            padded: padded.into(),
            len: text.len(),
        }
    }

    fn compare(&self, sent: &str, verdict: Verdict, wrong: Reason) -> Result<Outcome, Reason> {
        match self {
            Expected::Bcrypt(hash) => Ok(Outcome::Slow(Check::Password(SlowCheck {
                hash: hash.clone(),
                given: Secret::new(sent),
                verdict,
                wrong,
            }))),
            Expected::Plain { padded, len } => {
                if equal(padded, *len, sent.as_bytes()) {
                    Ok(Outcome::Accepted(verdict))
                } else {
                    Err(wrong)
                }
            }
        }
    }
}

impl fmt::Debug for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[REDACTED]")
    }
}

/// Whether `sent` is the first `len` bytes of `padded`. Takes a time that depends on the length of
/// `sent` only, which its sender knows.
fn equal(padded: &[u8], len: usize, sent: &[u8]) -> bool {
    let mask = padded.len().wrapping_sub(1);
    let mut differ = len ^ sent.len();
    for (at, byte) in sent.iter().enumerate() {
        // The length is a power of two of at least 64, so the default is never taken.
        let expected = padded.get(at & mask).copied().unwrap_or_default();
        differ = std::hint::black_box(differ | usize::from(expected ^ byte));
    }
    differ == 0
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {

    use nkeys::{KeyPair, KeyPairType};
    use proptest::prelude::*;

    use super::*;
    use crate::auth::certificate::tests::subject;
    use crate::config::model::{Account, SubjectRules, Tls};

    const STANDARD: ConnectionType = ConnectionType::Standard;
    const NONCE: &[u8] = b"abcdefghijklmno";

    fn named(user: &str, password: &str) -> User {
        User {
            identity: UserIdentity::Password {
                user: user.into(),
                password: password.into(),
            },
            permissions: None,
            connection_types: Vec::new(),
        }
    }

    fn keyed(fill: u8) -> (User, String, String) {
        let pair = KeyPair::new_from_raw(KeyPairType::User, [fill; 32]).unwrap();
        let user = User {
            identity: UserIdentity::Nkey(pair.public_key()),
            permissions: None,
            connection_types: Vec::new(),
        };
        (user, pair.public_key(), pair.seed().unwrap())
    }

    fn config(auth: Auth, accounts: &[(&str, Vec<User>)]) -> Config {
        Config {
            auth,
            accounts: accounts
                .iter()
                .map(|(name, users)| Account {
                    name: (*name).into(),
                    users: users.clone(),
                    ..Account::default()
                })
                .collect(),
            ..Config::default()
        }
    }

    fn global(users: Vec<User>) -> Users {
        Users::compile(&config(
            Auth {
                users,
                ..Auth::default()
            },
            &[],
        ))
    }

    fn user_pass<'a>(user: &'a str, pass: &'a str) -> Claim<'a> {
        Claim {
            user: Some(user),
            pass: Some(pass),
            ..Claim::default()
        }
    }

    /// Runs slow checks on another thread, as callers do.
    fn settle(
        users: &Users,
        claim: &Claim<'_>,
        kind: ConnectionType,
    ) -> Result<Verdict, AuthError> {
        match users.check(claim, NONCE, kind)? {
            Outcome::Accepted(verdict) => Ok(verdict),
            Outcome::Slow(Check::Password(slow)) => {
                std::thread::spawn(|| slow.run()).join().unwrap()
            }
            Outcome::Slow(Check::Jwt(_)) => unreachable!(),
        }
    }

    fn accepted(users: &Users, claim: &Claim<'_>) -> Option<String> {
        let verdict = settle(users, claim, STANDARD).ok()?;
        Some(format!("{} {}", verdict.account, verdict.identity))
    }

    #[test]
    fn without_auth_everybody_is_accepted() {
        let users = Users::compile(&Config::default());
        assert!(!users.auth_required() && !users.info_auth_required() && !users.needs_nonce());
        assert!(users.anonymous(STANDARD).is_some());
        for claim in [Claim::default(), user_pass("any", "thing")] {
            assert_eq!(accepted(&users, &claim).unwrap(), "$G anonymous");
        }
    }

    #[test]
    fn c01_users_of_accounts_and_the_text_of_a_failure() {
        let users = Users::compile(&config(
            Auth {
                users: vec![named("g", "gp")],
                ..Auth::default()
            },
            &[("A", vec![named("a", "ap")]), ("B", vec![named("b", "")])],
        ));
        assert!(users.auth_required() && users.info_auth_required());
        assert!(users.anonymous(STANDARD).is_none());
        assert_eq!(
            accepted(&users, &user_pass("g", "gp")).unwrap(),
            "$G user:g"
        );
        assert_eq!(accepted(&users, &user_pass("a", "ap")).unwrap(), "A user:a");
        assert_eq!(accepted(&users, &user_pass("b", "")).unwrap(), "B user:b");
        for (user, pass) in [
            ("a", "gp"),
            ("a", ""),
            ("a", "app"),
            ("x", "ap"),
            ("", "ap"),
        ] {
            assert!(accepted(&users, &user_pass(user, pass)).is_none());
        }
        let log = |claim| settle(&users, &claim, STANDARD).unwrap_err().to_string();
        assert_eq!(
            log(user_pass("a", "hunter2")),
            "authentication error - User \"a\""
        );
        assert_eq!(
            log(user_pass("a\n\"b", "")),
            "authentication error - User \"a\\n\\\"b\""
        );
        assert_eq!(log(Claim::default()), "authentication error");
        assert_eq!(
            log(Claim {
                token: Some("hunter2"),
                ..Claim::default()
            }),
            "authentication error - Token \"[REDACTED]\""
        );
        assert_eq!(AuthError::PEER_TEXT, "Authorization Violation");
    }

    #[test]
    fn c03_no_auth_user_replaces_only_missing_credentials() {
        let (key_user, key, _) = keyed(1);
        for (name, identity) in [("a", "A user:a".into()), (&key, format!("A nkey:{key}"))] {
            let auth = Auth {
                no_auth_user: Some(name.into()),
                ..Auth::default()
            };
            let users = Users::compile(&config(
                auth,
                &[("A", vec![named("a", "ap"), key_user.clone()])],
            ));
            assert!(users.auth_required() && !users.info_auth_required());
            assert!(users.anonymous(STANDARD).is_some());
            // A JWT alone says nothing here.
            let jwt = Claim {
                jwt: Some("x.y.z"),
                user: Some(""),
                ..Claim::default()
            };
            for claim in [Claim::default(), jwt] {
                assert_eq!(accepted(&users, &claim).unwrap(), identity);
            }
            let token = Claim {
                token: Some("t"),
                ..Claim::default()
            };
            let nkey = Claim {
                nkey: Some(&key),
                ..Claim::default()
            };
            for wrong in [user_pass("a", "no"), user_pass("", "ap"), token, nkey] {
                assert!(accepted(&users, &wrong).is_none(), "{wrong:?}");
            }
        }
        // One that does not exist lets nobody in.
        let users = Users::compile(&config(
            Auth {
                no_auth_user: Some("ghost".into()),
                users: vec![named("a", "ap")],
                ..Auth::default()
            },
            &[],
        ));
        assert!(users.info_auth_required() && users.anonymous(STANDARD).is_none());
        assert!(accepted(&users, &Claim::default()).is_none());
    }

    #[test]
    fn c04_nkey_beats_user_and_both_encodings_are_accepted() {
        let (user, key, seed) = keyed(1);
        let (_, other_key, other_seed) = keyed(2);
        let users = global(vec![user, named("a", "ap")]);
        assert!(users.needs_nonce());
        let sig = nkey::sign(&seed, NONCE).unwrap();
        let raw = data_encoding::BASE64URL_NOPAD
            .decode(sig.as_bytes())
            .unwrap();
        let standard = data_encoding::BASE64.encode(&raw);
        let claim = |key, sig| Claim {
            nkey: Some(key),
            sig: Some(sig),
            ..Claim::default()
        };
        for sig in [&sig, &standard] {
            let expected = format!("$G nkey:{key}");
            assert_eq!(accepted(&users, &claim(&key, sig)).unwrap(), expected);
            let both = Claim {
                user: Some("a"),
                pass: Some("wrong"),
                ..claim(&key, sig)
            };
            assert_eq!(accepted(&users, &both).unwrap(), expected);
        }
        let other = nkey::sign(&other_seed, NONCE).unwrap();
        for wrong in [
            claim(&key, &other),
            claim(&other_key, &other),
            claim(&key, ""),
            // The right password does not help a wrong signature.
            Claim {
                user: Some("a"),
                pass: Some("ap"),
                ..claim(&key, &other)
            },
        ] {
            let error = settle(&users, &wrong, STANDARD).unwrap_err();
            assert!(error.to_string().starts_with("authentication error - Nkey"));
        }
        assert!(users.check(&claim(&key, &sig), b"other", STANDARD).is_err());
        let over_nothing = nkey::sign(&seed, b"").unwrap();
        assert!(
            users
                .check(&claim(&key, &over_nothing), b"", STANDARD)
                .is_err()
        );
        // Without nkey users an nkey beside a password is not looked at.
        let users = global(vec![named("a", "ap")]);
        let both = Claim {
            user: Some("a"),
            pass: Some("ap"),
            ..claim(&key, &sig)
        };
        assert_eq!(accepted(&users, &both).unwrap(), "$G user:a");
    }

    #[test]
    fn c05_token_is_no_user() {
        let users = Users::compile(&config(
            Auth {
                token: Some("s3cret".into()),
                ..Auth::default()
            },
            &[],
        ));
        assert!(!users.has_plaintext_passwords());
        let token = |token| Claim {
            token: Some(token),
            ..Claim::default()
        };
        assert_eq!(accepted(&users, &token("s3cret")).unwrap(), "$G token");
        for wrong in [
            token("s3cre"),
            token("s3cret "),
            user_pass("s3cret", ""),
            Claim::default(),
        ] {
            assert!(accepted(&users, &wrong).is_none());
        }
    }

    #[test]
    fn c06_bcrypt_in_every_version() {
        let hash = bcrypt::hash_with_salt("pw", 4, [9; 16]).unwrap();
        for version in [
            bcrypt::Version::TwoA,
            bcrypt::Version::TwoB,
            bcrypt::Version::TwoX,
            bcrypt::Version::TwoY,
        ] {
            let hash = hash.format_for_version(version);
            let single = Auth {
                user: Some(("s".into(), hash.clone())),
                ..Auth::default()
            };
            let token = Auth {
                token: Some(hash.clone()),
                ..Auth::default()
            };
            let list = global(vec![named("s", &hash)]);
            assert!(!list.has_plaintext_passwords());
            for users in [Users::compile(&config(single, &[])), list] {
                assert_eq!(
                    accepted(&users, &user_pass("s", "pw")).unwrap(),
                    "$G user:s"
                );
                assert!(accepted(&users, &user_pass("s", "pW")).is_none());
                // The hash itself is no password.
                assert!(accepted(&users, &user_pass("s", &hash)).is_none());
                let slow = users.check(&user_pass("s", "pw"), NONCE, STANDARD);
                assert!(matches!(slow, Ok(Outcome::Slow(_))));
                let shown = format!("{slow:?} {users:?}");
                assert!(!shown.contains("pw") && !shown.contains(&hash));
            }
            let users = Users::compile(&config(token, &[]));
            let claim = Claim {
                token: Some("pw"),
                ..Claim::default()
            };
            assert_eq!(accepted(&users, &claim).unwrap(), "$G token");
        }
        let malformed = global(vec![named("s", "$2a$04$short")]);
        let error = settle(&malformed, &user_pass("s", "$2a$04$short"), STANDARD).unwrap_err();
        assert_eq!(error.reason(), "the configured bcrypt hash is malformed");
        assert_eq!(error.to_string(), "authentication error - User \"s\"");
        for plain in ["$2c$04$x", "$2a$4$x", "2a$04$", "", "$2a$04", "x$2a$04$"] {
            assert!(!is_bcrypt(plain), "{plain}");
        }
    }

    #[test]
    fn c08_connection_types() {
        let mut leaf_only = named("l", "lp");
        leaf_only.connection_types = vec![ConnectionType::Leafnode, ConnectionType::Websocket];
        let users = Users::compile(&config(
            Auth {
                users: vec![leaf_only],
                no_auth_user: Some("l".into()),
                ..Auth::default()
            },
            &[],
        ));
        let claim = user_pass("l", "lp");
        for (kind, expected) in [
            (ConnectionType::Leafnode, true),
            (ConnectionType::Websocket, true),
            (STANDARD, false),
            (ConnectionType::LeafnodeWs, false),
        ] {
            assert_eq!(settle(&users, &claim, kind).is_ok(), expected, "{kind:?}");
            let nobody = settle(&users, &Claim::default(), kind);
            assert_eq!(nobody.is_ok(), expected, "{kind:?}");
            assert_eq!(users.anonymous(kind).is_some(), expected, "{kind:?}");
        }
    }

    #[test]
    fn c12_permissions_are_shared_and_empty_ones_vanish() {
        let restricted = Permissions {
            publish: SubjectRules {
                allow: vec!["a".into()],
                deny: Vec::new(),
            },
            ..Permissions::default()
        };
        let with = |name, permissions| User {
            permissions: Some(permissions),
            ..named(name, "p")
        };
        let users = global(vec![
            with("a", restricted.clone()),
            with("b", restricted),
            with("c", Permissions::default()),
            named("d", "p"),
        ]);
        let perms = |user| {
            settle(&users, &user_pass(user, "p"), STANDARD)
                .unwrap()
                .perms
        };
        assert!(Arc::ptr_eq(&perms("a").unwrap(), &perms("b").unwrap()));
        assert!(perms("c").is_none() && perms("d").is_none());
    }

    fn mapped(users: Vec<User>) -> Users {
        Users::compile(&Config {
            tls: Some(mapping_tls()),
            ..config(
                Auth {
                    users,
                    no_auth_user: Some("nobody".into()),
                    ..Auth::default()
                },
                &[],
            )
        })
    }

    fn mapping_tls() -> Tls {
        Tls {
            verify: true,
            map: true,
            ..Tls::default()
        }
    }

    fn certificate() -> Certificate {
        Certificate {
            emails: vec!["e@x".into(), "f@x".into()],
            dns: vec!["host.x".into()],
            uris: vec!["spiffe://x/y".into()],
            ..Certificate::of_subject(&subject(&[
                ("DC", "com"),
                ("O", "org1"),
                ("OU", "ou1"),
                ("CN", "cli"),
            ]))
        }
    }

    /// Who a CONNECT with this certificate is, and the debug line.
    fn shown(
        users: &Users,
        claim: &Claim<'_>,
    ) -> (Result<String, Cow<'static, str>>, MappingNotes) {
        let (outcome, notes) =
            users.check_certificate(claim, NONCE, Some(&certificate()), STANDARD);
        let who = match outcome {
            Ok(Outcome::Accepted(verdict)) => Ok(verdict.identity.to_string()),
            Ok(Outcome::Slow(_)) => Err("slow".into()),
            Err(error) => Err(error.reason()),
        };
        (who, notes)
    }

    #[test]
    fn c17_the_first_name_of_a_certificate_that_is_a_user_counts() {
        // From the weakest to the strongest: each new one wins over those before it.
        let names = [
            ("nobody", None),
            ("cli", None),
            ("CN=cli", None),
            (
                "O=org1,OU=ou1,CN=cli,DC=com",
                Some("DistinguishedNameMatch"),
            ),
            (
                "CN=cli,OU=ou1,O=org1,DC=com",
                Some("DistinguishedNameMatch"),
            ),
            ("spiffe://x/y", Some("URI found in cert")),
            ("host.x", Some("SAN found in cert")),
            ("f@x", Some("email found in cert")),
            ("e@x", Some("email found in cert")),
        ];
        let mut users = Vec::new();
        for (name, by) in names {
            users.push(named(name, ""));
            let (who, notes) = shown(&mapped(users.clone()), &Claim::default());
            match by {
                Some(by) => {
                    assert_eq!(who, Ok(format!("user:{}", name.escape_debug())));
                    assert_eq!(notes.debug, Some(format!("Using {by} for auth [{name:?}]")));
                }
                None => {
                    assert_eq!(who, Err("user in cert not found".into()), "{name}");
                    let line = "User in cert [\"CN=cli,OU=ou1,O=org1\"], not found";
                    assert_eq!(notes.debug.as_deref(), Some(line));
                }
            }
            assert_eq!(notes.warning, None);
        }
    }

    #[test]
    fn the_text_of_a_subject_is_a_name_too() {
        // A name that no distinguished name is like, so that only the text is left.
        let odd = Certificate {
            name: DistinguishedName::default(),
            ..certificate()
        };
        let with_domain = "CN=cli,OU=ou1,O=org1,DC=com";
        let mut names = vec![named(&odd.subject, "")];
        for want in [odd.subject.as_str(), with_domain] {
            let users = mapped(names.clone());
            let (outcome, notes) =
                users.check_certificate(&Claim::default(), NONCE, Some(&odd), STANDARD);
            assert!(outcome.is_ok());
            assert_eq!(
                notes.debug,
                Some(format!("Using certificate subject for auth [{want:?}]"))
            );
            names.push(named(with_domain, ""));
        }
    }

    #[test]
    fn c18_a_mapped_user_has_its_password_and_no_other_name() {
        let users = mapped(vec![named("e@x", ""), named("a", "ap")]);
        for (claim, want) in [
            (user_pass("a", ""), Ok("user:e@x".to_owned())),
            (user_pass("a", "ap"), Err("wrong password")),
            (user_pass("", "ap"), Err("wrong password")),
        ] {
            let (who, notes) = shown(&users, &claim);
            assert_eq!(who, want.map_err(Into::into));
            let warning = "User \"a\" found in connect proto, but user required from cert";
            let named = given(claim.user).map(|_| warning.to_owned());
            assert_eq!(notes.warning, named);
        }
        let users = mapped(vec![named("e@x", "ep")]);
        assert_eq!(shown(&users, &user_pass("", "ep")).0, Ok("user:e@x".into()));
        assert_eq!(
            shown(&users, &Claim::default()).0,
            Err("wrong password".into())
        );
        let (outcome, _) =
            users.check_certificate(&user_pass("a", "x"), NONCE, Some(&certificate()), STANDARD);
        let log = outcome.unwrap_err().to_string();
        assert_eq!(log, "authentication error - User \"e@x\"");
    }

    #[test]
    fn a_user_that_may_not_connect_like_this_is_not_meant() {
        let leaf_only = User {
            connection_types: vec![ConnectionType::Leafnode],
            ..named("e@x", "")
        };
        let users = mapped(vec![leaf_only.clone(), named("host.x", "")]);
        assert_eq!(shown(&users, &Claim::default()).0, Ok("user:host.x".into()));
        let users = mapped(vec![leaf_only]);
        assert_eq!(
            shown(&users, &Claim::default()).0,
            Err("user in cert not found".into())
        );
    }

    #[test]
    fn mapping_needs_a_certificate_and_named_users() {
        let (key_user, key, seed) = keyed(1);
        let users = mapped(vec![named("e@x", ""), named("nobody", ""), key_user]);
        let (outcome, notes) = users.check_certificate(&Claim::default(), NONCE, None, STANDARD);
        assert_eq!(
            outcome.unwrap_err().reason(),
            "user required in cert, no TLS connection state"
        );
        assert_eq!(
            notes.debug.unwrap(),
            "User required in cert, no TLS connection state"
        );
        // A key says more than a certificate.
        let sig = nkey::sign(&seed, NONCE).unwrap();
        let claim = Claim {
            nkey: Some(&key),
            sig: Some(&sig),
            ..Claim::default()
        };
        assert_eq!(shown(&users, &claim).0, Ok(format!("nkey:{key}")));
        // Without users by name the certificate means nobody.
        let token = Users::compile(&Config {
            tls: Some(mapping_tls()),
            ..config(
                Auth {
                    token: Some("t".into()),
                    ..Auth::default()
                },
                &[],
            )
        });
        let claim = Claim {
            token: Some("t"),
            ..Claim::default()
        };
        assert_eq!(shown(&token, &claim).0, Ok("token".into()));
    }

    #[test]
    fn users_without_password_are_no_plaintext_and_need_their_certificate() {
        let users = mapped(vec![named("e@x", "")]);
        assert!(!users.has_plaintext_passwords());
        let error = settle(&users, &user_pass("e@x", ""), STANDARD).unwrap_err();
        assert_eq!(error.reason(), "requires a client certificate");
        assert_eq!(error.to_string(), "authentication error - User \"e@x\"");
        let users = mapped(vec![named("e@x", ""), named("a", "ap")]);
        assert!(users.has_plaintext_passwords());
        assert!(settle(&users, &user_pass("a", "ap"), STANDARD).is_ok());
        let users = global(vec![named("e@x", "")]);
        assert!(users.has_plaintext_passwords());
        assert!(settle(&users, &user_pass("e@x", ""), STANDARD).is_ok());
        // Also at the listener for leafs, if they may connect there.
        let leafs = "leafnodes {port: 1, tls {cert_file: c, key_file: k, verify_and_map: true}}";
        for (types, is_mapped) in [("", true), ("LEAFNODE", true), ("STANDARD", false)] {
            let users = format!("authorization {{users: [{{user: \"e@x\", clients: [{types}]}}]}}");
            let config = crate::config::testing::config(&format!("{leafs}; {users}"));
            let users = Users::compile(&config);
            assert_eq!(users.has_plaintext_passwords(), !is_mapped, "{types}");
            let refused = settle(&users, &user_pass("e@x", ""), STANDARD).is_err();
            assert_eq!(refused, is_mapped, "{types}");
        }
    }

    #[test]
    fn a_listener_for_leafs_may_have_no_users_of_its_own() {
        let leafs =
            |text: &str| Users::compile_for_leafs(&crate::config::testing::config(text)).is_some();
        for (text, has) in [
            ("", false),
            ("leafnodes {port: 0, authorization {user: u}}", false),
            ("leafnodes {port: 1}", false),
            ("leafnodes {port: 1, authorization {timeout: 1}}", false),
            (
                "leafnodes {port: 1, authorization {account: A}}; accounts [A]",
                true,
            ),
            (
                "leafnodes {port: 1, authorization {account: A}}; authorization {token: t}",
                false,
            ),
            (
                "leafnodes {port: 1, authorization {user: u}}; authorization {token: t}",
                true,
            ),
        ] {
            assert_eq!(leafs(text), has, "{text}");
        }
    }

    #[test]
    fn c48_no_secret_is_shown() {
        let users = Users::compile(&config(
            Auth {
                user: Some(("u".into(), "hunter2".into())),
                token: Some("hunter2".into()),
                users: vec![named("x", "hunter2")],
                ..Auth::default()
            },
            &[],
        ));
        assert!(users.has_plaintext_passwords());
        let claim = Claim {
            token: Some("hunter2"),
            sig: Some("hunter2"),
            jwt: Some("hunter2"),
            ..user_pass("u", "hunter2")
        };
        let outcome = users.check(&user_pass("u", "hunter2!"), NONCE, STANDARD);
        assert!(!format!("{users:?} {claim:?} {outcome:?}").contains("hunter2"));
    }

    #[test]
    fn a_slow_check_can_move_to_a_thread() {
        fn is_send<T: Send + 'static>() {}
        is_send::<SlowCheck>();
    }

    proptest! {
        #[test]
        fn password_comparison_is_equality(one in ".{0,80}", other in ".{0,80}", cut in 0..80usize) {
            let matches = |secret: &str, sent: &str| match Expected::new(secret) {
                Expected::Plain { padded, len } => equal(&padded, len, sent.as_bytes()),
                Expected::Bcrypt(_) => secret == sent,
            };
            prop_assert!(matches(&one, &one));
            prop_assert_eq!(matches(&one, &other), one == other);
            let prefix: String = one.chars().take(cut).collect();
            prop_assert_eq!(matches(&one, &prefix), one == prefix);
            prop_assert_eq!(matches(&prefix, &one), one == prefix);
            // What fills the secret up is no part of it.
            let longer = format!("{one}\0");
            prop_assert!(!matches(&one, &longer));
        }
    }
}
