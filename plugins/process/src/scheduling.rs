//! How threads are scheduled. One thread can set this for another of its process.

use crate::state::Thread;
use dmtcp_plugin_api::core::{Core, Level};
use dmtcp_plugin_api::proc_files;
use dmtcp_plugin_api::sys::{self, Scheduling};

const SCHED_DEADLINE: u32 = 6;
/// Words of a processor mask: room for 8192 processors.
const MASK: usize = 128;

/// Looks at all threads of the application.
pub fn look(core: Core) -> Vec<Thread> {
    let online = proc_files::read_file("/sys/devices/system/cpu/online").unwrap_or_default();
    let online = online_processors(&online);
    core.threads().into_iter().map(|tid| look_at(tid, online)).collect()
}

fn look_at(tid: i32, online: Option<usize>) -> Thread {
    let attributes = sys::scheduling(tid).unwrap_or_default();
    Thread {
        policy: attributes.policy,
        flags: attributes.flags,
        // sched_getattr(2) tells it only of threads that are scheduled by it.
        nice: sys::nice(tid).unwrap_or(attributes.nice),
        priority: attributes.priority,
        deadline: match attributes.policy {
            SCHED_DEADLINE => [attributes.runtime, attributes.deadline, attributes.period],
            _ => [0; 3],
        },
        processors: processors(tid).filter(|mask| online.is_none_or(|count| bits(mask) < count)),
        io_priority: sys::io_priority(tid).unwrap_or(0) as u32,
    }
}

fn processors(tid: i32) -> Option<Vec<u64>> {
    let mut mask = [0u64; MASK];
    sys::affinity(tid, &mut mask).ok()?;
    let used = mask.iter().rposition(|word| *word != 0)? + 1;
    mask.get(..used).map(<[u64]>::to_vec)
}

fn bits(mask: &[u64]) -> usize {
    mask.iter().map(|word| word.count_ones() as usize).sum()
}

/// How many processors a list like `0-3,6` names.
fn online_processors(text: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let count = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(last.parse::<usize>().ok()? - first.parse::<usize>().ok()? + 1)
    };
    text.split(',').map(count).sum()
}

/// Puts it back, thread by thread. The list is in the order of the core, whatever ids the threads have now.
pub fn restore(core: Core, threads: &[Thread]) {
    let tids = core.threads();
    if tids.len() != threads.len() {
        let text =
            format!("{} threads were saved, {} are there: their scheduling is left alone", threads.len(), tids.len());
        core.log(Level::Warning, &text);
        return;
    }
    let online = proc_files::read_file("/sys/devices/system/cpu/online").unwrap_or_default();
    let online = online_processors(&online);
    for (tid, wanted) in tids.into_iter().zip(threads) {
        let here = look_at(tid, online);
        let report = |what: &str, error| {
            core.log(Level::Warning, &format!("thread {tid}: its {what} cannot be set again here: error {error}"));
        };
        if wanted.processors.as_ref().is_some_and(|mask| here.processors.as_ref() != Some(mask))
            && let Err(error) = sys::set_affinity(tid, wanted.processors.as_deref().unwrap_or(&[]))
        {
            report("processors", error);
        }
        if wanted.io_priority != here.io_priority
            && let Err(error) = sys::set_io_priority(tid, wanted.io_priority as usize)
        {
            report("I/O priority", error);
        }
        let attributes = |t: &Thread| Scheduling {
            policy: t.policy,
            flags: t.flags,
            nice: t.nice,
            priority: t.priority,
            runtime: t.deadline[0],
            deadline: t.deadline[1],
            period: t.deadline[2],
            ..Scheduling::default()
        };
        if attributes(wanted) != attributes(&here)
            && let Err(error) = sys::set_scheduling(tid, &attributes(wanted))
        {
            report("scheduling policy", error);
        }
        if sys::nice(tid) != Ok(wanted.nice)
            && let Err(error) = sys::set_nice(tid, wanted.nice)
        {
            report("nice value", error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_counted() {
        assert_eq!(online_processors(b"0-3,6\n"), Some(5));
        assert_eq!(online_processors(b"0\n"), Some(1));
        assert_eq!(online_processors(b""), None);
        assert_eq!(bits(&[3, 1]), 3);
    }

    #[test]
    fn a_nice_thread_that_keeps_to_one_processor_is_seen_so() {
        std::thread::spawn(|| {
            let tid = sys::tid();
            let first = processors(tid).unwrap().first().copied().unwrap();
            sys::set_affinity(tid, &[1 << first.trailing_zeros()]).unwrap();
            sys::set_scheduling(tid, &Scheduling { nice: 5, ..Scheduling::default() }).unwrap();
            let seen = look_at(tid, Some(2));
            assert_eq!((seen.nice, seen.policy), (5, 0));
            assert_eq!(seen.processors, Some(vec![1 << first.trailing_zeros()]));
            assert_eq!(look_at(tid, Some(1)).processors, None);
        })
        .join()
        .unwrap();
    }
}
