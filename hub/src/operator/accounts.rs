//! The accounts that are in use, and what changes of them, for all threads.
//!
//! Changes are a list in which all threads read the same things in the same order. A thread reads on in it
//! ([`Reader::changes`]) before it takes in anything of another thread and before it lets anybody in, so
//! that it never hears of an account that it does not know. What all have read is forgotten.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_io::Timer;
use petiole_core::account::{self, Rules};
use petiole_core::auth::jwt::{TrustedAccount, sharing};
use petiole_core::shard::AccountSeed;
use petiole_leaf::SystemEntropy;
use smol::channel::{Receiver, Sender, bounded};
use smol::future::FutureExt as _;

/// The longest wait for a time to come: a clock may be set meanwhile.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Something that each thread has to do.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// Know one more account.
    Learn(AccountSeed),
    /// An account has other rules; `claims` if its JWT is another one.
    Revise {
        place: u32,
        rules: Arc<Rules>,
        claims: Option<Arc<TrustedAccount>>,
    },
    /// Close all connections of an account.
    End { account: Arc<str> },
}

/// What is known of an account.
pub(crate) enum Known {
    /// It may be used.
    Good(Arc<TrustedAccount>),
    /// It might have been; a newer JWT is wanted.
    Ended,
    /// Nothing.
    Not,
}

/// The accounts in use.
#[derive(Debug)]
pub(crate) struct Accounts {
    state: Mutex<State>,
    /// How many changes there were.
    count: AtomicUsize,
    /// Something may be due earlier.
    sooner: (Sender<()>, Receiver<()>),
    /// Called after changes, once there are threads.
    wake: Mutex<Option<Wake>>,
}

struct Wake(Box<dyn Fn() + Send>);

impl std::fmt::Debug for Wake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wake")
    }
}

#[derive(Debug, Default)]
struct State {
    by_key: HashMap<Arc<str>, Entry>,
    /// Which accounts import from one.
    importers: HashMap<String, BTreeSet<Arc<str>>>,
    changes: VecDeque<Change>,
    /// How many were before these.
    forgotten: usize,
    /// How many each thread has read.
    read: Vec<usize>,
    system: Option<Arc<str>>,
    /// The last second in which what is shared holds: then an activation expires.
    shared_until: Option<i64>,
}

#[derive(Debug)]
struct Entry {
    place: u32,
    account: Arc<TrustedAccount>,
    jwt: Box<str>,
    /// It has expired, or was deleted.
    ended: bool,
}

/// The place of the first account that comes: the server itself has `$G` alone in operator mode.
const FIRST: u32 = 1;

impl Accounts {
    /// None so far. `system` is the system account.
    pub(crate) fn new(system: Option<Arc<str>>) -> Self {
        let state = State {
            system,
            ..State::default()
        };
        Accounts {
            state: Mutex::new(state),
            count: AtomicUsize::new(0),
            sooner: bounded(1),
            wake: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has `wake` called after each change.
    pub(crate) fn wake_with(&self, wake: impl Fn() + Send + 'static) {
        let mut slot = self.wake.lock().unwrap_or_else(PoisonError::into_inner);
        *slot = Some(Wake(Box::new(wake)));
    }

    /// Whether an account is in use, or was.
    pub(crate) fn is_known(&self, id: &str) -> bool {
        self.lock().by_key.contains_key(id)
    }

    /// What is known of an account.
    pub(crate) fn get(&self, id: &str, now: i64) -> Known {
        match self.lock().by_key.get(id) {
            Some(it) if it.ended || it.account.expires().is_some_and(|last| now > last) => {
                Known::Ended
            }
            Some(it) => Known::Good(it.account.clone()),
            None => Known::Not,
        }
    }

    /// Takes an account into use, or its new JWT. The same text again changes nothing.
    pub(crate) fn put(&self, account: TrustedAccount, jwt: &str, now: i64) -> Arc<TrustedAccount> {
        let account = Arc::new(account);
        let mut state = self.lock();
        let id: Arc<str> = account.key().into();
        let before = state.by_key.get(&id);
        if let Some(known) = before
            && !known.ended
            && *known.jwt == *jwt
        {
            return known.account.clone();
        }
        let imported = |account: &TrustedAccount| -> BTreeSet<String> {
            let imports = account.claims().body.imports.iter();
            imports.map(|import| import.account.clone()).collect()
        };
        let (place, old) = match before {
            Some(known) => (known.place, imported(&known.account)),
            None => (FIRST + state.by_key.len() as u32, BTreeSet::new()),
        };
        let is_new = before.is_none();
        for exporter in old {
            if let Some(importers) = state.importers.get_mut(&exporter) {
                importers.remove(&id);
            }
        }
        for exporter in imported(&account) {
            state
                .importers
                .entry(exporter)
                .or_default()
                .insert(id.clone());
        }
        let entry = Entry {
            place,
            account: account.clone(),
            jwt: jwt.into(),
            ended: false,
        };
        state.by_key.insert(id.clone(), entry);
        state.compile(&id, is_new, now);
        self.tell(state);
        account
    }

    /// The JWT of an account is gone.
    pub(crate) fn end(&self, id: &str) {
        let mut state = self.lock();
        if let Some(entry) = state.by_key.get_mut(id).filter(|entry| !entry.ended) {
            entry.ended = true;
            let account = entry.account.key().into();
            state.changes.push_back(Change::End { account });
            self.tell(state);
        }
    }

    /// Ends what has expired by now.
    pub(crate) fn review(&self, now: i64) {
        let mut state = self.lock();
        let expired = state
            .by_key
            .values_mut()
            .filter(|entry| !entry.ended && entry.account.expires().is_some_and(|last| now > last));
        let ends: Vec<Change> = expired
            .map(|entry| {
                entry.ended = true;
                let account = entry.account.key().into();
                Change::End { account }
            })
            .collect();
        state.changes.extend(ends);
        if state.shared_until.is_some_and(|last| now > last) {
            state.shared_until = None;
            let all: Vec<Arc<str>> = state.by_key.keys().cloned().collect();
            for id in all {
                state.compile(&id, false, now);
            }
        }
        self.tell(state);
    }

    /// Waits until there is something to [`review`](Accounts::review).
    pub(crate) async fn wait(&self, now: i64) {
        let next = {
            let state = self.lock();
            let live = state.by_key.values().filter(|entry| !entry.ended);
            let ends = live.filter_map(|entry| entry.account.expires());
            ends.chain(state.shared_until).min()
        };
        let due = next.map_or(LONGEST_WAIT, |last| {
            let seconds = u64::try_from(last.saturating_add(1).saturating_sub(now));
            Duration::from_secs(seconds.unwrap_or(0)).min(LONGEST_WAIT)
        });
        let sooner = async {
            // Its other end is ours.
            let _ = self.sooner.1.recv().await;
        };
        let late = async {
            Timer::after(due).await;
        };
        sooner.or(late).await;
    }

    /// As one more thread reads of them: all, before any of them reads.
    pub(crate) fn reader(self: &Arc<Self>) -> Reader {
        let mut state = self.lock();
        let number = state.read.len();
        let seen = state.forgotten;
        state.read.push(seen);
        drop(state);
        Reader {
            accounts: self.clone(),
            number,
            seen,
        }
    }

    /// Runs something that has to count the connections of all threads.
    pub(crate) fn alone<T>(&self, run: impl FnOnce() -> T) -> T {
        let _state = self.lock();
        run()
    }

    /// Says that there are changes.
    fn tell(&self, state: MutexGuard<'_, State>) {
        let count = state.total();
        drop(state);
        if self.count.swap(count, Ordering::AcqRel) == count {
            return;
        }
        // Full: it will look anyway.
        let _ = self.sooner.0.try_send(());
        let wake = self.wake.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Wake(wake)) = &*wake {
            wake();
        }
    }
}

/// A thread as a reader of the changes.
#[derive(Debug)]
pub(crate) struct Reader {
    accounts: Arc<Accounts>,
    number: usize,
    /// How many it has read.
    seen: usize,
}

impl Reader {
    /// The accounts.
    pub(crate) fn accounts(&self) -> &Arc<Accounts> {
        &self.accounts
    }

    /// The changes that are new to this thread.
    pub(crate) fn changes(&mut self) -> Vec<Change> {
        if self.accounts.count.load(Ordering::Acquire) == self.seen {
            return Vec::new();
        }
        let mut state = self.accounts.lock();
        let known = self.seen.saturating_sub(state.forgotten);
        let new = state.changes.iter().skip(known).cloned().collect();
        self.seen = state.total();
        if let Some(read) = state.read.get_mut(self.number) {
            *read = self.seen;
        }
        state.forget();
        new
    }
}

impl State {
    /// How many changes there were.
    fn total(&self) -> usize {
        self.forgotten + self.changes.len()
    }

    /// Drops what all threads have read.
    fn forget(&mut self) {
        let least = self.read.iter().copied().min().unwrap_or(0);
        let done = least.saturating_sub(self.forgotten).min(self.changes.len());
        self.changes.drain(..done);
        self.forgotten += done;
    }

    /// Compiles an account and those that import from it, and notes what is new.
    fn compile(&mut self, id: &Arc<str>, is_new: bool, now: i64) {
        let mut affected = BTreeSet::from([id.clone()]);
        affected.extend(self.importers.get(&**id).into_iter().flatten().cloned());
        // With all that these import from, in a row.
        let mut needed = affected.clone();
        let mut open: Vec<Arc<str>> = affected.iter().cloned().collect();
        while let Some(id) = open.pop() {
            let Some(entry) = self.by_key.get(&id) else {
                continue;
            };
            for import in &entry.account.claims().body.imports {
                if let Some((exporter, _)) = self.by_key.get_key_value(&*import.account)
                    && needed.insert(exporter.clone())
                {
                    open.push(exporter.clone());
                }
            }
        }
        let known: Vec<&Entry> = needed.iter().filter_map(|id| self.by_key.get(id)).collect();
        let shared = sharing::accounts(known.iter().map(|entry| &*entry.account), now);
        let places: Vec<u32> = known.iter().map(|entry| entry.place).collect();
        let (rules, errors) =
            account::compile_at(&shared.accounts, &places, self.system.as_deref(), None);
        for problem in &shared.problems {
            log::warn!("{problem}");
        }
        for error in errors {
            log::warn!("{error}");
        }
        self.shared_until = self.shared_until.into_iter().chain(shared.until).min();
        let mut changes = Vec::new();
        for (entry, rules) in known.iter().zip(rules) {
            let key = entry.account.key();
            if !affected.contains(key) {
                continue;
            }
            let rules = Arc::new(rules);
            let is_it = *key == **id;
            if is_it && is_new {
                // Before those that import from it.
                let seed = AccountSeed::new(rules, &mut SystemEntropy::default());
                changes.insert(0, Change::Learn(seed));
            } else {
                changes.push(Change::Revise {
                    place: entry.place,
                    rules,
                    claims: is_it.then(|| entry.account.clone()),
                });
            }
        }
        self.changes.extend(changes);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use petiole_core::auth::public_key::AccountKey;

    fn account(number: u8) -> TrustedAccount {
        let key = AccountKey::from_bytes([number; 32]).to_string();
        TrustedAccount::bootstrap(&key).unwrap()
    }

    #[test]
    fn all_threads_read_the_same_and_then_it_is_forgotten() {
        let accounts = Arc::new(Accounts::new(None));
        accounts.put(account(1), "a", 0);
        let (mut one, mut other) = (accounts.reader(), accounts.reader());
        let kinds = |changes: Vec<Change>| -> Vec<&str> {
            let kind = |change| match change {
                Change::Learn(_) => "learn",
                Change::Revise {
                    claims: Some(_), ..
                } => "renew",
                Change::Revise { claims: None, .. } => "revise",
                Change::End { .. } => "end",
            };
            changes.into_iter().map(kind).collect()
        };
        assert_eq!(kinds(one.changes()), ["learn"]);
        assert_eq!(accounts.lock().changes.len(), 1);
        accounts.put(account(1), "b", 0);
        accounts.put(account(1), "b", 0);
        let id = account(1).key().to_owned();
        accounts.end(&id);
        accounts.end(&id);
        assert!(matches!(accounts.get(&id, 0), Known::Ended));
        assert_eq!(kinds(other.changes()), ["learn", "renew", "end"]);
        assert_eq!(accounts.lock().changes.len(), 2);
        assert_eq!(kinds(one.changes()), ["renew", "end"]);
        assert!(one.changes().is_empty() && other.changes().is_empty());
        assert!(accounts.lock().changes.is_empty());
        // The same JWT again brings it back.
        accounts.put(account(1), "b", 0);
        assert!(matches!(accounts.get(&id, 0), Known::Good(_)));
        assert_eq!(kinds(one.changes()), ["renew"]);
    }
}
