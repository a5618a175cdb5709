//! Becoming another program.
//!
//! Signal dispositions and masks are the caller's and stay so: the programs that use this are entered without Rust's
//! runtime, which would change SIGPIPE, and exec goes straight to the kernel.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The environment of the program to come.
pub struct Environment(Vec<(OsString, OsString)>);

impl Environment {
    /// This program's own.
    pub fn inherited() -> Self {
        Self(std::env::vars_os().collect())
    }

    /// Sets a variable.
    pub fn set(&mut self, name: &str, value: impl AsRef<OsStr>) {
        let value = value.as_ref().to_os_string();
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.into(), value)),
        }
    }

    /// Removes a variable.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(known, _)| known != name);
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_os_str())
    }
}

/// Becomes a program; comes back only with an error. A file that the kernel does not understand is given to the shell,
/// as execvp does.
pub fn become_program(path: &Path, arguments: &[OsString], environment: &Environment) -> io::Error {
    let error = execve(path.as_os_str(), arguments, environment);
    if error.raw_os_error() != Some(libc::ENOEXEC) {
        return error;
    }
    let mut of_shell: Vec<OsString> = vec!["sh".into(), path.into()];
    of_shell.extend(arguments.iter().skip(1).cloned());
    execve(OsStr::new("/bin/sh"), &of_shell, environment)
}

fn execve(path: &OsStr, arguments: &[OsString], environment: &Environment) -> io::Error {
    let text = |bytes: &[u8]| CString::new(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    let prepare = || -> io::Result<(CString, Vec<CString>, Vec<CString>)> {
        let arguments = arguments.iter().map(|word| text(word.as_bytes())).collect::<io::Result<_>>()?;
        let variables = environment
            .0
            .iter()
            .map(|(name, value)| text(&[name.as_bytes(), b"=", value.as_bytes()].concat()))
            .collect::<io::Result<_>>()?;
        Ok((text(path.as_bytes())?, arguments, variables))
    };
    let (path, arguments, variables) = match prepare() {
        Ok(prepared) => prepared,
        Err(error) => return error,
    };
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argv, envp) = (pointers(&arguments), pointers(&variables));
    // The kernel's own call: in a program that is itself under control, libc's would put the control back.
    // SAFETY: path is a C string, argv and envp are null-terminated arrays of C strings, and all outlive the call.
    unsafe { libc::syscall(libc::SYS_execve, path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    io::Error::last_os_error()
}
