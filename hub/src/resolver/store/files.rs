//! The files of a [`Store`](super::Store): what they are called, and how one is replaced so that it
//! is there as a whole at any instant.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use petiole_core::auth::public_key::AccountKey;

use super::StoreError;

/// A JWT is no longer, as everywhere.
const LARGEST: u64 = 1 << 20;

/// Directories below the store's that are looked into. An older layout has one level.
const DEEPEST: usize = 4;

/// The end of a temporary file's name.
const TEMPORARY: &str = ".jwt.tmp";

/// What a file of an account is called.
pub(super) fn name(account: AccountKey) -> String {
    format!("{account}.jwt")
}

/// A file that is named after an account.
pub(super) struct Named {
    pub(super) account: AccountKey,
    pub(super) path: PathBuf,
    modified: SystemTime,
}

/// What a directory has.
#[derive(Default)]
pub(super) struct Walked {
    /// Those nearer to the top first, then those that were written earlier.
    pub(super) jwts: Vec<Named>,
    /// Temporary files: a process was ended while it wrote.
    pub(super) left_over: Vec<PathBuf>,
}

/// Looks at all names below a directory and reads no file. What cannot be looked at is left out with
/// a line in the log, but for the directory itself.
pub(super) fn walk(dir: &Path) -> Result<Walked, StoreError> {
    let mut walked = Walked::default();
    let mut level = vec![dir.to_path_buf()];
    for depth in 0..=DEEPEST {
        let mut below = Vec::new();
        let mut jwts = Vec::new();
        for dir in &level {
            let entries = fs::read_dir(dir).map_err(failed("open", dir));
            let entries = match entries {
                Err(error) if depth == 0 => return Err(error),
                Err(error) => {
                    log::warn!("resolver: a directory is left out: {error}");
                    continue;
                }
                Ok(entries) => entries,
            };
            for entry in entries {
                let entry = entry.map_err(failed("read", dir))?;
                let path = entry.path();
                let name = entry.file_name();
                let name = name.to_string_lossy();
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    if !name.starts_with('.') {
                        below.push(path);
                    }
                } else if let Some(account) = name.strip_suffix(".jwt") {
                    match AccountKey::parse(account) {
                        Some(account) => jwts.push(Named {
                            account,
                            modified: modified(&path),
                            path,
                        }),
                        None => log::warn!(
                            "resolver: a file is left out: {}: it is not named after an account",
                            path.display()
                        ),
                    }
                } else if depth == 0
                    && let Some(account) = name.strip_suffix(TEMPORARY)
                    && AccountKey::parse(account).is_some()
                {
                    walked.left_over.push(path);
                }
            }
        }
        jwts.sort_by(|a, b| (a.modified, &a.path).cmp(&(b.modified, &b.path)));
        walked.jwts.append(&mut jwts);
        level = below;
    }
    if let Some(dir) = level.first() {
        log::warn!(
            "resolver: {} and what else is as deep is not looked into",
            dir.display()
        );
    }
    Ok(walked)
}

fn modified(path: &Path) -> SystemTime {
    let modified = fs::metadata(path).and_then(|metadata| metadata.modified());
    modified.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// The text of a file.
pub(super) fn read(path: &Path) -> Result<String, StoreError> {
    let invalid = |reason: &str| io::Error::new(io::ErrorKind::InvalidData, reason.to_owned());
    // Opening something else, such as a pipe, could wait for ever.
    let metadata = fs::metadata(path).map_err(failed("open", path))?;
    if !metadata.is_file() {
        return Err(failed("open", path)(invalid("not a file")));
    }
    let file = File::open(path).map_err(failed("open", path))?;
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len().min(LARGEST)).unwrap_or(0));
    file.take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(failed("read", path))?;
    if bytes.len() as u64 > LARGEST {
        return Err(failed("read", path)(invalid("file too large")));
    }
    String::from_utf8(bytes).map_err(|_| failed("read", path)(invalid("not UTF-8 text")))
}

/// Puts a text into a file, or leaves what the file had. The file's name survives a loss of power
/// after [`sync_directory`].
pub(super) fn replace(path: &Path, text: &str) -> Result<(), StoreError> {
    let temporary = path.with_extension("jwt.tmp");
    let replaced = write(&temporary, text)
        .and_then(|()| fs::rename(&temporary, path).map_err(failed("rename", path)));
    if replaced.is_err() {
        // The reason is the one above.
        let _ = fs::remove_file(&temporary);
    }
    replaced
}

/// Writes a new file to the disk, for its owner only.
fn write(path: &Path, text: &str) -> Result<(), StoreError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(path).and_then(|()| options.open(path))
        }
        opened => opened,
    };
    let mut file = file.map_err(failed("open", path))?;
    file.write_all(text.as_bytes())
        .map_err(failed("write", path))?;
    file.sync_all().map_err(failed("sync", path))
}

/// Removes a file that may not be there.
pub(super) fn remove(path: &Path) -> Result<(), StoreError> {
    absent_or(fs::remove_file(path)).map_err(failed("remove", path))
}

/// Renames a file that may not be there so that nothing reads it.
pub(super) fn set_aside(path: &Path) -> Result<(), StoreError> {
    let aside = path.with_extension("jwt.deleted");
    absent_or(fs::rename(path, aside)).map_err(failed("rename", path))
}

fn absent_or(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Makes a directory and those above it, for their owner only.
pub(super) fn make_directory(dir: &Path) -> Result<(), StoreError> {
    let missing = dir
        .ancestors()
        .take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists());
    let missing: Vec<_> = missing.collect();
    for dir in missing.into_iter().rev() {
        let mut builder = DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(dir).map_err(failed("mkdir", dir))?;
        let above = dir.parent().filter(|above| !above.as_os_str().is_empty());
        sync_directory(above.unwrap_or(Path::new(".")))?;
    }
    if !dir.is_dir() {
        let error = io::Error::from(io::ErrorKind::NotADirectory);
        return Err(failed("mkdir", dir)(error));
    }
    Ok(())
}

/// Whether a file can be made in a directory, by making one.
pub(super) fn try_to_write(dir: &Path) -> Result<(), StoreError> {
    let path = dir.join(".writable.tmp");
    write(&path, "").and_then(|()| remove(&path))
}

/// Removes files that nobody needs; one that stays is of no harm.
pub(super) fn tidy(files: &[PathBuf]) {
    for path in files {
        match remove(path) {
            Ok(()) => log::info!("resolver: removed {}, left from before", path.display()),
            Err(error) => log::warn!("resolver: a file left from before stays: {error}"),
        }
    }
}

/// Waits until the names in a directory are on the disk.
pub(super) fn sync_directory(dir: &Path) -> Result<(), StoreError> {
    // Elsewhere a directory is no file, and the system sees to it.
    #[cfg(unix)]
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(failed("sync", dir))?;
    #[cfg(not(unix))]
    let _ = dir;
    Ok(())
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError::Io {
        what,
        path: path.to_path_buf(),
        source,
    }
}
