//! A role's kinds of neighbour as one type.

/// Defines an enum of neighbours that is a [`Neighbour`](crate::link::Neighbour) itself, by asking
/// whichever it is. A role's own kinds, and no others, are in its program.
///
/// ```
/// use petiole_core::link::{client::Client, leaf::Leaf};
///
/// petiole_core::neighbours! {
///     /// Who is at the other end of a link of a gateway.
///     #[derive(Debug)]
///     pub enum Peer {
///         /// A local client.
///         Client(Client),
///         /// A hub we dialled.
///         Hub(Box<Leaf>),
///     }
/// }
/// ```
///
/// With `with siblings` behind the name one of them is a
/// [`Sibling`](crate::link::sibling::Sibling).
#[macro_export]
macro_rules! neighbours {
    (@siblings) => { false };
    (@siblings with siblings) => { true };
    (
        $(#[$about:meta])*
        $vis:vis enum $peer:ident $(with $word:ident)? {
            $($(#[$doc:meta])* $kind:ident($type:ty),)+
        }
    ) => {
        $(#[$about])*
        $vis enum $peer {
            $($(#[$doc])* $kind($type),)+
        }

        const _: () = {
            use std::sync::Arc;
            use std::time::Duration;
            use $crate::account::perms::Perms;
            use $crate::auth::users::Mandate;
            use $crate::link::{
                Action, Cx, Encoding, Env, Neighbour, Offer, Outlet, Permit, Portrait, Proof,
                Secured, Standing, Target,
            };
            use $crate::message::Message;
            use $crate::time::Instant;
            use $crate::wire::Op;
            use $crate::wire::error::ProtoError;
            use $crate::wire::parse::Parsed;

            macro_rules! ask {
                ($one:ident, $this:expr => $call:expr) => {
                    match $this {
                        $($peer::$kind($one) => $call,)+
                    }
                };
            }

            impl Neighbour for $peer {
                const HAS_SIBLINGS: bool = $crate::neighbours!(@siblings $(with $word)?);

                fn handle_open(&mut self, cx: &mut Cx<'_>) -> Result<Action<'static>, ProtoError> {
                    ask!(one, self => one.handle_open(cx))
                }

                #[inline]
                fn parse<'a>(&self, buf: &'a [u8], env: &Env) -> Result<Parsed<'a>, ProtoError> {
                    ask!(one, self => one.parse(buf, env))
                }

                #[inline]
                fn handle<'a>(
                    &mut self,
                    op: &'a Op<'a>,
                    cx: &mut Cx<'_>,
                ) -> Result<Action<'a>, ProtoError> {
                    ask!(one, self => one.handle(op, cx))
                }

                fn handle_timeout(&mut self, cx: &mut Cx<'_>) -> Result<(), ProtoError> {
                    ask!(one, self => one.handle_timeout(cx))
                }

                fn excuse(&mut self) {
                    ask!(one, self => one.excuse());
                }

                fn poll_timeout(&self) -> Instant {
                    ask!(one, self => one.poll_timeout())
                }

                fn handle_proof(
                    &mut self,
                    proof: Proof,
                    cx: &mut Cx<'_>,
                ) -> Result<Action<'static>, ProtoError> {
                    ask!(one, self => one.handle_proof(proof, cx))
                }

                fn handle_upgraded(
                    &mut self,
                    secured: Secured,
                    cx: &mut Cx<'_>,
                ) -> Result<Action<'static>, ProtoError> {
                    ask!(one, self => one.handle_upgraded(secured, cx))
                }

                fn handle_sign_of_life(&mut self) {
                    ask!(one, self => one.handle_sign_of_life());
                }

                #[inline]
                fn encoding(&self) -> Encoding {
                    ask!(one, self => one.encoding())
                }

                #[inline]
                fn max_queue_time(&self) -> Option<Duration> {
                    ask!(one, self => one.max_queue_time())
                }

                fn write_deadline(&self) -> Option<Duration> {
                    ask!(one, self => one.write_deadline())
                }

                fn label(&self) -> String {
                    ask!(one, self => one.label())
                }

                fn portrait(&self) -> Option<Portrait<'_>> {
                    ask!(one, self => one.portrait())
                }

                #[inline]
                fn standing(&self) -> Standing {
                    ask!(one, self => one.standing())
                }

                fn admit(
                    &mut self,
                    subject: &[u8],
                    cx: &mut Cx<'_>,
                ) -> Result<Permit, ProtoError> {
                    ask!(one, self => one.admit(subject, cx))
                }

                fn mandate(&self) -> Option<&Arc<Mandate>> {
                    ask!(one, self => one.mandate())
                }

                fn adopt(&mut self, mandate: Arc<Mandate>, perms: Option<Arc<Perms>>) {
                    ask!(one, self => one.adopt(mandate, perms));
                }

                fn may_keep(&self, subject: &[u8], queue: Option<&[u8]>) -> Option<bool> {
                    ask!(one, self => one.may_keep(subject, queue))
                }

                fn hears_all(&self) -> bool {
                    ask!(one, self => one.hears_all())
                }

                #[inline]
                fn may_hear(&self, subject: &[u8], queue: Option<&[u8]>) -> bool {
                    ask!(one, self => one.may_hear(subject, queue))
                }

                #[inline]
                fn deliver(
                    &mut self,
                    message: &Message<'_>,
                    to: Target<'_>,
                    outlet: &mut Outlet<'_>,
                ) -> bool {
                    ask!(one, self => one.deliver(message, to, outlet))
                }

                fn offer(&mut self, offer: &Offer<'_>, outlet: &mut Outlet<'_>) {
                    ask!(one, self => one.offer(offer, outlet));
                }

                fn announce_lame_duck(&mut self, cx: &mut Cx<'_>) {
                    ask!(one, self => one.announce_lame_duck(cx));
                }

                fn note_end(&mut self, cause: &str) {
                    ask!(one, self => one.note_end(cause));
                }
            }
        };
    };
}
