//! Proxies as companies have them: HTTP CONNECT and SOCKS5, with and without a password, that count
//! whom they let through.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// A running proxy. Its threads end with the test.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    tunnels: Arc<AtomicUsize>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// HTTP CONNECT; `credentials` are `user:password`, in base64 as they are on the wire.
    pub fn http(credentials: Option<&'static str>) -> Self {
        Self::start(move |stream, seen| http(stream, credentials, seen))
    }

    /// An HTTP proxy that answers everything with this status line.
    pub fn refusing(status: &'static str) -> Self {
        Self::start(move |stream, _| {
            head(stream)?;
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).ok()?;
            None
        })
    }

    /// SOCKS5, with a user and a password or without.
    pub fn socks5(credentials: Option<(&'static str, &'static str)>) -> Self {
        Self::start(move |stream, seen| socks5(stream, credentials, seen))
    }

    fn start(
        open: impl Fn(&mut TcpStream, &Mutex<Vec<String>>) -> Option<TcpStream> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let tunnels = Arc::new(AtomicUsize::new(0));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let open = Arc::new(open);
        let (counter, list) = (Arc::clone(&tunnels), Arc::clone(&seen));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let (open, counter, list) =
                    (Arc::clone(&open), Arc::clone(&counter), Arc::clone(&list));
                thread::spawn(move || {
                    if let Some(beyond) = open(&mut stream, &list) {
                        counter.fetch_add(1, Ordering::SeqCst);
                        join(stream, beyond);
                    }
                });
            }
        });
        Proxy {
            port,
            tunnels,
            seen,
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many were let through.
    pub fn tunnels(&self) -> usize {
        self.tunnels.load(Ordering::SeqCst)
    }

    /// What was asked for: targets as they were written.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

/// Bytes both ways until one end closes.
fn join(near: TcpStream, beyond: TcpStream) {
    let copy = |mut from: TcpStream, mut to: TcpStream| {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    };
    let back = (
        beyond.try_clone().expect("a descriptor"),
        near.try_clone().expect("a descriptor"),
    );
    thread::spawn(move || copy(back.0, back.1));
    copy(near, beyond);
}

/// A request's head.
fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}

fn http(
    stream: &mut TcpStream,
    credentials: Option<&str>,
    seen: &Mutex<Vec<String>>,
) -> Option<TcpStream> {
    let head = head(stream)?;
    let target = head.strip_prefix("CONNECT ")?.split(' ').next()?.to_owned();
    seen.lock().unwrap().push(target.clone());
    if let Some(wanted) = credentials
        && !head.contains(&format!("Proxy-Authorization: Basic {wanted}\r\n"))
    {
        let _ = stream.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
        return None;
    }
    match TcpStream::connect(target) {
        Ok(beyond) => {
            stream
                .write_all(b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n")
                .ok()?;
            Some(beyond)
        }
        Err(_) => {
            let _ = stream.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n");
            None
        }
    }
}

fn socks5(
    stream: &mut TcpStream,
    credentials: Option<(&str, &str)>,
    seen: &Mutex<Vec<String>>,
) -> Option<TcpStream> {
    let take = |stream: &mut TcpStream, length: usize| {
        let mut bytes = vec![0; length];
        stream.read_exact(&mut bytes).ok()?;
        Some(bytes)
    };
    let greeting = take(stream, 2)?;
    let methods = take(stream, usize::from(greeting[1]))?;
    let method = if credentials.is_some() { 2 } else { 0 };
    if !methods.contains(&method) {
        let _ = stream.write_all(&[5, 0xff]);
        return None;
    }
    stream.write_all(&[5, method]).ok()?;
    if let Some((user, password)) = credentials {
        let length = take(stream, 2)?[1];
        let given_user = take(stream, usize::from(length))?;
        let length = take(stream, 1)?[0];
        let given_password = take(stream, usize::from(length))?;
        let right = given_user == user.as_bytes() && given_password == password.as_bytes();
        stream.write_all(&[1, u8::from(!right)]).ok()?;
        if !right {
            return None;
        }
    }
    let request = take(stream, 4)?;
    let host = match request[3] {
        1 => {
            let ip = take(stream, 4)?;
            Ipv4Addr::new(ip[0], ip[1], ip[2], ip[3]).to_string()
        }
        3 => {
            let length = take(stream, 1)?[0];
            String::from_utf8(take(stream, usize::from(length))?).ok()?
        }
        _ => return None,
    };
    let port = take(stream, 2)?;
    let port = u16::from_be_bytes([port[0], port[1]]);
    seen.lock().unwrap().push(format!("{host}:{port}"));
    let beyond = TcpStream::connect((host.as_str(), port));
    let reply = if beyond.is_ok() { 0 } else { 5 };
    stream.write_all(&[5, reply, 0, 1, 0, 0, 0, 0, 0, 0]).ok()?;
    beyond.ok()
}
