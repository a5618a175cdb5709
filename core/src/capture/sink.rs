//! Where the image's bytes go: a file, by raw pwrite; and how memory is read that may fault: process_vm_readv(2), and what
//! that may not read by /proc/PID/mem, which copies everything twice.

use dmtcp_image::PAGE;
use dmtcp_image::write::Sink;
use dmtcp_plugin_api::sys::{self, Fd};

/// Bytes between two progress reports.
const REPORT: u64 = 64 << 20;

/// A file being written.
pub struct FileSink<P: FnMut(u64)> {
    file: Fd,
    memory: Option<Fd>,
    reported: u64,
    progress: P,
}

impl<P: FnMut(u64)> FileSink<P> {
    /// Writes into this file; `progress` is told the bytes done, now and then, and must not allocate.
    pub fn new(file: Fd, progress: P) -> Self {
        Self { file, memory: own_memory(), reported: 0, progress }
    }

    /// In a fork's child: from now on memory is the child's.
    pub fn after_fork(&mut self) {
        self.memory = own_memory();
    }

    /// Bytes that are free where the file is; `None` if the file system does not tell.
    pub fn room(&self) -> Option<u64> {
        sys::free_bytes(self.file.number()).ok().flatten()
    }

    /// Brings all to the disk.
    pub fn sync(&self) -> Result<(), i32> {
        sys::sync(self.file.number())
    }

    /// The file.
    pub fn into_file(self) -> Fd {
        self.file
    }
}

fn own_memory() -> Option<Fd> {
    sys::open(b"/proc/thread-self/mem", libc::O_RDONLY | libc::O_CLOEXEC, 0).ok()
}

/// Copies from this process by process_vm_readv(2): only memory that is readable, and where no sandbox forbids the call.
/// The thread stands for the process, whose first one may have ended.
fn copy_readable(address: u64, into: &mut [u8]) -> usize {
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let remote = libc::iovec { iov_base: address as *mut _, iov_len: into.len() };
    // SAFETY: `into` is valid; a bad remote address gives EFAULT.
    unsafe {
        sys::call(
            libc::SYS_process_vm_readv as i32,
            [sys::tid() as usize, (&raw const local) as usize, 1, (&raw const remote) as usize, 1, 0],
        )
    }
    .unwrap_or(0)
}

/// Copies words from this process, as far as there is readable memory; the value is how many.
pub fn copy_words(address: u64, into: &mut [u64]) -> usize {
    // SAFETY: words are bytes, and every byte is valid in a word.
    let (_, bytes, _) = unsafe { into.align_to_mut::<u8>() };
    copy_readable(address, bytes) / size_of::<u64>()
}

impl<P: FnMut(u64)> Sink for FileSink<P> {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), i32> {
        sys::write_all_at(self.file.number(), bytes, offset)
    }

    fn copy(&mut self, address: u64, into: &mut [u8]) {
        let mut done = 0;
        while done < into.len() {
            let at = address + done as u64;
            let rest = &mut into[done..];
            let mut count = copy_readable(at, rest);
            if let (0, Some(memory)) = (count, &self.memory) {
                count = sys::pread(memory.number(), rest, at).unwrap_or(0);
            }
            if count > 0 {
                done += count;
                continue;
            }
            // This page cannot be read (beyond the end of its file, a guard page): zeros stand for it.
            let next = ((at / PAGE + 1) * PAGE - address) as usize;
            let end = next.min(into.len());
            into[done..end].fill(0);
            done = end;
        }
    }

    fn set_length(&mut self, length: u64) -> Result<(), i32> {
        sys::set_length(self.file.number(), length)
    }

    fn progress(&mut self, done: u64) -> Result<(), i32> {
        if done - self.reported >= REPORT {
            self.reported = done;
            (self.progress)(done);
        }
        Ok(())
    }
}
