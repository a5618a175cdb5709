//! A restart as the coordinator sees it.

mod support;

use dmtcp_launcher::client::{ClientError, Connection};
use dmtcp_protocol::message::{Barrier, Command, ComputationId, Outcome};
use std::time::Duration;
use support::{CHECKPOINT, Coordinator, LIMIT, Worker, assert_done, join, restart_of, run_generation};

const OLD: ComputationId = ComputationId(0xabcd);

fn announce(coordinator: &Coordinator, processes: u32) -> Connection {
    let mut restarter = coordinator.connect();
    restarter.announce_restart(OLD, &restart_of(5, processes)).unwrap();
    restarter
}

fn knock(coordinator: &Coordinator, virtual_pid: i32) -> Worker {
    let mut join = join(virtual_pid, &coordinator.images());
    join.restarted = Some((OLD, 5));
    coordinator.knock(join)
}

fn come_back(coordinator: &Coordinator, virtual_pid: i32) -> Worker {
    let mut worker = knock(coordinator, virtual_pid);
    worker.welcome();
    assert_eq!(worker.computation, OLD);
    worker
}

fn refusal(result: Result<impl Sized, ClientError>) -> String {
    match result {
        Err(ClientError::Refused { reason, .. }) => reason,
        Err(other) => panic!("not refused: {other}"),
        Ok(_) => panic!("not refused"),
    }
}

fn refused(worker: &mut Worker) -> String {
    refusal(worker.connection.recv(LIMIT, "a refusal"))
}

#[test]
fn all_come_back_pass_both_barriers_and_go_on() {
    let coordinator = Coordinator::start(&[]);
    let mut restarter = announce(&coordinator, 2);
    let mut a = come_back(&coordinator, 1);
    a.reach(5, Barrier::Restarted);
    a.silent();
    assert!(matches!(coordinator.ask(CHECKPOINT), Outcome::NotRunning));
    let mut b = come_back(&coordinator, 2);
    b.reach(5, Barrier::Restarted);
    a.passed(Barrier::Restarted);
    b.passed(Barrier::Restarted);
    b.reach(5, Barrier::Resumed);
    b.silent();
    assert!(!coordinator.status().running);
    a.reach(5, Barrier::Resumed);
    a.passed(Barrier::Resumed);
    b.passed(Barrier::Resumed);
    restarter.await_restarted(LIMIT).unwrap();
    let status = coordinator.status();
    assert!(status.running && status.peers == 2 && status.computation == Some(OLD));
    let took = status.restart.expect("times of the restart");
    assert_eq!((took.generation, took.processes, took.bytes), (5, 2, 4096));
    let phases: Vec<&str> = took.phases.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(phases, ["place", "rejoin", "resume"]);
    assert_eq!(took.stages, [("check".to_owned(), 9)]);
    // Each part is cut down to whole microseconds.
    let parts = took.phases.iter().map(|(_, time)| time).sum::<u64>();
    assert!((parts..=parts + 3).contains(&took.total), "{took:?}");
    let mut asking = coordinator.begin(CHECKPOINT);
    assert_eq!(run_generation(&mut [a, b], "x"), 6, "generations go on where the restarted one was");
    assert_done(asking.outcome());
}

#[test]
fn the_one_who_announced_need_not_stay() {
    let coordinator = Coordinator::start(&["--exit-on-last"]);
    let restarter = announce(&coordinator, 1);
    let mut a = come_back(&coordinator, 1);
    drop(restarter);
    a.reach(5, Barrier::Restarted);
    a.passed(Barrier::Restarted);
    a.reach(5, Barrier::Resumed);
    a.passed(Barrier::Resumed);
    assert!(coordinator.status().running);
}

#[test]
fn restarters_of_several_hosts_agree_or_are_refused() {
    let coordinator = Coordinator::start(&[]);
    let mut first = announce(&coordinator, 2);
    let mut second = announce(&coordinator, 2);
    assert!(refusal(coordinator.connect().announce_restart(OLD, &restart_of(5, 3))).contains("under way"));
    assert!(refusal(coordinator.connect().announce_restart(OLD, &restart_of(4, 2))).contains("under way"));
    let mut workers = [come_back(&coordinator, 1), come_back(&coordinator, 2)];
    for barrier in [Barrier::Restarted, Barrier::Resumed] {
        for worker in &mut workers {
            worker.reach(5, barrier);
        }
        for worker in &mut workers {
            worker.passed(barrier);
        }
    }
    first.await_restarted(LIMIT).unwrap();
    second.await_restarted(LIMIT).unwrap();
}

#[test]
fn a_restart_is_refused_while_something_else_is_active() {
    let coordinator = Coordinator::start(&[]);
    let worker = coordinator.worker(1);
    let why = refusal(coordinator.connect().announce_restart(OLD, &restart_of(5, 1)));
    assert!(why.contains("another computation") && why.contains("--new-coordinator"), "{why}");
    drop(worker);
    support::wait_for("the worker to be gone", || (coordinator.status().peers == 0).then_some(()));
    announce(&coordinator, 1);
}

#[test]
fn processes_that_nobody_announced_are_refused() {
    let coordinator = Coordinator::start(&[]);
    let mut restarted = join(1, &coordinator.images());
    restarted.restarted = Some((OLD, 5));
    assert!(refused(&mut coordinator.knock(restarted.clone())).contains("dmtcp_restart"));
    let _restarter = announce(&coordinator, 2);
    restarted.restarted = Some((OLD, 4));
    assert!(refused(&mut coordinator.knock(restarted)).contains("generation 5"));
    let _first = come_back(&coordinator, 1);
    assert!(refused(&mut knock(&coordinator, 1)).contains("twice"));
    let _second = come_back(&coordinator, 2);
    assert!(refused(&mut knock(&coordinator, 3)).contains("all processes"));
}

#[test]
fn a_death_on_the_way_ends_the_attempt() {
    let coordinator = Coordinator::start(&[]);
    let mut restarter = announce(&coordinator, 2);
    let mut a = come_back(&coordinator, 1);
    let b = come_back(&coordinator, 2);
    drop(b);
    a.killed();
    assert!(refusal(restarter.await_restarted(LIMIT)).contains("prog[2]@here"));
    drop(a);
    support::wait_for("all to be gone", || (coordinator.status().peers == 0).then_some(()));
    announce(&coordinator, 1);
}

#[test]
fn a_restart_that_does_not_get_on_is_given_up() {
    let coordinator = Coordinator::start(&["--barrier-timeout", "1"]);
    let mut restarter = announce(&coordinator, 2);
    let mut a = come_back(&coordinator, 1);
    a.killed();
    let why = refusal(restarter.await_restarted(LIMIT));
    assert!(why.contains("2 processes") && why.contains("1 have come back"), "{why}");
    drop(a);
    support::wait_for("all to be gone", || (coordinator.status().peers == 0).then_some(()));
    let mut restarter = announce(&coordinator, 2);
    let mut workers = [come_back(&coordinator, 1), come_back(&coordinator, 2)];
    workers[0].reach(5, Barrier::Restarted);
    let why = refusal(restarter.await_restarted(LIMIT));
    assert!(why.contains("prog[2]@here") && why.contains("Restarted"), "{why}");
}

#[test]
fn an_attempt_that_died_early_does_not_stand_in_the_way() {
    let coordinator = Coordinator::start(&[]);
    drop(announce(&coordinator, 2));
    support::wait_for("the next attempt to be accepted", || {
        coordinator.connect().announce_restart(ComputationId(0x1234), &restart_of(1, 1)).ok()
    });
}

#[test]
fn a_new_process_waits_until_all_are_back() {
    let coordinator = Coordinator::start(&[]);
    let _restarter = announce(&coordinator, 1);
    let mut a = come_back(&coordinator, 1);
    let mut new = coordinator.knock(join(7, &coordinator.images()));
    new.silent();
    for barrier in [Barrier::Restarted, Barrier::Resumed] {
        a.reach(5, barrier);
        a.passed(barrier);
    }
    assert_eq!(new.welcome(), 2);
    assert_eq!(new.computation, OLD);
}

#[test]
fn a_kill_during_a_restart_reaches_everybody() {
    let coordinator = Coordinator::start(&[]);
    let mut restarter = announce(&coordinator, 2);
    let mut a = come_back(&coordinator, 1);
    let mut asking = coordinator.begin(Command::Kill);
    a.killed();
    refusal(restarter.await_restarted(LIMIT));
    drop(a);
    assert_done(asking.outcome());
    std::thread::sleep(Duration::from_millis(10));
    announce(&coordinator, 1);
}
