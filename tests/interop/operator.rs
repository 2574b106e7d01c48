//! Operator mode: what `nsc` sets up works with petiole and real servers as hub and as leaf, and petiole
//! beside a real server says and does the same when JWTs come, change and end.

mod kills;
mod live;
mod logins;
mod requests;
mod sharing;
mod topology;

use serde_json::Value;

use crate::common::request;
use crate::support::{
    Client, Credentials, Draft, Msg, Operator, Server, Target, account_key, newest, servers,
};

/// petiole, and the real servers whose operator mode it follows.
fn targets() -> Vec<Target> {
    let real = servers().iter().filter(|real| real.version >= (2, 10, 0));
    let real = real.cloned().map(Target::Real);
    std::iter::once(Target::Petiole).chain(real).collect()
}

/// petiole, and the newest real server.
fn pair() -> Vec<Target> {
    let real = newest().cloned().map(Target::Real);
    std::iter::once(Target::Petiole).chain(real).collect()
}

/// The configuration of a server, with what an operator adds.
fn hub_config(more: &str) -> String {
    format!(
        "host: \"127.0.0.1\"\nport: {{port}}\nserver_name: HUB\n\
         leafnodes {{ host: \"127.0.0.1\", port: {{port:leaf}} }}\n{more}\n"
    )
}

/// A server of an operator, and somebody who may ask it as `nsc` does.
struct Hub {
    server: Server,
    operator: Operator,
    nsc: Client,
}

impl Hub {
    /// As `nsc generate config --nats-resolver` sets it up.
    fn new(target: &Target) -> Self {
        let operator = Operator::new("O");
        let config = hub_config(&format!("debug: true\n{}", operator.generated()));
        Self::with(target, &config, operator)
    }

    fn with(target: &Target, config: &str, operator: Operator) -> Self {
        let server = Server::start(target, config);
        let nsc = operator.pusher().login(server.port());
        Self {
            server,
            operator,
            nsc,
        }
    }

    fn port(&self) -> u16 {
        self.server.port()
    }

    /// What a request of claims is answered.
    fn ask(&mut self, what: &str, body: &str) -> Value {
        let subject = format!("$SYS.REQ.CLAIMS.{what}");
        json(&request(&mut self.nsc, &subject, body))
    }

    /// As `nsc push` does it.
    fn push(&mut self, jwt: &str) {
        let answer = self.ask("UPDATE", jwt);
        assert_eq!(answer["data"]["message"], "jwt updated", "{answer}");
        assert!(answer["server"]["name"].is_string(), "{answer}");
        assert!(answer.get("error").is_none(), "{answer}");
    }

    /// Signs an account's JWT and pushes it.
    fn push_account(&mut self, draft: &Draft) {
        let jwt = self.operator.sign(draft);
        self.push(&jwt);
    }

    /// A user of the system account that hears this.
    fn watch(&self, subject: &str) -> Client {
        let mut client = self.operator.system_user().login(self.port());
        // Others may end while it begins to listen.
        client.send(format!("SUB {subject} 1\r\nPING\r\n"));
        while client.op() != Some(crate::support::Op::Pong) {}
        client
    }
}

fn json(msg: &Msg) -> Value {
    serde_json::from_slice(&msg.payload).unwrap_or_else(|e| panic!("{e}: {}", msg.text()))
}

/// The user of an account whose key it is.
fn user(name: &str, account: &str) -> Credentials {
    let account = account_key(account);
    Credentials::new(name, &account, &account)
}
