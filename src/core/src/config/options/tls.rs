//! `tls` blocks: of listeners and of remotes. The files they name are not read here.
//!
//! | key (aliases) | value | default |
//! |---|---|---|
//! | cert_file, key_file | paths, PEM | none; listeners need one |
//! | certs (certificates) | array of `{cert_file, key_file}`, in place of the two | none |
//! | ca_file | path, PEM | the system's authorities |
//! | verify, verify_and_map | bool, listeners only | false |
//! | insecure | bool, remotes only | false |
//! | pinned_certs | array of SHA-256 in hex, of public keys | any |
//! | cipher_suites, curve_preferences | arrays of names: [`SUITES`], [`CURVES`] | all |
//! | allow_insecure_cipher_suites | bool; there is none to allow | false |
//! | min_version | "1.2", "1.3" | 1.2 |
//! | timeout | seconds or duration | listeners 2 s, remotes 5 s |
//! | connection_rate_limit | number, listeners only; 0 or less is no limit | no limit |
//! | handshake_first (first, immediate) | bool, on, off, auto, duration | false |
//! | ocsp_peer | off | off |
//! | verify_cert_and_check_known_urls, cert_store, cert_match_by, ... | not served | |

use super::reader::Sink;
use super::unserved::is_off;
use crate::config::model::{
    CertificateFiles, CipherSuite, Curve, HandshakeFirst, PATIENT, Tls, TlsVersion,
};
use crate::config::units::{parse_duration, quote};
use crate::config::value::{Entry, Node, Position, Value};

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    /// A client of our listener.
    Client,
    /// A leaf that dials our listener for leafs.
    Leaf,
    /// The hub that a remote dials.
    Hub,
}

/// What `auto` waits for a peer that begins with TLS.
const AUTO: std::time::Duration = std::time::Duration::from_millis(50);

/// Those of TLS 1.2 are chosen from, those of TLS 1.3 are always on.
const SUITES: &[(&str, CipherSuite)] = &[
    ("TLS_AES_128_GCM_SHA256", CipherSuite::Aes128GcmSha256),
    ("TLS_AES_256_GCM_SHA384", CipherSuite::Aes256GcmSha384),
    (
        "TLS_CHACHA20_POLY1305_SHA256",
        CipherSuite::Chacha20Poly1305Sha256,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        CipherSuite::EcdheEcdsaAes128GcmSha256,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        CipherSuite::EcdheEcdsaAes256GcmSha384,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        CipherSuite::EcdheEcdsaChacha20Poly1305Sha256,
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        CipherSuite::EcdheRsaAes128GcmSha256,
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        CipherSuite::EcdheRsaAes256GcmSha384,
    ),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        CipherSuite::EcdheRsaChacha20Poly1305Sha256,
    ),
];

/// nats-server offers these by default; they are open to padding oracles.
const SUITES_NOT_OFFERED: &[&str] = &[
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
];

/// nats-server offers these where `allow_insecure_cipher_suites` is set.
const SUITES_INSECURE: &[&str] = &[
    "TLS_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
];

const CURVES: &[(&str, Curve)] = &[
    ("X25519", Curve::X25519),
    ("CurveP256", Curve::P256),
    ("CurveP384", Curve::P384),
];

const CURVES_NOT_OFFERED: &[&str] = &[
    "CurveP521",
    "X25519MLKEM768",
    "SecP256r1MLKEM768",
    "SecP384r1MLKEM1024",
];

/// What the block gives; `None` if it is no block.
pub(super) fn tls(entry: &Entry, peer: Peer, sink: &mut Sink) -> Option<Tls> {
    let map = sink.map(&entry.node)?;
    let mut block = Block {
        tls: Tls::default(),
        peer,
        cert: None,
        key: None,
        suites: None,
        insecure_suites: false,
    };
    if peer == Peer::Hub {
        block.tls.timeout = PATIENT;
    }
    for entry in map.iter() {
        block.read(entry, sink);
    }
    Some(block.finish(&entry.node.position, sink))
}

/// A block that is being read.
struct Block<'v> {
    tls: Tls,
    peer: Peer,
    cert: Option<String>,
    key: Option<String>,
    /// Judged at the end: whether insecure ones are an error of their own may stand after them.
    suites: Option<&'v Entry>,
    insecure_suites: bool,
}

impl<'v> Block<'v> {
    fn read(&mut self, entry: &'v Entry, sink: &mut Sink) {
        let node = &entry.node;
        let tls = &mut self.tls;
        match entry.key.to_lowercase().as_str() {
            "cert_file" => self.cert = file(entry, sink),
            "key_file" => self.key = file(entry, sink),
            "certs" | "certificates" => tls.certificates = certificates(node, sink),
            "ca_file" => tls.ca_file = file(entry, sink),
            "insecure" => tls.insecure = flag(entry, sink),
            "verify" => {
                tls.verify |= flag(entry, sink);
                self.listeners_only(entry, sink);
            }
            "verify_and_map" => {
                tls.map = flag(entry, sink);
                tls.verify |= tls.map;
                self.listeners_only(entry, sink);
            }
            "verify_cert_and_check_known_urls" => {
                if flag(entry, sink) {
                    let key = &entry.key;
                    sink.error(
                        &node.position,
                        format!("{key} not supported in this context"),
                    );
                }
            }
            "pinned_certs" => tls.pinned_certs = pins(node, sink),
            "cipher_suites" => self.suites = Some(entry),
            "allow_insecure_cipher_suites" => self.insecure_suites = flag(entry, sink),
            "curve_preferences" => tls.curves = curves(entry, sink),
            "min_version" => tls.min_version = min_version(node, sink),
            "timeout" => {
                let timeout = sink.seconds(node, "error parsing tls config, 'timeout'");
                tls.timeout = timeout.unwrap_or(tls.timeout);
            }
            "connection_rate_limit" => {
                let Value::Int(limit) = node.value else {
                    let text = "error parsing tls config, 'connection_rate_limit' wrong type";
                    return sink.error(&node.position, text);
                };
                let limit = u32::try_from(limit.max(0)).unwrap_or(u32::MAX);
                tls.rate_limit = Some(limit).filter(|limit| *limit > 0);
                self.listeners_only(entry, sink);
            }
            "handshake_first" | "first" | "immediate" => {
                tls.handshake_first = match handshake_first(entry, sink) {
                    // Whoever dials begins, or does not.
                    HandshakeFirst::After(_) if self.peer == Peer::Hub => HandshakeFirst::Yes,
                    first => first,
                };
            }
            "ocsp_peer" => ocsp_peer(entry, sink),
            "cert_store" => {
                let known = ["windowscurrentuser", "windowslocalmachine"];
                windows(entry, &known, "cert store type not implemented", sink);
            }
            "cert_match_by" => {
                let known = ["issuer", "subject", "thumbprint"];
                windows(entry, &known, "cert match by type not implemented", sink);
            }
            "cert_match" => windows(entry, &[], "", sink),
            "ca_certs_match" => incompatible(entry, sink),
            "cert_match_skip_invalid" => {
                if typed_flag(entry, "", sink) == Some(true) {
                    incompatible(entry, sink);
                }
            }
            _ if entry.used => {}
            _ => {
                let key = quote(&entry.key);
                let text = format!("error parsing tls config, unknown field {key}");
                sink.error(&node.position, text);
            }
        }
    }

    /// nats-server says nothing: the option looks like protection and is none.
    fn listeners_only(&mut self, entry: &Entry, sink: &mut Sink) {
        if self.peer == Peer::Hub {
            if !is_off(&entry.node.value) {
                let reason = "ignored, it has no effect on a remote";
                sink.warn(&entry.node.position, &entry.key, reason);
            }
            self.tls.verify = false;
            self.tls.map = false;
            self.tls.rate_limit = None;
        }
    }

    fn finish(mut self, at: &Position, sink: &mut Sink) -> Tls {
        self.tls.place = Some(at.to_string());
        if let Some(entry) = self.suites {
            self.tls.cipher_suites = suites(entry, self.insecure_suites, at, sink);
        }
        match (self.cert, self.key) {
            (None, None) => {
                let whom = match self.peer {
                    Peer::Client => Some("clients"),
                    Peer::Leaf => Some("leafs"),
                    Peer::Hub => None,
                };
                if let Some(whom) = whom
                    && self.tls.certificates.is_empty()
                {
                    let text =
                        format!("tls for {whom} needs a certificate: set cert_file and key_file");
                    sink.error(at, text);
                }
            }
            (Some(_), Some(_)) if !self.tls.certificates.is_empty() => sink.error(
                at,
                "error parsing tls config, cannot combine 'cert_file' option with 'certs' option",
            ),
            (Some(cert), Some(key)) => self.tls.certificates = vec![CertificateFiles { cert, key }],
            (Some(_), None) => sink.error(at, "missing 'key_file' in TLS configuration"),
            (None, Some(_)) => sink.error(at, "missing 'cert_file' in TLS configuration"),
        }
        if self.peer != Peer::Hub && !self.tls.verify && !self.tls.pinned_certs.is_empty() {
            // nats-server starts, and refuses everybody.
            let text =
                "pinned_certs of a listener need verify: true, or clients show no certificate";
            sink.error(at, text);
        }
        self.tls
    }
}

fn file(entry: &Entry, sink: &mut Sink) -> Option<String> {
    match &entry.node.value {
        Value::String(path) => Some(path.clone()).filter(|path| !path.is_empty()),
        _ => {
            let key = entry.key.to_lowercase();
            let text = format!("error parsing tls config, expected '{key}' to be filename");
            sink.error(&entry.node.position, text);
            None
        }
    }
}

fn flag(entry: &Entry, sink: &mut Sink) -> bool {
    typed_flag(entry, "error parsing tls config, ", sink).unwrap_or(false)
}

fn typed_flag(entry: &Entry, prefix: &str, sink: &mut Sink) -> Option<bool> {
    if let Value::Bool(on) = entry.node.value {
        return Some(on);
    }
    let key = entry.key.to_lowercase();
    let text = format!("{prefix}expected '{key}' to be a boolean");
    sink.error(&entry.node.position, text);
    None
}

/// `certs`.
fn certificates(node: &Node, sink: &mut Sink) -> Vec<CertificateFiles> {
    let unsupported = |node: &Node, sink: &mut Sink| {
        let got = node.value.type_name();
        let text = format!("error parsing certificates config: unsupported type {got}");
        sink.error(&node.position, text);
    };
    let Value::Array(list) = &node.value else {
        unsupported(node, sink);
        return Vec::new();
    };
    let mut out = Vec::new();
    for node in list {
        let Value::Map(map) = &node.value else {
            unsupported(node, sink);
            continue;
        };
        let (mut cert, mut key) = (None, None);
        let before = sink.errors.len();
        for entry in map.iter() {
            let to = match entry.key.to_lowercase().as_str() {
                "cert_file" => &mut cert,
                "key_file" => &mut key,
                _ if entry.used => continue,
                _ => {
                    let key = quote(&entry.key);
                    let text = format!("error parsing tls certs config, unknown field {key}");
                    sink.error(&entry.node.position, text);
                    continue;
                }
            };
            match &entry.node.value {
                Value::String(path) => *to = Some(path.clone()).filter(|path| !path.is_empty()),
                _ => unsupported(&entry.node, sink),
            }
        }
        match (cert, key) {
            (Some(cert), Some(key)) => out.push(CertificateFiles { cert, key }),
            // The reason was given.
            _ if sink.errors.len() > before => {}
            // Upstream's text has another name than its option.
            _ => sink.error(
                map.last_position().unwrap_or(&node.position),
                "error parsing certificates config: both 'cert_file' and 'cert_key' options are required",
            ),
        }
    }
    out
}

/// `pinned_certs`.
fn pins(node: &Node, sink: &mut Sink) -> Vec<[u8; 32]> {
    let Value::Array(list) = &node.value else {
        let text = "error parsing tls config, expected 'pinned_certs' to be a list of hex-encoded sha256 of DER encoded SubjectPublicKeyInfo";
        sink.error(&node.position, text);
        return Vec::new();
    };
    if list.is_empty() {
        // Upstream takes it, for nobody or for everybody.
        let text = "error parsing tls config, 'pinned_certs' cannot be empty";
        sink.error(&node.position, text);
    }
    let mut out = Vec::new();
    for node in list {
        let text = match &node.value {
            Value::String(text) => text.to_lowercase(),
            other => other.shown(),
        };
        let mut hash = [0; 32];
        let hex = data_encoding::HEXLOWER;
        if text.len() == 64 && hex.decode_mut(text.as_bytes(), &mut hash).is_ok() {
            out.push(hash);
        } else {
            let text = format!(
                "error parsing tls config, 'pinned_certs' key {text} does not look like hex-encoded sha256 of DER encoded SubjectPublicKeyInfo"
            );
            sink.error(&node.position, text);
        }
    }
    out
}

/// The elements of a list that must not be empty.
fn names(entry: &Entry, sink: &mut Sink) -> Vec<(Position, String)> {
    let node = &entry.node;
    let Value::Array(list) = &node.value else {
        let _: Option<()> = sink.mismatch(node, "[]interface {}");
        return Vec::new();
    };
    if list.is_empty() {
        let key = entry.key.to_lowercase();
        let text = format!("error parsing tls config, '{key}' cannot be empty");
        sink.error(&node.position, text);
    }
    list.iter()
        .filter_map(|node| Some((node.position.clone(), sink.string(node)?)))
        .collect()
}

/// A name that nats-server knows and we do not offer is an error: without it the rest of the list
/// would say something else than was meant.
fn not_offered<T>(at: &Position, what: &str, name: &str, known: &[(&str, T)], sink: &mut Sink) {
    let known: Vec<_> = known.iter().map(|(name, _)| *name).collect();
    let known = known.join(", ");
    sink.error(
        at,
        format!("{what} {name} is not offered by petiole, use some of {known}"),
    );
}

fn suites(entry: &Entry, allow: bool, block: &Position, sink: &mut Sink) -> Vec<CipherSuite> {
    let mut out = Vec::new();
    let mut insecure = Vec::new();
    for (at, name) in names(entry, sink) {
        if let Some((_, suite)) = SUITES.iter().find(|(known, _)| *known == name) {
            out.push(*suite);
        } else if SUITES_INSECURE.contains(&name.as_str()) && !allow {
            insecure.push(name);
        } else if SUITES_INSECURE.contains(&name.as_str())
            || SUITES_NOT_OFFERED.contains(&name.as_str())
        {
            not_offered(&at, "cipher", &name, SUITES, sink);
        } else {
            sink.error(&at, format!("unrecognized cipher {name}"));
        }
    }
    if !insecure.is_empty() {
        let list = insecure.join(", ");
        let text = format!(
            "insecure cipher suites configured without 'allow_insecure_cipher_suites' option set: {list}"
        );
        sink.error(block, text);
    }
    out
}

fn curves(entry: &Entry, sink: &mut Sink) -> Vec<Curve> {
    let mut out = Vec::new();
    for (at, name) in names(entry, sink) {
        if let Some((_, curve)) = CURVES.iter().find(|(known, _)| *known == name) {
            out.push(*curve);
        } else if CURVES_NOT_OFFERED.contains(&name.as_str()) {
            not_offered(&at, "curve", &name, CURVES, sink);
        } else {
            sink.error(&at, format!("unrecognized curve preference {name}"));
        }
    }
    out
}

fn min_version(node: &Node, sink: &mut Sink) -> TlsVersion {
    let reason = match &node.value {
        Value::String(text) => match text.as_str() {
            "1.2" => return TlsVersion::V1_2,
            "1.3" => return TlsVersion::V1_3,
            "1.0" | "1.1" => format!("unsupported TLS version: TLS {text}"),
            _ => format!("unknown version: {text}"),
        },
        other => format!("'min_version' wrong type: {}", other.shown()),
    };
    let text = format!("error parsing tls config: {reason}");
    sink.error(&node.position, text);
    TlsVersion::V1_2
}

fn handshake_first(entry: &Entry, sink: &mut Sink) -> HandshakeFirst {
    let node = &entry.node;
    let key = quote(&entry.key.to_lowercase());
    let text = match &node.value {
        Value::Bool(true) => return HandshakeFirst::Yes,
        Value::Bool(false) => return HandshakeFirst::No,
        Value::String(text) => match text.to_lowercase().as_str() {
            "on" | "true" => return HandshakeFirst::Yes,
            "off" | "false" => return HandshakeFirst::No,
            "auto" | "auto_fallback" => return HandshakeFirst::After(AUTO),
            _ => match parse_duration(text).map(u64::try_from) {
                // Nothing to wait for: nobody else is served.
                Ok(Ok(0)) => return HandshakeFirst::Yes,
                Ok(Ok(nanos)) => {
                    return HandshakeFirst::After(std::time::Duration::from_nanos(nanos));
                }
                _ => format!("field {key}'s value {} is invalid", quote(text)),
            },
        },
        other => {
            let got = other.type_name();
            format!("field {key} should be a boolean or a string, got {got}")
        }
    };
    sink.error(&node.position, text);
    HandshakeFirst::No
}

/// Only off: certificates are not looked up with an OCSP responder.
fn ocsp_peer(entry: &Entry, sink: &mut Sink) {
    const KEYS: &[&str] = &[
        "verify",
        "ca_timeout",
        "allowed_clockskew",
        "cache_ttl_when_next_update_unset",
        "warn_only",
        "unknown_is_good",
        "allow_when_ca_unreachable",
    ];
    let node = &entry.node;
    let on = match &node.value {
        Value::Bool(on) => *on,
        Value::Map(map) => {
            let mut on = false;
            for entry in map.iter() {
                let key = entry.key.to_lowercase();
                if key == "verify" {
                    on = sink.boolean(&entry.node).unwrap_or(false);
                } else if !KEYS.contains(&key.as_str()) && !entry.used {
                    let key = quote(&entry.key);
                    let text = format!("error parsing tls peer config, unknown field [{key}]");
                    sink.error(&entry.node.position, text);
                }
            }
            on
        }
        other => {
            let got = other.type_name();
            let text = format!("error parsing ocsp peer config: unsupported type {got}");
            return sink.error(&node.position, text);
        }
    };
    if on {
        sink.unserved(entry, "set it to false");
    }
}

/// Options of certificates in the store of Windows. `known`: the names it may hold; empty: any.
fn windows(entry: &Entry, known: &[&str], otherwise: &str, sink: &mut Sink) {
    let at = &entry.node.position;
    match &entry.node.value {
        Value::String(text) if !text.is_empty() => {
            if known.is_empty() || known.contains(&text.to_lowercase().as_str()) {
                incompatible(entry, sink);
            } else {
                sink.error(at, otherwise);
            }
        }
        _ => {
            let key = entry.key.to_lowercase();
            let text = format!("expected '{key}' to be a valid non-empty string");
            sink.error(at, text);
        }
    }
}

fn incompatible(entry: &Entry, sink: &mut Sink) {
    let key = entry.key.to_lowercase();
    let text = format!("{key} not compatible with current operating system");
    sink.error(&entry.node.position, text);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::testing::{config, lines, remote};
    use std::time::Duration;

    fn of_remote(text: &str) -> Tls {
        let tls = remote(&format!("url: \"nats://h\", tls {{ {text} }}")).ways[0]
            .tls
            .clone();
        tls.unwrap()
    }

    fn of_clients(text: &str) -> Tls {
        let text = format!("tls {{ cert_file: c, key_file: k, {text} }}");
        config(&text).tls.unwrap()
    }

    /// 30 to 34: as 2.15.1 prints it, but for what we do not offer.
    #[test]
    fn texts() {
        let insecure = "TLS_RSA_WITH_RC4_128_SHA";
        let prefix = "error parsing tls config";
        let pin = "a8f407340dcc719864214b85ed96f98d16cbffa8f509d9fa4ca237b7bb3f9c";
        for (text, wanted) in [
            ("cert_file: 5", format!("c:1:5: {prefix}, expected 'cert_file' to be filename")),
            ("key_file: 5", format!("c:1:5: {prefix}, expected 'key_file' to be filename")),
            ("ca_file: 5", format!("c:1:5: {prefix}, expected 'ca_file' to be filename")),
            ("foo: 5", format!("c:1:5: {prefix}, unknown field \"foo\"")),
            ("verify: 5", format!("c:1:5: {prefix}, expected 'verify' to be a boolean")),
            ("INSECURE: x", format!("c:1:5: {prefix}, expected 'insecure' to be a boolean")),
            ("verify_and_map: 1", format!("c:1:5: {prefix}, expected 'verify_and_map' to be a boolean")),
            ("allow_insecure_cipher_suites: 1", format!("c:1:5: {prefix}, expected 'allow_insecure_cipher_suites' to be a boolean")),
            ("verify_cert_and_check_known_urls: 1", format!("c:1:5: {prefix}, expected 'verify_cert_and_check_known_urls' to be a boolean")),
            ("verify_cert_and_check_known_urls: true", "c:1:5: verify_cert_and_check_known_urls not supported in this context".into()),
            ("cert_file: c", "c:1:0: missing 'key_file' in TLS configuration".into()),
            ("key_file: k", "c:1:0: missing 'cert_file' in TLS configuration".into()),
            ("", "c:1:0: tls for clients needs a certificate: set cert_file and key_file".into()),
            ("verify: true, ca_file: a", "c:1:0: tls for clients needs a certificate: set cert_file and key_file".into()),
            ("cert_file: a, key_file: b, certs: [{cert_file: c, key_file: d}]", format!("c:1:0: {prefix}, cannot combine 'cert_file' option with 'certs' option")),
            ("certs: x", "c:1:5: error parsing certificates config: unsupported type string".into()),
            ("certs: [x]", "c:1:13: error parsing certificates config: unsupported type string".into()),
            ("certs: [{cert_file: 5}]", "c:1:14: error parsing certificates config: unsupported type int64".into()),
            ("certs: [{foo: x}]", "c:1:14: error parsing tls certs config, unknown field \"foo\"".into()),
            ("certs: [{cert_file: x}]", "c:1:14: error parsing certificates config: both 'cert_file' and 'cert_key' options are required".into()),
            ("pinned_certs: x", format!("c:1:5: {prefix}, expected 'pinned_certs' to be a list of hex-encoded sha256 of DER encoded SubjectPublicKeyInfo")),
            ("pinned_certs: []", format!("c:1:5: {prefix}, 'pinned_certs' cannot be empty")),
            ("pinned_certs: [X]", format!("c:1:20: {prefix}, 'pinned_certs' key x does not look like hex-encoded sha256 of DER encoded SubjectPublicKeyInfo")),
            (&format!("pinned_certs: [\"{pin}zz\"]"), format!("c:1:21: {prefix}, 'pinned_certs' key {pin}zz does not look like hex-encoded sha256 of DER encoded SubjectPublicKeyInfo")),
            ("cipher_suites: []", format!("c:1:5: {prefix}, 'cipher_suites' cannot be empty")),
            ("cipher_suites: x", "c:1:5: interface conversion: interface {} is string, not []interface {}".into()),
            ("cipher_suites: [x]", "c:1:21: unrecognized cipher x".into()),
            ("cipher_suites: [tls_aes_128_gcm_sha256]", "c:1:21: unrecognized cipher tls_aes_128_gcm_sha256".into()),
            (&format!("cipher_suites: [{insecure}, TLS_ECDHE_RSA_WITH_RC4_128_SHA]"), format!("c:1:0: insecure cipher suites configured without 'allow_insecure_cipher_suites' option set: {insecure}, TLS_ECDHE_RSA_WITH_RC4_128_SHA")),
            ("curve_preferences: []", format!("c:1:5: {prefix}, 'curve_preferences' cannot be empty")),
            ("curve_preferences: [P256]", "c:1:25: unrecognized curve preference P256".into()),
            ("min_version: 1.2", format!("c:1:5: {prefix}: 'min_version' wrong type: 1.2")),
            ("min_version: \"1.1\"", format!("c:1:5: {prefix}: unsupported TLS version: TLS 1.1")),
            ("min_version: \"1.4\"", format!("c:1:5: {prefix}: unknown version: 1.4")),
            ("timeout: x", format!("c:1:5: {prefix}, 'timeout' time: invalid duration \"x\"")),
            ("timeout: true", format!("c:1:5: {prefix}, 'timeout' wrong type")),
            ("timeout: -1", format!("c:1:5: {prefix}, 'timeout' is out of the range")),
            ("timeout: 9000000000000000000", format!("c:1:5: {prefix}, 'timeout' is out of the range")),
            ("connection_rate_limit: x", format!("c:1:5: {prefix}, 'connection_rate_limit' wrong type")),
            ("handshake_first: 5", "c:1:5: field \"handshake_first\" should be a boolean or a string, got int64".into()),
            ("handshake_first: foo", "c:1:5: field \"handshake_first\"'s value \"foo\" is invalid".into()),
            ("first: \"-5s\"", "c:1:5: field \"first\"'s value \"-5s\" is invalid".into()),
            ("ocsp_peer: 5", "c:1:5: error parsing ocsp peer config: unsupported type int64".into()),
            ("ocsp_peer: {foo: 1}", "c:1:17: error parsing tls peer config, unknown field [\"foo\"]".into()),
            ("ocsp_peer: true", "c:1:5: option \"ocsp_peer\" is not served by petiole yet: set it to false".into()),
            ("cert_store: x", "c:1:5: cert store type not implemented".into()),
            ("cert_store: 5", "c:1:5: expected 'cert_store' to be a valid non-empty string".into()),
            ("cert_store: WindowsCurrentUser", "c:1:5: cert_store not compatible with current operating system".into()),
            ("cert_match_by: x", "c:1:5: cert match by type not implemented".into()),
            ("cert_match_by: Subject", "c:1:5: cert_match_by not compatible with current operating system".into()),
            ("cert_match: x", "c:1:5: cert_match not compatible with current operating system".into()),
            ("ca_certs_match: x", "c:1:5: ca_certs_match not compatible with current operating system".into()),
            ("cert_match_skip_invalid: x", "c:1:5: expected 'cert_match_skip_invalid' to be a boolean".into()),
            ("cert_match_skip_invalid: true", "c:1:5: cert_match_skip_invalid not compatible with current operating system".into()),
        ] {
            let printed = lines(&format!("tls {{{text}\n}}"));
            // That there is no certificate may come last.
            assert_eq!(printed.first(), Some(&wanted), "{text}");
            assert!(printed.len() <= 2, "{text}");
        }
        for block in ["5", "true", "x"] {
            let printed = lines(&format!("tls: {block}"));
            assert!(printed[0].ends_with("not map[string]interface {}"));
        }
    }

    /// 30: each name of nats-server is known, and what we do not offer is refused by name.
    #[test]
    fn names() {
        for (name, suite) in SUITES {
            let tls = of_remote(&format!("cipher_suites: [{name}]"));
            assert_eq!(tls.cipher_suites, [*suite]);
        }
        for name in SUITES_NOT_OFFERED.iter().chain(SUITES_INSECURE) {
            let printed = lines(&format!(
                "leafnodes {{remotes: [{{tls {{allow_insecure_cipher_suites: true\ncipher_suites: [{name}]}}}}]}}"
            ));
            let wanted = format!(
                "cipher {name} is not offered by petiole, use some of TLS_AES_128_GCM_SHA256, "
            );
            assert_eq!(printed.len(), 1);
            assert!(printed[0].contains(&wanted), "{printed:?}");
        }
        assert_eq!(
            SUITES.len() + SUITES_NOT_OFFERED.len() + SUITES_INSECURE.len(),
            25
        );
        for (name, curve) in CURVES {
            assert_eq!(
                of_clients(&format!("curve_preferences: [{name}]")).curves,
                [*curve]
            );
        }
        for name in CURVES_NOT_OFFERED {
            let printed = lines(&format!(
                "leafnodes {{remotes: [{{tls {{curve_preferences: [X25519, {name}]}}}}]}}"
            ));
            let wanted = format!(
                "curve {name} is not offered by petiole, use some of X25519, CurveP256, CurveP384"
            );
            assert_eq!(printed.len(), 1);
            assert!(printed[0].ends_with(&wanted), "{printed:?}");
        }
        let both = "cipher_suites: [TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, TLS_AES_128_GCM_SHA256]";
        assert_eq!(
            of_clients(both).cipher_suites,
            [
                CipherSuite::EcdheRsaAes256GcmSha384,
                CipherSuite::Aes128GcmSha256
            ]
        );
    }

    #[test]
    fn values() {
        let tls = of_clients(
            "CA_File: a, verify: true, min_version: \"1.3\", timeout: 1.5, connection_rate_limit: 7, ocsp_peer: false",
        );
        assert_eq!(
            tls,
            Tls {
                certificates: vec![CertificateFiles {
                    cert: "c".into(),
                    key: "k".into()
                }],
                ca_file: Some("a".into()),
                verify: true,
                min_version: TlsVersion::V1_3,
                timeout: Duration::from_millis(1500),
                rate_limit: Some(7),
                place: Some("c:1:0".into()),
                ..Tls::default()
            }
        );
        let tls = of_clients("verify_and_map: true, verify: false, connection_rate_limit: -1");
        assert_eq!((tls.verify, tls.map, tls.rate_limit), (true, true, None));
        let text = "tls {certificates: [{cert_file: a, key_file: b}, {cert_file: c, key_file: d}]}";
        let several = config(text).tls.unwrap();
        let names: Vec<_> = several.certificates.iter().map(|c| &*c.cert).collect();
        assert_eq!(names, ["a", "c"]);
        let pin = "0F".repeat(32);
        let pinned = of_remote(&format!("pinned_certs: [\"{pin}\"], insecure: true"));
        assert_eq!(
            (pinned.pinned_certs, pinned.insecure),
            (vec![[15; 32]], true)
        );
    }

    #[test]
    fn timeouts() {
        for (text, seconds) in [("", 2), ("timeout: 0", 2), ("timeout: \"1m\"", 60)] {
            assert_eq!(of_clients(text).timeout, Duration::from_secs(seconds));
        }
        assert_eq!(of_remote("").timeout, PATIENT);
        assert_eq!(of_remote("timeout: 3").timeout, Duration::from_secs(3));
        let tls = "tls {cert_file: c, key_file: k, timeout: 4}";
        for (text, seconds) in [
            (String::new(), 2),
            (tls.to_string(), 5),
            (format!("authorization {{user: u}}; {tls}"), 5),
            (format!("{tls}; authorization {{timeout: 1}}"), 1),
            (format!("authorization {{timeout: \"9s\"}}; {tls}"), 9),
        ] {
            let timeout = config(&text).limits.auth_timeout;
            assert_eq!(timeout, Duration::from_secs(seconds), "{text}");
        }
    }

    /// 32.
    #[test]
    fn handshakes() {
        let after = |ms| HandshakeFirst::After(Duration::from_millis(ms));
        for (text, client, hub) in [
            ("true", HandshakeFirst::Yes, HandshakeFirst::Yes),
            ("\"ON\"", HandshakeFirst::Yes, HandshakeFirst::Yes),
            ("off", HandshakeFirst::No, HandshakeFirst::No),
            ("\"False\"", HandshakeFirst::No, HandshakeFirst::No),
            ("auto", after(50), HandshakeFirst::Yes),
            ("auto_fallback", after(50), HandshakeFirst::Yes),
            ("\"300ms\"", after(300), HandshakeFirst::Yes),
            ("\"0s\"", HandshakeFirst::Yes, HandshakeFirst::Yes),
        ] {
            for key in ["handshake_first", "first", "IMMEDIATE"] {
                let text = format!("{key}: {text}");
                assert_eq!(of_clients(&text).handshake_first, client, "{text}");
                assert_eq!(of_remote(&text).handshake_first, hub, "{text}");
            }
        }
    }

    #[test]
    fn what_is_only_for_clients_is_said_to_have_no_effect_on_remotes() {
        for text in [
            "verify: true",
            "verify_and_map: true",
            "connection_rate_limit: 5",
        ] {
            let key = text.split(':').next().unwrap();
            let printed = lines(&format!("leafnodes {{remotes: [{{tls {{{text}}}}}]}}"));
            assert_eq!(
                printed,
                [format!(
                    "c:1:27: invalid use of field \"{key}\": ignored, it has no effect on a remote"
                )]
            );
            let tls = of_remote(text);
            assert_eq!((tls.verify, tls.map, tls.rate_limit), (false, false, None));
        }
        let off = "verify: false, verify_and_map: off, connection_rate_limit: 0";
        assert_eq!(
            lines(&format!("leafnodes {{remotes: [{{tls {{{off}}}}}]}}")),
            [""; 0]
        );
    }
}
