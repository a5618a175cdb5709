//! What is noted at a checkpoint, and what becomes of it at a restart.

use super::{CHILDREN, ELAPSED, OWNER, PROCESS, THREADS, TICK, Threads, base, executed, kin, thread};
use dmtcp_plugin_api::core::Core;
use dmtcp_plugin_api::round::Round;
use dmtcp_plugin_api::usage::Usage;
use dmtcp_plugin_api::{ids, sys};
use serde::{Deserialize, Serialize};
use std::sync::atomic::Ordering;

/// Section [`Used::SECTION`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// By the process.
    pub process: Usage,
    /// By its children that it has waited for, and theirs.
    pub children: Usage,
    /// By its threads.
    pub threads: Vec<(i32, Usage)>,
    /// By each of its children, whether it lives or has ended, and theirs.
    pub kin: Vec<(i32, Usage)>,
    /// Clock ticks since some point in the past, as times(2) tells them.
    pub elapsed: i64,
    /// Nanoseconds of monotonic time at that moment.
    pub monotonic: u64,
}

impl Used {
    /// Name of the section.
    pub const SECTION: &str = "used";
}

/// What RESTART works from: it is part of the memory that comes back.
static USED: Round<Option<Used>> = Round::new(None);

fn all(who: i32) -> Usage {
    Usage::of(who).plus(&base(who).unwrap_or_default())
}

/// Clock ticks since some point in the past, as the kernel tells them.
fn elapsed() -> i64 {
    // SAFETY: nothing is to be filled.
    unsafe { sys::call(libc::SYS_times as i32, [0; 6]) }.unwrap_or(0) as i64
}

/// The hook for PRECHECKPOINT.
pub fn look(core: Core) {
    let of_thread = |tid: i32| {
        let [used, _] = core.thread_usage(tid)?;
        Some((ids::to_virtual(core, tid), used.plus(&thread(tid).unwrap_or_default())))
    };
    let used = Used {
        process: all(libc::RUSAGE_SELF),
        children: all(libc::RUSAGE_CHILDREN),
        threads: core.threads().into_iter().filter_map(of_thread).collect(),
        kin: kin::look(core),
        elapsed: elapsed() + base(libc::RUSAGE_SELF).map_or(0, |_| ELAPSED.load(Ordering::Acquire)),
        monotonic: sys::clock(libc::CLOCK_MONOTONIC),
    };
    core.json(Used::SECTION, &used);
    USED.with(|kept| *kept = Some(used));
}

/// The hook for RESTART.
pub fn restore(core: Core) {
    let Some(used) = USED.take() else { return OWNER.store(0, Ordering::Release) };
    PROCESS.store(&used.process.minus(&Usage::of(libc::RUSAGE_SELF)));
    CHILDREN.store(&used.children.minus(&Usage::of(libc::RUSAGE_CHILDREN)));
    let of_thread = |[id, now]: [i32; 2]| {
        let (_, before) = used.threads.iter().find(|(tid, _)| *tid == id)?;
        let [_, when_back] = core.thread_usage(now)?;
        Some((now, before.minus(&when_back)))
    };
    let mut bases: Vec<_> = core.tasks().into_iter().filter_map(of_thread).collect();
    bases.sort_unstable_by_key(|(tid, _)| *tid);
    bases.dedup_by_key(|(tid, _)| *tid);
    let since = sys::clock(libc::CLOCK_BOOTTIME) / TICK;
    THREADS.store(Box::leak(Box::new(Threads { bases, since })), Ordering::Release);
    let away = sys::clock(libc::CLOCK_MONOTONIC).saturating_sub(used.monotonic) / TICK;
    ELAPSED.store(used.elapsed + away as i64 - elapsed(), Ordering::Release);
    kin::restore(core, &used.kin);
    OWNER.store(sys::pid(), Ordering::Release);
    executed::pass_on();
}

/// The hook for a fork's child, which has used nothing yet.
pub fn begin_child(_: Core) {
    kin::forget();
    OWNER.store(0, Ordering::Release);
}
