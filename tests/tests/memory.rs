//! Memory that a restart finds hard: what the kernel must join again, huge pages, locks, policies, files that change between
//! checkpoint and restart, programs that are loaded in unusual ways. More is in `single_process.rs` and `resources.rs`.

use dmtcp_tests::scenario::text;
use dmtcp_tests::{Case, Context, Need, Program, Restart, Result, RunAs, Scenario, ensure, runner};
use std::fs;
use std::process::ExitCode;

/// Exit status of all programs here.
const STATUS: i32 = 7;

fn c(source: &str) -> Program {
    Program::c(source, &[])
}

/// The hugetlb pool of 2 MiB pages, which is the machine's.
const POOL: &str = "/proc/sys/vm/nr_hugepages";

/// Only one case at a time may count on the pool, and each is a process of its own: until the value is dropped, others wait.
fn reserve_pool() -> Result<fs::File> {
    let everybodys = fs::File::open(std::env::current_exe()?)?;
    everybodys.lock()?;
    Ok(everybodys)
}

/// Has so many pages in the pool while something is done.
fn with_pool(pages: u64, what: impl FnOnce() -> Result<()>) -> Result<()> {
    let size = || -> Result<u64> { Ok(fs::read_to_string(POOL)?.trim().parse()?) };
    let before = size()?;
    fs::write(POOL, format!("{}\n", before.max(pages))).with_context(|| format!("{POOL} cannot be written"))?;
    ensure!(size()? >= pages, "the machine has no {pages} huge pages: {POOL} says {}", size()?);
    let done = what();
    fs::write(POOL, format!("{before}\n"))?;
    done
}

fn huge_pages(s: &mut Scenario) -> Result<()> {
    let _pool = reserve_pool()?;
    with_pool(8, || {
        s.generations(&[Restart::images(), Restart::script(), Restart::images().moved().options(&["--lazy"])], 3)?;
        s.finish(STATUS)
    })
}

/// Where the pool is empty, the memory is there all the same, and the restart says what it is.
fn huge_pages_are_missing(s: &mut Scenario) -> Result<()> {
    let _pool = reserve_pool()?;
    with_pool(8, || {
        s.launch()?;
        s.see_steps(3)?;
        s.checkpoint()?;
        s.kill()
    })?;
    s.output_in_pipe();
    let before = fs::read_to_string(POOL)?;
    fs::write(POOL, "0\n")?;
    let restarted = s.restart(&Restart::images()).and_then(|()| s.see_steps(3));
    fs::write(POOL, before)?;
    restarted?;
    let said = fs::read_to_string(s.output_file())?;
    ensure!(said.contains("nr_hugepages"), "nobody says that huge pages are missing: {said}");
    s.checkpoint()?;
    s.finish(STATUS)
}

/// What happens to the files of `files_behind.c` while nobody runs it.
fn files_change(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    s.see_steps(3)?;
    s.checkpoint()?;
    s.kill()?;
    for kind in ["private", "shared"] {
        let file = |fate: &str| s.path(&format!("{kind}.{fate}"));
        let length = fs::metadata(file("same"))?.len() as usize;
        fs::write(file("changed"), vec![b'C'; length])?;
        fs::File::options().write(true).open(file("cut"))?.set_len(length as u64 / 2)?;
        let new = s.path("new");
        fs::write(&new, vec![b'R'; length])?;
        s.run_as().own(&new)?;
        fs::rename(&new, file("replaced"))?;
        fs::remove_file(file("removed"))?;
    }
    fs::write(s.path("restarted"), "")?;
    for how in [Restart::images(), Restart::script()] {
        s.restart(&how)?;
        s.see_steps(3)?;
        s.checkpoint()?;
        s.kill()?;
    }
    s.restart(&Restart::images())?;
    s.see_steps(3)?;
    s.finish(STATUS)
}

fn userfaultfd_is_named(s: &mut Scenario) -> Result<()> {
    s.launch()?;
    s.see_steps(3)?;
    let answer = s.ask(&["bc"])?;
    let said = text(&answer);
    ensure!(answer.status.code() == Some(2), "bc with --on-unsupported=fail: {}: {said}", answer.status);
    ensure!(said.contains("anon_inode:[userfaultfd]"), "the message does not say what it is: {said}");
    s.see_steps(3)?;
    s.finish(STATUS)
}

fn kinds() -> Vec<Case> {
    let locked = |how: &str| c("locked_memory.c").args(&[how]);
    let holder = c("unsupported.c").args(&["userfaultfd"]);
    vec![
        Case::new("pieces_that_the_kernel_joins_again", c("seams.c")),
        Case::new("all_memory_locked", locked("all")).only(RunAs::Root),
        Case::new("memory_to_come_locked_when_touched", locked("later")).sampled_as(RunAs::User),
        Case::new("some_memory_locked", locked("pieces")).sampled_as(RunAs::User),
        Case::new("policies_of_threads_and_memory", c("memory_policy.c")).streams(5).sampled_as(RunAs::User),
        Case::flow("pages_of_the_huge_pool", c("huge_pages.c"), huge_pages).full_only(),
        Case::flow(
            "pages_of_the_huge_pool_that_is_empty",
            c("huge_pages.c").args(&["ordinary"]),
            huge_pages_are_missing,
        )
        .full_only(),
        Case::flow("files_that_change_before_the_restart", c("files_behind.c"), files_change),
        Case::new("dropped_grown_downwards_hidden_and_named", c("memory_rare.c")).sampled_as(RunAs::User),
        Case::new("protection_keys", c("protection_keys.c")).streams(2).needs(Need::ProtectionKeys).full_only(),
        Case::flow("userfaultfd_is_named", holder, userfaultfd_is_named)
            .options(&["--on-unsupported", "fail"])
            .sampled_as(RunAs::Root),
    ]
}

const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";

fn ways_to_load() -> Vec<Case> {
    let fixed = ["setarch", "x86_64", "-R"];
    let image = || c("self_image.c").args(&["argument one"]);
    vec![
        Case::new("at_addresses_that_are_always_the_same", c("mappings.c").under(&fixed)),
        Case::new("itself_at_addresses_that_are_always_the_same", image().under(&fixed))
            .sampled_as(RunAs::User)
            .needs(Need::MM_MAP),
        Case::new("started_through_the_loader", c("mappings.c").under(&[LOADER])).sampled_as(RunAs::Root),
        Case::new("threads_started_through_the_loader", c("tls.c").under(&[LOADER])).streams(4).sampled_as(RunAs::User),
        Case::new("itself_at_a_fixed_address", Program::c("self_image.c", &["-no-pie"]).args(&["argument one"]))
            .sampled_as(RunAs::User)
            .needs(Need::MM_MAP),
    ]
}

fn main() -> ExitCode {
    runner::main([kinds(), ways_to_load()].into_iter().flatten().collect())
}
