//! Programs under test: what they need, how they are built, how they are called.
//!
//! Sources are in `programs/` and `scripts/`. Compiled ones are built once per machine into `target/test-programs`
//! and copied into the directory of each case, where an ordinary user can reach them whatever the checkout's modes
//! are. A program whose interpreter or library is not installed fails its test with the name of the Debian package.

use anyhow::{Context, Result, bail, ensure};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How a source becomes something to run.
#[derive(Clone, Debug)]
enum Kind {
    /// A file that an interpreter reads; the words before its name.
    Script(Vec<String>),
    /// A compiled program: compiler and flags; the output goes to `-o`.
    Compiled(Vec<String>),
    /// A Java class with a main method, and options of the virtual machine.
    Java(Vec<String>),
    /// A program for Mono, compiled for it.
    Mono(Vec<String>),
}

/// A program under test.
#[derive(Clone, Debug)]
pub struct Program {
    source: String,
    kind: Kind,
    under: Vec<String>,
    args: Vec<String>,
    env: Vec<(String, String)>,
    needs: Vec<(String, String)>,
}

impl Program {
    fn new(source: &str, kind: Kind) -> Program {
        let (under, args, env, needs) = Default::default();
        Program { source: source.into(), kind, under, args, env, needs }
    }

    /// A C program with further compiler flags.
    pub fn c(source: &str, flags: &[&str]) -> Program {
        // Timers and the loader are libraries of their own before glibc 2.34.
        let base = ["gcc", "-std=gnu11", "-g", "-O1", "-Wall", "-Werror", "-pthread", "-lrt", "-ldl"];
        Program::new(source, Kind::Compiled(words(&base, flags))).needs("/usr/bin/gcc", "gcc")
    }

    /// A C program that clang compiles.
    pub fn clang(source: &str, flags: &[&str]) -> Program {
        let mut program = Program::c(source, flags).needs("/usr/bin/clang", "clang");
        if let Kind::Compiled(words) = &mut program.kind {
            words[0] = "clang".into();
        }
        program
    }

    /// A C++ program.
    pub fn cxx(source: &str, flags: &[&str]) -> Program {
        let base = ["g++", "-std=c++17", "-g", "-O1", "-Wall", "-Werror", "-pthread"];
        Program::new(source, Kind::Compiled(words(&base, flags))).needs("/usr/bin/g++", "g++")
    }

    /// A Rust program that uses nothing but std.
    pub fn rust(source: &str) -> Program {
        Program::new(source, Kind::Compiled(words(&["rustc", "--edition=2024", "-g", "-O"], &[])))
    }

    /// An OCaml program: `ocamlopt` makes native code, `ocamlc` bytecode.
    pub fn ocaml(source: &str, compiler: &str) -> Program {
        let kind = Kind::Compiled(words(&[compiler, "-I", "+unix", "unix.cma"], &[]));
        let mut program = Program::new(source, kind).needs("/usr/bin/ocamlopt", "ocaml-nox");
        if compiler == "ocamlopt" {
            program.kind = Kind::Compiled(words(&[compiler, "-I", "+unix", "unix.cmxa"], &[]));
        }
        program
    }

    /// A Java program, and options of the virtual machine.
    pub fn java(source: &str, options: &[&str]) -> Program {
        Program::new(source, Kind::Java(words(options, &[]))).needs("/usr/bin/javac", "default-jdk-headless")
    }

    /// A Go program; with C in it, it is linked dynamically.
    pub fn go(source: &str) -> Program {
        Program::new(source, Kind::Compiled(words(&["go", "build"], &[]))).needs("/usr/bin/go", "golang-go")
    }

    /// A Haskell program with GHC's threaded run time, and that run time's options.
    pub fn haskell(source: &str) -> Program {
        let kind = words(&["ghc", "-v0", "-threaded", "-O", "-with-rtsopts=-N2"], &[]);
        Program::new(source, Kind::Compiled(kind)).needs("/usr/bin/ghc", "ghc")
    }

    /// A C# program that Mono runs.
    pub fn mono(source: &str) -> Program {
        let program = Program::new(source, Kind::Mono(words(&["mcs"], &[])));
        program.needs("/usr/bin/mono", "mono-runtime").needs("/usr/bin/mcs", "mono-mcs")
    }

    /// A script: the interpreter with its options, and the package that brings it.
    pub fn script(interpreter: &[&str], source: &str, package: &str) -> Program {
        Program::new(source, Kind::Script(words(interpreter, &[]))).needs(interpreter[0], package)
    }

    /// Arguments of the program.
    pub fn args(mut self, args: &[&str]) -> Program {
        self.args.extend(args.iter().map(|x| x.to_string()));
        self
    }

    /// The command that executes it: its words come before the program's.
    pub fn under(mut self, command: &[&str]) -> Program {
        self.under = words(command, &[]);
        self
    }

    /// A variable in its environment.
    pub fn env(mut self, name: &str, value: &str) -> Program {
        self.env.push((name.into(), value.into()));
        self
    }

    /// A file that must be there, and the package that brings it.
    pub fn needs(mut self, path: &str, package: &str) -> Program {
        self.needs.push((path.into(), package.into()));
        self
    }

    /// The variables of its environment.
    pub fn environment(&self) -> &[(String, String)] {
        &self.env
    }

    /// Build it and put it into `directory`; returns what to execute.
    pub fn prepare(&self, directory: &Path) -> Result<Vec<String>> {
        for (path, package) in &self.needs {
            ensure!(
                Path::new(path).exists(),
                "{path} is missing: apt-get install {package} (cargo xtask test does it)"
            );
        }
        let mut argv = match &self.kind {
            Kind::Script(interpreter) => {
                let text = directory.join(&self.source);
                for part in fs::read_dir(sources("scripts"))?.flatten().filter(|x| shared(&x.path())) {
                    fs::copy(part.path(), directory.join(part.file_name()))?;
                }
                fs::copy(sources("scripts").join(&self.source), &text)?;
                let mut argv = interpreter.clone();
                argv.push(text.display().to_string());
                argv
            }
            Kind::Compiled(compiler) => vec![self.built_in(compiler, directory)?],
            Kind::Mono(compiler) => vec!["/usr/bin/mono".into(), self.built_in(compiler, directory)?],
            Kind::Java(options) => {
                let classes = self.build(&words(&["javac", "-d"], &[]))?;
                for class in fs::read_dir(classes)?.flatten() {
                    fs::copy(class.path(), directory.join(class.file_name()))?;
                }
                let mut argv = vec!["/usr/bin/java".to_string()];
                argv.extend(options.iter().cloned());
                argv.extend(["-cp".into(), directory.display().to_string(), stem(&self.source).into()]);
                argv
            }
        };
        argv.splice(0..0, self.under.iter().cloned());
        argv.extend(self.args.iter().cloned());
        Ok(argv)
    }

    /// A copy of what the compiler makes.
    fn built_in(&self, compiler: &[String], directory: &Path) -> Result<String> {
        let built = self.build(compiler)?;
        let copy = directory.join(stem(&self.source));
        // A copy that is there may be running, and cannot be written then.
        if !copy.exists() {
            fs::copy(built, &copy)?;
        }
        Ok(copy.display().to_string())
    }

    /// Compile into the cache, unless a newer result is there.
    fn build(&self, compiler: &[String]) -> Result<PathBuf> {
        let source = sources("programs").join(&self.source);
        let cache = cache()?;
        fs::create_dir_all(&cache)?;
        let flags: String =
            compiler.iter().flat_map(|x| x.chars()).filter(|x| x.is_ascii_alphanumeric() || *x == '-').collect();
        let built = cache.join(format!("{}.{flags}", self.source));
        let of = |name: &&str| newer(&built, &sources("programs").join(name));
        if newer(&built, &source) && SHARED.iter().all(of) {
            return Ok(built);
        }
        let scratch = cache.join(format!("{}.{}.new", self.source, std::process::id()));
        fs::create_dir_all(&scratch)?;
        let own = scratch.join(source.file_name().unwrap_or(OsStr::new("source")));
        fs::copy(&source, &own)?;
        let output = scratch.join("out");
        let mut command = Command::new(&compiler[0]);
        match compiler[0].as_str() {
            "javac" => command.args(["-d", &output.display().to_string()]).arg(&own),
            "mcs" => command.arg(format!("-out:{}", output.display())).arg(&own),
            "rustc" => command.args(&compiler[1..]).arg("-o").arg(&output).arg(&own),
            "gcc" | "g++" | "clang" | "clang++" => {
                // Libraries come after the objects that use them.
                let (libraries, flags): (Vec<_>, Vec<_>) = compiler[1..].iter().partition(|x| x.starts_with("-l"));
                // In the directory of the sources: failed checks then name their file and no path.
                command.current_dir(sources("programs")).args(flags).arg("-o").arg(&output);
                command.arg(&self.source).args(libraries)
            }
            "go" => {
                let steps = scratch.join("steps.go");
                fs::copy(sources("programs").join("steps.go"), &steps)?;
                command.args(&compiler[1..]).arg("-o").arg(&output).args([&own, &steps])
            }
            _ => command.args(&compiler[1..]).arg("-o").arg(&output).arg(&own),
        };
        let made = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {}", compiler[0]))?;
        if !made.status.success() {
            bail!("{command:?}: {}\n{}", made.status, String::from_utf8_lossy(&made.stderr));
        }
        let _ = fs::remove_dir_all(&built);
        // Another case may have built the same thing meanwhile: either result will do.
        if fs::rename(&output, &built).is_err() {
            ensure!(built.exists(), "cannot put {} into place", built.display());
        }
        let _ = fs::remove_dir_all(&scratch);
        Ok(built)
    }
}

fn words(first: &[&str], second: &[&str]) -> Vec<String> {
    first.iter().chain(second).map(|x| x.to_string()).collect()
}

fn stem(source: &str) -> &str {
    source.split('.').next().unwrap_or(source)
}

/// `programs` or `scripts` of this crate.
fn sources(which: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(which)
}

/// Files that scripts of a language load by name.
fn shared(path: &Path) -> bool {
    path.file_stem().is_some_and(|x| x == "steps")
}

/// What programs in C include, and those in Go are built with.
const SHARED: [&str; 3] = ["steps.h", "smaps.h", "steps.go"];

fn newer(a: &Path, b: &Path) -> bool {
    let time = |p: &Path| fs::metadata(p).and_then(|m| m.modified()).ok();
    matches!((time(a), time(b)), (Some(a), Some(b)) if a >= b)
}

/// Where built programs are kept: beside this test's own binary.
fn cache() -> Result<PathBuf> {
    let me = std::env::current_exe()?;
    let target = me.ancestors().nth(3).context("a test binary is expected in target/PROFILE/deps")?;
    Ok(target.join("test-programs"))
}
