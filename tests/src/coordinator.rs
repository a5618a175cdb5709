//! A coordinator of a case's own, on a port that it chooses itself.

use crate::identity::RunAs;
use crate::wait;
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A running `dmtcp_coordinator` with its console on a pipe.
pub struct Coordinator {
    child: Child,
    port: u16,
    log: PathBuf,
}

impl Coordinator {
    /// Start one. `command` is `dmtcp_coordinator` with its environment set; `logs` is where its output goes.
    pub fn start(mut command: Command, run_as: RunAs, logs: &Path, checkpoints: &Path, tag: usize) -> Result<Self> {
        let (port_file, log) = (logs.join(format!("port.{tag}")), logs.join(format!("coordinator.{tag}")));
        let _ = fs::remove_file(&port_file);
        let output = File::create(&log)?;
        run_as.own(&log)?;
        command.args(["-p", "0", "--port-file"]).arg(&port_file).arg("--ckptdir").arg(checkpoints);
        command.stdin(Stdio::piped()).stdout(output.try_clone()?).stderr(output);
        let mut child = command.spawn().with_context(|| format!("cannot run {command:?}"))?;
        let port = wait::until(10, "the coordinator to write its port", || {
            if let Some(status) = child.try_wait()? {
                bail!("the coordinator ended at once ({status}): {}", fs::read_to_string(&log)?);
            }
            Ok(fs::read_to_string(&port_file).ok().and_then(|x| x.trim().parse().ok()))
        })?;
        Ok(Coordinator { child, port, log })
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Type a line at its console.
    pub fn console(&mut self, line: &str) -> Result<()> {
        let pipe = self.child.stdin.as_mut().context("the coordinator has no console")?;
        pipe.write_all(format!("{line}\n").as_bytes())?;
        Ok(pipe.flush()?)
    }

    /// What it has printed.
    pub fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Collect it after it was killed or has quit.
    pub fn reap(mut self) {
        let _ = self.child.wait();
    }
}
