//! Whether claims make sense by themselves, and at a time: what nats-server calls validation.

use std::fmt;

use super::claims::{
    Account, Activation, Claims, Export, Grant, Import, Rules, ShareKind, SigningKey, Standard,
    User, Weighted,
};
use super::source::Network;
use super::times::{self, Clock};
use super::token::decode;
use crate::account::mapping::Mappings;
use crate::auth::nkey::is_user_key;
use crate::auth::public_key::is_account_key;
use crate::config::quote;
use crate::subject;

/// What is wrong with claims. `Display` is nats-server's list: texts one behind the other, in brackets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Issues(Vec<Issue>);

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Issue {
    /// The claims do not hold yet, or no more.
    Time(&'static str),
    /// They never will.
    Content(String),
}

impl Issues {
    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each.
    pub fn iter(&self) -> impl Iterator<Item = &Issue> {
        self.0.iter()
    }

    /// Those that time does not heal.
    pub fn of_content(mut self) -> Issues {
        self.0.retain(|issue| matches!(issue, Issue::Content(_)));
        self
    }

    fn add(&mut self, text: impl Into<String>) {
        self.0.push(Issue::Content(text.into()));
    }
}

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Issue::Time(text) => f.write_str(text),
            Issue::Content(text) => f.write_str(text),
        }
    }
}

impl fmt::Display for Issues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (at, issue) in self.0.iter().enumerate() {
            // What a peer sent does not fill the log.
            if at == MAX_SHOWN {
                f.write_str(" ...")?;
                break;
            }
            let space = if at > 0 { " " } else { "" };
            write!(f, "{space}{issue}")?;
        }
        f.write_str("]")
    }
}

/// Issues that are shown at most.
const MAX_SHOWN: usize = 16;

impl Standard {
    /// Whether it holds at `now`; both ends belong to the time it holds in.
    pub(super) fn check_time(&self, now: i64, issues: &mut Issues) {
        if self.expires.is_some_and(|expires| now > expires) {
            issues.0.push(Issue::Time("claim is expired"));
        }
        if self.not_before.is_some_and(|start| start > now) {
            issues.0.push(Issue::Time("claim is not yet valid"));
        }
    }
}

impl Claims<User> {
    /// What is wrong with a user, besides what its account says.
    pub(super) fn check(&self, clock: Clock<'_>) -> Issues {
        let mut issues = Issues::default();
        self.standard.check_time(clock.now, &mut issues);
        let grant = &self.body.grant;
        check_permissions(grant, &mut issues);
        for network in &grant.src {
            if Network::parse(network).is_none() {
                let network = quote(network);
                issues.add(format!("invalid cidr {network} in user src limits"));
            }
        }
        times::check(grant, clock, &mut |text| issues.add(text));
        let issuer_account = self.body.issuer_account.as_deref();
        if issuer_account.is_some_and(|key| !is_account_key(key)) {
            issues.add("account_id is not an account public key");
        }
        issues
    }
}

impl Claims<Activation> {
    /// What is wrong with an activation, besides what it is used for.
    pub(super) fn check(&self, now: i64) -> Issues {
        let mut issues = Issues::default();
        self.standard.check_time(now, &mut issues);
        let issuer_account = &self.body.issuer_account;
        if !issuer_account.is_empty() && !is_account_key(issuer_account) {
            issues.add("account_id is not an account public key");
        }
        if self.body.kind == ShareKind::Unknown {
            issues.add("invalid activation type: \"unknown\"");
        }
        check_subject(&self.body.subject, &mut issues);
        issues
    }
}

impl Claims<Account> {
    /// What is wrong with an account, besides whether anybody trusts who issued it. Activations are
    /// looked at without their times, as those only concern their imports.
    pub fn check(&self, now: i64) -> Issues {
        let mut issues = Issues::default();
        self.standard.check_time(now, &mut issues);
        let account = &self.body;
        check_imports(&account.imports, &self.standard.subject, &mut issues);
        check_exports(&account.exports, &mut issues);
        check_permissions(&account.default_permissions, &mut issues);
        for (source, destinations) in &account.mappings {
            check_mapping(source, destinations, &mut issues);
        }
        account.check_callout(&mut issues);
        if let Some(trace) = &account.trace {
            let dest = trace.dest.as_bytes();
            if !subject::is_valid_literal(dest) {
                let dest = quote(&trace.dest);
                issues.add(format!(
                    "the account Trace.Destination subject {dest} is not a valid publish subject"
                ));
            }
            if !(0..=100).contains(&trace.sampling) {
                let sampling = trace.sampling;
                issues.add(format!(
                    "the account Trace.Sampling value '{sampling}' is not valid, should be in the range [1..100]"
                ));
            }
        }
        account.check_counts(&mut issues);
        for key in &account.signing_keys {
            check_signing_key(key, &mut issues);
        }
        // An account that a name is taken from is named by a key.
        if !is_account_key(&self.standard.subject) {
            issues.add("invalid public key");
        }
        issues
    }
}

impl Account {
    fn check_counts(&self, issues: &mut Issues) {
        let above =
            |count: usize, limit: i64| usize::try_from(limit).is_ok_and(|limit| count > limit);
        if above(self.imports.len(), self.limits.imports) {
            issues.add("the account contains more imports than allowed by the operator");
        }
        if self.limits.exports < 0 {
            return;
        }
        if above(self.exports.len(), self.limits.exports) {
            issues.add("the account contains more exports than allowed by the operator");
        }
        let wild = |export: &Export| subject::has_wildcard(export.subject.as_bytes());
        if !self.limits.wildcards && self.exports.iter().any(wild) {
            issues
                .add("the account contains wildcard exports that are not allowed by the operator");
        }
    }

    fn check_callout(&self, issues: &mut Issues) {
        let callout = &self.authorization;
        if !callout.is_enabled() && !callout.allowed_accounts.is_empty() {
            issues.add("External authorization cannot have accounts without users specified");
        }
        for user in callout.auth_users.iter().filter(|key| !is_user_key(key)) {
            let user = quote(user);
            issues.add(format!("AuthUser {user} is not a valid user public key"));
        }
        let accounts = &callout.allowed_accounts;
        for account in accounts
            .iter()
            .filter(|key| *key != "*" && !is_account_key(key))
        {
            let account = quote(account);
            issues.add(format!(
                "Account {account} is not a valid account public key"
            ));
        }
    }
}

fn check_signing_key(key: &SigningKey, issues: &mut Issues) {
    match key {
        SigningKey::Plain(key) if !is_account_key(key) => {
            let key = quote(key);
            issues.add(format!("{key} is not a valid account signing key"));
        }
        SigningKey::Scoped(scope) if !is_account_key(&scope.key) => {
            let key = &scope.key.escape_debug();
            issues.add(format!("{key} is not an account public key"));
        }
        // What a template gives is looked at once names and tags are filled in.
        SigningKey::Plain(_) | SigningKey::Scoped(_) => {}
    }
}

/// `sub` comes first, as in nats-server's list.
fn check_permissions(grant: &Grant, issues: &mut Issues) {
    check_rules(&grant.subscribe, Queues::Allowed, issues);
    check_rules(&grant.publish, Queues::None, issues);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Queues {
    Allowed,
    None,
}

fn check_rules(rules: &Rules, queues: Queues, issues: &mut Issues) {
    for entry in rules.allow.iter().chain(&rules.deny) {
        let parts: Vec<&str> = entry.splitn(3, ' ').collect();
        match parts.as_slice() {
            [subject] => check_subject(subject, issues),
            [subject, queue] if queues == Queues::Allowed => {
                check_subject(subject, issues);
                check_subject(queue, issues);
            }
            [_, _] => {
                let entry = entry.escape_debug();
                issues.add(format!(
                    "Permission Subject \"{entry}\" is not allowed to contain queue"
                ));
            }
            _ => {
                let entry = entry.escape_debug();
                issues.add(format!(
                    "Permission Subject \"{entry}\" contains too many spaces"
                ));
            }
        }
    }
}

/// nats-server lets a `>` in the middle pass here, and then never matches it: so do we.
fn check_subject(subject: &str, issues: &mut Issues) {
    let shown = || quote(subject);
    if subject.is_empty() {
        return issues.add("subject cannot be empty");
    }
    if subject.contains(' ') {
        issues.add(format!("subject {} cannot have spaces", shown()));
    } else if subject.contains(|c: char| c.is_ascii_whitespace()) {
        issues.add(format!("subject {} cannot have white space", shown()));
    }
    if subject.starts_with('.') || subject.ends_with('.') {
        let shown = shown();
        issues.add(format!("subject {shown} cannot start or end with a `.`"));
    }
    if subject.contains("..") {
        let shown = shown();
        issues.add(format!("subject {shown} cannot contain consecutive `.`"));
    }
}

fn check_mapping(source: &str, destinations: &[Weighted], issues: &mut Issues) {
    check_subject(source, issues);
    for destination in destinations {
        check_subject(&destination.subject, issues);
    }
    let mut clusters: Vec<&str> = destinations.iter().map(|to| to.cluster.as_str()).collect();
    clusters.sort_unstable();
    clusters.dedup();
    let shown = quote(source);
    for cluster in clusters {
        let of_it = destinations.iter().filter(|to| to.cluster == cluster);
        let total: u32 = of_it.map(|to| u32::from(to.percent())).sum();
        if total > 100 {
            let of = match cluster {
                "" => String::new(),
                cluster => format!(" in cluster {}", quote(cluster)),
            };
            issues.add(format!(
                "Mapping {shown}{of} exceeds 100% among all of it's weighted to mappings"
            ));
        }
    }
}

/// Why a mapping of an account that [`Claims::check`] finds in order cannot be carried out.
pub(super) fn check_mappings(account: &Account) -> Option<String> {
    account.mappings.iter().find_map(|(source, destinations)| {
        let mapping = super::sharing::mapping(source, destinations);
        let why = Mappings::compile(std::slice::from_ref(&mapping), None).err()?;
        let to = destinations.first().map(|to| quote(&to.subject));
        let (source, to) = (quote(source), to.unwrap_or_default());
        Some(format!("mapping {source} -> {to}: {why}"))
    })
}

fn check_exports(exports: &[Export], issues: &mut Issues) {
    for export in exports {
        check_export(export, issues);
    }
    for kind in [ShareKind::Service, ShareKind::Stream] {
        let of_kind = || exports.iter().filter(|export| export.kind == kind);
        for (at, export) in of_kind().enumerate() {
            let inner = export.subject.as_bytes();
            let around = of_kind().enumerate().find(|(other, outer)| {
                *other != at && subject::covers(outer.subject.as_bytes(), inner)
            });
            if let Some((_, outer)) = around {
                let (outer, inner) = (quote(&outer.subject), quote(&export.subject));
                issues.add(format!(
                    "{kind} export subject {outer} already exports {inner}"
                ));
                // One is enough: there are as many as pairs.
                break;
            }
        }
    }
}

fn check_export(export: &Export, issues: &mut Issues) {
    let service = export.kind == ShareKind::Service;
    let response = quote(&export.response_type);
    let known = ["", "Singleton", "Stream", "Chunked"];
    match export.kind {
        ShareKind::Unknown => issues.add("unknown export type \"\""),
        ShareKind::Service if !known.contains(&export.response_type.as_str()) => {
            issues.add(format!("invalid response type for service: {response}"));
        }
        ShareKind::Stream if !export.response_type.is_empty() => {
            issues.add(format!("invalid response type for stream: {response}"));
        }
        _ => {}
    }
    if export.allow_trace && !service {
        issues.add("AllowTrace only valid for service export");
    }
    if let Some(latency) = &export.latency {
        if !service {
            issues.add("latency tracking only permitted for services");
        }
        if !(0..=100).contains(&latency.sampling) {
            issues.add("sampling percentage needs to be between 1-100");
        }
        check_subject(&latency.results, issues);
        if subject::has_wildcard(latency.results.as_bytes()) {
            issues.add("results subject can not contain wildcards");
        }
    }
    if export.response_threshold < 0 {
        issues.add("negative response threshold is invalid");
    } else if export.response_threshold > 0 && !service {
        issues.add("response threshold only valid for services");
    }
    check_subject(&export.subject, issues);
    check_position(export, issues);
}

fn check_position(export: &Export, issues: &mut Issues) {
    let Ok(position) = usize::try_from(export.account_token_position) else {
        return;
    };
    let Some(at) = position.checked_sub(1) else {
        return;
    };
    let shown = export.subject.escape_debug();
    if !subject::has_wildcard(export.subject.as_bytes()) {
        return issues.add(format!(
            "Account Token Position can only be used with wildcard subjects: {shown}"
        ));
    }
    match export.subject.split('.').nth(at) {
        Some("*") => {}
        Some(token) => {
            let token = token.escape_debug();
            issues.add(format!(
                "Account Token Position {position} matches '{token}' but must match a * in: {shown}"
            ));
        }
        None => issues.add(format!(
            "Account Token Position {position} exceeds length of subject '{shown}'"
        )),
    }
}

fn check_imports(imports: &[Import], importer: &str, issues: &mut Issues) {
    for import in imports {
        check_import(import, importer, issues);
    }
    // Two services of one account under one name here: where would a request go?
    let services = imports.iter().filter(|i| i.kind == ShareKind::Service);
    let here = |import: &Import| import.local().unwrap_or_else(|| import.subject.clone());
    let services: Vec<(&str, String)> = services
        .map(|import| (import.account.as_str(), here(import)))
        .collect();
    for (at, (account, local)) in services.iter().enumerate() {
        let clash = services.iter().take(at).find(|(of, other)| {
            let (local, other) = (local.as_bytes(), other.as_bytes());
            of == account && (subject::covers(other, local) || subject::covers(local, other))
        });
        if let Some((_, other)) = clash {
            let (one, other, account) = (quote(local), quote(other), quote(account));
            issues.add(format!(
                "overlapping subject namespace for {one} and {other} in same account {account}"
            ));
            // One is enough: there are as many as pairs.
            break;
        }
    }
}

fn check_import(import: &Import, importer: &str, issues: &mut Issues) {
    let subject = || quote(&import.subject);
    let service = import.kind == ShareKind::Service;
    if import.kind == ShareKind::Unknown {
        issues.add("unknown export type \"\"");
    }
    if service && import.allow_trace {
        issues.add("AllowTrace only valid for stream import");
    }
    if import.account.is_empty() {
        issues.add("account to import from is not specified");
    }
    check_subject(&import.subject, issues);
    if !import.local_subject.is_empty() {
        check_subject(&import.local_subject, issues);
        check_references(&import.subject, &import.local_subject, issues);
        if !import.to.is_empty() {
            issues.add("Local Subject replaces To");
        }
    }
    if import.share && !service {
        issues.add(format!(
            "sharing information (for latency tracking) is only valid for services: {}",
            subject()
        ));
    }
    if import.token.is_empty() {
        return;
    }
    let Ok(activation) = decode::<Activation>(&import.token) else {
        return issues.add(format!(
            "import {} contains an invalid activation token",
            subject()
        ));
    };
    let (standard, body) = (&activation.standard, &activation.body);
    if standard.issuer != import.account && body.issuer_account != import.account {
        issues.add(format!(
            "activation token doesn't match account for import {}",
            subject()
        ));
    }
    if standard.subject != importer {
        issues.add(format!(
            "activation token doesn't match account it is being included in, {}",
            subject()
        ));
    }
    if body.kind != import.kind {
        let (one, other) = (body.kind, import.kind);
        issues.add(format!(
            "mismatch between token import type {one} and type of import {other}"
        ));
    }
    if !subject::covers(body.subject.as_bytes(), import.exported().as_bytes()) {
        let activated = quote(&body.subject);
        issues.add(format!(
            "activation token import subject {activated} doesn't match import {}",
            subject()
        ));
    }
    issues.0.extend(activation.check(0).of_content().0);
}

/// Each wildcard of the subject is named once in the local one, as `*` or `$n`.
fn check_references(subject: &str, local: &str, issues: &mut Issues) {
    let stars = subject.split('.').filter(|token| *token == "*").count();
    let mut named = 0;
    let mut seen = Vec::new();
    for token in local.split('.') {
        if token == "*" {
            named += 1;
        } else if let Some(number) = token.strip_prefix('$')
            && let Ok(number) = number.parse::<usize>()
        {
            if number == 0 || number > stars {
                let (local, subject) = (quote(local), quote(subject));
                issues.add(format!(
                    "Reference ${number} in {local} reference * in {subject} that do not exist"
                ));
            } else if !seen.contains(&number) {
                seen.push(number);
                named += 1;
            } else {
                // Twice: one too many.
                named = usize::MAX;
                break;
            }
        }
    }
    if named != stars {
        issues.add("subject does not contain enough * or reference wildcards $[0-9]");
    }
}
