//! Options and variables of dmtcp_launch: what they say is what the program and its images get.

use dmtcp_tests::scenario::text;
use dmtcp_tests::{Case, Context, Program, Restart, Result, RunAs, Scenario, ensure, runner, wait};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// Exit status of programs that make steps.
const STATUS: i32 = 7;

/// Options and variables of a launch.
type Given<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)]);

fn threads() -> Program {
    Program::c("threads.c", &[]).args(&["2", "10"])
}

/// dmtcp_launch of the case's coordinator.
fn launcher(s: &mut Scenario) -> Result<Command> {
    let port = s.port()?;
    let mut command = s.tool("dmtcp_launch");
    command.args(["-j", "-p", &port, "--ckptdir"]).arg(s.image_directory());
    Ok(command)
}

/// Whether the image of the case is compressed: what it expands to is much larger.
fn is_compressed(s: &Scenario) -> Result<bool> {
    let image = s.image_files()?.pop().context("no image")?;
    let mut command = s.tool("dmtcp_inspect");
    command.arg("--to-core").arg(s.path("core")).arg(&image);
    let shown = s.output(command)?;
    ensure!(shown.status.success(), "dmtcp_inspect: {}", text(&shown));
    let expanded = s.path("core").metadata()?.len();
    std::fs::remove_file(s.path("core"))?;
    Ok(expanded > image.metadata()?.len() * 3 / 2)
}

/// Each line: options, variables, and whether the image is compressed.
fn compression(s: &mut Scenario) -> Result<()> {
    let program = s.prepared()?;
    let table: [(Given, bool); 9] = [
        ((&[], &[]), true),
        ((&["--gzip"], &[]), true),
        ((&["--no-gzip"], &[]), false),
        ((&[], &[("DMTCP_GZIP", "1")]), true),
        ((&[], &[("DMTCP_GZIP", "0")]), false),
        ((&["--no-gzip"], &[("DMTCP_GZIP", "1")]), false),
        ((&["--gzip"], &[("DMTCP_GZIP", "0")]), true),
        ((&[], &[("DMTCP_COMPRESS", "lz4"), ("DMTCP_GZIP", "0")]), true),
        ((&["--compress", "none"], &[("DMTCP_COMPRESS", "zstd")]), false),
    ];
    for ((options, variables), expected) in table {
        let mut command = launcher(s)?;
        command.args(options).envs(variables.iter().copied()).args(&program);
        s.launch_command(command)?;
        s.see_steps(2)?;
        s.checkpoint()?;
        let found = is_compressed(s).with_context(|| format!("{options:?} {variables:?}"))?;
        ensure!(
            found == expected,
            "{options:?} {variables:?}: the image is {}compressed",
            if found { "" } else { "not " }
        );
        end_and_remove(s)?;
    }
    Ok(())
}

/// Ends the computation, and removes its images and its log for the next one.
fn end_and_remove(s: &mut Scenario) -> Result<()> {
    s.ask(&["k"])?;
    s.wait_end()?;
    for image in s.image_files()? {
        std::fs::remove_file(image)?;
    }
    let _ = std::fs::remove_file(s.log());
    Ok(())
}

/// A program that replaces its environment takes along what the launch has said.
fn an_emptied_environment(s: &mut Scenario) -> Result<()> {
    let program = s.prepared()?;
    let mut command = launcher(s)?;
    command.args(["--compress", "lz4", "--keep", "2", "/usr/bin/env", "-i"]);
    for name in ["STEPS_LOG", "STEPS_STOP", "STEPS_DIR"] {
        let value = command.get_envs().find(|x| x.0 == name).and_then(|x| x.1).context("no variable")?;
        let assignment = format!("{name}={}", value.display());
        command.arg(assignment);
    }
    command.args(program);
    s.launch_command(command)?;
    s.see_steps(3)?;
    s.checkpoint()?;
    ensure!(is_compressed(s)?, "the image of a program with an emptied environment is not compressed");
    s.checkpoint()?;
    s.checkpoint()?;
    let hidden = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".dmtcp-"));
    let list = |path: &PathBuf| -> Vec<PathBuf> {
        std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    };
    wait::until(10, "two generations to be left", || {
        let all = list(&s.image_directory().to_path_buf());
        Ok((all.iter().filter(|path| hidden(path)).flat_map(list).count() == 2).then_some(()))
    })?;
    s.kill()?;
    s.restart(&Restart::images())?;
    s.see_steps(3)?;
    s.finish(STATUS)
}

/// Processes come by the coordinator's unix socket; where it does not serve, by TCP.
fn either_socket_of_the_coordinator(s: &mut Scenario) -> Result<()> {
    let program = s.prepared()?;
    for assignment in ["DMTCP_COORD_PORT=1", "DMTCP_COORD_SOCKET=/no/such/socket", "DMTCP_COORD_SOCKET="] {
        let mut command = launcher(s)?;
        command.args(["/usr/bin/env", assignment]).args(&program);
        s.launch_command(command)?;
        s.see_steps(2)?;
        s.checkpoint().with_context(|| format!("with {assignment}"))?;
        s.kill()?;
        s.restart(&Restart::images())?;
        s.see_steps(2)?;
        s.checkpoint().with_context(|| format!("restarted, with {assignment}"))?;
        end_and_remove(s)?;
    }
    Ok(())
}

/// The conversation that the launch leaves to the process does not show in the program.
fn the_program_inherits_nothing_of_the_launch(s: &mut Scenario) -> Result<()> {
    const SCRIPT: &str = "echo /proc/$$/fd/*; [ -z \"${DMTCP_COORD_CONNECTION+set}\" ]";
    let native = {
        let mut command = s.command("/bin/sh");
        command.args(["-c", SCRIPT]);
        s.output(command)?
    };
    let numbers = |said: &str| -> Vec<String> {
        said.split_whitespace().filter_map(|path| Some(path.rsplit_once('/')?.1.to_owned())).collect()
    };
    let mut command = launcher(s)?;
    command.args(["/bin/sh", "-c", SCRIPT]);
    let ours = s.output(command)?;
    ensure!(ours.status.success(), "the variable is there: {}", text(&ours));
    ensure!(!numbers(&text(&native)).is_empty(), "the shell shows no descriptors: {}", text(&native));
    ensure!(numbers(&text(&ours)) == numbers(&text(&native)), "{} instead of {}", text(&ours), text(&native));
    Ok(())
}

/// A plugin's wrapper that is left out is not called; those of others are.
fn a_wrapper_is_left_out(s: &mut Scenario) -> Result<()> {
    let built = match std::env::var_os("DMTCP_TEST_BIN") {
        Some(directory) => PathBuf::from(directory),
        None => std::env::current_exe()?.ancestors().nth(3).context("not in a target directory")?.join("release"),
    };
    let mut plugins = Vec::new();
    for name in ["libexample_sleep1.so", "libexample_sleep2.so"] {
        let path = s.path(name);
        std::fs::copy(built.join(name), &path).with_context(|| format!("{name} was not built"))?;
        plugins.push(path.display().to_string());
    }
    let plugins = plugins.join(":");
    let table: [(&[&str], &[&str]); 4] = [
        (&[], &["sleep1", "sleep2"]),
        (&["--disable-wrapper", "sleep1:sleep"], &["sleep2"]),
        (&["--disable-wrapper", "sleep2:sleep"], &["sleep1"]),
        (&["--disable-wrapper", "sleep1:sleep", "--disable-wrapper", "sleep2:sleep"], &[]),
    ];
    for (options, expected) in table {
        let mut command = launcher(s)?;
        command.args(["--with-plugin", &plugins]).args(options).args(["perl", "-e", "sleep 1; print \"slept\\n\""]);
        let said = text(&s.output(command)?);
        let called: Vec<&str> = said.lines().filter_map(|line| line.strip_suffix(": before")).collect();
        ensure!(said.contains("slept") && called == expected, "{options:?}: {said}");
    }
    let mut command = launcher(s)?;
    command.args(["--disable-wrapper", "file:no_such_function", "true"]);
    let refused = s.output(command)?;
    let said = text(&refused);
    ensure!(refused.status.code() == Some(99) && said.contains("no_such_function"), "{}: {said}", refused.status);
    Ok(())
}

/// Plugins that are loaded, as the environment of a program tells.
fn plugins_are_switched(s: &mut Scenario) -> Result<()> {
    let table: [(Given, &[&str], &[&str]); 7] = [
        ((&[], &[]), &["event", "file", "ipc", "timer", "pid_virt"], &["modify_env", "path_virt", "unique_ckpt"]),
        ((&["--disable-ipc-plugin"], &[]), &["timer", "pid_virt"], &["event", "file", "ipc"]),
        ((&["--disable-pid-plugin", "--disable-plugin", "timer"], &[]), &["file"], &["pid_virt", "timer"]),
        ((&[], &[("DMTCP_FILE_PLUGIN", "0"), ("DMTCP_TIMER_PLUGIN", "1")]), &["timer"], &["file"]),
        ((&["--modify-env", "--pathvirt"], &[("DMTCP_UNIQUE_CKPT_PLUGIN", "1")]), &["modify_env", "unique_ckpt"], &[]),
        ((&["--no-plugins"], &[]), &[], &["file", "ipc", "pid_virt"]),
        ((&[], &[("DMTCP_DISABLE_ALL_PLUGINS", "1")]), &[], &["file", "ipc", "pid_virt"]),
    ];
    for ((options, variables), loaded, absent) in table {
        let mut command = launcher(s)?;
        command.args(options).envs(variables.iter().copied()).args(["sh", "-c", "echo $LD_PRELOAD"]);
        let said = text(&s.output(command)?);
        let has = |name: &&str| said.contains(&format!("libdmtcp_{name}.so"));
        ensure!(said.contains("libdmtcp.so"), "{options:?} {variables:?}: {said}");
        ensure!(loaded.iter().all(has) && !absent.iter().any(has), "{options:?} {variables:?}: {said}");
    }
    Ok(())
}

/// What the programs hand on to the program, by variable.
fn variables_for_the_program(s: &mut Scenario) -> Result<()> {
    let tmp = s.path("scratch");
    std::fs::create_dir(&tmp)?;
    s.run_as().own(&tmp)?;
    let tmp = tmp.display().to_string();
    let images = s.image_directory().display().to_string();
    let table: [(Given, &str); 11] = [
        ((&["-i", "77"], &[]), "DMTCP_CHECKPOINT_INTERVAL=77"),
        ((&[], &[("DMTCP_CHECKPOINT_INTERVAL", "78")]), "DMTCP_CHECKPOINT_INTERVAL=78"),
        ((&["--ckpt-signal", "10"], &[]), "DMTCP_SIGCKPT=10"),
        ((&["-q", "-q"], &[("DMTCP_QUIET", "1")]), "DMTCP_QUIET=2"),
        ((&["--ckpt-open-files"], &[]), "DMTCP_CKPT_OPEN_FILES=1"),
        ((&["--allow-file-overwrite"], &[]), "DMTCP_ALLOW_OVERWRITE_WITH_CKPTED_FILES=1"),
        ((&["--tmpdir", &tmp], &[]), &format!("DMTCP_TMPDIR={tmp}/dmtcp-")),
        ((&[], &[("DMTCP_TMPDIR", &tmp)]), &format!("DMTCP_TMPDIR={tmp}/dmtcp-")),
        ((&[], &[("DMTCP_CHECKPOINT_DIR", &tmp)]), &format!("DMTCP_CHECKPOINT_DIR={images}")),
        ((&["--forked"], &[]), "DMTCP_FORKED_CHECKPOINT=1"),
        ((&[], &[("DMTCP_DISABLE_PAGEMAP_SCAN", "1")]), "DMTCP_FORBID=pagemap_scan"),
    ];
    for ((options, variables), expected) in table {
        let mut command = launcher(s)?;
        command.args(options).envs(variables.iter().copied()).arg("env");
        let said = text(&s.output(command)?);
        ensure!(
            said.lines().any(|line| line.starts_with(expected)),
            "{options:?} {variables:?}: no {expected} in {said}"
        );
    }
    Ok(())
}

/// What a flag or variable cannot mean is said before the program runs.
fn values_that_mean_nothing_are_refused(s: &mut Scenario) -> Result<()> {
    let table: [(Given, &str); 8] = [
        ((&["--ckpt-signal", "9"], &[]), "no program can handle it"),
        ((&["--ckpt-signal", "33"], &[]), "libc has it for itself"),
        ((&["--ckpt-signal", "65"], &[]), "use 1 to 64"),
        ((&[], &[("DMTCP_SIGCKPT", "32")]), "DMTCP_SIGCKPT: signal 32"),
        ((&[], &[("DMTCP_SIGCKPT", "USR1")]), "DMTCP_SIGCKPT: 'USR1'"),
        ((&[], &[("DMTCP_KEEP", "0")]), "DMTCP_KEEP: '0'"),
        ((&[], &[("DMTCP_CLOCK", "wall")]), "DMTCP_CLOCK: 'wall'"),
        ((&[], &[("DMTCP_COMPRESS", "best")]), "DMTCP_COMPRESS: 'best'"),
    ];
    for ((options, variables), expected) in table {
        let mut command = launcher(s)?;
        command.args(options).envs(variables.iter().copied()).args(["echo", "it ran"]);
        let ended = s.output(command)?;
        let said = text(&ended);
        ensure!(ended.status.code() == Some(99), "{options:?} {variables:?}: {}, not 99: {said}", ended.status);
        ensure!(said.contains(expected) && !said.contains("it ran"), "{options:?} {variables:?}: {said}");
    }
    Ok(())
}

/// The old names of the variables for the coordinator's address, and those that a coordinator itself reads.
fn addresses_in_the_environment(s: &mut Scenario) -> Result<()> {
    let port = s.port()?;
    for names in [["DMTCP_COORD_HOST", "DMTCP_COORD_PORT"], ["DMTCP_HOST", "DMTCP_PORT"]] {
        for (program, args) in [("dmtcp_command", &["s"][..]), ("dmtcp_launch", &["--join", "true"][..])] {
            let mut command = s.tool(program);
            command.args(args).env(names[0], "127.0.0.1").env(names[1], &port);
            let ended = s.output(command)?;
            ensure!(ended.status.success(), "{program} with {names:?}: {}", text(&ended));
        }
        let mut command = s.tool("dmtcp_coordinator");
        command.arg("--daemon").env(names[1], &port);
        let said = text(&s.output(command)?);
        ensure!(said.contains(&format!("cannot listen on port {port}")), "dmtcp_coordinator with {}: {said}", names[1]);
    }
    Ok(())
}

/// A failure can leave a core file, or wait for a debugger.
fn failures_for_debugging(s: &mut Scenario) -> Result<()> {
    use std::os::unix::process::ExitStatusExt;
    for name in ["DMTCP_ABORT_ON_FAILURE", "DMTCP_ABORT_ON_FAILED_ASSERT"] {
        let mut command = s.tool("dmtcp_restart");
        command.arg("no-such-image.dmtcp").env(name, "1");
        let ended = s.output(command)?.status;
        ensure!(ended.signal() == Some(6), "dmtcp_restart with {name}: {ended}");
    }
    let mut command = s.tool("dmtcp_restart");
    let (mut said, writer) = std::io::pipe()?;
    command.arg("no-such-image.dmtcp").env("DMTCP_SLEEP_ON_FAILURE", "1").stderr(writer);
    let mut waiting = command.spawn()?;
    drop(command);
    let mut bytes = Vec::new();
    while !String::from_utf8_lossy(&bytes).contains(&format!("gdb -p {}", waiting.id())) {
        let mut chunk = [0u8; 256];
        let count = std::io::Read::read(&mut said, &mut chunk)?;
        ensure!(count > 0, "dmtcp_restart does not wait: {}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&chunk[..count]);
    }
    ensure!(waiting.try_wait()?.is_none(), "it says that it waits, and does not");
    waiting.kill()?;
    waiting.wait()?;
    Ok(())
}

fn main() -> ExitCode {
    runner::main(vec![
        Case::flow("compression_by_option_and_variable", threads(), compression).streams(2).sampled_as(RunAs::User),
        Case::flow("an_emptied_environment_keeps_the_launch", threads(), an_emptied_environment)
            .streams(2)
            .sampled_as(RunAs::User),
        Case::flow("either_socket_of_the_coordinator_serves", threads(), either_socket_of_the_coordinator)
            .streams(2)
            .sampled_as(RunAs::User),
        Case::flow("the_program_inherits_nothing_of_the_launch", threads(), the_program_inherits_nothing_of_the_launch)
            .sampled_as(RunAs::User),
        Case::flow("a_wrapper_is_left_out", threads(), a_wrapper_is_left_out).sampled_as(RunAs::User),
        Case::flow("plugins_are_switched", threads(), plugins_are_switched).sampled_as(RunAs::User),
        Case::flow("variables_for_the_program", threads(), variables_for_the_program).sampled_as(RunAs::User),
        Case::flow("values_that_mean_nothing_are_refused", threads(), values_that_mean_nothing_are_refused)
            .sampled_as(RunAs::User),
        Case::flow("addresses_in_the_environment", threads(), addresses_in_the_environment).sampled_as(RunAs::User),
        Case::flow("failures_for_debugging", threads(), failures_for_debugging).sampled_as(RunAs::User),
        Case::new("io_uring_is_refused", Program::c("io_uring_refused.c", &["-pthread"]))
            .options(&["--refuse-io-uring"]),
    ])
}
