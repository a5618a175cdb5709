//! Debian packages that the demo, the tests and the benchmarks need; installed only where something is missing.

use crate::workspace::{command, run};
use anyhow::{Result, ensure};
use std::path::Path;

/// A file whose presence shows that a package is installed, and the package.
pub type Need = (&'static str, &'static str);

/// What the demo needs.
pub const DEMO: &[Need] = &[("/usr/bin/python3", "python3"), ("/usr/bin/cc", "gcc")];

/// What the sample of tests needs.
pub const SAMPLE: &[Need] = &[
    ("/usr/bin/gcc", "gcc"),
    ("/usr/bin/g++", "g++"),
    ("/usr/bin/make", "make"),
    ("/usr/include/stdio.h", "libc6-dev"),
    ("/usr/bin/python3", "python3"),
    ("/usr/lib/python3/dist-packages/numpy", "python3-numpy"),
    ("/usr/lib/x86_64-linux-gnu/openblas-pthread/libblas.so.3", "libopenblas0-pthread"),
    ("/usr/bin/perl", "perl"),
    ("/usr/bin/node", "nodejs"),
    ("/usr/bin/ruby", "ruby"),
    ("/usr/bin/php", "php-cli"),
    ("/usr/bin/lua5.4", "lua5.4"),
    ("/usr/bin/tclsh", "tcl"),
    ("/bin/dash", "dash"),
    ("/usr/bin/javac", "default-jdk-headless"),
    ("/usr/bin/sqlite3", "sqlite3"),
    ("/usr/bin/mawk", "mawk"),
    ("/usr/bin/xz", "xz-utils"),
    ("/usr/include/sqlite3.h", "libsqlite3-dev"),
    ("/usr/bin/guile", "guile-3.0"),
    ("/usr/bin/sbcl", "sbcl"),
    ("/usr/bin/ocamlopt", "ocaml-nox"),
    ("/usr/lib/x86_64-linux-gnu/libjemalloc.so.2", "libjemalloc2"),
    ("/usr/lib/x86_64-linux-gnu/libtcmalloc.so.4", "libgoogle-perftools4"),
    ("/usr/bin/gawk", "gawk"),
    ("/usr/bin/gdb", "gdb"),
    ("/usr/bin/readelf", "binutils"),
    ("/usr/bin/shellcheck", "shellcheck"),
    ("/usr/bin/mandoc", "mandoc"),
    ("/usr/bin/zsh", "zsh"),
    ("/usr/bin/fish", "fish"),
    ("/usr/sbin/mkfs.btrfs", "btrfs-progs"),
    // The reader of images that is not ours.
    ("/usr/lib/python3/dist-packages/xxhash/__init__.py", "python3-xxhash"),
    ("/usr/lib/python3/dist-packages/lz4/__init__.py", "python3-lz4"),
    ("/usr/lib/python3/dist-packages/zstandard/__init__.py", "python3-zstandard"),
];

/// What all tests need, beyond the sample.
pub const FULL: &[Need] = &[
    ("/usr/lib/R/bin/exec/R", "r-base-core"),
    ("/usr/bin/octave-cli", "octave"),
    ("/usr/bin/parallel", "parallel"),
    ("/usr/bin/clang", "clang"),
    ("/usr/bin/go", "golang-go"),
    ("/usr/bin/ghc", "ghc"),
    ("/usr/bin/mono", "mono-runtime"),
    ("/usr/bin/mcs", "mono-mcs"),
    ("/usr/bin/escript", "erlang-base"),
    ("/usr/bin/elixir", "elixir"),
    ("/usr/include/tbb/tbb.h", "libtbb-dev"),
    ("/usr/lib/llvm-14/lib/clang/14.0.6/lib/linux/libclang_rt.asan-x86_64.a", "libclang-rt-14-dev"),
    ("/usr/lib/x86_64-linux-gnu/libmimalloc.so.2", "libmimalloc2.0"),
    ("/usr/bin/valgrind", "valgrind"),
    ("/usr/bin/zstd", "zstd"),
    ("/usr/bin/pigz", "pigz"),
    ("/usr/bin/openssl", "openssl"),
    ("/usr/bin/git", "git"),
    ("/usr/bin/ffmpeg", "ffmpeg"),
    ("/usr/bin/gnuplot", "gnuplot-nox"),
    ("/usr/bin/bc", "bc"),
    ("/usr/bin/swipl", "swi-prolog-core-packages"),
    ("/usr/bin/clisp", "clisp"),
    ("/usr/bin/chezscheme", "chezscheme"),
    ("/usr/bin/luajit", "luajit"),
    ("/usr/bin/stress-ng", "stress-ng"),
];

/// What another release of Debian in a directory needs of this machine.
pub const CHROOT: &[Need] = &[("/usr/sbin/debootstrap", "debootstrap"), ("/usr/bin/readelf", "binutils")];

/// What the tests need in another release of Debian.
pub const DISTRO: &[Need] = &[
    ("/usr/bin/make", "make"),
    ("/usr/bin/python3", "python3"),
    ("/usr/lib/python3/dist-packages/numpy", "python3-numpy"),
    ("/usr/lib/x86_64-linux-gnu/openblas-pthread/libblas.so.3", "libopenblas0-pthread"),
    ("/usr/bin/perl", "perl"),
    ("/usr/bin/ruby", "ruby"),
    ("/usr/bin/php", "php-cli"),
    ("/usr/bin/lua5.4", "lua5.4"),
    ("/usr/bin/tclsh", "tcl"),
    ("/usr/bin/javac", "default-jdk-headless"),
    ("/usr/bin/guile", "guile-3.0"),
    ("/usr/bin/sbcl", "sbcl"),
    ("/usr/bin/ocamlopt", "ocaml"),
    ("/usr/lib/x86_64-linux-gnu/libjemalloc.so.2", "libjemalloc2"),
    ("/usr/lib/x86_64-linux-gnu/libtcmalloc.so.4", "libgoogle-perftools4"),
    ("/usr/bin/gawk", "gawk"),
    ("/usr/bin/gdb", "gdb"),
    ("/usr/bin/ps", "procps"),
];

/// What all tests need there, beyond that.
pub const DISTRO_FULL: &[Need] =
    &[("/usr/lib/R/bin/exec/R", "r-base-core"), ("/usr/bin/octave-cli", "octave"), ("/usr/bin/parallel", "parallel")];

/// What a virtual machine with another kernel needs.
pub const OTHER_KERNEL: &[Need] = &[
    ("/usr/bin/python3", "python3"),
    ("/usr/bin/qemu-system-x86_64", "qemu-system-x86"),
    ("/usr/share/seabios/bios-256k.bin", "seabios"),
    ("/usr/lib/ipxe/qemu/efi-virtio.rom", "ipxe-qemu"),
    ("/bin/busybox", "busybox-static"),
    ("/usr/bin/cpio", "cpio"),
    ("/sbin/modprobe", "kmod"),
];

/// The packages whose files are not there, below a root. A link counts as there: it may lead to another place of that root.
pub fn missing(root: &Path, needs: &[Need]) -> Vec<&'static str> {
    let there = |file: &str| root.join(file.trim_start_matches('/')).symlink_metadata().is_ok();
    needs.iter().filter(|(file, _)| !there(file)).map(|x| x.1).collect()
}

/// Install what is missing of `needs`.
pub fn ensure_installed(needs: &[Need]) -> Result<()> {
    let missing = missing(Path::new("/"), needs);
    if missing.is_empty() {
        return Ok(());
    }
    println!("Installing: {}", missing.join(" "));
    ensure!(
        nix::unistd::geteuid().is_root(),
        "packages are missing and only root can install them: apt-get install {}",
        missing.join(" ")
    );
    run(command("apt-get").args(["update", "-qq"]))?;
    let mut install = command("apt-get");
    install.env("DEBIAN_FRONTEND", "noninteractive");
    run(install.args(["install", "-y", "-qq", "--no-install-recommends"]).args(&missing))?;
    let still = self::missing(Path::new("/"), needs);
    ensure!(still.is_empty(), "apt-get has installed everything, yet the files of {} are not there", still.join(", "));
    Ok(())
}
