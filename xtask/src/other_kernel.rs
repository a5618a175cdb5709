//! `cargo xtask other-kernel`: an image that one kernel wrote goes on under another, and comes back.
//!
//! Debian's stock kernel runs in a virtual machine whose root is this machine's, read-only, under a layer of memory. The
//! counting program of the demo travels in *legs*: each leg restarts it (the first launches it), checks that it goes on
//! where it was, checkpoints it, and kills it. What a leg must know of the one before is in a directory that both
//! machines share. Root and an ordinary user make the journey.
//!
//! ```text
//!   guest: launch --image--> here: restart --image--> guest: restart --image--> here: restart, end
//! ```
//! The emulated processor has fewer features than most: before its leg the guest shows that an image from here is
//! refused by their names. The program is kept from using them (GLIBC_TUNABLES), so that it may go there all the same.
//!
//! It also has features that processors in other virtual machines often lack, and its root has every capability: the tests
//! that need those run there ([`TESTS`]).

use crate::counting::{Counts, Run, checkpoint, coordinator, descendants, end, image, launch, tool};
use crate::distro::executables;
use crate::packages;
use crate::workspace::{self, build, cargo, command, run as execute};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The modules that the guest needs to see this machine's files.
const MODULES: &[&str] = &["virtio_pci", "9pnet_virtio", "9p", "overlay"];
/// What the guest's root is made by.
const INIT: &str = include_str!("../other_kernel/init");
/// Keeps libc from instructions and state that the emulated processor does not have.
const TUNABLES: &str = "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX512DQ,-XSAVEC";
/// What a leg of the journey restarts with where the processor has less than that of the leg before.
const ANY_PROCESSOR: &str = "--no-strict-checking";

/// Files of tests, and what runs of them in the guest.
const TESTS: [(&str, &str); 2] =
    [("memory", "protection_keys"), ("restarts", "described_to_the_kernel_field_by_field")];
/// The ordinary user.
const NOBODY: u32 = 65534;

/// Travel there and back.
pub fn run() -> Result<String> {
    packages::ensure_installed(packages::OTHER_KERNEL)?;
    build()?;
    let store = workspace::target().join("other-kernel");
    let kernel = kernel(&store)?;
    let release = kernel.file_name().context("a kernel without a release")?.to_string_lossy().into_owned();
    let machine = Machine { store, kernel };
    machine.journey(None)?;
    if nix::unistd::geteuid().is_root() {
        machine.journey(Some(NOBODY)).context("as an ordinary user")?;
    }
    machine.tests()?;
    Ok(format!("Linux {release} and this kernel restart each other's images."))
}

/// The virtual machine.
struct Machine {
    store: PathBuf,
    kernel: PathBuf,
}

impl Machine {
    /// An empty directory that both machines see.
    fn share(&self) -> Result<PathBuf> {
        let share = self.store.join("share");
        let _ = fs::remove_dir_all(&share);
        fs::create_dir_all(share.join("images"))?;
        Ok(share)
    }

    /// All legs, as this user instead of whoever runs this.
    fn journey(&self, user: Option<u32>) -> Result<()> {
        let share = self.share()?;
        if user.is_some() {
            for path in [share.clone(), share.join("images")] {
                std::os::unix::fs::chown(path, user, user)?;
            }
        }
        // Not the file that runs now: the build may have replaced it.
        let program = workspace::release().join("xtask");
        let leg = |argument: &str| {
            let change =
                user.map_or_else(String::new, |user| format!("setpriv --reuid={user} --regid={user} --clear-groups "));
            format!("HOME='{0}' exec {change}'{1}' leg '{0}' {argument}", share.display(), program.display())
        };
        let here = |argument: &str| execute(command("sh").args(["-c", &leg(argument)]));
        self.boot(&share, &leg("")).context("the first leg, in the virtual machine")?;
        here("")?;
        self.boot(&share, &leg("--refused")).context("the third leg, in the virtual machine")?;
        here("--last")
    }

    /// The tests that find there what they need.
    fn tests(&self) -> Result<()> {
        let mut list = cargo();
        list.args(["test", "--quiet", "--release", "-p", "dmtcp-tests", "--no-run", "--message-format=json"]);
        list.args(TESTS.iter().flat_map(|(file, _)| ["--test", file]));
        let said = String::from_utf8_lossy(&list.stderr(Stdio::inherit()).output()?.stdout).into_owned();
        let mut script = format!("export DMTCP_TEST_BIN='{}' DMTCP_TEST_PATIENCE=10\n", workspace::release().display());
        for (file, filter) in TESTS {
            for executable in executables(&said, &[file])? {
                script += &format!("'{executable}' --include-ignored --test-threads 1 {filter} || exit 1\n");
            }
        }
        println!("\n==> Tests that need what this machine may lack:");
        let share = self.share()?;
        self.boot(&share, &script).context("tests in the virtual machine")?;
        let said = fs::read_to_string(share.join("guest.log"))?;
        ensure!(!said.contains("ignored, ") && !said.contains(" 0 passed"), "a test did not run there either");
        Ok(())
    }

    /// Boot, run a script there, and see what came of it.
    fn boot(&self, share: &Path, script: &str) -> Result<()> {
        let Self { store, kernel } = self;
        fs::write(share.join("guest.sh"), format!("{script}\n"))?;
        let archive = initial_files(store, kernel)?;
        let release = kernel.file_name().unwrap_or_default().to_string_lossy().into_owned();
        println!("Booting Linux {release} in a virtual machine ...");
        let device = |name: &str, path: &Path, more: &str| {
            let file_system = format!("local,id={name},path={},security_model=none{more}", path.display());
            [
                "-fsdev".to_owned(),
                file_system,
                "-device".to_owned(),
                format!("virtio-9p-pci,fsdev={name},mount_tag={name}"),
            ]
        };
        let mut machine = command("timeout");
        machine.args(["900", "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2"]);
        machine.args(["-m", "1536", "-nographic", "-no-reboot", "-kernel"]);
        machine.arg(store.join(format!("kernel/boot/vmlinuz-{release}"))).arg("-initrd").arg(archive);
        machine.args(device("root", Path::new("/"), ",readonly=on,multidevs=remap")).args(device("share", share, ""));
        machine.args(["-append", &format!("console=ttyS0 quiet panic=-1 share={}", share.display())]);
        let log = fs::File::create(store.join("console.log"))?;
        let status = machine.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).status()?;
        let said = fs::read_to_string(share.join("guest.log")).unwrap_or_default();
        print!("{said}");
        let outcome = fs::read_to_string(share.join("guest.status")).unwrap_or_default();
        let _ = fs::remove_file(share.join("guest.status"));
        ensure!(
            outcome.trim() == "0",
            "the guest's status is {outcome:?}, qemu's {status}; its console is in {}",
            store.display()
        );
        Ok(())
    }
}

/// The kernel's modules directory, unpacked from Debian's package when it is not there.
fn kernel(store: &Path) -> Result<PathBuf> {
    let modules = store.join("kernel/lib/modules");
    if !modules.exists() {
        ensure!(nix::unistd::geteuid().is_root(), "fetching a kernel package takes root");
        fs::create_dir_all(store)?;
        let listed = command("apt-cache").args(["depends", "linux-image-amd64"]).output()?;
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let package = listed.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
        let package = package.context("linux-image-amd64 names no kernel: apt-get update")?;
        println!("Fetching {package} ...");
        execute(command("apt-get").args(["download", "-qq", package]).current_dir(store))?;
        let file = fs::read_dir(store)?.flatten().map(|x| x.path()).find(|x| x.extension().is_some_and(|x| x == "deb"));
        execute(command("dpkg-deb").arg("-x").args(file).arg(store.join("kernel")))?;
    }
    let found = fs::read_dir(&modules)?.flatten().map(|x| x.path()).next();
    found.with_context(|| format!("no kernel in {}", modules.display()))
}

/// The guest's first file system: busybox, the modules in the order of their loading, and the script that goes on.
fn initial_files(store: &Path, kernel: &Path) -> Result<PathBuf> {
    let (root, release) = (store.join("initial"), kernel.file_name().unwrap_or_default());
    let _ = fs::remove_dir_all(&root);
    fs::create_dir_all(root.join("bin"))?;
    fs::create_dir_all(root.join("modules"))?;
    fs::copy("/bin/busybox", root.join("bin/busybox"))?;
    fs::write(root.join("init"), INIT)?;
    fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755))?;
    execute(command("/sbin/depmod").arg("-b").arg(store.join("kernel")).arg(release))?;
    let mut order = Vec::new();
    for module in MODULES {
        let mut modprobe = command("/sbin/modprobe");
        modprobe.arg("-d").arg(store.join("kernel")).arg("-S").arg(release).args(["--show-depends", module]);
        let output = modprobe.output()?;
        ensure!(output.status.success(), "modprobe knows no {module}: {}", String::from_utf8_lossy(&output.stderr));
        for file in String::from_utf8_lossy(&output.stdout).lines().filter_map(|line| line.strip_prefix("insmod ")) {
            let name = Path::new(file.trim()).file_name().context("a module without a name")?.to_os_string();
            if !order.contains(&name) {
                fs::copy(file.trim(), root.join("modules").join(&name))?;
                order.push(name);
            }
        }
    }
    let names: Vec<_> = order.iter().map(|name| name.to_string_lossy()).collect();
    fs::write(root.join("order"), names.join("\n") + "\n")?;
    let archive = store.join("initial.cpio");
    let mut cpio = command("sh");
    cpio.args(["-c", "find . | cpio --quiet -o -H newc"]).current_dir(&root);
    execute(cpio.stdout(fs::File::create(&archive)?))?;
    Ok(archive)
}

/// `xtask leg`: one leg on the machine that it is called on. With `refused` an image of a better processor is shown to be
/// refused first.
pub fn leg_here(share: &Path, refused: bool, last: bool) -> Result<String> {
    if last {
        last_leg(share)?;
    } else if refused {
        refuse(share)?;
        leg(share, &[ANY_PROCESSOR])?;
    } else {
        leg(share, &[])?;
    }
    Ok("This leg is done.".into())
}

/// The features that this processor lacks are named, and nothing is run.
fn refuse(share: &Path) -> Result<()> {
    let output = tool("dmtcp_restart").args(["--check"]).arg(image(&share.join("images"))?).output()?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    println!("    refused: {}", said.trim());
    ensure!(!output.status.success() && said.contains("avx512f"), "no missing feature was named");
    Ok(())
}

/// Launch or restart, see it count, checkpoint it, and kill it.
fn leg(share: &Path, options: &[&str]) -> Result<()> {
    traveller(share, options, |run, port| {
        let (before, after) = checkpoint(run, port, &share.join("images"))?;
        write_counts(&share.join("before"), &before)?;
        write_counts(&share.join("after"), &after)?;
        run.watch(&after)
    })
}

/// Restart and see it end.
fn last_leg(share: &Path) -> Result<()> {
    traveller(share, &[], |run, _| run.finish(&share.join("stop")))
}

/// Start the program, check where it goes on, and do `then` with it.
fn traveller(share: &Path, options: &[&str], then: impl FnOnce(&mut Run, &str) -> Result<()>) -> Result<()> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    println!("\n==> Linux {}:", release.trim());
    nix::sys::prctl::set_child_subreaper(true)?;
    let port = coordinator(share)?;
    let images = share.join("images");
    let outcome = (|| {
        let (before, after) = (read_counts(&share.join("before")), read_counts(&share.join("after")));
        let mut command = match (&before, &after) {
            (Some(_), Some(_)) => restart(&port, &images, options)?,
            _ => launch(&port, &images, &share.join("stop")),
        };
        // Without XSAVEC, libc's lazy binding saves as much state as the processor has, in the room that the processor of
        // the start needed.
        let mut run = Run::start(command.env("GLIBC_TUNABLES", TUNABLES).env("LD_BIND_NOW", "1"))?;
        let from = after.clone().unwrap_or_default();
        run.watch(&from)?;
        if let (Some(before), Some(after)) = (before, after) {
            run.continued(&before, &after)?;
        }
        then(&mut run, &port)
    })();
    end(&descendants())?;
    outcome
}

fn restart(port: &str, images: &Path, options: &[&str]) -> Result<Command> {
    let mut command = tool("dmtcp_restart");
    command.args(["-j", "-p", port]).args(options).arg(image(images)?);
    Ok(command)
}

fn write_counts(path: &Path, counts: &Counts) -> Result<()> {
    let lines: Vec<String> = counts.iter().map(|(thread, n)| format!("{thread} {n}\n")).collect();
    Ok(fs::write(path, lines.concat())?)
}

fn read_counts(path: &Path) -> Option<Counts> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().map(crate::counting::number).collect()
}
