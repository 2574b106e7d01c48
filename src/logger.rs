//! The program's log: a backend of the `log` facade that writes nats-server's lines.
//!
//! Owns where lines go and which are written; never decides what is said. An embedding program
//! that has a logger of its own leaves this one alone.
//!
//! A reader that stops reading (a paused terminal, a stuck supervisor) must not stop the server:
//! before each write to anything but a regular file we ask whether it would block, wait a moment
//! at most, and otherwise drop the line and count it.

use std::cell::Cell;
use std::fmt::{self, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use log::{Level, LevelFilter, Log, Metadata, Record};
use petiole_core::config::model;
use petiole_net::errno;
use tz::{DateTime, TimeZone, TimeZoneRef};

/// The target that makes an error fatal in the log, `[FTL]`; see [`fatal`].
const FATAL: &str = "FTL";

/// How long a line may wait for a reader that is briefly behind. Longer, and the links of a
/// single-threaded leaf feel it.
const PATIENCE: Duration = Duration::from_millis(50);

/// What a pipe takes at once or not at all (PIPE_BUF): a longer write may block half way even
/// when the pipe has said that it is ready.
const PIECE: usize = 4096;

/// A line's buffer is kept for the next one up to this size, which no ordinary line exceeds.
const KEPT_BUFFER: usize = 8 << 10;

const DEBUG: u8 = 1;
const TRACE: u8 = 2;
const TIME: u8 = 4;
const UTC: u8 = 8;

static LOGGER: OnceLock<Logger> = OnceLock::new();
/// Whether it became the process's.
static INSTALLED: OnceLock<bool> = OnceLock::new();

thread_local! {
    /// The buffer of the thread's last line. Taken while a line is written, so that a `Display`
    /// that logs gets a fresh one.
    static BUFFER: Cell<String> = const { Cell::new(String::new()) };
}

/// Why the log could not be started. `Display` is nats-server's text.
#[derive(Debug)]
#[non_exhaustive]
pub enum LogError {
    /// The log file could not be opened.
    Open {
        /// Its path.
        path: String,
        /// What the system said.
        cause: io::Error,
    },
    /// The process has a logger already.
    Taken,
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogError::Open { path, cause } => {
                let cause = errno::words(cause);
                write!(f, "error opening file: open {path}: {cause}")
            }
            LogError::Taken => f.write_str("another logger is already in use"),
        }
    }
}

impl std::error::Error for LogError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LogError::Open { cause, .. } => Some(cause),
            LogError::Taken => None,
        }
    }
}

/// Makes this the process's logger, or gives it new settings if it already is.
pub fn init(config: &model::Log) -> Result<(), LogError> {
    let logger = match LOGGER.get() {
        Some(logger) => logger,
        None => {
            let logger = Logger::new(config)?;
            LOGGER.get_or_init(|| logger)
        }
    };
    let mut is_new = false;
    let installed = *INSTALLED.get_or_init(|| {
        is_new = true;
        log::set_logger(logger).is_ok()
    });
    match (installed, is_new) {
        // Another one's level is not ours to set.
        (false, _) => Err(LogError::Taken),
        (true, true) => {
            log::set_max_level(logger.max_level());
            Ok(())
        }
        (true, false) => logger.configure(config),
    }
}

/// Opens the log file again, after somebody has moved it away (USR1), and says so in the log.
pub fn reopen() {
    if let Some(logger) = LOGGER.get() {
        logger.reopen();
    }
}

/// Logs what ends the process.
pub fn fatal(what: impl fmt::Display) {
    log::error!(target: FATAL, "{what}");
}

/// The date and time of a log line, for the few lines said before there is a log.
pub fn timestamp() -> String {
    let mut text = String::new();
    stamp(&mut text, SystemTime::now(), local_zone().as_ref());
    text
}

#[derive(Debug)]
struct Logger {
    flags: AtomicU8,
    zone: TimeZone,
    out: Mutex<Out>,
}

impl Logger {
    fn new(config: &model::Log) -> Result<Logger, LogError> {
        Ok(Logger {
            flags: AtomicU8::new(flags(config)),
            zone: local_zone(),
            out: Mutex::new(Out::open(config.file.as_deref())?),
        })
    }

    fn configure(&self, config: &model::Log) -> Result<(), LogError> {
        let out = Out::open(config.file.as_deref())?;
        *self.lock() = out;
        self.flags.store(flags(config), Ordering::Relaxed);
        log::set_max_level(self.max_level());
        Ok(())
    }

    fn reopen(&self) {
        let mut out = self.lock();
        let done = match &out.path {
            None => Ok(false),
            Some(path) => match open_append(path) {
                Ok(file) => {
                    out.sink = Some(Sink::new(file));
                    Ok(true)
                }
                // The old file is still open: better there than nowhere.
                Err(cause) => Err(LogError::Open {
                    path: path.display().to_string(),
                    cause,
                }),
            },
        };
        drop(out);
        match done {
            Ok(true) => self.write(Level::Info, "", &"File log re-opened"),
            Ok(false) => {
                let text = "File log re-open ignored, not a file logger";
                self.write(Level::Info, "", &text);
            }
            Err(error) => self.write(Level::Error, "", &error),
        }
    }

    fn max_level(&self) -> LevelFilter {
        let flags = self.flags.load(Ordering::Relaxed);
        if flags & TRACE != 0 {
            LevelFilter::Trace
        } else if flags & DEBUG != 0 {
            LevelFilter::Debug
        } else {
            LevelFilter::Info
        }
    }

    fn write(&self, level: Level, target: &str, text: &dyn fmt::Display) {
        let mut line = BUFFER.take();
        line.clear();
        let flags = self.flags.load(Ordering::Relaxed);
        let _ = write!(line, "[{}] ", process::id());
        if flags & TIME != 0 {
            let zone = if flags & UTC != 0 {
                TimeZoneRef::utc()
            } else {
                self.zone.as_ref()
            };
            stamp(&mut line, SystemTime::now(), zone);
        }
        let head = line.len();
        // A `Display` that fails leaves what it had to say so far.
        let _ = writeln!(line, "{text}");

        let mut out = self.lock();
        line.insert_str(head, tag(level, target, out.colours()));
        out.put(&line);
        drop(out);

        if line.capacity() <= KEPT_BUFFER {
            BUFFER.set(line);
        }
    }

    /// A thread that died while writing has left at worst half a line.
    fn lock(&self) -> MutexGuard<'_, Out> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log for Logger {
    /// Debug and trace are two switches: either may be on without the other.
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let needed = match metadata.level() {
            Level::Debug => DEBUG,
            Level::Trace => TRACE,
            _ => return true,
        };
        self.flags.load(Ordering::Relaxed) & needed != 0
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.write(record.level(), record.target(), record.args());
        }
    }

    fn flush(&self) {}
}

/// Where lines go.
#[derive(Debug)]
struct Out {
    /// `None` when the process has no standard error.
    sink: Option<Sink>,
    /// The log file, if it is one.
    path: Option<PathBuf>,
    /// Lines dropped since the last one written.
    lost: u64,
    /// The last line ended half way.
    torn: bool,
}

impl Out {
    fn open(path: Option<&str>) -> Result<Out, LogError> {
        let sink = match path {
            None => standard_error().ok().map(Sink::new),
            Some(path) => {
                let file = open_append(path).map_err(|cause| LogError::Open {
                    path: path.into(),
                    cause,
                })?;
                Some(Sink::new(file))
            }
        };
        Ok(Out {
            sink,
            path: path.map(PathBuf::from),
            lost: 0,
            torn: false,
        })
    }

    fn colours(&self) -> bool {
        self.sink.as_ref().is_some_and(|sink| sink.colours)
    }

    fn put(&mut self, line: &str) {
        let Some(sink) = &mut self.sink else {
            return;
        };
        // Once it has been waited for in vain, lines go only where there is room at once.
        let patience = if self.lost == 0 {
            PATIENCE
        } else {
            Duration::ZERO
        };
        let written = if self.lost == 0 && !self.torn {
            sink.put(line, patience)
        } else {
            let torn = if self.torn { "\n" } else { "" };
            let pid = process::id();
            let lost = self.lost;
            let wrn = tag(Level::Warn, "", sink.colours);
            let text = format!("{torn}[{pid}] {wrn}{lost} log lines were lost here\n{line}");
            sink.put(&text, patience)
        };
        match written {
            Put::All => {
                self.lost = 0;
                self.torn = false;
            }
            Put::Part => {
                self.lost += 1;
                self.torn = true;
            }
            Put::Nothing => self.lost += 1,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Put {
    All,
    Part,
    Nothing,
}

#[derive(Debug)]
struct Sink {
    file: File,
    /// A regular file is always ready.
    regular: bool,
    colours: bool,
}

impl Sink {
    fn new(file: File) -> Sink {
        Sink {
            regular: file.metadata().is_ok_and(|metadata| metadata.is_file()),
            colours: file.is_terminal(),
            file,
        }
    }

    /// One system call for any line up to [`PIECE`], and for any line at all to a regular file.
    fn put(&mut self, text: &str, patience: Duration) -> Put {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let piece = if self.regular {
                rest
            } else if ready(&self.file, patience) {
                &rest[..rest.len().min(PIECE)]
            } else {
                break;
            };
            match self.file.write(piece) {
                Ok(0) => break,
                Ok(n) => rest = &rest[n..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        if rest.is_empty() {
            Put::All
        } else if rest.len() == text.len() {
            Put::Nothing
        } else {
            Put::Part
        }
    }
}

/// Whether a write would go through now, or within `patience`.
#[cfg(unix)]
fn ready(file: &File, patience: Duration) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::new(file, PollFlags::OUT)];
    let Ok(patience) = Timespec::try_from(patience) else {
        return false;
    };
    // An error or a hang-up counts as ready: the write will say what it is.
    matches!(poll(&mut fds, Some(&patience)), Ok(n) if n > 0)
}

#[cfg(not(unix))]
fn ready(_file: &File, _patience: Duration) -> bool {
    true
}

/// Standard error without the lock and the panics of the standard library's.
#[cfg(unix)]
fn standard_error() -> io::Result<File> {
    use std::os::fd::AsFd;
    Ok(io::stderr().as_fd().try_clone_to_owned()?.into())
}

#[cfg(not(unix))]
fn standard_error() -> io::Result<File> {
    use std::os::windows::io::AsHandle;
    Ok(io::stderr().as_handle().try_clone_to_owned()?.into())
}

fn open_append(path: impl AsRef<std::path::Path>) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o640);
    options.open(path)
}

fn flags(config: &model::Log) -> u8 {
    [
        (config.debug, DEBUG),
        (config.trace, TRACE),
        (config.time, TIME),
        (config.utc, UTC),
    ]
    .iter()
    .filter(|(on, _)| *on)
    .fold(0, |flags, (_, flag)| flags | flag)
}

fn tag(level: Level, target: &str, colours: bool) -> &'static str {
    let (plain, coloured) = match level {
        Level::Error if target == FATAL => ("[FTL] ", "[\x1b[31mFTL\x1b[0m] "),
        Level::Error => ("[ERR] ", "[\x1b[31mERR\x1b[0m] "),
        Level::Warn => ("[WRN] ", "[\x1b[93mWRN\x1b[0m] "),
        Level::Info => ("[INF] ", "[\x1b[32mINF\x1b[0m] "),
        Level::Debug => ("[DBG] ", "[\x1b[36mDBG\x1b[0m] "),
        Level::Trace => ("[TRC] ", "[\x1b[33mTRC\x1b[0m] "),
    };
    if colours { coloured } else { plain }
}

/// `2026/11/23 01:12:03.006047 `. A clock outside every calendar leaves the line without a date.
fn stamp(line: &mut String, now: SystemTime, zone: TimeZoneRef<'_>) {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    let Ok(time) = DateTime::from_timespec(seconds, since.subsec_nanos(), zone) else {
        return;
    };
    let _ = write!(
        line,
        "{:04}/{:02}/{:02} {:02}:{:02}:{:02}.{:06} ",
        time.year(),
        time.month(),
        time.month_day(),
        time.hour(),
        time.minute(),
        time.second(),
        since.subsec_micros(),
    );
}

/// `TZ`, else the system's zone. What cannot be read is UTC, as in Go.
fn local_zone() -> TimeZone {
    let zone = match std::env::var("TZ") {
        Ok(name) if name.is_empty() => return TimeZone::utc(),
        Ok(name) => TimeZone::from_posix_tz(&name),
        Err(_) => TimeZone::local(),
    };
    zone.unwrap_or_else(|_| TimeZone::utc())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A path of its own for each test, gone at the end.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Place {
            let path = std::env::temp_dir().join(format!("petiole-{}-{name}", process::id()));
            let _ = fs::remove_file(&path);
            Place(path)
        }

        fn log(&self) -> model::Log {
            model::Log {
                file: Some(self.0.display().to_string()),
                ..model::Log::default()
            }
        }

        fn text(&self) -> String {
            fs::read_to_string(&self.0).unwrap()
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    fn say(logger: &Logger, level: Level, target: &str, text: &str) {
        let record = format_args!("{text}").to_string();
        logger.log(
            &Record::builder()
                .level(level)
                .target(target)
                .args(format_args!("{record}"))
                .build(),
        );
    }

    #[test]
    fn stamps_are_nats_servers() {
        let at = |seconds, micros| {
            UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_micros(micros)
        };
        let east = TimeZone::fixed(5 * 3600 + 1800).unwrap();
        for (time, zone, want) in [
            (
                at(1_795_396_323, 6047),
                TimeZoneRef::utc(),
                "2026/11/23 01:12:03.006047 ",
            ),
            (
                at(1_795_396_323, 6047),
                east.as_ref(),
                "2026/11/23 06:42:03.006047 ",
            ),
            (at(0, 0), TimeZoneRef::utc(), "1970/01/01 00:00:00.000000 "),
        ] {
            let mut line = String::new();
            stamp(&mut line, time, zone);
            assert_eq!(line, want);
        }
    }

    #[test]
    fn summer_time_is_known() {
        let Ok(zone) = TimeZone::from_posix_tz("CET-1CEST,M3.5.0,M10.5.0/3") else {
            panic!("a POSIX zone needs no files");
        };
        for (seconds, want) in [(1_767_225_600, "01:00:00"), (1_782_864_000, "02:00:00")] {
            let mut line = String::new();
            let time = UNIX_EPOCH + Duration::from_secs(seconds);
            stamp(&mut line, time, zone.as_ref());
            assert!(line.contains(want), "{line}");
        }
    }

    #[test]
    fn lines_have_pid_level_and_text() {
        let place = Place::new("levels");
        let mut config = place.log();
        config.time = false;
        config.debug = true;
        config.trace = true;
        let logger = Logger::new(&config).unwrap();
        for level in [
            Level::Error,
            Level::Warn,
            Level::Info,
            Level::Debug,
            Level::Trace,
        ] {
            say(&logger, level, "petiole", "a\nb");
        }
        say(&logger, Level::Error, FATAL, "");
        let pid = process::id();
        let mut want = String::new();
        for tag in ["ERR", "WRN", "INF", "DBG", "TRC"] {
            want += &format!("[{pid}] [{tag}] a\nb\n");
        }
        want += &format!("[{pid}] [FTL] \n");
        assert_eq!(place.text(), want);
    }

    #[test]
    fn a_line_with_time_has_the_format() {
        let place = Place::new("time");
        let config = model::Log {
            utc: true,
            ..place.log()
        };
        say(&Logger::new(&config).unwrap(), Level::Info, "", "x");
        let text = place.text();
        let rest = text.strip_prefix(&format!("[{}] ", process::id())).unwrap();
        let shape: String = rest
            .chars()
            .map(|c| if c.is_ascii_digit() { '0' } else { c })
            .collect();
        assert_eq!(shape, "0000/00/00 00:00:00.000000 [INF] x\n");
    }

    #[test]
    fn debug_and_trace_are_two_switches() {
        for (debug, trace, want) in [
            (false, false, 0),
            (true, false, 1),
            (false, true, 1),
            (true, true, 2),
        ] {
            let place = Place::new(&format!("switch-{debug}-{trace}"));
            let config = model::Log {
                debug,
                trace,
                ..place.log()
            };
            let logger = Logger::new(&config).unwrap();
            say(&logger, Level::Debug, "", "x");
            say(&logger, Level::Trace, "", "x");
            assert_eq!(place.text().lines().count(), want);
        }
    }

    #[test]
    fn a_moved_file_is_opened_again() {
        let place = Place::new("reopen");
        let moved = Place::new("reopen-moved");
        let logger = Logger::new(&place.log()).unwrap();
        say(&logger, Level::Info, "", "one");
        fs::rename(&place.0, &moved.0).unwrap();
        say(&logger, Level::Info, "", "two");
        logger.reopen();
        say(&logger, Level::Info, "", "three");
        assert_eq!(moved.text().lines().count(), 2);
        assert!(place.text().contains("[INF] File log re-opened\n"));
        assert!(place.text().ends_with("[INF] three\n"));
    }

    #[test]
    fn a_file_is_appended_to_and_may_change() {
        let place = Place::new("append");
        fs::write(&place.0, "before\n").unwrap();
        let logger = Logger::new(&place.log()).unwrap();
        say(&logger, Level::Info, "", "one");
        assert!(place.text().starts_with("before\n["));
        let other = Place::new("append-other");
        logger.configure(&other.log()).unwrap();
        say(&logger, Level::Info, "", "two");
        assert!(other.text().ends_with("two\n"));
        assert_eq!(place.text().lines().count(), 2);
    }

    #[test]
    #[cfg(unix)]
    fn a_new_file_is_not_for_everyone() {
        use std::os::unix::fs::PermissionsExt;
        let place = Place::new("mode");
        let _logger = Logger::new(&place.log()).unwrap();
        let mode = fs::metadata(&place.0).unwrap().permissions().mode();
        assert_eq!(mode & 0o137, 0, "{mode:o}");
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let config = model::Log {
            file: Some("/no/such/dir/log".into()),
            ..model::Log::default()
        };
        assert_eq!(
            Logger::new(&config).unwrap_err().to_string(),
            "error opening file: open /no/such/dir/log: no such file or directory"
        );
    }

    #[test]
    fn colours_are_for_terminals() {
        assert_eq!(tag(Level::Info, "", true), "[\x1b[32mINF\x1b[0m] ");
        assert_eq!(tag(Level::Error, FATAL, false), "[FTL] ");
    }

    #[test]
    #[cfg(unix)]
    fn a_reader_that_stops_costs_lines_and_not_the_process() {
        use std::io::Read;
        use std::os::fd::OwnedFd;
        let (mut reader, writer) = io::pipe().unwrap();
        let mut out = Out {
            sink: Some(Sink::new(File::from(OwnedFd::from(writer)))),
            path: None,
            lost: 0,
            torn: false,
        };
        let line = format!("{}\n", "x".repeat(999));
        let start = std::time::Instant::now();
        for _ in 0..1000 {
            out.put(&line);
        }
        assert!(start.elapsed() < Duration::from_secs(5));
        let lost = out.lost;
        assert!(lost > 500, "{lost}");
        let mut all = vec![0; (1000 - lost as usize) * line.len()];
        reader.read_exact(&mut all).unwrap();
        out.put("after\n");
        drop(out);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        let pid = process::id();
        let want = format!("[{pid}] [WRN] {lost} log lines were lost here\nafter\n");
        assert_eq!(rest, want);
    }

    #[test]
    #[cfg(unix)]
    fn a_reader_that_is_gone_is_no_failure() {
        use std::os::fd::OwnedFd;
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut sink = Sink::new(File::from(OwnedFd::from(writer)));
        assert_eq!(sink.put("x\n", PATIENCE), Put::Nothing);
    }

    #[test]
    fn a_message_that_logs_is_two_lines() {
        struct Nested<'a>(&'a Logger);
        impl fmt::Display for Nested<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                say(self.0, Level::Info, "", "inner");
                f.write_str("outer")
            }
        }
        let place = Place::new("nested");
        let logger = Logger::new(&place.log()).unwrap();
        logger.write(Level::Info, "", &Nested(&logger));
        let text = place.text();
        let ends: Vec<_> = text.lines().filter_map(|l| l.rsplit(' ').next()).collect();
        assert_eq!(ends, ["inner", "outer"]);
    }
}
