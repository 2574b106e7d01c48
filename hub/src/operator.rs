//! Operator mode: accounts and users are what JWTs say that somebody trusted has signed.
//!
//! | what | where |
//! |---|---|
//! | who is trusted, where accounts come from, who is let in | here |
//! | the accounts that are in use, for all threads | [`accounts`] |
//! | what is asked of a resolver in the system account | [`claims`] |
//! | the directory of a resolver | [`crate::resolver`] |

pub(crate) mod accounts;
pub(crate) mod claims;
mod zones;

use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use petiole_core::account::perms::Perms;
use petiole_core::auth::jwt::{
    self, Claims, Clock as WallClock, Lookup, Presented, Proxied, Refusal, Session, Trust,
    TrustedAccount,
};
use petiole_core::auth::public_key::AccountKey;
use petiole_core::auth::users::{AuthError, Identity, JwtCheck, Mandate, Verdict};
use petiole_core::config::model::{
    Config, DeleteRequests, JwtSource, OperatorMode, Resolver, SYSTEM_ACCOUNT,
};
use petiole_core::time::Instant;
use petiole_core::wire::VERSION;
use petiole_core::wire::version::Version;
use petiole_leaf::{Judge, Judging};
use petiole_net::clock::{Clock, since_1970, unix_now};

use crate::resolver::store::{Facts, Store};
use accounts::{Accounts, Known};
use zones::SystemZones;

/// Accounts that are looked up because one imports from another: how far that goes.
const MOST_IMPORTS_DEEP: usize = 16;

/// What operator mode needs to know before the server listens.
pub(crate) struct Operator {
    trust: Trust,
    /// The system account.
    system: Option<Arc<str>>,
    source: Source,
    clock: Clock,
    accounts: Arc<Accounts>,
}

/// Where the JWTs of accounts are.
enum Source {
    /// `resolver_preload`.
    Memory(HashMap<String, String>),
    /// A directory.
    Directory(Arc<Mutex<Store>>, Keeping),
}

/// What is kept in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeping {
    /// All accounts, which may be deleted like this.
    All(DeleteRequests),
    /// Those that were used.
    Used,
}

impl Operator {
    /// Reads and checks what a configuration says of it; `None`: the server is not in operator mode. An
    /// error names the place.
    pub(crate) fn new(config: &Config, clock: Clock) -> Result<Option<Self>, String> {
        let mode = &config.operator;
        if !mode.is_on() {
            return Ok(None);
        }
        let now = unix_now();
        let operators = operators(mode, now)?;
        let trust = if operators.is_empty() {
            Trust::in_keys(&mode.trusted_keys)?
        } else {
            let version = Version::parse(VERSION).unwrap_or(Version([0; 3]));
            Trust::in_operators(&operators, version)?
        };
        let system = system_account(config, &operators)?;
        let trust = if mode.pinned_accounts.is_empty() {
            trust
        } else {
            let pinned: Vec<String> = mode
                .pinned_accounts
                .iter()
                .map(ToString::to_string)
                .collect();
            trust.pinned_to(pinned.iter().map(String::as_str).chain(system.as_deref()))
        };
        Ok(Some(Operator {
            source: Source::open(mode, system.is_some(), now)?,
            trust,
            accounts: Arc::new(Accounts::new(system.clone())),
            system,
            clock,
        }))
    }

    /// The accounts in use.
    pub(crate) fn accounts(&self) -> &Arc<Accounts> {
        &self.accounts
    }

    /// The system account.
    pub(crate) fn system(&self) -> Option<&Arc<str>> {
        self.system.as_ref()
    }

    /// Finds those accounts that the configuration names, before anybody connects. Without a JWT the
    /// system account is one in which only its own key signs users (resolver, bootstrapping).
    pub(crate) async fn prepare<'a>(&self, named: impl Iterator<Item = &'a str>) {
        if let Some(system) = &self.system
            && let Err(error) = self.look_up(system).await
        {
            log::warn!(
                "System account {system}: {error}. Until its JWT is pushed, only users that its own key \
                 signed are let in"
            );
            if let Some(account) = TrustedAccount::bootstrap(system) {
                self.accounts.put(account, "", unix_now());
            }
        }
        for account in named {
            if let Err(error) = self.look_up(account).await {
                log::warn!("Account {account}: {error}");
            }
        }
    }

    /// An account that may be used, wherever it is.
    async fn look_up(&self, id: &str) -> Result<Arc<TrustedAccount>, Lookup> {
        let account = self.look_up_one(id).await?;
        // What it imports comes from accounts that are then in use, too.
        let mut open = vec![(account.clone(), 0)];
        while let Some((importer, depth)) = open.pop() {
            if depth >= MOST_IMPORTS_DEEP {
                continue;
            }
            for import in &importer.claims().body.imports {
                if self.accounts.is_known(&import.account) {
                    continue;
                }
                match self.look_up_one(&import.account).await {
                    Ok(exporter) => open.push((exporter, depth + 1)),
                    Err(error) => {
                        log::debug!("Account {id} imports from {:?}: {error}", import.account)
                    }
                }
            }
        }
        Ok(account)
    }

    async fn look_up_one(&self, id: &str) -> Result<Arc<TrustedAccount>, Lookup> {
        let now = unix_now();
        match self.accounts.get(id, now) {
            Known::Good(account) => return Ok(account),
            Known::Ended | Known::Not => {}
        }
        let jwt = self.read(id, now).await?.ok_or(Lookup::Missing)?;
        let account = TrustedAccount::admit(&jwt, id, &self.trust, now).map_err(|refusal| {
            log::warn!("Account {id} cannot be used: {refusal}");
            Lookup::Refused(refusal)
        })?;
        warn_of_unserved(&account);
        Ok(self.accounts.put(account, &jwt, now))
    }

    /// The JWT of an account, as it is kept.
    async fn read(&self, id: &str, now: i64) -> Result<Option<String>, Lookup> {
        match &self.source {
            Source::Memory(all) => Ok(all.get(id).cloned()),
            Source::Directory(store, _) => {
                let Some(key) = AccountKey::parse(id) else {
                    return Ok(None);
                };
                let store = store.clone();
                let read = smol::unblock(move || lock(&store).load(key, now)).await;
                read.map_err(|error| Lookup::Failed(error.to_string()))
            }
        }
    }

    async fn judge_one(&self, check: JwtCheck) -> Result<Verdict, AuthError> {
        let zones = SystemZones;
        let clock = || WallClock {
            now: unix_now(),
            zones: &zones,
        };
        let jwt = Some(check.jwt.reveal());
        let presented = Presented::read(jwt, Proxied::No, &self.trust, clock())
            .map_err(|refusal| AuthError::of_jwt(None, refusal))?;
        let user = presented.user().to_owned();
        let refuse = |refusal: Refusal| AuthError::of_jwt(Some(&user), refusal);
        let account = self.look_up(presented.account()).await;
        if let Err(error) = &account {
            log::warn!("Account fetch failed: {error}");
        }
        let peer = jwt::Peer {
            nonce: check.nonce.as_bytes(),
            signature: check.signature.as_ref().map(|signature| signature.reveal()),
            address: Some(check.address),
            kind: check.kind,
            proxied: Proxied::No,
        };
        let account = account
            .as_ref()
            .map(|account| &**account)
            .map_err(Clone::clone);
        let session = presented
            .judge(account, &peer, &self.trust, clock())
            .map_err(refuse)?;
        log::debug!("{} - {session}", check.address);
        if !session.unknown_types.is_empty() {
            log::debug!(
                "{} - invalid connection types {:?}",
                check.address,
                session.unknown_types
            );
        }
        Ok(verdict(session, self.clock.now()))
    }

    /// Waits for the next moment at which an account, or an activation of one, expires, and lets all
    /// threads know; and does so again.
    pub(crate) async fn keep_time(&self) {
        loop {
            self.accounts.wait(unix_now()).await;
            self.accounts.review(unix_now());
        }
    }

    /// Removes from a directory what has expired, now and then.
    pub(crate) async fn tidy(&self) {
        let Source::Directory(store, _) = &self.source else {
            return;
        };
        loop {
            async_io::Timer::after(TIDY_EVERY).await;
            let store = store.clone();
            let gone = smol::unblock(move || {
                let mut store = lock(&store);
                let gone = store.expire(unix_now());
                store.commit().map(|()| gone)
            });
            match gone.await {
                Ok(gone) => gone
                    .iter()
                    .for_each(|account| log::debug!("The JWT of account {account} has expired")),
                Err(error) => log::error!("Account directory: {error}"),
            }
        }
    }
}

/// How often a directory is looked through for what has expired (resolver, directory store).
const TIDY_EVERY: Duration = Duration::from_secs(60);

/// As each thread asks it.
pub(crate) struct Desk(pub(crate) Arc<Operator>);

impl Judge for Desk {
    fn judge(&self, check: JwtCheck) -> Judging {
        let operator = self.0.clone();
        Box::pin(async move { operator.judge_one(check).await })
    }
}

impl Operator {
    /// As a thread of the server asks it.
    pub(crate) fn as_judge(self: &Arc<Self>) -> Rc<dyn Judge> {
        Rc::new(Desk(self.clone()))
    }
}

/// What a session is to the link that it is of.
pub(crate) fn verdict(session: Session, now: Instant) -> Verdict {
    let until = session.expires.map(|last| now + until(last));
    Verdict {
        account: session.account.clone(),
        identity: Identity::Jwt(session.user.clone()),
        perms: permissions(&session),
        mandate: Some(Arc::new(Mandate { session, until })),
    }
}

/// What a session may do, made ready.
pub(crate) fn permissions(session: &Session) -> Option<Arc<Perms>> {
    let stated = session.permissions.as_ref();
    stated.map(|stated| Arc::new(Perms::compile(stated)))
}

/// How long until a second, in Unix time, is over.
fn until(last: i64) -> Duration {
    let end = Duration::from_secs(u64::try_from(last.saturating_add(1)).unwrap_or(0));
    end.saturating_sub(since_1970())
}

pub(crate) fn lock(store: &Mutex<Store>) -> MutexGuard<'_, Store> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

fn warn_of_unserved(account: &TrustedAccount) {
    for what in account.claims().body.unserved() {
        log::warn!(
            "Account {}: {what:?} of its JWT is not served",
            account.key()
        );
    }
}

/// The operators that are trusted.
fn operators(mode: &OperatorMode, now: i64) -> Result<Vec<Claims<jwt::Operator>>, String> {
    let mut all = Vec::new();
    for operator in &mode.operators {
        let at = &operator.at;
        let text = match &operator.source {
            JwtSource::Text(text) => text.clone(),
            JwtSource::File(path) => std::fs::read_to_string(path)
                .map_err(|error| format!("{at}: operator file {path:?}: {error}"))?,
        };
        let claims = jwt::decode::<jwt::Operator>(undecorated(&text))
            .map_err(|error| format!("{at}: operator JWT: {error}"))?;
        if let Some(warning) = claims.warning(now) {
            log::warn!("{at}: {warning}");
        }
        all.push(claims);
    }
    Ok(all)
}

/// The JWT in a file, bare or between the lines that `nsc` puts around it.
fn undecorated(text: &str) -> &str {
    let mut lines = text.lines().map(str::trim);
    let jwt = lines.find(|line| !line.is_empty() && !line.starts_with("---"));
    jwt.unwrap_or_default()
}

fn system_account(
    config: &Config,
    operators: &[Claims<jwt::Operator>],
) -> Result<Option<Arc<str>>, String> {
    let named = config.system_account.as_deref();
    let named = named.filter(|name| *name != SYSTEM_ACCOUNT);
    let stated = match operators {
        [one] => Some(&*one.body.system_account).filter(|account| !account.is_empty()),
        _ => None,
    };
    match (named, stated) {
        (Some(named), Some(stated)) if named != stated => Err(format!(
            "system_account in config and operator JWT must be identical: {named} and {stated}"
        )),
        (named, stated) => Ok(named.or(stated).map(Into::into)),
    }
}

impl Source {
    fn open(mode: &OperatorMode, has_system: bool, now: i64) -> Result<Self, String> {
        let preload = || mode.preload.iter();
        let open = |dir: &str, settings, at: &str| {
            if !has_system {
                return Err(format!(
                    "{at}: using nats based account resolver - the system account needs to be specified in configuration or the operator jwt"
                ));
            }
            Store::open(Path::new(dir), settings, facts, now)
                .map_err(|error| format!("{at}: resolver directory {dir:?}: {error}"))
        };
        let (mut store, keeping) = match &mode.resolver {
            None => {
                return Err("operators require an account resolver to be configured (resolver: MEMORY, or a \
                            block with type full or cache)"
                    .into());
            }
            Some(Resolver::Memory) => {
                let all = preload().map(|it| (it.account.to_string(), it.jwt.text.clone()));
                return Ok(Source::Memory(all.collect()));
            }
            Some(Resolver::Url(url)) => {
                return Err(format!(
                    "{}: resolver URL({url}): petiole does not fetch accounts over HTTP yet; use MEMORY, or \
                     type full or cache",
                    url.at
                ));
            }
            Some(Resolver::Full(full)) => (
                open(&full.dir, full.into(), &full.at)?,
                Keeping::All(full.deletion),
            ),
            Some(Resolver::Cache(cache)) => {
                (open(&cache.dir, cache.into(), &cache.at)?, Keeping::Used)
            }
        };
        for entry in preload() {
            let text = &entry.jwt.text;
            let saved = facts(text).and_then(|facts| {
                let saved = store.save_if_newer(entry.account, text, &facts, now);
                saved.map_err(|error| error.to_string())
            });
            saved.map_err(|error| format!("{}: resolver_preload: {error}", entry.jwt.at))?;
        }
        store
            .commit()
            .map_err(|error| format!("resolver directory: {error}"))?;
        Ok(Source::Directory(Arc::new(Mutex::new(store)), keeping))
    }
}

/// What a directory has to know of a JWT.
pub(crate) fn facts(text: &str) -> Result<Facts, String> {
    let claims = jwt::decode::<jwt::Account>(text).map_err(|error| error.to_string())?;
    let standard = claims.standard;
    let subject = AccountKey::parse(&standard.subject)
        .ok_or_else(|| format!("{:?} is no public account key", standard.subject))?;
    Ok(Facts {
        subject,
        issued_at: standard.issued_at,
        expires_at: standard.expires,
        id: standard.id,
    })
}
