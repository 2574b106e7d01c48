//! Credentials files. A file is the text itself.

use petiole_core::auth::creds::Creds;
use petiole_core::auth::nkey;

pub(crate) fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let creds = match Creds::parse(text) {
        Ok(creds) => creds,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    assert_eq!(creds.jwt.split('.').count(), 3);
    assert!(text.contains(&creds.jwt) && text.contains(creds.seed.reveal()));
    let shown = format!("{creds:?}");
    assert!(!shown.contains(&creds.jwt) && !shown.contains(creds.seed.reveal()));

    let key = nkey::public_key(creds.seed.reveal()).expect("a seed that was accepted has a key");
    assert!(nkey::is_user_key(&key));
    let sig = creds
        .sign(b"nonce")
        .expect("a seed that was accepted signs");
    nkey::verify(&key, b"nonce", &sig).expect("and its key verifies");

    let again = format!(
        "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        creds.jwt,
        creds.seed.reveal()
    );
    assert_eq!(Creds::parse(&again), Ok(creds));
}
