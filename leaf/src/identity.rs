//! How this server proves itself to a hub: a credentials file, a seed, or a signer of the embedding
//! program.

use std::borrow::Cow;

use data_encoding::BASE64URL_NOPAD;
use petiole_core::auth::nkey;
use petiole_core::config::model::{Remote, Secret};
use petiole_core::link::leaf::Signed;
use petiole_net::clock::unix_now;

use crate::credentials::{self, Validity, Watched};

/// What a [`Signer`] answers.
#[derive(Clone, Debug)]
pub struct Signature {
    /// The user JWT.
    pub jwt: String,
    /// The Ed25519 signature over the nonce: 64 raw bytes.
    pub signature: Vec<u8>,
}

/// Keys that never touch the file system: called with the hub's nonce at each attempt to join it,
/// for remotes without `credentials` and `nkey`.
///
/// It is called on the server's own thread: answer within milliseconds.
pub trait Signer {
    /// Signs `nonce`, exactly as given, for the hub of `remote`. The error is logged and the link
    /// tried again later.
    fn sign(&self, remote: &Remote, nonce: &[u8]) -> Result<Signature, String>;
}

/// What to put in CONNECT. Files are read anew each time, so that a new one is used at once;
/// `watched` is told.
pub(crate) fn prove(
    remote: &Remote,
    watched: Option<&mut Watched>,
    signer: Option<&dyn Signer>,
    nonce: &[u8],
) -> Result<Signed, Cow<'static, str>> {
    if let Some(path) = &remote.credentials {
        let creds = credentials::read(path)?;
        let sig = creds
            .sign(nonce)
            .map_err(|error| format!("credentials file {path}: {error}"))?;
        if let Some(watched) = watched {
            watched.use_now(&creds);
        }
        let validity = Validity::of(&creds.jwt);
        return Ok(Signed {
            jwt: Some(Secret::new(creds.jwt)),
            nkey: None,
            sig: Some(Secret::new(sig)),
            refused: Some(credentials::refused(path, validity, unix_now())),
            expired: Some(credentials::expired(path, validity)),
        });
    }
    if let Some(seed) = &remote.nkey {
        let sig = nkey::sign(seed.reveal(), nonce).map_err(|error| format!("nkey: {error}"))?;
        let key = nkey::public_key(seed.reveal()).map_err(|error| format!("nkey: {error}"))?;
        return Ok(Signed {
            jwt: None,
            nkey: Some(key),
            sig: Some(Secret::new(sig)),
            ..Signed::default()
        });
    }
    if let Some(signer) = signer {
        let answer = signer
            .sign(remote, nonce)
            .map_err(|error| format!("signer: {error}"))?;
        let sig = BASE64URL_NOPAD.encode(&answer.signature);
        return Ok(Signed {
            jwt: Some(Secret::new(answer.jwt)),
            nkey: None,
            sig: Some(Secret::new(sig)),
            ..Signed::default()
        });
    }
    Ok(Signed::default())
}

impl<S: Signer + ?Sized> Signer for Box<S> {
    fn sign(&self, remote: &Remote, nonce: &[u8]) -> Result<Signature, String> {
        (**self).sign(remote, nonce)
    }
}
