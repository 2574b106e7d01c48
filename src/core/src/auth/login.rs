//! How a listener judges a CONNECT: by what it says, or by the certificate of who sends it. Says in
//! the log what that came to.

use std::fmt::Display;
use std::net::IpAddr;

use super::certificate::Certificate;
use super::jwt::Refusal;
use super::users::{AuthError, Check, Claim, JwtCheck, Outcome, Users};
use crate::config::model::{ConnectionType, Secret};
use crate::wire::error::ProtoError;

/// What is known of a connection besides its CONNECT.
#[derive(Clone, Copy)]
pub(crate) struct Login<'a> {
    /// What INFO gave it to sign; empty if nothing.
    pub(crate) nonce: &'a str,
    /// Where it comes from.
    pub(crate) address: IpAddr,
    /// How it connected.
    pub(crate) kind: ConnectionType,
    /// What says who it is.
    pub(crate) named_by: NamedBy<'a>,
}

/// What says which user somebody is.
#[derive(Clone, Copy)]
pub(crate) enum NamedBy<'a> {
    /// CONNECT.
    Connect,
    /// The certificate; `None`: the connection is in clear.
    Certificate(Option<&'a Certificate>),
}

/// Judges a CONNECT. `name` is the connection's in log lines.
pub(crate) fn judge(
    users: &Users,
    claim: &Claim<'_>,
    login: Login<'_>,
    name: impl Display,
) -> Result<Outcome, AuthError> {
    if let Some(jwt) = users.jwt(claim) {
        return Ok(Outcome::Slow(Check::Jwt(JwtCheck {
            jwt: Secret::new(jwt),
            nonce: login.nonce.into(),
            signature: claim.sig.map(Secret::new),
            address: login.address,
            kind: login.kind,
        })));
    }
    let nonce = login.nonce.as_bytes();
    let NamedBy::Certificate(certificate) = login.named_by else {
        return users.check(claim, nonce, login.kind);
    };
    let (judged, notes) = users.check_certificate(claim, nonce, certificate, login.kind);
    if let Some(warning) = notes.warning {
        log::warn!("{name} - {warning}");
    }
    if let Some(debug) = notes.debug {
        log::debug!("{name} - {debug}");
    }
    judged
}

/// What somebody is told who is not let in; why is for the log.
pub(crate) fn turn_away(error: &AuthError, name: impl Display) -> ProtoError {
    log::error!("{name} - {error}");
    match error.refusal() {
        Some(refusal) if refusal.is_error() => log::error!("{name} - {refusal}"),
        _ => log::debug!("{name} - {}", error.reason()),
    }
    if let Some(detail) = error.refusal().and_then(Refusal::detail) {
        log::debug!("{name} - {detail}");
    }
    ProtoError::AuthorizationViolation
}
