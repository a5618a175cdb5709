//! A process that executes another program goes on with the processor time that it has used, and so does its base: by a
//! variable in the environment.
//!
//! ```text
//!   DMTCP_USED=PID:START:ELAPSED:10 values of the process:10 of its children:10 of its first thread
//! ```
//! Children inherit the variable, and are told apart by the real id and the time when the process began. What can go
//! wrong: a process whose program is replaced by a thread that is not its first one gets that one's base; what is not known
//! behind an exec is what children had used before the restart that are still to be waited for.

use super::{CHILDREN, ELAPSED, OWNER, PROCESS, THREADS, Threads, thread};
use crate::{state, table};
use dmtcp_plugin_api::core;
use dmtcp_plugin_api::usage::{Usage, VALUES};
use dmtcp_plugin_api::{proc_files, sys};
use std::sync::atomic::Ordering;

const NAME: &str = "DMTCP_USED";
const VARIABLE: &[u8] = b"DMTCP_USED=";

/// What goes along.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Passed {
    pid: i32,
    start: u64,
    elapsed: i64,
    amounts: [Usage; 3],
}

impl Passed {
    fn text(&self) -> String {
        let values = self.amounts.iter().flat_map(Usage::values);
        let values: String = values.map(|value| format!(":{value}")).collect();
        format!("{}:{}:{}{values}", self.pid, self.start, self.elapsed)
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let mut words = str::from_utf8(text).ok()?.split(':');
        let (pid, start) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let elapsed = words.next()?.parse().ok()?;
        let mut amounts = [Usage::default(); 3];
        for amount in &mut amounts {
            let mut values = [0; VALUES];
            for value in &mut values {
                *value = words.next()?.parse().ok()?;
            }
            *amount = Usage::from_values(values);
        }
        words.next().is_none().then_some(Self { pid, start, elapsed, amounts })
    }
}

/// When the process began.
fn start() -> Option<u64> {
    state::start(&proc_files::read_file("/proc/thread-self/../../stat").ok()?)
}

/// Puts the base of the process where a program that it executes finds it.
pub fn pass_on() {
    let (Some(core), Some(start)) = (core::core(), start()) else { return };
    let pid = sys::pid();
    let amounts = [PROCESS.load(), CHILDREN.load(), thread(pid).unwrap_or_default()];
    let passed = Passed { pid, start, elapsed: ELAPSED.load(Ordering::Acquire), amounts };
    core.carry(NAME, &passed.text());
}

/// At the start of a program: takes over what the one before it in this process has left.
pub fn take_over() {
    let Some(passed) = table::variable(VARIABLE).and_then(Passed::parse) else { return };
    if passed.pid != sys::pid() || start() != Some(passed.start) {
        return;
    }
    let [process, children, first_thread] = passed.amounts;
    PROCESS.store(&process);
    CHILDREN.store(&children);
    ELAPSED.store(passed.elapsed, Ordering::Release);
    let threads = Threads { bases: vec![(passed.pid, first_thread)], since: passed.start };
    THREADS.store(Box::leak(Box::new(threads)), Ordering::Release);
    OWNER.store(passed.pid, Ordering::Release);
    pass_on();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_passed_on_is_read_and_nothing_else() {
        let amount = |clock| Usage { clock, user: -7, most_memory: 5, ..Usage::default() };
        let passed = Passed { pid: 3, start: 1 << 40, elapsed: -2, amounts: [amount(1), amount(i64::MAX), amount(-9)] };
        let text = passed.text();
        assert_eq!(Passed::parse(text.as_bytes()), Some(passed));
        for broken in [&text[1..text.len() - 2], &format!("{text}:1"), "", "a:b", &text.replace("-7", "x")] {
            assert_eq!(Passed::parse(broken.as_bytes()), None, "{broken}");
        }
    }
}
