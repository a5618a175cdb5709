//! What the in-process half says is enough for the restart half.

use crate::restart::Half;
use dmtcp_plugin_api::restart::Process;
use dmtcp_plugin_test::{FakeCore, FakeRestarter, Image};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

fn file(path: &Path) -> File {
    let mut file = File::options().create_new(true).read(true).append(true).open(path).unwrap();
    file.write_all(b"before").unwrap();
    file.seek(SeekFrom::Start(3)).unwrap();
    file
}

fn restarted(image: &Image) -> FakeRestarter {
    let mut restarter = FakeRestarter::new();
    restarter.process(Process { pid: 4711, ..Process::default() }, image);
    restarter
}

#[test]
fn a_file_comes_back_at_its_position_and_length() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    let core = FakeCore::new(&crate::dmtcp_plugin_v1);
    let mut file = file(&path);
    let image = core.checkpoint(&[file.as_fd()]);
    core.resume();
    file.write_all(b" and after").unwrap();
    let mut restarter = restarted(&image);
    assert_eq!(restarter.check::<Half>(), Vec::<String>::new());
    restarter.create::<Half>().unwrap();
    let object = image.object_of(file.as_raw_fd()).unwrap();
    let mut again = File::from(restarter.object(object).unwrap().try_clone_to_owned().unwrap());
    let mut rest = String::new();
    again.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "ore");
    again.write_all(b"!").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "before!");
}

#[test]
fn a_file_that_is_gone_is_missed_by_name_and_found_under_another() {
    let directory = tempfile::tempdir().unwrap();
    let (path, moved) = (directory.path().join("data"), directory.path().join("moved"));
    let core = FakeCore::new(&crate::dmtcp_plugin_v1);
    let file = file(&path);
    let image = core.checkpoint(&[file.as_fd()]);
    core.resume();
    fs::rename(&path, &moved).unwrap();
    let missing = restarted(&image).check::<Half>();
    assert!(missing.len() == 1 && missing[0].contains(path.to_str().unwrap()), "{missing:?}");
    let mut restarter = restarted(&image);
    restarter.map_path(path.to_str().unwrap(), moved.to_str().unwrap());
    assert_eq!(restarter.check::<Half>(), Vec::<String>::new());
    restarter.create::<Half>().unwrap();
    assert!(restarter.object(image.object_of(file.as_raw_fd()).unwrap()).is_some());
}
