//! What a reader needs to see why a case failed: logs, processes, and where they hang.

use crate::process;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// How much of each log is shown.
const TAIL: usize = 2500;
/// How many live processes get a backtrace.
const BACKTRACES: usize = 3;

/// Gather it from the directories of a case.
pub fn gather(directories: &[&Path]) -> String {
    let mut text = String::new();
    for directory in directories {
        let mut files: Vec<_> = fs::read_dir(directory).into_iter().flatten().flatten().map(|x| x.path()).collect();
        files.sort();
        for file in files.iter().filter(|x| x.is_file()) {
            let content = fs::read(file).unwrap_or_default();
            if content.is_empty() || content.len() > 1 << 22 {
                continue;
            }
            let tail = String::from_utf8_lossy(&content[content.len().saturating_sub(TAIL)..]).into_owned();
            text += &format!("--- {}\n{}\n", file.display(), tail.trim_end());
        }
    }
    text += "--- processes\n";
    let alive = process::descendants(true);
    for pid in &alive {
        let state = process::state_of(*pid).map_or('?', |x| x.0);
        text += &format!("{pid} {state} {}\n", process::command_line(*pid));
        for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten().take(8) {
            let read = |name: &str| fs::read_to_string(task.path().join(name)).unwrap_or_default();
            text += &format!(
                "    task {} {:16} wchan {:24} syscall {}\n",
                task.file_name().to_string_lossy(),
                read("comm").trim(),
                read("wchan").trim(),
                read("syscall").trim()
            );
        }
    }
    for pid in alive.iter().rev().filter(|p| process::state_of(**p).is_some_and(|x| x.0 != 'Z')).take(BACKTRACES) {
        text += &backtrace(*pid);
    }
    text
}

/// All stacks of a live process, if gdb is there.
fn backtrace(pid: i32) -> String {
    let mut gdb = Command::new("timeout");
    gdb.args(["20", "gdb", "-nx", "-batch", "-p", &pid.to_string()]);
    gdb.args(["-ex", "thread apply all bt 12"]).stdin(Stdio::null()).stderr(Stdio::null());
    let output = gdb.output().map(|x| String::from_utf8_lossy(&x.stdout).into_owned()).unwrap_or_default();
    let frames: Vec<&str> =
        output.lines().filter(|x| x.starts_with('#') || x.starts_with("Thread ")).take(80).collect();
    format!("--- backtrace of {pid}\n{}\n", frames.join("\n"))
}
