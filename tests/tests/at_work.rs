//! Tools at their ordinary work: compressors, compilers, databases, encoders. Stopped in the middle, killed and restarted
//! three times, they leave behind what they leave undisturbed, byte for byte.
//!
//! How far the work is, is measured by the processor time that it has taken: most of these tools say nothing on the way.

use dmtcp_tests::process;
use dmtcp_tests::scenario::text;
use dmtcp_tests::{Case, Context, Program, Restart, Result, RunAs, Scenario, ensure, runner, wait};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{ExitCode, Stdio};

/// Seconds that one piece of work may take on a machine that has more to do.
const PATIENCE: u64 = 150;

/// How a computation comes to its end between a checkpoint and a restart.
#[derive(Clone, Copy)]
enum End {
    /// It goes on for a while, and is killed.
    Killed,
    /// With the checkpoint: what it removes or changes by name it does once.
    WithTheCheckpoint,
}

/// Ticks of processor time that a process and those of its children have used that it has waited for.
fn ticks(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |x| x.1).split_whitespace();
    fields.skip(11).take(4).filter_map(|x| x.parse::<u64>().ok()).sum()
}

/// Ticks of everything that runs below this process but its coordinator.
fn used(s: &mut Scenario) -> Result<u64> {
    let coordinator = s.coordinator()?.pid();
    Ok(process::descendants(true).into_iter().filter(|pid| *pid != coordinator).map(ticks).sum())
}

/// Wait until that many more ticks have been used. An end before that is an error: nothing would be tested.
fn work_on(s: &mut Scenario, more: u64) -> Result<()> {
    let enough = used(s)? + more;
    wait::until(PATIENCE, &format!("{more} ticks of work"), || {
        s.healthy()?;
        Ok((used(s)? >= enough).then_some(()))
    })
}

/// What is in a directory, by name.
fn contents(directory: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let entries = fs::read_dir(directory)?.flatten().filter(|entry| entry.path().is_file());
    entries.map(|x| Ok((x.file_name().to_string_lossy().into_owned(), fs::read(x.path())?))).collect()
}

fn same_result(s: &mut Scenario, work: &str, end: End) -> Result<()> {
    let (alone, disturbed) = (s.path("alone"), s.path("disturbed"));
    for directory in [&alone, &disturbed] {
        fs::create_dir(directory)?;
        s.run_as().own(directory)?;
    }
    fs::write(s.log(), "")?;
    let argv = |s: &Scenario, directory: &Path| -> Result<Vec<String>> {
        let mut argv = s.prepared()?;
        argv.extend([directory.display().to_string(), work.to_string()]);
        Ok(argv)
    };
    let before = ticks(std::process::id() as i32);
    let words = argv(s, &alone)?;
    let mut command = s.command(&words[0]);
    let mut child = command.args(&words[1..]).stdout(Stdio::null()).spawn()?;
    let ended = wait::until(PATIENCE, "the work, undisturbed", || Ok(child.try_wait()?))?;
    ensure!(ended.success(), "the work, undisturbed, ended with {ended}");
    // Less than a quarter: what is done behind a checkpoint is done again.
    let share = (ticks(std::process::id() as i32) - before) / 6;
    ensure!(share >= 5, "the work is done too soon for three checkpoints");
    let port = s.port()?;
    let words = argv(s, &disturbed)?;
    let mut command = s.tool("dmtcp_launch");
    command.args(["-j", "-p", &port, "--ckptdir"]).arg(s.image_directory()).args(s.options()).args(words);
    s.launch_command(command)?;
    for how in [Restart::images(), Restart::script(), Restart::images().moved()] {
        work_on(s, share)?;
        match end {
            End::Killed => {
                s.checkpoint()?;
                work_on(s, share / 4)?;
                s.kill()?;
            }
            End::WithTheCheckpoint => s.checkpoint_and_end()?,
        }
        s.restart(&how)?;
        // What the restart itself takes is no work.
        wait::until(PATIENCE, "everybody to be back", || {
            s.healthy()?;
            Ok(text(&s.ask(&["s"])?).contains("RUNNING=yes").then_some(()))
        })?;
    }
    let ended = s.wait_end_within(PATIENCE)?;
    ensure!(ended.success(), "the work ended with {ended}");
    let (alone, disturbed) = (contents(&alone)?, contents(&disturbed)?);
    ensure!(!alone.is_empty() && alone.keys().eq(disturbed.keys()), "{:?}, not {:?}", disturbed.keys(), alone.keys());
    let other = alone.iter().find(|(name, bytes)| disturbed.get(*name) != Some(*bytes));
    ensure!(other.is_none(), "{} is not what undisturbed work makes of it", other.context("nothing")?.0);
    Ok(())
}

/// Work that lines of shell say; a file of each package that they need, and the package.
fn work(name: &str, needs: &[(&str, &str)], lines: &[&str], end: End) -> Case {
    let program = Program::script(&["/bin/bash"], "at_work.sh", "bash");
    let program = needs.iter().fold(program, |program, (file, package)| program.needs(file, package));
    let lines = lines.join(" && ");
    Case::flow(name, program, move |s| same_result(s, &lines, end)).limit(400).full_only()
}

/// Five megabytes of words that look random.
const WORDS: &str = "seq 300000 | mawk '{ x = (x * 7919 + $1) % 1000003; print $1 % 97, x, \"word\" x % 613 }' > words";

fn filters() -> Vec<Case> {
    let on_words = |name, needs: (&str, &str), line, end| work(name, &[needs], &[WORDS, line], end);
    vec![
        on_words(
            "xz_with_two_threads",
            ("/usr/bin/xz", "xz-utils"),
            "xz -T2 -2 --block-size=1MiB -f -k words && xz -dc words.xz | cmp - words",
            End::Killed,
        )
        .sampled_as(RunAs::User),
        on_words(
            "zstd_with_two_threads",
            ("/usr/bin/zstd", "zstd"),
            "zstd -q -f -T2 -13 words && zstd -qdc words.zst | cmp - words",
            End::Killed,
        ),
        on_words(
            "pigz_with_three_threads",
            ("/usr/bin/pigz", "pigz"),
            "pigz -9 -f -n -m -p3 -k words && pigz -dc words.gz | cmp - words",
            End::Killed,
        ),
        on_words(
            "gzip_between_pipes",
            ("/bin/gzip", "gzip"),
            "cat words | gzip -9 | tee words.gz | gzip -dc | cmp - words",
            End::Killed,
        ),
        // Parts that are sorted are files, which are removed once they are merged.
        on_words(
            "sort_with_files_for_its_parts",
            ("/usr/bin/sort", "coreutils"),
            "sort -S 300K --parallel=2 words | uniq -c | sort -S 300K -rn > sorted",
            End::WithTheCheckpoint,
        ),
        on_words(
            "gawk_with_a_coprocess",
            ("/usr/bin/gawk", "gawk"),
            r#"gawk '{ for (i = 1; i <= NF; i++) n[$i]++; s = (s * 31 + length($2)) % 1000003 }
                END { c = "sort"; for (k in n) if (n[k] > 2) print k, n[k] |& c; close(c, "to")
                      while ((c |& getline line) > 0) print line; print s }' words words > counted"#,
            End::Killed,
        ),
        on_words(
            "openssl_derives_a_key_and_encrypts",
            ("/usr/bin/openssl", "openssl"),
            "openssl enc -aes-256-ctr -pbkdf2 -iter 5000000 -S 0011223344556677 -k secret -in words -out secret",
            End::Killed,
        ),
    ]
}

fn makers() -> Vec<Case> {
    let source = r#"seq 250 | mawk '{ printf "template <> struct F<%d> { template <class T> static int f(T &m) { m[%d].append(std::to_string(%d)); std::sort(m[%d].begin(), m[%d].end()); return F<%d>::f(m); } };\n", $1, $1, $1 * 7, $1, $1, $1 - 1 }' > parts"#;
    let whole = r#"{ printf '#include <%s>\n' map string algorithm regex functional
          echo 'template <int> struct F; template <> struct F<0> { template <class T> static int f(T &m) { return m.size(); } };'
          cat parts
          echo 'int main() { std::map<int, std::string> m; return F<250>::f(m) != 250; }'; } > big.cpp"#;
    let git = "export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=c GIT_COMMITTER_EMAIL=c@d \
               GIT_AUTHOR_DATE='1700000000 +0000' GIT_COMMITTER_DATE='1700000000 +0000'";
    let sqlite = r#"{ echo 'create table t (a integer primary key, b text, c real); create index i on t (b);'
          for k in $(seq 240); do
            echo 'begin;'
            for j in $(seq 60); do echo "insert into t (b, c) values ('x$((k * j % 97))', $j.5);"; done
            echo "commit; update t set c = c + 1 where b = 'x$k'; select count(*), sum(c) from t;"
          done
          echo 'vacuum; select b, count(*), sum(c) from t group by b order by b; pragma integrity_check;'
        } | sqlite3 database > said"#;
    vec![
        // It leaves a file for the assembler by name.
        work(
            "cxx_compiler",
            &[("/usr/bin/g++", "g++")],
            &[source, whole, "g++ -O1 big.cpp -o big", "./big"],
            End::WithTheCheckpoint,
        ),
        work(
            "git_commits_packs_and_clones",
            &[("/usr/bin/git", "git")],
            &[
                git,
                "git init -q repository 2> /dev/null",
                r#"for n in $(seq 25); do
                     seq $n 97 $((n * 4000)) > repository/file$((n % 7))
                     git -C repository add -A && git -C repository commit -qm "$n" || exit 1
                   done"#,
                "git -C repository -c pack.threads=2 gc -q --aggressive --prune=now",
                "git clone -q --no-hardlinks --bare repository clone",
                "git -C clone fsck --full 2> told",
                "git -C clone rev-list --all --objects > objects",
            ],
            End::WithTheCheckpoint,
        ),
        // Its journal is a file that comes and goes.
        work("sqlite_shell", &[("/usr/bin/sqlite3", "sqlite3")], &[sqlite], End::WithTheCheckpoint),
        work(
            "ffmpeg_encodes_a_video",
            &[("/usr/bin/ffmpeg", "ffmpeg")],
            &["ffmpeg -nostdin -loglevel error -f lavfi -i testsrc2=size=320x240:rate=25:duration=600 -threads 2 \
               -c:v mpeg4 -bitexact video.avi"],
            End::Killed,
        ),
        work(
            "gnuplot_draws_surfaces",
            &[("/usr/bin/gnuplot", "gnuplot-nox")],
            &[r#"for n in 1 2 3 4 5 6 7 8; do
                   gnuplot -e "set term svg; set output '$n.svg'; set isosamples 150, 150; set pm3d; splot sin(x * $n) * cos(y)" || exit 1
                 done"#],
            End::Killed,
        ),
    ]
}

fn calculators() -> Vec<Case> {
    let prolog = r#"swipl -g 'numlist(1, 600000, L), foldl([X, A, B]>>(B is (A * 31 + X) mod 1000003), L, 0, R), print(R), nl, halt' > said"#;
    let lisp = r#"(defun f (n) (if (< n 2) n (+ (f (- n 1)) (f (- n 2))))) (print (f 20))
        (let ((h (make-hash-table :test 'equal)))
          (dotimes (i 60000) (setf (gethash (format nil \"~a\" (mod (* i 7919) 10007)) h) i))
          (print (hash-table-count h)))"#;
    let clisp = format!(r#"echo "{lisp}" > it.lisp"#);
    let scheme = r#"echo '
        (define mutex (make-mutex)) (define done (make-condition)) (define ended 0) (define total 0)
        (define (f n) (if (< n 2) n (+ (f (- n 1)) (f (- n 2)))))
        (do ((i 0 (+ i 1))) ((= i 4))
          (fork-thread (lambda ()
            (let ((r (f (+ 36 i))))
              (with-mutex mutex (set! total (+ total r)) (set! ended (+ ended 1)) (condition-signal done))))))
        (with-mutex mutex (let wait () (if (< ended 4) (begin (condition-wait done mutex) (wait)))))
        (display total) (newline)' > it.ss"#;
    let lua = r#"luajit -e '
        local s, t = 1, {}
        local next = coroutine.wrap(function() while true do s = (s * 1103515245 + 12345) % 2147483648; coroutine.yield(s) end end)
        for _ = 1, 20000000 do local x = next(); t[x % 1000] = (t[x % 1000] or 0) + x % 10 end
        for i = 0, 999 do print(t[i]) end
        for line in io.popen("echo child"):lines() do print(line) end' > said"#;
    // Operations, not seconds: how many there are in a second is nobody's business.
    let stress =
        |what: &str| format!("stress-ng --verify {what} > told 2>&1 || {{ cat told >&2; exit 1; }}; echo > told");
    let stressors = [
        "--cpu 1 --cpu-ops 200 --vm 1 --vm-bytes 4m --vm-ops 20000 --pipe 1 --pipe-ops 200000 --fork 1 --fork-ops 1000",
        "--futex 1 --futex-ops 3000 --timer 1 --timer-ops 20000 --sigq 1 --sigq-ops 20000 \
         --eventfd 1 --eventfd-ops 20000 --qsort 1 --qsort-ops 15",
        "--malloc 1 --malloc-ops 20000 --mremap 1 --mremap-ops 5 --vfork 1 --vfork-ops 100 --matrix 1 --matrix-ops 200 \
         --pthread 1 --pthread-ops 200 --hdd 1 --hdd-ops 50 --hdd-bytes 2m",
    ];
    let under_stress = |name: &str, what: &str| {
        work(name, &[("/usr/bin/stress-ng", "stress-ng")], &[&stress(what)], End::WithTheCheckpoint)
    };
    vec![
        work(
            "bc_counts_digits",
            &[("/usr/bin/bc", "bc")],
            &["echo 'scale = 1500; 4 * a(1)' | bc -l > digits"],
            End::Killed,
        ),
        work("swi_prolog", &[("/usr/bin/swipl", "swi-prolog-core-packages")], &[prolog], End::Killed),
        work("clisp", &[("/usr/bin/clisp", "clisp")], &[&clisp, "clisp -q it.lisp > said"], End::Killed),
        work(
            "chez_scheme_threads",
            &[("/usr/bin/chezscheme", "chezscheme")],
            &[scheme, "chezscheme --script it.ss > said"],
            End::Killed,
        ),
        work("luajit", &[("/usr/bin/luajit", "luajit")], &[lua], End::Killed),
        under_stress("stress_of_processor_memory_pipes_and_forks", stressors[0]),
        under_stress("stress_of_locks_timers_and_signals", stressors[1]),
        under_stress("stress_of_allocation_threads_and_disk", stressors[2]),
    ]
}

fn main() -> ExitCode {
    runner::main(filters().into_iter().chain(makers()).chain(calculators()).collect())
}
