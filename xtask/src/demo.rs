//! `cargo xtask demo`: the main job, narrated.
//!
//! A Python program with two threads counts. It is checkpointed, counts on, is killed with SIGKILL, and is restarted
//! from its image: it must go on right after the number where it was checkpointed, in both threads. Then all of that
//! once more, with an image made by the restarted program. The numbers are checked here; the exit status tells.

use crate::counting::{Counts, Run, checkpoint, coordinator, descendants, end, image, launch, list, tool};
use crate::packages;
use crate::workspace::build;
use anyhow::Result;
use std::fs;
use std::path::Path;

/// Build, and show it.
pub fn run() -> Result<String> {
    packages::ensure_installed(packages::DEMO)?;
    build()?;
    let directory = std::env::temp_dir().join(format!("dmtcp-demo.{}", std::process::id()));
    fs::create_dir_all(directory.join("images"))?;
    // Whatever outlives its parent becomes a child of this process, and is ended with it.
    nix::sys::prctl::set_child_subreaper(true)?;
    let outcome = show(&directory);
    let _ = end(&descendants());
    match outcome {
        Ok(closing) => {
            fs::remove_dir_all(&directory)?;
            Ok(closing)
        }
        Err(error) => Err(error.context(format!("logs and images are in {}", directory.display()))),
    }
}

fn show(directory: &Path) -> Result<String> {
    let (images, stop) = (directory.join("images"), directory.join("stop"));
    say("A coordinator for one computation, on a port of its own:");
    let port = coordinator(directory)?;
    let keep = descendants();

    say("A Python program with two threads that count, started under dmtcp_launch:");
    let mut run = Run::start(&mut launch(&port, &images, &stop))?;
    run.watch(&Counts::new())?;

    for round in ["first", "second"] {
        say(&format!("The {round} checkpoint, while both threads count:"));
        let (before, after) = checkpoint(&run, &port, &images)?;
        run.watch(&after)?;

        say("SIGKILL:");
        let victims: Vec<i32> = descendants().into_iter().filter(|pid| !keep.contains(pid)).collect();
        end(&victims)?;
        println!("    gone: {victims:?}; the last numbers were {}", list(&run.last()));

        say("Restart from the image, in another directory:");
        let mut restart = tool("dmtcp_restart");
        restart.args(["-j", "-p", &port]).arg(image(&images)?).current_dir("/");
        run = Run::start(&mut restart)?;
        run.watch(&after)?;
        run.continued(&before, &after)?;
    }

    say("The program is told to stop:");
    run.finish(&stop)?;
    Ok("The demo went well: killed twice, and each time it continued exactly where it was checkpointed.".into())
}

fn say(text: &str) {
    println!("\n==> {text}");
}
