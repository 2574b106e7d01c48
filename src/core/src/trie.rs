//! The patterns with wildcards: one node per token, found by (parent, token).

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::hash::{BuildHasher, Hash, Hasher};

use crate::slab::{NONE, Slab};
use crate::subject::tokens;

/// A set of wildcard patterns, each with a number. The children of all nodes live in one
/// hash table, so a node costs the same however many children it has.
#[derive(Debug)]
pub(crate) struct Trie {
    nodes: Slab<Node>,
    children: HashTable<u32>,
    hasher: FixedState,
    root: Ends,
    patterns: usize,
}

/// What ends or goes on below a node by a wildcard.
#[derive(Debug, Clone, Copy)]
struct Ends {
    /// The number of the pattern that ends at the node.
    here: u32,
    /// The number of the pattern that goes on with `>`.
    rest: u32,
    /// The node below `*`.
    star: u32,
    /// Children by token, `*` not counted.
    children: u32,
}

const NO_ENDS: Ends = Ends {
    here: NONE,
    rest: NONE,
    star: NONE,
    children: 0,
};

#[derive(Debug)]
struct Node {
    parent: u32,
    token: Box<[u8]>,
    ends: Ends,
}

/// The parent of the first token.
const ROOT: u32 = NONE;

impl Trie {
    pub(crate) fn new(hasher: FixedState) -> Self {
        Trie {
            nodes: Slab::default(),
            children: HashTable::new(),
            hasher,
            root: NO_ENDS,
            patterns: 0,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.patterns == 0
    }

    /// Adds a valid pattern that is not in it yet.
    pub(crate) fn insert(&mut self, pattern: &[u8], entry: u32) {
        let mut at = ROOT;
        for token in tokens(pattern) {
            if token == b">" {
                self.ends_mut(at).rest = entry;
                self.patterns += 1;
                return;
            }
            at = self
                .child(at, token)
                .unwrap_or_else(|| self.grow(at, token));
        }
        self.ends_mut(at).here = entry;
        self.patterns += 1;
    }

    /// Removes a pattern that is in it.
    pub(crate) fn remove(&mut self, pattern: &[u8]) {
        let mut at = ROOT;
        for token in tokens(pattern) {
            if token == b">" {
                self.ends_mut(at).rest = NONE;
                self.patterns -= 1;
                return self.prune(at);
            }
            match self.child(at, token) {
                Some(next) => at = next,
                None => return,
            }
        }
        self.ends_mut(at).here = NONE;
        self.patterns -= 1;
        self.prune(at);
    }

    /// Calls `found` with the number of each pattern that `subject` matches.
    pub(crate) fn walk(&self, subject: &[u8], found: &mut impl FnMut(u32)) {
        // An empty token anywhere matches nothing, `>` included.
        if tokens(subject).any(<[u8]>::is_empty) {
            return;
        }
        self.descend(ROOT, Some(subject), found);
    }

    fn descend(&self, at: u32, subject: Option<&[u8]>, found: &mut impl FnMut(u32)) {
        let ends = self.ends(at);
        let Some(subject) = subject else {
            if ends.here != NONE {
                found(ends.here);
            }
            return;
        };
        if ends.rest != NONE {
            found(ends.rest);
        }
        let (token, rest) = match memchr::memchr(b'.', subject) {
            Some(dot) => (&subject[..dot], Some(&subject[dot + 1..])),
            None => (subject, None),
        };
        // A literal `*` token in a published subject is the same node as the wildcard: once only.
        if ends.children > 0
            && token != b"*"
            && let Some(next) = self.child(at, token)
        {
            self.descend(next, rest, found);
        }
        if ends.star != NONE {
            self.descend(ends.star, rest, found);
        }
    }

    fn ends(&self, at: u32) -> Ends {
        if at == ROOT {
            self.root
        } else {
            self.nodes.get(at).map_or(NO_ENDS, |node| node.ends)
        }
    }

    fn ends_mut(&mut self, at: u32) -> &mut Ends {
        match self.nodes.get_mut(at) {
            Some(node) => &mut node.ends,
            None => &mut self.root,
        }
    }

    fn hash(&self, parent: u32, token: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u32(parent);
        token.hash(&mut hasher);
        hasher.finish()
    }

    fn child(&self, parent: u32, token: &[u8]) -> Option<u32> {
        if token == b"*" {
            let star = self.ends(parent).star;
            return (star != NONE).then_some(star);
        }
        self.children
            .find(self.hash(parent, token), |key| {
                self.nodes
                    .get(*key)
                    .is_some_and(|node| node.parent == parent && *node.token == *token)
            })
            .copied()
    }

    fn grow(&mut self, parent: u32, token: &[u8]) -> u32 {
        let key = self.nodes.insert(Node {
            parent,
            token: token.into(),
            ends: NO_ENDS,
        });
        if token == b"*" {
            self.ends_mut(parent).star = key;
            return key;
        }
        self.ends_mut(parent).children += 1;
        let hash = self.hash(parent, token);
        let (nodes, hasher) = (&self.nodes, &self.hasher);
        self.children.insert_unique(hash, key, |key| {
            let mut state = hasher.build_hasher();
            if let Some(node) = nodes.get(*key) {
                state.write_u32(node.parent);
                node.token.hash(&mut state);
            }
            state.finish()
        });
        key
    }

    /// Takes away the nodes from `at` upwards that hold nothing any more.
    fn prune(&mut self, mut at: u32) {
        while at != ROOT {
            let Some(node) = self.nodes.get(at) else {
                return;
            };
            let Ends {
                here,
                rest,
                star,
                children,
            } = node.ends;
            if here != NONE || rest != NONE || star != NONE || children > 0 {
                return;
            }
            let parent = node.parent;
            if *node.token == *b"*" {
                self.ends_mut(parent).star = NONE;
            } else {
                let hash = self.hash(parent, &node.token);
                if let Ok(found) = self.children.find_entry(hash, |key| *key == at) {
                    found.remove();
                }
                self.ends_mut(parent).children -= 1;
            }
            self.nodes.remove(at);
            at = parent;
        }
        if self.patterns == 0 {
            self.children = HashTable::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject;
    use proptest::prelude::*;

    fn found(trie: &Trie, subject: &[u8]) -> Vec<u32> {
        let mut all = Vec::new();
        trie.walk(subject, &mut |entry| all.push(entry));
        all.sort_unstable();
        all
    }

    fn pattern() -> impl Strategy<Value = String> {
        let token = prop_oneof![Just("a"), Just("b"), Just("*"), Just("c")];
        (prop::collection::vec(token, 1..5), any::<bool>()).prop_map(|(tokens, open)| {
            let mut text = tokens.join(".");
            if open {
                text.push_str(".>");
            }
            text
        })
    }

    proptest! {
        /// The trie agrees with matching pattern by pattern, also after removals, and ends empty.
        #[test]
        fn agrees_with_plain_matching(
            patterns in prop::collection::btree_set(pattern(), 0..20),
            subjects in prop::collection::vec("[abc*>.]{1,9}", 1..20),
            gone in prop::collection::vec(any::<bool>(), 20),
        ) {
            let mut trie = Trie::new(FixedState::with_seed(3));
            let all: Vec<String> = patterns.into_iter().collect();
            for (i, pattern) in all.iter().enumerate() {
                trie.insert(pattern.as_bytes(), i as u32);
            }
            let check = |trie: &Trie, left: &dyn Fn(usize) -> bool| {
                for subject in &subjects {
                    let expected: Vec<u32> = all.iter().enumerate()
                        .filter(|(i, p)| left(*i) && subject::matches(p.as_bytes(), subject.as_bytes()))
                        .map(|(i, _)| i as u32)
                        .collect();
                    assert_eq!(found(trie, subject.as_bytes()), expected, "{subject}");
                }
            };
            check(&trie, &|_| true);
            for (i, pattern) in all.iter().enumerate() {
                if gone[i] {
                    trie.remove(pattern.as_bytes());
                }
            }
            check(&trie, &|i| !gone[i]);
            for (i, pattern) in all.iter().enumerate() {
                if !gone[i] {
                    trie.remove(pattern.as_bytes());
                }
            }
            prop_assert!(trie.is_empty());
            prop_assert_eq!(trie.nodes.len(), 0);
        }
    }
}
