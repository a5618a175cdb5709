//! Makes pipes and FIFOs with the bytes that were in flight.
//!
//! ```text
//!   pipe2 -> capacity -> bytes (packet by packet) -> a description per end -> flags -> provide
//! ```
//! Ends that the process did not hold are closed at the end of `create`: a reader then sees the rest and the end of file,
//! a writer an error, as before.

use crate::restart::checked;
use crate::state::{Fifo, Pipe};
use dmtcp_plugin_api::byte_text::ByteText;
use dmtcp_plugin_api::restart::Host;
use std::ffi::{CString, OsStr};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const F_SETPIPE_SZ: i32 = 1031;
/// What F_SETFL can set on a pipe.
const STATUS: i32 = libc::O_APPEND | libc::O_NONBLOCK | libc::O_DIRECT | libc::O_NOATIME;

fn path_of(path: &ByteText) -> &Path {
    Path::new(OsStr::from_bytes(path.bytes()))
}

/// One sentence if a FIFO cannot be restored here.
pub fn missing(pipe: &Pipe) -> Option<String> {
    let fifo = pipe.fifo.as_ref().filter(|f| !f.unlinked)?;
    match fs::metadata(path_of(&fifo.path)) {
        Ok(there) if !there.file_type().is_fifo() => {
            Some(format!("{} is no FIFO any more: put it out of the way", fifo.path))
        }
        _ => None,
    }
}

/// Puts what several processes say of one pipe together: all ends, and the bytes of the first that saw them. The number is
/// that of the process whose blob they are.
pub fn put_together(said: Vec<(u32, Pipe)>) -> Vec<(u32, Pipe)> {
    let mut whole: Vec<(u32, Pipe)> = Vec::new();
    for (index, pipe) in said {
        let Some((owner, known)) = whole.iter_mut().find(|(_, p)| p.identity == pipe.identity) else {
            whole.push((index, pipe));
            continue;
        };
        known.ends.extend(pipe.ends);
        if known.blob.is_none() && pipe.blob.is_some() {
            (*owner, known.blob) = (index, pipe.blob);
        }
        if known.packets.is_empty() {
            known.packets = pipe.packets;
        }
    }
    whole
}

/// Makes one pipe.
pub fn create(host: &Host<'_>, index: u32, pipe: &Pipe) -> Result<(), String> {
    let what = pipe.fifo.as_ref().map_or_else(|| "a pipe".into(), |f| format!("FIFO {}", f.path));
    let failed = |e: io::Error| format!("{what} cannot be made: {e}");
    let bytes = match &pipe.blob {
        Some(name) => {
            let blob = host.blob(index, name).ok_or_else(|| format!("the image has no blob '{name}'"))?;
            blob.read().map_err(|e| format!("{what}: its bytes cannot be read from the image: {e}"))?
        }
        None => Vec::new(),
    };
    let (mut reader, writer) = match &pipe.fifo {
        Some(fifo) => open_fifo(host, fifo).map_err(failed)?,
        None => new_pipe().map_err(failed)?,
    };
    if let Err(e) = set_capacity(&writer, pipe.capacity, bytes.len() as u64) {
        host.warn(&format!(
            "{what}: a capacity of {} bytes is not allowed here ({e}), it has the usual one now: see \
             /proc/sys/fs/pipe-max-size and /proc/sys/fs/pipe-user-pages-soft",
            pipe.capacity
        ));
    }
    // Somebody outside of the computation may have kept a FIFO, and with it the bytes.
    if pipe.fifo.is_none() || unread(&reader).map_err(failed)? == 0 {
        refill(&writer, &bytes, &pipe.packets)
            .map_err(|e| format!("{what}: its {} bytes in flight cannot be put back: {e}", bytes.len()))?;
    }
    let mut writer = Some(writer);
    if pipe.fifo.as_ref().is_some_and(|fifo| fifo.awaits_writer) && !pipe.ends.iter().any(|end| end.writes()) {
        // What a reader had open at the same time as a writer ends with that one.
        let name = reopen(&reader, libc::O_PATH).map_err(failed)?;
        drop((reader, writer.take()));
        reader = reopen(&name, libc::O_RDONLY).map_err(failed)?;
    }
    hand_out(host, pipe, reader, writer).map_err(failed)
}

/// How many bytes wait to be read.
fn unread(reader: &File) -> io::Result<i32> {
    let mut amount = 0;
    // SAFETY: the kernel writes one number.
    checked(unsafe { libc::ioctl(reader.as_raw_fd(), libc::FIONREAD, &raw mut amount) })?;
    Ok(amount)
}

fn new_pipe() -> io::Result<(File, File)> {
    let mut ends = [-1; 2];
    // SAFETY: the array has room for both ends, which nobody else owns.
    unsafe {
        checked(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK))?;
        Ok((File::from_raw_fd(ends[0]), File::from_raw_fd(ends[1])))
    }
}

/// Both ends of a FIFO, which is made if it is not there. Opening it for both first keeps the single ends from waiting.
/// One that had been unlinked is made under its own name if that is free, else beside it.
fn open_fifo(host: &Host<'_>, fifo: &Fifo) -> io::Result<(File, File)> {
    let wanted = PathBuf::from(OsStr::from_bytes(&host.path(fifo.path.bytes())));
    let name = if fifo.unlinked && wanted.symlink_metadata().is_ok() {
        wanted.with_added_extension(format!("dmtcp-{}", std::process::id()))
    } else {
        wanted
    };
    let c_name = CString::new(name.as_os_str().as_bytes())?;
    // SAFETY: the path is zero-terminated.
    match checked(unsafe { libc::mkfifo(c_name.as_ptr(), fifo.mode) }) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && !fifo.unlinked => {}
        Err(e) => return Err(e),
        Ok(_) => fs::set_permissions(&name, std::os::unix::fs::PermissionsExt::from_mode(fifo.mode))?,
    }
    let both = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(&name);
    if fifo.unlinked {
        fs::remove_file(&name)?;
    }
    let both = both?;
    Ok((reopen(&both, libc::O_RDONLY)?, reopen(&both, libc::O_WRONLY)?))
}

/// A new description of the same pipe.
fn reopen(end: &File, flags: i32) -> io::Result<File> {
    let path = CString::new(format!("/proc/self/fd/{}", end.as_raw_fd()))?;
    // SAFETY: the path is zero-terminated; the result is a new descriptor that nobody else owns.
    unsafe {
        let fd = checked(libc::open(path.as_ptr(), flags | libc::O_CLOEXEC | libc::O_NONBLOCK))?;
        Ok(File::from_raw_fd(fd))
    }
}

/// At least what it was. More bytes than the capacity can be in a pipe that splice(2) filled: then it stays larger.
fn set_capacity(writer: &File, capacity: u64, bytes: u64) -> io::Result<()> {
    let wanted = capacity.max(bytes.next_power_of_two());
    // SAFETY: no memory is passed.
    checked(unsafe { libc::fcntl(writer.as_raw_fd(), F_SETPIPE_SZ, wanted as i32) }).map(drop)
}

fn set_status(end: &File, flags: i32) -> io::Result<()> {
    // SAFETY: no memory is passed.
    checked(unsafe { libc::fcntl(end.as_raw_fd(), libc::F_SETFL, flags & STATUS) }).map(drop)
}

fn refill(mut writer: &File, bytes: &[u8], packets: &[u64]) -> io::Result<()> {
    if packets.is_empty() {
        return writer.write_all(bytes);
    }
    set_status(writer, libc::O_NONBLOCK | libc::O_DIRECT)?;
    let mut rest = bytes;
    for length in packets {
        let (packet, after) = rest.split_at_checked(*length as usize).ok_or(io::ErrorKind::UnexpectedEof)?;
        if writer.write(packet)? != packet.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        rest = after;
    }
    set_status(writer, libc::O_NONBLOCK)
}

/// Provides a description for each end that the process held.
fn hand_out(host: &Host<'_>, pipe: &Pipe, reader: File, writer: Option<File>) -> io::Result<()> {
    // The first end that only reads is the reader itself, the first that only writes the writer itself.
    let (mut ready_reader, mut ready_writer) = (Some(reader), writer);
    let mut made: Vec<(u64, File)> = Vec::new();
    let source = |made: &[(u64, File)], ready: [&Option<File>; 2]| -> io::Result<File> {
        let any = ready.into_iter().flatten().next().or(made.first().map(|(_, f)| f));
        any.ok_or_else(|| io::ErrorKind::NotFound.into()).and_then(File::try_clone)
    };
    for end in &pipe.ends {
        let kept = match (end.reads(), end.writes()) {
            (true, false) => ready_reader.take(),
            (false, true) => ready_writer.take(),
            _ => None,
        };
        let file = match kept {
            Some(file) => file,
            None => reopen(&source(&made, [&ready_reader, &ready_writer])?, end.flags & libc::O_ACCMODE)?,
        };
        set_status(&file, end.flags)?;
        made.push((end.object, file));
    }
    for (object, file) in made {
        host.provide(object, OwnedFd::from(file));
    }
    Ok(())
}
