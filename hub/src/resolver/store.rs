//! The directory of account JWTs of a full or a caching resolver.
//!
//! A JWT is a file, `<account>.jwt`. In memory there are an account's key, the SHA-256 of its file and
//! what is asked of the JWT without reading it; the texts stay on disk. An account takes 106 bytes
//! after a start and 156 where all came later; 10,000 are indexed in a tenth of a second besides what
//! [`Decode`] takes.
//!
//! A file is written beside the one it replaces and renamed over it, so whatever ends this process
//! leaves the old or the new JWT. What was done survives a loss of power once [`Store::commit`] has
//! come back, and nothing is to be acknowledged before. One call is enough for all that was done since
//! the last: whoever has several updates does them all, commits once, and answers.
//!
//! All of it waits for the disk: a store lives on a thread of its own, or in `smol::unblock`. It asks
//! no clock; `now` is in Unix seconds.

mod files;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::time::Duration;

use petiole_core::auth::public_key::AccountKey;
use petiole_core::config::model::{CacheResolver, DeleteRequests, FullResolver};
use petiole_net::errno::words;
use sha2::{Digest as _, Sha256};

/// What a store has to know of an account's JWT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// `sub`: the account that it describes.
    pub subject: AccountKey,
    /// `iat`, in Unix seconds; 0 if it does not say.
    pub issued_at: i64,
    /// `exp`, in Unix seconds; `None`: it never expires.
    pub expires_at: Option<i64>,
    /// `jti`; may be empty.
    pub id: String,
}

/// Reads the facts of a JWT, or says why it is none. A file of the directory came from whoever may
/// write there, and a JWT of a pack from another server: who is to be trusted is asked later, when an
/// account is made of it.
pub type Decode = fn(&str) -> Result<Facts, String>;

/// How a store behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `limit`: the accounts that are kept; `None`: any number.
    pub limit: Option<NonZeroUsize>,
    /// What happens to one more.
    pub at_limit: AtLimit,
    /// What [`Store::delete`] leaves.
    pub deletion: Deletion,
    /// `ttl`: how long a JWT is kept that nobody reads or writes; `None`: until it expires.
    pub ttl: Option<Duration>,
}

impl From<&FullResolver> for Settings {
    fn from(resolver: &FullResolver) -> Self {
        Settings {
            limit: resolver.limit,
            at_limit: AtLimit::Refuse,
            deletion: match resolver.deletion {
                DeleteRequests::Remove => Deletion::Hard,
                DeleteRequests::Rename | DeleteRequests::Refused => Deletion::Soft,
            },
            ttl: None,
        }
    }
}

impl From<&CacheResolver> for Settings {
    fn from(resolver: &CacheResolver) -> Self {
        Settings {
            limit: Some(resolver.limit),
            at_limit: AtLimit::Evict,
            deletion: Deletion::Hard,
            ttl: resolver.ttl,
        }
    }
}

/// What happens when a new account would exceed `limit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtLimit {
    /// It is refused: a full resolver.
    Refuse,
    /// The one that was not used for longest goes: a cache.
    Evict,
}

/// What a deletion leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// The file, renamed to `<account>.jwt.deleted`, which nothing reads.
    Soft,
    /// Nothing.
    Hard,
}

/// What a store did with a JWT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saved {
    /// It is what the store has now.
    Stored,
    /// The store has the same text.
    Same,
    /// The store has the same JWT or one that was issued later.
    Kept,
}

/// What became of a pack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// The accounts whose JWT is another one now, in the order of the pack.
    pub changed: Vec<AccountKey>,
    /// Why a line of the pack was not taken.
    pub refused: Vec<String>,
}

/// What changed in the directory behind the store's back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rescanned {
    /// The accounts that are new or have another JWT.
    pub changed: Vec<AccountKey>,
    /// The accounts that have none any more.
    pub removed: Vec<AccountKey>,
}

/// Why a store did not do what it was told.
#[derive(Debug)]
#[non_exhaustive]
pub enum StoreError {
    /// There are as many accounts as `limit` allows, and this is a new one.
    Full,
    /// The JWT is another account's.
    Subject,
    /// A file or the directory cannot be used; what is stored is what it was.
    Io {
        /// What failed: `open`, `write`, `rename`, ...
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Full => f.write_str("jwt store is full"),
            StoreError::Subject => f.write_str("subject does not match jwt content"),
            StoreError::Io { what, path, source } => {
                write!(f, "{what} {}: {}", path.display(), words(source))
            }
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StoreError::Io { source, .. } => Some(source),
            StoreError::Full | StoreError::Subject => None,
        }
    }
}

/// The account JWTs of a directory.
pub struct Store {
    dir: PathBuf,
    settings: Settings,
    decode: Decode,
    index: BTreeMap<AccountKey, Entry>,
    /// The files that were found below the directory and not in it, where an older layout has them.
    /// Few servers have any.
    nested: BTreeMap<AccountKey, Vec<PathBuf>>,
    hash: [u8; 32],
    /// Reads and writes so far: the order in which accounts were used.
    uses: u64,
    /// Directories whose names a loss of power could take back.
    uncommitted: BTreeSet<PathBuf>,
}

/// What is known of a file without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    /// SHA-256 of the file.
    hash: [u8; 32],
    issued_at: i64,
    /// The end of time if it does not expire.
    expires_at: i64,
    /// Stands for `jti`, which is longer.
    id: u64,
    /// When it was read or written last.
    used_at: i64,
    /// The same as a number that is another for each.
    used: u64,
}

impl Entry {
    fn new(text: &[u8], facts: &Facts, now: i64, used: u64) -> Self {
        Entry {
            hash: Sha256::digest(text).into(),
            issued_at: facts.issued_at,
            expires_at: facts.expires_at.unwrap_or(i64::MAX),
            id: short(&facts.id),
            used_at: now,
            used,
        }
    }

    fn is_expired(&self, now: i64) -> bool {
        self.expires_at <= now
    }

    /// When it is removed, unless it is used before.
    fn deadline(&self, ttl: Option<Duration>) -> i64 {
        let unused = ttl.map_or(i64::MAX, |ttl| {
            let begun = u64::from(ttl.subsec_nanos() > 0);
            let seconds = ttl.as_secs().saturating_add(begun);
            let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
            self.used_at.saturating_add(seconds)
        });
        unused.min(self.expires_at)
    }
}

/// Eight bytes of a hash of the id.
fn short(id: &str) -> u64 {
    let hash: [u8; 32] = Sha256::digest(id).into();
    hash.first_chunk().copied().map_or(0, u64::from_le_bytes)
}

impl Store {
    /// Takes a directory, makes it if there is none (for its owner only), and finds what is in it. A
    /// file that cannot be read or is no JWT of the account that it is named after costs a line in
    /// the log and itself.
    ///
    /// # Errors
    /// If it cannot be made, read or written to.
    pub fn open(
        dir: &Path,
        settings: Settings,
        decode: Decode,
        now: i64,
    ) -> Result<Store, StoreError> {
        files::make_directory(dir)?;
        files::try_to_write(dir)?;
        let mut store = Store {
            dir: dir.to_path_buf(),
            settings,
            decode,
            index: BTreeMap::new(),
            nested: BTreeMap::new(),
            hash: [0; 32],
            uses: 0,
            uncommitted: BTreeSet::from([dir.to_path_buf()]),
        };
        let found = store.scan(now)?;
        files::tidy(&found.left_over);
        // A tree that is made at once is full, and takes two thirds of one that has grown.
        store.index = found.index.into_iter().collect();
        store.nested = found.nested;
        store.hash = hash_of(&store.index);
        store.make_room(0)?;
        store.commit()?;
        Ok(store)
    }

    /// The exclusive or of the SHA-256 of all files: the same for two stores with the same content.
    /// Zeros if there is none.
    pub fn hash(&self) -> [u8; 32] {
        self.hash
    }

    /// How many accounts have a JWT.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether no account has.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// The accounts that have a JWT which has not expired.
    pub fn list(&self, now: i64) -> impl Iterator<Item = AccountKey> {
        let unexpired = self.index.iter();
        let unexpired = unexpired.filter(move |(_, entry)| !entry.is_expired(now));
        unexpired.map(|(account, _)| *account)
    }

    /// The JWT of an account, `None` if it has none. Whoever placed or changed a file finds what it
    /// says now.
    ///
    /// # Errors
    /// If there is a file and it cannot be read, or it is no JWT of this account.
    pub fn load(&mut self, account: AccountKey, now: i64) -> Result<Option<String>, StoreError> {
        let path = self.path(account);
        let text = match files::read(&path) {
            Ok(text) => text,
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                self.forget(account);
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let hash: [u8; 32] = Sha256::digest(&text).into();
        match self.index.get_mut(&account) {
            Some(entry) if entry.hash == hash => {
                self.uses += 1;
                (entry.used_at, entry.used) = (now, self.uses);
            }
            _ => {
                let facts = self
                    .facts(account, &text)
                    .map_err(|reason| StoreError::Io {
                        what: "read",
                        path,
                        source: io::Error::new(io::ErrorKind::InvalidData, reason),
                    })?;
                self.remember(account, text.as_bytes(), &facts, now);
                self.make_room(0)?;
            }
        }
        Ok(Some(content(&text).to_owned()))
    }

    /// Stores a JWT, whatever the store has: one that was issued earlier replaces a later one.
    ///
    /// # Errors
    /// [`StoreError::Full`], or the disk's. The account has what it had then.
    pub fn save(&mut self, text: &str, facts: &Facts, now: i64) -> Result<Saved, StoreError> {
        let account = facts.subject;
        let path = self.path(account);
        if let Some(entry) = self.index.get_mut(&account) {
            let hash: [u8; 32] = Sha256::digest(text).into();
            // Somebody may have taken the file away.
            if entry.hash == hash && path.is_file() {
                self.uses += 1;
                (entry.used_at, entry.used) = (now, self.uses);
                return Ok(Saved::Same);
            }
        } else {
            self.make_room(1)?;
        }
        let path = self.flat(account);
        files::replace(&path, text)?;
        self.uncommitted.insert(self.dir.clone());
        for old in self.nested.remove(&account).unwrap_or_default() {
            // The one nearer to the top counts.
            if let Err(error) = files::remove(&old) {
                log::warn!("resolver: a file that was replaced stays: {error}");
            }
        }
        self.remember(account, text.as_bytes(), facts, now);
        Ok(Saved::Stored)
    }

    /// Stores a JWT of an account, unless the store has the same by its id, or one that was issued
    /// later.
    ///
    /// # Errors
    /// As [`Store::save`], and [`StoreError::Subject`] if the JWT is another account's.
    pub fn save_if_newer(
        &mut self,
        account: AccountKey,
        text: &str,
        facts: &Facts,
        now: i64,
    ) -> Result<Saved, StoreError> {
        if facts.subject != account {
            return Err(StoreError::Subject);
        }
        if let Some(entry) = self.index.get(&account)
            && (entry.id == short(&facts.id) || entry.issued_at > facts.issued_at)
        {
            return Ok(Saved::Kept);
        }
        self.save(text, facts, now)
    }

    /// Takes what another server packed: lines of `account|jwt`. Of each account the later JWT stays.
    /// Expired ones are not taken; they would be packed for each other for ever.
    pub fn merge(&mut self, pack: &str, now: i64) -> Merged {
        let mut merged = Merged::default();
        for line in pack.split('\n').filter(|line| !line.is_empty()) {
            match self.merge_line(line, now) {
                Ok((account, Saved::Stored)) => merged.changed.push(account),
                Ok((_, Saved::Same | Saved::Kept)) => {}
                Err(reason) => merged.refused.push(reason),
            }
        }
        merged
    }

    fn merge_line(&mut self, line: &str, now: i64) -> Result<(AccountKey, Saved), String> {
        let fields = line.split_once('|').filter(|(_, jwt)| !jwt.contains('|'));
        let (key, jwt) = fields.ok_or("a line of a pack is not account|jwt")?;
        let account = AccountKey::parse(key).ok_or("a line of a pack names no account")?;
        let refused = |reason: String| format!("{account}: {reason}");
        let facts = (self.decode)(jwt).map_err(refused)?;
        if facts.expires_at.is_some_and(|at| at <= now) {
            return Ok((account, Saved::Kept));
        }
        let saved = self.save_if_newer(account, jwt, &facts, now);
        saved
            .map(|saved| (account, saved))
            .map_err(|error| refused(error.to_string()))
    }

    /// What another server is sent: `account|jwt` of all that have not expired, from the account
    /// behind `after`. The files are read one by one as the iterator goes, so that a thread with
    /// other things to do takes some at a time. One that cannot be read is left out, with a line in
    /// the log.
    pub fn pack(
        &self,
        after: Option<AccountKey>,
        now: i64,
    ) -> impl Iterator<Item = (AccountKey, String)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let unexpired = self
            .index
            .range((from, Bound::Unbounded))
            .filter(move |(_, entry)| !entry.is_expired(now));
        unexpired.filter_map(|(account, _)| match files::read(&self.path(*account)) {
            Ok(text) => Some((*account, format!("{account}|{}", content(&text)))),
            Err(error) => {
                log::warn!("resolver: an account is not packed: {error}");
                None
            }
        })
    }

    /// Deletes the JWT of an account. That there was none is no failure.
    ///
    /// # Errors
    /// If the disk does not let go of it; it is there as before.
    pub fn delete(&mut self, account: AccountKey) -> Result<(), StoreError> {
        let take_away = match self.settings.deletion {
            Deletion::Soft => files::set_aside,
            Deletion::Hard => files::remove,
        };
        self.take_away(account, take_away)
    }

    /// Removes what has expired, or was not used for `ttl`, and tells whose it was. One that the disk
    /// does not let go of stays until the next time, with a line in the log.
    pub fn expire(&mut self, now: i64) -> Vec<AccountKey> {
        let ttl = self.settings.ttl;
        let overdue = self
            .index
            .iter()
            .filter(|(_, entry)| entry.deadline(ttl) <= now);
        let overdue: Vec<_> = overdue.map(|(account, _)| *account).collect();
        let removed = overdue.into_iter().filter(|account| {
            let removed = self.take_away(*account, files::remove);
            if let Err(error) = &removed {
                log::warn!("resolver: an expired account stays: {error}");
            }
            removed.is_ok()
        });
        removed.collect()
    }

    /// Looks at all files again, and tells which accounts changed meanwhile.
    ///
    /// # Errors
    /// If the directory cannot be read; the store knows what it knew.
    pub fn rescan(&mut self, now: i64) -> Result<Rescanned, StoreError> {
        let mut found = self.scan(now)?;
        let mut rescanned = Rescanned::default();
        for account in self.index.keys() {
            if !found.index.contains_key(account) {
                rescanned.removed.push(*account);
            }
        }
        for (account, entry) in &mut found.index {
            match self.index.get(account) {
                Some(known) if known.hash == entry.hash => {
                    (entry.used_at, entry.used) = (known.used_at, known.used);
                }
                _ => rescanned.changed.push(*account),
            }
        }
        (self.index, self.nested) = (found.index, found.nested);
        self.hash = hash_of(&self.index);
        self.make_room(0)?;
        rescanned
            .changed
            .retain(|account| self.index.contains_key(account));
        Ok(rescanned)
    }

    /// Waits until all that was done so far would survive a loss of power.
    ///
    /// # Errors
    /// If the disk fails: nothing since the last call is to be acknowledged.
    pub fn commit(&mut self) -> Result<(), StoreError> {
        while let Some(dir) = self.uncommitted.first() {
            files::sync_directory(dir)?;
            self.uncommitted.pop_first();
        }
        Ok(())
    }

    /// The files of the directory, whatever the index says.
    fn scan(&mut self, now: i64) -> Result<Found, StoreError> {
        let mut found = Found::default();
        let walked = files::walk(&self.dir)?;
        found.left_over = walked.left_over;
        for file in walked.jwts {
            let path = &file.path;
            let read = files::read(path).map_err(|error| error.to_string());
            if *path != self.flat(file.account) {
                let nested = found.nested.entry(file.account).or_default();
                nested.push(path.clone());
            }
            let known = read.and_then(|text| {
                let facts = self.facts(file.account, &text);
                let facts = facts.map_err(|reason| format!("{}: {reason}", path.display()))?;
                self.uses += 1;
                Ok(Entry::new(text.as_bytes(), &facts, now, self.uses))
            });
            match known {
                Err(reason) => log::warn!("resolver: a file is left out: {reason}"),
                // Those of the directory itself come first.
                Ok(_) if found.index.contains_key(&file.account) => log::warn!(
                    "resolver: a file is left out: {}: the account has another",
                    path.display()
                ),
                Ok(entry) => {
                    found.index.insert(file.account, entry);
                }
            }
        }
        Ok(found)
    }

    /// What a file says that is named after an account.
    fn facts(&self, account: AccountKey, text: &str) -> Result<Facts, String> {
        let facts = (self.decode)(content(text))?;
        if facts.subject != account {
            return Err(format!("it is the JWT of {}", facts.subject));
        }
        Ok(facts)
    }

    /// Sees to it that `more` accounts fit.
    fn make_room(&mut self, more: usize) -> Result<(), StoreError> {
        let Some(limit) = self.settings.limit else {
            return Ok(());
        };
        while self.index.len().saturating_add(more) > limit.get() {
            let least = match self.settings.at_limit {
                // What was there before the limit stays.
                AtLimit::Refuse if more == 0 => return Ok(()),
                AtLimit::Refuse => return Err(StoreError::Full),
                // Looking at a thousand entries costs less than the write that follows.
                AtLimit::Evict => self.index.iter().min_by_key(|(_, entry)| entry.used),
            };
            let Some((account, _)) = least else {
                return Ok(());
            };
            self.take_away(*account, files::remove)?;
        }
        Ok(())
    }

    /// Does away with all files of an account. The one that counts is the last to go, or another
    /// would be found in its place.
    fn take_away(
        &mut self,
        account: AccountKey,
        take_away: fn(&Path) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        for path in self.nested.get(&account).into_iter().flatten().rev() {
            take_away(path)?;
            self.uncommitted
                .extend(path.parent().map(Path::to_path_buf));
        }
        take_away(&self.flat(account))?;
        self.uncommitted.insert(self.dir.clone());
        self.forget(account);
        Ok(())
    }

    fn remember(&mut self, account: AccountKey, text: &[u8], facts: &Facts, now: i64) {
        self.uses += 1;
        let entry = Entry::new(text, facts, now, self.uses);
        self.hash = xor(self.hash, entry.hash);
        if let Some(old) = self.index.insert(account, entry) {
            self.hash = xor(self.hash, old.hash);
        }
    }

    fn forget(&mut self, account: AccountKey) {
        self.nested.remove(&account);
        if let Some(old) = self.index.remove(&account) {
            self.hash = xor(self.hash, old.hash);
        }
    }

    /// Where an account's JWT is, or would be.
    fn path(&self, account: AccountKey) -> PathBuf {
        let flat = self.flat(account);
        match self.nested.get(&account).and_then(|paths| paths.first()) {
            Some(nested) if !flat.is_file() => nested.clone(),
            _ => flat,
        }
    }

    fn flat(&self, account: AccountKey) -> PathBuf {
        self.dir.join(files::name(account))
    }
}

/// What a scan finds.
#[derive(Default)]
struct Found {
    index: BTreeMap<AccountKey, Entry>,
    nested: BTreeMap<AccountKey, Vec<PathBuf>>,
    /// Temporary files that a process that was killed left.
    left_over: Vec<PathBuf>,
}

/// A file's JWT: an editor may have ended its line.
fn content(text: &str) -> &str {
    text.trim_end_matches(['\r', '\n'])
}

fn hash_of(index: &BTreeMap<AccountKey, Entry>) -> [u8; 32] {
    let hashes = index.values().map(|entry| entry.hash);
    hashes.fold([0; 32], xor)
}

fn xor(mut one: [u8; 32], other: [u8; 32]) -> [u8; 32] {
    for (byte, with) in one.iter_mut().zip(other) {
        *byte ^= with;
    }
    one
}
