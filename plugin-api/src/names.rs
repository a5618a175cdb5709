//! What the processes of a computation tell each other: values under names, and barriers.
//!
//! ```ignore
//! hook!(PreCheckpoint, |core| {
//!     let names = core.names("/plugin/mine");
//!     names.set(format!("server {}", sys::pid()).as_bytes(), b"10.0.0.1:4711")?;
//!     core.meet("mine: published")?;            // from here on everybody's are there
//!     let first = names.add(b"turns", 1)?;      // None for one process, Some(n) for the others
//! });
//! ```
//! Values can be worked on at any time once the process is a member of a computation (not at INIT), by any thread; each
//! operation is carried out as a whole, and gives the value of before. Barriers are for hooks from PRESUSPEND to RUNNING:
//! every process that takes part must come to the same ones in the same order, so a plugin that uses them has to be loaded
//! in all processes.
//!
//! Values stay over checkpoints and end with the computation. A restart begins with none: what is published has to be
//! published again at RESTART. They also end with the coordinator: if another one takes the computation over, it starts
//! empty. Without a coordinator a process has values of its own, and passes barriers at once.
//!
//! What can go wrong: no coordinator answers; a value is no number, or too long; a process does not come to a barrier.
//! Before all images are written, or all processes are back, that last fault ends the checkpoint or the restart, with a
//! message that says who was waited for.

use crate::abi::{NameCall, named, operation};
use crate::core::Core;

/// Longest value, in bytes.
const LONGEST: usize = 64 << 10;
/// Longest reason that is passed on.
const REASON: usize = 1 << 12;

/// The values of one database. Plugins name theirs `/plugin/NAME`; at most 63 bytes.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    core: Core,
    database: &'a str,
}

impl Core {
    /// The values of a database.
    pub fn names<'a>(&self, database: &'a str) -> Names<'a> {
        Names { core: *self, database }
    }

    /// Waits until every process of the computation has come to the barrier of this name; at most 63 bytes.
    pub fn meet(&self, barrier: &str) -> Result<(), String> {
        self.come_to(barrier, false)
    }

    /// As [`Core::meet`], for the processes of this host.
    pub fn meet_on_host(&self, barrier: &str) -> Result<(), String> {
        self.come_to(barrier, true)
    }

    fn come_to(&self, barrier: &str, host: bool) -> Result<(), String> {
        let mut reason = vec![0u8; REASON];
        match (self.api().meet)(barrier.as_ptr(), barrier.len(), host, reason.as_mut_ptr(), reason.len()) {
            length if length < 0 => Ok(()),
            length => Err(text(reason, length as usize)),
        }
    }
}

fn text(mut bytes: Vec<u8>, length: usize) -> String {
    bytes.truncate(length);
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Names<'_> {
    /// The value of a key; `None`: nobody has set it.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        self.work(key, operation::GET, 0, &[])
    }

    /// The number of a key; `None`: nobody has set it.
    pub fn number(&self, key: &[u8]) -> Result<Option<i64>, String> {
        self.get(key).and_then(number)
    }

    /// Sets a value of at most 64 KiB; the key may have 1 KiB.
    pub fn set(&self, key: &[u8], value: &[u8]) -> Result<Option<Vec<u8>>, String> {
        self.work(key, operation::SET, 0, value)
    }

    /// Adds to a number.
    pub fn add(&self, key: &[u8], operand: i64) -> Result<Option<i64>, String> {
        self.work(key, operation::ADD, operand, &[]).and_then(number)
    }

    /// Keeps the bits of a number that the operand has, too.
    pub fn and(&self, key: &[u8], operand: i64) -> Result<Option<i64>, String> {
        self.work(key, operation::AND, operand, &[]).and_then(number)
    }

    /// Sets the operand's bits in a number.
    pub fn or(&self, key: &[u8], operand: i64) -> Result<Option<i64>, String> {
        self.work(key, operation::OR, operand, &[]).and_then(number)
    }

    /// Changes the operand's bits in a number.
    pub fn xor(&self, key: &[u8], operand: i64) -> Result<Option<i64>, String> {
        self.work(key, operation::XOR, operand, &[]).and_then(number)
    }

    /// Makes a number the smaller one of itself and the operand.
    pub fn min(&self, key: &[u8], operand: i64) -> Result<Option<i64>, String> {
        self.work(key, operation::MIN, operand, &[]).and_then(number)
    }

    /// Makes a number the greater one of itself and the operand.
    pub fn max(&self, key: &[u8], operand: i64) -> Result<Option<i64>, String> {
        self.work(key, operation::MAX, operand, &[]).and_then(number)
    }

    fn work(&self, key: &[u8], operation: u32, number: i64, value: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let mut into = vec![0u8; LONGEST];
        let mut call = NameCall {
            database: self.database.as_ptr(),
            database_length: self.database.len(),
            key: key.as_ptr(),
            key_length: key.len(),
            operation,
            reserved: 0,
            number,
            value: value.as_ptr(),
            value_length: value.len(),
            into: into.as_mut_ptr(),
            room: into.len(),
            length: 0,
        };
        let outcome = (self.core.api().name)(&raw mut call);
        match outcome {
            named::WAS => {
                into.truncate(call.length);
                Ok(Some(into))
            }
            named::NEW | named::NO_DATABASE | named::NO_KEY => Ok(None),
            _ => Err(text(into, call.length)),
        }
    }
}

/// The number that a value is.
fn number(value: Option<Vec<u8>>) -> Result<Option<i64>, String> {
    let Some(value) = value else { return Ok(None) };
    let number = core::str::from_utf8(&value).ok().and_then(|text| text.trim().parse().ok());
    number.map(Some).ok_or_else(|| "the value is not a number of 64 bits".into())
}
