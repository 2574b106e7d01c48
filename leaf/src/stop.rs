//! How a server ends: what whoever runs it asks for by signals or by a [`Stopper`].

use petiole_net::signal::Signal;
use smol::channel::Sender;
use smol::stream::{Stream, StreamExt as _};

/// How a server comes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// At once.
    Stop,
    /// At once, unless it is a lame duck already.
    Terminate,
    /// After its clients have been closed one by one.
    LameDuck,
    /// They have been.
    LameDuckDone,
}

/// Stops a running server from wherever it is called.
#[derive(Clone, Debug)]
pub struct Stopper(Sender<End>);

impl Stopper {
    /// Of the server that receives what is sent there.
    pub fn new(ends: Sender<End>) -> Self {
        Stopper(ends)
    }

    /// The server says goodbye to its peers and ends; this does not wait for it. Without effect on
    /// one that has ended.
    pub fn stop(&self) {
        // The queue has no bound.
        let _ = self.0.try_send(End::Stop);
    }
}

/// Passes on what signals ask for.
pub async fn obey(
    mut signals: impl Stream<Item = Signal> + Unpin,
    on_reopen: Option<Box<dyn Fn()>>,
    ends: Sender<End>,
) {
    while let Some(signal) = signals.next().await {
        let end = match signal {
            Signal::Interrupt | Signal::Quit => End::Stop,
            Signal::Terminate => End::Terminate,
            Signal::LameDuck => End::LameDuck,
            Signal::Reopen => {
                if let Some(reopen) = &on_reopen {
                    reopen();
                }
                continue;
            }
            Signal::Reload => {
                log::warn!(
                    "Trapped {:?} signal: reload is not served by this version; restart instead",
                    signal.name()
                );
                continue;
            }
        };
        log::info!("Trapped {:?} signal", signal.name());
        let _ = ends.send(end).await;
    }
}
