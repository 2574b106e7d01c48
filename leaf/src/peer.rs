//! The two kinds of neighbour a gateway has.

use std::time::Duration;

use petiole_core::link::client::Client;
use petiole_core::link::leaf::Leaf;
use petiole_core::link::{
    Action, Cx, Encoding, Env, Neighbour, Offer, Outlet, Proof, Secured, Standing, Target,
};
use petiole_core::message::Message;
use petiole_core::time::Instant;
use petiole_core::wire::Op;
use petiole_core::wire::error::ProtoError;
use petiole_core::wire::parse::Parsed;

/// Who is at the other end of a link of a gateway.
#[derive(Debug)]
pub enum Peer {
    /// A local client.
    Client(Client),
    /// A hub we dialled.
    Hub(Box<Leaf>),
}

/// Asks whichever it is.
macro_rules! ask {
    ($peer:expr, $one:ident => $call:expr) => {
        match $peer {
            Peer::Client($one) => $call,
            Peer::Hub($one) => $call,
        }
    };
}

impl Neighbour for Peer {
    fn handle_open(&mut self, cx: &mut Cx<'_>) -> Result<Action<'static>, ProtoError> {
        ask!(self, one => one.handle_open(cx))
    }

    #[inline]
    fn parse<'a>(&self, buf: &'a [u8], env: &Env) -> Result<Parsed<'a>, ProtoError> {
        ask!(self, one => one.parse(buf, env))
    }

    #[inline]
    fn handle<'a>(&mut self, op: Op<'a>, cx: &mut Cx<'_>) -> Result<Action<'a>, ProtoError> {
        ask!(self, one => one.handle(op, cx))
    }

    fn handle_timeout(&mut self, cx: &mut Cx<'_>) -> Result<(), ProtoError> {
        ask!(self, one => one.handle_timeout(cx))
    }

    fn excuse(&mut self) {
        ask!(self, one => one.excuse());
    }

    fn poll_timeout(&self) -> Instant {
        ask!(self, one => one.poll_timeout())
    }

    fn handle_proof(
        &mut self,
        proof: Proof,
        cx: &mut Cx<'_>,
    ) -> Result<Action<'static>, ProtoError> {
        ask!(self, one => one.handle_proof(proof, cx))
    }

    fn handle_upgraded(
        &mut self,
        secured: Secured,
        cx: &mut Cx<'_>,
    ) -> Result<Action<'static>, ProtoError> {
        ask!(self, one => one.handle_upgraded(secured, cx))
    }

    fn handle_sign_of_life(&mut self) {
        ask!(self, one => one.handle_sign_of_life());
    }

    #[inline]
    fn encoding(&self) -> Encoding {
        ask!(self, one => one.encoding())
    }

    #[inline]
    fn max_queue_time(&self) -> Option<Duration> {
        ask!(self, one => one.max_queue_time())
    }

    fn label(&self) -> String {
        ask!(self, one => one.label())
    }

    #[inline]
    fn standing(&self) -> Standing {
        ask!(self, one => one.standing())
    }

    #[inline]
    fn may_hear(&self, subject: &[u8], queue: Option<&[u8]>) -> bool {
        ask!(self, one => one.may_hear(subject, queue))
    }

    #[inline]
    fn deliver(&mut self, message: &Message<'_>, to: Target<'_>, outlet: &mut Outlet<'_>) -> bool {
        ask!(self, one => one.deliver(message, to, outlet))
    }

    fn offer(&mut self, offer: &Offer<'_>, outlet: &mut Outlet<'_>) {
        ask!(self, one => one.offer(offer, outlet));
    }

    fn announce_lame_duck(&mut self, cx: &mut Cx<'_>) {
        ask!(self, one => one.announce_lame_duck(cx));
    }

    fn note_end(&mut self, cause: &str) {
        ask!(self, one => one.note_end(cause));
    }
}
