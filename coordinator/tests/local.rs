//! The unix socket for programs of the coordinator's own host.

mod support;

use dmtcp_launcher::client::{self, ClientError};
use dmtcp_launcher::local::Stream;
use dmtcp_launcher::scratch;
use dmtcp_protocol::auth::Key;
use dmtcp_protocol::message::{Command, Outcome};
use std::fs::Permissions;
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use support::{CHECKPOINT, Coordinator, LIMIT, assert_done, run_generation};

/// The coordinator's unix socket; what the scratch directory holds besides it is none.
fn socket(coordinator: &Coordinator) -> Option<PathBuf> {
    let end = format!(".{}", coordinator.port);
    std::fs::read_dir(scratch::place(Some(coordinator.directory.path())))
        .ok()?
        .map(|entry| entry.unwrap())
        .find(|entry| entry.file_type().unwrap().is_socket() && entry.file_name().to_string_lossy().ends_with(&end))
        .map(|entry| entry.path())
}

/// A coordinator that has answered, so that its socket is there.
fn answering() -> (Coordinator, PathBuf) {
    let coordinator = Coordinator::start(&[]);
    coordinator.status();
    let path = socket(&coordinator).expect("a unix socket");
    (coordinator, path)
}

#[test]
fn a_program_of_this_host_comes_by_the_unix_socket_and_is_served_like_any_other() {
    let (coordinator, _) = answering();
    let mut workers = [coordinator.worker(1)];
    let mut connection = coordinator.connect_locally([7; 32]).unwrap();
    assert!(matches!(connection.stream(), Stream::Local(_)));
    let asking = std::thread::spawn(move || connection.command(CHECKPOINT, LIMIT, |_, _| {}).unwrap());
    run_generation(&mut workers, "x");
    assert_done(asking.join().unwrap());
}

#[test]
fn the_key_has_to_be_proved_there_too() {
    let (coordinator, path) = answering();
    assert!(matches!(coordinator.connect_locally([8; 32]), Err(ClientError::WrongKey { .. })));
    let mut junk = UnixStream::connect(path).unwrap();
    junk.set_read_timeout(Some(LIMIT)).unwrap();
    // It is cut off somewhere on the way.
    let _ = junk.write_all(&[0x5a; 4096]);
    let mut rest = Vec::new();
    if let Err(error) = junk.read_to_end(&mut rest) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
    }
    coordinator.status();
}

#[test]
fn it_is_for_its_owner_alone_and_is_gone_when_the_coordinator_has_ended() {
    let (mut coordinator, path) = answering();
    let mode = |path: &std::path::Path| std::fs::symlink_metadata(path).unwrap().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    coordinator.interrupt();
    coordinator.wait_exit();
    assert!(!path.exists());
}

#[test]
fn without_the_socket_the_same_client_comes_by_tcp() {
    let (coordinator, path) = answering();
    std::fs::remove_file(path).unwrap();
    let mut connection = coordinator.connect_locally([7; 32]).unwrap();
    assert!(matches!(connection.stream(), Stream::Tcp(_)));
    assert!(matches!(connection.command(Command::Status, LIMIT, |_, _| {}).unwrap(), Outcome::Status(_)));
}

#[test]
fn what_a_killed_coordinator_left_is_replaced_by_the_next_one() {
    let (mut first, path) = answering();
    let (port, directory) = (first.port.to_string(), first.directory.path().to_str().unwrap().to_owned());
    first.kill();
    assert!(path.exists());
    let old = std::fs::symlink_metadata(&path).unwrap().ctime_nsec();
    let second = Coordinator::start(&["--coord-port", &port, "--tmpdir", &directory]);
    second.status();
    assert_ne!(std::fs::symlink_metadata(&path).unwrap().ctime_nsec(), old);
    let connection =
        client::connect("localhost", second.port, &Key::new([7; 32]), Some(first.directory.path())).unwrap();
    assert!(matches!(connection.stream(), Stream::Local(_)));
}

/// Connects as another user: the system call itself changes this thread alone.
#[test]
fn another_user_is_refused_even_if_the_modes_let_him_in() {
    if !nix::unistd::geteuid().is_root() {
        // Who is not root can be nobody else; what tells users apart is tested with the socket itself.
        println!("not run: only root can come as another user");
        return;
    }
    let (coordinator, path) = answering();
    for (path, mode) in [(&*path, 0o666), (path.parent().unwrap(), 0o711), (coordinator.directory.path(), 0o711)] {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }
    let got = std::thread::spawn(move || {
        // SAFETY: takes three numbers; the thread ends below and runs nothing that relies on being root.
        assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) }, 0);
        let mut stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        // What is not read makes it a reset instead of an end.
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).map(|_| rest)
    });
    let got = got.join().unwrap().unwrap();
    assert!(got.is_empty(), "not even a challenge");
    assert!(coordinator.log().contains("another user (uid 65534)"), "{}", coordinator.log());
    coordinator.status();
}
