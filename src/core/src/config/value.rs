//! The tree a configuration file becomes: values with the place of the key that carries them.
//!
//! Owns no meaning: which key is an option and what it may hold is `options`.

use std::collections::HashMap;
use std::sync::Arc;

/// Where something stands, counted as nats-server counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The file as it was passed, or as it was joined for an include.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
    /// Byte offset in the line: from 0 on line 1, from 1 on later lines.
    pub column: u32,
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Text, quoted or bare.
    String(String),
    /// An integer, its size suffix applied.
    Int(i64),
    /// A float.
    Float(f64),
    /// A boolean.
    Bool(bool),
    /// `YYYY-MM-DDTHH:MM:SSZ`.
    Time(String),
    /// `[ ... ]`.
    Array(Vec<Node>),
    /// `{ ... }`.
    Map(Map),
}

impl Value {
    /// The type as Go prints it, for the texts of type errors.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::String(_) => "string",
            Value::Int(_) => "int64",
            Value::Float(_) => "float64",
            Value::Bool(_) => "bool",
            Value::Time(_) => "time.Time",
            Value::Array(_) => "[]interface {}",
            Value::Map(_) => "map[string]interface {}",
        }
    }

    /// For error texts: numbers as they are; text never whole, it may be a secret.
    pub(super) fn shown(&self) -> String {
        match self {
            Value::Int(n) => n.to_string(),
            Value::Float(n) => n.to_string(),
            Value::Bool(b) => b.to_string(),
            Value::Time(t) => t.clone(),
            Value::Array(list) if list.is_empty() => "[]".into(),
            Value::Map(map) if map.is_empty() => "map[]".into(),
            other => other.type_name().into(),
        }
    }
}

/// A value and its place: the key's, or the element's own in an array.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The place.
    pub position: Position,
    /// The value.
    pub value: Value,
}

/// One key of a map.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key as written.
    pub key: String,
    /// What it holds.
    pub node: Node,
    /// Whether a `$key` somewhere used it: such a key need not be an option.
    pub used: bool,
}

/// Entries in file order. A key that is set again moves to the end.
#[derive(Clone, Debug, Default)]
pub struct Map {
    // A slot of `None` is an entry that was replaced.
    slots: Vec<Option<Entry>>,
    index: HashMap<String, usize>,
}

impl PartialEq for Map {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Map {
    /// Whether it has no entry.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// The entries in file order.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.slots.iter().flatten()
    }

    /// The place of the last entry: an element of an array that is a block has that of its end.
    pub(super) fn last_position(&self) -> Option<&Position> {
        self.iter().last().map(|entry| &entry.node.position)
    }

    /// The entry with exactly this key.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.slots.get(*self.index.get(key)?)?.as_ref()
    }

    /// As [`Map::get`], to mark it used.
    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Entry> {
        self.slots.get_mut(*self.index.get(key)?)?.as_mut()
    }

    /// Sets a key; what it held before is gone.
    pub(super) fn set(&mut self, entry: Entry) {
        let new = self.slots.len();
        if let Some(old) = self.index.insert(entry.key.clone(), new)
            && let Some(slot) = self.slots.get_mut(old)
        {
            *slot = None;
        }
        self.slots.push(Some(entry));
    }

    /// Takes the entries, in file order.
    pub(super) fn into_entries(self) -> impl Iterator<Item = Entry> {
        self.slots.into_iter().flatten()
    }
}
