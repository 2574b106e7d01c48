//! A gateway with its sockets: the tasks of its one thread.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use async_io::{Async, Timer};
use petiole_core::auth::nkey;
use petiole_core::config::model::Config;
use petiole_core::link::{LinkId, Proof, Server};
use petiole_core::random::Entropy;
use petiole_net::address::{self, Watch};
use petiole_net::clock::Clock;
use petiole_net::driver::Thread;
use petiole_net::listen::{ListenError, Listener, join};
use petiole_net::signal::{Signal, signals};
use smol::LocalExecutor;
use smol::channel::{Receiver, Sender, unbounded};
use smol::future::FutureExt as _;
use smol::stream::StreamExt as _;

use crate::accept::Greeter;
use crate::file_error::FileError;
use crate::identity::{Signer, prove};
use crate::node::{Node, NodeEvent};
use crate::reach::Reach;

/// How long the peers may take to accept our last bytes at the end.
const FAREWELL: Duration = Duration::from_secs(2);
/// Slow password checks that may wait for their turn; who comes later is turned away by the
/// authentication timeout.
const MOST_WAITING_CHECKS: usize = 256;

/// A gateway that is ready to run.
pub struct Leaf {
    config: Config,
    greeter: Greeter,
    reaches: Vec<Rc<Reach>>,
    id: String,
    entropy: SystemEntropy,
    signer: Option<Box<dyn Signer>>,
    on_ready: Option<Box<dyn FnOnce(Ready)>>,
    on_reopen: Option<Box<dyn Fn()>>,
}

/// What is known once clients can connect.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// Where clients are accepted.
    pub address: SocketAddr,
}

/// Why a gateway could not run.
#[derive(Debug)]
#[non_exhaustive]
pub enum RunError {
    /// The client port cannot be listened on.
    Listen(ListenError),
    /// A `tls` block names files that cannot be used.
    File(FileError),
    /// The system gives no signals or no random bytes.
    System(std::io::Error),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Listen(error) => error.fmt(f),
            RunError::File(error) => error.fmt(f),
            RunError::System(error) => write!(f, "system: {error}"),
        }
    }
}

impl std::error::Error for RunError {}

/// Reads all files that a configuration names for TLS, as a start would, and keeps nothing.
pub fn check_files(config: &Config) -> Result<(), FileError> {
    Greeter::new(config)?;
    reaches(config)?;
    Ok(())
}

/// How each remote is reached, in the order of the configuration.
fn reaches(config: &Config) -> Result<Vec<Rc<Reach>>, FileError> {
    let reach = |remote| Reach::new(remote).map(Rc::new);
    config.remotes.iter().map(reach).collect()
}

/// What an operator asks for, and the end of what takes its time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Stop,
    Terminate,
    LameDuck,
    LameDuckDone,
}

impl Leaf {
    /// A gateway of a checked configuration, with a new identity. Reads the files that the
    /// configuration names for TLS.
    pub fn new(config: Config) -> Result<Self, RunError> {
        let greeter = Greeter::new(&config).map_err(RunError::File)?;
        let reaches = reaches(&config).map_err(RunError::File)?;
        let mut entropy = SystemEntropy::default();
        let id = nkey::server_id(&mut entropy);
        match entropy.error.take() {
            Some(error) => Err(RunError::System(error)),
            None => Ok(Leaf {
                config,
                greeter,
                reaches,
                id,
                entropy,
                signer: None,
                on_ready: None,
                on_reopen: None,
            }),
        }
    }

    /// Its public server nkey, `N...`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The name it goes by: `server_name`, else its id.
    pub fn name(&self) -> &str {
        self.config.server_name.as_deref().unwrap_or(&self.id)
    }

    /// Signs nonces of hubs in place of a credentials file.
    pub fn signer(mut self, signer: impl Signer + 'static) -> Self {
        self.signer = Some(Box::new(signer));
        self
    }

    /// Called once clients can connect.
    pub fn on_ready(mut self, call: impl FnOnce(Ready) + 'static) -> Self {
        self.on_ready = Some(Box::new(call));
        self
    }

    /// Called when the operator asks for the log file to be opened anew.
    pub fn on_reopen(mut self, call: impl Fn() + 'static) -> Self {
        self.on_reopen = Some(Box::new(call));
        self
    }

    /// Serves on this thread until a signal ends it.
    pub fn run(self) -> Result<(), RunError> {
        let executor = Rc::new(LocalExecutor::new());
        async_io::block_on(executor.run(serve(self, executor.clone())))
    }
}

async fn serve(leaf: Leaf, executor: Rc<LocalExecutor<'static>>) -> Result<(), RunError> {
    let Leaf {
        config,
        greeter,
        reaches,
        id,
        entropy,
        signer,
        on_ready,
        on_reopen,
    } = leaf;
    let mut signals = signals().map_err(RunError::System)?;
    let mut listener = Listener::bind(&config.host, config.port).map_err(RunError::Listen)?;
    let address = listener.local_addr();
    let server = describe(&config, id, address);
    let clock = Clock::start();
    let node = Node::new(&config, server, Box::new(entropy), clock.now());
    reaches.iter().for_each(|reach| reach.warn());
    let thread = Thread::new(node, clock);
    let role = Role {
        thread: thread.clone(),
        executor: executor.clone(),
        signer: signer.map(Rc::from),
        reaches: reaches.into(),
        greeter: Rc::new(greeter),
        addresses: Rc::default(),
    };
    role.greeter.warn();

    let (checks, waiting) = unbounded();
    let checker = executor.spawn(check_passwords(thread.clone(), waiting));
    let timer = executor.spawn({
        let thread = thread.clone();
        async move { thread.keep_time().await }
    });
    log::info!(
        "Listening for client connections on {}",
        join(&config.host, address.port())
    );
    log::info!("Server is ready");
    if let Some(on_ready) = on_ready {
        on_ready(Ready { address });
    }

    // Tasks of their own, each polled only when it has something to do: what is part of the main
    // future would be polled at every wake-up of the thread.
    let (ended, ends) = unbounded();
    let accepting = executor.spawn({
        let role = role.clone();
        async move {
            loop {
                let (socket, peer) = listener.accept().await;
                role.accept(socket, peer);
            }
        }
    });
    let working = executor.spawn({
        let (role, ended) = (role.clone(), ended.clone());
        async move {
            role.work(&checks).await;
            let _ = ended.send(End::LameDuckDone).await;
        }
    });
    let watching = executor.spawn({
        let role = role.clone();
        async move { role.watch_addresses().await }
    });
    let listening = executor.spawn(async move {
        while let Some(signal) = signals.next().await {
            let end = match signal {
                Signal::Interrupt | Signal::Quit => End::Stop,
                Signal::Terminate => End::Terminate,
                Signal::LameDuck => End::LameDuck,
                Signal::Reopen => {
                    if let Some(reopen) = &on_reopen {
                        reopen();
                    }
                    continue;
                }
                Signal::Reload => {
                    log::warn!(
                        "Trapped {:?} signal: reload is not served by this version; restart instead",
                        signal.name()
                    );
                    continue;
                }
            };
            log::info!("Trapped {:?} signal", signal.name());
            let _ = ended.send(end).await;
        }
    });
    let mut accepting = Some(accepting);
    while let Ok(end) = ends.recv().await {
        match end {
            End::Stop | End::LameDuckDone => break,
            // A lame duck takes its time (operations, signals).
            End::Terminate if accepting.is_none() => {}
            End::Terminate => break,
            End::LameDuck => {
                // The listener goes with the task.
                accepting = None;
                thread.with(|node, now| node.enter_lame_duck(now));
            }
        }
    }
    drop((accepting, working, watching, listening));
    log::info!("Initiating Shutdown...");
    thread.with(|node, now| node.shut_down(now));
    let gone = async {
        while !thread.with(|node, _| node.is_empty()) {
            thread.events().await;
            while thread.with(|node, _| node.poll_event()).is_some() {}
        }
    };
    gone.or(async {
        Timer::after(FAREWELL).await;
    })
    .await;
    drop((checker, timer));
    log::info!("Server Exiting..");
    Ok(())
}

fn describe(config: &Config, id: String, address: SocketAddr) -> Server {
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

/// The work of the role beside its drivers.
#[derive(Clone)]
struct Role {
    thread: Rc<Thread<Node>>,
    executor: Rc<LocalExecutor<'static>>,
    signer: Option<Rc<dyn Signer>>,
    /// How each remote is reached, in the order of the configuration.
    reaches: Rc<[Rc<Reach>]>,
    greeter: Rc<Greeter>,
    /// Our own end of each link to a hub.
    addresses: Rc<RefCell<HashMap<LinkId, IpAddr>>>,
}

impl Role {
    fn accept(&self, socket: Async<TcpStream>, peer: SocketAddr) {
        let (thread, greeter) = (self.thread.clone(), self.greeter.clone());
        let serve = async move {
            // Boxed: a handshake would otherwise be part of every idle connection.
            let greeted = Box::pin(greeter.greet(socket, peer)).await;
            if let Some((transport, secured)) = greeted {
                let link = thread.with(|node, now| match secured {
                    Ok(secured) => node.accept(now, peer, secured),
                    Err(error) => node.refuse(now, peer, error),
                });
                thread.drive(link, transport).await;
            }
            greeter.report_refusals().await;
        };
        self.executor.spawn(serve).detach();
    }

    /// Ends links whose own address is gone: what is sent on them goes nowhere.
    async fn watch_addresses(&self) {
        let mut watch = match Watch::start() {
            Ok(watch) => watch,
            Err(error) => {
                let words = petiole_net::errno::words(&error);
                log::debug!("Changes of addresses are not heard of: {words}");
                return;
            }
        };
        while watch.changed().await.is_ok() {
            let lost: Vec<_> = self
                .addresses
                .borrow()
                .iter()
                .filter(|(_, address)| !address::is_ours(**address))
                .map(|(link, address)| (*link, *address))
                .collect();
            for (link, address) in lost {
                let cause = format!("this machine no longer has the address {address}");
                self.thread
                    .with(|node, now| node.abandon(now, link, &cause));
            }
        }
    }

    /// Does what the node asks for until a lame duck is done.
    async fn work(&self, checks: &Sender<NodeEvent>) {
        loop {
            self.thread.events().await;
            while let Some(event) = self.thread.with(|node, _| node.poll_event()) {
                self.handle(event, checks).await;
            }
            if self.thread.with(|node, _| node.is_done()) {
                return;
            }
        }
    }

    async fn handle(&self, event: NodeEvent, checks: &Sender<NodeEvent>) {
        match event {
            NodeEvent::Dial { remote, attempt } => {
                let thread = self.thread.clone();
                let Some(reach) = self.reaches.get(remote).cloned() else {
                    return;
                };
                let addresses = self.addresses.clone();
                self.executor
                    .spawn(async move {
                        let (result, transport) = match reach.connect(&attempt).await {
                            Ok(transport) => (Ok(()), Some(transport)),
                            Err(cause) => (Err(cause), None),
                        };
                        let link = thread
                            .with(|node, now| node.handle_dialed(now, remote, &attempt, result));
                        if let (Some(link), Some(mut transport)) = (link, transport) {
                            if let Some(address) = transport.local_address() {
                                addresses.borrow_mut().insert(link, address);
                            }
                            thread.drive(link, transport).await;
                            addresses.borrow_mut().remove(&link);
                        }
                    })
                    .detach();
            }
            NodeEvent::Sign {
                link,
                settings,
                nonce,
            } => {
                let signed = prove(&settings, self.signer.as_deref(), &nonce);
                self.thread
                    .with(|node, now| node.handle_proof(now, link, Proof::Signed(signed)));
            }
            check @ NodeEvent::Verify { .. } => {
                if checks.len() < MOST_WAITING_CHECKS {
                    // The receiver lives as long as the role.
                    let _ = checks.send(check).await;
                }
            }
        }
    }
}

/// One slow check at a time, on the blocking thread: guessing passwords costs the guesser time, not
/// the other clients.
async fn check_passwords(thread: Rc<Thread<Node>>, waiting: Receiver<NodeEvent>) {
    while let Ok(event) = waiting.recv().await {
        if let NodeEvent::Verify { link, check } = event {
            let result = smol::unblock(move || check.run()).await;
            thread.with(|node, now| node.handle_proof(now, link, Proof::Verified(result)));
        }
    }
}

/// The system's random bytes.
#[derive(Default)]
struct SystemEntropy {
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
