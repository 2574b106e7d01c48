//! Nkeys: signatures of users over nonces, keys of seeds, what a valid public key is.
//!
//! The signed bytes are those of the nonce *text* of INFO, never its decoded value. Owns no key and
//! keeps none: a seed comes in by reference and leaves no copy.

use std::fmt;

use data_encoding::{BASE64, BASE64URL_NOPAD};
use nkeys::{KeyPair, KeyPairType};

use crate::random::Entropy;

/// What is wrong with a key, a seed or a signature. Carries none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NkeyError {
    /// Not a public user key (`U` and 55 more characters with the right checksum).
    NotAUserKey,
    /// Not a user seed (`SU` and 56 more characters with the right checksum).
    NotAUserSeed,
    /// Neither base64url without padding nor padded standard base64 of 64 bytes.
    MalformedSignature,
    /// A well formed signature, made by another key or over other bytes.
    WrongSignature,
}

impl fmt::Display for NkeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NkeyError::NotAUserKey => {
                "not a public user nkey: expected the 56 characters `U...` that `nk -inkey <seed> -pubout` prints"
            }
            NkeyError::NotAUserSeed => {
                "not a user nkey seed: expected the 58 characters `SU...` that `nk -gen user` prints"
            }
            NkeyError::MalformedSignature => "signature is not valid base64 of 64 bytes",
            NkeyError::WrongSignature => "signature not verified",
        })
    }
}

impl std::error::Error for NkeyError {}

/// A new public server key, `N...`: a server's id. Its private half is not kept, as nothing is ever
/// signed with it.
pub fn server_id(entropy: &mut dyn Entropy) -> String {
    let mut seed = [0; 32];
    entropy.fill(&mut seed);
    KeyPair::new_from_raw(KeyPairType::Server, seed)
        .map(|pair| pair.public_key())
        .unwrap_or_default()
}

/// Whether `text` is a public user nkey.
pub fn is_user_key(text: &str) -> bool {
    user_key(text).is_ok()
}

/// Checks that `signature` (base64url without padding, else padded standard base64) was made over
/// `nonce` by the owner of the public user nkey `key`.
pub fn verify(key: &str, nonce: &[u8], signature: &str) -> Result<(), NkeyError> {
    let key = user_key(key)?;
    let raw = BASE64URL_NOPAD
        .decode(signature.as_bytes())
        .or_else(|_| BASE64.decode(signature.as_bytes()))
        .map_err(|_| NkeyError::MalformedSignature)?;
    if raw.len() != 64 {
        return Err(NkeyError::MalformedSignature);
    }
    key.verify(nonce, &raw)
        .map_err(|_| NkeyError::WrongSignature)
}

/// Signs `nonce` with a user seed: base64url without padding, as CONNECT carries it.
pub fn sign(seed: &str, nonce: &[u8]) -> Result<String, NkeyError> {
    let raw = user_seed(seed)?
        .sign(nonce)
        .map_err(|_| NkeyError::NotAUserSeed)?;
    Ok(BASE64URL_NOPAD.encode(&raw))
}

/// The public key that belongs to a user seed.
pub fn public_key(seed: &str) -> Result<String, NkeyError> {
    Ok(user_seed(seed)?.public_key())
}

fn user_key(text: &str) -> Result<KeyPair, NkeyError> {
    match KeyPair::from_public_key(text) {
        Ok(pair) if pair.key_pair_type() == KeyPairType::User => Ok(pair),
        _ => Err(NkeyError::NotAUserKey),
    }
}

fn user_seed(text: &str) -> Result<KeyPair, NkeyError> {
    match KeyPair::from_seed(text) {
        Ok(pair) if pair.key_pair_type() == KeyPairType::User => Ok(pair),
        _ => Err(NkeyError::NotAUserSeed),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seed(kind: KeyPairType, fill: u8) -> String {
        KeyPair::new_from_raw(kind, [fill; 32])
            .unwrap()
            .seed()
            .unwrap()
    }

    #[test]
    fn keys_and_seeds_of_users_only() {
        let user = seed(KeyPairType::User, 7);
        let key = public_key(&user).unwrap();
        assert!(user.starts_with("SU") && key.starts_with('U'));
        assert!(is_user_key(&key));
        for kind in [KeyPairType::Account, KeyPairType::Operator] {
            let other = KeyPair::new_from_raw(kind.clone(), [7; 32]).unwrap();
            let public = other.public_key();
            assert!(!is_user_key(&public));
            let other = seed(kind, 7);
            assert_eq!(public_key(&other), Err(NkeyError::NotAUserSeed));
            assert_eq!(sign(&other, b"n"), Err(NkeyError::NotAUserSeed));
        }
        let mut typo = key.clone();
        typo.replace_range(10..11, if &key[10..11] == "A" { "B" } else { "A" });
        for bad in ["", "U", typo.as_str(), user.as_str(), &key.to_lowercase()] {
            assert!(!is_user_key(bad), "{bad}");
        }
    }

    #[test]
    fn c04_signature_in_base64url_or_padded_standard_base64() {
        let seed = seed(KeyPairType::User, 1);
        let key = public_key(&seed).unwrap();
        // Enough nonces that some signature contains the characters in which the two differ.
        let mut differ = 0;
        for n in 0..16u8 {
            let nonce = [b'a' + n; 15];
            let url = sign(&seed, &nonce).unwrap();
            assert_eq!(url.len(), 86);
            assert_eq!(verify(&key, &nonce, &url), Ok(()));
            let raw = BASE64URL_NOPAD.decode(url.as_bytes()).unwrap();
            let standard = BASE64.encode(&raw);
            assert_eq!(verify(&key, &nonce, &standard), Ok(()));
            if url.contains(['-', '_']) {
                differ += 1;
                assert_eq!(
                    verify(&key, &nonce, &format!("{url}==")),
                    Err(NkeyError::MalformedSignature)
                );
            }
            assert_eq!(
                verify(&key, b"another nonce", &url),
                Err(NkeyError::WrongSignature)
            );
        }
        assert!(differ > 0);
        let other = public_key(&super::tests::seed(KeyPairType::User, 2)).unwrap();
        let sig = sign(&seed, b"nonce").unwrap();
        assert_eq!(
            verify(&other, b"nonce", &sig),
            Err(NkeyError::WrongSignature)
        );
        for bad in ["", "AAAA", "not base64 at all", &sig[..80]] {
            assert_eq!(
                verify(&key, b"nonce", bad),
                Err(NkeyError::MalformedSignature)
            );
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in ".{0,70}", base32 in "S?[UA][A-Z2-7]{54,57}", sig in ".{0,90}") {
            for text in [text.as_str(), base32.as_str()] {
                let _ = is_user_key(text);
                let _ = public_key(text);
                let _ = verify(text, b"n", &sig);
            }
        }
    }
}
