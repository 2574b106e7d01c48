//! What is asked of a resolver in the system account (resolver, subjects and responses): accounts are
//! stored, listed, deleted and handed out.

use std::sync::{Arc, Mutex};

use petiole_core::auth::jwt::{Generic, TrustedAccount, check_deletion, check_update, decode};
use petiole_core::auth::public_key::AccountKey;
use petiole_core::config::model::DeleteRequests;
use petiole_net::clock::unix_now;
use serde_json::{Value, json};

use super::accounts::Known;
use super::{Keeping, Operator, Source, facts, lock};
use crate::resolver::store::Store;

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClaimsRequest {
    /// Store an account's JWT.
    Update,
    /// The same, to the account that the subject names.
    AccountUpdate,
    /// The same under the subject of old servers.
    LegacyUpdate,
    /// Which accounts there are.
    List,
    /// Delete accounts.
    Delete,
    /// The JWT of an account.
    Lookup,
    /// All JWTs, if they are others than the asker's.
    Pack,
}

impl ClaimsRequest {
    /// All, as the place of one is its name.
    pub(crate) const ALL: [ClaimsRequest; 7] = [
        ClaimsRequest::Update,
        ClaimsRequest::AccountUpdate,
        ClaimsRequest::LegacyUpdate,
        ClaimsRequest::List,
        ClaimsRequest::Delete,
        ClaimsRequest::Lookup,
        ClaimsRequest::Pack,
    ];

    /// What is subscribed to for it.
    pub(crate) fn subject(self) -> &'static str {
        match self {
            ClaimsRequest::Update => "$SYS.REQ.CLAIMS.UPDATE",
            ClaimsRequest::AccountUpdate => "$SYS.REQ.ACCOUNT.*.CLAIMS.UPDATE",
            ClaimsRequest::LegacyUpdate => "$SYS.ACCOUNT.*.CLAIMS.UPDATE",
            ClaimsRequest::List => "$SYS.REQ.CLAIMS.LIST",
            ClaimsRequest::Delete => "$SYS.REQ.CLAIMS.DELETE",
            ClaimsRequest::Lookup => "$SYS.REQ.ACCOUNT.*.CLAIMS.LOOKUP",
            ClaimsRequest::Pack => "$SYS.REQ.CLAIMS.PACK",
        }
    }

    /// The queue group in which one server answers for all.
    pub(crate) fn queue(self) -> Option<&'static str> {
        (self == ClaimsRequest::Pack).then_some("responder")
    }

    /// Whether it changes what is kept.
    fn writes(self) -> bool {
        !matches!(
            self,
            ClaimsRequest::List | ClaimsRequest::Lookup | ClaimsRequest::Pack
        )
    }

    /// The account that a subject names.
    fn account(self, subject: &str) -> Option<&str> {
        let token = match self {
            ClaimsRequest::AccountUpdate | ClaimsRequest::Lookup => 3,
            ClaimsRequest::LegacyUpdate => 2,
            _ => return None,
        };
        subject.split('.').nth(token)
    }
}

/// Something that was asked.
#[derive(Debug)]
pub(crate) struct Errand {
    pub(crate) request: ClaimsRequest,
    pub(crate) subject: String,
    /// `None`: nobody wants to know.
    pub(crate) reply: Option<Vec<u8>>,
    pub(crate) body: Vec<u8>,
}

/// A message of an answer.
#[derive(Debug)]
pub(crate) enum Word {
    /// `data` beside who answers.
    Data(Value),
    /// `error` beside who answers.
    Error(Value),
    /// As it is.
    Raw(Vec<u8>),
}

/// What storing came to, for the answer.
enum Stored {
    Yes(&'static str),
    No {
        account: Option<String>,
        text: String,
    },
}

impl Operator {
    /// What is answered here.
    pub(crate) fn requests(&self) -> Vec<ClaimsRequest> {
        let is_served = |request: &ClaimsRequest| match &self.source {
            Source::Directory(_, Keeping::All(_)) => true,
            Source::Directory(_, Keeping::Used) => {
                !matches!(request, ClaimsRequest::Lookup | ClaimsRequest::Pack)
            }
            Source::Memory(_) => matches!(
                request,
                ClaimsRequest::AccountUpdate | ClaimsRequest::LegacyUpdate
            ),
        };
        ClaimsRequest::ALL.into_iter().filter(is_served).collect()
    }

    /// Does what was asked, and says what came of each. What is said to be stored stays, whatever happens
    /// to the machine; those that come together are made sure of together.
    pub(crate) async fn run(self: &Arc<Self>, errands: Vec<Errand>) -> Vec<(Vec<u8>, Vec<Word>)> {
        let operator = self.clone();
        smol::unblock(move || {
            let mut answers = Vec::new();
            for errand in &errands {
                answers.push(operator.answer(errand));
            }
            if let Source::Directory(store, _) = &operator.source
                && let Err(error) = lock(store).commit()
            {
                log::error!("Account directory: {error}");
                // Nothing of it is certain.
                let written = errands.iter().zip(&mut answers);
                let written = written.filter(|(errand, _)| errand.request.writes());
                for (_, answer) in written {
                    *answer = vec![fault(error.to_string())];
                }
            }
            let answered = errands.into_iter().zip(answers);
            answered
                .filter_map(|(errand, words)| Some((errand.reply?, words)))
                .collect()
        })
        .await
    }

    fn answer(&self, errand: &Errand) -> Vec<Word> {
        let now = unix_now();
        let id = errand.request.account(&errand.subject);
        let text = std::str::from_utf8(&errand.body).unwrap_or_default();
        match (errand.request, &self.source) {
            (
                ClaimsRequest::Update | ClaimsRequest::AccountUpdate | ClaimsRequest::LegacyUpdate,
                source,
            ) => vec![self.update(source, text.trim(), id, now)],
            (ClaimsRequest::List, Source::Directory(store, _)) => {
                let all: Vec<String> = lock(store).list(now).map(|key| key.to_string()).collect();
                vec![Word::Data(json!(all))]
            }
            (ClaimsRequest::Delete, Source::Directory(store, keeping)) => {
                vec![self.delete(store, *keeping, text.trim(), now)]
            }
            (ClaimsRequest::Lookup, Source::Directory(store, _)) => {
                let key = id.and_then(AccountKey::parse);
                let found = key.and_then(|key| lock(store).load(key, now).ok().flatten());
                vec![Word::Raw(found.unwrap_or_default().into_bytes())]
            }
            (ClaimsRequest::Pack, Source::Directory(store, _)) => {
                let store = lock(store);
                let mut words = Vec::new();
                if errand.body != store.hash() {
                    let all = store.pack(None, now);
                    words.extend(all.map(|(_, line)| Word::Raw(line.into_bytes())));
                }
                words.push(Word::Raw(Vec::new()));
                words
            }
            (_, Source::Memory(_)) => Vec::new(),
        }
    }

    fn update(&self, source: &Source, jwt: &str, id: Option<&str>, now: i64) -> Word {
        let (kind, stored) = match source {
            Source::Directory(store, Keeping::All(_)) => {
                ("jwt update", self.store(store, jwt, id, now))
            }
            Source::Directory(store, Keeping::Used) => {
                ("jwt update cache", self.refresh(Some(store), jwt, id, now))
            }
            Source::Memory(_) if jwt.is_empty() => {
                return failure(id, "jwt update error - request body is empty".into());
            }
            Source::Memory(_) => ("jwt update", self.refresh(None, jwt, id, now)),
        };
        match stored {
            Stored::Yes(message) => {
                let account = facts(jwt).map(|facts| facts.subject.to_string());
                let account = account.unwrap_or_default();
                Word::Data(json!({"account": account, "code": 200, "message": message}))
            }
            Stored::No { account, text } => {
                let text = if text.starts_with("jwt validation failed") {
                    text
                } else {
                    format!("{kind} resulted in error - {text}")
                };
                log::error!("{} - {text}", account.as_deref().unwrap_or("n/a"));
                failure(account.as_deref(), text)
            }
        }
    }

    /// Checks a JWT that is to be stored.
    fn check(&self, jwt: &str, id: Option<&str>) -> Result<AccountKey, Stored> {
        let claims = check_update(jwt, id, &self.trust).map_err(|refusal| Stored::No {
            // Where the subject names another one, it is that.
            account: refusal.account().map(|it| id.unwrap_or(it).to_owned()),
            text: if refusal.is_validation() {
                format!("jwt validation failed - {refusal}")
            } else {
                refusal.to_string()
            },
        })?;
        AccountKey::parse(&claims.standard.subject).ok_or_else(|| Stored::No {
            account: None,
            text: "subject is no public account key".into(),
        })
    }

    fn store(&self, store: &Mutex<Store>, jwt: &str, id: Option<&str>, now: i64) -> Stored {
        let key = match self.check(jwt, id) {
            Ok(key) => key,
            Err(refused) => return refused,
        };
        if let Err(text) = save(store, jwt, now) {
            let account = Some(key.to_string());
            return Stored::No { account, text };
        }
        self.apply(&key.to_string(), jwt, now);
        Stored::Yes("jwt updated")
    }

    /// A new JWT of an account that is in use; others are read when they are needed.
    fn refresh(
        &self,
        store: Option<&Mutex<Store>>,
        jwt: &str,
        id: Option<&str>,
        now: i64,
    ) -> Stored {
        let (skipped, done) = match store {
            Some(_) => ("jwt update cache skipped", "jwt updated cache"),
            None => ("jwt update skipped", "jwt updated"),
        };
        let key = match self.check(jwt, id) {
            Ok(key) => key.to_string(),
            // Named by the subject, where that names one.
            Err(Stored::No { account, text }) => {
                let account = id.map(str::to_owned).or(account);
                return Stored::No { account, text };
            }
            Err(refused) => return refused,
        };
        if !self.accounts.is_known(&key) {
            return Stored::Yes(skipped);
        }
        if let Some(store) = store
            && let Err(text) = save(store, jwt, now)
        {
            let account = Some(key);
            return Stored::No { account, text };
        }
        self.apply(&key, jwt, now);
        Stored::Yes(done)
    }

    /// Puts a JWT that was stored in force, if its account is in use.
    fn apply(&self, id: &str, jwt: &str, now: i64) {
        if matches!(self.accounts.get(id, now), Known::Not) {
            return;
        }
        match TrustedAccount::admit(jwt, id, &self.trust, now) {
            Ok(account) => {
                super::warn_of_unserved(&account);
                self.accounts.put(account, jwt, now);
            }
            Err(refusal) => log::warn!("Account {id} is not changed: {refusal}"),
        }
    }

    fn delete(&self, store: &Mutex<Store>, keeping: Keeping, jwt: &str, now: i64) -> Word {
        let system = self.system.as_deref().unwrap_or_default();
        let ids = match check_deletion(jwt, &self.trust, system, now) {
            Ok(_) if keeping == Keeping::All(DeleteRequests::Refused) => {
                let claims = decode::<Generic>(jwt);
                let by = claims.map_or(String::new(), |claims| claims.standard.subject);
                let text = format!(
                    "delete accounts request by {by} failed - delete must be enabled in server config"
                );
                return fault(text);
            }
            Ok(ids) => ids,
            Err(refusal) => return fault(refusal.to_string()),
        };
        let mut errors = Vec::new();
        let mut store = lock(store);
        for id in &ids {
            let Some(key) = AccountKey::parse(id) else {
                continue;
            };
            match store.delete(key) {
                Ok(()) => self.accounts.end(id),
                Err(error) => errors.push(error.to_string()),
            }
        }
        drop(store);
        let deleted = ids.len() - errors.len();
        if errors.is_empty() {
            let message = format!("deleted {deleted} accounts");
            return Word::Data(json!({"code": 200, "message": message}));
        }
        let (failed, why) = (errors.len(), errors.join("\n"));
        fault(format!(
            "deleted {deleted} accounts, failed for {failed} - {why}"
        ))
    }
}

fn save(store: &Mutex<Store>, jwt: &str, now: i64) -> Result<(), String> {
    let facts = facts(jwt)?;
    let saved = lock(store).save(jwt, &facts, now);
    saved.map(|_| ()).map_err(|error| error.to_string())
}

/// An update that failed; without an account nobody knows which it was.
fn failure(account: Option<&str>, description: String) -> Word {
    let account = account.unwrap_or("n/a");
    Word::Error(json!({"account": account, "code": 500, "description": description}))
}

/// Anything else that failed.
fn fault(description: String) -> Word {
    Word::Error(json!({"code": 500, "description": description}))
}
