//! A leaf node for NATS that fits a gateway: the embedding face.

mod banner;
pub mod files;
pub mod logger;

use std::fmt;

pub use banner::{banner, first_steps};
pub use petiole_core::config::model as config;

use config::Config;
use logger::LogError;
use petiole_core::config::{CheckError, check};

/// Why a server did not start, or did not stop in order.
#[derive(Debug)]
#[non_exhaustive]
pub enum RunError {
    /// The options do not go together.
    Config(CheckError),
    /// The log could not be opened.
    Log(LogError),
    /// Something that was said in the log, `[FTL]`.
    Fatal(String),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Config(error) => error.fmt(f),
            RunError::Log(error) => error.fmt(f),
            RunError::Fatal(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for RunError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RunError::Config(error) => Some(error),
            RunError::Log(error) => Some(error),
            RunError::Fatal(_) => None,
        }
    }
}

/// Serves until a signal ends it. An embedding program's own logger stays in use.
pub fn run(config: Config) -> Result<(), RunError> {
    check(&config).map_err(RunError::Config)?;
    match logger::init(&config.log) {
        Ok(()) | Err(LogError::Taken) => {}
        Err(error) => return Err(RunError::Log(error)),
    }
    // The role's identity, its `run`, and `first_steps` once it is ready belong here.
    let id = "";
    banner(&config, id, config.server_name.as_deref().unwrap_or(id));
    if let Some(path) = &config.pid_file {
        files::write_pid_file(path)
            .map_err(|error| fatal(format!("Could not write pidfile: {error}")))?;
    }
    Ok(())
}

fn fatal(text: String) -> RunError {
    logger::fatal(&text);
    RunError::Fatal(text)
}
