//! The barriers of a generation: who waits for whom, and what ends a generation early.

mod support;

use dmtcp_protocol::message::{Barrier, Command, FromClient, Outcome};
use support::{CHECKPOINT, Coordinator, assert_done, join, reason, run_generation, wait_for};

#[test]
fn nobody_passes_a_barrier_before_all_have_come() {
    let coordinator = Coordinator::start(&[]);
    let (mut a, mut b) = (coordinator.worker(1), coordinator.worker(2));
    let mut asking = coordinator.begin(CHECKPOINT);
    let generation = a.checkpoint();
    assert_eq!(b.checkpoint(), generation);
    a.reach(generation, Barrier::Suspended);
    a.silent();
    assert!(!coordinator.status().running);
    b.reach(generation, Barrier::Suspended);
    a.passed(Barrier::Suspended);
    b.passed(Barrier::Suspended);
    a.write(generation, "a");
    a.silent();
    b.write(generation, "b");
    a.passed(Barrier::Written);
    b.passed(Barrier::Written);
    a.sync(generation);
    asking.waits();
    assert!(coordinator.status().running, "the application goes on while images reach the disk");
    b.sync(generation);
    assert_eq!(a.committed(), (generation, false));
    assert_eq!(b.committed(), (generation, false));
    assert_eq!(assert_done(asking.outcome()), Some(generation));
}

#[test]
fn generations_are_numbered_upwards() {
    let coordinator = Coordinator::start(&[]);
    let mut workers = [coordinator.worker(1)];
    for expected in 1..4 {
        let mut asking = coordinator.begin(CHECKPOINT);
        assert_eq!(run_generation(&mut workers, "x"), expected);
        assert_done(asking.outcome());
    }
    assert_eq!(coordinator.status().generation, 3);
}

#[test]
fn a_death_before_the_image_is_written_aborts_for_all() {
    let coordinator = Coordinator::start(&[]);
    let (mut a, mut b) = (coordinator.worker(1), coordinator.worker(2));
    let mut asking = coordinator.begin(CHECKPOINT);
    let generation = a.checkpoint();
    b.checkpoint();
    a.reach(generation, Barrier::Suspended);
    b.reach(generation, Barrier::Suspended);
    a.passed(Barrier::Suspended);
    b.passed(Barrier::Suspended);
    a.write(generation, "a");
    let directory = a.generation_directory(generation);
    drop(b);
    let why = a.aborted();
    assert!(why.contains("prog[2]@here"), "{why}");
    assert!(reason(asking.outcome()).contains("prog[2]@here"));
    assert!(!directory.exists(), "the half-written generation is gone");
    assert!(!a.public_path().exists());
    let mut again = coordinator.begin(CHECKPOINT);
    assert!(run_generation(&mut [a], "again") > generation);
    assert_done(again.outcome());
}

#[test]
fn a_process_that_leaves_before_it_stops_is_not_missed() {
    let coordinator = Coordinator::start(&[]);
    let (mut a, mut b) = (coordinator.worker(1), coordinator.worker(2));
    let mut asking = coordinator.begin(CHECKPOINT);
    let generation = a.checkpoint();
    b.checkpoint();
    a.reach(generation, Barrier::Suspended);
    a.silent();
    drop(b);
    a.passed(Barrier::Suspended);
    a.write(generation, "a");
    a.passed(Barrier::Written);
    a.sync(generation);
    a.committed();
    assert_done(asking.outcome());
}

#[test]
fn a_request_while_the_only_process_execs_waits_for_it() {
    let coordinator = Coordinator::start(&[]);
    drop(coordinator.worker(1));
    wait_for("the coordinator to notice", || (coordinator.status().peers == 0).then_some(()));
    let mut asking = coordinator.begin(CHECKPOINT);
    let mut again = [coordinator.worker(1)];
    run_generation(&mut again, "a");
    assert_done(asking.outcome());
    drop(again);
    // Who does not come back is waited for in vain.
    wait_for("the coordinator to notice", || (coordinator.status().peers == 0).then_some(()));
    assert!(matches!(coordinator.ask(CHECKPOINT), Outcome::NotRunning));
}

#[test]
fn a_generation_of_nobody_fails() {
    let coordinator = Coordinator::start(&[]);
    let mut a = coordinator.worker(1);
    let mut asking = coordinator.begin(CHECKPOINT);
    a.checkpoint();
    drop(a);
    reason(asking.outcome());
}

#[test]
fn a_failure_is_told_to_all_with_its_reason() {
    let coordinator = Coordinator::start(&[]);
    let (mut a, mut b) = (coordinator.worker(1), coordinator.worker(2));
    let mut asking = coordinator.begin(CHECKPOINT);
    let generation = a.checkpoint();
    b.checkpoint();
    b.send(FromClient::Failed { generation, reason: "the disk /x is full".into(), recent: vec!["a line".into()] });
    assert!(a.aborted().contains("the disk /x is full"));
    assert!(b.aborted().contains("prog[2]"));
    let told = reason(asking.outcome());
    assert!(told.contains("the disk /x is full") && told.ends_with("log:\n  a line"), "{told}");
    assert!(coordinator.status().running);
}

#[test]
fn a_full_disk_at_the_last_moment_fails_the_generation() {
    let coordinator = Coordinator::start(&[]);
    let mut a = coordinator.worker(1);
    let mut asking = coordinator.begin(CHECKPOINT);
    let generation = a.checkpoint();
    a.reach(generation, Barrier::Suspended);
    a.passed(Barrier::Suspended);
    a.write(generation, "x");
    a.passed(Barrier::Written);
    a.send(FromClient::Failed { generation, reason: "no space left".into(), recent: Vec::new() });
    a.aborted();
    assert!(reason(asking.outcome()).contains("no space left"));
    assert!(!a.public_path().exists());
}

#[test]
fn messages_about_an_aborted_generation_are_ignored() {
    let coordinator = Coordinator::start(&[]);
    let (mut a, mut b) = (coordinator.worker(1), coordinator.worker(2));
    let mut asking = coordinator.begin(CHECKPOINT);
    let old = a.checkpoint();
    b.checkpoint();
    a.send(FromClient::Failed { generation: old, reason: "no".into(), recent: Vec::new() });
    a.aborted();
    b.aborted();
    reason(asking.outcome());
    b.reach(old, Barrier::Suspended);
    b.send(FromClient::Failed { generation: old, reason: "late".into(), recent: Vec::new() });
    let mut again = coordinator.begin(CHECKPOINT);
    run_generation(&mut [a, b], "x");
    assert_done(again.outcome());
}

#[test]
fn who_joins_while_others_stop_takes_part() {
    let coordinator = Coordinator::start(&[]);
    let (mut a, mut b) = (coordinator.worker(1), coordinator.worker(2));
    let mut asking = coordinator.begin(CHECKPOINT);
    let generation = a.checkpoint();
    assert_eq!(b.checkpoint(), generation);
    a.reach(generation, Barrier::Suspended);
    let mut late = coordinator.worker(3);
    assert_eq!(late.checkpoint(), generation);
    b.reach(generation, Barrier::Suspended);
    a.silent();
    late.reach(generation, Barrier::Suspended);
    for worker in [&mut a, &mut b, &mut late] {
        worker.passed(Barrier::Suspended);
    }
    for worker in [&mut a, &mut b, &mut late] {
        worker.write(generation, "y");
    }
    for worker in [&mut a, &mut b, &mut late] {
        worker.passed(Barrier::Written);
        worker.sync(generation);
    }
    assert_done(asking.outcome());
}

#[test]
fn who_joins_while_images_are_written_waits() {
    let coordinator = Coordinator::start(&[]);
    let mut a = coordinator.worker(1);
    let mut asking = coordinator.begin(CHECKPOINT);
    let generation = a.checkpoint();
    a.reach(generation, Barrier::Suspended);
    a.passed(Barrier::Suspended);
    let mut late = coordinator.knock(join(2, &coordinator.images()));
    late.silent();
    a.write(generation, "x");
    a.passed(Barrier::Written);
    assert_eq!(late.welcome(), 2);
    a.sync(generation);
    a.committed();
    late.silent();
    assert_done(asking.outcome());
}

#[test]
fn a_request_while_processes_stop_joins_the_one_under_way() {
    let coordinator = Coordinator::start(&[]);
    let mut workers = [coordinator.worker(1)];
    let mut first = coordinator.begin(CHECKPOINT);
    let mut second = coordinator.begin(CHECKPOINT);
    // Both have arrived once the second answers to something else.
    coordinator.status();
    let generation = run_generation(&mut workers, "x");
    assert_eq!(assert_done(first.outcome()), Some(generation));
    assert_eq!(assert_done(second.outcome()), Some(generation));
}

#[test]
fn a_request_while_images_are_written_gets_a_newer_generation() {
    let coordinator = Coordinator::start(&[]);
    let mut a = coordinator.worker(1);
    let mut first = coordinator.begin(CHECKPOINT);
    let generation = a.checkpoint();
    a.reach(generation, Barrier::Suspended);
    a.passed(Barrier::Suspended);
    let mut second = coordinator.begin(CHECKPOINT);
    coordinator.status();
    a.write(generation, "x");
    a.passed(Barrier::Written);
    a.sync(generation);
    a.committed();
    assert_eq!(assert_done(first.outcome()), Some(generation));
    let newer = run_generation(&mut [a], "y");
    assert_eq!(assert_done(second.outcome()), Some(newer));
    assert!(newer > generation);
}

#[test]
fn a_worker_that_says_nothing_is_named() {
    let coordinator = Coordinator::start(&["--barrier-timeout", "1"]);
    let (mut a, mut b) = (coordinator.worker(1), coordinator.worker(2));
    let mut asking = coordinator.begin(CHECKPOINT);
    let generation = a.checkpoint();
    b.checkpoint();
    a.reach(generation, Barrier::Suspended);
    let why = a.aborted();
    assert!(why.contains("prog[2]@here") && !why.contains("prog[1]") && why.contains("Suspended"), "{why}");
    b.aborted();
    assert_eq!(reason(asking.outcome()), why);
}

#[test]
fn progress_keeps_a_slow_writer_alive_and_reaches_who_waits() {
    let coordinator = Coordinator::start(&["--barrier-timeout", "1"]);
    let mut a = coordinator.worker(1);
    let mut asking = coordinator.connect();
    asking.send(&FromClient::Command(CHECKPOINT)).unwrap();
    let generation = a.checkpoint();
    a.reach(generation, Barrier::Suspended);
    a.passed(Barrier::Suspended);
    for done in 1..5 {
        std::thread::sleep(std::time::Duration::from_millis(400));
        a.send(FromClient::Progress { done, total: 5 });
    }
    match asking.recv(support::LIMIT, "progress").unwrap() {
        dmtcp_protocol::message::FromCoordinator::Progress { total: 5, .. } => {}
        other => panic!("no progress: {other:?}"),
    }
    a.write(generation, "x");
    a.passed(Barrier::Written);
    a.sync(generation);
    assert_eq!(a.committed().0, generation);
}

#[test]
fn a_checkpoint_of_nobody_is_refused() {
    let coordinator = Coordinator::start(&[]);
    assert!(matches!(coordinator.ask(CHECKPOINT), Outcome::NotRunning));
    assert!(matches!(coordinator.ask(Command::Checkpoint { wait: false, kill: true }), Outcome::NotRunning));
}

#[test]
fn an_interval_checkpoints_by_itself_until_it_is_switched_off() {
    let coordinator = Coordinator::start(&[]);
    let mut asked = join(1, &coordinator.images());
    asked.interval = 1;
    let mut workers = [coordinator.join(asked)];
    run_generation(&mut workers, "x");
    run_generation(&mut workers, "y");
    assert_eq!(coordinator.status().interval, 1);
    assert_done(coordinator.ask(Command::Interval(0)));
    let [mut a] = workers;
    std::thread::sleep(std::time::Duration::from_millis(1100));
    a.silent();
    // A child repeats what the launch asked for: that is no new wish.
    let mut child = join(2, &coordinator.images());
    child.interval = 1;
    coordinator.join(child);
    assert_eq!(coordinator.status().interval, 0);
}
