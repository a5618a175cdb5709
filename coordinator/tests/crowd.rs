//! Thousands of clients: those who are idle cost nothing, and a checkpoint of all is one checkpoint.

mod support;

use dmtcp_protocol::message::Barrier;
use std::time::{Duration, Instant};
use support::{CHECKPOINT, Coordinator, Worker, assert_done, join};

const MANY: usize = 2000;

/// Processor time that a process has used.
fn cpu_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 1000 / 100)
}

fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    assert!(hard > MANY as u64 + 100, "this test needs {MANY} descriptors, and {hard} are allowed");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
}

#[test]
fn two_thousand_processes_cost_little_and_are_checkpointed() {
    raise_descriptor_limit();
    let coordinator = Coordinator::start(&[]);
    let mut workers: Vec<Worker> = (0..MANY as i32)
        .map(|number| {
            let mut join = join(number + 1, &coordinator.images());
            join.host = format!("host{}", number % 20);
            coordinator.join(join)
        })
        .collect();
    let before = cpu_time(coordinator.pid());
    // Nothing happens, and that for a while.
    let quiet_until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < quiet_until {
        std::thread::sleep(Duration::from_millis(500));
        coordinator.status();
    }
    let idle = cpu_time(coordinator.pid()) - before;
    assert!(idle < Duration::from_millis(100), "{MANY} idle clients cost {idle:?} of processor time in 2 s");

    let before = cpu_time(coordinator.pid());
    let mut asking = coordinator.begin(CHECKPOINT);
    let generation = workers.iter_mut().map(Worker::checkpoint).max().unwrap();
    workers.iter_mut().for_each(|worker| worker.reach(generation, Barrier::Suspended));
    for worker in &mut workers {
        worker.passed(Barrier::Suspended);
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
    let busy = cpu_time(coordinator.pid()) - before;
    assert!(busy < Duration::from_secs(2), "a checkpoint of {MANY} costs the coordinator {busy:?} of processor time");
    println!("idle: {idle:?} in 2 s; a checkpoint: {busy:?}");
}
