//! Processes that have left a moment ago, and may be executing a program: who is told of them, and what ends the wait for
//! them.

mod support;

use dmtcp_protocol::message::{Barrier, FromClient, FromCoordinator};
use support::{Asking, CHECKPOINT, Coordinator, LIMIT, Worker, assert_done, join, reason, wait_for};

/// All have stopped: whom the worker is to look for.
fn strays(worker: &mut Worker) -> Vec<i32> {
    match worker.next() {
        FromCoordinator::Passed { barrier: Barrier::Suspended, strays, .. } => strays,
        other => panic!("not all have stopped: {other:?}"),
    }
}

#[test]
fn one_worker_of_each_host_is_told_of_its_strays() {
    let coordinator = Coordinator::start(&[]);
    let elsewhere = |pid| {
        let mut join = join(pid, &coordinator.images());
        join.host = "elsewhere".into();
        join
    };
    let (mut a, mut b) = (coordinator.worker(1), coordinator.worker(2));
    let mut far = coordinator.join(elsewhere(3));
    drop(coordinator.worker(4));
    drop(coordinator.join(elsewhere(5)));
    wait_for("the coordinator to notice", || (coordinator.status().peers == 3).then_some(()));
    let _asking = coordinator.begin(CHECKPOINT);
    for worker in [&mut a, &mut b, &mut far] {
        let generation = worker.checkpoint();
        worker.reach(generation, Barrier::Suspended);
    }
    let told = [strays(&mut a), strays(&mut b)];
    assert!(told.contains(&vec![4]) && told.contains(&vec![]), "{told:?}");
    assert_eq!(strays(&mut far), [5]);
}

/// Process 1 has stopped, and is to look for process 2, which has left.
fn suspended_beside_a_stray(coordinator: &Coordinator) -> (Worker, Asking, u64) {
    let mut a = coordinator.worker(1);
    drop(coordinator.worker(2));
    wait_for("the coordinator to notice", || (coordinator.status().peers == 1).then_some(()));
    let asking = coordinator.begin(CHECKPOINT);
    let generation = a.checkpoint();
    a.reach(generation, Barrier::Suspended);
    assert_eq!(strays(&mut a), [2]);
    (a, asking, generation)
}

#[test]
fn a_stray_that_comes_back_takes_part() {
    let coordinator = Coordinator::start(&[]);
    let (mut a, mut asking, generation) = suspended_beside_a_stray(&coordinator);
    let mut back = coordinator.worker(2);
    assert_eq!(back.checkpoint(), generation);
    a.send(FromClient::Again { generation });
    a.silent();
    back.reach(generation, Barrier::Suspended);
    for worker in [&mut a, &mut back] {
        worker.passed(Barrier::Suspended);
    }
    for worker in [&mut a, &mut back] {
        worker.write(generation, "x");
    }
    for worker in [&mut a, &mut back] {
        worker.passed(Barrier::Written);
        worker.sync(generation);
    }
    assert_eq!(assert_done(asking.outcome()), Some(generation));
}

#[test]
fn a_stray_that_comes_back_and_never_stops_is_named() {
    let coordinator = Coordinator::start(&["--barrier-timeout", "1"]);
    let (mut a, mut asking, generation) = suspended_beside_a_stray(&coordinator);
    let mut back = coordinator.worker(2);
    back.checkpoint();
    a.send(FromClient::Again { generation });
    let why = a.aborted();
    assert!(why.contains("prog[2]@here") && !why.contains("prog[1]"), "{why}");
    assert!(reason(asking.outcome()).contains("prog[2]@here"));
}

#[test]
fn who_looks_for_a_stray_and_says_nothing_is_named() {
    let coordinator = Coordinator::start(&["--barrier-timeout", "1"]);
    let (mut a, mut b) = (coordinator.worker(1), coordinator.worker(2));
    drop(coordinator.worker(3));
    wait_for("the coordinator to notice", || (coordinator.status().peers == 2).then_some(()));
    let mut asking = coordinator.begin(CHECKPOINT);
    for worker in [&mut a, &mut b] {
        let generation = worker.checkpoint();
        worker.reach(generation, Barrier::Suspended);
    }
    let told = [strays(&mut a), strays(&mut b)];
    let (waiting, other) = if told[0].is_empty() { (&mut b, &mut a) } else { (&mut a, &mut b) };
    other.reach(1, Barrier::Counted);
    let why = other.aborted();
    let name = format!("prog[{}]@here", waiting.join.virtual_pid);
    assert!(why.contains(&name) && why.contains("Counted"), "{why}");
    assert!(reason(asking.outcome()).contains(&name));
}

#[test]
fn a_worker_that_lacks_somebody_each_time_ends_the_generation_and_is_named() {
    let coordinator = Coordinator::start(&[]);
    let mut a = coordinator.worker(1);
    let mut asking = coordinator.begin(CHECKPOINT);
    let generation = a.checkpoint();
    a.reach(generation, Barrier::Suspended);
    let start = std::time::Instant::now();
    let why = loop {
        match a.next() {
            FromCoordinator::Passed { barrier: Barrier::Suspended, .. } => a.send(FromClient::Again { generation }),
            FromCoordinator::Abort { reason, .. } => break reason,
            other => panic!("{other:?}"),
        }
        assert!(start.elapsed() < 3 * LIMIT, "the processes are counted for ever");
    };
    assert!(why.contains("prog[1]@here"), "{why}");
    assert!(reason(asking.outcome()).contains("prog[1]@here"));
}

#[test]
fn who_joins_is_told_whether_it_is_asked_to_stop_next() {
    let coordinator = Coordinator::start(&[]);
    let asks = |worker: &mut Worker| match worker.next() {
        FromCoordinator::Welcome { asks, .. } => asks,
        other => panic!("no welcome: {other:?}"),
    };
    let knock = |pid| coordinator.knock(join(pid, &coordinator.images()));
    let mut a = knock(1);
    assert!(!asks(&mut a));
    let _asking = coordinator.begin(CHECKPOINT);
    let generation = a.checkpoint();
    let mut late = knock(2);
    assert!(asks(&mut late));
    assert_eq!(late.checkpoint(), generation);
    // The only process leaves, and a request waits for it.
    drop((a, late));
    wait_for("the coordinator to notice", || (coordinator.status().peers == 0).then_some(()));
    let _waiting = coordinator.begin(CHECKPOINT);
    let mut again = knock(1);
    assert!(asks(&mut again));
    again.checkpoint();
}
