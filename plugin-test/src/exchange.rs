//! The computation's values and barriers, for a computation of one process: values are kept here, and every barrier is
//! passed at once.

use crate::core::{bytes, with_state};
use dmtcp_plugin_api::abi::{NameCall, named, operation};

/// `CoreApi::name`.
pub extern "C" fn name(call: *mut NameCall) -> u32 {
    // SAFETY: the interface demands a valid call.
    let call = unsafe { &mut *call };
    let database = bytes(call.database, call.database_length).to_vec();
    let key = bytes(call.key, call.key_length).to_vec();
    let value = bytes(call.value, call.value_length).to_vec();
    let (outcome, text) = with_state(|s| {
        let known = s.values.contains_key(&database);
        if call.operation == operation::GET && !known {
            return (named::NO_DATABASE, Vec::new());
        }
        let database = s.values.entry(database).or_default();
        let before = database.get(&key).cloned();
        let after = match call.operation {
            operation::GET if before.is_none() => return (named::NO_KEY, Vec::new()),
            operation::GET => None,
            operation::SET => Some(value),
            other => match changed(before.as_deref(), other, call.number) {
                Ok(number) => Some(number.to_string().into_bytes()),
                Err(reason) => return (named::INVALID, reason.into_bytes()),
            },
        };
        if let Some(after) = after {
            database.insert(key, after);
        }
        before.map_or((named::NEW, Vec::new()), |before| (named::WAS, before))
    });
    copy(&text, call.into, call.room);
    call.length = text.len();
    outcome
}

/// What an operation makes of a number; what nobody has set becomes the operand.
fn changed(before: Option<&[u8]>, what: u32, operand: i64) -> Result<i64, String> {
    let Some(before) = before else { return Ok(operand) };
    let number = std::str::from_utf8(before).ok().and_then(|text| text.parse::<i64>().ok());
    let number = number.ok_or("the value is not a number")?;
    Ok(match what {
        operation::ADD => number.wrapping_add(operand),
        operation::AND => number & operand,
        operation::OR => number | operand,
        operation::XOR => number ^ operand,
        operation::MIN => number.min(operand),
        operation::MAX => number.max(operand),
        _ => return Err(format!("there is no operation {what}")),
    })
}

fn copy(text: &[u8], into: *mut u8, room: usize) {
    // SAFETY: the caller has `room` bytes.
    unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), into, text.len().min(room)) };
}

/// `CoreApi::meet`: nobody else is there to wait for.
pub extern "C" fn meet(_: *const u8, _: usize, _: bool, _: *mut u8, _: usize) -> isize {
    -1
}
