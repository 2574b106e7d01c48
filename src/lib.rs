//! A server that joins remote sites to a NATS system: the embedding face.

#[cfg(not(feature = "leaf"))]
compile_error!("a program without a role has nothing to do: build with `--features leaf`");

mod banner;
pub mod files;
pub mod logger;
mod roles;

use std::fmt;

pub use banner::{banner, first_steps};
pub use petiole_core::config::model as config;
pub use petiole_leaf::{FileError, Ready, Signature, Signer, Stopper};
pub use roles::{RoleError, check_files, check_roles};

use config::Config;
use logger::LogError;
use petiole_core::config::{CheckError, check};
use petiole_leaf::Leaf;

/// Why a server did not start, or did not stop in order.
#[derive(Debug)]
#[non_exhaustive]
pub enum RunError {
    /// The options do not go together.
    Config(CheckError),
    /// They are for a role that this build does not have.
    Role(RoleError),
    /// A file that a `tls` block names cannot be used.
    File(FileError),
    /// The log could not be opened.
    Log(LogError),
    /// Something that was said in the log, `[FTL]`.
    Fatal(String),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Config(error) => error.fmt(f),
            RunError::Role(error) => error.fmt(f),
            RunError::File(error) => error.fmt(f),
            RunError::Log(error) => error.fmt(f),
            RunError::Fatal(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for RunError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RunError::Config(error) => Some(error),
            RunError::Role(error) => Some(error),
            RunError::File(error) => Some(error),
            RunError::Log(error) => Some(error),
            RunError::Fatal(_) => None,
        }
    }
}

/// A server of a configuration, for programs that embed one.
///
/// ```no_run
/// let mut config = petiole::config::Config::default();
/// config.port = 4333;
/// petiole::Server::new(config).run()?;
/// # Ok::<(), petiole::RunError>(())
/// ```
///
/// Several can run in one process, each on a thread of its own. They share one log, with the settings
/// of the one that was started last, and each of them obeys the signals that the process is sent.
pub struct Server {
    config: Config,
    signer: Option<Box<dyn Signer>>,
    on_ready: Option<Box<dyn FnOnce(Ready)>>,
}

impl Server {
    /// Not running yet. The configuration is checked when it is run.
    pub fn new(config: Config) -> Self {
        Server {
            config,
            signer: None,
            on_ready: None,
        }
    }

    /// Signs the nonces of hubs, in place of credentials files.
    pub fn signer(mut self, signer: impl Signer + 'static) -> Self {
        self.signer = Some(Box::new(signer));
        self
    }

    /// Calls `call` once the server takes connections, on the thread that runs it, which serves
    /// nobody before the call returns. What it is given says where it listens (the ports that the
    /// system chose for port 0), and stops it from any thread:
    ///
    /// ```
    /// # let config = petiole::config::Config { host: "127.0.0.1".into(), port: 0, ..Default::default() };
    /// let (ready, readies) = std::sync::mpsc::channel();
    /// let serving = std::thread::spawn(move || {
    ///     // Nobody listens if the other end has gone.
    ///     petiole::Server::new(config).on_ready(move |it| drop(ready.send(it))).run()
    /// });
    /// let server = readies.recv()?;
    /// println!("nats://{}", server.address);
    /// server.stopper.stop();
    /// # assert!(serving.join().is_ok_and(|ended| ended.is_ok()));
    /// # Ok::<(), std::sync::mpsc::RecvError>(())
    /// ```
    pub fn on_ready(mut self, call: impl FnOnce(Ready) + 'static) -> Self {
        self.on_ready = Some(Box::new(call));
        self
    }

    /// Serves on this thread until a signal or a [`Stopper`] ends it. An embedding program's own
    /// logger stays in use. INT, TERM, QUIT, HUP, USR1 and USR2 are the server's from here on.
    pub fn run(self) -> Result<(), RunError> {
        let Server {
            config,
            signer,
            on_ready,
        } = self;
        check(&config).map_err(RunError::Config)?;
        check_roles(&config).map_err(RunError::Role)?;
        let made = Leaf::new(config.clone());
        if let Err(petiole_leaf::RunError::File(error)) = made {
            return Err(RunError::File(error));
        }
        match logger::init(&config.log) {
            Ok(()) | Err(LogError::Taken) => {}
            Err(error) => return Err(RunError::Log(error)),
        }
        let mut leaf = made.map_err(fatal)?;
        banner(&config, leaf.id(), leaf.name());
        if let Some(signer) = signer {
            leaf = leaf.signer(signer);
        }
        if let Some(path) = &config.pid_file {
            files::write_pid_file(path)
                .map_err(|error| fatal(format!("Could not write pidfile: {error}")))?;
        }
        let leaf = leaf.on_reopen(logger::reopen).on_ready(move |ready| {
            first_steps(&config, ready.address);
            if let Some(call) = on_ready {
                call(ready);
            }
        });
        roles::serve(leaf).map_err(fatal)
    }
}

/// Serves until a signal ends it: [`Server::new`] and [`Server::run`].
pub fn run(config: Config) -> Result<(), RunError> {
    Server::new(config).run()
}

fn fatal(error: impl fmt::Display) -> RunError {
    let text = error.to_string();
    logger::fatal(&text);
    RunError::Fatal(text)
}
