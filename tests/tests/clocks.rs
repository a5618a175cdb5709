//! Time across a restart: monotonic clocks go on, also where the machine's are far behind. A time namespace stands for
//! another boot: the program is launched in one whose clocks are far ahead of those that the restart finds.

use dmtcp_tests::{Case, Need, Program, Restart, Result, RunAs, Scenario, runner};
use std::process::ExitCode;

/// Seconds that the clocks of the launch are ahead.
const AHEAD: &str = "1000000";
const STATUS: i32 = 7;

fn on_another_boot(s: &mut Scenario) -> Result<()> {
    let (argv, port) = (s.prepared()?, s.port()?);
    let images = s.image_directory().to_path_buf();
    let mut launch = s.command("/usr/bin/unshare");
    if s.run_as() == RunAs::User {
        launch.args(["--user", "--map-current-user"]);
    }
    launch.args(["--time", "--fork", "--kill-child", "--monotonic", AHEAD, "--boottime", AHEAD]);
    launch.args(["dmtcp_launch", "-j", "-p", &port, "--ckptdir"]).arg(images).args(s.options()).args(argv);
    s.launch_command(launch)?;
    s.see_steps(3)?;
    for how in [Restart::images(), Restart::script(), Restart::images().moved()] {
        s.checkpoint()?;
        s.see_steps(3)?;
        s.kill()?;
        s.restart(&how)?;
        s.see_steps(3)?;
    }
    s.finish(STATUS)
}

fn main() -> ExitCode {
    let program = |mode: &str| Program::c("monotonic.c", &[]).args(&[mode]);
    let without_namespaces = "where an ordinary user has no namespaces, monotonic time is the kernel's";
    runner::main(vec![
        Case::flow("monotonic_time_goes_on_after_a_reboot", program("continue"), on_another_boot)
            .needs(Need::TIME_NAMESPACE)
            .not_translated_as(RunAs::User, without_namespaces),
        Case::flow("monotonic_time_counts_the_time_away_if_asked", program("real"), on_another_boot)
            .options(&["--clock", "real"])
            .needs(Need::TIME_NAMESPACE)
            .not_translated_as(RunAs::User, without_namespaces)
            .sampled_as(RunAs::User),
        Case::new("processor_time_goes_on", Program::c("processor_time.c", &[])).streams(3).sampled_as(RunAs::User),
        Case::new("processor_time_of_children_goes_on", Program::c("children_times.c", &[])).sampled_as(RunAs::User),
        Case::new("processor_time_outlives_the_program", Program::c("executed_times.c", &[])).full_only(),
    ])
}
