//! Sessions between two sockets of this machine, with authorities made for each test.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::future::poll_fn;
use std::io::{self, IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Poll, ready};
use std::time::Duration;

use async_io::Async;
use petiole_core::config::model::{CertificateFiles, CipherSuite, Curve, Tls, TlsVersion};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PublicKeyData};
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use smol::future::zip;

use super::*;
use crate::tcp::Tcp;

/// A folder of PEM files that goes away with its test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("petiole-tls-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    Authority {
        pem: params.self_signed(&key).unwrap().pem(),
        issuer: Issuer::new(params, key),
    }
}

/// A certificate's files and the pin of its key.
struct Leaf {
    files: CertificateFiles,
    pin: [u8; 32],
}

impl Authority {
    fn leaf(&self, folder: &Folder, subject: &str, names: &[&str]) -> Leaf {
        self.leaf_with(folder, subject, names, |_| {})
    }

    fn leaf_with(
        &self,
        folder: &Folder,
        subject: &str,
        names: &[&str],
        edit: impl FnOnce(&mut CertificateParams),
    ) -> Leaf {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "org");
        params.distinguished_name.push(DnType::CommonName, subject);
        edit(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Leaf {
            files: CertificateFiles {
                cert: folder.write(&format!("{subject}.pem"), &certificate.pem()),
                key: folder.write(&format!("{subject}.key"), &key.serialize_pem()),
            },
            pin: Sha256::digest(key.subject_public_key_info()).into(),
        }
    }
}

/// An authority, a server `localhost` and 127.0.0.1 signed by it, and who trusts it.
struct World {
    folder: Folder,
    ca: Authority,
    server: Tls,
    client: Tls,
    pin: [u8; 32],
}

fn world() -> World {
    let folder = Folder::new();
    let ca = authority("ca");
    let leaf = ca.leaf(&folder, "server", &["localhost", "127.0.0.1"]);
    let ca_file = Some(folder.write("ca.pem", &ca.pem));
    World {
        server: Tls {
            certificates: vec![leaf.files],
            ..Tls::default()
        },
        client: Tls {
            ca_file,
            ..Tls::default()
        },
        pin: leaf.pin,
        folder,
        ca,
    }
}

impl World {
    fn client(&self) -> ClientTls {
        ClientTls::new(Some(&self.client)).unwrap()
    }

    fn server(&self) -> ServerTls {
        ServerTls::new(&self.server).unwrap()
    }
}

fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let dialled = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (dialled, listener.accept().unwrap().0)
}

fn tcp(socket: TcpStream) -> Tcp {
    Tcp::new(Async::new(socket).unwrap())
}

async fn shake(mut stream: TlsStream) -> Result<TlsStream, TlsError> {
    poll_fn(|cx| stream.poll_handshake(cx))
        .await
        .map(|()| stream)
}

async fn read(stream: &mut TlsStream, room: usize) -> io::Result<Vec<u8>> {
    let mut into = vec![0; room];
    let count = poll_fn(|cx| stream.poll_read(cx, &mut into)).await?;
    into.truncate(count);
    Ok(into)
}

async fn write(stream: &mut TlsStream, text: &[u8]) {
    let pieces = [IoSlice::new(text)];
    let count = poll_fn(|cx| stream.poll_write(cx, &pieces)).await.unwrap();
    assert_eq!(count, text.len());
    poll_fn(|cx| stream.poll_flush(cx)).await.unwrap();
}

type Shaken = Result<TlsStream, TlsError>;

/// Both sides' handshakes; a side that fails closes its socket.
async fn connect(client: &ClientTls, host: &str, server: &ServerTls) -> (Shaken, Shaken) {
    let (near, far) = sockets();
    let near = TlsStream::client(tcp(near), client, host, b"").unwrap();
    let far = TlsStream::server(tcp(far), server, b"").unwrap();
    zip(shake(near), shake(far)).await
}

/// A connection on which something was said in both directions, so that tickets have arrived.
async fn talk(client: &ClientTls, host: &str, server: &ServerTls) -> (TlsStream, TlsStream) {
    let (near, far) = connect(client, host, server).await;
    let (mut near, mut far) = (near.unwrap(), far.unwrap());
    write(&mut near, b"PING\r\n").await;
    assert_eq!(read(&mut far, 100).await.unwrap(), b"PING\r\n");
    write(&mut far, b"PONG\r\n").await;
    assert_eq!(read(&mut near, 100).await.unwrap(), b"PONG\r\n");
    (near, far)
}

/// A server that speaks TLS 1.2 only.
fn old_server(world: &World) -> ServerTls {
    let files = &world.server.certificates[0];
    let chain = rustls::pki_types::CertificateDer::pem_file_iter(&files.cert).unwrap();
    let chain = chain.map(Result::unwrap).collect();
    let key = rustls::pki_types::PrivateKeyDer::from_pem_file(&files.key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    ServerTls {
        config: Arc::new(config),
        timeout: Duration::from_secs(2),
    }
}

#[test]
fn sessions_are_resumed_with_both_versions() {
    smol::block_on(async {
        let world = world();
        for (server, version, suite) in [
            (world.server(), "1.3", "TLS_"),
            (old_server(&world), "1.2", "TLS_ECDHE_ECDSA_WITH_"),
        ] {
            let client = world.client();
            for resumed in [false, true, true] {
                let (near, far) = talk(&client, "localhost", &server).await;
                for side in [&near, &far] {
                    let facts = side.facts();
                    assert_eq!((facts.version, facts.resumed), (version, resumed));
                    assert!(facts.suite.starts_with(suite), "{}", facts.suite);
                    assert!(!facts.suite.contains("TLS13"));
                }
                assert_eq!(near.facts().peer.unwrap().subject, "CN=server,O=org");
                assert_eq!(far.facts().peer, None);
            }
            // Another set of settings has sessions of its own.
            let (near, _) = talk(&world.client(), "localhost", &server).await;
            assert!(!near.facts().resumed);
        }
    });
}

/// What both sides say to a handshake of these.
fn failure(client: &Tls, host: &str, server: &Tls) -> (String, String) {
    smol::block_on(async {
        let client = ClientTls::new(Some(client)).unwrap();
        let server = ServerTls::new(server).unwrap();
        let (near, far) = connect(&client, host, &server).await;
        let words = |side: Shaken| side.map_or_else(|error| error.to_string(), |_| String::new());
        (words(near), words(far))
    })
}

const VERIFY: &str = "tls: failed to verify certificate: x509:";

#[test]
fn only_a_certificate_of_an_authority_for_the_host_is_believed() {
    let world = world();
    for host in [
        "localhost",
        "LOCALHOST",
        "localhost.",
        "127.0.0.1",
        "[127.0.0.1]",
    ] {
        let ok = (String::new(), String::new());
        assert_eq!(failure(&world.client, host, &world.server), ok, "{host}");
    }
    let pem = fs::read(&world.server.certificates[0].cert).unwrap();
    let der = rustls::pki_types::CertificateDer::from_pem_slice(&pem).unwrap();
    let sha256: String = Sha256::digest(&der)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let stranger = Tls {
        ca_file: Some(world.folder.write("other.pem", &authority("other").pem)),
        ..Tls::default()
    };
    let namesake = Tls {
        ca_file: Some(world.folder.write("namesake.pem", &authority("ca").pem)),
        ..Tls::default()
    };
    for client in [&stranger, &Tls::default(), &namesake] {
        let (near, far) = failure(client, "localhost", &world.server);
        assert_eq!(
            near,
            format!(
                "{VERIFY} certificate signed by unknown authority \
                 (CN=server,O=org SHA-256: {sha256})"
            )
        );
        assert_eq!(far, "remote error: tls: bad certificate");
    }
    for (host, want) in [
        (
            "hub.example",
            "certificate is valid for localhost, not hub.example",
        ),
        (
            "127.0.0.2",
            "certificate is valid for 127.0.0.1, not 127.0.0.2",
        ),
    ] {
        let (near, far) = failure(&world.client, host, &world.server);
        assert_eq!(near, format!("{VERIFY} {want}"));
        assert_eq!(far, "remote error: tls: bad certificate");
    }
    let insecure = Tls {
        insecure: true,
        ..Tls::default()
    };
    let ok = (String::new(), String::new());
    assert_eq!(failure(&insecure, "hub.example", &world.server), ok);
}

#[test]
fn certificates_are_valid_for_a_time() {
    let world = world();
    for (from, to, want) in [
        (2001, 2002, " is after 2002-01-01T00:00:00Z"),
        (2201, 2202, " is before 2201-01-01T00:00:00Z"),
    ] {
        let leaf = world
            .ca
            .leaf_with(&world.folder, "dated", &["localhost"], |params| {
                params.not_before = rcgen::date_time_ymd(from, 1, 1);
                params.not_after = rcgen::date_time_ymd(to, 1, 1);
            });
        let server = Tls {
            certificates: vec![leaf.files],
            ..Tls::default()
        };
        let (near, far) = failure(&world.client, "localhost", &server);
        let start = format!("{VERIFY} certificate has expired or is not yet valid: current time ");
        assert!(near.starts_with(&start) && near.ends_with(want), "{near}");
        assert_eq!(far, "remote error: tls: bad certificate");
    }
}

#[test]
fn pins_are_looked_at_whatever_the_authority_says() {
    let world = world();
    for insecure in [false, true] {
        let pinned = |pins: &[[u8; 32]]| Tls {
            insecure,
            pinned_certs: pins.to_vec(),
            ..world.client.clone()
        };
        let ok = (String::new(), String::new());
        let pins = [[7; 32], world.pin];
        assert_eq!(failure(&pinned(&pins), "localhost", &world.server), ok);
        let (near, _) = failure(&pinned(&[[7; 32]]), "localhost", &world.server);
        assert_eq!(near, "certificate not pinned");
    }
    let client = Tls {
        pinned_certs: vec![[7; 32]],
        ..world.client.clone()
    };
    let client = ClientTls::new(Some(&client)).unwrap();
    let (near, _) = smol::block_on(connect(&client, "localhost", &world.server()));
    let key: String = world.pin.iter().map(|b| format!("{b:02x}")).collect();
    assert!(matches!(near, Err(TlsError::NotPinned { key: found }) if found == key));
}

#[test]
fn a_bundle_may_hold_several_authorities_and_a_certificate_that_signs_itself() {
    let world = world();
    let selfish = CertificateParams::new(vec!["self.example".to_owned()]).unwrap();
    let mut selfish = selfish;
    selfish.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let selfish = selfish.self_signed(&key).unwrap().pem();
    let bundle = format!(
        "A comment.\n{}{}\n{selfish}",
        authority("first").pem,
        world.ca.pem
    );
    let client = Tls {
        ca_file: Some(world.folder.write("bundle.pem", &bundle)),
        ..Tls::default()
    };
    let ok = (String::new(), String::new());
    assert_eq!(failure(&client, "localhost", &world.server), ok);
    let server = Tls {
        certificates: vec![CertificateFiles {
            cert: world.folder.write("self.pem", &selfish),
            key: world.folder.write("self.key", &key.serialize_pem()),
        }],
        ..Tls::default()
    };
    assert_eq!(failure(&client, "self.example", &server), ok);
    let (near, _) = failure(&client, "other.example", &server);
    assert_eq!(
        near,
        format!("{VERIFY} certificate is valid for self.example, not other.example")
    );
    let (near, _) = failure(&world.client, "self.example", &server);
    assert!(near.starts_with(VERIFY), "{near}");
}

/// A listener that demands certificates of the world's authority.
fn strict(world: &World) -> Tls {
    Tls {
        verify: true,
        ca_file: world.client.ca_file.clone(),
        ..world.server.clone()
    }
}

#[test]
fn a_client_certificate_is_demanded_and_checked() {
    let world = world();
    let server = strict(&world);
    let with = |leaf: &Leaf| Tls {
        certificates: vec![leaf.files.clone()],
        ..world.client.clone()
    };
    let leaf = world.ca.leaf(&world.folder, "cli", &["cli.example"]);
    smol::block_on(async {
        let client = ClientTls::new(Some(&with(&leaf))).unwrap();
        let server = ServerTls::new(&server).unwrap();
        for resumed in [false, true] {
            let (_, far) = talk(&client, "localhost", &server).await;
            let facts = far.facts();
            assert_eq!(facts.resumed, resumed);
            let peer = facts.peer.unwrap();
            assert_eq!(peer.subject, "CN=cli,O=org");
            assert_eq!(peer.dns, ["cli.example"]);
        }
    });
    let ok = (String::new(), String::new());
    let pinned = |pin| Tls {
        pinned_certs: vec![pin],
        ..server.clone()
    };
    assert_eq!(failure(&with(&leaf), "localhost", &pinned(leaf.pin)), ok);
    let (_, far) = failure(&with(&leaf), "localhost", &pinned(world.pin));
    assert_eq!(far, "certificate not pinned");
    let (_, far) = failure(&world.client, "localhost", &server);
    assert_eq!(far, "tls: client didn't provide a certificate");
    let foreign = authority("other").leaf(&world.folder, "foreign", &[]);
    let (_, far) = failure(&with(&foreign), "localhost", &server);
    let tell = |leaf: &Leaf, server: &Tls| {
        smol::block_on(async {
            let client = ClientTls::new(Some(&with(leaf))).unwrap();
            let server = ServerTls::new(server).unwrap();
            let (near, _far) = connect(&client, "localhost", &server).await;
            read(&mut near.unwrap(), 10).await.unwrap_err().to_string()
        })
    };
    assert_eq!(
        tell(&foreign, &server),
        "remote error: tls: unknown certificate authority"
    );
    assert_eq!(
        tell(&leaf, &pinned(world.pin)),
        "remote error: tls: bad certificate"
    );
    let want =
        format!("{VERIFY} certificate signed by unknown authority (CN=foreign,O=org SHA-256: ");
    assert!(far.starts_with(&want), "{far}");
}

#[test]
fn a_refusal_after_the_handshake_is_told_by_the_next_read() {
    smol::block_on(async {
        let world = world();
        let server = ServerTls::new(&strict(&world)).unwrap();
        let (near, far) = connect(&world.client(), "localhost", &server).await;
        assert!(matches!(far, Err(TlsError::NoCertificate)));
        // With TLS 1.3 the client is done before the server has seen its certificate.
        let mut near = near.unwrap();
        let error = read(&mut near, 10).await.unwrap_err();
        let alert = TlsError::of(&error).unwrap();
        assert!(matches!(alert, TlsError::PeerAlert("certificate required")));
        let words = "remote error: tls: certificate required";
        assert_eq!(alert.to_string(), words);
        assert_eq!(crate::errno::words(&error), words);
        let pieces = [IoSlice::new(b"x")];
        let written = poll_fn(|cx| near.poll_write(cx, &pieces)).await;
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    });
}

/// What a session says whose peer sends this and closes.
fn answer(words: &[u8], dials: impl FnOnce(Tcp) -> TlsStream) -> TlsError {
    let (near, mut far) = sockets();
    far.write_all(words).unwrap();
    far.shutdown(std::net::Shutdown::Write).unwrap();
    let shaken = smol::block_on(shake(dials(tcp(near))));
    shaken.err().unwrap()
}

#[test]
fn what_is_no_tls_is_told_apart_from_silence() {
    let world = world();
    let client = |unread: &'static [u8]| {
        let tls = world.client();
        move |tcp| TlsStream::client(tcp, &tls, "localhost", unread).unwrap()
    };
    let server = |tcp| TlsStream::server(tcp, &world.server(), b"").unwrap();
    let info = b"INFO {\"server_id\":\"N\"}\r\n";
    for error in [
        answer(info, client(b"")),
        answer(&info[2..], client(b"IN")),
        answer(b"", client(b"INFO {\"server_id\"")),
        answer(info, server),
    ] {
        let words = "tls: first record does not look like a TLS handshake";
        assert_eq!(error.to_string(), words);
        assert!(matches!(error, TlsError::NotTls { first } if first == b"INFO {\"server_id"));
    }
    for error in [
        answer(b"", client(b"")),
        answer(b"\x16\x03", client(b"")),
        answer(b"", server),
    ] {
        assert_eq!(error.to_string(), "EOF");
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::UnexpectedEof);
    }
    let alert = answer(b"\x15\x03\x03\x00\x02\x02\x28", client(b""));
    assert_eq!(alert.to_string(), "remote error: tls: handshake failure");
    let garbage = answer(b"\x16\x03\x03\x00\x04\x7f\x00\x00\x00", client(b""));
    assert!(garbage.to_string().starts_with("tls: "), "{garbage}");
}

#[test]
fn nothing_in_common_is_told_in_words() {
    let world = world();
    let with = |suites: &[CipherSuite], curves: &[Curve]| Tls {
        cipher_suites: suites.to_vec(),
        curves: curves.to_vec(),
        ..world.client.clone()
    };
    let server = Tls {
        curves: vec![Curve::P384],
        ..world.server.clone()
    };
    let (near, far) = failure(&with(&[], &[Curve::X25519]), "localhost", &server);
    assert_eq!(
        far,
        "tls: no ECDHE curve supported by both client and server"
    );
    assert_eq!(near, "remote error: tls: handshake failure");
    let ok = (String::new(), String::new());
    // A curve that the client did not offer at first costs a round trip, no more.
    let both = with(&[], &[Curve::X25519, Curve::P384]);
    assert_eq!(failure(&both, "localhost", &server), ok);
    smol::block_on(async {
        let old = old_server(&world);
        let new_only = Tls {
            min_version: TlsVersion::V1_3,
            ..world.client.clone()
        };
        let none_old = with(&[CipherSuite::Aes256GcmSha384], &[]);
        for client in [&new_only, &none_old] {
            let client = ClientTls::new(Some(client)).unwrap();
            let (near, far) = connect(&client, "localhost", &old).await;
            let far = far.err().unwrap().to_string();
            assert_eq!(far, "tls: client offered only unsupported versions");
            let near = near.err().unwrap().to_string();
            assert_eq!(near, "remote error: tls: protocol version not supported");
        }
        let suite = CipherSuite::EcdheEcdsaChacha20Poly1305Sha256;
        let client = ClientTls::new(Some(&with(&[suite], &[]))).unwrap();
        let (near, _) = talk(&client, "localhost", &old).await;
        assert_eq!(
            near.facts().suite,
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"
        );
        let rsa = with(&[CipherSuite::EcdheRsaAes128GcmSha256], &[]);
        let client = ClientTls::new(Some(&rsa)).unwrap();
        let (_, far) = connect(&client, "localhost", &old).await;
        assert_eq!(
            far.err().unwrap().to_string(),
            "tls: no cipher suite supported by both client and server"
        );
    });
}

#[test]
fn the_name_that_was_dialled_chooses_the_certificate() {
    let world = world();
    let named = |subject, names: &[&str]| world.ca.leaf(&world.folder, subject, names).files;
    let server = Tls {
        certificates: vec![
            named("default", &["a.example", "127.0.0.1"]),
            named("wild", &["*.b.example"]),
            named("exact", &["x.b.example"]),
        ],
        ..Tls::default()
    };
    let server = ServerTls::new(&server).unwrap();
    let insecure = Tls {
        insecure: true,
        ..Tls::default()
    };
    let client = ClientTls::new(Some(&insecure)).unwrap();
    smol::block_on(async {
        for (host, want) in [
            ("a.example", "default"),
            ("X.b.example", "exact"),
            ("y.b.example", "wild"),
            ("z.y.b.example", "default"),
            ("b.example", "default"),
            ("127.0.0.1", "default"),
        ] {
            let (near, _) = talk(&client, host, &server).await;
            let subject = near.facts().peer.unwrap().subject;
            assert_eq!(subject, format!("CN={want},O=org"), "{host}");
        }
    });
}

/// Writes `total` bytes in pieces of many sizes while it reads as many, with little room.
async fn exchange(mut stream: TlsStream, total: usize, seed: u8) -> TlsStream {
    let byte = |at: usize, seed: u8| (at % 251) as u8 ^ (at >> 16) as u8 ^ seed;
    let text: Vec<u8> = (0..total).map(|at| byte(at, seed)).collect();
    let (mut written, mut seen) = (0, 0);
    let mut into = vec![0; 70_000];
    poll_fn(|cx| {
        let mut is_blocked = [false; 2];
        while !is_blocked.iter().all(|blocked| *blocked) {
            is_blocked[0] = written == total || {
                let rest = &text[written..];
                let (small, rest) = rest.split_at(rest.len().min(written % 5_000));
                let (large, rest) = rest.split_at(rest.len().min(40_000));
                let pieces = [small, large, b"", rest].map(IoSlice::new);
                match stream.poll_write(cx, &pieces) {
                    Poll::Ready(count) => {
                        written += count.unwrap();
                        false
                    }
                    Poll::Pending => true,
                }
            };
            let room = 1 + seen * 7 % into.len();
            is_blocked[1] = seen == total
                || match stream.poll_read(cx, &mut into[..room]) {
                    Poll::Ready(count) => {
                        let count = count.unwrap();
                        assert!(count > 0, "ended after {seen}");
                        for got in &into[..count] {
                            assert_eq!(*got, byte(seen, seed ^ 1), "at {seen}");
                            seen += 1;
                        }
                        false
                    }
                    Poll::Pending => true,
                };
        }
        ready!(stream.poll_flush(cx)).unwrap();
        match written == total && seen == total {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
    stream
}

#[test]
fn much_passes_both_ways_through_small_sockets() {
    smol::block_on(async {
        let world = world();
        for server in [world.server(), old_server(&world)] {
            let (near, far) = sockets();
            #[cfg(unix)]
            for socket in [&near, &far] {
                // A small receiver would make the sender wait for the system's timers.
                rustix::net::sockopt::set_socket_send_buffer_size(socket, 4096).unwrap();
            }
            let near = TlsStream::client(tcp(near), &world.client(), "localhost", b"").unwrap();
            let far = TlsStream::server(tcp(far), &server, b"").unwrap();
            let (near, far) = zip(shake(near), shake(far)).await;
            let both = zip(
                exchange(near.unwrap(), 3 << 20, 0),
                exchange(far.unwrap(), 3 << 20, 1),
            );
            let (near, far) = both.await;
            assert!(!near.may_have_more() && !far.may_have_more());
        }
    });
}

#[test]
fn bytes_that_were_read_before_belong_to_the_session() {
    smol::block_on(async {
        let world = world();
        let (near, mut far) = sockets();
        let near = TlsStream::client(tcp(near), &world.client(), "localhost", b"").unwrap();
        let (server, socket) = (world.server(), far.try_clone().unwrap());
        let far = async {
            // One byte tells TLS from a client in clear.
            let mut first = [0; 1];
            let readable = Async::new(socket).unwrap();
            readable.readable().await.unwrap();
            far.set_nonblocking(true).unwrap();
            far.read_exact(&mut first).unwrap();
            shake(TlsStream::server(tcp(far), &server, &first).unwrap()).await
        };
        let (near, far) = zip(shake(near), far).await;
        let (mut near, mut far) = (near.unwrap(), far.unwrap());
        write(&mut near, b"CONNECT {}\r\n").await;
        assert_eq!(read(&mut far, 4).await.unwrap(), b"CONN");
        assert!(far.may_have_more());
        assert_eq!(read(&mut far, 100).await.unwrap(), b"ECT {}\r\n");
        assert!(!far.may_have_more());
    });
}

#[test]
fn a_goodbye_ends_one_direction() {
    smol::block_on(async {
        let world = world();
        let (mut near, mut far) = talk(&world.client(), "localhost", &world.server()).await;
        write(&mut near, b"last").await;
        near.shutdown().unwrap();
        assert_eq!(read(&mut far, 100).await.unwrap(), b"last");
        for _ in 0..2 {
            assert_eq!(read(&mut far, 100).await.unwrap(), b"");
        }
        write(&mut far, b"-ERR 'bye'\r\n").await;
        assert_eq!(read(&mut near, 100).await.unwrap(), b"-ERR 'bye'\r\n");
        let pieces = [IoSlice::new(b"x")];
        let written = poll_fn(|cx| near.poll_write(cx, &pieces)).await;
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        // Without a goodbye it ends as well.
        drop(far);
        assert_eq!(read(&mut near, 100).await.unwrap(), b"");
    });
}

#[test]
fn what_was_tampered_with_is_refused() {
    smol::block_on(async {
        let world = world();
        let (near, far) = sockets();
        let mut wire = near.try_clone().unwrap();
        let near = TlsStream::client(tcp(near), &world.client(), "localhost", b"").unwrap();
        let far = TlsStream::server(tcp(far), &world.server(), b"").unwrap();
        let (near, far) = zip(shake(near), shake(far)).await;
        let (_near, mut far) = (near.unwrap(), far.unwrap());
        wire.write_all(b"\x17\x03\x03\x00\x20").unwrap();
        wire.write_all(&[0; 32]).unwrap();
        let error = read(&mut far, 100).await.unwrap_err();
        assert!(
            matches!(TlsError::of(&error), Some(TlsError::Other(_))),
            "{error}"
        );
        assert_eq!(read(&mut far, 100).await.unwrap(), b"");
        assert!(!far.may_have_more());
    });
}

/// The first flight of a client, in whole or damaged, whole or in two parts.
#[test]
fn no_first_flight_makes_a_server_panic() {
    let world = world();
    let server = world.server();
    let (near, mut far) = sockets();
    let mut client = TlsStream::client(tcp(near), &world.client(), "localhost", b"").unwrap();
    let flight = smol::block_on(async {
        poll_fn(|cx| {
            let _ = client.poll_handshake(cx);
            Poll::Ready(())
        })
        .await;
        let mut flight = vec![0; 4096];
        let count = far.read(&mut flight).unwrap();
        flight.truncate(count);
        flight
    });
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..500 {
        let mut damaged = flight.clone();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..damaged.len());
            damaged[at] = random.u8(..);
        }
        // Another record behind it, often a broken one.
        damaged.extend([22, 3, 3, 0, random.u8(..4), random.u8(..), 0, 0, 0]);
        damaged.truncate(random.usize(1..=damaged.len()));
        let (near, mut far) = sockets();

        let unread = random.usize(..=damaged.len());
        far.write_all(&damaged[unread..]).unwrap();
        far.shutdown(std::net::Shutdown::Write).unwrap();
        let mut stream = TlsStream::server(tcp(near), &server, &damaged[..unread]).unwrap();
        smol::block_on(async {
            let shaken = poll_fn(|cx| stream.poll_handshake(cx)).await;
            assert!(shaken.is_err());
            let again = poll_fn(|cx| stream.poll_handshake(cx)).await;
            assert!(again.is_err());
            assert_eq!(read(&mut stream, 10).await.unwrap(), b"");
        });
    }
}

#[test]
fn hosts_are_names_or_addresses() {
    let world = world();
    let (near, _far) = sockets();
    let error = TlsStream::client(tcp(near), &world.client(), "a b", b"").err();
    let want = "tls: \"a b\" is neither a host name nor an address";
    assert_eq!(error.unwrap().to_string(), want);
    assert!(name("::1").is_ok() && name("[::1]").is_ok() && name("x_y.example").is_ok());
}

#[test]
fn files_that_are_of_no_use_are_named() {
    let world = world();
    let good = &world.server.certificates[0];
    let missing = world.folder.0.join("missing").to_str().unwrap().to_owned();
    let empty = world.folder.write("empty.pem", "nothing\n");
    let other = world.ca.leaf(&world.folder, "other", &[]).files;
    let client = |settings: Tls| ClientTls::new(Some(&settings)).unwrap_err().to_string();
    let with_ca = |file: &str| Tls {
        ca_file: Some(file.into()),
        ..Tls::default()
    };
    assert_eq!(
        client(with_ca(&missing)),
        format!("open {missing}: no such file or directory")
    );
    assert_eq!(
        client(with_ca(&empty)),
        format!("failed to parse root ca certificate: no certificate in {empty}")
    );
    let with_pair = |cert: &str, key: &str| Tls {
        certificates: vec![CertificateFiles {
            cert: cert.into(),
            key: key.into(),
        }],
        ..world.client.clone()
    };
    let start = "error parsing X509 certificate/key pair";
    let (cert, key) = (good.cert.as_str(), good.key.as_str());
    for (settings, want) in [
        (
            with_pair(&missing, key),
            format!("{start}: open {missing}: no such file or directory"),
        ),
        (
            with_pair(cert, &missing),
            format!("{start}: open {missing}: no such file or directory"),
        ),
        (
            with_pair(&empty, key),
            format!("{start}: tls: failed to find any PEM data in certificate input: {empty}"),
        ),
        (
            with_pair(cert, &other.key),
            format!(
                "{start}: tls: private key does not match public key: {cert}, {}",
                other.key
            ),
        ),
        (
            with_pair(cert, cert),
            format!(
                "{start}: tls: failed to find PEM block with type ending in \"PRIVATE KEY\", \
                 unencrypted, in key input: {cert}"
            ),
        ),
        (
            Tls {
                certificates: vec![
                    good.clone(),
                    CertificateFiles {
                        cert: missing.clone(),
                        key: key.into(),
                    },
                ],
                ..Tls::default()
            },
            format!("{start} 2/2: open {missing}: no such file or directory"),
        ),
    ] {
        assert_eq!(client(settings.clone()), want);
        assert_eq!(ServerTls::new(&settings).unwrap_err().to_string(), want);
    }
    let error = ServerTls::new(&Tls::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "missing 'cert_file' in TLS configuration"
    );
}
