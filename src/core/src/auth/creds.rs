//! Credentials files, as `nsc generate creds` writes them: a user JWT and the seed of its key.
//!
//! Reads text, opens no file: the caller reads the file again at every attempt to connect.

use std::fmt;

use super::nkey::{self, NkeyError};
use crate::config::model::Secret;

/// The content of a credentials file. `Debug` shows neither part (a bearer JWT is a secret too).
#[derive(Clone, PartialEq, Eq)]
pub struct Creds {
    /// The user JWT, sent as `jwt`.
    pub jwt: String,
    /// The seed of the JWT's subject, `SU...`; it never leaves the process.
    pub seed: Secret,
}

/// Why a text is not a credentials file. Carries none of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CredsError {
    /// There is no block at all.
    NoBlocks,
    /// There is one block only.
    OneBlock,
    /// The first block is no JWT.
    NotAJwt,
    /// The second block is no user seed.
    NotAUserSeed,
}

impl fmt::Display for CredsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CredsError::NoBlocks => {
                "no credentials in this file: expected a `-----BEGIN NATS USER JWT-----` block and a \
                 `-----BEGIN USER NKEY SEED-----` block, each with its value on one line; \
                 write it anew with `nsc generate creds`"
            }
            CredsError::OneBlock => {
                "only one block in this credentials file: expected the user JWT and, after it, the \
                 `-----BEGIN USER NKEY SEED-----` block, each with its value on one line; \
                 write it anew with `nsc generate creds`"
            }
            CredsError::NotAJwt => {
                "the first block of this credentials file is not a JWT (three parts joined by dots): \
                 the JWT comes first, the seed second; write it anew with `nsc generate creds`"
            }
            CredsError::NotAUserSeed => {
                "the second block of this credentials file is not a user nkey seed (`SU` and 56 \
                 more characters): copy the seed again, or write the file anew with \
                 `nsc generate creds`"
            }
        })
    }
}

impl std::error::Error for CredsError {}

impl Creds {
    /// Reads the two blocks; whatever stands around them is ignored.
    pub fn parse(text: &str) -> Result<Creds, CredsError> {
        let mut blocks = Blocks(text.lines());
        let jwt = blocks.next().ok_or(CredsError::NoBlocks)?;
        let seed = blocks.next().ok_or(CredsError::OneBlock)?;
        if jwt.split('.').filter(|part| !part.is_empty()).count() != 3
            || jwt.split('.').count() != 3
        {
            return Err(CredsError::NotAJwt);
        }
        nkey::public_key(seed).map_err(|_| CredsError::NotAUserSeed)?;
        Ok(Creds {
            jwt: jwt.to_owned(),
            seed: Secret::new(seed),
        })
    }

    /// The `sig` of CONNECT for the nonce of INFO.
    pub fn sign(&self, nonce: &[u8]) -> Result<String, NkeyError> {
        nkey::sign(self.seed.reveal(), nonce)
    }
}

impl fmt::Debug for Creds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Creds([REDACTED])")
    }
}

/// The values of the blocks: a line between two delimiter lines. Blank lines do not count.
struct Blocks<'a>(std::str::Lines<'a>);

impl<'a> Iterator for Blocks<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let mut opened = false;
        let mut value = None;
        for line in &mut self.0 {
            // Also takes the CR of files that went through Windows.
            let line = line.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
            if line.is_empty() {
                continue;
            }
            if is_delimiter(line) {
                if value.is_some() {
                    return value;
                }
                // Without a value in between, what looked like an opening line was something else.
                opened = true;
            } else if opened && value.is_none() && is_value(line) {
                value = Some(line);
            } else {
                opened = false;
                value = None;
            }
        }
        None
    }
}

fn is_delimiter(line: &str) -> bool {
    line.len() >= 6 && line.starts_with("---") && line.ends_with("---")
}

fn is_value(line: &str) -> bool {
    line.bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'=' | b'-'))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use nkeys::{KeyPair, KeyPairType};
    use proptest::prelude::*;

    use super::*;

    const JWT: &str = "eyJ0eXAiOiJKV1QifQ.eyJqdGkiOiJYIn0.c2ln-_";

    fn seed(kind: KeyPairType) -> String {
        KeyPair::new_from_raw(kind, [3; 32])
            .unwrap()
            .seed()
            .unwrap()
    }

    fn file(jwt: &str, seed: &str) -> String {
        format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             ************************* IMPORTANT *************************\n\
             NKEY Seed printed below can be used to sign and prove identity.\n\
             NKEYs are sensitive and should be treated as secrets.\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n\n\
             *************************************************************\n"
        )
    }

    #[test]
    fn reads_what_nsc_writes_with_either_line_end() {
        let seed = seed(KeyPairType::User);
        let unix = file(JWT, &seed);
        let crlf = unix.replace('\n', "\r\n");
        let noisy = format!("\u{feff}# a note\nkey: value\n{unix}\ntrailing --- text\n");
        let terse = format!("---a---\n{JWT}\n---b---\n---c---\n  {seed}  \n---");
        // A word on its own before an opening line is no value.
        let words = unix.replace("-----BEGIN", "word\n-----BEGIN");
        for text in [&unix, &crlf, &noisy, &words] {
            let creds = Creds::parse(text).unwrap();
            assert_eq!(creds.jwt, JWT);
            assert_eq!(creds.seed.reveal(), seed);
            let key = nkey::public_key(&seed).unwrap();
            let sig = creds.sign(b"nonce").unwrap();
            assert_eq!(nkey::verify(&key, b"nonce", &sig), Ok(()));
            let debug = format!("{creds:?}");
            assert!(!debug.contains(&seed) && !debug.contains(JWT));
        }
        // The last delimiter has too few dashes.
        assert_eq!(Creds::parse(&terse), Err(CredsError::OneBlock));
        assert!(Creds::parse(&format!("{terse}---")).is_ok());
    }

    #[test]
    fn malformed_files_say_what_to_do() {
        let user = seed(KeyPairType::User);
        let jwt_only = format!("-----BEGIN X-----\n{JWT}\n-----END X-----\n");
        let wrapped = file("eyJ0\neXAi.a.b", &user);
        let rows = [
            (String::new(), CredsError::NoBlocks),
            (JWT.to_owned(), CredsError::NoBlocks),
            (jwt_only, CredsError::OneBlock),
            (wrapped, CredsError::OneBlock),
            (file("a b c", &user), CredsError::OneBlock),
            (file(&user, JWT), CredsError::NotAJwt),
            (file("a..b", &user), CredsError::NotAJwt),
            (file("a.b.c.", &user), CredsError::NotAJwt),
            (file(JWT, "SUAAAA"), CredsError::NotAUserSeed),
            (
                file(JWT, &seed(KeyPairType::Account)),
                CredsError::NotAUserSeed,
            ),
        ];
        for (text, error) in rows {
            assert_eq!(Creds::parse(&text), Err(error), "{text}");
            let shown = error.to_string();
            assert!(shown.contains("nsc generate creds"));
            assert!(!shown.contains(&user));
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,200}") {
            let _ = Creds::parse(&text);
        }

        #[test]
        fn never_panics_on_pieces(
            pieces in prop::collection::vec(
                prop::sample::select(vec![
                    "---", "------", "-----BEGIN X-----", "\n", "\r\n", "\r", " ", "a.b.c", ".",
                    "SUAAAA", "é", "\u{feff}", JWT,
                ]),
                0..40,
            )
        ) {
            let _ = Creds::parse(&pieces.concat());
        }
    }
}
