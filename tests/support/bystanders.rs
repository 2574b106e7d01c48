//! Clients that have nothing to do with what is tried.

use super::{Client, Server};

/// Two clients that have nothing to do with what goes on, and must not notice it.
pub struct Bystanders {
    pub from: Client,
    to: Client,
    rounds: u32,
}

impl Bystanders {
    /// Of a server, each with these further members of CONNECT.
    pub fn of(server: &Server, options: &str) -> Self {
        let connect = || match options {
            "" => Client::quiet(server.port()),
            more => Client::quiet_and(server.port(), more),
        };
        let (from, mut to) = (connect(), connect());
        to.tell("SUB bystander 1\r\n");
        Self {
            from,
            to,
            rounds: 0,
        }
    }

    /// A message of one reaches the other.
    #[track_caller]
    pub fn go_on(&mut self) {
        self.rounds += 1;
        let text = self.rounds.to_string();
        self.from
            .tell(format!("PUB bystander {}\r\n{text}\r\n", text.len()));
        assert_eq!(self.to.expect_msg().text(), text);
    }
}
