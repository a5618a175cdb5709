//! Makes images by hand, and a coordinator that agrees to everything.

use dmtcp_image::plan::{Contents, Plan, Source};
use dmtcp_image::record::{Identity, Region, Restore, Thread, flag, kind};
use dmtcp_image::write::{Sink, write};
use dmtcp_protocol::auth::{Key, Side};
use dmtcp_protocol::frame;
use dmtcp_protocol::message::{Challenge, ComputationId, FromClient, FromCoordinator, Hello};
use std::arch::global_asm;
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::process::{Command, Output};

/// Exit code of a process that found its memory as it should be.
pub const OK: i32 = 42;
/// Exit code of one that did not.
pub const MISMATCH: i32 = 43;

global_asm!(
    ".pushsection .text.fabricated, \"ax\", @progbits",
    "fabricated_code_start:",
    "ret",
    ".balign 16",
    // (rdi: slot {start, words, sum, tells, timespec}, rsi: handoff)
    "mov rbx, rdi",
    "mov r8, [rdi]",
    "mov rcx, [rdi + 8]",
    "xor edx, edx",
    ".Lfabricated_add:",
    "add rdx, [r8]",
    "add r8, 8",
    "dec rcx",
    "jnz .Lfabricated_add",
    "cmp rdx, [rdi + 16]",
    "jne .Lfabricated_wrong",
    "lock inc dword ptr [rsi + 20]",
    "cmp qword ptr [rdi + 24], 0",
    "je .Lfabricated_exit",
    ".Lfabricated_wait:",
    "mov eax, 24",
    "syscall",
    "mov eax, [rsi + 12]",
    "cmp eax, [rsi + 20]",
    "jne .Lfabricated_wait",
    "mov eax, 1",
    "mov edi, 1",
    "lea rsi, [rip + .Lfabricated_text]",
    "mov edx, 6",
    "syscall",
    "lea rdi, [rbx + 32]",
    "xor esi, esi",
    "mov eax, 35",
    "syscall",
    "mov edi, 42",
    "mov eax, 231",
    "syscall",
    ".Lfabricated_wrong:",
    "mov edi, 43",
    "mov eax, 231",
    "syscall",
    ".Lfabricated_exit:",
    "xor edi, edi",
    "mov eax, 60",
    "syscall",
    ".Lfabricated_text:",
    ".ascii \"alive\\n\"",
    "fabricated_code_end:",
    ".popsection",
);

/// Machine code of the restored "core": `enter_process` at 0, `enter_task` at 16.
fn code() -> &'static [u8] {
    unsafe extern "C" {
        static fabricated_code_start: u8;
        static fabricated_code_end: u8;
    }
    let start = &raw const fabricated_code_start;
    // SAFETY: the assembly below defines both symbols in one section, in this order.
    unsafe { std::slice::from_raw_parts(start, (&raw const fabricated_code_end).offset_from(start) as usize) }
}

const CODE: u64 = 0x2000_0000_0000;
const SLOTS: u64 = 0x2000_0010_0000;
const DATA: u64 = 0x2100_0012_3000;
const RESERVATION: u64 = 0x2800_0000_0000;
const SPARSE: u64 = 0x4000_0000_0000;
const PAGE: u64 = 4096;
/// Pid that the processes had: not one that exists, and they come back without asking for it.
const PID: i32 = 400_000;

struct FileSink<'a>(&'a File);

impl Sink for FileSink<'_> {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), i32> {
        self.0.write_all_at(bytes, offset).map_err(|_| libc::EIO)
    }
    fn copy(&mut self, _: u64, _: &mut [u8]) {
        unreachable!("no extent asks for a copy")
    }
    fn set_length(&mut self, length: u64) -> Result<(), i32> {
        self.0.set_len(length).map_err(|_| libc::EIO)
    }
    fn progress(&mut self, _: u64) -> Result<(), i32> {
        Ok(())
    }
}

/// An image in the making, and the directory that it is in.
pub struct Fabric {
    directory: PathBuf,
    data: Vec<u8>,
    summed: usize,
    threads: usize,
    first_ended: bool,
    wrong_sum: bool,
    vdso: bool,
    processes: usize,
    extra: Vec<(Region, Vec<(u64, u64)>)>,
}

impl Drop for Fabric {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn region(start: u64, length: u64, prot: i32, kind: u32, flags: u64) -> Region {
    Region {
        start,
        end: start + length,
        offset: 0,
        inode: 0,
        object: 0,
        flags,
        dev_major: 0,
        dev_minor: 0,
        prot: prot as u32,
        kind,
        name_offset: 0,
        name_length: 0,
    }
}

impl Fabric {
    /// An image in a directory of its own.
    pub fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("dmtcp-fabric-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        Self {
            directory,
            data: Vec::new(),
            summed: usize::MAX,
            threads: 1,
            first_ended: false,
            wrong_sum: false,
            vdso: false,
            processes: 1,
            extra: Vec::new(),
        }
    }

    /// With so many bytes that no pattern fills, and a hole.
    pub fn data(mut self, length: usize) -> Self {
        let mut state = 1u64;
        let word = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_le_bytes()
        };
        self.data = std::iter::repeat_with(word).take(length / 8).flatten().collect();
        let third = length / 3;
        self.data[third..third + third / 2].fill(0);
        self
    }

    /// Of which each thread adds up only so many.
    pub fn summed(mut self, length: usize) -> Self {
        self.summed = length;
        self
    }

    /// With so many threads.
    pub fn threads(mut self, count: usize) -> Self {
        self.threads = count;
        self
    }

    /// The first of which had ended.
    pub fn first_ended(mut self) -> Self {
        self.first_ended = true;
        self
    }

    /// Whose sum is not right.
    pub fn wrong_sum(mut self) -> Self {
        self.wrong_sum = true;
        self
    }

    /// With this kernel's vdso at another place.
    pub fn vdso(mut self) -> Self {
        self.vdso = true;
        self
    }

    /// Of so many processes: the first one, and children of that.
    pub fn family(mut self, processes: usize) -> Self {
        self.processes = processes;
        self
    }

    /// With address space that was only reserved.
    pub fn reservation(mut self, length: u64) -> Self {
        self.extra.push((region(RESERVATION, length, 0, kind::ANONYMOUS, flag::NORESERVE), Vec::new()));
        self
    }

    /// With a region of which two pages are stored.
    pub fn sparse(mut self, length: u64) -> Self {
        let region = region(SPARSE, length, 3, kind::ANONYMOUS, flag::NORESERVE);
        self.extra.push((region, vec![(SPARSE, PAGE), (SPARSE + length - PAGE, PAGE)]));
        self
    }

    /// The image of a process.
    pub fn image_of(&self, process: usize) -> PathBuf {
        self.directory.join(format!("ckpt_fabric_{}.dmtcp", process + 1))
    }

    /// Writes the images that are not there.
    fn write(&self) {
        for process in 0..self.processes {
            if !self.image_of(process).exists() {
                self.write_image(process);
            }
        }
    }

    fn write_image(&self, process: usize) {
        let summed = &self.data[..self.summed.min(self.data.len())];
        let words = summed.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap()));
        let sum = words.fold(0u64, u64::wrapping_add).wrapping_add(u64::from(self.wrong_sum));
        let mut slots = Vec::new();
        let mut threads = Vec::new();
        let teller = usize::from(self.first_ended);
        for index in 0..self.threads {
            let slot = SLOTS + (slots.len() * 8) as u64;
            // A process that ends before all others have come back would be missed.
            let rest = if self.processes > 1 { 200_000_000 } else { 0 };
            slots.extend([DATA, (summed.len() / 8) as u64, sum, u64::from(index == teller), 0, rest]);
            let role = if index == 0 && self.first_ended { 2 } else { 0 };
            let tid = PID + (1000 * process + index) as i32;
            threads.push(Thread { tid, role, slot, name: [0; 16] });
        }
        let slots: Vec<u8> = slots.into_iter().flat_map(u64::to_le_bytes).collect();
        let padded = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            bytes.resize(bytes.len().next_multiple_of(PAGE as usize), 0);
            bytes
        };
        let (code, slots, data) = (padded(code()), padded(&slots), padded(&self.data));
        let page = vec![1u8; PAGE as usize];
        let mut regions = vec![
            region(CODE, code.len() as u64, 5, kind::ANONYMOUS, 0),
            region(SLOTS, slots.len() as u64, 3, kind::ANONYMOUS, 0),
            region(DATA, data.len() as u64, 3, kind::ANONYMOUS, 0),
        ];
        // Where the bytes are now, and where they shall be.
        let mut stored: Vec<(&[u8], u64)> = vec![(&code, CODE), (&slots, SLOTS), (&data, DATA)];
        for (extra, pages) in &self.extra {
            regions.push(*extra);
            stored.extend(pages.iter().map(|(at, _)| (&page[..], *at)));
        }
        let mut restore: Restore = bytemuck::Zeroable::zeroed();
        restore.enter_process = CODE;
        restore.enter_task = CODE + 16;
        restore.state_in_use = 1;
        let maps = dmtcp_restart::gaps::current().unwrap();
        let current = dmtcp_restart::vdso::Current::among(&maps).unwrap();
        if self.vdso {
            let at = 0x6000_0000_0000;
            let vdso = region(at, current.vdso.end - current.vdso.start, 5, kind::VDSO, 0);
            restore.vdso_start = at;
            restore.vdso_length = vdso.end - at;
            restore.vvar_length = current.vdso.start - current.span().start;
            restore.vvar_start = at - restore.vvar_length;
            regions.push(region(restore.vvar_start, restore.vvar_length, 1, kind::VVAR, 0));
            regions.push(vdso);
            stored.push((current.bytes(), at));
        }
        let identity = Identity {
            computation: format!("{:032x}", 0xfab),
            generation: 1,
            processes: self.processes as u32,
            process: format!("{:032x}", process + 1),
            pid: PID + 1000 * process as i32,
            ppid: if process == 0 { 1 } else { PID },
            pgid: 1,
            sid: 1,
            uid: nix::unistd::geteuid().as_raw(),
            exe: "/bin/sh".into(),
            ..Identity::default()
        };
        let contents = Contents {
            identity: serde_json::to_vec(&identity).unwrap(),
            restore: Some(restore),
            regions,
            threads,
            extents: stored
                .iter()
                .map(|(_, at)| *at)
                .zip(&stored)
                .map(|(at, (bytes, _))| {
                    (Source { address: at, length: bytes.len() as u64, copy: false, shared: false }, false)
                })
                .collect(),
            ..Contents::default()
        };
        let mut plan = Plan::new(&contents);
        // The plan has the addresses of the process that is made up; the bytes are here.
        for ((source, _), (bytes, _)) in plan.extents.iter_mut().zip(&stored) {
            source.address = bytes.as_ptr() as u64;
        }
        let file = File::create(self.image_of(process)).unwrap();
        // SAFETY: the sources are the slices above, which nobody changes.
        unsafe { write(&mut plan, &mut FileSink(&file), &mut vec![0; dmtcp_image::CHUNK as usize], &[]) }.unwrap();
    }

    /// Turns a bit of the stored memory of the last process around.
    pub fn damage(&self) {
        self.write();
        let path = self.image_of(self.processes - 1);
        let image = dmtcp_image::read::Image::open(&path).unwrap();
        let extent = image.extents.iter().find(|extent| extent.address == DATA).unwrap();
        let file = File::options().read(true).write(true).open(path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, extent.offset + 77).unwrap();
        file.write_all_at(&[byte[0] ^ 1], extent.offset + 77).unwrap();
    }

    /// Runs dmtcp_restart with these arguments and nothing else.
    pub fn plain(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_dmtcp_restart")).args(arguments).output().unwrap()
    }

    /// Restarts the image; the time is from the start to the process' end.
    pub fn timed(&self, flags: &[&str]) -> (Output, std::time::Duration) {
        self.write();
        let before = std::time::Instant::now();
        let outcome = self.restart(flags, &[]);
        (outcome, before.elapsed())
    }

    /// Restarts the image with a coordinator that agrees to everything.
    pub fn restart(&self, flags: &[&str], environment: &[(&str, &str)]) -> Output {
        self.restart_images(flags, environment, &[0])
    }

    /// Restarts the images of these processes, in this order.
    pub fn restart_images(&self, flags: &[&str], environment: &[(&str, &str)], processes: &[usize]) -> Output {
        self.write();
        let key_file = self.directory.join("key");
        let key = Key::new([7; 32]);
        if !key_file.exists() {
            let mut file = File::options().create_new(true).write(true).mode(0o600).open(&key_file).unwrap();
            file.write_all(key.to_text().as_bytes()).unwrap();
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || coordinate(&listener, &key));
        Command::new(env!("CARGO_BIN_EXE_dmtcp_restart"))
            .args(["--join-coordinator", "--coord-port", &port.to_string()])
            .args(flags)
            .args(processes.iter().map(|process| self.image_of(*process)))
            .env("DMTCP_COORD_KEY_FILE", &key_file)
            .env("DMTCP_TMPDIR", &self.directory)
            .envs(environment.iter().copied())
            .output()
            .unwrap()
    }
}

fn coordinate(listener: &TcpListener, key: &Key) {
    let Ok((mut stream, _)) = listener.accept() else { return };
    let mut received = Vec::new();
    let mut chunk = [0; 4096];
    let mut client = None;
    while let Ok(count @ 1..) = stream.read(&mut chunk) {
        received.extend_from_slice(&chunk[..count]);
        if client.is_none()
            && let Ok(Some(Hello { nonce })) = frame::take(&mut received)
        {
            client = Some(nonce);
            let own = [9; 16];
            let proof = key.prove(Side::Coordinator, &nonce, &own);
            stream.write_all(&frame::encode(&Challenge { nonce: own, proof })).unwrap();
            continue;
        }
        // An answer to the challenge is not a message of this type; what follows it is.
        let Ok(length) = received.first_chunk().ok_or(()).and_then(|h| frame::payload_length(h).map_err(drop)) else {
            continue;
        };
        if length == 32 && received.len() >= frame::HEADER + length {
            received.drain(..frame::HEADER + length);
        }
        if let Ok(Some(FromClient::Restart { .. })) = frame::take(&mut received) {
            let welcome =
                FromCoordinator::Welcome { computation: ComputationId(0xfab), peers: 0, since: 0, asks: false };
            stream.write_all(&frame::encode(&welcome)).unwrap();
        }
    }
}
