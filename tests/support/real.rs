//! The real servers: from the variables that name them, from the machine's own package archive, or
//! from the search path.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::skip_loudly;

/// The archive's suites that carry the three versions of interest.
const SUITES: [&str; 3] = ["bookworm", "trixie", "sid"];
const VARIABLES: [&str; 3] = ["NATS_SERVER_2_9", "NATS_SERVER_2_10", "NATS_SERVER_2_15"];

/// A real `nats-server`, and the version it says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RealServer {
    pub version: (u32, u32, u32),
    pub path: PathBuf,
}

/// All real servers of this machine, oldest first. Empty (and said loudly) when none can be had.
pub fn servers() -> &'static [RealServer] {
    static SERVERS: OnceLock<Vec<RealServer>> = OnceLock::new();
    SERVERS.get_or_init(|| {
        let mut found: Vec<RealServer> = Vec::new();
        let mut add = |path: PathBuf| match version_of(&path) {
            Some(version) if found.iter().all(|s| s.version != version) => {
                found.push(RealServer { version, path });
            }
            Some(_) => {}
            None => skip_loudly(&format!("{} does not tell its version", path.display())),
        };
        let named: Vec<PathBuf> = VARIABLES
            .iter()
            .filter_map(std::env::var_os)
            .map(Into::into)
            .collect();
        if named.is_empty() {
            match from_archive() {
                Ok(paths) => paths.into_iter().for_each(&mut add),
                Err(why) => skip_loudly(&format!("servers of the package archive: {why}")),
            }
        } else {
            named.into_iter().for_each(&mut add);
        }
        if let Some(path) = in_search_path("nats-server") {
            add(path);
        }
        found.sort_by_key(|s| s.version);
        if found.is_empty() {
            skip_loudly("no real nats-server can be had: nothing is compared with one");
        }
        for s in &found {
            let (major, minor, patch) = s.version;
            eprintln!("real server {major}.{minor}.{patch}: {}", s.path.display());
        }
        found
    })
}

/// The newest real server.
pub fn newest() -> Option<&'static RealServer> {
    servers().last()
}

/// The real server of one minor version.
pub fn server(major: u32, minor: u32) -> Option<&'static RealServer> {
    servers()
        .iter()
        .rev()
        .find(|s| (s.version.0, s.version.1) == (major, minor))
}

/// Asks the binary: `nats-server: v2.10.27`.
fn version_of(path: &Path) -> Option<(u32, u32, u32)> {
    let out = Command::new(path)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(out.stdout).ok()?;
    let number = text.trim().rsplit([' ', 'v']).next()?;
    // A pre-release or build suffix does not matter here.
    let mut parts = number.split(['.', '-', '+']).map_while(|p| p.parse().ok());
    Some((parts.next()?, parts.next()?, parts.next()?))
}

fn in_search_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|p| p.is_file())
}

/// One binary per suite out of the archive the machine itself is configured for, kept in the target
/// folder. Nothing of the system is changed: apt works on private state.
fn from_archive() -> Result<Vec<PathBuf>, String> {
    for tool in ["apt-get", "dpkg-deb"] {
        in_search_path(tool).ok_or_else(|| format!("no {tool} here"))?;
    }
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("nats-servers");
    std::fs::create_dir_all(&cache).map_err(|e| e.to_string())?;
    // One process fetches, the others wait for it.
    let lock = File::create(cache.join("lock")).map_err(|e| e.to_string())?;
    lock.lock().map_err(|e| e.to_string())?;

    let mut paths = Vec::new();
    let mut origins: Option<Vec<String>> = None;
    for suite in SUITES {
        let binary = cache.join(suite).join("nats-server");
        if binary.is_file() {
            paths.push(binary);
            continue;
        }
        let origins = origins.get_or_insert_with(archive_origins);
        let work = cache.join(format!("{suite}.work"));
        let mut outcome = Err("apt knows no archive that could have it".to_owned());
        for origin in origins.iter() {
            outcome = fetch(origin, suite, &work, &binary);
            if outcome.is_ok() {
                break;
            }
        }
        let _ = std::fs::remove_dir_all(&work);
        match outcome {
            Ok(()) => paths.push(binary),
            Err(why) => skip_loudly(&format!("the server of {suite}: {why}")),
        }
    }
    Ok(paths)
}

/// The archive's address from what apt prints: where it would get the package, or, before the first
/// update, where it would get the index of a suite we look for.
fn archive_origins() -> Vec<String> {
    let mut origins = Vec::new();
    let mut add = |line: &str, cut: &str| {
        let base = line
            .strip_prefix('\'')
            .and_then(|l| l.split_once(cut))
            .map(|(base, _)| base);
        if let Some(base) = base.filter(|b| !origins.iter().any(|o| o == b)) {
            origins.push(base.to_owned());
        }
    };
    let mut print = |args: &[&str], cuts: &[String]| {
        if let Ok(out) = Command::new("apt-get")
            .args(args)
            .stdin(Stdio::null())
            .output()
        {
            for line in String::from_utf8_lossy(&out.stdout).lines() {
                cuts.iter().for_each(|cut| add(line, cut));
            }
        }
    };
    print(
        &["download", "--print-uris", "nats-server"],
        &["/pool/".to_owned()],
    );
    print(
        &["update", "--print-uris"],
        &SUITES.map(|suite| format!("/dists/{suite}/InRelease")),
    );
    origins
}

fn fetch(origin: &str, suite: &str, work: &Path, binary: &Path) -> Result<(), String> {
    let io = |e: std::io::Error| e.to_string();
    let _ = std::fs::remove_dir_all(work);
    let state = work.join("state");
    let cache = work.join("cache");
    for dir in [
        state.join("lists").join("partial"),
        cache.join("archives").join("partial"),
        work.join("root"),
    ] {
        std::fs::create_dir_all(dir).map_err(io)?;
    }
    // The keys are those apt trusts by default: they sign all suites of the archive.
    std::fs::write(
        work.join("sources.list"),
        format!("deb {origin} {suite} main\n"),
    )
    .map_err(io)?;
    std::fs::write(work.join("status"), "").map_err(io)?;

    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.current_dir(work);
        for (name, value) in [
            ("Dir::Etc::sourcelist", work.join("sources.list")),
            ("Dir::Etc::sourceparts", work.join("no-parts")),
            ("Dir::State", state.clone()),
            ("Dir::State::lists", state.join("lists")),
            ("Dir::State::status", work.join("status")),
            ("Dir::Cache", cache.clone()),
        ] {
            command.arg("-o").arg(format!("{name}={}", value.display()));
        }
        for option in [
            "APT::Sandbox::User=root",
            "Acquire::Languages=none",
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
            "Acquire::Retries=1",
            "Acquire::http::Timeout=20",
        ] {
            command.arg("-o").arg(option);
        }
        run(command.args(args))
    };
    apt(&["update"])?;
    apt(&["download", "nats-server"])?;
    let package = std::fs::read_dir(work)
        .map_err(io)?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|ext| ext == "deb"))
        .ok_or("apt-get download left no package")?;
    run(Command::new("dpkg-deb")
        .arg("-x")
        .arg(package)
        .arg(work.join("root")))?;
    let unpacked =
        find_file(&work.join("root"), "nats-server").ok_or("the package has no nats-server")?;
    std::fs::create_dir_all(binary.with_file_name("")).map_err(io)?;
    // The binary appears whole or not at all.
    std::fs::rename(unpacked, binary).map_err(io)
}

fn run(command: &mut Command) -> Result<(), String> {
    let out = command
        .stdin(Stdio::null())
        .output()
        .map_err(|e| e.to_string())?;
    if out.status.success() {
        return Ok(());
    }
    let program = command.get_program().to_string_lossy().into_owned();
    Err(format!(
        "{program}: {}: {}",
        out.status,
        String::from_utf8_lossy(&out.stderr).trim()
    ))
}

/// An executable of this name anywhere below `dir`; where the package puts it differs.
fn find_file(dir: &Path, name: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    for entry in std::fs::read_dir(dir).ok()?.filter_map(Result::ok) {
        let path = entry.path();
        let meta = std::fs::symlink_metadata(&path).ok()?;
        if meta.is_dir() {
            if let Some(found) = find_file(&path, name) {
                return Some(found);
            }
        } else if meta.is_file() && path.ends_with(name) && meta.permissions().mode() & 0o111 != 0 {
            return Some(path);
        }
    }
    None
}
