//! Signals of the operating system as a stream on the reactor.
//!
//! PIPE is not among them: Rust's runtime ignores it, so a closed socket is an error of `write`.

use std::io;

use smol::stream::{Stream, StreamExt};

/// What somebody outside asks of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// INT: stop.
    Interrupt,
    /// TERM: stop, but not while a lame duck is on its way out.
    Terminate,
    /// QUIT: stop at once and say where things stand.
    Quit,
    /// HUP: read the configuration again.
    Reload,
    /// USR1: open the log file again.
    Reopen,
    /// USR2: let the clients go one by one, then stop.
    LameDuck,
}

impl Signal {
    /// The name in `Trapped "..." signal`.
    pub fn name(self) -> &'static str {
        match self {
            Signal::Interrupt => "interrupt",
            Signal::Terminate => "terminated",
            Signal::Quit => "quit",
            Signal::Reload => "hangup",
            Signal::Reopen => "user defined signal 1",
            Signal::LameDuck => "user defined signal 2",
        }
    }
}

/// Takes over every signal of [`Signal`]: from here on none of them ends the process by itself,
/// also after the stream is dropped. The stream ends only when the system fails it.
#[cfg(unix)]
pub fn signals() -> io::Result<impl Stream<Item = Signal> + Send + Unpin> {
    use async_signal::{Signal as Unix, Signals};

    let signals = Signals::new([
        Unix::Int,
        Unix::Term,
        Unix::Quit,
        Unix::Hup,
        Unix::Usr1,
        Unix::Usr2,
    ])?;
    Ok(mapped(signals, |signal| match signal {
        Unix::Int => Some(Signal::Interrupt),
        Unix::Term => Some(Signal::Terminate),
        Unix::Quit => Some(Signal::Quit),
        Unix::Hup => Some(Signal::Reload),
        Unix::Usr1 => Some(Signal::Reopen),
        Unix::Usr2 => Some(Signal::LameDuck),
        _ => None,
    }))
}

/// Takes over the one signal there is here: an interrupt from the console.
#[cfg(not(unix))]
pub fn signals() -> io::Result<impl Stream<Item = Signal> + Send + Unpin> {
    use async_signal::{Signal as Console, Signals};

    Ok(mapped(Signals::new([Console::Int])?, |signal| {
        (signal == Console::Int).then_some(Signal::Interrupt)
    }))
}

/// An error ends the stream: the pipe below would give the same one forever.
fn mapped(
    signals: async_signal::Signals,
    name: impl Fn(async_signal::Signal) -> Option<Signal> + Send + Unpin,
) -> impl Stream<Item = Signal> + Send + Unpin {
    signals
        .map_while(|signal| {
            signal
                .inspect_err(|error| log::error!("Signals can no longer be received: {error}"))
                .ok()
        })
        .filter_map(name)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use rustix::process::{Signal as Kill, getpid, kill_process};

    #[test]
    fn each_signal_has_its_name() {
        smol::block_on(async {
            let mut stream = signals().unwrap();
            for (kill, want, name) in [
                (Kill::INT, Signal::Interrupt, "interrupt"),
                (Kill::TERM, Signal::Terminate, "terminated"),
                (Kill::QUIT, Signal::Quit, "quit"),
                (Kill::HUP, Signal::Reload, "hangup"),
                (Kill::USR1, Signal::Reopen, "user defined signal 1"),
                (Kill::USR2, Signal::LameDuck, "user defined signal 2"),
            ] {
                kill_process(getpid(), kill).unwrap();
                let got = stream.next().await;
                assert_eq!(got, Some(want));
                assert_eq!(want.name(), name);
            }
        });
    }
}
