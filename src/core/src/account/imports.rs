//! What an account imports: which requests of it go to other accounts, and which subscriptions of it
//! reach into them.
//!
//! A **service** import takes what is published on its local pattern to the account that exports, under
//! the exported subject. All service imports that match take it, besides the subscribers here; there it
//! is published like any other message: mappings and imports of that account apply.
//!
//! A **stream** import gives each subscription that overlaps its local pattern a shadow in the account
//! that exports: a subscription on exactly what both want. Each import that overlaps delivers by itself.
//! What a shadow is delivered gets its local subject, and that always is one that the subscription
//! matches. Shadows have no shadows: streams do not go through an account to a third one.

use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::exports::{Latency, ResponseType, ServiceExport};
use super::transform::{Problem, Transform, TransformError, is_pattern};
use crate::subject::{has_wildcard, matches};

/// The imports of one account, compiled. Immutable.
#[derive(Clone, Debug, Default)]
pub struct Imports {
    services: Vec<ServiceImport>,
    /// Services by their local subject where it has no wildcard.
    literals: HashMap<Box<[u8]>, Vec<u32>, RandomState>,
    /// The others.
    wildcards: Vec<u32>,
    streams: Vec<StreamImport>,
}

/// One imported service.
#[derive(Clone, Debug)]
pub struct ServiceImport {
    exporter: u32,
    export: Arc<ServiceExport>,
    share: Share,
    names: Names,
    /// From the local subject to the exported one; `None`: the same.
    transform: Option<Transform>,
}

/// One imported stream.
#[derive(Clone, Debug)]
pub struct StreamImport {
    exporter: u32,
    names: Names,
    /// From the exported subject to the local one; `None`: the same.
    transform: Option<Transform>,
    /// Whether traces of messages go on in the account that imports.
    pub allow_trace: bool,
}

/// What a service is told of who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// The account and the round trip.
    Little,
    /// `share`: the user, the client and its server too.
    Everything,
}

/// A subscription that one of the importing account needs in another account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shadow {
    /// The account, as [`super::Rules`] are numbered.
    pub exporter: u32,
    /// The import it is by: [`Imports::stream`].
    pub import: u32,
    /// What to subscribe to there.
    pub subject: Vec<u8>,
}

impl Imports {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty() && self.streams.is_empty()
    }

    /// Whether nothing that is published here goes to another account.
    pub fn has_no_services(&self) -> bool {
        self.services.is_empty()
    }

    /// The services a message that is published on `subject` is a request to, in any order.
    pub fn services<'a>(&'a self, subject: &'a [u8]) -> impl Iterator<Item = &'a ServiceImport> {
        let literals = match self.literals.is_empty() {
            true => None,
            false => self.literals.get(subject),
        };
        let import = |at: &u32| self.services.get(*at as usize);
        let literals = literals.into_iter().flatten().filter_map(import);
        let wildcards = self.wildcards.iter().filter_map(import);
        literals.chain(wildcards.filter(|import| matches(import.local(), subject)))
    }

    /// All services, in file order: this account's interest in their [local](ServiceImport::local)
    /// patterns is what neighbours have to be told.
    pub fn all_services(&self) -> &[ServiceImport] {
        &self.services
    }

    /// All streams, in file order.
    pub fn all_streams(&self) -> &[StreamImport] {
        &self.streams
    }

    /// A stream by the number a [`Shadow`] has.
    pub fn stream(&self, import: u32) -> Option<&StreamImport> {
        self.streams.get(import as usize)
    }

    /// The shadows that a subscription on `wanted` needs, one for each stream import that overlaps it.
    /// Its queue group holds for them too.
    pub fn shadows<'a>(&'a self, wanted: &'a [u8]) -> impl Iterator<Item = Shadow> + 'a {
        self.streams.iter().zip(0..).filter_map(|(stream, import)| {
            let subject = stream.names.exported(wanted)?;
            let exporter = stream.exporter;
            Some(Shadow {
                exporter,
                import,
                subject,
            })
        })
    }

    pub(super) fn add_service(&mut self, import: ServiceImport) {
        let at = self.services.len() as u32;
        if has_wildcard(import.local()) {
            self.wildcards.push(at);
        } else {
            self.literals
                .entry(import.local().into())
                .or_default()
                .push(at);
        }
        self.services.push(import);
    }

    pub(super) fn add_stream(&mut self, import: StreamImport) {
        self.streams.push(import);
    }
}

impl ServiceImport {
    pub(super) fn new(
        exporter: u32,
        export: Arc<ServiceExport>,
        names: Names,
        share: Share,
    ) -> Result<ServiceImport, TransformError> {
        let transform = names.to_exported()?;
        Ok(ServiceImport {
            exporter,
            export,
            share,
            names,
            transform,
        })
    }

    /// The account that exports, as [`super::Rules`] are numbered.
    pub fn exporter(&self) -> u32 {
        self.exporter
    }

    /// The pattern of requests in this account.
    pub fn local(&self) -> &[u8] {
        self.names.local.as_bytes()
    }

    /// Appends the subject of a request on `subject` in the account that exports.
    pub fn exported(&self, subject: &[u8], out: &mut Vec<u8>) {
        match &self.transform {
            None => out.extend_from_slice(subject),
            Some(transform) => transform.apply(subject, 0, out),
        }
    }

    /// What a service is told of who asks.
    pub fn share(&self) -> Share {
        self.share
    }

    /// How it answers.
    pub fn response(&self) -> ResponseType {
        self.export.response
    }

    /// How long a request waits for its first response, and those after it for the next.
    pub fn threshold(&self) -> Duration {
        self.export.threshold
    }

    /// The samples of its latency that are taken, if any.
    pub fn latency(&self) -> Option<&Latency> {
        self.export.latency.as_ref()
    }

    /// Whether traces of messages go on in the account that exports.
    pub fn allows_trace(&self) -> bool {
        self.export.allow_trace
    }
}

impl StreamImport {
    pub(super) fn new(
        exporter: u32,
        names: Names,
        allow_trace: bool,
    ) -> Result<StreamImport, TransformError> {
        let transform = names.to_local()?;
        Ok(StreamImport {
            exporter,
            names,
            transform,
            allow_trace,
        })
    }

    /// The account that exports, as [`super::Rules`] are numbered.
    pub fn exporter(&self) -> u32 {
        self.exporter
    }

    /// The pattern of what arrives in this account.
    pub fn local_pattern(&self) -> &[u8] {
        self.names.local.as_bytes()
    }

    /// Appends the subject that a message on `subject` of the account that exports has here.
    pub fn local(&self, subject: &[u8], out: &mut Vec<u8>) {
        match &self.transform {
            None => out.extend_from_slice(subject),
            Some(transform) => transform.apply(subject, 0, out),
        }
    }
}

/// The two names of an import: a pattern of the account that exports, and one of this account.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) exported: Box<str>,
    /// With `*` for every wildcard.
    pub(super) local: Box<str>,
    /// Which wildcard of the exported pattern each of the local one is, from 1; 0 is none.
    wildcards: Box<[usize]>,
    /// The local pattern, its wildcards by number.
    numbered: Box<str>,
}

impl Names {
    /// The names of an import of `exported` as `to`, in which wildcards are `*`, one behind the other,
    /// or `$n` and `{{wildcard(n)}}`. The rest of whether they fit is found out by what is compiled from
    /// them.
    pub(super) fn new(exported: &str, to: Option<&str>) -> Result<Names, TransformError> {
        let to = to.unwrap_or(exported);
        let (mut wildcards, mut local, mut numbered) = (Vec::new(), Vec::new(), Vec::new());
        let is_text = !has_star(exported);
        let is_renamed = to != exported;
        for token in to.split('.') {
            let number = match token {
                "*" => Some(wildcards.len() + 1),
                token if is_renamed => reference(token),
                _ => None,
            };
            let problem = match number {
                Some(_) if token != "*" && is_text => Some(Problem::Index(None)),
                None if is_renamed && token.starts_with("{{") && is_text => {
                    Some(Problem::NotReversible)
                }
                _ => None,
            };
            if let Some(problem) = problem {
                let token = token.to_string();
                return Err(TransformError::Destination { problem, token });
            }
            match number {
                None => {
                    local.push(token.to_string());
                    numbered.push(token.to_string());
                }
                Some(number) => {
                    wildcards.push(number);
                    local.push("*".into());
                    numbered.push(match token {
                        "*" => format!("${number}"),
                        token => token.to_string(),
                    });
                }
            }
        }
        if is_text {
            // Nothing of the local subject is needed there.
            wildcards.fill(0);
        }
        Ok(Names {
            exported: exported.into(),
            local: local.join(".").into(),
            wildcards: wildcards.into(),
            numbered: numbered.join(".").into(),
        })
    }

    /// From exported subjects to local ones; `None`: they are the same.
    fn to_local(&self) -> Result<Option<Transform>, TransformError> {
        self.check()?;
        if self.is_same() {
            return Ok(None);
        }
        Transform::reversible(&self.exported, &self.numbered).map(Some)
    }

    /// From local subjects to exported ones; `None`: they are the same.
    fn to_exported(&self) -> Result<Option<Transform>, TransformError> {
        self.check()?;
        if self.is_same() {
            return Ok(None);
        }
        if !has_wildcard(self.exported.as_bytes()) {
            return Ok(Some(Transform::constant(&self.exported)));
        }
        // The exported pattern becomes a destination, in which these would be more than text.
        if self
            .exported
            .split('.')
            .any(|t| t.starts_with("{{") || reference(t).is_some())
        {
            return Err(TransformError::Subject);
        }
        Transform::reversible(&self.exported, &self.numbered)?;
        let mut star = 0;
        let back = self.exported.split('.').map(|token| {
            if token != "*" {
                return token.to_string();
            }
            star += 1;
            let local = self.wildcards.iter().position(|number| *number == star);
            format!("${}", local.map_or(0, |at| at + 1))
        });
        let back: Vec<String> = back.collect();
        Transform::new(&self.local, &back.join(".")).map(Some)
    }

    fn check(&self) -> Result<(), TransformError> {
        match is_pattern(&self.exported) && is_pattern(&self.local) {
            true => Ok(()),
            false => Err(TransformError::Subject),
        }
    }

    fn is_same(&self) -> bool {
        let mut numbers = self.wildcards.iter().zip(1..);
        self.exported == self.local && numbers.all(|(number, at)| *number == at)
    }

    /// The exported subjects whose local names `wanted` matches: a pattern, or `None` if there are none.
    pub(super) fn exported(&self, wanted: &[u8]) -> Option<Vec<u8>> {
        let stars = self
            .exported
            .split('.')
            .filter(|token| *token == "*")
            .count();
        let mut bound: Vec<&[u8]> = vec![b"*"; stars];
        let mut open: &[u8] = b">";
        let mut numbers = self.wildcards.iter();
        let mut rest = Some(wanted);
        for local in self.local.split('.') {
            let left = rest?;
            let (token, next) = match memchr::memchr(b'.', left) {
                Some(dot) => (left.get(..dot)?, left.get(dot + 1..)),
                None => (left, None),
            };
            if token == b">" {
                rest = None;
                break;
            }
            match local {
                ">" => {
                    open = left;
                    rest = None;
                    break;
                }
                "*" => {
                    let number = numbers.next().copied().unwrap_or(0);
                    let slot = number.checked_sub(1).and_then(|at| bound.get_mut(at));
                    if let Some(slot) = slot {
                        *slot = token;
                    }
                }
                text if token != b"*" && token != text.as_bytes() => return None,
                _ => {}
            }
            rest = next;
        }
        if rest.is_some() {
            return None;
        }
        let mut out = Vec::new();
        let mut bound = bound.into_iter();
        for token in self.exported.split('.') {
            if !out.is_empty() {
                out.push(b'.');
            }
            match token {
                "*" => out.extend_from_slice(bound.next().unwrap_or(b"*")),
                ">" => out.extend_from_slice(open),
                text => out.extend_from_slice(text.as_bytes()),
            }
        }
        Some(out)
    }
}

fn has_star(pattern: &str) -> bool {
    pattern.split('.').any(|token| token == "*")
}

/// The wildcard a token of `to` refers to, from 1.
fn reference(token: &str) -> Option<usize> {
    let dollar = token.strip_prefix('$');
    let call = || {
        let inner = token.strip_prefix("{{")?.strip_suffix("}}")?.trim();
        let (name, argument) = inner.strip_suffix(')')?.split_once('(')?;
        name.trim_end()
            .eq_ignore_ascii_case("wildcard")
            .then_some(argument.trim())
    };
    let number: usize = dollar.or_else(call)?.parse().ok()?;
    (number > 0).then_some(number)
}
