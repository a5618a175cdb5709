//! The stub's table while it grows: operations, and the bytes that they point at.
//!
//! Bytes are kept apart and addressed by offset until the table's own address is known.

use crate::stub::{Op, Rule};

/// An argument of a system call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arg {
    /// A number.
    Value(u64),
    /// The address of these bytes.
    Bytes(Vec<u8>),
    /// The address of `bytes`, in which the word at offset `pointer` is the address of `target`.
    BytesWithPointer {
        /// The bytes.
        bytes: Vec<u8>,
        /// Where in them the address stands.
        pointer: usize,
        /// What it points at.
        target: Vec<u8>,
    },
}

/// Where a word must be raised by the address of the bytes.
#[derive(Debug)]
enum Fixup {
    Argument { op: usize, argument: usize },
    Word { offset: usize },
}

/// Operations and their bytes.
#[derive(Debug, Default)]
pub struct Table {
    ops: Vec<Op>,
    bytes: Vec<u8>,
    fixups: Vec<Fixup>,
}

impl Table {
    /// An operation that must succeed; `what` is said if it does not.
    pub fn must(&mut self, number: libc::c_long, args: &[Arg], what: &str) {
        let text = format!("dmtcp_restart: restoring memory failed at {what}: errno ");
        self.push(number, args, Rule::Must, 0, text.as_bytes());
    }

    /// An operation that may fail.
    pub fn may(&mut self, number: libc::c_long, args: &[Arg]) {
        self.push(number, args, Rule::May, 0, b"");
    }

    /// An operation that, if it succeeds, makes the following ones unnecessary.
    pub fn or_else(&mut self, number: libc::c_long, args: &[Arg], skip: u32) {
        self.push(number, args, Rule::Else, skip, b"");
    }

    fn push(&mut self, number: libc::c_long, args: &[Arg], rule: Rule, skip: u32, text: &[u8]) {
        let index = self.ops.len();
        let mut words = [0u64; 6];
        for (argument, (word, arg)) in words.iter_mut().zip(args).enumerate() {
            *word = match arg {
                Arg::Value(value) => *value,
                Arg::Bytes(bytes) => self.store(bytes),
                Arg::BytesWithPointer { bytes, pointer, target } => {
                    let target = self.store(target);
                    let at = self.store(bytes);
                    let offset = at as usize + pointer;
                    self.bytes[offset..offset + 8].copy_from_slice(&target.to_le_bytes());
                    self.fixups.push(Fixup::Word { offset });
                    at
                }
            };
            if !matches!(arg, Arg::Value(_)) {
                self.fixups.push(Fixup::Argument { op: index, argument });
            }
        }
        let at = self.store(text);
        self.ops.push(Op { number: number as u64, args: words, rule, skip, text: at, text_length: text.len() as u64 });
    }

    fn store(&mut self, bytes: &[u8]) -> u64 {
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        let at = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        at as u64
    }

    /// Number of operations.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// The operations, with addresses of bytes counted from their start.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// The table as it is at this address: operations, then bytes.
    pub fn at(mut self, address: u64) -> Vec<u8> {
        let bytes_at = address + (self.ops.len() * size_of::<Op>()) as u64;
        for fixup in &self.fixups {
            match *fixup {
                Fixup::Argument { op, argument } => self.ops[op].args[argument] += bytes_at,
                Fixup::Word { offset } => {
                    let word = self.bytes[offset..].first_chunk_mut::<8>().expect("the word was stored whole");
                    *word = (u64::from_le_bytes(*word) + bytes_at).to_le_bytes();
                }
            }
        }
        let mut out = Vec::with_capacity(self.ops.len() * size_of::<Op>() + self.bytes.len());
        for op in &mut self.ops {
            op.text += bytes_at;
            for word in [op.number].into_iter().chain(op.args) {
                out.extend_from_slice(&word.to_le_bytes());
            }
            out.extend_from_slice(&(op.rule as u32).to_le_bytes());
            out.extend_from_slice(&op.skip.to_le_bytes());
            out.extend_from_slice(&op.text.to_le_bytes());
            out.extend_from_slice(&op.text_length.to_le_bytes());
        }
        out.extend_from_slice(&self.bytes);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_right_wherever_the_table_is() {
        let mut table = Table::default();
        let with = Arg::BytesWithPointer { bytes: vec![0; 16], pointer: 8, target: b"target".to_vec() };
        table.may(1, &[Arg::Value(7), Arg::Bytes(b"first".to_vec()), with]);
        table.must(2, &[], "the thing");
        let base = 0x5000_0000u64;
        let image = table.at(base);
        let word = |at: usize| u64::from_le_bytes(*image[at..].first_chunk().unwrap());
        let slice = |address: u64, length: usize| &image[(address - base) as usize..][..length];
        assert_eq!(word(8), 7);
        assert_eq!(slice(word(16), 5), b"first");
        let structure = word(24);
        assert_eq!(slice(word((structure - base) as usize + 8), 6), b"target");
        let text = slice(word(80 + 64), word(80 + 72) as usize);
        assert!(text.starts_with(b"dmtcp_restart: restoring memory failed at the thing"));
    }
}
