//! A coordinator has died; processes of its computation come to a new one at its address.

mod support;

use dmtcp_launcher::client::ClientError;
use dmtcp_protocol::message::{Barrier, ComputationId, FromCoordinator, Join};
use support::{CHECKPOINT, Coordinator, LIMIT, assert_done, join, reason, run_generation};

const LOST: ComputationId = ComputationId(0x1057);

/// A process that was a member of a computation when its coordinator died.
fn orphan(coordinator: &Coordinator, virtual_pid: i32, computation: ComputationId, generation: u64) -> Join {
    Join { member_of: Some((computation, generation)), ..join(virtual_pid, &coordinator.images()) }
}

#[test]
fn an_empty_coordinator_takes_the_computation_over() {
    let coordinator = Coordinator::start(&[]);
    let a = coordinator.join(orphan(&coordinator, 1, LOST, 7));
    // One that was stopped longer has seen a later generation.
    let b = coordinator.join(orphan(&coordinator, 2, LOST, 9));
    assert_eq!((a.computation, b.computation), (LOST, LOST));
    let mut asking = coordinator.begin(CHECKPOINT);
    assert_eq!(run_generation(&mut [a, b], "x"), 10, "no number is used twice");
    assert_eq!(assert_done(asking.outcome()), Some(10));
}

#[test]
fn who_belongs_to_another_computation_has_to_wait() {
    let coordinator = Coordinator::start(&[]);
    let new = coordinator.worker(1);
    let mut lost = coordinator.knock(orphan(&coordinator, 2, LOST, 3));
    match lost.connection.recv(LIMIT, "a refusal") {
        Err(ClientError::Refused { reason, .. }) => assert!(reason.contains("another computation"), "{reason}"),
        other => panic!("not refused: {other:?}"),
    }
    drop(new);
    support::wait_for("the other computation to be over", || (coordinator.status().peers == 0).then_some(()));
    assert_eq!(coordinator.join(orphan(&coordinator, 2, LOST, 3)).computation, LOST);
}

#[test]
fn a_new_process_joins_what_was_taken_over() {
    let coordinator = Coordinator::start(&[]);
    let _old = coordinator.join(orphan(&coordinator, 1, LOST, 3));
    assert_eq!(coordinator.worker(2).computation, LOST);
}

#[test]
fn news_of_the_generation_that_died_with_the_old_one_is_ignored() {
    let coordinator = Coordinator::start(&[]);
    let mut a = coordinator.join(orphan(&coordinator, 1, LOST, 3));
    a.reach(4, Barrier::Suspended);
    a.sync(4);
    a.silent();
    let mut asking = coordinator.begin(CHECKPOINT);
    run_generation(&mut [a], "x");
    assert_done(asking.outcome());
}

#[test]
fn one_that_comes_while_others_stop_takes_part() {
    let coordinator = Coordinator::start(&[]);
    let mut a = coordinator.join(orphan(&coordinator, 1, LOST, 3));
    let mut asking = coordinator.begin(CHECKPOINT);
    let generation = a.checkpoint();
    let mut b = coordinator.join(orphan(&coordinator, 2, LOST, 3));
    assert_eq!(b.checkpoint(), generation);
    a.reach(generation, Barrier::Suspended);
    a.silent();
    drop(b);
    // It had not stopped yet: the others go on without it.
    a.passed(Barrier::Suspended);
    drop(a);
    assert!(reason(asking.outcome()).contains("prog[1]"));
}

#[test]
fn who_reconnects_twice_is_there_twice_only_while_the_old_connection_lives() {
    let coordinator = Coordinator::start(&[]);
    let old = coordinator.join(orphan(&coordinator, 1, LOST, 3));
    let mut new = coordinator.knock(orphan(&coordinator, 1, LOST, 3));
    match new.next() {
        FromCoordinator::Welcome { computation, .. } => assert_eq!(computation, LOST),
        other => panic!("{other:?}"),
    }
    drop(old);
    support::wait_for("the old connection to be gone", || (coordinator.status().peers == 1).then_some(()));
    new.silent();
}
