//! What the processes of a computation tell each other, for C: values under names, and barriers.
//!
//! The same for any thread: the errand goes to the coordinator by the way that the thread has ([`crate::life::errand`]).
//! Texts of C end with a zero, so values are texts here; Rust plugins may store any bytes.

use super::{application, hold, hooks, text};
use crate::host::exchange;
use crate::life::errand::{self, Errand, Reply};
use crate::log;
use dmtcp_plugin_api::abi::operation;
use dmtcp_plugin_api::arena;
use dmtcp_protocol::names::{Answer, Scope, number};
use std::ffi::{c_char, c_int};

/// `DmtcpKvdbRequest_t`: the numbers of [`operation`].
type KvdbRequest = c_int;
/// `DmtcpKvdbResponse_t`.
type KvdbResponse = c_int;
const SUCCESS: c_int = 0;
const INVALID_REQUEST: c_int = 1;
const DB_NOT_FOUND: c_int = 2;
const KEY_NOT_FOUND: c_int = 3;
const TOO_LONG: c_int = 4;
const NOT_PRESENT: c_int = 5;

/// Does an errand of the calling thread.
pub fn run(errand: Errand) -> Reply {
    if arena::on_checkpoint_stack() {
        errand::run(errand)
    } else if hooks::is_hook_thread() {
        hooks::send(errand)
    } else {
        application::run_errand(errand)
    }
}

/// Works on a value: its text before, "0" if there was none, or what a caller is told instead.
fn work(request: c_int, database: *const c_char, key: *const c_char, value: Operand<'_>) -> Result<Vec<u8>, c_int> {
    let (Some(database), Some(key), Ok(request)) = (text(database), text(key), u32::try_from(request)) else {
        return Err(INVALID_REQUEST);
    };
    let (bytes, operand) = match value {
        Operand::Text(text) => (text.to_vec(), number(text)),
        Operand::Number(number) => (number.to_string().into_bytes(), Some(number)),
    };
    let operand = match request {
        operation::GET | operation::SET => 0,
        _ => operand.ok_or(INVALID_REQUEST)?,
    };
    let operation = exchange::operation(request, operand, &bytes).ok_or(INVALID_REQUEST)?;
    let database = String::from_utf8_lossy(database).into_owned();
    match run(Errand::Name { database, key: key.to_vec(), operation }) {
        Ok(Some(Answer::Was(before))) => Ok(before.unwrap_or_else(|| b"0".to_vec())),
        Ok(Some(Answer::NoDatabase)) => Err(DB_NOT_FOUND),
        Ok(Some(Answer::NoKey)) => Err(KEY_NOT_FOUND),
        Ok(Some(Answer::Invalid(reason))) => {
            log::tell(&format!("a value of the computation stays as it is: {reason}"));
            Err(INVALID_REQUEST)
        }
        Ok(None) => Err(INVALID_REQUEST),
        Err(reason) => {
            log::tell(&format!("a value of the computation cannot be worked on: {reason}"));
            Err(NOT_PRESENT)
        }
    }
}

/// What C calls give.
enum Operand<'a> {
    Text(&'a [u8]),
    Number(i64),
}

/// Works on a value. `old` gets the text of before, "0" if there was none.
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_kvdb_request(
    request: KvdbRequest,
    database: *const c_char,
    key: *const c_char,
    value: *const c_char,
    old: *mut c_char,
    size: usize,
) -> KvdbResponse {
    // No thread is stopped by a checkpoint inside our allocator.
    hold::hold();
    let done = work(request, database, key, Operand::Text(text(value).unwrap_or_default()));
    let result = done.map_or_else(|reason| reason, |before| give(&before, old, size));
    hold::release();
    result
}

fn give(before: &[u8], old: *mut c_char, size: usize) -> c_int {
    if old.is_null() {
        return SUCCESS;
    }
    if size == 0 {
        return TOO_LONG;
    }
    let length = before.len().min(size - 1);
    // SAFETY: the caller has `size` bytes, and the text is cut so that it and its zero fit.
    unsafe {
        std::ptr::copy_nonoverlapping(before.as_ptr(), old.cast(), length);
        old.add(length).write(0);
    }
    if length == before.len() { SUCCESS } else { TOO_LONG }
}

/// Works on a number. `old` gets the number of before, 0 if there was none.
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_kvdb_request64(
    request: KvdbRequest,
    database: *const c_char,
    key: *const c_char,
    value: i64,
    old: *mut i64,
) -> KvdbResponse {
    hold::hold();
    let result = match work(request, database, key, Operand::Number(value)) {
        Err(reason) => reason,
        Ok(before) => match number(&before) {
            None => INVALID_REQUEST,
            Some(before) => {
                if !old.is_null() {
                    // SAFETY: the interface demands null or a valid pointer.
                    unsafe { old.write(before) };
                }
                SUCCESS
            }
        },
    };
    hold::release();
    result
}

/// All processes wait for each other here, each hook in its own process.
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_global_barrier(barrier: *const c_char) {
    meet(barrier, Scope::Computation);
}

/// As `dmtcp_global_barrier`, for the processes of one host.
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_local_barrier(barrier: *const c_char) {
    meet(barrier, Scope::Host);
}

fn meet(barrier: *const c_char, scope: Scope) {
    hold::hold();
    let name = String::from_utf8_lossy(text(barrier).unwrap_or_default()).into_owned();
    if let Err(reason) = run(Errand::Meet { name: name.clone(), scope }) {
        log::tell(&format!("barrier '{name}' of a plugin was passed without the others: {reason}"));
    }
    hold::release();
}
