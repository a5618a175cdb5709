//! Entering a program without Rust's runtime.

/// Makes a function the program's entry; its value is the exit code. For programs with `#![no_main]` that become
/// another program: dispositions of signals and closed standard descriptors stay as they were inherited.
#[macro_export]
macro_rules! start {
    ($run:path) => {
        /// What the C library calls. Arguments are taken from std, which has them on every libc that passes them to
        /// initialisers.
        #[unsafe(no_mangle)]
        pub extern "C" fn main() -> i32 {
            let code: i32 = $run();
            // Nobody flushes stdout on the way out of a C main; a closed one is no failure of ours.
            let _ = ::std::io::Write::flush(&mut ::std::io::stdout());
            code
        }
    };
}
