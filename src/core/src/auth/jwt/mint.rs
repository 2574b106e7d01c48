//! JWTs for tests.

use data_encoding::BASE64URL_NOPAD;
use nkeys::{KeyPair, KeyPairType};
use serde_json::{Value, json};

/// A key by kind and number, always the same.
pub(crate) fn key(kind: KeyPairType, number: u8) -> KeyPair {
    KeyPair::new_from_raw(kind, [number; 32]).unwrap()
}

/// Claims signed by `by`, which is the issuer unless they say another.
pub(crate) fn mint(by: &KeyPair, mut claims: Value) -> String {
    let first = claims.get("type").is_some();
    let root = claims.as_object_mut().unwrap();
    root.entry("iss").or_insert_with(|| by.public_key().into());
    root.entry("jti").or_insert_with(|| "ID".into());
    root.entry("iat").or_insert_with(|| 1000.into());
    let header = json!({"typ": "JWT", "alg": "ed25519-nkey"});
    let (header, body) = (encoded(&header), encoded(&claims));
    sign(
        by,
        &header,
        &body,
        if first { &[] } else { header.as_bytes() },
    )
}

/// As [`mint`], with a header of one's own.
pub(crate) fn with_header(by: &KeyPair, header: &Value, mut claims: Value) -> String {
    claims["iss"] = by.public_key().into();
    let (header, body) = (encoded(header), encoded(&claims));
    sign(by, &header, &body, header.as_bytes())
}

fn sign(by: &KeyPair, header: &str, body: &str, signed_before: &[u8]) -> String {
    let mut signed = signed_before.to_vec();
    if !signed.is_empty() {
        signed.push(b'.');
    }
    signed.extend_from_slice(body.as_bytes());
    let signature = BASE64URL_NOPAD.encode(&by.sign(&signed).unwrap());
    format!("{header}.{body}.{signature}")
}

fn encoded(value: &Value) -> String {
    BASE64URL_NOPAD.encode(value.to_string().as_bytes())
}
