//! What a generation is on disk: manifest, names, script, and what remains of the older ones.

mod support;

use dmtcp_protocol::manifest::{self, Manifest};
use dmtcp_protocol::message::{Barrier, Command};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use support::{CHECKPOINT, Coordinator, Worker, assert_done, join, reason, run_generation, wait_for};

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path.as_ref()).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

fn manifest_of(worker: &Worker, generation: u64) -> Manifest {
    serde_json::from_str(&read(worker.generation_directory(generation).join(manifest::NAME))).unwrap()
}

#[test]
fn a_committed_generation_has_manifest_names_and_script() {
    let coordinator = Coordinator::start(&[]);
    let mut workers = [coordinator.worker(1), coordinator.worker(2)];
    let mut asking = coordinator.begin(CHECKPOINT);
    let generation = run_generation(&mut workers, "first");
    assert_eq!(assert_done(asking.outcome()), Some(generation));
    let manifest = manifest_of(&workers[0], generation);
    assert_eq!(manifest.format, manifest::VERSION);
    assert_eq!(manifest.computation, workers[0].computation.to_string());
    assert_eq!(manifest.generation, generation);
    assert_eq!(Path::new(&manifest.decided_in), workers[0].generation_directory(generation));
    let mut pids: Vec<i32> = manifest.images.iter().map(|image| image.virtual_pid).collect();
    pids.sort();
    assert_eq!(pids, [1, 2]);
    let script = read(coordinator.images().join("dmtcp_restart_script.sh"));
    for worker in &workers {
        assert_eq!(read(worker.public_path()), "first");
        assert!(script.contains(worker.public_path().to_str().unwrap()));
    }
    let named = coordinator.images().join(format!("dmtcp_restart_script_{}.sh", workers[0].computation));
    assert_eq!(fs::metadata(named).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn names_move_on_and_the_older_generation_goes() {
    let coordinator = Coordinator::start(&[]);
    let mut workers = [coordinator.worker(1)];
    for content in ["first", "second"] {
        let mut asking = coordinator.begin(CHECKPOINT);
        run_generation(&mut workers, content);
        assert_done(asking.outcome());
    }
    coordinator.status();
    assert_eq!(read(workers[0].public_path()), "second");
    wait_for("the removal of the older generation", || (!workers[0].generation_directory(1).exists()).then_some(()));
    assert_eq!(manifest_of(&workers[0], 2).generation, 2);
    let leftovers: Vec<_> = fs::read_dir(coordinator.images())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("tmp"))
        .collect();
    assert!(leftovers.is_empty(), "{leftovers:?}");
}

#[test]
fn a_failed_generation_leaves_the_older_one_whole() {
    let coordinator = Coordinator::start(&[]);
    let mut workers = [coordinator.worker(1)];
    let mut asking = coordinator.begin(CHECKPOINT);
    let first = run_generation(&mut workers, "first");
    assert_done(asking.outcome());
    let [mut a] = workers;
    let mut asking = coordinator.begin(CHECKPOINT);
    let second = a.checkpoint();
    a.reach(second, Barrier::Suspended);
    a.passed(Barrier::Suspended);
    a.write(second, "second");
    a.passed(Barrier::Written);
    // The image vanishes, and with it the worker that could have said so.
    fs::remove_file(a.generation_directory(second).join(a.name())).unwrap();
    let (directory, public) = (a.generation_directory(second), a.public_path());
    let kept = a.generation_directory(first).join(manifest::NAME);
    drop(a);
    assert!(reason(asking.outcome()).contains("cannot bring the image"));
    assert_eq!(read(public), "first");
    assert!(kept.exists() && !directory.exists());
}

#[test]
fn an_exit_after_the_image_is_written_is_harmless() {
    let coordinator = Coordinator::start(&[]);
    let (mut a, mut b) = (coordinator.worker(1), coordinator.worker(2));
    let mut asking = coordinator.begin(CHECKPOINT);
    let generation = a.checkpoint();
    b.checkpoint();
    for worker in [&mut a, &mut b] {
        worker.reach(generation, Barrier::Suspended);
    }
    for worker in [&mut a, &mut b] {
        worker.passed(Barrier::Suspended);
    }
    a.write(generation, "a");
    let public = a.public_path();
    drop(a);
    b.silent();
    b.write(generation, "b");
    b.passed(Barrier::Written);
    b.sync(generation);
    b.committed();
    assert_done(asking.outcome());
    assert_eq!(read(public), "a");
    assert_eq!(manifest_of(&b, generation).images.len(), 2);
}

#[test]
fn all_may_leave_once_all_is_written() {
    let coordinator = Coordinator::start(&[]);
    let mut a = coordinator.worker(1);
    let mut asking = coordinator.begin(CHECKPOINT);
    let generation = a.checkpoint();
    a.reach(generation, Barrier::Suspended);
    a.passed(Barrier::Suspended);
    a.write(generation, "last words");
    let public = a.public_path();
    drop(a);
    assert_eq!(assert_done(asking.outcome()), Some(generation));
    assert_eq!(read(public), "last words");
}

#[test]
fn directories_of_several_processes_get_the_same_manifest() {
    let coordinator = Coordinator::start(&[]);
    let other = tempfile::tempdir().unwrap();
    let mut workers = [coordinator.worker(1), coordinator.join(join(2, other.path()))];
    let mut asking = coordinator.begin(CHECKPOINT);
    let generation = run_generation(&mut workers, "x");
    assert_done(asking.outcome());
    let first = manifest_of(&workers[0], generation);
    assert_eq!(first, manifest_of(&workers[1], generation));
    assert_eq!(Path::new(&first.decided_in), workers[0].generation_directory(generation));
    assert_eq!(read(workers[1].public_path()), "x");
}

#[test]
fn a_number_that_somebody_else_uses_is_skipped() {
    let coordinator = Coordinator::start(&[]);
    let mut a = coordinator.worker(1);
    // Another coordinator works on a copy of the same computation in the same directory.
    let theirs = a.generation_directory(1);
    fs::create_dir_all(&theirs).unwrap();
    let mut asking = coordinator.begin(CHECKPOINT);
    let mut workers = [a];
    assert_eq!(run_generation(&mut workers, "x"), 2);
    assert_eq!(assert_done(asking.outcome()), Some(2));
    [a] = workers;
    coordinator.status();
    wait_for("the removal of what never became a generation", || (!theirs.exists()).then_some(()));
    assert!(a.generation_directory(2).exists());
}

#[test]
fn an_image_in_the_wrong_place_fails_the_generation() {
    let coordinator = Coordinator::start(&[]);
    let mut a = coordinator.worker(1);
    let mut asking = coordinator.begin(CHECKPOINT);
    let generation = a.checkpoint();
    a.reach(generation, Barrier::Suspended);
    a.passed(Barrier::Suspended);
    let precious = coordinator.directory.path().join("1");
    fs::create_dir(&precious).unwrap();
    fs::write(precious.join("file"), "precious").unwrap();
    let mut written = a.image(generation, "x");
    written.path = precious.join("file").to_str().unwrap().into();
    a.send(dmtcp_protocol::message::FromClient::Written(written));
    a.passed(Barrier::Written);
    a.sync(generation);
    a.aborted();
    assert!(reason(asking.outcome()).contains("no place for generation"));
    assert_eq!(read(precious.join("file")), "precious");
}

#[test]
fn a_script_that_cannot_be_written_is_reported_and_no_more() {
    let coordinator = Coordinator::start(&[]);
    let images = tempfile::tempdir().unwrap();
    let mut workers = [coordinator.join(join(1, images.path()))];
    fs::remove_dir(coordinator.images()).unwrap();
    let mut asking = coordinator.begin(CHECKPOINT);
    run_generation(&mut workers, "x");
    match asking.outcome() {
        dmtcp_protocol::message::Outcome::Done { notes, .. } => {
            assert!(notes.iter().any(|note| note.contains("restart script")), "{notes:?}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(read(workers[0].public_path()), "x");
}

#[test]
fn kill_after_checkpoint_waits_for_the_commit() {
    let coordinator = Coordinator::start(&[]);
    let mut a = coordinator.worker(1);
    let mut asking = coordinator.begin(Command::Checkpoint { wait: true, kill: true });
    let generation = a.checkpoint();
    a.reach(generation, Barrier::Suspended);
    a.passed(Barrier::Suspended);
    a.write(generation, "x");
    a.passed(Barrier::Written);
    a.silent();
    a.sync(generation);
    assert_eq!(a.committed(), (generation, true));
    assert_eq!(read(a.public_path()), "x");
    asking.waits();
    drop(a);
    assert_eq!(assert_done(asking.outcome()), Some(generation));
    assert_eq!(coordinator.status().peers, 0);
}
