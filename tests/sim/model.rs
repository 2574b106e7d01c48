//! Who gets a message, and what each link is told: written from the documents (leaf protocol, interest
//! propagation and message flow; accounts, exports and imports), not from the code.
//!
//! Links and imports together have no cycle.

use std::collections::{BTreeMap, BTreeSet};

/// A subject and a queue group.
pub(crate) type Key = (String, Option<String>);

/// Interest with its weights; 1 for the plain.
pub(crate) type Map = BTreeMap<Key, u32>;

/// An account of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) server: usize,
    pub(crate) account: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Stream,
    Service,
}

/// An import of an account from another of the same server: everybody exports streams on `s.*` and
/// services on `q.*`, and the local pattern has a first token of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Import {
    pub(crate) server: usize,
    pub(crate) importer: usize,
    pub(crate) exporter: usize,
    pub(crate) kind: Kind,
    pub(crate) local: &'static str,
}

/// A leaf link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// The account of the server that dials.
    pub(crate) below: Place,
    pub(crate) above: Place,
}

/// A subscription.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Want<'a> {
    pub(crate) number: u64,
    /// Whose it is, for those who do not want to hear themselves.
    pub(crate) owner: u32,
    pub(crate) place: Place,
    pub(crate) subject: &'a str,
    pub(crate) queue: Option<&'a str>,
}

/// Servers, their accounts and what joins them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) imports: Vec<Import>,
    pub(crate) links: Vec<Link>,
    /// Links that are not there, by their numbers.
    pub(crate) cut: BTreeSet<usize>,
}

/// What a message comes to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// A copy for a subscription outside of any group, under this subject.
    pub(crate) plain: Vec<(u64, String)>,
    /// Copies that there are if a group is served by somebody behind the same link.
    pub(crate) perhaps: Vec<(u64, String)>,
    /// Groups, each with those of whom one gets it.
    pub(crate) groups: Vec<(String, Vec<u64>)>,
}

/// Whether `subject` is matched by `pattern`.
pub(crate) fn matches(pattern: &str, subject: &str) -> bool {
    let (mut pattern, mut subject) = (pattern.split('.'), subject.split('.'));
    loop {
        match (pattern.next(), subject.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some(p), Some(s)) if p == "*" || p == s => {}
            _ => return false,
        }
    }
}

/// Plain interest is there or not, that of queue groups adds up.
pub(crate) fn count(map: &mut Map, key: Key, weight: u32) {
    if key.1.is_none() {
        map.insert(key, 1);
    } else {
        *map.entry(key).or_default() += weight;
    }
}

impl Import {
    fn exported(&self) -> &'static str {
        match self.kind {
            Kind::Stream => "s",
            Kind::Service => "q",
        }
    }

    fn importer(&self) -> Place {
        Place {
            server: self.server,
            account: self.importer,
        }
    }

    fn exporter(&self) -> Place {
        Place {
            server: self.server,
            account: self.exporter,
        }
    }

    /// The accounts that it joins.
    pub(crate) fn ends(&self) -> [Place; 2] {
        [self.importer(), self.exporter()]
    }

    /// A stream's subject in the account that imports.
    fn inward(&self, subject: &str) -> Option<String> {
        let rest = one_behind(self.exported(), subject)?;
        Some(format!("{}.{rest}", self.local))
    }

    /// A request's subject in the account that exports.
    fn outward(&self, subject: &str) -> Option<String> {
        let rest = one_behind(self.local, subject)?;
        Some(format!("{}.{rest}", self.exported()))
    }

    /// What a subscription of the account that imports wants of the other one.
    fn mirrored(&self, pattern: &str) -> Option<String> {
        let exported = self.exported();
        match pattern.split('.').collect::<Vec<_>>()[..] {
            [">"] => Some(format!("{exported}.*")),
            [first, rest] if first == self.local || first == "*" => {
                let rest = if rest == ">" { "*" } else { rest };
                Some(format!("{exported}.{rest}"))
            }
            _ => None,
        }
    }

    /// As the configuration of the account that imports says it.
    fn text(&self, accounts: &[&str]) -> String {
        let kind = match self.kind {
            Kind::Stream => "stream",
            Kind::Service => "service",
        };
        let (from, subject, to) = (accounts[self.exporter], self.exported(), self.local);
        format!("{{{kind}: {{account: {from}, subject: \"{subject}.*\"}}, to: \"{to}.*\"}}\n")
    }
}

/// The only token behind the first one, which is `first`.
fn one_behind<'a>(first: &str, subject: &'a str) -> Option<&'a str> {
    let (head, rest) = subject.split_once('.')?;
    (head == first && !rest.contains('.')).then_some(rest)
}

impl Model {
    /// The accounts of a server in its configuration, each with a user of its name.
    pub(crate) fn accounts(&self, server: usize, accounts: &[&str]) -> String {
        let mut text = String::from("accounts {\n");
        for (number, name) in accounts.iter().enumerate() {
            let own = |import: &&Import| import.server == server && import.importer == number;
            let imports = self.imports.iter().filter(own);
            let imports: String = imports.map(|import| import.text(accounts)).collect();
            text += &format!(
                "{name} {{ users: [{{user: {name}, password: p}}], exports: [{{stream: \"s.*\"}}, \
                 {{service: \"q.*\"}}], imports: [\n{imports}] }}\n"
            );
        }
        text + "}\n"
    }

    fn at(&self, place: Place) -> impl Iterator<Item = (usize, &Link)> {
        let links = self.links.iter().enumerate();
        links.filter(move |(number, link)| {
            !self.cut.contains(number) && (link.below == place || link.above == place)
        })
    }

    /// The streams that others import from an account.
    fn streams(&self, exporter: Place) -> impl Iterator<Item = &Import> {
        let of =
            move |import: &&Import| import.kind == Kind::Stream && import.exporter() == exporter;
        self.imports.iter().filter(of)
    }

    /// The services that an account imports.
    fn services(&self, importer: Place) -> impl Iterator<Item = &Import> {
        let of =
            move |import: &&Import| import.kind == Kind::Service && import.importer() == importer;
        self.imports.iter().filter(of)
    }

    /// What is told over a link by its end at `by`: what is wanted there and, in the hub's role, behind
    /// all other links; in the leaf's role not what is wanted behind links upward. A stream of another
    /// account is wanted by whom the subscription for it comes from.
    pub(crate) fn told(&self, wants: &[Want<'_>], link: usize, by: Place) -> Map {
        let upward = self.links[link].below == by;
        // What an account wants, and what of it travels.
        let of = |account: Place| {
            let mut map = Map::new();
            for want in wants.iter().filter(|want| want.place == account) {
                count(
                    &mut map,
                    (want.subject.to_owned(), want.queue.map(str::to_owned)),
                    1,
                );
            }
            for (other, it) in self.at(account) {
                if other != link && (it.above == account || !upward) {
                    for (key, weight) in self.told(wants, other, it.end_beside(account)) {
                        count(&mut map, key, weight);
                    }
                }
            }
            map
        };
        let mut map = of(by);
        for import in self.streams(by) {
            for ((pattern, queue), weight) in of(import.importer()) {
                if let Some(pattern) = import.mirrored(&pattern) {
                    count(&mut map, (pattern, queue), weight);
                }
            }
        }
        for import in self.services(by) {
            count(&mut map, (format!("{}.*", import.local), None), 1);
        }
        map
    }

    /// The accounts that links join with one end of a link, not by the link itself.
    pub(crate) fn joined(&self, link: usize, end: Place) -> usize {
        let others = self.at(end).filter(|(other, _)| *other != link);
        let beyond = others.map(|(other, it)| self.joined(other, it.end_beside(end)));
        1 + beyond.sum::<usize>()
    }

    /// What a message comes to. `silent`: its publisher, who does not want to hear it itself.
    pub(crate) fn publish(
        &self,
        wants: &[Want<'_>],
        from: Place,
        subject: &str,
        silent: Option<u32>,
    ) -> Outcome {
        let told = self.links.iter().enumerate().map(|(number, link)| {
            link.ends().map(|by| match self.cut.contains(&number) {
                true => Map::new(),
                false => self.told(wants, number, by),
            })
        });
        let journey = Journey {
            model: self,
            wants: wants
                .iter()
                .filter(|want| silent != Some(want.owner))
                .copied()
                .collect(),
            told: told.collect(),
        };
        let mut outcome = Outcome::default();
        journey.begin(from, subject, Certainty::Sure, &mut outcome);
        outcome
    }

    /// Where a message may turn up, whoever wants it: the account, the subject, and how often.
    pub(crate) fn reach(&self, from: Place, subject: &str) -> Reach {
        let mut reach = Reach {
            domains: 1,
            ..Reach::default()
        };
        self.spread(from, None, subject, Way::Direct, &mut reach);
        reach
    }

    fn spread(&self, at: Place, via: Option<usize>, subject: &str, way: Way, reach: &mut Reach) {
        for (account, subject) in self.views(at, subject) {
            // Of a stream nobody waits for an answer.
            let way = if account == at { way } else { way.one_way() };
            let copies = reach.copies.entry((account, subject.clone())).or_default();
            copies.all += 1;
            match way {
                Way::Direct | Way::Streamed => {}
                Way::Asked { answers_at } => {
                    copies.asked += 1;
                    copies.answers_at = Some(answers_at);
                }
                Way::AskedAfar => copies.asked += 1,
            }
            for (number, link) in self.at(account) {
                if via != Some(number) {
                    let way = if way == Way::Direct {
                        way
                    } else {
                        way.one_way()
                    };
                    self.spread(link.end_beside(account), Some(number), &subject, way, reach);
                }
            }
        }
        for import in self.services(at) {
            if let Some(there) = import.outward(subject) {
                reach.domains += 1;
                let way = match way {
                    Way::Direct => Way::Asked { answers_at: at },
                    Way::Streamed => Way::AskedAfar,
                    Way::Asked { .. } | Way::AskedAfar => way,
                };
                self.spread(import.exporter(), None, &there, way, reach);
            }
        }
    }

    /// The account itself, and those that import what is said there: with the subject it has.
    fn views(&self, at: Place, subject: &str) -> Vec<(Place, String)> {
        let streams = self.streams(at);
        let imported =
            streams.filter_map(|import| Some((import.importer(), import.inward(subject)?)));
        std::iter::once((at, subject.to_owned()))
            .chain(imported)
            .collect()
    }
}

/// By what a message came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Links.
    Direct,
    /// Links, then services of one server: answers are published in this account, under the reply that
    /// the requester gave.
    Asked { answers_at: Place },
    /// A service, among others.
    AskedAfar,
    /// Streams and links.
    Streamed,
}

impl Way {
    /// The same with a stream or a link behind it.
    fn one_way(self) -> Way {
        match self {
            Way::Direct | Way::Streamed => Way::Streamed,
            Way::Asked { .. } | Way::AskedAfar => Way::AskedAfar,
        }
    }
}

/// How far a message may come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reach {
    /// Accounts and subjects, and how many copies each subscription there gets.
    pub(crate) copies: BTreeMap<(Place, String), Copies>,
    /// How many times it is published anew: a group may get it each time.
    pub(crate) domains: usize,
}

/// How many copies of a message come to the same subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Copies {
    pub(crate) all: usize,
    /// Those that came through a service.
    pub(crate) asked: usize,
    /// Where answers to it are published, if that is known.
    pub(crate) answers_at: Option<Place>,
}

impl Link {
    pub(crate) fn ends(&self) -> [Place; 2] {
        [self.below, self.above]
    }

    pub(crate) fn end_beside(&self, place: Place) -> Place {
        if self.below == place {
            self.above
        } else {
            self.below
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Certainty {
    Sure,
    /// Only if a group is served by somebody over there.
    Perhaps,
}

struct Journey<'a> {
    model: &'a Model,
    wants: Vec<Want<'a>>,
    /// What each link was told by its lower and its upper end.
    told: Vec<[Map; 2]>,
}

impl Journey<'_> {
    /// Whether the plain interest of the other end of a link covers a subject, and which groups.
    fn asks(&self, link: usize, from: Place, subject: &str) -> (bool, BTreeSet<&str>) {
        let [below, above] = &self.told[link];
        let told = if self.model.links[link].below == from {
            above
        } else {
            below
        };
        let all = told.keys().filter(|(pattern, _)| matches(pattern, subject));
        let (groups, plain): (Vec<_>, Vec<_>) = all.partition(|(_, queue)| queue.is_some());
        let groups = groups.into_iter().filter_map(|(_, queue)| queue.as_deref());
        (!plain.is_empty(), groups.collect())
    }

    fn local(&self, at: Place, subject: &str) -> impl Iterator<Item = &Want<'_>> {
        let wants = self.wants.iter().filter(move |want| want.place == at);
        wants.filter(move |want| matches(want.subject, subject))
    }

    /// A message is published: all groups may have it.
    fn begin(&self, at: Place, subject: &str, certainty: Certainty, outcome: &mut Outcome) {
        for (group, among) in self.candidates(at, None, subject) {
            if certainty == Certainty::Sure {
                outcome.groups.push((group, among));
            }
        }
        self.arrive(at, None, subject, certainty, outcome);
    }

    fn arrive(
        &self,
        at: Place,
        via: Option<usize>,
        subject: &str,
        certainty: Certainty,
        outcome: &mut Outcome,
    ) {
        for (account, subject) in self.model.views(at, subject) {
            for want in self.local(account, &subject) {
                if want.queue.is_none() {
                    let copy = (want.number, subject.clone());
                    match certainty {
                        Certainty::Sure => outcome.plain.push(copy),
                        Certainty::Perhaps => outcome.perhaps.push(copy),
                    }
                }
            }
            for (number, link) in self.model.at(account) {
                if via == Some(number) {
                    continue;
                }
                let beyond = link.end_beside(account);
                match self.asks(number, account, &subject) {
                    (true, _) => self.arrive(beyond, Some(number), &subject, certainty, outcome),
                    (false, groups) if !groups.is_empty() => {
                        self.arrive(beyond, Some(number), &subject, Certainty::Perhaps, outcome);
                    }
                    _ => {}
                }
            }
        }
        for import in self.model.services(at) {
            if let Some(there) = import.outward(subject) {
                self.begin(import.exporter(), &there, certainty, outcome);
            }
        }
    }

    /// The members of each group who may get a message: those at this server if there are any.
    fn candidates(
        &self,
        at: Place,
        via: Option<usize>,
        subject: &str,
    ) -> BTreeMap<String, Vec<u64>> {
        let mut here: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        let mut beyond: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for (account, subject) in self.model.views(at, subject) {
            for want in self.local(account, &subject) {
                if let Some(queue) = want.queue {
                    here.entry(queue.to_owned()).or_default().push(want.number);
                }
            }
            for (number, link) in self.model.at(account) {
                if via == Some(number) {
                    continue;
                }
                let (_, groups) = self.asks(number, account, &subject);
                let mut there = self.candidates(link.end_beside(account), Some(number), &subject);
                for group in groups {
                    let members = there.remove(group).unwrap_or_default();
                    beyond.entry(group.to_owned()).or_default().extend(members);
                }
            }
        }
        beyond.extend(here);
        beyond.retain(|_, members| !members.is_empty());
        beyond
    }
}
