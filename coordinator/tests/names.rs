//! What plugins say to each other: values of the computation, and barriers between the hooks of its processes.

mod support;

use dmtcp_launcher::client::ClientError;
use dmtcp_protocol::message::{Barrier, ComputationId, FromClient, Join};
use dmtcp_protocol::names::{Answer, LONGEST_NAME, LONGEST_VALUE, Operation, Scope};
use support::{
    CHECKPOINT, Coordinator, LIMIT, Worker, assert_done, join, reason, run_generation, wait_for, work_on_name,
};

const ALL: Scope = Scope::Computation;

fn was(value: &str) -> Answer {
    Answer::Was(Some(value.into()))
}

/// All are asked for a checkpoint.
fn begin(workers: &mut [&mut Worker]) -> u64 {
    workers.iter_mut().map(|worker| worker.checkpoint()).max().unwrap()
}

fn finish(workers: &mut [&mut Worker], generation: u64) {
    for worker in workers.iter_mut() {
        worker.reach(generation, Barrier::Suspended);
    }
    for worker in workers.iter_mut() {
        worker.passed(Barrier::Suspended);
    }
    for worker in workers.iter_mut() {
        worker.write(generation, "x");
    }
    for worker in workers.iter_mut() {
        worker.passed(Barrier::Written);
        worker.sync(generation);
    }
    for worker in workers.iter_mut() {
        assert_eq!(worker.committed().0, generation);
    }
}

#[test]
fn what_one_process_publishes_the_others_find() {
    let coordinator = Coordinator::start(&[]);
    let (mut a, mut b) = (coordinator.worker(1), coordinator.worker(2));
    assert_eq!(b.share("db", "key", Operation::Get), Answer::NoDatabase);
    assert_eq!(a.share("db", "key", Operation::Set("value".into())), Answer::Was(None));
    assert_eq!(b.share("db", "key", Operation::Get), was("value"));
    assert_eq!(b.share("db", "other", Operation::Get), Answer::NoKey);
    assert_eq!(b.share("db", "count", Operation::Add(2)), Answer::Was(None));
    assert_eq!(a.share("db", "count", Operation::Add(3)), was("2"));
    assert_eq!(a.share("db", "count", Operation::Max(4)), was("5"));
}

#[test]
fn values_are_written_when_the_last_process_has_left() {
    let coordinator = Coordinator::start(&["--write-kv-data"]);
    let (mut a, b) = (coordinator.worker(1), coordinator.worker(2));
    a.share("/plugin/mine", "server \"one\"", Operation::Set("host:7000".into()));
    a.share("/plugin/mine", "count", Operation::Add(3));
    let written = || {
        let mut files = std::fs::read_dir(coordinator.images()).unwrap().flatten().map(|entry| entry.path());
        files.find(|path| path.extension().is_some_and(|extension| extension == "json"))
    };
    drop(b);
    coordinator.status();
    assert_eq!(written(), None, "one is still there");
    let computation = a.computation;
    drop(a);
    let path = wait_for("the file with the values", written);
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    assert!(name.starts_with(&format!("dmtcp_coordinator_db-{computation}-")), "{name}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let content: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(content["databases"]["/plugin/mine"]["server \"one\""], "host:7000");
    assert_eq!(content["databases"]["/plugin/mine"]["count"], "3");
}

#[test]
fn threads_of_a_program_ask_over_connections_of_their_own() {
    let coordinator = Coordinator::start(&[]);
    let mut a = coordinator.worker(1);
    a.share("db", "key", Operation::Set("value".into()));
    let mut other = coordinator.connect();
    assert_eq!(work_on_name(&mut other, a.computation, "db", "key", Operation::Get), was("value"));
    let answer = work_on_name(&mut other, ComputationId(1), "db", "key", Operation::Get);
    assert!(matches!(&answer, Answer::Invalid(why) if why.contains("not active here")), "{answer:?}");
}

#[test]
fn values_stay_over_checkpoints_and_end_with_the_computation() {
    let coordinator = Coordinator::start(&[]);
    let mut workers = [coordinator.worker(1)];
    workers[0].share("db", "key", Operation::Set("value".into()));
    let mut asking = coordinator.begin(CHECKPOINT);
    run_generation(&mut workers, "x");
    assert_done(asking.outcome());
    assert_eq!(workers[0].share("db", "key", Operation::Get), was("value"));
    drop(workers);
    let mut next = coordinator.worker(2);
    assert_eq!(next.share("db", "key", Operation::Get), Answer::NoDatabase);
}

#[test]
fn too_much_is_refused_and_harms_nobody() {
    let coordinator = Coordinator::start(&[]);
    let mut a = coordinator.worker(1);
    let refused = |answer: Answer| matches!(answer, Answer::Invalid(_));
    assert!(refused(a.share("db", "key", Operation::Set(vec![0; LONGEST_VALUE + 1]))));
    assert!(refused(a.share(&"d".repeat(LONGEST_NAME + 1), "key", Operation::Get)));
    assert_eq!(a.share("db", "key", Operation::Set(vec![0; LONGEST_VALUE])), Answer::Was(None));
    assert!(refused(a.share("db", "key", Operation::Add(1))));
    assert_eq!(coordinator.status().peers, 1);
}

#[test]
fn hooks_wait_for_each_other_at_their_barriers() {
    let coordinator = Coordinator::start(&[]);
    let (mut a, mut b) = (coordinator.worker(1), coordinator.worker(2));
    let mut asking = coordinator.begin(CHECKPOINT);
    let generation = begin(&mut [&mut a, &mut b]);
    for round in 0..2 {
        // Before the stop, twice at one name.
        a.meet(round, generation, "published", ALL);
        a.silent();
        b.meet(round + 10, generation, "published", ALL);
        assert_eq!(a.met(round), None);
        assert_eq!(b.met(round + 10), None);
    }
    a.reach(generation, Barrier::Suspended);
    b.reach(generation, Barrier::Suspended);
    a.passed(Barrier::Suspended);
    b.passed(Barrier::Suspended);
    // While they are stopped.
    b.meet(3, generation, "queried", ALL);
    b.silent();
    a.meet(4, generation, "queried", ALL);
    assert_eq!(b.met(3), None);
    assert_eq!(a.met(4), None);
    a.write(generation, "x");
    b.write(generation, "x");
    a.passed(Barrier::Written);
    b.passed(Barrier::Written);
    // After it.
    a.meet(5, generation, "refilled", ALL);
    b.meet(6, generation, "refilled", ALL);
    assert_eq!(a.met(5), None);
    assert_eq!(b.met(6), None);
    a.sync(generation);
    b.sync(generation);
    assert_eq!(assert_done(asking.outcome()), Some(generation));
}

#[test]
fn a_barrier_of_a_host_waits_for_that_host_only() {
    let coordinator = Coordinator::start(&[]);
    let there = |pid| Join { host: "there".into(), ..join(pid, &coordinator.images()) };
    let mut a = coordinator.worker(1);
    let (mut b, mut c) = (coordinator.join(there(2)), coordinator.join(there(3)));
    let _asking = coordinator.begin(CHECKPOINT);
    let generation = begin(&mut [&mut a, &mut b, &mut c]);
    a.meet(1, generation, "host", Scope::Host);
    assert_eq!(a.met(1), None);
    b.meet(2, generation, "host", Scope::Host);
    b.silent();
    c.meet(3, generation, "host", Scope::Host);
    assert_eq!(b.met(2), None);
    assert_eq!(c.met(3), None);
    finish(&mut [&mut a, &mut b, &mut c], generation);
}

#[test]
fn who_does_not_come_to_a_barrier_is_named() {
    let coordinator = Coordinator::start(&["--barrier-timeout", "1"]);
    let (mut a, mut b) = (coordinator.worker(1), coordinator.worker(2));
    let mut asking = coordinator.begin(CHECKPOINT);
    let generation = begin(&mut [&mut a, &mut b]);
    a.meet(1, generation, "published", ALL);
    let why = a.met(1).unwrap();
    assert!(why.starts_with("waited 1 s: at barrier 'published' prog[1]@here waits for prog[2]@here"), "{why}");
    assert_eq!(a.aborted(), why);
    assert_eq!(b.aborted(), why);
    assert_eq!(reason(asking.outcome()), why);
}

#[test]
fn a_process_without_the_barrier_is_known_at_once() {
    let coordinator = Coordinator::start(&[]);
    let (mut a, mut b) = (coordinator.worker(1), coordinator.worker(2));
    let mut asking = coordinator.begin(CHECKPOINT);
    let generation = begin(&mut [&mut a, &mut b]);
    a.meet(1, generation, "published", ALL);
    b.reach(generation, Barrier::Suspended);
    let why = a.met(1).unwrap();
    assert!(why.contains("at barrier 'published' prog[1]@here waits for prog[2]@here"), "{why}");
    assert_eq!(reason(asking.outcome()), why);
    // What comes of an older generation is answered, and disturbs nobody.
    a.aborted();
    a.meet(2, generation, "published", ALL);
    assert!(a.met(2).unwrap().contains("is over"));
    b.aborted();
    let mut asking = coordinator.begin(CHECKPOINT);
    let generation = begin(&mut [&mut a, &mut b]);
    finish(&mut [&mut a, &mut b], generation);
    assert_done(asking.outcome());
}

#[test]
fn processes_at_different_barriers_do_not_wait_for_ever() {
    let coordinator = Coordinator::start(&[]);
    let (mut a, mut b) = (coordinator.worker(1), coordinator.worker(2));
    let _asking = coordinator.begin(CHECKPOINT);
    let generation = begin(&mut [&mut a, &mut b]);
    a.meet(1, generation, "one", ALL);
    b.meet(2, generation, "two", ALL);
    let why = a.met(1).unwrap();
    assert!(why.contains("'one' prog[1]@here waits for prog[2]@here"), "{why}");
    assert!(why.contains("'two' prog[2]@here waits for prog[1]@here"), "{why}");
    assert_eq!(b.met(2), Some(why));
}

#[test]
fn nobody_waits_for_a_process_that_has_ended() {
    let coordinator = Coordinator::start(&[]);
    let (mut a, mut b) = (coordinator.worker(1), coordinator.worker(2));
    let mut asking = coordinator.begin(CHECKPOINT);
    let generation = begin(&mut [&mut a, &mut b]);
    a.meet(1, generation, "published", ALL);
    a.silent();
    drop(b);
    assert_eq!(a.met(1), None);
    finish(&mut [&mut a], generation);
    assert_done(asking.outcome());
}

#[test]
fn a_process_that_joins_after_a_barrier_passes_it() {
    let coordinator = Coordinator::start(&[]);
    let mut a = coordinator.worker(1);
    let _asking = coordinator.begin(CHECKPOINT);
    let generation = begin(&mut [&mut a]);
    a.meet(1, generation, "published", ALL);
    assert_eq!(a.met(1), None);
    let mut b = coordinator.worker(2);
    begin(&mut [&mut b]);
    b.meet(2, generation, "published", ALL);
    assert_eq!(b.met(2), None);
    finish(&mut [&mut a, &mut b], generation);
}

#[test]
fn a_barrier_that_fails_after_the_images_are_written_takes_nothing_with_it() {
    let coordinator = Coordinator::start(&[]);
    let (mut a, mut b) = (coordinator.worker(1), coordinator.worker(2));
    let mut asking = coordinator.begin(CHECKPOINT);
    let generation = begin(&mut [&mut a, &mut b]);
    for worker in [&mut a, &mut b] {
        worker.reach(generation, Barrier::Suspended);
    }
    for worker in [&mut a, &mut b] {
        worker.passed(Barrier::Suspended);
    }
    for worker in [&mut a, &mut b] {
        worker.write(generation, "x");
    }
    a.passed(Barrier::Written);
    b.passed(Barrier::Written);
    a.meet(1, generation, "refilled", ALL);
    b.sync(generation);
    assert!(a.met(1).is_some());
    a.sync(generation);
    assert_eq!(assert_done(asking.outcome()), Some(generation));
}

#[test]
fn outside_of_checkpoints_and_restarts_there_is_nobody_to_wait_for() {
    let coordinator = Coordinator::start(&[]);
    let mut a = coordinator.worker(1);
    a.meet(1, 0, "published", ALL);
    assert!(a.met(1).unwrap().contains("is over"));
    let mut stranger = coordinator.connect();
    stranger.send(&FromClient::Meet { ticket: 1, generation: 0, name: "x".into(), scope: ALL }).unwrap();
    assert!(matches!(stranger.recv(LIMIT, "a refusal"), Err(ClientError::Refused { .. })));
}

/// Announces the restart of a computation of two processes, and lets one of them come back.
fn back(coordinator: &Coordinator, id: ComputationId, pid: i32) -> Worker {
    coordinator.join(Join { restarted: Some((id, 4)), ..join(pid, &coordinator.images()) })
}

#[test]
fn after_a_restart_hooks_publish_meet_and_query_anew() {
    let coordinator = Coordinator::start(&[]);
    let id = ComputationId(0xabc);
    let mut restarter = coordinator.connect();
    restarter
        .send(&FromClient::Restart { computation: id, generation: 4, processes: 2, bytes: 0, stages: Vec::new() })
        .unwrap();
    let mut a = back(&coordinator, id, 1);
    let mut b = back(&coordinator, id, 2);
    for worker in [&mut a, &mut b] {
        worker.reach(4, Barrier::Restarted);
    }
    for worker in [&mut a, &mut b] {
        worker.passed(Barrier::Restarted);
    }
    assert_eq!(a.share("db", "key", Operation::Get), Answer::NoDatabase);
    a.share("db", "key", Operation::Set("new".into()));
    a.meet(1, 4, "published", ALL);
    a.silent();
    b.meet(2, 4, "published", ALL);
    assert_eq!(b.met(2), None);
    assert_eq!(a.met(1), None);
    assert_eq!(b.share("db", "key", Operation::Get), was("new"));
    for worker in [&mut a, &mut b] {
        worker.reach(4, Barrier::Resumed);
    }
    for worker in [&mut a, &mut b] {
        worker.passed(Barrier::Resumed);
    }
    // RUNNING hooks: a process that is new takes no part.
    let mut new = coordinator.worker(9);
    b.meet(3, 4, "running", ALL);
    b.silent();
    a.meet(4, 4, "running", ALL);
    assert_eq!(b.met(3), None);
    assert_eq!(a.met(4), None);
    new.meet(5, 4, "running", ALL);
    assert!(new.met(5).unwrap().contains("takes no part"));
}

#[test]
fn a_restart_fails_when_a_process_does_not_come_to_a_barrier() {
    let coordinator = Coordinator::start(&[]);
    let id = ComputationId(0xabc);
    let mut restarter = coordinator.connect();
    restarter
        .send(&FromClient::Restart { computation: id, generation: 4, processes: 2, bytes: 0, stages: Vec::new() })
        .unwrap();
    restarter.recv(LIMIT, "a welcome").unwrap();
    let mut a = back(&coordinator, id, 1);
    let mut b = back(&coordinator, id, 2);
    for worker in [&mut a, &mut b] {
        worker.reach(4, Barrier::Restarted);
    }
    for worker in [&mut a, &mut b] {
        worker.passed(Barrier::Restarted);
    }
    a.meet(1, 4, "published", ALL);
    b.reach(4, Barrier::Resumed);
    let why = a.met(1).unwrap();
    assert!(why.contains("waits for prog[2]@here"), "{why}");
    a.killed();
    b.killed();
    match restarter.recv(LIMIT, "a refusal") {
        Err(ClientError::Refused { reason, .. }) => assert_eq!(reason, why),
        other => panic!("{other:?}"),
    }
}
