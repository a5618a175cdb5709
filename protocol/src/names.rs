//! Names that the processes of a computation give to values, and the places where their plugins wait for each other.
//!
//! ```text
//!   database "/plugin/mine"          databases and keys come into being with the first value
//!      key "server"  -> value        a value is bytes; numbers are their decimal digits
//! ```
//! Every operation gives what the value was before, and is carried out as a whole before the next one: two processes that
//! add to one number never lose one of the two. The store is as bounded as what a client may send: who publishes without
//! end is told so, and nobody else notices.
//!
//! The coordinator keeps the store of a computation, a process without a coordinator its own.

use alloc::{collections::BTreeMap, format, string::String, string::ToString, vec::Vec};
use serde::{Deserialize, Serialize};

/// Longest name of a database, and of a barrier, in bytes.
pub const LONGEST_NAME: usize = 63;
/// Longest key, in bytes.
pub const LONGEST_KEY: usize = 1 << 10;
/// Longest value, in bytes.
pub const LONGEST_VALUE: usize = 64 << 10;
/// What all keys and values may take together, in bytes.
pub const ROOM: usize = 64 << 20;
/// What an entry takes beside its key and its value, in bytes.
const ENTRY: usize = 64;

/// What is done to a value. A number that is not there yet becomes the operand.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Nothing.
    Get,
    /// It becomes this.
    Set(Vec<u8>),
    /// Number: this is added; beyond the ends of 64 bits it wraps around.
    Add(i64),
    /// Number: the bits that both have.
    And(i64),
    /// Number: the bits that either has.
    Or(i64),
    /// Number: the bits that one of them has.
    Xor(i64),
    /// Number: the smaller one.
    Min(i64),
    /// Number: the greater one.
    Max(i64),
}

/// What came of an operation.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was carried out; the value before it, if there was one.
    Was(Option<Vec<u8>>),
    /// Only to `Get`: nobody has set anything in this database.
    NoDatabase,
    /// Only to `Get`: nobody has set this key.
    NoKey,
    /// It cannot be carried out: one sentence.
    Invalid(String),
}

/// Whom a barrier is for.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// All processes of the computation.
    Computation,
    /// Those on the same host.
    Host,
}

/// A store.
#[derive(Debug, Default)]
pub struct Names {
    databases: BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>,
    bytes: usize,
}

/// The number that a value is.
pub fn number(value: &[u8]) -> Option<i64> {
    core::str::from_utf8(value).ok()?.trim_ascii().parse().ok()
}

impl Names {
    /// An empty store.
    pub const fn new() -> Self {
        Self { databases: BTreeMap::new(), bytes: 0 }
    }

    /// All databases by name, with their keys and values.
    pub fn databases(&self) -> impl Iterator<Item = (&str, &BTreeMap<Vec<u8>, Vec<u8>>)> {
        self.databases.iter().map(|(name, values)| (name.as_str(), values))
    }

    /// Carries an operation out.
    pub fn carry_out(&mut self, database: &str, key: &[u8], operation: &Operation) -> Answer {
        self.try_out(database, key, operation).unwrap_or_else(|answer| answer)
    }

    /// The error is the answer to an operation that leaves things as they are.
    fn try_out(&mut self, database: &str, key: &[u8], operation: &Operation) -> Result<Answer, Answer> {
        let too_long = |what: &str, length: usize, most: usize| {
            Err(Answer::Invalid(format!("the {what} is {length} bytes long; the limit is {most}")))
        };
        if database.len() > LONGEST_NAME {
            return too_long("name of the database", database.len(), LONGEST_NAME);
        }
        if key.len() > LONGEST_KEY {
            return too_long("key", key.len(), LONGEST_KEY);
        }
        let before = self.databases.get(database).and_then(|keys| keys.get(key));
        let value = match operation {
            Operation::Get => {
                return Err(match (before, self.databases.contains_key(database)) {
                    (Some(value), _) => Answer::Was(Some(value.clone())),
                    (None, true) => Answer::NoKey,
                    (None, false) => Answer::NoDatabase,
                });
            }
            Operation::Set(value) if value.len() > LONGEST_VALUE => {
                return too_long("value", value.len(), LONGEST_VALUE);
            }
            Operation::Set(value) => value.clone(),
            Operation::Add(n) => combine(before, *n, i64::wrapping_add)?,
            Operation::And(n) => combine(before, *n, |a, b| a & b)?,
            Operation::Or(n) => combine(before, *n, |a, b| a | b)?,
            Operation::Xor(n) => combine(before, *n, |a, b| a ^ b)?,
            Operation::Min(n) => combine(before, *n, i64::min)?,
            Operation::Max(n) => combine(before, *n, i64::max)?,
        };
        let freed = before.map_or(0, |value| ENTRY + key.len() + value.len());
        let bytes = self.bytes - freed + ENTRY + key.len() + value.len();
        if bytes > ROOM {
            let reason = format!("the names of the computation would take more than {} MiB", ROOM >> 20);
            return Err(Answer::Invalid(reason));
        }
        self.bytes = bytes;
        let keys = self.databases.entry(database.into()).or_default();
        Ok(Answer::Was(keys.insert(key.into(), value)))
    }
}

fn combine(before: Option<&Vec<u8>>, operand: i64, with: impl Fn(i64, i64) -> i64) -> Result<Vec<u8>, Answer> {
    let Some(before) = before else { return Ok(operand.to_string().into()) };
    match number(before) {
        Some(before) => Ok(with(before, operand).to_string().into()),
        None => Err(Answer::Invalid("the value is not a number of 64 bits".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn was(value: &str) -> Answer {
        Answer::Was(Some(value.into()))
    }

    #[test]
    fn what_nobody_has_set_is_not_there() {
        let mut names = Names::new();
        assert_eq!(names.carry_out("a", b"k", &Operation::Get), Answer::NoDatabase);
        assert_eq!(names.carry_out("a", b"other", &Operation::Set("x".into())), Answer::Was(None));
        assert_eq!(names.carry_out("a", b"k", &Operation::Get), Answer::NoKey);
        assert_eq!(names.carry_out("a", b"other", &Operation::Get), was("x"));
        assert_eq!(names.carry_out("b", b"other", &Operation::Get), Answer::NoDatabase);
    }

    #[test]
    fn every_operation_gives_the_value_before_it() {
        let mut names = Names::new();
        let mut step = |operation| names.carry_out("a", b"n", &operation);
        assert_eq!(step(Operation::Add(5)), Answer::Was(None));
        assert_eq!(step(Operation::Add(-8)), was("5"));
        assert_eq!(step(Operation::Max(6)), was("-3"));
        assert_eq!(step(Operation::Min(9)), was("6"));
        assert_eq!(step(Operation::And(12)), was("6"));
        assert_eq!(step(Operation::Or(3)), was("4"));
        assert_eq!(step(Operation::Xor(1)), was("7"));
        assert_eq!(step(Operation::Add(i64::MAX)), was("6"));
        assert_eq!(step(Operation::Set("word".into())), was("-9223372036854775803"));
        assert!(matches!(step(Operation::Add(1)), Answer::Invalid(_)));
        assert_eq!(step(Operation::Get), was("word"));
    }

    #[test]
    fn the_store_is_bounded_and_says_so() {
        let mut names = Names::new();
        let long = Operation::Set(vec![b'x'; LONGEST_VALUE]);
        let longer = Operation::Set(vec![b'x'; LONGEST_VALUE + 1]);
        assert!(matches!(names.carry_out("a", b"k", &longer), Answer::Invalid(_)));
        assert!(matches!(names.carry_out(&"a".repeat(64), b"k", &Operation::Get), Answer::Invalid(_)));
        assert!(matches!(names.carry_out("a", &[b'k'; LONGEST_KEY + 1], &Operation::Get), Answer::Invalid(_)));
        let stored = (0u32..).take_while(|n| names.carry_out("a", &n.to_le_bytes(), &long) == Answer::Was(None));
        let stored = stored.count();
        assert_eq!(stored, ROOM / (LONGEST_VALUE + ENTRY + 4));
        // What is replaced makes room.
        assert!(matches!(names.carry_out("a", &0u32.to_le_bytes(), &Operation::Set("x".into())), Answer::Was(Some(_))));
        assert_eq!(names.carry_out("a", b"last", &long), Answer::Was(None));
        assert!(matches!(names.carry_out("a", b"more", &long), Answer::Invalid(_)));
    }
}
