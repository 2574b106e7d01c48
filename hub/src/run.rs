//! A hub with its sockets: the listeners and signals on the first thread, peers on all of them.

use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use async_io::Async;
use petiole_core::config::model::{Config, ConnectionType, LeafListener};
use petiole_core::link::acceptor::LeafPort;
use petiole_core::time::Instant;
use petiole_core::wire::error::ProtoError;
use petiole_leaf::{
    End, FileError, Greeter, Leaf, Node as Base, Parts, Ready, RunError, Stopper, SystemEntropy,
    Worker, describe, obey,
};
use petiole_net::clock::Clock;
use petiole_net::listen::{Listener, join};
use petiole_net::signal::signals;
use smol::LocalExecutor;
use smol::channel::{Receiver, Sender, bounded, unbounded};
use smol::future;

use crate::leafs::Leafs;
use crate::node::Node;
use crate::operator::Operator;
use crate::operator::claims::Errand;
use crate::system::Farewell;
use crate::throttle::Throttle;
use crate::websocket::{Visitor, Websocket, WebsocketGate};

/// A hub that is ready to run.
pub struct Hub {
    parts: Parts,
    leafs: Option<Leafs>,
    websocket: Option<Websocket>,
    threads: usize,
}

/// Reads all files that a configuration names for TLS, as a start would, and keeps nothing.
pub fn check_files(config: &Config) -> Result<(), FileError> {
    petiole_leaf::check_files(config)?;
    Leafs::new(config, "")?;
    Websocket::new(config)?;
    Ok(())
}

/// What the first thread has another one do.
enum Order {
    /// Serve a client.
    Client(Async<TcpStream>, SocketAddr),
    /// Serve a leaf that came to this port.
    Leaf(Async<TcpStream>, SocketAddr, LeafGate),
    /// Serve whoever came to the websocket listener.
    Websocket(Async<TcpStream>, SocketAddr, WebsocketGate),
    /// Stop serving gradually.
    LameDuck,
    /// Close everything, and end.
    Finish,
}

impl Hub {
    /// What `leaf` is ready for, and leafs, and both over WebSocket.
    pub fn new(leaf: Leaf) -> Result<Self, RunError> {
        let leafs = Leafs::new(leaf.config(), leaf.name()).map_err(RunError::File)?;
        let websocket = Websocket::new(leaf.config()).map_err(RunError::File)?;
        let parts = leaf.into_parts();
        let threads = parts
            .config
            .threads
            .map_or_else(available, NonZeroUsize::get);
        Ok(Hub {
            parts,
            leafs,
            websocket,
            threads,
        })
    }

    /// Serves on this thread and others until a signal or a [`Stopper`] ends it.
    pub fn run(self) -> Result<(), RunError> {
        let executor = Rc::new(LocalExecutor::new());
        async_io::block_on(executor.run(serve(self, executor.clone())))
    }
}

/// Requests to the resolver that may wait: one is as large as a payload.
const MOST_ERRANDS: usize = 256;

/// How many threads the machine has for us.
fn available() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// A port for leafs, and how they are greeted there.
#[derive(Clone)]
struct LeafGate {
    port: Arc<LeafPort>,
    greeter: Arc<Greeter>,
    /// `None`: all are taken in.
    throttle: Option<Arc<Throttle>>,
}

async fn serve(hub: Hub, executor: Rc<LocalExecutor<'static>>) -> Result<(), RunError> {
    let Hub {
        parts,
        leafs,
        websocket,
        threads,
    } = hub;
    let Parts {
        mut config,
        greeter,
        reaches,
        id,
        signer,
        on_ready,
        on_reopen,
    } = parts;
    let signals = signals().map_err(RunError::System)?;
    let listener = Listener::bind(&config.host, config.port).map_err(RunError::Listen)?;
    let address = listener.local_addr();
    let web = match &websocket {
        None => None,
        Some(websocket) => {
            let listener = websocket.bind().map_err(RunError::Listen)?;
            Some((listener, websocket))
        }
    };
    let gate = match &leafs {
        None => None,
        Some(leafs) => {
            let (listener, port) = leafs.bind().map_err(RunError::Listen)?;
            let gate = LeafGate {
                port,
                greeter: leafs.greeter().clone(),
                throttle: leafs.throttle().cloned(),
            };
            Some((listener, gate))
        }
    };
    let web = web.map(|(listener, websocket)| {
        let leafs = gate.as_ref();
        let leafs = leafs.map(|(_, gate)| (&*gate.port, gate.throttle.clone()));
        let gate = websocket.gate(&config, listener.local_addr(), leafs);
        (listener, gate)
    });
    let server = describe(&config, id, address);
    let clock = Clock::start();
    let operator = Operator::new(&config, clock).map_err(RunError::Operator)?;
    let operator = operator.map(Arc::new);
    if let Some(operator) = &operator {
        operator.prepare(named_accounts(&config)).await;
        // It is one of those that JWTs describe.
        config.system_account = None;
    }
    let entropy = || Box::new(SystemEntropy::default());
    let named = server.clone();
    let base = Base::of(&config, server, entropy(), clock.now());
    let others: Vec<_> = (1..threads).map(|_| base.another(entropy())).collect();
    let mut nodes = Node::all(base, clock.now(), others);
    let mut system = config.system_account.as_deref();
    if let Some(operator) = &operator {
        Node::serve_accounts(&mut nodes, clock.now(), operator.accounts());
        system = operator.system().map(|account| &**account);
    }
    if let Some(account) = system {
        Node::serve_system(&mut nodes, clock.now(), account, &named);
    }
    let (errand, errands) = bounded(MOST_ERRANDS);
    if let (Some(operator), Some(node)) = (&operator, nodes.first_mut()) {
        node.serve_claims(clock.now(), &operator.requests(), errand);
    }
    let judge = || operator.as_ref().map(Operator::as_judge);
    let mut nodes = nodes.into_iter();
    reaches.iter().for_each(|reach| reach.warn());
    greeter.warn();
    let greeter = Arc::new(greeter);

    let (ended, ends) = unbounded();
    let Some(first) = nodes.next() else {
        return Ok(());
    };
    let worker = Worker::new(first, clock, executor, greeter.clone())
        .with_remotes(reaches, signer)
        .with_judge(judge());
    let mut tasks = start(&worker, ended.clone());
    if let Some(operator) = &operator {
        tasks.extend(keep(operator, &worker, errands));
    }
    let others: Vec<Other> = nodes
        .enumerate()
        .map(|(at, node)| {
            let shared = (greeter.clone(), operator.clone());
            Other::start(at + 1, node, clock, shared, ended.clone())
        })
        .collect::<Result<_, _>>()
        .map_err(RunError::System)?;
    log::info!(
        "Listening for client connections on {}",
        join(&config.host, address.port())
    );
    log::info!("Server is ready");
    if let Some(on_ready) = on_ready {
        let mut ready = Ready::new(address, Stopper::new(ended.clone()));
        ready.leafs = gate.as_ref().map(|(listener, _)| listener.local_addr());
        ready.websocket = web.as_ref().map(|(listener, _)| listener.local_addr());
        on_ready(ready);
    }
    let crew = Crew {
        worker: worker.clone(),
        others: others.iter().map(|other| other.orders.clone()).collect(),
        turn: 0,
    };
    let clients = accept(listener, crew.clone(), Order::Client);
    let mut accepting = vec![worker.spawn(clients)];
    if let Some((listener, gate)) = gate {
        let leafs = accept_leafs(listener, crew.clone(), gate, clock);
        accepting.push(worker.spawn(leafs));
    }
    if let Some((listener, gate)) = web {
        let visitors = accept(listener, crew.clone(), move |socket, peer| {
            Order::Websocket(socket, peer, gate.clone())
        });
        accepting.push(worker.spawn(visitors));
    }
    let obeying = worker.spawn(obey(signals, on_reopen, ended));
    let mut ducks = threads;
    while let Ok(end) = ends.recv().await {
        match end {
            End::Stop => break,
            // A lame duck takes its time (operations, signals).
            End::Terminate if accepting.is_empty() => {}
            End::Terminate => break,
            End::LameDuck if accepting.is_empty() => {}
            End::LameDuck => {
                // The listeners go with their tasks.
                accepting.clear();
                worker
                    .thread()
                    .with(|node, now| node.say_farewell(now, Farewell::LameDuck));
                crew.order(|| Order::LameDuck);
                obey_order(&worker, Order::LameDuck);
            }
            End::LameDuckDone => {
                ducks -= 1;
                if ducks == 0 {
                    break;
                }
            }
        }
    }
    drop((accepting, obeying));
    log::info!("Initiating Shutdown...");
    worker
        .thread()
        .with(|node, now| node.say_farewell(now, Farewell::Shutdown));
    crew.order(|| Order::Finish);
    worker.finish().await;
    drop(tasks);
    let mut result = Ok(());
    for other in others {
        if other.thread.join().is_err() {
            let error = std::io::Error::other("a thread has failed");
            result = Err(RunError::System(error));
        }
    }
    log::info!("Server Exiting..");
    result
}

/// Has the threads in turn serve whoever comes.
async fn accept(
    mut listener: Listener,
    mut crew: Crew,
    order: impl Fn(Async<TcpStream>, SocketAddr) -> Order,
) {
    loop {
        let (socket, peer) = listener.accept().await;
        crew.give(order(socket, peer));
    }
}

/// The same for leafs, as many as are taken in.
async fn accept_leafs(mut listener: Listener, mut crew: Crew, gate: LeafGate, clock: Clock) {
    loop {
        let (socket, peer) = listener.accept().await;
        if let Some(throttle) = &gate.throttle
            && let Err(wait) = judge(&crew.worker, throttle, clock.now())
        {
            throttle.turn_away(&socket, wait);
            // However many come: the links of this thread have their turn in between.
            future::yield_now().await;
            continue;
        }
        crew.give(Order::Leaf(socket, peer, gate.clone()));
    }
}

/// Judges a leaf that has come, and sees to it that the log tells of those who are turned away.
fn judge(worker: &Worker<Node>, throttle: &Arc<Throttle>, now: Instant) -> Result<(), Duration> {
    let judged = throttle.judge(now);
    if judged.is_err() && throttle.begins_to_count() {
        let throttle = throttle.clone();
        worker
            .spawn(async move { throttle.report().await })
            .detach();
    }
    judged
}

/// The accounts that a configuration names: of leafs that are users without a JWT, and of remotes.
fn named_accounts(config: &Config) -> impl Iterator<Item = &str> {
    let leafs = config.leafnodes.iter();
    let leafs = leafs.flat_map(LeafListener::accounts);
    leafs.chain(config.remotes.iter().map(|remote| &*remote.account))
}

/// Keeps operator mode going: what is asked of the resolver, and what expires.
fn keep(
    operator: &Arc<Operator>,
    worker: &Worker<Node>,
    errands: Receiver<Errand>,
) -> Vec<smol::Task<()>> {
    let thread = worker.thread().clone();
    let it = operator.clone();
    let serving = worker.spawn(async move {
        while let Ok(first) = errands.recv().await {
            let mut all = vec![first];
            // Those that wait as well are made sure of together.
            while let Ok(next) = errands.try_recv() {
                all.push(next);
            }
            let answers = it.run(all).await;
            thread.with(|node, now| {
                for (reply, words) in answers {
                    node.answer_claims(now, &reply, words);
                }
            });
        }
    });
    let it = operator.clone();
    let timing = worker.spawn(async move { it.keep_time().await });
    let it = operator.clone();
    let tidying = worker.spawn(async move { it.tidy().await });
    vec![serving, timing, tidying]
}

/// Starts what every thread does.
fn start(worker: &Worker<Node>, ended: Sender<End>) -> Vec<smol::Task<()>> {
    let mut tasks = worker.start(async move || {
        let _ = ended.send(End::LameDuckDone).await;
    });
    let thread = worker.thread().clone();
    tasks.push(worker.spawn(async move {
        loop {
            future::poll_fn(|cx| thread.with(|node, _| node.poll_arrival(cx))).await;
            thread.with(|node, now| node.take_in(now));
        }
    }));
    tasks
}

/// Answers whether there is more to come.
fn obey_order(worker: &Worker<Node>, order: Order) -> bool {
    match order {
        Order::Client(socket, peer) => worker.accept(socket, peer),
        Order::Leaf(socket, peer, LeafGate { port, greeter, .. }) => {
            let greet = async move |greeter: &Arc<Greeter>| greeter.greet(socket, peer).await;
            worker.serve(greeter, greet, move |node, now, secured| {
                node.accept_leaf(now, ConnectionType::Leafnode, port, peer, secured)
            });
        }
        Order::Websocket(socket, peer, gate) => {
            let greet = async move |gate: &WebsocketGate| gate.greet(socket, peer).await;
            let crew = worker.clone();
            worker.serve(
                gate,
                greet,
                move |node, now, (secured, visitor)| match visitor {
                    Visitor::Client(visit) => node.accept_over_websocket(now, peer, secured, visit),
                    Visitor::Leaf(port, throttle) => {
                        // Only by its request has it shown that it is a leaf.
                        let judged = throttle.map_or(Ok(()), |it| judge(&crew, &it, now));
                        let secured = judged.map(|()| secured).map_err(ProtoError::ThrottledFor);
                        node.accept_leaf(now, ConnectionType::LeafnodeWs, port, peer, secured)
                    }
                },
            );
        }
        Order::LameDuck => worker
            .thread()
            .with(|node, now| petiole_leaf::Host::node(node).enter_lame_duck(now)),
        Order::Finish => return false,
    }
    true
}

/// All threads, as the first one knows them.
#[derive(Clone)]
struct Crew {
    worker: Worker<Node>,
    others: Vec<Sender<Order>>,
    /// Whose turn it is to serve the next peer.
    turn: usize,
}

impl Crew {
    /// Has the next thread serve a peer.
    fn give(&mut self, order: Order) {
        let thread = self.turn;
        self.turn = (thread + 1) % (self.others.len() + 1);
        match thread.checked_sub(1).and_then(|at| self.others.get(at)) {
            None => {
                obey_order(&self.worker, order);
            }
            // The queue has no bound, and its other end lives as long as we do.
            Some(other) => {
                let _ = other.try_send(order);
            }
        }
    }

    /// Tells all other threads.
    fn order(&self, order: impl Fn() -> Order) {
        for other in &self.others {
            let _ = other.try_send(order());
        }
    }
}

/// A thread beside the first one.
struct Other {
    orders: Sender<Order>,
    thread: JoinHandle<()>,
}

impl Other {
    fn start(
        number: usize,
        node: Node,
        clock: Clock,
        (greeter, operator): (Arc<Greeter>, Option<Arc<Operator>>),
        ended: Sender<End>,
    ) -> std::io::Result<Self> {
        let (orders, received) = unbounded();
        let thread = thread::Builder::new()
            .name(format!("petiole-{number}"))
            .spawn(move || {
                let _guard = StopOnPanic(ended.clone());
                let executor = Rc::new(LocalExecutor::new());
                let judge = operator.as_ref().map(Operator::as_judge);
                let worker = Worker::new(node, clock, executor.clone(), greeter).with_judge(judge);
                async_io::block_on(executor.run(serve_beside(worker, received, ended)));
            })?;
        Ok(Other { orders, thread })
    }
}

async fn serve_beside(worker: Worker<Node>, orders: Receiver<Order>, ended: Sender<End>) {
    let tasks = start(&worker, ended);
    while let Ok(order) = orders.recv().await {
        if !obey_order(&worker, order) {
            break;
        }
    }
    // The last word of the first thread is there before our clients are told to go.
    worker.thread().with(|node, now| {
        node.take_in(now);
        node.say_farewell(now, Farewell::Shutdown);
    });
    worker.finish().await;
    drop(tasks);
}

/// A server is whole or not there: what one thread serves cannot go on without it.
struct StopOnPanic(Sender<End>);

impl Drop for StopOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            let _ = self.0.try_send(End::Stop);
        }
    }
}
