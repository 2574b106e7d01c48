//! What is asked of a resolver, and that petiole answers as the newest real server does (resolver, checks,
//! responses, deletion, packs).

use std::collections::BTreeMap;
use std::path::Path;

use nkeys::KeyPairType;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Hub, hub_config, json as body, pair};
use crate::common::request;
use crate::support::{Client, Draft, Msg, Operator, Target, account_key, nkey, now};

/// What was answered, each by a name of its own.
type Said = BTreeMap<String, Value>;

/// A server, somebody of its system account, and what it answered.
struct Bench {
    hub: Hub,
    sys: Client,
    said: Said,
}

impl Bench {
    fn new(target: &Target, resolver: &str) -> Self {
        Self::of(target, resolver, Operator::new("O"))
    }

    fn of(target: &Target, resolver: &str, operator: Operator) -> Self {
        let config = hub_config(&operator.with_resolver(resolver));
        let hub = Hub::with(target, &config, operator);
        let sys = hub.operator.system_user().login(hub.port());
        let said = Said::new();
        Bench { hub, sys, said }
    }

    fn ask(&mut self, subject: &str, payload: &str) -> Msg {
        request(&mut self.sys, subject, payload)
    }

    /// Asks, and notes the answer but for what is the server's own.
    fn note(&mut self, name: &str, subject: &str, payload: &str) {
        let answer = self.ask(subject, payload);
        let answer = match &answer.header {
            Some(header) => json!(String::from_utf8_lossy(header)),
            None if answer.payload.is_empty() => json!(""),
            None => {
                let mut answer = body(&answer);
                // At which byte of a JWT says nobody but Go's decoder.
                if let Some(text) = answer["error"]["description"].as_str() {
                    let text = text.split(" at input byte ").next();
                    answer["error"]["description"] = json!(text);
                }
                let server = answer.as_object_mut().unwrap().remove("server");
                assert!(server.unwrap()["name"].is_string(), "{name}");
                if let Some(list) = answer["data"].as_array_mut() {
                    list.sort_by_key(ToString::to_string);
                }
                answer
            }
        };
        self.said.insert(name.to_owned(), answer);
    }

    fn update(&mut self, name: &str, payload: &str) {
        self.note(name, "$SYS.REQ.CLAIMS.UPDATE", payload);
    }

    fn delete(&mut self, name: &str, draft: &Draft, by: &nkeys::KeyPair) {
        self.note(name, "$SYS.REQ.CLAIMS.DELETE", &draft.sign(by));
    }

    fn list(&mut self, name: &str) {
        self.note(name, "$SYS.REQ.CLAIMS.LIST", "");
    }

    /// All messages of a pack, up to the empty one.
    fn pack(&mut self, hash: &[u8]) -> Vec<String> {
        self.sys.tell("SUB _INBOX.p pack\r\n");
        let mut line = format!("PUB $SYS.REQ.CLAIMS.PACK _INBOX.p {}\r\n", hash.len()).into_bytes();
        line.extend(hash);
        line.extend(b"\r\n");
        self.sys.send(line);
        let mut all = Vec::new();
        loop {
            let msg = self.sys.expect_msg();
            if msg.payload.is_empty() {
                break;
            }
            all.push(msg.text());
        }
        self.sys.tell("UNSUB pack\r\n");
        all.sort();
        all
    }

    /// The JWT that a file has, if there is one.
    fn file(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.hub.server.dir().join("jwt").join(name)).ok()
    }
}

/// Runs a scenario at petiole and at the newest real server, which must say the same.
fn same(run: impl Fn(&Target) -> Said) {
    let all: Vec<Said> = pair().iter().map(run).collect();
    for said in &all[1..] {
        let differ = said
            .iter()
            .filter(|(name, it)| all[0].get(*name) != Some(*it));
        let differ: Vec<String> = differ
            .map(|(name, theirs)| format!("{name}: {:?}, theirs {theirs}", all[0].get(name)))
            .collect();
        assert!(differ.is_empty(), "{differ:#?}");
        assert_eq!(all[0].len(), said.len());
    }
}

fn id(name: &str) -> String {
    account_key(name).public_key()
}

fn account(name: &str) -> Draft {
    Draft::account(&account_key(name), name)
}

/// The hash of a directory: all files of accounts, their digests by exclusive or.
fn hash(dir: &Path) -> Vec<u8> {
    let mut all = vec![0; 32];
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|it| it == "jwt") {
            let digest = Sha256::digest(std::fs::read(path).unwrap());
            all.iter_mut()
                .zip(digest)
                .for_each(|(sum, one)| *sum ^= one);
        }
    }
    all
}

const FULL: &str = "type: full, dir: \"{dir}/jwt\"";

#[test]
fn a_full_resolver_answers() {
    same(|target| {
        let mut bench = Bench::new(target, FULL);
        let signing = Operator::new("O").signing;
        let at = |id: &str, what: &str| format!("$SYS.REQ.ACCOUNT.{id}.CLAIMS.{what}");
        bench.list("list: the system account");

        let jwt = account("A").sign(&signing);
        bench.update("update", &jwt);
        let file = format!("{}.jwt", id("A"));
        assert_eq!(bench.file(&file).as_deref(), Some(&*jwt));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let path = bench.hub.server.dir().join("jwt").join(&file);
            let mode = std::fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        bench.update("update again", &jwt);
        let older = account("A").issued(now() - 3600).sign(&signing);
        bench.update("update: older", &older);
        assert_eq!(bench.file(&file).as_deref(), Some(&*older));

        let header = "NATS/1.0\r\na: b\r\n\r\n";
        let sys = &mut bench.sys;
        sys.tell("SUB _INBOX.h h\r\n");
        let (head, length) = (header.len(), header.len() + jwt.len());
        sys.send(format!(
            "HPUB $SYS.REQ.CLAIMS.UPDATE _INBOX.h {head} {length}\r\n{header}{jwt}\r\n"
        ));
        assert_eq!(body(&sys.expect_msg())["data"]["message"], "jwt updated");
        sys.tell("UNSUB h\r\n");
        assert_eq!(bench.file(&file).as_deref(), Some(&*jwt));

        for (name, text) in [("garbage", "garbage"), ("nothing", ""), ("chunks", "a.b.c")] {
            bench.update(name, text);
            bench.note(&format!("{name}, by id"), &at(&id("A"), "UPDATE"), text);
        }
        let mut forged = jwt.clone();
        forged.truncate(jwt.len() - 8);
        forged.push_str("AAAAAAAA");
        bench.update("forged", &forged);
        let user = bench.hub.operator.system_user().jwt;
        bench.update("a user's", &user);

        bench.note("by id", &at(&id("A"), "UPDATE"), &jwt);
        let legacy = format!("$SYS.ACCOUNT.{}.CLAIMS.UPDATE", id("A"));
        bench.note("by old id", &legacy, &jwt);
        bench.note("by another's id", &at(&id("B"), "UPDATE"), &jwt);
        bench.note("by what is no id", &at("B", "UPDATE"), &jwt);
        let expired = account("expired").until(now() - 10).sign(&signing);
        bench.update("expired", &expired);
        let invalid = account("invalid")
            .with(json!({"exports": [{"name": "e", "subject": "a..b", "type": "stream"}]}))
            .sign(&signing);
        bench.update("an invalid subject", &invalid);
        bench.update(
            "by the identity key",
            &account("B").sign(&bench.hub.operator.key),
        );

        bench.list("list");
        for name in ["A", "missing"] {
            let found = bench.ask(&at(&id(name), "LOOKUP"), "").text();
            assert_eq!(found, if name == "A" { &*jwt } else { "" });
        }
        let all = bench.pack(&[]);
        let kept = format!("{}|{jwt}", id("A"));
        assert!(all.contains(&kept), "{all:?}");
        bench.said.insert("packed".into(), json!(all.len()));
        let dir = bench.hub.server.dir().join("jwt");
        let same = bench.pack(&hash(&dir));
        assert!(same.is_empty(), "{same:?}");
        assert_eq!(bench.pack(&[7; 32]), all);

        let deletion = Draft::deletion(&signing, &[id("A")]);
        bench.delete("deletion is off", &deletion, &signing);
        bench.said
    });
}

#[test]
fn accounts_are_deleted() {
    same(|target| {
        let mut bench = Bench::new(target, &format!("{FULL}, allow_delete: true"));
        let Operator {
            key,
            signing,
            system,
        } = Operator::new("O");
        for name in ["A", "B", "C"] {
            bench.hub.push_account(&account(name));
        }
        let stranger = nkey(KeyPairType::Operator, "stranger");
        let of = |by, ids: &[&str]| {
            let ids: Vec<String> = ids.iter().map(|it| id(it)).collect();
            Draft::deletion(by, &ids)
        };
        bench.delete("by a stranger", &of(&stranger, &["A"]), &stranger);
        bench.delete("by another", &of(&key, &["A"]), &signing);
        let nothing = Draft::new("generic", &signing, "deletion");
        bench.delete("nothing", &nothing, &signing);
        let text = nothing.clone().with(json!({"accounts": "A"}));
        bench.delete("no list", &text, &signing);
        let numbers = nothing.clone().with(json!({"accounts": [1]}));
        bench.delete("numbers", &numbers, &signing);
        let words = nothing.clone().with(json!({"accounts": [id("A"), "A"]}));
        bench.delete("no ids", &words, &signing);
        let system = nothing.with(json!({"accounts": [id("A"), system.public_key()]}));
        bench.delete("the system account", &system, &signing);
        if *target == Target::Petiole {
            // Where petiole is stricter.
            let past = of(&signing, &["A"]).until(now() - 10);
            bench.delete("expired", &past, &signing);
            let said = bench.said.remove("expired").expect("it was noted");
            assert_eq!(said["error"]["code"], 500, "{said}");
        }
        let subject = "$SYS.REQ.CLAIMS.DELETE";
        bench.note("garbage", subject, "garbage");
        bench.note("an account's", subject, &account("A").sign(&signing));
        bench.list("all are left");
        bench.delete("one", &of(&signing, &["A"]), &signing);
        bench.delete("one and a missing", &of(&key, &["B", "missing"]), &key);
        bench.delete("none", &of(&key, &[]), &key);
        bench.list("one is left");
        for name in ["A", "B"] {
            assert!(bench.file(&format!("{}.jwt", id(name))).is_none());
            assert!(bench.file(&format!("{}.jwt.deleted", id(name))).is_some());
        }
        bench.said
    });
}

#[test]
fn deleted_files_are_gone_if_that_is_wanted() {
    same(|target| {
        let more = "allow_delete: true, hard_delete: true";
        let mut bench = Bench::new(target, &format!("{FULL}, {more}"));
        let signing = Operator::new("O").signing;
        bench.hub.push_account(&account("A"));
        let deletion = Draft::deletion(&signing, &[id("A")]);
        bench.delete("one", &deletion, &signing);
        for end in ["jwt", "jwt.deleted"] {
            assert!(bench.file(&format!("{}.{end}", id("A"))).is_none());
        }
        bench.said
    });
}

/// Where petiole is stricter: nobody could ever use such an account.
#[test]
fn an_update_that_nobody_trusted_signed() {
    for target in pair() {
        let mut bench = Bench::new(&target, FULL);
        for (name, by) in [
            ("stranger", nkey(KeyPairType::Operator, "stranger")),
            ("itself", account_key("A")),
        ] {
            let jwt = account("A").sign(&by);
            bench.update(name, &jwt);
            let file = bench.file(&format!("{}.jwt", id("A")));
            let said = &bench.said[name];
            if target == Target::Petiole {
                assert_eq!(said["error"]["code"], 500, "{said}");
                assert_eq!(said["error"]["account"], id("A"), "{said}");
                assert_eq!(file, None);
            } else {
                assert_eq!(said["data"]["code"], 200, "{said}");
                assert!(file.is_some());
            }
        }
    }
}

#[test]
fn a_full_directory_takes_updates_alone() {
    same(|target| {
        let mut bench = Bench::new(target, &format!("{FULL}, limit: 2"));
        let signing = Operator::new("O").signing;
        bench.update("second", &account("A").sign(&signing));
        bench.update("third", &account("B").sign(&signing));
        bench.update("second again", &account("A").issued(1).sign(&signing));
        bench.list("list");
        bench.said
    });
}

#[test]
fn a_strict_operator_signs_with_its_signing_keys() {
    same(|target| {
        let operator = Operator::new("O");
        let (lax, strict) = operator.lax_and_strict();
        let signing = account_key("SYS signing");
        let system = Draft::account(&operator.system, "SYS")
            .with(json!({"signing_keys": [signing.public_key()]}));
        let (old, new) = (operator.system_jwt(), operator.sign(&system));
        let config = hub_config(&operator.with_resolver(FULL))
            .replace(&lax, &strict)
            .replace(&old, &new);
        let server = crate::support::Server::start(target, &config);
        let user = |issuer| crate::support::Credentials::new("sys", &operator.system, issuer);
        let login = || user(&signing).login(server.port());
        let mut refused = user(&operator.system).knock(server.port());
        refused.expect_err_close("Authorization Violation");
        let (nsc, sys) = (login(), login());
        let said = Said::new();
        let (by_identity, by_signing) = (
            account("A").sign(&operator.key),
            account("A").sign(&operator.signing),
        );
        let hub = Hub {
            server,
            operator,
            nsc,
        };
        let mut bench = Bench { hub, sys, said };
        bench.update("by the identity key", &by_identity);
        bench.update("by a signing key", &by_signing);
        bench.said
    });
}

#[test]
fn a_cache_answers() {
    same(|target| {
        let mut bench = Bench::new(target, "type: cache, dir: \"{dir}/jwt\"");
        let signing = Operator::new("O").signing;
        let system = Draft::account(&bench.hub.operator.system, "SYS").issued(5);
        bench.update("not in use", &account("A").sign(&signing));
        bench.update("garbage", "garbage");
        bench.update("in use", &system.sign(&signing));
        let at = |id: &str, what: &str| format!("$SYS.REQ.ACCOUNT.{id}.CLAIMS.{what}");
        bench.note("garbage by id", &at(&id("A"), "UPDATE"), "garbage");
        bench.note(
            "not in use, by id",
            &at(&id("A"), "UPDATE"),
            &account("A").sign(&signing),
        );
        bench.note(
            "another's",
            &at(&id("B"), "UPDATE"),
            &account("A").sign(&signing),
        );
        bench.note("lookup", &at(&id("A"), "LOOKUP"), "");
        bench.note("pack", "$SYS.REQ.CLAIMS.PACK", "");
        bench.list("list");
        bench.said
    });
}

#[test]
fn a_resolver_in_memory_answers() {
    same(|target| {
        let operator = Operator::new("O");
        let resolver = operator.with_resolver("");
        let config = hub_config(&resolver.replace("resolver {\n    \n}", "resolver: MEMORY"));
        let sys = operator.system_user();
        let mut bench = {
            let server = crate::support::Server::start(target, &config);
            let (nsc, sys) = (sys.login(server.port()), sys.login(server.port()));
            let hub = Hub {
                server,
                operator,
                nsc,
            };
            let said = Said::new();
            Bench { hub, sys, said }
        };
        let signing = Operator::new("O").signing;
        for what in ["UPDATE", "LIST", "DELETE", "PACK"] {
            bench.note(what, &format!("$SYS.REQ.CLAIMS.{what}"), "");
        }
        let key = bench.hub.operator.system.public_key();
        let system = Draft::account(&bench.hub.operator.system, "SYS").issued(5);
        let at = |id: &str, what: &str| format!("$SYS.REQ.ACCOUNT.{id}.CLAIMS.{what}");
        bench.note("lookup", &at(&key, "LOOKUP"), "");
        bench.note("nothing", &at(&key, "UPDATE"), "");
        bench.note("garbage", &at(&key, "UPDATE"), "garbage");
        bench.note("in use", &at(&key, "UPDATE"), &system.sign(&signing));
        bench.note(
            "not in use",
            &at(&id("A"), "UPDATE"),
            &account("A").sign(&signing),
        );
        bench.note(
            "another's",
            &at(&id("B"), "UPDATE"),
            &account("A").sign(&signing),
        );
        let legacy = format!("$SYS.ACCOUNT.{key}.CLAIMS.UPDATE");
        bench.note(
            "in use, by old id",
            &legacy,
            &system.issued(6).sign(&signing),
        );
        bench.said
    });
}
