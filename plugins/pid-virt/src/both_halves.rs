//! What the in-process half says is enough for the restart half.

use crate::restart::Half;
use dmtcp_plugin_api::restart::Process;
use dmtcp_plugin_test::{FakeCore, FakeRestarter, Image};

#[test]
fn the_ids_of_all_threads_are_asked_for() {
    let core = FakeCore::new(&crate::dmtcp_plugin_v1);
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let (say, tid) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        // SAFETY: no memory is passed.
        say.send(unsafe { libc::gettid() }).unwrap();
        let _ = wait.recv();
    });
    let tid = tid.recv().unwrap();
    let image = core.checkpoint(&[]);
    core.resume();
    drop(release);
    thread.join().unwrap();
    let mut restarter = FakeRestarter::new();
    let pid = std::process::id() as i32;
    let index = restarter.process(Process { pid, ppid: 1, pgid: pid, sid: pid }, &image);
    assert_eq!(restarter.check::<Half>(), Vec::<String>::new());
    restarter.create::<Half>().unwrap();
    assert_eq!(restarter.ids(index).first(), Some(&pid));
    assert!(restarter.ids(index).contains(&tid), "{tid} is not among {:?}", restarter.ids(index));
}

#[test]
fn a_process_without_ids_is_refused_among_others() {
    let core = FakeCore::new(&crate::dmtcp_plugin_v1);
    let image = core.checkpoint(&[]);
    core.resume();
    let process = |pid| Process { pid, ppid: 1, pgid: pid, sid: pid };
    let mut restarter = FakeRestarter::new();
    restarter.process(process(99), &Image::default());
    assert_eq!(restarter.check::<Half>(), Vec::<String>::new());
    restarter.process(process(std::process::id() as i32), &image);
    let said = restarter.check::<Half>();
    assert!(said.len() == 1 && said[0].contains("process 99"), "{said:?}");
}
