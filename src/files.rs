//! The files of a start: what a configuration is read from, and the pid file.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::process;

use petiole_core::config::Loader;
use petiole_net::errno::words;

/// No configuration is larger; a device that never ends is none.
const LARGEST: u64 = 64 << 20;

/// Configurations from the file system and this process's environment.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileLoader;

impl Loader for FileLoader {
    fn read(&self, path: &str) -> Result<String, String> {
        let file = File::open(path).map_err(|error| format!("open {path}: {}", words(&error)))?;
        let mut bytes = Vec::new();
        file.take(LARGEST + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| format!("read {path}: {}", words(&error)))?;
        if bytes.len() as u64 > LARGEST {
            return Err(format!("read {path}: file too large"));
        }
        String::from_utf8(bytes).map_err(|_| format!("read {path}: not UTF-8 text"))
    }

    fn env(&self, name: &str) -> Option<String> {
        // The standard library asks for names that can be one.
        if name.is_empty() || name.contains(['=', '\0']) {
            return None;
        }
        std::env::var(name).ok()
    }
}

/// Writes this process's id, without a line feed, for its owner only.
pub fn write_pid_file(path: &str) -> Result<(), String> {
    let failed = |what: &str, error: &io::Error| format!("{what} {path}: {}", words(error));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).map_err(|error| failed("open", &error))?;
    file.write_all(process::id().to_string().as_bytes())
        .map_err(|error| failed("write", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_in_gos_words() {
        let missing = FileLoader.read("/nonexistent/c.conf");
        let text = "open /nonexistent/c.conf: no such file or directory";
        assert_eq!(missing, Err(text.into()));
        assert_eq!(
            FileLoader.read("/"),
            Err("read /: is a directory".to_string())
        );
        let pid = write_pid_file("/nonexistent/pid");
        let text = "open /nonexistent/pid: no such file or directory";
        assert_eq!(pid, Err(text.into()));
        assert_eq!(FileLoader.env("A=B"), None);
    }

    #[test]
    #[cfg(unix)]
    fn the_pid_file_is_the_number_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let path = std::env::temp_dir().join(format!("petiole-pid-{}", process::id()));
        let path = path.to_str().unwrap();
        write_pid_file(path).unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        let mode = std::fs::metadata(path).unwrap().permissions().mode();
        std::fs::remove_file(path).unwrap();
        assert_eq!(text, process::id().to_string());
        assert_eq!(mode & 0o777, 0o600);
    }
}
