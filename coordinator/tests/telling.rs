//! What a coordinator tells outsiders: log, status file, metrics.

mod support;

use dmtcp_protocol::message::FromClient;
use serde_json::Value;
use support::{CHECKPOINT, Coordinator, assert_done, run_generation, wait_for};

#[test]
fn the_log_can_be_read_by_a_program() {
    let coordinator = Coordinator::start(&["--log-format", "json"]);
    let mut workers = [coordinator.worker(1), coordinator.worker(2)];
    let mut asking = coordinator.begin(CHECKPOINT);
    let generation = run_generation(&mut workers, "x");
    assert_done(asking.outcome());
    let mut asking = coordinator.begin(CHECKPOINT);
    let [mut a, b] = workers;
    a.checkpoint();
    drop(a);
    drop(b);
    support::reason(asking.outcome());
    let lines = wait_for("the end of the second generation in the log", || {
        let text = coordinator.log();
        text.contains("generation_failed").then(|| text.lines().map(str::to_owned).collect::<Vec<_>>())
    });
    let lines: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).expect(line)).collect();
    let of = |event: &str| lines.iter().filter(|line| line["event"] == event).collect::<Vec<_>>();
    assert!(lines.iter().all(|line| line["time"].as_str().is_some_and(|time| time.ends_with('Z'))));
    assert_eq!(of("listening")[0]["port"], coordinator.port);
    assert_eq!(of("joined").iter().map(|line| &line["pid"]).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(of("generation_begun").len(), 2);
    let committed = of("committed");
    assert_eq!((committed.len(), &committed[0]["generation"]), (1, &Value::from(generation)));
    assert!(committed[0]["phases_us"]["commit"].is_u64() && committed[0]["stages_us"]["pause"] == 7);
    assert_eq!(of("generation_failed")[0]["level"], "warning");
    assert!(of("generation_failed")[0]["reason"].as_str().unwrap().contains("ended"));
}

#[test]
fn lines_for_people_bear_the_time_where_nobody_watches() {
    let coordinator = Coordinator::start(&[]);
    let _worker = coordinator.worker(1);
    let line = wait_for("a line", || coordinator.log().lines().find(|line| line.contains("joined")).map(str::to_owned));
    let (time, rest) = line.split_once(' ').unwrap();
    assert!(time.ends_with('Z') && time.contains('T'), "{line}");
    assert_eq!(rest, "dmtcp_coordinator: prog[1]@here joined");
}

#[test]
fn quiet_leaves_warnings_and_twice_leaves_nothing() {
    for (flags, warned) in [(&["-q"][..], true), (&["-q", "-q"], false)] {
        let coordinator = Coordinator::start(flags);
        let mut worker = coordinator.worker(1);
        worker.send(FromClient::Join(worker.join.clone()));
        assert!(worker.connection.recv(support::LIMIT, "a refusal").is_err());
        coordinator.status();
        let log = coordinator.log();
        assert!(!log.contains("prog[1]@here joined"), "{log}");
        if warned {
            wait_for("a warning", || coordinator.log().contains("warning: ").then_some(()));
        } else {
            assert_eq!(coordinator.log(), "");
        }
    }
}

#[test]
fn the_status_file_tells_beginning_and_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("status");
    let mut coordinator = Coordinator::start(&["--status-file", path.to_str().unwrap()]);
    let text = wait_for("the status file", || std::fs::read_to_string(&path).ok().filter(|text| text.contains("PID=")));
    let value = |text: &str, name: &str| {
        text.lines().find_map(|line| line.strip_prefix(&format!("{name}="))).map(str::to_owned)
    };
    assert_eq!(value(&text, "PORT"), Some(coordinator.port.to_string()));
    assert_eq!(value(&text, "PID"), Some(coordinator.pid().to_string()));
    assert!(value(&text, "START").is_some() && value(&text, "HOST").is_some() && value(&text, "EXIT").is_none());
    coordinator.interrupt();
    assert!(coordinator.wait_exit().success());
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(value(&text, "CODE").as_deref(), Some("0"));
    assert!(value(&text, "EXIT") >= value(&text, "START"));
}

#[test]
fn metrics_follow_and_go() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("dmtcp.prom");
    let mut coordinator = Coordinator::start(&["--metrics-file", path.to_str().unwrap()]);
    let mut workers = [coordinator.worker(1)];
    let mut asking = coordinator.begin(CHECKPOINT);
    run_generation(&mut workers, "x");
    assert_done(asking.outcome());
    wait_for("the checkpoint in the metrics", || {
        let text = std::fs::read_to_string(&path).ok()?;
        let has = |line: &str| text.lines().any(|own| own == line);
        (has("dmtcp_processes 1") && has("dmtcp_checkpoints_total 1") && text.contains("stage=\"pause\"")).then_some(())
    });
    coordinator.interrupt();
    workers[0].killed();
    drop(workers);
    coordinator.wait_exit();
    assert!(!path.exists());
}
