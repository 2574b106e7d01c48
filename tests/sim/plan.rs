//! What a world consists of: servers of ours and simulated hubs, accounts, links and imports.

use std::time::Duration;

use petiole_core::config::model::{Config, Limits};
use petiole_core::config::{Loader, load};
use petiole_core::random::Random;

use crate::model::{Import, Kind, Link, Model, Place};

/// What a server of ours runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A gateway, which accepts no leafs.
    Gateway,
    /// A hub of so many threads.
    Hub(usize),
}

/// The servers of ours come first, the simulated hubs behind them.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) accounts: &'static [&'static str],
    pub(crate) servers: Vec<Role>,
    /// How many of them are simulated.
    pub(crate) hubs: usize,
    pub(crate) model: Model,
    /// Links that make up a ring, by their numbers: one of them is too many.
    pub(crate) ring: Vec<usize>,
    pub(crate) clients: Vec<Place>,
    /// What clients speak of.
    pub(crate) subjects: &'static [&'static str],
    /// What else they subscribe to.
    pub(crate) patterns: &'static [&'static str],
}

const ONE_ACCOUNT: &[&str] = &["$G"];
const ACCOUNTS: &[&str] = &["A", "B", "C"];

/// A configuration in memory.
struct Text<'a>(&'a str);

impl Loader for Text<'_> {
    fn read(&self, _: &str) -> Result<String, String> {
        Ok(self.0.into())
    }

    fn env(&self, _: &str) -> Option<String> {
        None
    }
}

fn below(rng: &mut Random, count: usize) -> usize {
    rng.below(count as u64) as usize
}

impl Plan {
    fn of(accounts: &'static [&'static str], rng: &mut Random, servers: usize) -> Plan {
        Plan {
            accounts,
            servers: (0..servers).map(|_| Role::Hub(1 + below(rng, 3))).collect(),
            hubs: 0,
            model: Model::default(),
            ring: Vec::new(),
            clients: Vec::new(),
            subjects: &["a", "b", "a.b", "a.c", "b.c", "a.b.c", "c.b.a"],
            patterns: &["a.*", "*.b", "a.>", "*.*", "*", ">", "a.b.*", "*.b.>"],
        }
    }

    /// Gateways below one simulated hub; the first of them may know another one, too.
    pub(crate) fn gateways(rng: &mut Random) -> Plan {
        let leafs = 1 + below(rng, 3);
        let mut plan = Plan::of(ONE_ACCOUNT, rng, leafs);
        plan.hubs = 1 + below(rng, 2);
        for leaf in 0..leafs {
            // Anything else would be a loop.
            for hub in 0..if leaf == 0 { plan.hubs } else { 1 } {
                plan.join(place(leaf, 0), place(leafs + hub, 0));
            }
        }
        plan.settle_clients(rng, 2 + 5, leafs)
    }

    /// Servers that dial each other in one account or several, of which each makes a tree: leafs of leafs,
    /// daisy chains, leafs with two hubs above them, in the same account or not.
    pub(crate) fn trees(rng: &mut Random) -> Plan {
        let servers = 2 + below(rng, 5);
        let accounts = [ONE_ACCOUNT, &ACCOUNTS[..2]][below(rng, 2)];
        let mut plan = Plan::of(accounts, rng, servers);
        let is_chain = rng.below(3) == 0;
        let mut joined: Vec<Place> = Vec::new();
        for server in 0..servers {
            for account in 0..accounts.len() {
                let new = place(server, account);
                // Where two links of the same server meet, they count as one cluster's.
                let met = |other: &&Place| {
                    other.server != server
                        && !plan.model.links.iter().any(|link| {
                            let ends = [link.below, link.above];
                            ends.contains(other) && ends.iter().any(|end| end.server == server)
                        })
                };
                let free: Vec<Place> = joined.iter().filter(met).copied().collect();
                joined.push(new);
                let last = free
                    .len()
                    .saturating_sub(if is_chain { 1 } else { free.len() });
                if free.is_empty() || account > 0 && rng.below(4) == 0 {
                    continue;
                }
                let other = free[last + below(rng, free.len() - last)];
                if rng.below(4) == 0 {
                    plan.join(other, new);
                } else {
                    plan.join(new, other);
                }
            }
        }
        plan.settle_clients(rng, 4 + 6, servers)
    }

    /// Servers with accounts that share, and links between any two accounts.
    pub(crate) fn sharing(rng: &mut Random) -> Plan {
        let servers = 1 + below(rng, 3);
        let mut plan = Plan::of(ACCOUNTS, rng, servers);
        plan.subjects = &[
            "s.a", "s.b", "q.a", "q.b", "x.a", "x.b", "y.a", "y.b", "p.a", "x",
        ];
        plan.patterns = &["s.*", "q.*", "x.*", "y.*", "x.>", "*.a", "*.*", ">", "p.*"];
        for server in 0..servers {
            plan.model.imports.extend(imports(rng, server));
            if server > 0 {
                let (one, other) = (below(rng, ACCOUNTS.len()), below(rng, ACCOUNTS.len()));
                let (new, other) = (place(server, one), place(below(rng, server), other));
                if rng.below(4) == 0 {
                    plan.join(other, new);
                } else {
                    plan.join(new, other);
                }
            }
        }
        // Where something is shared, or comes from afar.
        let imports = plan.model.imports.iter();
        let mut places: Vec<Place> = imports.flat_map(Import::ends).collect();
        places.extend(plan.model.links.iter().flat_map(Link::ends));
        for _ in 0..3 + below(rng, 6) {
            let at = below(rng, places.len());
            plan.clients.extend(places.get(at));
        }
        plan.settle_roles(rng)
    }

    /// Servers that dial each other in a ring, one of them perhaps itself, and others that hang on them.
    pub(crate) fn rings(rng: &mut Random) -> Plan {
        let (ring, others) = (1 + below(rng, 4), below(rng, 3));
        let mut plan = Plan::of(ONE_ACCOUNT, rng, ring + others);
        for server in 0..ring {
            plan.join(place(server, 0), place((server + 1) % ring, 0));
        }
        plan.ring = (0..ring).collect();
        for server in ring..ring + others {
            let (new, other) = (place(server, 0), place(below(rng, server), 0));
            if rng.below(2) == 0 {
                plan.join(other, new);
            } else {
                plan.join(new, other);
            }
        }
        plan.settle_clients(rng, 4 + 4, ring + others)
    }

    fn join(&mut self, below: Place, above: Place) {
        self.model.links.push(Link { below, above });
    }

    /// Up to so many clients at these servers, and the rest.
    fn settle_clients(mut self, rng: &mut Random, most: usize, servers: usize) -> Plan {
        for _ in 0..2 + below(rng, most - 1) {
            let account = below(rng, self.accounts.len());
            self.clients.push(place(below(rng, servers), account));
        }
        self.settle_roles(rng)
    }

    /// Who is dialled by nobody may be a gateway.
    fn settle_roles(mut self, rng: &mut Random) -> Plan {
        for server in 0..self.servers.len() {
            let mut links = self.model.links.iter();
            let accepts = links.any(|link| link.above.server == server);
            if !accepts && (self.hubs > 0 || rng.below(2) == 0) {
                self.servers[server] = Role::Gateway;
            }
        }
        self
    }

    /// The links that a server dials, in the order of its remotes.
    pub(crate) fn remotes(&self, server: usize) -> Vec<usize> {
        let links = self.model.links.iter().enumerate();
        let own = links.filter(|(_, link)| link.below.server == server);
        own.map(|(number, _)| number).collect()
    }

    /// The user of an account, where users are asked for.
    pub(crate) fn user(&self, account: usize) -> Option<&'static str> {
        let has_users = self.accounts.len() > 1;
        self.accounts.get(account).copied().filter(|_| has_users)
    }

    pub(crate) fn config(&self, server: usize, limits: &Limits) -> Config {
        let mut text = String::new();
        if self.accounts.len() > 1 {
            text += &self.model.accounts(server, self.accounts);
        }
        let remotes = self.remotes(server).into_iter().map(|number| {
            let link = self.model.links[number];
            let user = self.user(link.above.account);
            let user = user.map_or(String::new(), |user| format!("{user}:p@"));
            let account = self.accounts[link.below.account];
            let url = format!("nats-leaf://{user}s{}:7422", link.above.server);
            format!("{{url: \"{url}\", account: \"{account}\"}}\n")
        });
        text += &format!(
            "leafnodes {{ remotes: [\n{}] }}\n",
            remotes.collect::<String>()
        );
        let loaded = load("c", &Text(&text));
        let loaded = loaded.unwrap_or_else(|error| panic!("{error:?} in {text}"));
        Config {
            limits: limits.clone(),
            server_name: Some(name(server)),
            ..loaded.config
        }
    }
}

/// How a server is called.
pub(crate) fn name(server: usize) -> String {
    format!("s{server}")
}

pub(crate) fn place(server: usize, account: usize) -> Place {
    Place { server, account }
}

/// Imports of some accounts from others further on, so that nothing comes back.
fn imports(rng: &mut Random, server: usize) -> Vec<Import> {
    let mut all: Vec<Import> = Vec::new();
    let tries = 3 + below(rng, 6);
    let mut tried = 0;
    while tried < tries || all.is_empty() {
        tried += 1;
        let (one, other) = (below(rng, ACCOUNTS.len()), below(rng, ACCOUNTS.len()));
        let import = Import {
            server,
            importer: one.min(other),
            exporter: one.max(other),
            kind: [Kind::Stream, Kind::Service][below(rng, 2)],
            local: ["s", "q", "x", "y"][below(rng, 4)],
        };
        // The same twice is refused when it is read.
        let same = |other: &Import| {
            (other.importer, other.exporter, other.kind)
                == (import.importer, import.exporter, import.kind)
                && (import.kind == Kind::Stream || other.local == import.local)
        };
        if import.importer != import.exporter && !all.iter().any(same) {
            all.push(import);
        }
    }
    all
}

/// What all servers of a world keep to.
pub(crate) fn limits(rng: &mut Random) -> Limits {
    Limits {
        ping_interval: Duration::from_secs(2 + rng.below(8)),
        write_deadline: Duration::from_secs(2 + rng.below(8)),
        max_payload: 32 << 10,
        max_pending: 64 << (10 + rng.below(3)),
        no_fast_producer_stall: rng.below(4) == 0,
        ..Limits::default()
    }
}
