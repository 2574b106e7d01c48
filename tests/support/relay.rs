//! A wire between two servers that can be cut, stalled and left half-open.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// A TCP relay to a port of this machine. Its threads end with the test.
#[derive(Debug)]
pub struct Relay {
    port: u16,
    wires: Arc<Mutex<Vec<Wire>>>,
    made: Arc<AtomicUsize>,
    carried: Arc<AtomicUsize>,
}

/// One connection through the relay.
#[derive(Debug)]
struct Wire {
    near: TcpStream,
    far: TcpStream,
    /// Bytes are read and go nowhere.
    black: Arc<AtomicBool>,
    /// Nothing is read.
    stalled: Arc<AtomicBool>,
}

impl Relay {
    /// Listens on a free port.
    pub fn to(target: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let wires = Arc::new(Mutex::new(Vec::new()));
        let made = Arc::new(AtomicUsize::new(0));
        let carried = Arc::new(AtomicUsize::new(0));
        let (list, counter, bytes) = (Arc::clone(&wires), Arc::clone(&made), Arc::clone(&carried));
        thread::spawn(move || {
            for near in listener.incoming() {
                let Ok(near) = near else { return };
                let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)) else {
                    continue;
                };
                let black = Arc::new(AtomicBool::new(false));
                let stalled = Arc::new(AtomicBool::new(false));
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (from, to) = (copy_of(from), copy_of(to));
                    let (black, stalled) = (Arc::clone(&black), Arc::clone(&stalled));
                    let bytes = Arc::clone(&bytes);
                    thread::spawn(move || carry(from, to, &black, &stalled, &bytes));
                }
                list.lock().unwrap().push(Wire {
                    near,
                    far,
                    black,
                    stalled,
                });
                counter.fetch_add(1, Ordering::SeqCst);
            }
        });
        Relay {
            port,
            wires,
            made,
            carried,
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Connections so far.
    pub fn made(&self) -> usize {
        self.made.load(Ordering::SeqCst)
    }

    /// Cuts what is connected: both ends hear of it.
    pub fn cut(&self) {
        for wire in self.wires.lock().unwrap().drain(..) {
            let _ = wire.near.shutdown(Shutdown::Both);
            let _ = wire.far.shutdown(Shutdown::Both);
        }
    }

    /// The far end is cut, the near end hears nothing, and what it sends goes nowhere.
    pub fn half_open(&self) {
        for wire in self.wires.lock().unwrap().iter() {
            wire.black.store(true, Ordering::SeqCst);
            let _ = wire.far.shutdown(Shutdown::Both);
        }
    }

    /// Neither end hears of the other any more, nor that it is gone.
    pub fn part(&self) {
        for wire in self.wires.lock().unwrap().iter() {
            wire.black.store(true, Ordering::SeqCst);
        }
    }

    /// Bytes that were carried, both ways.
    pub fn carried(&self) -> usize {
        self.carried.load(Ordering::SeqCst)
    }

    /// What is connected carries nothing until [`Relay::resume`].
    pub fn stall(&self) {
        for wire in self.wires.lock().unwrap().iter() {
            wire.stalled.store(true, Ordering::SeqCst);
        }
    }

    /// Ends a stall.
    pub fn resume(&self) {
        for wire in self.wires.lock().unwrap().iter() {
            wire.stalled.store(false, Ordering::SeqCst);
        }
    }
}

fn copy_of(stream: &TcpStream) -> TcpStream {
    stream.try_clone().expect("a descriptor")
}

fn carry(
    mut from: TcpStream,
    mut to: TcpStream,
    black: &AtomicBool,
    stalled: &AtomicBool,
    bytes: &AtomicUsize,
) {
    let mut chunk = vec![0; 64 << 10];
    loop {
        let count = match from.read(&mut chunk) {
            Ok(count) if count > 0 => count,
            _ => break,
        };
        bytes.fetch_add(count, Ordering::SeqCst);
        while stalled.load(Ordering::SeqCst) {
            thread::park_timeout(super::POLL);
        }
        if !black.load(Ordering::SeqCst) && to.write_all(&chunk[..count]).is_err() {
            break;
        }
    }
    // A black wire does not pass on that its other end is gone.
    if !black.load(Ordering::SeqCst) {
        let _ = to.shutdown(Shutdown::Both);
    }
}
