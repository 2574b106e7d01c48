//! Accounts of JWTs as the accounts that configurations have: what they share, map and may use.
//!
//! Activations are judged here. What comes out has, in place of exports that need one, exports to those
//! accounts that have one; an import without the activation that it needs is left out.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

use super::claims::{Activation, Claims, Export, Import, Latency, ShareKind, Standard, Weighted};
use super::token::decode;
use super::trust::{Signer, TrustedAccount, is_revoked};
use super::user::limit;
use crate::config::model::{self, AccountLimits, Audience, Destination, ResponseType, Sampling};
use crate::config::quote;
use crate::subject;

/// Accounts as [`account::check`](crate::account::check) and what follows it take them.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    /// In the order they were given in, each by the name of its public key. They have no users.
    pub accounts: Vec<model::Account>,
    /// What was left out.
    pub problems: Vec<SharingProblem>,
    /// The last second in which this holds, as then an activation expires.
    pub until: Option<i64>,
}

/// Something of an account that is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharingProblem {
    /// The account's public key.
    pub account: String,
    /// What of it, and why.
    pub text: String,
}

impl fmt::Display for SharingProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let account = self.account.escape_debug();
        write!(f, "account JWT {account}: {}", self.text)
    }
}

/// All accounts that are known, as the rest of the server knows accounts. What they share depends on
/// each other, so all are given at once: an import from one that is not among them stays, and is an
/// error of [`account::check`](crate::account::check).
pub fn accounts<'a>(known: impl IntoIterator<Item = &'a TrustedAccount>, now: i64) -> Accounts {
    let known: Vec<&TrustedAccount> = known.into_iter().collect();
    let by_id: HashMap<&str, (usize, &TrustedAccount)> = known
        .iter()
        .enumerate()
        .map(|(at, account)| (account.key(), (at, *account)))
        .collect();
    let mut out = Accounts::default();
    // Who may import the exports that need an activation, by account and place there.
    let mut activated: HashMap<(usize, usize), Vec<String>> = HashMap::new();
    let mut imports: Vec<Vec<model::Import>> = Vec::new();
    for account in &known {
        let mut kept = Vec::new();
        for import in &account.claims().body.imports {
            let exporter = by_id.get(import.account.as_str());
            let judged = match exporter {
                None => Ok(Vec::new()),
                Some((_, exporter)) => needed(account, import, exporter, now),
            };
            match judged {
                Ok(needed) => {
                    for (export, until) in needed {
                        out.until = out.until.into_iter().chain(until).min();
                        if let Some((at, _)) = exporter {
                            let names = activated.entry((*at, export)).or_default();
                            names.push(account.key().to_owned());
                        }
                    }
                    kept.extend(model_import(import));
                }
                Err(why) => {
                    let (kind, subject) = (import.kind, quote(import.exported()));
                    out.problems.push(SharingProblem {
                        account: account.key().into(),
                        text: format!("Error adding {kind} import {subject}: {why}"),
                    });
                }
            }
        }
        imports.push(kept);
    }
    for ((at, account), imports) in known.iter().enumerate().zip(imports) {
        let claims = &account.claims().body;
        let exports = claims.exports.iter().enumerate();
        let exports = exports.filter_map(|(place, export)| {
            model_export(export, activated.remove(&(at, place)).unwrap_or_default())
        });
        let exports = exports.collect();
        let mappings = mappings(&claims.mappings, account.key(), &mut out.problems);
        out.accounts.push(model::Account {
            name: account.key().into(),
            users: Vec::new(),
            limits: AccountLimits {
                max_connections: limit(claims.limits.conn),
                max_leafnodes: limit(claims.limits.leaf),
                max_subscriptions: limit(claims.limits.subs),
                max_payload: limit(claims.limits.payload),
            },
            mappings,
            exports,
            imports,
        });
    }
    out
}

/// The exports, by place, that an import needs an activation for and has one, each with the second it
/// expires in.
fn needed(
    importer: &TrustedAccount,
    import: &Import,
    exporter: &TrustedAccount,
    now: i64,
) -> Result<Vec<(usize, Option<i64>)>, String> {
    let subject = import.exported();
    let exports = &exporter.claims().body.exports;
    let mut out = Vec::new();
    for place in deciding(exports, import.kind, subject) {
        let Some(export) = exports.get(place).filter(|export| export.token_req) else {
            continue;
        };
        let until = activate(importer, import, exporter, export, now)
            .map_err(|why| format!("{} import not authorized: {why}", import.kind))?;
        out.push((place, until));
    }
    Ok(out)
}

/// The exports of a kind that decide over a subject: those of the very subject, else the narrowest of
/// those that cover it. As [`Exports`](crate::account::exports::Exports) has it.
fn deciding(exports: &[Export], kind: ShareKind, subject: &str) -> Vec<usize> {
    let of_kind = || {
        let all = exports.iter().enumerate();
        all.filter(move |(_, export)| export.kind == kind)
    };
    let covers = |outer: &str, inner: &str| subject::covers(outer.as_bytes(), inner.as_bytes());
    let exact: Vec<usize> = of_kind()
        .filter(|(_, export)| export.subject == subject)
        .map(|(place, _)| place)
        .collect();
    if !exact.is_empty() {
        return exact;
    }
    let covering = || of_kind().filter(|(_, export)| covers(&export.subject, subject));
    let narrowest = covering().filter(|(_, export)| {
        !covering().any(|(_, other)| {
            other.subject != export.subject && covers(&export.subject, &other.subject)
        })
    });
    narrowest.map(|(place, _)| place).collect()
}

/// Judges an activation; gives the second it expires in.
fn activate(
    importer: &TrustedAccount,
    import: &Import,
    exporter: &TrustedAccount,
    export: &Export,
    now: i64,
) -> Result<Option<i64>, String> {
    if import.token.is_empty() {
        return Err("it needs an activation token".into());
    }
    let activation = decode::<Activation>(&import.token)
        .map_err(|e| format!("the activation token is not valid: {e}"))?;
    let issues = activation.check(now);
    if !issues.is_empty() {
        return Err(format!("the activation token is not valid: {issues}"));
    }
    let Claims {
        standard:
            Standard {
                issuer,
                subject: to,
                issued_at,
                expires,
                ..
            },
        body,
    } = &activation;
    let of_another = !body.issuer_account.is_empty() && body.issuer_account != exporter.key();
    let own_key = issuer == exporter.key();
    // A key that signs within a scope signs users, and nothing else.
    let signing_key =
        !body.issuer_account.is_empty() && matches!(exporter.signer(issuer), Some(Signer::Plain));
    if of_another || !(own_key || signing_key) {
        return Err("the activation token is not signed by the account that exports".into());
    }
    if to != importer.key() {
        return Err("the activation token is for another account".into());
    }
    if body.kind != import.kind {
        return Err(format!("the activation token is for a {}", body.kind));
    }
    if !subject::covers(body.subject.as_bytes(), import.exported().as_bytes()) {
        let subject = quote(&body.subject);
        return Err(format!("the activation token is for {subject}"));
    }
    if is_revoked(&export.revocations, to, *issued_at) {
        return Err("the activation token is revoked".into());
    }
    Ok(*expires)
}

/// `None`: it is of no kind, which no admitted account has.
fn model_import(import: &Import) -> Option<model::Import> {
    let (account, subject) = (import.account.clone(), import.exported().to_owned());
    let to = import.local();
    match import.kind {
        ShareKind::Unknown => None,
        ShareKind::Stream => Some(model::Import::Stream(model::StreamImport {
            account,
            subject,
            to,
            allow_trace: import.allow_trace,
        })),
        ShareKind::Service => Some(model::Import::Service(model::ServiceImport {
            account,
            subject,
            to,
            share: import.share,
        })),
    }
}

fn model_export(export: &Export, activated: Vec<String>) -> Option<model::Export> {
    let position = usize::try_from(export.account_token_position).unwrap_or(usize::MAX);
    let subject = export.subject.clone();
    let audience = if export.token_req {
        Audience::Accounts(activated)
    } else if position > 0 {
        Audience::Token(position)
    } else {
        Audience::Public
    };
    match export.kind {
        ShareKind::Unknown => None,
        ShareKind::Stream => Some(model::Export::Stream(model::StreamExport {
            subject,
            audience,
        })),
        ShareKind::Service => {
            let default = model::ServiceExport::default();
            let threshold = u64::try_from(export.response_threshold).unwrap_or(0);
            let response = match export.response_type.as_str() {
                "Stream" => ResponseType::Stream,
                "Chunked" => ResponseType::Chunked,
                _ => ResponseType::Singleton,
            };
            Some(model::Export::Service(model::ServiceExport {
                subject,
                audience,
                response,
                threshold: match threshold {
                    0 => default.threshold,
                    nanos => Duration::from_nanos(nanos),
                },
                // Only services that answer once are measured; an account that asks for more of others
                // is not worth refusing.
                latency: export
                    .latency
                    .as_ref()
                    .filter(|_| response == ResponseType::Singleton)
                    .map(model_latency),
                allow_trace: export.allow_trace,
            }))
        }
    }
}

fn model_latency(latency: &Latency) -> model::Latency {
    let percent = u8::try_from(latency.sampling.clamp(0, 100)).unwrap_or(100);
    model::Latency {
        at: String::new(),
        subject: latency.results.clone(),
        sampling: match percent {
            0 => Sampling::Headers,
            percent => Sampling::Percent(percent),
        },
    }
}

/// In an order of their own, as those of a JWT have none: literals first, then by the text before the first
/// wildcard, the longest first. The narrower of two sources is before the wider.
fn mappings(
    claimed: &BTreeMap<String, Vec<Weighted>>,
    account: &str,
    problems: &mut Vec<SharingProblem>,
) -> Vec<model::Mapping> {
    let mut out = Vec::new();
    for (source, destinations) in claimed.iter().filter(|(_, list)| !list.is_empty()) {
        let mapping = mapping(source, destinations);
        match crate::account::mapping::Mappings::compile(std::slice::from_ref(&mapping), None) {
            Ok(_) => out.push(mapping),
            Err(why) => problems.push(SharingProblem {
                account: account.into(),
                text: format!("Error adding subject mapping {}: {why}", quote(source)),
            }),
        }
    }
    out.sort_by_cached_key(|mapping| precedence(&mapping.source));
    out
}

/// For each token: literal, `*`, `>`; so that what covers another comes after it.
fn precedence(source: &str) -> Vec<u8> {
    let rank = |token: &str| match token {
        ">" => 2,
        "*" => 1,
        _ => 0,
    };
    source.split('.').map(rank).collect()
}

/// A mapping in the model's form.
pub(super) fn mapping(source: &str, destinations: &[Weighted]) -> model::Mapping {
    let destinations = destinations.iter().map(|to| Destination {
        subject: to.subject.clone(),
        weight: to.percent(),
        cluster: Some(to.cluster.clone()).filter(|cluster| !cluster.is_empty()),
    });
    model::Mapping {
        source: source.into(),
        destinations: destinations.collect(),
    }
}
