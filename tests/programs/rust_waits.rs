//! What Rust's std offers for threads to wait for each other, in use all the time.

use std::env;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::process::exit;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Condvar, LazyLock, Mutex, Once, RwLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

static OVER: AtomicBool = AtomicBool::new(false);

fn over() -> bool {
    OVER.load(Ordering::SeqCst)
}

fn note(line: String) {
    let mut log = OpenOptions::new().append(true).create(true).open(env::var("STEPS_LOG").unwrap()).unwrap();
    log.write_all((line + "\n").as_bytes()).unwrap();
}

fn step(stream: &str, n: u64) {
    note(format!("p {stream} {n}"));
}

fn check(condition: bool, what: &str) {
    if !condition {
        note(format!("FAIL {what}"));
        exit(97);
    }
}

fn rest(milliseconds: u64) {
    let (start, pause) = (Instant::now(), Duration::from_millis(milliseconds));
    thread::sleep(pause);
    check(start.elapsed() >= pause, "a sleep was too short");
}

fn condvar() {
    let pair = Arc::new((Mutex::new(0u64), Condvar::new()));
    let other = pair.clone();
    let partner = thread::spawn(move || {
        let (value, changed) = &*other;
        while !over() {
            rest(6);
            *value.lock().unwrap() += 1;
            changed.notify_all();
        }
        *value.lock().unwrap() += 1;
        changed.notify_all();
    });
    for n in 1.. {
        let guard = pair.0.lock().unwrap();
        let before = *guard;
        let hour = Duration::from_secs(3600);
        let (_guard, timed_out) = pair.1.wait_timeout_while(guard, hour, |value| *value == before).unwrap();
        check(!timed_out.timed_out(), "an hour has not passed");
        if over() {
            break;
        }
        step("condvar", n);
    }
    partner.join().unwrap();
}

fn rwlock() {
    let lock = Arc::new(RwLock::new((0u64, 0u64)));
    let other = lock.clone();
    let reader = thread::spawn(move || {
        while !over() {
            let both = other.read().unwrap();
            check(both.0 == both.1, "torn");
            rest(3);
            drop(both);
            rest(1);
        }
    });
    for n in 1.. {
        let mut both = lock.write().unwrap();
        both.0 += 1;
        rest(4);
        both.1 += 1;
        drop(both);
        if over() {
            break;
        }
        step("rwlock", n);
        rest(1);
    }
    reader.join().unwrap();
}

fn barrier() {
    let (meeting, last) = (Arc::new(Barrier::new(3)), Arc::new(AtomicBool::new(false)));
    let work = |pause: u64| {
        let (meeting, last) = (meeting.clone(), last.clone());
        move || {
            for n in 1.. {
                rest(pause);
                if meeting.wait().is_leader() {
                    last.store(over(), Ordering::SeqCst);
                    step("barrier", n);
                }
                meeting.wait();
                if last.load(Ordering::SeqCst) {
                    break;
                }
            }
        }
    };
    let all = [thread::spawn(work(2)), thread::spawn(work(4)), thread::spawn(work(6))];
    all.into_iter().for_each(|thread| thread.join().unwrap());
}

fn channels() {
    let (sender, receiver) = mpsc::sync_channel::<u64>(0);
    let producer = thread::spawn(move || {
        for n in 1.. {
            rest(5);
            if over() || sender.send(n).is_err() {
                break;
            }
        }
    });
    let mut n = 0;
    while let Ok(value) = receiver.recv() {
        n += 1;
        check(value == n, "a message out of order");
        step("channel", n);
    }
    producer.join().unwrap();
}

fn parking() {
    let turn = Arc::new(AtomicU64::new(0));
    let theirs = turn.clone();
    let parked = thread::spawn(move || {
        for n in 1.. {
            while theirs.load(Ordering::SeqCst) < n && !over() {
                thread::park();
            }
            if over() {
                break;
            }
            step("park", n);
        }
    });
    while !over() {
        rest(6);
        turn.fetch_add(1, Ordering::SeqCst);
        parked.thread().unpark();
    }
    parked.thread().unpark();
    parked.join().unwrap();
}

fn once() {
    static ONCE: Once = Once::new();
    static LAZY: LazyLock<u64> = LazyLock::new(|| {
        while !over() {
            rest(10);
        }
        42
    });
    let other = thread::spawn(|| {
        rest(20);
        ONCE.call_once(|| check(false, "called twice"));
        check(*LAZY == 42, "lazy");
    });
    let lazy = thread::spawn(|| check(*LAZY == 42, "lazy"));
    ONCE.call_once(|| {
        for n in 1.. {
            if over() {
                break;
            }
            step("once", n);
            rest(10);
        }
    });
    other.join().unwrap();
    lazy.join().unwrap();
}

fn main() {
    let all = [condvar, rwlock, barrier, channels, parking, once].map(thread::spawn);
    while !Path::new(&env::var("STEPS_STOP").unwrap()).exists() {
        rest(20);
    }
    OVER.store(true, Ordering::SeqCst);
    all.into_iter().for_each(|thread| thread.join().unwrap());
    note("DONE".into());
    exit(7);
}
