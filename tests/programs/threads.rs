//! Rust threads with channels, a mutex and a condition variable.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

fn note(text: &str) {
    let path = std::env::var("STEPS_LOG").unwrap();
    let mut log = OpenOptions::new().append(true).create(true).open(path).unwrap();
    log.write_all(format!("{text}\n").as_bytes()).unwrap();
}

fn stopping() -> bool {
    Path::new(&std::env::var("STEPS_STOP").unwrap()).exists()
}

fn main() {
    let total = Arc::new((Mutex::new(0u64), Condvar::new()));
    let (sender, receiver) = mpsc::sync_channel::<u64>(4);
    let receiver = Arc::new(Mutex::new(receiver));
    let workers: Vec<_> = (0..3)
        .map(|id| {
            let (total, receiver) = (total.clone(), receiver.clone());
            thread::spawn(move || {
                let mut n = 0;
                loop {
                    let job = receiver.lock().unwrap().recv();
                    let Ok(job) = job else { return };
                    *total.0.lock().unwrap() += job;
                    total.1.notify_all();
                    n += 1;
                    note(&format!("p t{id} {n}"));
                    thread::sleep(Duration::from_millis(5));
                }
            })
        })
        .collect();
    let mut sent = 0;
    while !stopping() {
        for job in 1..=5 {
            sender.send(job).unwrap();
            sent += job;
        }
        thread::sleep(Duration::from_millis(2));
    }
    drop(sender);
    for worker in workers {
        worker.join().unwrap();
    }
    let caught = thread::spawn(|| panic!("a panic in a thread is caught by join")).join().is_err();
    let good = *total.0.lock().unwrap() == sent && caught;
    note(if good { "DONE" } else { "FAIL total" });
    std::process::exit(7);
}
