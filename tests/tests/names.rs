//! What processes of a computation tell each other (values, and barriers between hooks, from C, Rust and Python), and
//! plugins that save something of their own, or keep something out of the image.

use dmtcp_tests::examples::{c_plugin, launch, root, rust_plugin, see};
use dmtcp_tests::scenario::text;
use dmtcp_tests::{Case, Context, Program, Restart, Result, RunAs, Scenario, ensure, runner, wait};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// A program that runs until it is ended.
const SLEEPER: [&str; 3] = ["perl", "-e", "'sleep 1 while 1'"];

/// One command line that launches a program with each of these plugins.
fn launch_each(s: &mut Scenario, options: &str, plugins: &[&str]) -> Result<()> {
    let (port, images) = (s.port()?, s.image_directory().display().to_string());
    let one = |plugin: &&str| {
        let plugin = if plugin.is_empty() { String::new() } else { format!("--with-plugin {plugin}") };
        format!("dmtcp_launch -j -p {port} --ckptdir {images} {options} {plugin} {} &", SLEEPER.join(" "))
    };
    let script = plugins.iter().map(one).collect::<String>() + " wait";
    let mut command: Command = s.command("/bin/sh");
    command.args(["-c", &script]);
    s.output_in_pipe();
    // The harness wants to cut the log of steps; these programs make none.
    fs::write(s.log(), "")?;
    s.launch_command(command)?;
    all_have_joined(s, plugins.len())
}

fn all_have_joined(s: &mut Scenario, count: usize) -> Result<()> {
    wait::until(30, &format!("{count} processes to run"), || {
        let status = text(&s.ask(&["s"])?);
        Ok((status.contains(&format!("NUM_PEERS={count}")) && status.contains("RUNNING=yes")).then_some(()))
    })
}

/// The lines in which processes say whom they have found; each says the same, about all of them.
fn found(s: &Scenario, when: &str, count: usize) -> Result<Vec<String>> {
    wait::until(30, &format!("{count} processes to find each other ({when})"), || {
        let said = String::from_utf8_lossy(&fs::read(s.output_file())?).into_owned();
        let lines: Vec<&str> = said.lines().filter(|line| line.contains(&format!("{when}: "))).collect();
        if lines.len() < count {
            return Ok(None);
        }
        let finders: Vec<String> = lines
            .iter()
            .filter_map(|line| Some(line.split_once(&format!("{when}: "))?.1.split(' ').next()?.to_owned()))
            .collect();
        for line in &lines {
            let others: Vec<&str> = line.split(" finds ").nth(1).unwrap_or_default().split(' ').collect();
            let all = others.len() == count && finders.iter().all(|finder| others.contains(&finder.as_str()));
            ensure!(all, "'{line}' does not find {finders:?}");
        }
        let mut finders = finders;
        finders.sort();
        finders.dedup();
        ensure!(finders.len() == count, "{lines:?}");
        Ok(Some(finders))
    })
}

/// Plugins in C and in Rust publish, meet, and look each other up, at a checkpoint and after each restart.
fn processes_find_each_other(s: &mut Scenario) -> Result<()> {
    let (c, rust) = (c_plugin(s, "phone_book")?, rust_plugin(s, "phone_book")?);
    launch_each(s, "", &[&c, &rust, &c])?;
    s.checkpoint()?;
    let before = found(s, "checkpoint", 3)?;
    for how in [Restart::images(), Restart::script()] {
        s.kill()?;
        s.restart(&how)?;
        let after = found(s, "restart", 3)?;
        ensure!(before == after, "before the restart {before:?} found each other, after it {after:?}");
        all_have_joined(s, 3)?;
        s.checkpoint()?;
        found(s, "checkpoint", 3)?;
    }
    Ok(())
}

/// A process without the plugin never comes to its barrier: the checkpoint fails and says who and why; nothing is harmed.
fn a_missing_plugin_is_named(s: &mut Scenario) -> Result<()> {
    let plugin = rust_plugin(s, "phone_book")?;
    launch_each(s, "", &[&plugin, ""])?;
    let answer = s.ask(&["bc"])?;
    let said = text(&answer);
    ensure!(!answer.status.success(), "the checkpoint succeeded: {said}");
    let reason = "not every process comes to the same barriers: at barrier 'phone_book: published' perl[";
    ensure!(said.contains(reason) && said.contains("load the plugin in all of them"), "it said: {said}");
    // Both are as they were, and the next try fails in the same way.
    all_have_joined(s, 2)?;
    let again = s.ask(&["bc"])?;
    ensure!(!again.status.success() && text(&again).contains(reason), "then it said: {}", text(&again));
    Ok(())
}

/// A process without a coordinator has a book of its own, and meets nobody.
fn a_process_alone_finds_itself(s: &mut Scenario) -> Result<()> {
    let plugins = format!("{}:{}", c_plugin(s, "phone_book")?, rust_plugin(s, "phone_book")?);
    fs::copy(root().join("examples/python/dmtcp.py"), s.path("dmtcp.py"))?;
    let script = "import dmtcp, os\n\
                  print(dmtcp.change_number(dmtcp.KVDB_INCRBY, 'db', 'n', 5), dmtcp.change_number(dmtcp.KVDB_MAX, 'db', 'n', 9))\n\
                  print(dmtcp.set_value('db', 'key', 'text'), dmtcp.value('db', 'key'), dmtcp.value('db', 'other'))\n\
                  print(dmtcp.checkpoint(), dmtcp.value('db', 'n'), flush=True)\n";
    let mut command = s.tool("dmtcp_launch");
    command.args(["--no-coordinator", "--with-plugin", &plugins, "/usr/bin/python3", "-c", script]);
    let said = text(&s.output(command)?);
    ensure!(said.starts_with("0 5\nTrue text None\n1 9\n"), "it said: {said}");
    // The C plugin is first, so that the Rust plugin finds an entry of it.
    let finds: Vec<&str> = said.lines().filter_map(|line| line.split_once(" finds ")).map(|x| x.1).collect();
    ensure!(finds.len() == 2 && finds[1] == format!("{0} {0}", finds[0]), "it said: {said}");
    Ok(())
}

/// Threads of programs add to one number while checkpoints are taken: no step is lost, and none counts twice.
fn steps_of_a_number_are_whole(s: &mut Scenario) -> Result<()> {
    fs::copy(root().join("examples/python/dmtcp.py"), s.path("dmtcp.py"))?;
    let script = "import dmtcp, os, threading\n\
                  if os.fork(): pass\n\
                  seen = []\n\
                  def work():\n\
                  \x20   for i in range(100): seen.append(dmtcp.change_number(dmtcp.KVDB_INCRBY, 'db', 'n', 1))\n\
                  threads = [threading.Thread(target=work) for i in range(3)]\n\
                  [t.start() for t in threads]\n\
                  [t.join() for t in threads]\n\
                  print('done', len(set(seen)), None in seen, flush=True)\n\
                  import time\n\
                  while dmtcp.change_number(dmtcp.KVDB_GET, 'db', 'n', 0) != 600: time.sleep(0.01)\n\
                  print('all', flush=True)\n\
                  while True: time.sleep(1)\n";
    s.output_in_pipe();
    fs::write(s.log(), "")?;
    launch(s, &[], &["/usr/bin/python3", "-c", script])?;
    all_have_joined(s, 2)?;
    for _ in 0..5 {
        s.checkpoint()?;
    }
    let said = wait::until(60, "both processes to count to 600", || {
        let said = see(s, "all")?;
        Ok((said.matches("all\n").count() == 2).then_some(said))
    })?;
    ensure!(said.matches("done 300 False\n").count() == 2, "it said: {said}");
    Ok(())
}

/// Exit status of programs that make steps.
const STATUS: i32 = 7;
/// Bytes of the program's scratch memory.
const SCRATCH: u64 = 64 << 20;

fn scratch_memory_is_kept_out(s: &mut Scenario, plugin: &str) -> Result<()> {
    s.set_env("DMTCP_PLUGIN", plugin);
    s.launch()?;
    s.see_steps(3)?;
    for _ in 0..2 {
        s.checkpoint()?;
        let image = s.image_files()?.remove(0);
        let length = fs::metadata(&image)?.len();
        ensure!(length < SCRATCH / 2, "{} has {length} bytes", image.display());
        // The process that goes on has its noise.
        s.see_steps(3)?;
        ensure!(s.progress().find("zeros").is_empty(), "a checkpoint took the scratch memory");
        s.kill()?;
        s.restart(&Restart::images())?;
        s.see_steps(3)?;
        ensure!(s.progress().find("zeros").len() == 1, "{:?}", s.progress().find("zeros"));
        fs::write(s.log(), "")?;
    }
    s.finish(STATUS)
}

fn c_plugin_keeps_memory_out(s: &mut Scenario) -> Result<()> {
    let plugin = c_plugin(s, "scratch")?;
    scratch_memory_is_kept_out(s, &plugin)
}

fn rust_plugin_keeps_memory_out(s: &mut Scenario) -> Result<()> {
    let plugin = rust_plugin(s, "scratch")?;
    scratch_memory_is_kept_out(s, &plugin)
}

/// A licence server: what its clients say, line by line, and `end` when one is gone.
fn serve(s: &Scenario, name: &str) -> Result<(PathBuf, Receiver<String>)> {
    let path = s.path(name);
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, PermissionsExt::from_mode(0o777))?;
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let lines = BufReader::new(client).lines().map_while(std::result::Result::ok);
            for line in lines.chain(["end".to_owned()]) {
                // The test may have ended.
                let _ = sender.send(line);
            }
        }
    });
    Ok((path, receiver))
}

fn heard(server: &Receiver<String>, expected: &[&str]) -> Result<()> {
    for line in expected {
        let said = server.recv_timeout(Duration::from_secs(30)).with_context(|| format!("nobody said '{line}'"))?;
        ensure!(said == *line, "the licence server heard '{said}' instead of '{line}'");
    }
    Ok(())
}

/// A plugin's own connection ends before each checkpoint and is made again after it, after a restart to another server.
fn licences_are_returned_and_taken(s: &mut Scenario) -> Result<()> {
    let ((first, at_first), (second, at_second)) = (serve(s, "first")?, serve(s, "second")?);
    let plugin = c_plugin(s, "licence")?;
    s.set_env("DMTCP_PLUGIN", &plugin);
    s.set_env("LICENCE_SERVER", &first.display().to_string());
    s.launch()?;
    heard(&at_first, &["take"])?;
    s.see_steps(3)?;
    let answer = s.ask(&["bc"])?;
    ensure!(answer.status.success() && !text(&answer).contains("socket"), "dmtcp_command bc: {}", text(&answer));
    heard(&at_first, &["return", "end", "take"])?;
    s.checkpoint()?;
    heard(&at_first, &["return", "end", "take"])?;
    s.see_steps(3)?;
    s.kill()?;
    heard(&at_first, &["end"])?;
    s.set_env("LICENCE_SERVER", &second.display().to_string());
    s.restart(&Restart::images())?;
    heard(&at_second, &["take"])?;
    s.see_steps(3)?;
    s.checkpoint()?;
    heard(&at_second, &["return", "end", "take"])?;
    s.finish(STATUS)?;
    heard(&at_second, &["return", "end"])
}

/// A plugin works with what another one offers, which comes after it in the order; and the descriptor of its hooks is out of
/// the reach of a program that closes them all.
fn a_service_and_a_descriptor_of_ones_own(s: &mut Scenario) -> Result<()> {
    let (naps, journal) = (rust_plugin(s, "naps")?, rust_plugin(s, "journal")?);
    for (plugin, part) in [(&naps, "journal"), (&journal, "JOURNAL does not say")] {
        let mut command = s.tool("dmtcp_launch");
        command.args(["-j", "-p", &s.port()?, "--with-plugin", plugin, "/bin/true"]);
        let ended = s.output(command)?;
        ensure!(ended.status.code() == Some(99) && text(&ended).contains(part), "{plugin}: {}", text(&ended));
    }
    let file = s.path("journal");
    s.set_env("JOURNAL", &file.display().to_string());
    s.set_env("DMTCP_PLUGIN", &format!("{naps}:{journal}"));
    s.three_generations(5)?;
    s.finish(STATUS)?;
    let lines = fs::read_to_string(&file)?;
    let counts: Option<Vec<u64>> = lines.lines().map(|line| line.strip_prefix("naps ")?.parse().ok()).collect();
    let counts = counts.with_context(|| format!("the journal has {lines}"))?;
    ensure!(counts.len() >= 2 && counts.is_sorted_by(|a, b| a < b), "naps are counted like this: {counts:?}");
    Ok(())
}

fn main() -> ExitCode {
    let case = |name, flow: fn(&mut Scenario) -> Result<()>| {
        let program = Program::c("threads.c", &[]).args(&["2", "10"]);
        Case::flow(name, program, flow).sampled_as(RunAs::User)
    };
    let scratch = |name, flow: fn(&mut Scenario) -> Result<()>| {
        Case::flow(name, Program::c("scratch.c", &[]), flow).sampled_as(RunAs::User)
    };
    runner::main(vec![
        case("processes_find_each_other", processes_find_each_other),
        case("a_missing_plugin_is_named", a_missing_plugin_is_named),
        case("a_process_alone_finds_itself", a_process_alone_finds_itself),
        case("steps_of_a_number_are_whole", steps_of_a_number_are_whole),
        case("a_licence_is_returned_before_and_taken_after", licences_are_returned_and_taken),
        Case::flow(
            "a_plugin_uses_the_service_of_another_and_keeps_a_descriptor",
            Program::c("closes_all.c", &[]),
            a_service_and_a_descriptor_of_ones_own,
        )
        .sampled_as(RunAs::User),
        scratch("memory_that_a_c_plugin_excludes_is_not_saved", c_plugin_keeps_memory_out),
        scratch("memory_that_a_rust_plugin_excludes_is_not_saved", rust_plugin_keeps_memory_out),
    ])
}
