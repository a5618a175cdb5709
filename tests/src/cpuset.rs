//! A control group whose processes may use one processor: what job systems do with programs that they start.
//!
//! A mask of processors is only what a thread wishes; a control group is what it may. In one, a wish for others is an
//! error. Making one takes root and a hierarchy that is writable, of either version.

use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};

/// Where the two versions of the hierarchy usually are, and what in each shows that processors can be shared out.
const HIERARCHIES: [(&str, &str); 2] =
    [("/sys/fs/cgroup/cpuset", "cpuset.cpus"), ("/sys/fs/cgroup", "cpuset.cpus.effective")];

/// Such a group; its directory goes with the value, when no process is in it any more.
#[derive(Debug)]
pub struct Cpuset(PathBuf);

fn hierarchy() -> Option<&'static Path> {
    let usable = |(root, sign): &(&'static str, &str)| Path::new(root).join(sign).exists().then_some(Path::new(*root));
    HIERARCHIES.iter().find_map(usable)
}

/// Whether a group can be made here.
pub fn is_possible() -> bool {
    Cpuset::new().is_ok()
}

impl Cpuset {
    /// A group with the lowest processor of all.
    pub fn new() -> Result<Cpuset> {
        let root = hierarchy().context("no hierarchy of control groups shares out processors")?;
        let read = |name: &str| fs::read_to_string(root.join(name));
        let (cpus, mems) = (
            read("cpuset.cpus").or_else(|_| read("cpuset.cpus.effective"))?,
            read("cpuset.mems").or_else(|_| read("cpuset.mems.effective"))?,
        );
        let first: String = cpus.chars().take_while(char::is_ascii_digit).collect();
        ensure!(cpus.trim() != first, "this machine has one processor");
        let directory = root.join(format!("dmtcp-test.{}", std::process::id()));
        fs::create_dir(&directory)?;
        let group = Cpuset(directory);
        fs::write(group.0.join("cpuset.cpus"), first)?;
        fs::write(group.0.join("cpuset.mems"), mems.trim())?;
        Ok(group)
    }

    /// A command that enters the group and executes what follows.
    pub fn enter(&self) -> [String; 4] {
        let script = "echo $$ >\"$0\" && exec \"$@\"".to_owned();
        ["/bin/sh".into(), "-c".into(), script, self.0.join("cgroup.procs").display().to_string()]
    }
}

impl Drop for Cpuset {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}
