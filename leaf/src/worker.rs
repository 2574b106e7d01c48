//! One thread of a server with its sockets: the tasks that serve clients and hubs.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use async_io::{Async, Timer};
use petiole_core::auth::users::{AuthError, Check, JwtCheck, SlowCheck, Verdict};
use petiole_core::link::{LinkId, Proof, Secured};
use petiole_core::time::Instant;
use petiole_core::wire::error::ProtoError;
use petiole_net::address::{self, Watch};
use petiole_net::clock::{Clock, since_1970, unix_now};
use petiole_net::driver::{Engine, Thread};
use petiole_net::transport::Transport;
use smol::LocalExecutor;
use smol::channel::{Receiver, Sender, unbounded};
use smol::future::FutureExt as _;

use crate::accept::Greeter;
use crate::credentials::{LOOK_EVERY, Watched};
use crate::identity::{Signer, prove};
use crate::node::{Node, NodeEvent};
use crate::peer::Peers;
use crate::reach::Reach;
use crate::wall;

/// How long the peers may take to accept our last bytes at the end.
const FAREWELL: Duration = Duration::from_secs(2);
/// Slow password checks that may wait for their turn; who comes later is turned away by the
/// authentication timeout.
const MOST_WAITING_CHECKS: usize = 256;

/// An engine with a node in it.
pub trait Host: Engine<Id = LinkId> + 'static {
    /// The kinds of neighbour of the node.
    type Peers: Peers;
    /// The node.
    fn node(&mut self) -> &mut Node<Self::Peers>;
    /// What a check of who somebody is came to.
    fn handle_verified(&mut self, now: Instant, link: LinkId, verdict: Result<Verdict, AuthError>) {
        self.node()
            .handle_proof(now, link, Proof::Verified(verdict));
    }
}

/// Judges JWTs, whose accounts are looked up.
pub trait Judge {
    /// Whether somebody is let in, and as whom.
    fn judge(&self, check: JwtCheck) -> Judging;
}

/// What [`Judge::judge`] comes to.
pub type Judging = Pin<Box<dyn Future<Output = Result<Verdict, AuthError>>>>;

impl<P: Peers + 'static> Host for Node<P> {
    type Peers = P;

    fn node(&mut self) -> &mut Node<P> {
        self
    }
}

/// A thread's engine and what its tasks share.
pub struct Worker<H: Host> {
    thread: Rc<Thread<H>>,
    executor: Rc<LocalExecutor<'static>>,
    signer: Option<Rc<dyn Signer>>,
    /// How each remote is reached, in the order of the configuration.
    reaches: Rc<[Rc<Reach>]>,
    greeter: Arc<Greeter>,
    /// The credentials files of the remotes, by their places.
    watched: Rc<RefCell<BTreeMap<usize, Watched>>>,
    /// In operator mode.
    judge: Option<Rc<dyn Judge>>,
    /// Our own end of each link to a hub.
    addresses: Rc<RefCell<HashMap<LinkId, IpAddr>>>,
}

impl<H: Host> Clone for Worker<H> {
    fn clone(&self) -> Self {
        Worker {
            thread: self.thread.clone(),
            executor: self.executor.clone(),
            signer: self.signer.clone(),
            reaches: self.reaches.clone(),
            greeter: self.greeter.clone(),
            watched: self.watched.clone(),
            judge: self.judge.clone(),
            addresses: self.addresses.clone(),
        }
    }
}

impl<H: Host> Worker<H> {
    /// A worker on this thread, whose executor the caller runs. `greeter` is for clients.
    pub fn new(
        mut host: H,
        clock: Clock,
        executor: Rc<LocalExecutor<'static>>,
        greeter: Arc<Greeter>,
    ) -> Self {
        tell_time(&mut host, clock.now());
        Worker {
            thread: Thread::new(host, clock),
            executor,
            signer: None,
            reaches: Rc::default(),
            greeter,
            watched: Rc::default(),
            judge: None,
            addresses: Rc::default(),
        }
    }

    /// The worker dials hubs, too: the remotes of its node.
    pub fn with_remotes(self, reaches: Vec<Rc<Reach>>, signer: Option<Box<dyn Signer>>) -> Self {
        Worker {
            signer: signer.map(Rc::from),
            reaches: reaches.into(),
            ..self
        }
    }

    /// The worker's clients and leafs are users by JWT.
    pub fn with_judge(self, judge: Option<Rc<dyn Judge>>) -> Self {
        Worker { judge, ..self }
    }

    /// The engine.
    pub fn thread(&self) -> &Rc<Thread<H>> {
        &self.thread
    }

    /// Runs a task on this thread, until it ends or the answer is dropped.
    pub fn spawn<T: 'static>(&self, task: impl Future<Output = T> + 'static) -> smol::Task<T> {
        self.executor.spawn(task)
    }

    /// Starts what every thread does. It ends when the answer is dropped; `done` is called when a
    /// lame duck has no client left.
    pub fn start(&self, done: impl AsyncFnOnce() + 'static) -> Vec<smol::Task<()>> {
        // Tasks of their own, each polled only when it has something to do: what is part of the main
        // future would be polled at every wake-up of the thread.
        let (checks, waiting) = unbounded();
        let checker = self.spawn(check_passwords(self.thread.clone(), waiting));
        let thread = self.thread.clone();
        let timer = self.spawn(async move { thread.keep_time().await });
        let worker = self.clone();
        let working = self.spawn(async move {
            worker.work(&checks).await;
            done().await;
        });
        let worker = self.clone();
        let watching = self.spawn(async move { worker.watch_addresses().await });
        let worker = self.clone();
        let looking = self.spawn(async move { worker.watch_credentials().await });
        vec![checker, timer, working, watching, looking]
    }

    /// Serves a client.
    pub fn accept(&self, socket: Async<TcpStream>, peer: SocketAddr) {
        let open = move |host: &mut H, now: Instant, secured: Result<Secured, ProtoError>| {
            let node = host.node();
            match secured {
                Ok(secured) => node.accept(now, peer, secured),
                Err(error) => node.refuse(now, peer, error),
            }
        };
        let greeter = self.greeter.clone();
        let greet = async move |greeter: &Arc<Greeter>| greeter.greet(socket, peer).await;
        self.serve(greeter, greet, open);
    }

    /// Has a peer greeted, and serves it as what `open` makes of what that came to, if anything.
    pub fn serve<G: AsRef<Greeter> + 'static, T: 'static>(
        &self,
        gate: G,
        greet: impl AsyncFnOnce(&G) -> Option<(Transport, T)> + 'static,
        open: impl FnOnce(&mut H, Instant, T) -> LinkId + 'static,
    ) {
        let thread = self.thread.clone();
        let serve = async move {
            // Boxed: a handshake would otherwise be part of every idle connection.
            let greeted = Box::pin(greet(&gate)).await;
            if let Some((transport, came)) = greeted {
                let link = thread.with(|host, now| {
                    tell_time(host, now);
                    open(host, now, came)
                });
                thread.drive(link, transport).await;
            }
            gate.as_ref().report_refusals().await;
        };
        self.executor.spawn(serve).detach();
    }

    /// Closes all links in order, and waits for their peers as long as that makes sense.
    pub async fn finish(&self) {
        self.thread.with(|host, now| host.node().shut_down(now));
        let gone = async {
            while !self.thread.with(|host, _| host.node().is_empty()) {
                self.thread.events().await;
                while self
                    .thread
                    .with(|host, _| host.node().poll_event())
                    .is_some()
                {}
            }
        };
        gone.or(async {
            Timer::after(FAREWELL).await;
        })
        .await;
    }

    /// Ends links whose own address is gone: what is sent on them goes nowhere.
    async fn watch_addresses(&self) {
        if self.reaches.is_empty() {
            return;
        }
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
                    .with(|host, now| host.node().abandon(now, link, &cause));
            }
        }
    }

    /// Uses new credentials once they are in the file, and says in time when old ones expire.
    async fn watch_credentials(&self) {
        let files: BTreeMap<_, _> = (0..self.reaches.len())
            .filter_map(|remote| {
                let path = self.thread.with(|host, _| {
                    let settings = host.node().remote(remote)?;
                    settings.credentials.clone()
                })?;
                Some((remote, Watched::new(path)))
            })
            .collect();
        if files.is_empty() {
            return;
        }
        for (remote, watched) in files {
            // A link may have been quicker.
            self.watched.borrow_mut().entry(remote).or_insert(watched);
        }
        let mut said_doubt = false;
        loop {
            let now = unix_now();
            match wall::doubt(now) {
                Some(doubt) if !said_doubt => {
                    said_doubt = true;
                    log::error!(
                        "Whether credentials and certificates have expired is not judged: {doubt}"
                    );
                }
                Some(_) => {}
                None => said_doubt = false,
            }
            let mut changed = Vec::new();
            for (remote, watched) in self.watched.borrow_mut().iter_mut() {
                if watched.look() {
                    changed.push(*remote);
                }
                if let Some(words) = watched.warn(now) {
                    log::warn!("Leafnode remote: {words}");
                }
            }
            for remote in changed {
                self.thread.with(|host, now| host.node().renew(now, remote));
            }
            Timer::after(LOOK_EVERY).await;
        }
    }

    /// Does what the node asks for until a lame duck is done.
    async fn work(&self, checks: &Sender<(LinkId, SlowCheck)>) {
        loop {
            self.thread.events().await;
            while let Some(event) = self.thread.with(|host, _| host.node().poll_event()) {
                self.handle(event, checks).await;
            }
            if self.thread.with(|host, _| host.node().is_done()) {
                return;
            }
        }
    }

    async fn handle(&self, event: NodeEvent, checks: &Sender<(LinkId, SlowCheck)>) {
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
                        let link = thread.with(|host, now| {
                            host.node().handle_dialed(now, remote, &attempt, result)
                        });
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
                remote,
                settings,
                nonce,
            } => {
                let mut watched = self.watched.borrow_mut();
                if let Some(path) = &settings.credentials {
                    let new = || Watched::new(path.clone());
                    watched.entry(remote).or_insert_with(new);
                }
                let signed = prove(
                    &settings,
                    watched.get_mut(&remote),
                    self.signer.as_deref(),
                    &nonce,
                );
                drop(watched);
                self.thread
                    .with(|host, now| host.node().handle_proof(now, link, Proof::Signed(signed)));
            }
            NodeEvent::Verify {
                link,
                check: Check::Password(check),
            } => {
                if checks.len() < MOST_WAITING_CHECKS {
                    // The receiver lives as long as the role.
                    let _ = checks.send((link, check)).await;
                }
            }
            NodeEvent::Verify {
                link,
                check: Check::Jwt(check),
            } => {
                // Without operator mode nobody asks for it.
                if let Some(judge) = self.judge.clone() {
                    let thread = self.thread.clone();
                    let judged = async move {
                        let verdict = judge.judge(check).await;
                        thread.with(|host, now| host.handle_verified(now, link, verdict));
                    };
                    self.executor.spawn(judged).detach();
                }
            }
        }
    }
}

/// Told whenever a peer comes, what the wall clock shows names the time it came at, whatever the clock
/// was set to before.
fn tell_time<H: Host>(host: &mut H, now: Instant) {
    host.node().shard().wall().tell(now, since_1970());
}

/// One slow check at a time, on the blocking thread: guessing passwords costs the guesser time, not
/// the other clients.
async fn check_passwords<H: Host>(thread: Rc<Thread<H>>, waiting: Receiver<(LinkId, SlowCheck)>) {
    while let Ok((link, check)) = waiting.recv().await {
        let verdict = smol::unblock(move || check.run()).await;
        thread.with(|host, now| host.handle_verified(now, link, verdict));
    }
}
