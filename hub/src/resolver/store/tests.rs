#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Instant, SystemTime};

use proptest::prelude::*;

use super::*;

/// A directory that is gone with the value.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("petiole-store-{}-{n}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        Folder(path)
    }

    fn open(&self, settings: Settings, now: i64) -> Store {
        Store::open(&self.0, settings, decode, now).unwrap()
    }

    fn file(&self, n: u8) -> PathBuf {
        self.0.join(files::name(key(n)))
    }

    /// The names of all files, sorted.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn key(n: u8) -> AccountKey {
    AccountKey::from_bytes([n; 32])
}

/// A text with these facts, as `decode` reads it.
fn jwt(n: u8, issued_at: i64, expires_at: i64, id: &str) -> String {
    format!("{}.{issued_at}.{expires_at}.{id}", key(n))
}

fn decode(text: &str) -> Result<Facts, String> {
    let mut parts = text.split('.');
    let mut part = || parts.next().ok_or("expected 4 chunks");
    let subject = AccountKey::parse(part()?).ok_or("no subject")?;
    let number = |text: &str| text.parse::<i64>().map_err(|_| "no number");
    let (issued_at, expires_at) = (number(part()?)?, number(part()?)?);
    Ok(Facts {
        subject,
        issued_at,
        expires_at: Some(expires_at).filter(|at| *at > 0),
        id: part()?.to_owned(),
    })
}

fn save(store: &mut Store, text: &str, now: i64) -> Result<Saved, StoreError> {
    store.save(text, &decode(text).unwrap(), now)
}

fn save_if_newer(store: &mut Store, text: &str) -> Saved {
    let facts = decode(text).unwrap();
    store.save_if_newer(facts.subject, text, &facts, 0).unwrap()
}

fn list(store: &Store) -> Vec<AccountKey> {
    store.list(i64::MIN).collect()
}

/// Those of `type: full` without options.
fn full() -> Settings {
    Settings {
        limit: None,
        at_limit: AtLimit::Refuse,
        deletion: Deletion::Soft,
        ttl: None,
    }
}

/// Those of `type: cache` without options.
fn cache() -> Settings {
    Settings {
        limit: NonZeroUsize::new(1000),
        at_limit: AtLimit::Evict,
        deletion: Deletion::Hard,
        ttl: None,
    }
}

fn limited(mut settings: Settings, limit: usize) -> Settings {
    settings.limit = NonZeroUsize::new(limit);
    settings
}

/// The hash of these texts, computed anew.
fn hash_of_texts<'t>(texts: impl Iterator<Item = &'t String>) -> [u8; 32] {
    let mut hash = [0; 32];
    for text in texts {
        let one: [u8; 32] = Sha256::digest(text).into();
        for (byte, with) in hash.iter_mut().zip(one) {
            *byte ^= with;
        }
    }
    hash
}

#[test]
fn settings_of_a_configuration() {
    let mut resolver = FullResolver {
        dir: "d".into(),
        limit: None,
        deletion: DeleteRequests::Refused,
        interval: Duration::from_secs(60),
        timeout: Duration::from_secs(1),
        at: String::new(),
    };
    assert_eq!(Settings::from(&resolver), full());
    resolver.limit = NonZeroUsize::new(7);
    for (requests, deletion) in [
        (DeleteRequests::Rename, Deletion::Soft),
        (DeleteRequests::Remove, Deletion::Hard),
    ] {
        resolver.deletion = requests;
        let wanted = Settings {
            deletion,
            ..limited(full(), 7)
        };
        assert_eq!(Settings::from(&resolver), wanted);
    }
    let mut resolver = CacheResolver {
        dir: "d".into(),
        limit: NonZeroUsize::new(1000).unwrap(),
        ttl: None,
        timeout: Duration::from_secs(1),
        at: String::new(),
    };
    assert_eq!(Settings::from(&resolver), cache());
    resolver.ttl = Some(Duration::from_secs(5));
    assert_eq!(Settings::from(&resolver).ttl, resolver.ttl);
}

#[test]
fn a_store_goes_to_another_thread() {
    fn sent<T: Send + 'static>() {}
    sent::<Store>();
}

/// 22, 30, 33: the bytes as they came, and what two stores compare.
#[test]
fn files_are_the_texts() {
    let folder = Folder::new();
    let mut store = folder.open(full(), 0);
    assert_eq!((store.hash(), store.len()), ([0; 32], 0));
    let texts = [jwt(1, 5, 0, "a"), jwt(2, 5, 0, "b")];
    for text in &texts {
        assert_eq!(save(&mut store, text, 0).unwrap(), Saved::Stored);
        assert_eq!(save(&mut store, text, 0).unwrap(), Saved::Same);
    }
    store.commit().unwrap();
    assert_eq!(fs::read_to_string(folder.file(1)).unwrap(), texts[0]);
    assert_eq!(store.hash(), hash_of_texts(texts.iter()));
    assert_eq!(list(&store), [key(1), key(2)]);
    assert_eq!(store.load(key(2), 0).unwrap(), Some(texts[1].clone()));
    assert_eq!(store.load(key(3), 0).unwrap(), None);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder.0), mode(&folder.file(1))), (0o700, 0o600));
    }
    // An older one replaces a later one, when it is told to.
    let older = jwt(1, 1, 0, "z");
    assert_eq!(save(&mut store, &older, 0).unwrap(), Saved::Stored);
    assert_eq!(store.load(key(1), 0).unwrap(), Some(older.clone()));
    assert_eq!(store.hash(), hash_of_texts([&older, &texts[1]].into_iter()));
    let again = folder.open(full(), 0);
    assert_eq!((again.hash(), list(&again)), (store.hash(), list(&store)));
}

#[test]
fn the_directory_is_made_or_refused() {
    let folder = Folder::new();
    let deep = folder.0.join("a/b/c");
    let mut store = Store::open(&deep, full(), decode, 0).unwrap();
    save(&mut store, &jwt(1, 1, 0, ""), 0).unwrap();
    assert!(deep.join(files::name(key(1))).is_file());
    let file = folder.0.join("file");
    fs::write(&file, "").unwrap();
    for (path, wanted) in [
        (file.clone(), "not a directory"),
        (file.join("x"), "not a directory"),
    ] {
        let refused = Store::open(&path, full(), decode, 0).err().unwrap();
        let wanted = format!("mkdir {}: {wanted}", path.display());
        assert_eq!(refused.to_string(), wanted);
    }
}

/// What is no account's JWT costs itself only.
#[test]
fn what_is_left_out() {
    let folder = Folder::new();
    fs::create_dir_all(folder.0.join("1/2/3/4/5")).unwrap();
    fs::create_dir_all(folder.0.join(".hidden")).unwrap();
    let deleted = format!("{}.deleted", files::name(key(9)));
    let left_over = format!("{}.tmp", files::name(key(8)));
    for (name, text) in [
        (files::name(key(1)), jwt(1, 1, 0, "")),
        (files::name(key(2)), "garbage".into()),
        (files::name(key(3)), jwt(4, 1, 0, "")),
        (files::name(key(5)), String::new()),
        ("x.jwt".into(), jwt(1, 1, 0, "")),
        (deleted.clone(), jwt(9, 1, 0, "")),
        (left_over, "half".into()),
        ("foreign.jwt.tmp".into(), "theirs".into()),
        (format!("1/{}", files::name(key(6))), jwt(6, 1, 0, "")),
        (format!("1/{}", files::name(key(1))), jwt(1, 7, 0, "older")),
        (format!("1/2/3/4/{}", files::name(key(7))), jwt(7, 1, 0, "")),
        (
            format!("1/2/3/4/5/{}", files::name(key(10))),
            jwt(10, 1, 0, ""),
        ),
        (
            format!(".hidden/{}", files::name(key(11))),
            jwt(11, 1, 0, ""),
        ),
    ] {
        fs::write(folder.0.join(name), text).unwrap();
    }
    fs::write(folder.file(12), [0xff, 0xfe]).unwrap();
    fs::write(folder.file(13), vec![b'a'; 2 << 20]).unwrap();
    fs::create_dir(folder.file(14)).unwrap();
    let mut store = folder.open(full(), 0);
    assert_eq!(list(&store), [1, 6, 7].map(key));
    assert_eq!(store.load(key(1), 0).unwrap(), Some(jwt(1, 1, 0, "")));
    assert_eq!(store.load(key(7), 0).unwrap(), Some(jwt(7, 1, 0, "")));
    let names = folder.names();
    assert!(names.contains(&deleted) && names.contains(&"foreign.jwt.tmp".to_owned()));
    assert!(
        !names
            .iter()
            .any(|name| name.ends_with("jwt.tmp") && name.starts_with('A'))
    );
    // An update goes where it belongs, and nothing else of the account is found later.
    save(&mut store, &jwt(6, 2, 0, "n"), 0).unwrap();
    store.delete(key(1)).unwrap();
    store.delete(key(7)).unwrap();
    store.delete(key(2)).unwrap();
    store.commit().unwrap();
    assert!(folder.file(6).is_file());
    let mut again = folder.open(full(), 0);
    assert_eq!(list(&again), [key(6)]);
    assert_eq!(again.load(key(6), 0).unwrap(), Some(jwt(6, 2, 0, "n")));
}

/// The end of a line that an editor left is no part of the JWT, but of the file.
#[test]
fn a_file_that_was_edited() {
    let folder = Folder::new();
    fs::create_dir_all(&folder.0).unwrap();
    let text = jwt(1, 1, 0, "");
    fs::write(folder.file(1), format!("{text}\r\n")).unwrap();
    let mut store = folder.open(full(), 0);
    assert_eq!(store.load(key(1), 0).unwrap(), Some(text.clone()));
    let packed: Vec<_> = store.pack(None, 0).collect();
    assert_eq!(packed, [(key(1), format!("{}|{text}", key(1)))]);
    // Whoever changes a file behind our back finds what it says.
    for text in [jwt(1, 2, 0, "two"), jwt(2, 2, 0, "new")] {
        let account = decode(&text).unwrap().subject;
        fs::write(folder.0.join(files::name(account)), &text).unwrap();
        assert_eq!(store.load(account, 0).unwrap(), Some(text));
    }
    assert_eq!(
        store.hash(),
        hash_of_texts([&jwt(1, 2, 0, "two"), &jwt(2, 2, 0, "new")].into_iter())
    );
    fs::write(folder.file(1), "garbage").unwrap();
    let refused = store.load(key(1), 0).unwrap_err().to_string();
    let wanted = format!("read {}: no subject", folder.file(1).display());
    assert_eq!(refused, wanted);
    fs::remove_file(folder.file(1)).unwrap();
    assert_eq!(store.load(key(1), 0).unwrap(), None);
    assert_eq!(list(&store), [key(2)]);
    // The same text is stored again where its file is gone.
    fs::remove_file(folder.file(2)).unwrap();
    let saved = save(&mut store, &jwt(2, 2, 0, "new"), 0).unwrap();
    assert_eq!((saved, folder.file(2).is_file()), (Saved::Stored, true));
}

/// 27.
#[test]
fn a_full_store_takes_updates_only() {
    let folder = Folder::new();
    let mut store = folder.open(limited(full(), 2), 0);
    for n in [1, 2] {
        save(&mut store, &jwt(n, 1, 0, "a"), 0).unwrap();
    }
    let refused = save(&mut store, &jwt(3, 1, 0, "a"), 0).unwrap_err();
    assert_eq!(refused.to_string(), "jwt store is full");
    save(&mut store, &jwt(1, 2, 0, "b"), 0).unwrap();
    let merged = store.merge(&format!("{}|{}", key(3), jwt(3, 1, 0, "")), 0);
    assert_eq!(merged.refused, [format!("{}: jwt store is full", key(3))]);
    assert_eq!(list(&store), [key(1), key(2)]);
    // Those of before stay when the limit is lowered, and the limit holds.
    let mut store = folder.open(limited(full(), 1), 0);
    assert_eq!(store.len(), 2);
    assert!(save(&mut store, &jwt(3, 1, 0, "a"), 0).is_err());
    store.delete(key(1)).unwrap();
    assert!(save(&mut store, &jwt(3, 1, 0, "a"), 0).is_err());
    store.delete(key(2)).unwrap();
    save(&mut store, &jwt(3, 1, 0, "a"), 0).unwrap();
}

#[test]
fn a_cache_lets_the_least_used_go() {
    let folder = Folder::new();
    let mut store = folder.open(limited(cache(), 3), 0);
    for n in [1, 2, 3] {
        save(&mut store, &jwt(n, 1, 0, "a"), 0).unwrap();
    }
    store.load(key(1), 0).unwrap();
    save(&mut store, &jwt(4, 1, 0, "a"), 0).unwrap();
    assert_eq!(list(&store), [1, 3, 4].map(key));
    assert!(!folder.file(2).exists());
    // After a start, what was written first goes first.
    for (n, seconds) in [(1, 30), (3, 10), (4, 20)] {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let file = File::options().append(true).open(folder.file(n)).unwrap();
        file.set_modified(at).unwrap();
    }
    let mut store = folder.open(limited(cache(), 2), 0);
    assert_eq!(list(&store), [1, 4].map(key));
    save(&mut store, &jwt(5, 1, 0, "a"), 0).unwrap();
    assert_eq!(list(&store), [1, 5].map(key));
    assert_eq!(folder.names().len(), 2);
}

#[test]
fn the_later_one_stays() {
    let folder = Folder::new();
    let mut store = folder.open(full(), 0);
    for (issued_at, id, wanted) in [
        (5, "a", Saved::Stored),
        (9, "a", Saved::Kept),
        (4, "b", Saved::Kept),
        (5, "b", Saved::Stored),
        (6, "c", Saved::Stored),
    ] {
        assert_eq!(save_if_newer(&mut store, &jwt(1, issued_at, 0, id)), wanted);
    }
    let text = jwt(1, 9, 0, "d");
    let refused = store.save_if_newer(key(2), &text, &decode(&text).unwrap(), 0);
    let refused = refused.unwrap_err().to_string();
    assert_eq!(refused, "subject does not match jwt content");
    assert_eq!(store.len(), 1);
}

/// 32, 34: what one packs, the other takes, and then they are the same.
#[test]
fn packs() {
    let (one, other) = (Folder::new(), Folder::new());
    let mut from = one.open(full(), 0);
    let mut to = other.open(full(), 0);
    for (n, expires_at) in [(1, 0), (2, 50), (3, 100), (4, 101)] {
        save(&mut from, &jwt(n, 5, expires_at, "a"), 0).unwrap();
    }
    save(&mut to, &jwt(4, 9, 0, "later"), 0).unwrap();
    let lines: Vec<_> = from.pack(None, 100).collect();
    let accounts: Vec<_> = lines.iter().map(|(account, _)| *account).collect();
    assert_eq!(accounts, [1, 4].map(key));
    let rest: Vec<_> = from.pack(Some(key(1)), 100).collect();
    assert_eq!(rest, lines[1..]);
    let mut pack: String = lines.iter().map(|(_, line)| format!("{line}\n")).collect();
    let merged = to.merge(&pack, 100);
    assert_eq!((merged.changed, merged.refused.len()), (vec![key(1)], 0));
    pack.push_str(&format!("{}|{}\n", key(5), jwt(5, 1, 100, "expired")));
    pack.push_str(&format!("{}|{}|\n", key(6), jwt(6, 1, 0, "")));
    pack.push_str(&format!("{}\n", jwt(6, 1, 0, "")));
    pack.push_str(&format!("x|{}\n", jwt(6, 1, 0, "")));
    pack.push_str(&format!("{}|{}\n", key(7), jwt(6, 1, 0, "")));
    pack.push_str(&format!("{}|garbage\n", key(7)));
    pack.push_str(&format!("{}|{}", key(8), jwt(8, 1, 0, "last")));
    let merged = to.merge(&pack, 100);
    assert_eq!(merged.changed, [key(8)]);
    let foreign = format!("{}: subject does not match jwt content", key(7));
    assert_eq!(
        merged.refused,
        [
            "a line of a pack is not account|jwt",
            "a line of a pack is not account|jwt",
            "a line of a pack names no account",
            foreign.as_str(),
            &format!("{}: no subject", key(7)),
        ]
    );
    from.expire(100);
    for (_, line) in to.pack(None, 100) {
        from.merge(&line, 100);
    }
    assert_eq!((from.hash(), list(&from)), (to.hash(), list(&to)));
}

/// 35.
#[test]
fn deletions() {
    for (deletion, left) in [(Deletion::Soft, 1), (Deletion::Hard, 0)] {
        let folder = Folder::new();
        let settings = Settings { deletion, ..full() };
        let mut store = folder.open(settings.clone(), 0);
        for id in ["a", "b"] {
            save(&mut store, &jwt(1, 1, 0, id), 0).unwrap();
            store.delete(key(1)).unwrap();
        }
        store.delete(key(2)).unwrap();
        assert_eq!((store.hash(), store.len()), ([0; 32], 0));
        assert_eq!(folder.names().len(), left);
        if deletion == Deletion::Soft {
            let aside = folder.0.join(format!("{}.jwt.deleted", key(1)));
            assert_eq!(fs::read_to_string(aside).unwrap(), jwt(1, 1, 0, "b"));
        }
        assert!(folder.open(settings, 0).is_empty());
    }
}

/// 37, and what nobody uses.
#[test]
fn what_is_overdue_goes() {
    let folder = Folder::new();
    let mut store = folder.open(full(), 0);
    for (n, expires_at) in [(1, 0), (2, 100), (3, 101)] {
        save(&mut store, &jwt(n, 1, expires_at, ""), 0).unwrap();
    }
    assert_eq!(store.expire(99), []);
    assert_eq!(store.expire(100), [key(2)]);
    assert_eq!(folder.names().len(), 2);
    let settings = Settings {
        ttl: Some(Duration::from_millis(9_500)),
        ..cache()
    };
    let mut store = folder.open(settings, 90);
    assert_eq!(store.expire(99), []);
    store.load(key(1), 95).unwrap();
    assert_eq!(store.expire(100), [key(3)]);
    assert_eq!(store.expire(104), []);
    assert_eq!(
        save(&mut store, &jwt(1, 1, 0, ""), 104).unwrap(),
        Saved::Same
    );
    assert_eq!(store.expire(113), []);
    assert_eq!(store.expire(114), [key(1)]);
    assert_eq!(folder.names().len(), 0);
}

#[test]
fn a_rescan_tells_what_changed() {
    let folder = Folder::new();
    let mut store = folder.open(limited(cache(), 4), 0);
    for n in [1, 2, 3] {
        save(&mut store, &jwt(n, 1, 0, "a"), 0).unwrap();
    }
    assert_eq!(store.rescan(0).unwrap(), Rescanned::default());
    fs::write(folder.file(1), jwt(1, 2, 0, "b")).unwrap();
    fs::remove_file(folder.file(2)).unwrap();
    fs::write(folder.file(3), "garbage").unwrap();
    fs::write(folder.file(4), jwt(4, 1, 0, "")).unwrap();
    let wanted = Rescanned {
        changed: [1, 4].map(key).to_vec(),
        removed: [2, 3].map(key).to_vec(),
    };
    assert_eq!(store.rescan(0).unwrap(), wanted);
    let texts = [jwt(1, 2, 0, "b"), jwt(4, 1, 0, "")];
    assert_eq!(store.hash(), hash_of_texts(texts.iter()));
    fs::remove_dir_all(&folder.0).unwrap();
    let failed = store.rescan(0).unwrap_err().to_string();
    assert!(failed.ends_with("no such file or directory"), "{failed}");
    assert_eq!(store.len(), 2);
}

/// A disk that does not do what it is told changes nothing.
#[test]
fn a_write_that_fails() {
    let folder = Folder::new();
    let mut store = folder.open(full(), 0);
    let text = jwt(1, 1, 0, "a");
    save(&mut store, &text, 0).unwrap();
    let (hash, aside) = (store.hash(), folder.0.with_extension("aside"));
    fs::rename(&folder.0, &aside).unwrap();
    assert!(save(&mut store, &jwt(1, 2, 0, "b"), 0).is_err());
    assert!(save(&mut store, &jwt(2, 2, 0, "b"), 0).is_err());
    assert!(store.commit().is_err());
    fs::rename(&aside, &folder.0).unwrap();
    assert_eq!((store.hash(), list(&store)), (hash, vec![key(1)]));
    store.commit().unwrap();
    assert_eq!(store.load(key(1), 0).unwrap(), Some(text));
    // A directory where the JWT is to be: the temporary file does not stay either.
    fs::create_dir(folder.file(3)).unwrap();
    assert!(save(&mut store, &jwt(3, 1, 0, "a"), 0).is_err());
    assert_eq!((store.len(), folder.names().len()), (1, 2));
}

/// What the module says of the memory.
#[test]
fn an_account_is_104_bytes() {
    assert_eq!(size_of::<(AccountKey, Entry)>(), 104);
}

#[derive(Clone, Debug)]
enum Op {
    Save(u8, i64, i64, String),
    SaveIfNewer(u8, i64, i64, String),
    Merge(u8, i64, i64, String),
    Load(u8),
    Delete(u8),
    Later(i64),
    Expire,
    Reopen,
    Write(u8, i64),
    Remove(u8),
    Spoil(u8),
    Rescan,
}

fn op() -> impl Strategy<Value = Op> {
    let account = || 0..6u8;
    let facts = || {
        (
            account(),
            0..5i64,
            prop_oneof![Just(0i64), 1..60i64],
            "[a-d]?",
        )
    };
    prop_oneof![
        4 => facts().prop_map(|(n, at, exp, id)| Op::Save(n, at, exp, id)),
        4 => facts().prop_map(|(n, at, exp, id)| Op::SaveIfNewer(n, at, exp, id)),
        2 => facts().prop_map(|(n, at, exp, id)| Op::Merge(n, at, exp, id)),
        2 => account().prop_map(Op::Load),
        1 => account().prop_map(Op::Delete),
        2 => (1..10i64).prop_map(Op::Later),
        1 => Just(Op::Expire),
        1 => Just(Op::Reopen),
        1 => (account(), 0..5i64).prop_map(|(n, at)| Op::Write(n, at)),
        1 => account().prop_map(Op::Remove),
        1 => account().prop_map(Op::Spoil),
        1 => Just(Op::Rescan),
    ]
}

/// What a store should have.
#[derive(Default)]
struct Model {
    known: BTreeMap<u8, Known>,
    uses: u64,
}

struct Known {
    text: String,
    used_at: i64,
    used: u64,
}

impl Model {
    fn touch(&mut self, n: u8, text: &str, now: i64) {
        self.uses += 1;
        let known = Known {
            text: text.to_owned(),
            used_at: now,
            used: self.uses,
        };
        self.known.insert(n, known);
    }

    /// Whether the account is there afterwards.
    fn save(&mut self, settings: &Settings, n: u8, text: &str, now: i64) -> bool {
        let limit = settings.limit.map_or(usize::MAX, NonZeroUsize::get);
        if !self.known.contains_key(&n) && self.known.len() >= limit {
            if settings.at_limit == AtLimit::Refuse {
                return false;
            }
            self.evict(settings, 1);
        }
        self.touch(n, text, now);
        true
    }

    fn evict(&mut self, settings: &Settings, more: usize) {
        let limit = settings.limit.map_or(usize::MAX, NonZeroUsize::get);
        while settings.at_limit == AtLimit::Evict && self.known.len() + more > limit {
            let least = self.known.iter().min_by_key(|(_, known)| known.used);
            let n = *least.unwrap().0;
            self.known.remove(&n);
        }
    }

    fn is_kept(&self, n: u8, text: &str) -> bool {
        let Some(known) = self.known.get(&n) else {
            return false;
        };
        let (old, new) = (decode(&known.text).unwrap(), decode(text).unwrap());
        old.id == new.id || old.issued_at > new.issued_at
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_store_is_what_a_map_is(
        ops in proptest::collection::vec(op(), 1..60),
        is_cache: bool,
        limit in 1..6usize,
        ttl in proptest::option::of(1..20u64),
    ) {
        let base = if is_cache { cache() } else { full() };
        let settings = Settings { ttl: ttl.map(Duration::from_secs), ..limited(base, limit) };
        let folder = Folder::new();
        let mut store = folder.open(settings.clone(), 0);
        let (mut model, mut now) = (Model::default(), 0);
        for op in ops {
            // What was done behind the store's back is told to it at once.
            let mut rescan = false;
            match op {
                Op::Save(n, at, exp, id) => {
                    let text = jwt(n, at, exp, &id);
                    let is_there = model.save(&settings, n, &text, now);
                    prop_assert_eq!(save(&mut store, &text, now).is_ok(), is_there);
                }
                Op::SaveIfNewer(n, at, exp, id) => {
                    let text = jwt(n, at, exp, &id);
                    let facts = decode(&text).unwrap();
                    let saved = store.save_if_newer(key(n), &text, &facts, now);
                    if model.is_kept(n, &text) {
                        prop_assert_eq!(saved.unwrap(), Saved::Kept);
                    } else {
                        prop_assert_eq!(saved.is_ok(), model.save(&settings, n, &text, now));
                    }
                }
                Op::Merge(n, at, exp, id) => {
                    let text = jwt(n, at, exp, &id);
                    let merged = store.merge(&format!("{}|{text}", key(n)), now);
                    let is_taken = !(model.is_kept(n, &text) || (exp > 0 && exp <= now))
                        && model.save(&settings, n, &text, now);
                    prop_assert_eq!(merged.changed.len(), usize::from(is_taken));
                }
                Op::Load(n) => {
                    let text = model.known.get(&n).map(|known| known.text.clone());
                    // There may be a file that says nothing.
                    prop_assert_eq!(&store.load(key(n), now).unwrap_or_default(), &text);
                    if let Some(text) = text {
                        model.touch(n, &text, now);
                    }
                }
                Op::Delete(n) => {
                    store.delete(key(n)).unwrap();
                    model.known.remove(&n);
                }
                Op::Later(seconds) => now += seconds,
                Op::Expire => {
                    let mut gone = Vec::new();
                    model.known.retain(|n, known| {
                        let unused = ttl.map_or(i64::MAX, |ttl| known.used_at + ttl as i64);
                        let expires = decode(&known.text).unwrap().expires_at;
                        let stays = unused.min(expires.unwrap_or(i64::MAX)) > now;
                        if !stays {
                            gone.push(key(*n));
                        }
                        stays
                    });
                    prop_assert_eq!(store.expire(now), gone);
                }
                Op::Reopen => {
                    store.commit().unwrap();
                    store = folder.open(settings.clone(), now);
                    for (n, known) in &mut model.known {
                        // The order is that of the files' times, which may be the same.
                        (known.used_at, known.used) = (now, store.index[&key(*n)].used);
                    }
                    model.uses = store.uses;
                }
                Op::Write(n, at) => {
                    fs::write(folder.file(n), jwt(n, at, 0, "w")).unwrap();
                    rescan = true;
                }
                Op::Remove(n) => {
                    let _ = fs::remove_file(folder.file(n));
                    rescan = true;
                }
                Op::Spoil(n) => {
                    if model.known.contains_key(&n) {
                        fs::write(folder.file(n), "garbage").unwrap();
                        rescan = true;
                    }
                }
                Op::Rescan => rescan = true,
            }
            if rescan {
                let told = store.rescan(now).unwrap();
                let on_disk = |n: u8| fs::read_to_string(folder.file(n)).ok();
                let read = (0..6).filter_map(|n| Some((n, on_disk(n)?)));
                let read = read.filter(|(_, text)| decode(text).is_ok());
                let read: BTreeMap<_, _> = read.collect();
                let gone: Vec<_> = model.known.keys().copied().filter(|n| told.removed.contains(&key(*n))).collect();
                for n in gone {
                    model.known.remove(&n);
                }
                let mut changed = Vec::new();
                for (n, text) in read {
                    if model.known.get(&n).is_none_or(|known| known.text != text) {
                        changed.push(key(n));
                        model.touch(n, &text, now);
                    }
                }
                model.evict(&settings, 0);
                changed.retain(|account| store.index.contains_key(account));
                prop_assert_eq!(told.changed, changed);
            }
            let texts = model.known.values().map(|known| &known.text);
            prop_assert_eq!(store.hash(), hash_of_texts(texts));
            let accounts: Vec<_> = model.known.keys().map(|n| key(*n)).collect();
            prop_assert_eq!(list(&store), accounts);
        }
        store.commit().unwrap();
        let again = folder.open(settings, now);
        prop_assert_eq!((again.hash(), list(&again)), (store.hash(), list(&store)));
    }

    #[test]
    fn no_pack_panics(pack in "(A[A-Z2-7]{55}|[a-z|\n.]{0,9}|\\|){0,6}") {
        let folder = Folder::new();
        let mut store = folder.open(full(), 0);
        store.merge(&pack, 0);
        prop_assert!(store.is_empty());
    }
}

const SAVER_DIR: &str = "PETIOLE_TEST_SAVER_DIR";
const ACCOUNTS: u8 = 5;

/// The process that [`a_kill_loses_nothing_acknowledged`] kills; nothing without it. It saves and
/// deletes for ever and says what is on the disk.
#[test]
fn saver() {
    let Some(dir) = std::env::var_os(SAVER_DIR) else {
        return;
    };
    let mut store = Store::open(Path::new(&dir), full(), decode, 0).unwrap();
    let mut out = std::io::stdout().lock();
    let known = (0..ACCOUNTS).filter_map(|n| store.load(key(n), 0).unwrap());
    let latest = known.map(|text| decode(&text).unwrap().issued_at).max();
    for round in latest.unwrap_or(0) + 1.. {
        let n = u8::try_from(round % i64::from(ACCOUNTS)).unwrap();
        let other = (n + 1) % ACCOUNTS;
        if round % 7 == 0 {
            writeln!(out, "\nack {n} {round} deletes").unwrap();
            out.flush().unwrap();
            store.delete(key(n)).unwrap();
            store.commit().unwrap();
            writeln!(out, "ack {n} {round} deleted").unwrap();
        } else {
            // Two at once, as of a pack.
            for n in [n, other] {
                let long = "x".repeat(usize::try_from(round % 3).unwrap() * 5_000);
                save(&mut store, &jwt(n, round, 0, &long), 0).unwrap();
            }
            store.commit().unwrap();
            writeln!(out, "\nack {n} {round} saved\nack {other} {round} saved").unwrap();
        }
        out.flush().unwrap();
    }
}

/// Two hundred processes that save are killed, each at another instant, and each goes on where the
/// one before it was.
#[test]
fn a_kill_loses_nothing_acknowledged() {
    let folder = Folder::new();
    // What was said of each account last: `saved`, `deletes`, `deleted`.
    let mut said: BTreeMap<u8, (i64, String)> = BTreeMap::new();
    let mut acknowledged = 0;
    for round in 0..200u32 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["resolver::store::tests::saver", "--exact", "--nocapture"])
            .env(SAVER_DIR, &folder.0)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut heed = |line: String| {
            let mut words = line.split(' ').skip_while(|word| *word != "ack").skip(1);
            let Some(n) = words.next() else { return 0 };
            let at = words.next().unwrap().parse().unwrap();
            said.insert(n.parse().unwrap(), (at, words.next().unwrap().to_owned()));
            1
        };
        // Some are killed before they have done anything, and each somewhere in what it does.
        let enough = round % 5;
        let mut heard = 0;
        while heard < enough {
            heard += heed(lines.next().unwrap().unwrap());
        }
        let pause = Duration::from_micros(u64::from(round.wrapping_mul(2_654_435_761) % 4_000));
        let begun = Instant::now();
        while begun.elapsed() < pause {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        for line in lines {
            heard += heed(line.unwrap());
        }
        child.wait().unwrap();
        acknowledged += heard;

        let mut store = folder.open(full(), 0);
        let mut texts = Vec::new();
        for n in 0..ACCOUNTS {
            let text = store.load(key(n), 0).unwrap();
            let stored = text.as_deref().map(|text| decode(text).unwrap().issued_at);
            let said = said.get(&n).map(|(at, what)| (*at, what.as_str()));
            let is_right = match (said, stored) {
                (None, stored) => stored.is_none_or(|stored| stored > 0),
                (Some((at, "saved")), stored) => stored.is_some_and(|stored| stored >= at),
                (Some((at, "deleted")), stored) => stored.is_none_or(|stored| stored > at),
                // It may have been done, and no more.
                (Some(_), _) => true,
            };
            assert!(is_right, "{round}: {n} said {said:?}, stored {stored:?}");
            texts.extend(text);
        }
        assert_eq!(store.hash(), hash_of_texts(texts.iter()));
        assert!(!folder.names().iter().any(|name| name.ends_with(".tmp")));
    }
    assert!(acknowledged > 300, "{acknowledged}");
}
