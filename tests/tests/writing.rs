//! The ways in which an image is written: compressed, in the background, without a coordinator.

use dmtcp_tests::scenario::text;
use dmtcp_tests::{Case, Context, Program, Restart, Result, RunAs, Scenario, ensure, runner, wait};
use std::process::ExitCode;

const SCRIPT: &str = "dmtcp_restart_script.sh";
/// Exit status of programs that make steps.
const STATUS: i32 = 7;

fn ballast() -> Program {
    Program::c("ballast.c", &[]).args(&["24"])
}

fn heap() -> Program {
    Program::c("heap.c", &[])
}

/// Nobody but the program itself takes checkpoints; a restart brings a coordinator.
fn without_a_coordinator(s: &mut Scenario, by_script: bool) -> Result<()> {
    let argv = s.prepared()?;
    let mut command = s.tool("dmtcp_launch");
    command.args(["--no-coordinator", "-i", "1", "--ckptdir"]).arg(s.image_directory()).args(argv);
    s.launch_command(command)?;
    s.see_steps(3)?;
    wait::until(20, "an image to have its name", || Ok(s.image_files()?.pop()))?;
    wait::until(20, "a restart script", || Ok(s.image_directory().join(SCRIPT).exists().then_some(())))?;
    s.see_steps(3)?;
    s.kill()?;
    let checked = shellcheck(s)?;
    s.restart(&if by_script { Restart::script() } else { Restart::images() })?;
    ensure!(checked.status.success(), "shellcheck of {SCRIPT}: {}", text(&checked));
    s.see_steps(3)?;
    s.checkpoint()?;
    s.see_steps(3)?;
    // No checkpoint of its own is known by its steps, so that only the end is looked at.
    std::fs::File::create(s.path("stop"))?;
    let ended = s.wait_end()?;
    ensure!(ended.code() == Some(STATUS), "the program ended with {ended}");
    s.progress().complaint()
}

fn shellcheck(s: &Scenario) -> Result<std::process::Output> {
    let mut command = s.command("shellcheck");
    command.arg(s.image_directory().join(SCRIPT));
    s.output(command).context("cannot run shellcheck: apt-get install shellcheck")
}

/// What a program starts after such a restart belongs to the coordinator that the restart has brought.
fn children_after_a_restart(s: &mut Scenario) -> Result<()> {
    let mut command = s.tool("dmtcp_launch");
    command.args(["--no-coordinator", "-i", "1", "--ckptdir"]).arg(s.image_directory()).args(s.prepared()?);
    s.launch_command(command)?;
    s.see_steps(3)?;
    wait::until(20, "an image to have its name", || Ok(s.image_files()?.pop()))?;
    s.kill()?;
    s.restart(&Restart::images())?;
    s.see_steps(3)?;
    std::fs::File::create(s.path("go"))?;
    wait::until(20, "the shell and a child of its to be members", || {
        Ok(text(&s.ask(&["s"])?).contains("NUM_PEERS=2").then_some(()))
    })?;
    std::fs::File::create(s.path("stop"))?;
    let ended = s.wait_end()?;
    ensure!(ended.code() == Some(STATUS), "the shell ended with {ended}");
    s.progress().complaint()
}

/// A compressed image is found out to be one, checks, and expands to a core that readelf opens.
fn expands(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    s.see_steps(3)?;
    s.checkpoint()?;
    let image = s.image_files()?.pop().context("no image")?;
    let core = s.path("core");
    let mut command = s.tool("dmtcp_inspect");
    command.arg("--check").arg("--to-core").arg(&core).arg(&image);
    let done = s.output(command)?;
    ensure!(done.status.success(), "dmtcp_inspect --to-core: {}", text(&done));
    ensure!(core.metadata()?.len() > image.metadata()?.len(), "the core is not larger than the image");
    let mut command = s.command("readelf");
    command.arg("-lW").arg(&core);
    let shown = text(&s.output(command)?);
    ensure!(shown.contains("CORE (Core file)") && shown.contains("LOAD"), "readelf -l says: {shown}");
    s.kill()?;
    s.restart(&Restart::images())?;
    s.see_steps(3)?;
    s.finish(STATUS)
}

fn main() -> ExitCode {
    let by = |method: &str, program: Program, streams: usize| {
        let name = format!("compressed_by_{}", method.replace(':', "_"));
        Case::new(&name, program).options(&["--compress", method]).streams(streams)
    };
    runner::main(vec![
        by("gzip", heap(), 4),
        by("gzip:9", ballast(), 1).sampled_as(RunAs::User),
        by("lz4", ballast(), 1).sampled_as(RunAs::User),
        by("zstd", heap(), 4),
        by("zstd:19", ballast(), 1).full_only(),
        Case::new("in_the_background", heap()).options(&["--forked"]).streams(4),
        Case::new("in_the_background_compressed", heap()).options(&["--forked", "--compress", "zstd"]).streams(4),
        Case::new("in_the_background_with_shared_memory", Program::c("shared_memory.c", &[]).args(&["file"]))
            .options(&["--forked"])
            .sampled_as(RunAs::User),
        Case::flow("without_a_coordinator", ballast(), |s| without_a_coordinator(s, false)),
        Case::flow("without_a_coordinator_by_script", ballast(), |s| without_a_coordinator(s, true))
            .sampled_as(RunAs::User),
        Case::flow(
            "children_after_a_restart_without_a_coordinator",
            Program::script(&["/bin/bash"], "late_children.sh", "bash"),
            children_after_a_restart,
        )
        .sampled_as(RunAs::User),
        Case::flow("a_compressed_image_expands_to_a_core", ballast(), expands)
            .options(&["--compress", "zstd"])
            .sampled_as(RunAs::User),
    ])
}
