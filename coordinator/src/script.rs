//! Writing the restart script: see [`dmtcp_protocol::script`] for what is in it.

use crate::commit::Image;
use dmtcp_protocol::message::ComputationId;
use dmtcp_protocol::script::{self, NEWEST};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

/// What a script depends on besides the images.
pub struct Script<'a> {
    /// Where it goes.
    pub directory: &'a Path,
    /// The dmtcp_restart that it calls; absolute.
    pub program: &'a Path,
    /// Port of the coordinator.
    pub port: u16,
    /// Seconds between checkpoints.
    pub interval: u32,
}

/// Writes the script and lets the well-known name mean it. An error comes with the file that it is about.
pub fn write(
    script: &Script,
    computation: ComputationId,
    generation: u64,
    images: &[Image],
) -> Result<(), (PathBuf, io::Error)> {
    let Script { directory, program, port, interval } = *script;
    let name = script::file_name(computation);
    let path = directory.join(&name);
    let temporary = directory.join(format!(".{name}.tmp"));
    let images: Vec<&str> = images.iter().map(|image| image.written.public_path.as_str()).collect();
    let program = program.to_string_lossy();
    let (program, images) = (&program[..], &images[..]);
    let text = script::render(&script::Script { program, computation, generation, images, port, interval });
    let put = || {
        // The mode counts only for a file that is created.
        let _ = std::fs::remove_file(&temporary);
        OpenOptions::new().write(true).create_new(true).mode(0o700).open(&temporary)?.write_all(text.as_bytes())?;
        std::fs::rename(&temporary, &path)
    };
    put().map_err(|error| (path.clone(), error))?;
    let newest = directory.join(NEWEST);
    let link = directory.join(format!(".{NEWEST}.tmp-{computation}"));
    let _ = std::fs::remove_file(&link);
    symlink(&name, &link)
        .or_else(|_| std::fs::copy(&path, &link).map(drop))
        .and_then(|()| std::fs::rename(&link, &newest))
        .map_err(|error| (newest, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dmtcp_protocol::message::{Join, Written};
    use std::process::Command;
    use std::sync::Mutex;

    /// A file cannot be executed while a child of another thread still has it open for writing.
    static ALONE: Mutex<()> = Mutex::new(());

    /// Writes a script for one image.
    fn write_for(image: &str, directory: &Path, program: &Path) -> PathBuf {
        let written = Written {
            generation: 3,
            path: String::new(),
            public_path: image.into(),
            bytes: 1,
            background: false,
            unsupported: Vec::new(),
            stages: Vec::new(),
        };
        let join = Join {
            virtual_pid: 1,
            real_pid: 1,
            program: "p".into(),
            host: "h".into(),
            process: 1,
            restarted: None,
            member_of: None,
            checkpoint_dir: "/".into(),
            interval: 0,
            keep: 1,
        };
        let images = [Image { written: &written, join: &join, synced: true }];
        write(&Script { directory, program, port: 7, interval: 0 }, ComputationId(5), 3, &images).unwrap();
        directory.join(NEWEST)
    }

    /// Runs a script whose dmtcp_restart prints its arguments, one a line.
    fn arguments(image: &str, options: &[&str]) -> Vec<String> {
        let _alone = ALONE.lock();
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("it's a restart");
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o700).open(&program).unwrap();
        file.write_all(b"#!/bin/sh\nfor a in \"$@\"; do echo \"$a\"; done\n").unwrap();
        drop(file);
        let mut command = Command::new(write_for(image, directory.path(), &program));
        command.args(options).env("DMTCP_FAIL_RC", "98");
        for name in ["DMTCP_COORD_PORT", "DMTCP_CHECKPOINT_INTERVAL", "DMTCP_RESTART_DIR", "DMTCP_COORD_LOGFILE"] {
            command.env_remove(name);
        }
        let output = command.output().unwrap();
        if !output.status.success() {
            return vec![format!("exit {:?}", output.status.code())];
        }
        String::from_utf8(output.stdout).unwrap().lines().map(String::from).collect()
    }

    #[test]
    fn odd_names_arrive_as_they_are() {
        let image = "/a b/it's $HOME `x` \"y\" \\z.dmtcp";
        assert_eq!(arguments(image, &[]), ["--coord-port", "7", "--", image]);
    }

    #[test]
    fn options_are_handed_on() {
        let given = ["-p", "0", "--ckptdir=/d e", "-i", "5", "--no-strict-checking", "-r", "/n&w"];
        let seen = arguments("/old/x.dmtcp", &given);
        let expected =
            ["--ckptdir", "/d e", "--no-strict-checking", "--coord-port", "0", "--interval", "5", "--", "/n&w/x.dmtcp"];
        assert_eq!(seen, expected);
    }
    #[test]
    fn nonsense_is_a_failure_of_ours() {
        assert_eq!(arguments("/x.dmtcp", &["--nonsense", "x"]), ["exit Some(98)"]);
        assert_eq!(arguments("/x.dmtcp", &["--port"]), ["exit Some(98)"]);
    }

    #[test]
    fn the_shell_has_nothing_to_object_to() {
        let _alone = ALONE.lock();
        let directory = tempfile::tempdir().unwrap();
        let script = write_for("/a b/it's.dmtcp", directory.path(), Path::new("/bin/true"));
        match Command::new("shellcheck").arg(script).output() {
            Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout)),
            Err(error) => panic!("shellcheck cannot be run (apt-get install shellcheck): {error}"),
        }
    }
}
