//! How processes and coordinators end, and what computation a process belongs to.

mod support;

use dmtcp_protocol::message::{Command, Outcome};
use std::time::Duration;
use support::{CHECKPOINT, Coordinator, LIMIT, assert_done, join, reason, run_generation, wait_for};

#[test]
fn a_kill_answers_when_all_are_gone_and_the_coordinator_stays() {
    let coordinator = Coordinator::start(&[]);
    let (mut a, mut b) = (coordinator.worker(1), coordinator.worker(2));
    let mut asking = coordinator.begin(Command::Kill);
    a.killed();
    b.killed();
    drop(a);
    asking.waits();
    let mut late = coordinator.knock(join(3, &coordinator.images()));
    assert!(late.connection.recv(LIMIT, "a refusal").is_err(), "nobody joins what is being killed");
    drop(b);
    assert_done(asking.outcome());
    assert_eq!(coordinator.status().peers, 0);
    assert_done(coordinator.ask(Command::Kill));
}

#[test]
fn a_kill_ends_a_generation_under_way() {
    let coordinator = Coordinator::start(&[]);
    let mut a = coordinator.worker(1);
    let mut checkpoint = coordinator.begin(CHECKPOINT);
    a.checkpoint();
    let mut kill = coordinator.begin(Command::Kill);
    a.aborted();
    a.killed();
    assert!(reason(checkpoint.outcome()).contains("killed"));
    drop(a);
    assert_done(kill.outcome());
}

#[test]
fn quit_ends_processes_and_coordinator() {
    let mut coordinator = Coordinator::start(&[]);
    let mut a = coordinator.worker(1);
    let mut asking = coordinator.begin(Command::Quit);
    a.killed();
    drop(a);
    assert_done(asking.outcome());
    assert_eq!(coordinator.wait_exit().code(), Some(0));
}

#[test]
fn an_interrupt_is_a_quit() {
    let mut coordinator = Coordinator::start(&[]);
    let mut a = coordinator.worker(1);
    coordinator.interrupt();
    a.killed();
    drop(a);
    assert_eq!(coordinator.wait_exit().code(), Some(0));
}

#[test]
fn exit_on_last_waits_for_the_first_and_leaves_with_the_last() {
    let mut coordinator = Coordinator::start(&["--exit-on-last"]);
    coordinator.status();
    std::thread::sleep(Duration::from_millis(1200));
    assert!(coordinator.is_running());
    drop(coordinator.worker(1));
    assert_eq!(coordinator.wait_exit().code(), Some(0));
}

#[test]
fn exit_on_last_survives_an_exec() {
    let mut coordinator = Coordinator::start(&["--exit-on-last"]);
    let before = coordinator.worker(1);
    let computation = before.computation;
    drop(before);
    wait_for("the coordinator to notice", || (coordinator.status().peers == 0).then_some(()));
    let after = coordinator.worker(1);
    assert_eq!(after.computation, computation);
    std::thread::sleep(Duration::from_millis(1500));
    assert!(coordinator.is_running());
    drop(after);
    assert_eq!(coordinator.wait_exit().code(), Some(0));
}

#[test]
fn exit_on_last_waits_for_a_commit() {
    let mut coordinator = Coordinator::start(&["--exit-on-last"]);
    let mut asking = coordinator.begin(Command::Checkpoint { wait: true, kill: true });
    assert!(matches!(asking.outcome(), Outcome::NotRunning));
    let mut workers = [coordinator.worker(1)];
    let mut asking = coordinator.begin(Command::Checkpoint { wait: true, kill: true });
    run_generation(&mut workers, "x");
    drop(workers);
    assert_done(asking.outcome());
    assert_eq!(coordinator.wait_exit().code(), Some(0));
}

#[test]
fn another_program_is_another_computation() {
    let coordinator = Coordinator::start(&[]);
    let mut workers = [coordinator.worker(1)];
    let mut asking = coordinator.begin(CHECKPOINT);
    run_generation(&mut workers, "x");
    assert_done(asking.outcome());
    let [first] = workers;
    let (computation, image) = (first.computation, first.generation_directory(1));
    drop(first);
    wait_for("the first to be gone", || (coordinator.status().peers == 0).then_some(()));
    let mut workers = [coordinator.worker(2)];
    assert_ne!(workers[0].computation, computation);
    let mut asking = coordinator.begin(CHECKPOINT);
    assert_eq!(run_generation(&mut workers, "y"), 1);
    assert_done(asking.outcome());
    assert!(image.exists(), "what belongs to another computation stays");
}

#[test]
fn kill_after_checkpoint_by_flag() {
    let coordinator = Coordinator::start(&["--kill-after-ckpt"]);
    let mut a = coordinator.worker(1);
    let mut asking = coordinator.begin(CHECKPOINT);
    let generation = a.checkpoint();
    a.reach(generation, dmtcp_protocol::message::Barrier::Suspended);
    a.passed(dmtcp_protocol::message::Barrier::Suspended);
    a.write(generation, "x");
    a.passed(dmtcp_protocol::message::Barrier::Written);
    a.sync(generation);
    assert_eq!(a.committed(), (generation, true));
    drop(a);
    assert_done(asking.outcome());
}

#[test]
fn the_time_being_up_ends_all_with_exit_code_1() {
    let mut coordinator = Coordinator::start(&["--timeout", "1"]);
    let mut a = coordinator.worker(1);
    a.killed();
    drop(a);
    assert_eq!(coordinator.wait_exit().code(), Some(1));
}

#[test]
fn without_any_client_it_ends_after_a_while() {
    let mut coordinator = Coordinator::start(&["--stale-timeout", "1"]);
    let worker = coordinator.worker(1);
    std::thread::sleep(Duration::from_millis(1500));
    assert!(coordinator.is_running());
    drop(worker);
    assert_eq!(coordinator.wait_exit().code(), Some(1));
}

#[test]
fn the_list_shows_states_and_barriers() {
    let coordinator = Coordinator::start(&[]);
    let (mut a, mut b) = (coordinator.worker(1), coordinator.worker(2));
    let mut asking = coordinator.begin(CHECKPOINT);
    let generation = a.checkpoint();
    b.checkpoint();
    a.reach(generation, dmtcp_protocol::message::Barrier::Suspended);
    wait_for("the state SUSPENDED", || match coordinator.ask(Command::List) {
        Outcome::List(rows) => {
            let states: Vec<&str> = rows.iter().map(|row| row.state.as_str()).collect();
            (states == ["SUSPENDED", "PRESUSPEND"]).then_some(())
        }
        other => panic!("{other:?}"),
    });
    drop(b);
    drop(a);
    reason(asking.outcome());
}
