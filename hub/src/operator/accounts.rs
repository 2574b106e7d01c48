//! The accounts that are in use, and what changes of them, for all threads.
//!
//! Changes are a list that only grows, at whose places all threads are told the same things in the same
//! order. A thread reads on in it ([`Accounts::since`]) before it takes in anything of another thread and
//! before it lets anybody in, so that it never hears of an account that it does not know.

use std::collections::{BTreeSet, HashMap};
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
    /// How many changes there are.
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
    changes: Vec<Change>,
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
            state.changes.push(Change::End { account });
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

    /// The changes from the place `seen` on, which is set behind them.
    pub(crate) fn since(&self, seen: &mut usize) -> Vec<Change> {
        if self.count.load(Ordering::Acquire) == *seen {
            return Vec::new();
        }
        let state = self.lock();
        let new = state.changes.get(*seen..).unwrap_or_default().to_vec();
        *seen = state.changes.len();
        new
    }

    /// Runs something that has to count the connections of all threads.
    pub(crate) fn alone<T>(&self, run: impl FnOnce() -> T) -> T {
        let _state = self.lock();
        run()
    }

    /// Says that there are changes.
    fn tell(&self, state: MutexGuard<'_, State>) {
        let count = state.changes.len();
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

impl State {
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
