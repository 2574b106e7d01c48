//! What accounts share, put together: every import finds its export, or a reason why not.

use std::collections::{HashMap, HashSet};
use std::fmt;

use super::exports::{Exports, is_token_position};
use super::imports::{Imports, Names, ServiceImport, Share, StreamImport};
use super::transform::{TransformError, is_pattern};
use crate::config::model::{self, Account, Audience, Export, Import, ResponseType};
use crate::config::quote;
use crate::subject::is_valid_literal;

/// An export or import that cannot be. `Display` is nats-server's text where it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharingError {
    /// The account's place in the configuration.
    pub account: usize,
    /// What of it.
    pub item: Item,
    /// `stream` or `service`.
    kind: &'static str,
    /// Its subject.
    subject: String,
    /// Why it cannot be.
    pub problem: Problem,
}

/// An entry of an account's `exports` or `imports`, by its place there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// Of `exports`.
    Export(usize),
    /// Of `imports`.
    Import(usize),
}

/// Why an export or import cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// There is no such account.
    Account(String),
    /// A subject is no pattern, or `account_token_position` names none of its `*`.
    Subject,
    /// Latency is measured for whom there is a system account only.
    NoSystemAccount,
    /// Samples of latency cannot be published on this subject.
    LatencySubject(String),
    /// Latency is only measured of services that answer once. The subject of the samples.
    LatencyResponse(String),
    /// The account that exports does not export it, or not to this account.
    NotAuthorized,
    /// The same stream is imported before.
    Exists,
    /// Another service of that account has the same local subject: its subject there, the local one.
    Duplicate(String, String),
    /// What is imported comes from the account itself.
    Cycle,
    /// The names do not fit: from, to, why.
    Names(String, String, TransformError),
}

impl fmt::Display for SharingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, subject) = (self.kind, quote(&self.subject));
        let what = match self.item {
            Item::Export(_) => "export",
            Item::Import(_) => "import",
        };
        let adding = |f: &mut fmt::Formatter<'_>, why: &dyn fmt::Display| {
            write!(f, "Error adding {kind} {what} {subject}: {why}")
        };
        let latency = |f: &mut fmt::Formatter<'_>, on: &str, why: &str| {
            let on = quote(on);
            write!(
                f,
                "Error adding service latency sampling for {subject} on subject {on}: {why}"
            )
        };
        match &self.problem {
            Problem::Account(name) => {
                write!(f, "{} account not defined for {kind} {what}", quote(name))
            }
            Problem::Subject => adding(f, &"sublist: invalid subject"),
            Problem::NoSystemAccount => write!(
                f,
                "Error adding service latency sampling for {subject}: system account not setup"
            ),
            Problem::LatencySubject(on) => latency(f, on, "invalid publish subject"),
            Problem::LatencyResponse(on) => latency(f, on, "bad service response type"),
            Problem::NotAuthorized => adding(f, &format_args!("{kind} import not authorized")),
            Problem::Exists => adding(f, &format_args!("{kind} import already exists")),
            Problem::Duplicate(local, account) => write!(
                f,
                "Duplicate service import subject {}, previously used in import for account {}, subject {subject}",
                quote(local),
                quote(account),
            ),
            Problem::Cycle => adding(f, &"import forms a cycle"),
            Problem::Names(from, to, why) => {
                let (from, to) = (quote(from), quote(to));
                adding(
                    f,
                    &format_args!(
                        "failed to create mapping transform for {kind} import subject from {from} to {to}: {why}"
                    ),
                )
            }
        }
    }
}

impl std::error::Error for SharingError {}

/// Everything that is wrong in what accounts share, in nats-server's order.
pub fn check(accounts: &[Account], system_account: Option<&str>) -> Vec<SharingError> {
    compile(accounts, &numbers(accounts.len()), system_account).1
}

/// The numbers of the accounts of a configuration: `$G` is before them.
pub(super) fn numbers(accounts: usize) -> Vec<u32> {
    (1..).take(accounts).collect()
}

/// What each account exports and imports, without what is wrong in it. `places` are their numbers.
pub(super) fn compile(
    accounts: &[Account],
    places: &[u32],
    system_account: Option<&str>,
) -> (Vec<(Exports, Imports)>, Vec<SharingError>) {
    let numbers = accounts
        .iter()
        .zip(0..)
        .map(|(account, at)| (account.name.as_str(), at));
    let mut sharing = Sharing {
        accounts,
        places,
        system_account,
        numbers: numbers.collect(),
        shared: Vec::new(),
        errors: Vec::new(),
    };
    sharing.exports();
    sharing.streams();
    sharing.services();
    (sharing.shared, sharing.errors)
}

struct Sharing<'c> {
    accounts: &'c [Account],
    places: &'c [u32],
    system_account: Option<&'c str>,
    /// Accounts by name.
    numbers: HashMap<&'c str, usize>,
    shared: Vec<(Exports, Imports)>,
    errors: Vec<SharingError>,
}

/// An import as a way subjects take, for the search for cycles.
struct Way {
    importer: usize,
    exporter: usize,
    names: Names,
}

impl<'c> Sharing<'c> {
    fn exports(&mut self) {
        let all = || {
            let accounts = self.accounts.iter().enumerate();
            accounts.flat_map(|(at, account)| {
                let exports = account.exports.iter().enumerate();
                exports.map(move |(i, export)| (at, Item::Export(i), export))
            })
        };
        let mut errors = Vec::new();
        for (at, item, export) in all() {
            if let Export::Stream(stream) = export {
                let (subject, audience) = (&stream.subject, &stream.audience);
                let problems = self.audience(subject, audience);
                errors.extend(problems.map(|problem| error(at, item, "stream", subject, problem)));
            }
        }
        for (at, item, export) in all() {
            if let Export::Service(service) = export {
                let (subject, audience) = (&service.subject, &service.audience);
                let problems = self
                    .audience(subject, audience)
                    .chain(self.latency(service));
                errors.extend(problems.map(|problem| error(at, item, "service", subject, problem)));
            }
        }
        self.errors = errors;
        let exports = self
            .accounts
            .iter()
            .map(|account| Exports::compile(&account.exports));
        self.shared = exports
            .map(|exports| (exports, Imports::default()))
            .collect();
    }

    fn latency(&self, service: &model::ServiceExport) -> Option<Problem> {
        let subject = &service.latency.as_ref()?.subject;
        if self.system_account.is_none() {
            return Some(Problem::NoSystemAccount);
        }
        if !is_valid_literal(subject.as_bytes()) || !is_pattern(subject) {
            return Some(Problem::LatencySubject(subject.clone()));
        }
        (service.response != ResponseType::Singleton)
            .then(|| Problem::LatencyResponse(subject.clone()))
    }

    fn audience<'a>(
        &'a self,
        subject: &'a str,
        audience: &'a Audience,
    ) -> impl Iterator<Item = Problem> + 'a {
        let (names, position) = match audience {
            Audience::Public => (&[] as &[String], None),
            Audience::Accounts(names) => (names.as_slice(), None),
            Audience::Token(position) => (&[] as &[String], Some(*position)),
        };
        let unknown = names
            .iter()
            .filter(|name| !self.numbers.contains_key(name.as_str()));
        let unknown = unknown.map(|name| Problem::Account(name.clone()));
        let fits = position.is_none_or(|position| is_token_position(subject, position));
        let bad = (!fits || !is_pattern(subject)).then_some(Problem::Subject);
        unknown.chain(bad)
    }

    fn streams(&mut self) {
        let mut ways: Vec<Way> = Vec::new();
        for (at, item, import) in imports(self.accounts) {
            let Import::Stream(stream) = import else {
                continue;
            };
            match self.stream(at, stream, &ways) {
                Err(problem) => {
                    self.errors
                        .push(error(at, item, "stream", &stream.subject, problem));
                }
                Ok((way, import)) => {
                    ways.push(way);
                    if let Some((_, imports)) = self.shared.get_mut(at) {
                        imports.add_stream(import);
                    }
                }
            }
        }
    }

    fn stream(
        &self,
        importer: usize,
        stream: &model::StreamImport,
        ways: &[Way],
    ) -> Result<(Way, StreamImport), Problem> {
        let (exporter, exports, name) = self.exporter(importer, &stream.account)?;
        let subject = &stream.subject;
        if !is_pattern(subject) || !exports.permits_stream(name, subject) {
            return Err(Problem::NotAuthorized);
        }
        let same = |way: &Way| (way.importer, way.exporter) == (importer, exporter);
        if ways
            .iter()
            .any(|way| same(way) && *way.names.exported == **subject)
        {
            return Err(Problem::Exists);
        }
        let to = stream.to.as_deref();
        let unfit = |e| Problem::Names(subject.clone(), to.unwrap_or(subject).into(), e);
        let names = Names::new(subject, to).map_err(unfit)?;
        let number = self.number(exporter)?;
        let import = StreamImport::new(number, names.clone(), stream.allow_trace).map_err(unfit)?;
        let way = acyclic(importer, exporter, names, ways)?;
        Ok((way, import))
    }

    fn services(&mut self) {
        let mut ways: Vec<Way> = Vec::new();
        for (at, item, import) in imports(self.accounts) {
            let Import::Service(service) = import else {
                continue;
            };
            match self.service(at, service, &ways) {
                Err(problem) => {
                    // A duplicate is told by what it is a duplicate of.
                    let earlier = |problem: &Problem| match problem {
                        Problem::Duplicate(local, _) => {
                            let exporter = self.numbers.get(service.account.as_str())?;
                            let way = ways.iter().find(|way| {
                                (way.importer, way.exporter) == (at, *exporter)
                                    && *way.names.local == **local
                            })?;
                            Some(way.names.exported.to_string())
                        }
                        _ => None,
                    };
                    let subject = earlier(&problem).unwrap_or_else(|| service.subject.clone());
                    self.errors
                        .push(error(at, item, "service", &subject, problem));
                }
                Ok((way, import)) => {
                    ways.push(way);
                    if let Some((_, imports)) = self.shared.get_mut(at) {
                        imports.add_service(import);
                    }
                }
            }
        }
    }

    fn service(
        &self,
        importer: usize,
        service: &model::ServiceImport,
        ways: &[Way],
    ) -> Result<(Way, ServiceImport), Problem> {
        let (exporter, exports, name) = self.exporter(importer, &service.account)?;
        let (subject, to) = (&service.subject, service.to.as_deref());
        if !is_pattern(subject) {
            return Err(Problem::Subject);
        }
        let export = exports
            .service(name, subject)
            .ok_or(Problem::NotAuthorized)?;
        let unfit = |e| Problem::Names(to.unwrap_or(subject).into(), subject.clone(), e);
        let names = Names::new(subject, to).map_err(unfit)?;
        if !is_pattern(&names.local) {
            return Err(Problem::Subject);
        }
        let same = |way: &Way| (way.importer, way.exporter) == (importer, exporter);
        if ways
            .iter()
            .any(|way| same(way) && way.names.local == names.local)
        {
            let local = names.local.to_string();
            return Err(Problem::Duplicate(local, service.account.clone()));
        }
        let share = match service.share {
            true => Share::Everything,
            false => Share::Little,
        };
        let (number, export) = (self.number(exporter)?, export.clone());
        let import = ServiceImport::new(number, export, names.clone(), share).map_err(unfit)?;
        let way = acyclic(importer, exporter, names, ways)?;
        Ok((way, import))
    }

    /// The account that exports with what it exports, and the name of the one that imports.
    fn exporter(
        &self,
        importer: usize,
        account: &str,
    ) -> Result<(usize, &Exports, &'c str), Problem> {
        let unknown = || Problem::Account(account.to_string());
        let exporter = *self.numbers.get(account).ok_or_else(unknown)?;
        let (exports, _) = self.shared.get(exporter).ok_or_else(unknown)?;
        let importer = self.accounts.get(importer).ok_or_else(unknown)?;
        Ok((exporter, exports, &importer.name))
    }

    /// The number of an account.
    fn number(&self, account: usize) -> Result<u32, Problem> {
        let place = self.places.get(account).copied();
        place.ok_or_else(|| Problem::Account(account.to_string()))
    }
}

fn imports(accounts: &[Account]) -> impl Iterator<Item = (usize, Item, &Import)> {
    accounts.iter().enumerate().flat_map(|(at, account)| {
        let imports = account.imports.iter().enumerate();
        imports.map(move |(i, import)| (at, Item::Import(i), import))
    })
}

fn error(
    account: usize,
    item: Item,
    kind: &'static str,
    subject: &str,
    problem: Problem,
) -> SharingError {
    SharingError {
        account,
        item,
        kind,
        subject: subject.to_string(),
        problem,
    }
}

/// An import on top of others that have no cycle, if then there still is none: what is wanted of the
/// account that exports is followed through its own imports, as far as the subjects fit.
fn acyclic(importer: usize, exporter: usize, names: Names, ways: &[Way]) -> Result<Way, Problem> {
    let new = Way {
        importer,
        exporter,
        names,
    };
    let start = new.names.exported.as_bytes().to_vec();
    let mut open = vec![(exporter, start)];
    let mut seen = HashSet::new();
    while let Some((account, wanted)) = open.pop() {
        if account == importer && new.names.exported(&wanted).is_some() {
            return Err(Problem::Cycle);
        }
        for (at, way) in ways
            .iter()
            .enumerate()
            .filter(|(_, way)| way.importer == account)
        {
            if let Some(next) = way.names.exported(&wanted)
                && seen.insert((at, next.clone()))
            {
                open.push((way.exporter, next));
            }
        }
    }
    Ok(new)
}
