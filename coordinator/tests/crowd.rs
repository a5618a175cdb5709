//! Thousands of clients: those who are idle cost nothing, and a checkpoint of all is one checkpoint.

mod support;

use dmtcp_protocol::message::Barrier;
use std::time::Duration;
use support::{CHECKPOINT, Coordinator, Worker, assert_done, join};

const MANY: usize = 2000;

/// How often a process has waited for something.
fn waits(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    count.unwrap().trim().parse().unwrap()
}

fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    assert!(hard > MANY as u64 + 100, "this test needs {MANY} descriptors, and {hard} are allowed");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
}

#[test]
fn two_thousand_processes_wake_nobody_while_idle_and_are_checkpointed() {
    raise_descriptor_limit();
    let coordinator = Coordinator::start(&[]);
    let mut workers: Vec<Worker> = (0..MANY as i32)
        .map(|number| {
            let mut join = join(number + 1, &coordinator.images());
            join.host = format!("host{}", number % 20);
            coordinator.join(join)
        })
        .collect();
    // Nobody says anything for a while but who asks for the status.
    const QUESTIONS: u64 = 4;
    let before = waits(coordinator.pid());
    for _ in 0..QUESTIONS {
        std::thread::sleep(Duration::from_millis(500));
        coordinator.status();
    }
    let idle = waits(coordinator.pid()) - before;
    assert!(
        idle < QUESTIONS * 25,
        "{MANY} idle clients wake the coordinator {idle} times while {QUESTIONS} questions come"
    );

    let mut asking = coordinator.begin(CHECKPOINT);
    let generation = workers.iter_mut().map(Worker::checkpoint).max().unwrap();
    workers.iter_mut().for_each(|worker| worker.reach(generation, Barrier::Suspended));
    for worker in &mut workers {
        worker.passed(Barrier::Suspended);
    }
    for worker in &mut workers {
        worker.write(generation, "x");
    }
    for worker in &mut workers {
        worker.passed(Barrier::Written);
        worker.sync(generation);
    }
    for worker in &mut workers {
        assert_eq!(worker.committed().0, generation);
    }
    assert_eq!(assert_done(asking.outcome()), Some(generation));
}
