//! A gateway with its sockets, on one thread.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;

use petiole_core::auth::nkey;
use petiole_core::config::model::Config;
use petiole_core::link::Server;
use petiole_core::random::Entropy;
use petiole_net::clock::Clock;
use petiole_net::listen::{ListenError, Listener, join};
use petiole_net::signal::signals;
use smol::LocalExecutor;
use smol::channel::unbounded;

use crate::accept::Greeter;
use crate::file_error::FileError;
use crate::identity::Signer;
use crate::node::Node;
use crate::reach::Reach;
use crate::stop::{End, Stopper, obey};
use crate::worker::Worker;

/// A gateway that is ready to run.
pub struct Leaf(Parts);

/// What a server needs to serve clients and to dial hubs.
pub struct Parts {
    /// The configuration, checked.
    pub config: Config,
    /// How clients are greeted.
    pub greeter: Greeter,
    /// How each remote is reached, in the order of the configuration.
    pub reaches: Vec<Rc<Reach>>,
    /// The public server nkey.
    pub id: String,
    /// See [`Leaf::signer`].
    pub signer: Option<Box<dyn Signer>>,
    /// See [`Leaf::on_ready`].
    pub on_ready: Option<Box<dyn FnOnce(Ready)>>,
    /// See [`Leaf::on_reopen`].
    pub on_reopen: Option<Box<dyn Fn()>>,
}

/// A server that takes connections.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Ready {
    /// Where clients are accepted; the port is the real one.
    pub address: SocketAddr,
    /// Where leafs are accepted; `None`: nowhere.
    pub leafs: Option<SocketAddr>,
    /// Where clients and leafs are accepted over WebSocket; `None`: nowhere.
    pub websocket: Option<SocketAddr>,
    /// How to stop it.
    pub stopper: Stopper,
}

impl Ready {
    /// One that accepts clients only.
    pub fn new(address: SocketAddr, stopper: Stopper) -> Self {
        Ready {
            address,
            leafs: None,
            websocket: None,
            stopper,
        }
    }
}

/// Why a gateway could not run.
#[derive(Debug)]
#[non_exhaustive]
pub enum RunError {
    /// The client port cannot be listened on.
    Listen(ListenError),
    /// A `tls` block names files that cannot be used.
    File(FileError),
    /// Operator mode cannot be as it is configured: which place says what.
    Operator(String),
    /// The system gives no signals or no random bytes.
    System(std::io::Error),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Listen(error) => error.fmt(f),
            RunError::File(error) => error.fmt(f),
            RunError::Operator(error) => f.write_str(error),
            RunError::System(error) => write!(f, "system: {error}"),
        }
    }
}

impl std::error::Error for RunError {}

/// Reads all files that a configuration names for TLS, as a start would, and keeps nothing.
pub fn check_files(config: &Config) -> Result<(), FileError> {
    Greeter::for_clients(config)?;
    reaches(config)?;
    Ok(())
}

/// How each remote is reached, in the order of the configuration.
fn reaches(config: &Config) -> Result<Vec<Rc<Reach>>, FileError> {
    let reach = |remote| Reach::new(remote).map(Rc::new);
    config.remotes.iter().map(reach).collect()
}

impl Leaf {
    /// A gateway of a checked configuration, with a new identity. Reads the files that the
    /// configuration names for TLS.
    pub fn new(config: Config) -> Result<Self, RunError> {
        let greeter = Greeter::for_clients(&config).map_err(RunError::File)?;
        let reaches = reaches(&config).map_err(RunError::File)?;
        let mut entropy = SystemEntropy::default();
        let id = nkey::server_id(&mut entropy);
        match entropy.error.take() {
            Some(error) => Err(RunError::System(error)),
            None => Ok(Leaf(Parts {
                config,
                greeter,
                reaches,
                id,
                signer: None,
                on_ready: None,
                on_reopen: None,
            })),
        }
    }

    /// For a role that does what a gateway does, and more.
    pub fn into_parts(self) -> Parts {
        self.0
    }

    /// Its public server nkey, `N...`.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// What it was made of.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The name it goes by: `server_name`, else its id.
    pub fn name(&self) -> &str {
        self.0.config.server_name.as_deref().unwrap_or(&self.0.id)
    }

    /// Signs nonces of hubs in place of a credentials file.
    pub fn signer(mut self, signer: impl Signer + 'static) -> Self {
        self.0.signer = Some(Box::new(signer));
        self
    }

    /// Called on this thread once it takes connections.
    pub fn on_ready(mut self, call: impl FnOnce(Ready) + 'static) -> Self {
        self.0.on_ready = Some(Box::new(call));
        self
    }

    /// Called when the operator asks for the log file to be opened anew.
    pub fn on_reopen(mut self, call: impl Fn() + 'static) -> Self {
        self.0.on_reopen = Some(Box::new(call));
        self
    }

    /// Serves on this thread until a signal or a [`Stopper`] ends it.
    pub fn run(self) -> Result<(), RunError> {
        let executor = Rc::new(LocalExecutor::new());
        async_io::block_on(executor.run(serve(self.0, executor.clone())))
    }
}

async fn serve(parts: Parts, executor: Rc<LocalExecutor<'static>>) -> Result<(), RunError> {
    let Parts {
        config,
        greeter,
        reaches,
        id,
        signer,
        on_ready,
        on_reopen,
    } = parts;
    let signals = signals().map_err(RunError::System)?;
    let mut listener = Listener::bind(&config.host, config.port).map_err(RunError::Listen)?;
    let address = listener.local_addr();
    let server = describe(&config, id, address);
    let clock = Clock::start();
    let entropy = Box::new(SystemEntropy::default());
    let node = Node::new(&config, server, entropy, clock.now());
    reaches.iter().for_each(|reach| reach.warn());
    greeter.warn();
    let worker = Worker::new(node, clock, executor, greeter.into()).with_remotes(reaches, signer);

    let (ended, ends) = unbounded();
    let tasks = worker.start({
        let ended = ended.clone();
        async move || {
            let _ = ended.send(End::LameDuckDone).await;
        }
    });
    log::info!(
        "Listening for client connections on {}",
        join(&config.host, address.port())
    );
    log::info!("Server is ready");
    if let Some(on_ready) = on_ready {
        on_ready(Ready::new(address, Stopper::new(ended.clone())));
    }
    let mut accepting = Some(worker.spawn({
        let worker = worker.clone();
        async move {
            loop {
                let (socket, peer) = listener.accept().await;
                worker.accept(socket, peer);
            }
        }
    }));
    let obeying = worker.spawn(obey(signals, on_reopen, ended));
    while let Ok(end) = ends.recv().await {
        match end {
            End::Stop | End::LameDuckDone => break,
            // A lame duck takes its time (operations, signals).
            End::Terminate if accepting.is_none() => {}
            End::Terminate => break,
            End::LameDuck => {
                // The listener goes with the task.
                accepting = None;
                worker.thread().with(|node, now| node.enter_lame_duck(now));
            }
        }
    }
    drop((accepting, obeying));
    log::info!("Initiating Shutdown...");
    worker.finish().await;
    drop(tasks);
    log::info!("Server Exiting..");
    Ok(())
}

/// How a server of `config` that listens at `address` names itself to clients.
pub fn describe(config: &Config, id: String, address: SocketAddr) -> Server {
    let advertised = config.client_advertise.as_deref().unwrap_or_default();
    let (host, port) = match advertised.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() => {
            (host.to_owned(), port.parse().unwrap_or(address.port()))
        }
        _ if !advertised.is_empty() => (advertised.to_owned(), address.port()),
        _ => (config.host.clone(), address.port()),
    };
    Server {
        name: config.server_name.clone().unwrap_or_else(|| id.clone()),
        id,
        toolchain: concat!("petiole ", env!("CARGO_PKG_VERSION")),
        host,
        port,
        headers: !config.no_header_support,
    }
}

/// The system's random bytes.
#[derive(Default)]
pub struct SystemEntropy {
    error: Option<std::io::Error>,
    ready: VecDeque<u8>,
}

impl Entropy for SystemEntropy {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            if self.ready.is_empty() {
                let mut more = [0; 64];
                if let Err(error) = getrandom::getrandom(&mut more) {
                    self.error = Some(error.into());
                }
                self.ready.extend(more);
            }
            *byte = self.ready.pop_front().unwrap_or_default();
        }
    }
}
