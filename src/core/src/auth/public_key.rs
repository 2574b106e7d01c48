//! Public nkeys of accounts and operators: their text and the 32 bytes it stands for.
//!
//! A key is a byte that says whose it is, 32 bytes, and the CRC-16 (XMODEM) of both, in base32
//! without padding: 56 characters. Like nats-server, this does not ask whether the bytes are a point
//! of the curve; whoever verifies a signature finds that out.

use std::fmt;

use data_encoding::BASE32_NOPAD;

/// The first byte of an account's key, which makes its text begin with `A`.
const ACCOUNT: u8 = 0;
/// The same of an operator's key, `O`.
const OPERATOR: u8 = 14 << 3;

/// Length of a public key's text.
const TEXT: usize = 56;

/// The public key of an account, by which operator mode names it: 32 bytes in place of the 56
/// characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountKey([u8; 32]);

impl AccountKey {
    /// Reads `A` and 55 more characters; `None` if they are no account's public key.
    pub fn parse(text: &str) -> Option<AccountKey> {
        decode(text, ACCOUNT).map(AccountKey)
    }

    /// The key that these bytes are.
    pub const fn from_bytes(bytes: [u8; 32]) -> AccountKey {
        AccountKey(bytes)
    }

    /// The key's bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for AccountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut raw = [0; 35];
        let (body, sum) = raw.split_at_mut(33);
        if let Some((kind, key)) = body.split_first_mut() {
            *kind = ACCOUNT;
            key.copy_from_slice(&self.0);
        }
        sum.copy_from_slice(&crc16(body).to_le_bytes());
        let mut text = [0; TEXT];
        BASE32_NOPAD.encode_mut(&raw, &mut text);
        f.pad(str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for AccountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whether `text` is a public account nkey, `A...`.
pub fn is_account_key(text: &str) -> bool {
    AccountKey::parse(text).is_some()
}

/// Whether `text` is a public operator nkey, `O...`.
pub fn is_operator_key(text: &str) -> bool {
    decode(text, OPERATOR).is_some()
}

fn decode(text: &str, kind: u8) -> Option<[u8; 32]> {
    let mut raw = [0; 35];
    if text.len() != TEXT || BASE32_NOPAD.decode_mut(text.as_bytes(), &mut raw).is_err() {
        return None;
    }
    let (body, sum) = raw.split_at(33);
    let (found, key) = body.split_first()?;
    if *found != kind || sum != crc16(body).to_le_bytes() {
        return None;
    }
    key.try_into().ok()
}

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |sum, byte| {
        (0..8).fold(sum ^ (u16::from(*byte) << 8), |sum, _| {
            let shifted = sum << 1;
            if sum & 0x8000 == 0 {
                shifted
            } else {
                shifted ^ 0x1021
            }
        })
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use nkeys::{KeyPair, KeyPairType};
    use proptest::prelude::*;

    use super::*;

    fn public(kind: KeyPairType, fill: u8) -> String {
        KeyPair::new_from_raw(kind, [fill; 32])
            .unwrap()
            .public_key()
    }

    #[test]
    fn keys_of_their_kind_only() {
        for fill in 0..20 {
            let account = public(KeyPairType::Account, fill);
            let operator = public(KeyPairType::Operator, fill);
            assert_eq!(
                AccountKey::parse(&account).unwrap().to_string(),
                account,
                "{fill}"
            );
            assert!(is_account_key(&account) && !is_account_key(&operator));
            assert!(is_operator_key(&operator) && !is_operator_key(&account));
            for kind in [KeyPairType::User, KeyPairType::Server, KeyPairType::Module] {
                let other = public(kind, fill);
                assert!(!is_account_key(&other) && !is_operator_key(&other));
            }
        }
        let account = public(KeyPairType::Account, 7);
        let typo = format!("{}B", &account[..55]);
        let typo = if typo == account {
            format!("{}C", &account[..55])
        } else {
            typo
        };
        for bad in [
            "",
            "A",
            typo.as_str(),
            &account[..55],
            &account.to_lowercase(),
        ] {
            assert!(!is_account_key(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in ".{0,60}", base32 in "[AO][A-Z2-7]{55}") {
            for text in [text.as_str(), base32.as_str()] {
                let _ = is_operator_key(text);
                if let Some(key) = AccountKey::parse(text) {
                    prop_assert_eq!(key.to_string(), text);
                }
            }
        }

        #[test]
        fn every_key_has_a_text(bytes: [u8; 32]) {
            let key = AccountKey::from_bytes(bytes);
            prop_assert_eq!(AccountKey::parse(&key.to_string()), Some(key));
        }
    }
}
