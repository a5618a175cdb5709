//! What plugins in Rust say to those in other processes: the values and barriers of [`CoreApi`].
//!
//! [`CoreApi`]: dmtcp_plugin_api::abi::CoreApi

use super::api::{bytes, string};
use crate::interface::{hold, names};
use crate::life::errand::Errand;
use dmtcp_plugin_api::abi::{NameCall, named, operation};
use dmtcp_protocol::names::{Answer, Operation, Scope};

/// The operation of a number; `None`: there is no such.
pub fn operation(number: u32, operand: i64, value: &[u8]) -> Option<Operation> {
    Some(match number {
        operation::GET => Operation::Get,
        operation::SET => Operation::Set(value.to_vec()),
        operation::ADD => Operation::Add(operand),
        operation::AND => Operation::And(operand),
        operation::OR => Operation::Or(operand),
        operation::XOR => Operation::Xor(operand),
        operation::MIN => Operation::Min(operand),
        operation::MAX => Operation::Max(operand),
        _ => return None,
    })
}

/// Copies as far as there is room.
fn copy(text: &[u8], into: *mut u8, room: usize) -> usize {
    // SAFETY: the caller has `room` bytes.
    unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), into, text.len().min(room)) };
    text.len()
}

/// `CoreApi::name`.
pub extern "C" fn name(call: *mut NameCall) -> u32 {
    // SAFETY: the interface demands a valid call.
    let call = unsafe { &mut *call };
    // No thread is stopped by a checkpoint inside our allocator.
    hold::hold();
    let database = string(call.database, call.database_length);
    let key = bytes(call.key, call.key_length).to_vec();
    let value = bytes(call.value, call.value_length);
    let reply = match operation(call.operation, call.number, value) {
        Some(operation) => names::run(Errand::Name { database, key, operation }),
        None => Ok(Some(Answer::Invalid(format!("there is no operation {}", call.operation)))),
    };
    let (outcome, text) = match reply {
        Ok(Some(Answer::Was(Some(value)))) => (named::WAS, value),
        Ok(Some(Answer::Was(None)) | None) => (named::NEW, Vec::new()),
        Ok(Some(Answer::NoDatabase)) => (named::NO_DATABASE, Vec::new()),
        Ok(Some(Answer::NoKey)) => (named::NO_KEY, Vec::new()),
        Ok(Some(Answer::Invalid(reason))) => (named::INVALID, reason.into_bytes()),
        Err(reason) => (named::FAILED, reason.into_bytes()),
    };
    call.length = copy(&text, call.into, call.room);
    drop(text);
    hold::release();
    outcome
}

/// `CoreApi::meet`.
pub extern "C" fn meet(name: *const u8, length: usize, host: bool, into: *mut u8, room: usize) -> isize {
    let scope = if host { Scope::Host } else { Scope::Computation };
    hold::hold();
    let result = match names::run(Errand::Meet { name: string(name, length), scope }) {
        Ok(_) => -1,
        Err(reason) => copy(reason.as_bytes(), into, room) as isize,
    };
    hold::release();
    result
}
