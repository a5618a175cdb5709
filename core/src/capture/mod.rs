//! The process as an image: its mappings, what of them is stored, its threads' registers, the notes for debuggers.
//!
//! ```text
//!   maps::read -> regions + extents + notes -> Plan -> (maps unchanged?) -> write
//! ```
//! Planning allocates, and allocation may add mappings, so the plan is made again until the mappings that it was made from
//! are still those of the process. From then on until the image is written nothing is allocated: the memory of this
//! library is part of what is written.

pub mod cpu;
pub mod heap;
mod keys;
pub mod maps;
pub mod marks;
mod notes;
mod pages;
pub mod policy;
pub mod sink;

use crate::config;
use crate::host::description::Description;
use crate::threads::{self, slot::Slot};
use dmtcp_image::codec::Method;
use dmtcp_image::plan::{Contents, Plan, Source};
use dmtcp_image::processor;
use dmtcp_image::record::{Region, Restore, Thread, flag, kind};
use dmtcp_plugin_api::{proc_files, sys};
use maps::Mapping;
use pages::Pagemap;
use std::sync::atomic::{AtomicU64, Ordering};

pub use sink::FileSink;

static VDSO_START: AtomicU64 = AtomicU64::new(0);
static VDSO_END: AtomicU64 = AtomicU64::new(0);

/// Notes where the vdso is, so that a signal handler can tell.
pub fn note_vdso() {
    const PT_LOAD: u32 = 1;
    // SAFETY: getauxval only looks; the vdso is an ELF image that the kernel maps whole, headers first.
    unsafe {
        let start = libc::getauxval(libc::AT_SYSINFO_EHDR);
        if start == 0 {
            return;
        }
        let header = &*(start as *const libc::Elf64_Ehdr);
        let segments = (start + header.e_phoff) as *const libc::Elf64_Phdr;
        let length = (0..usize::from(header.e_phnum))
            .map(|i| &*segments.add(i))
            .filter(|s| s.p_type == PT_LOAD)
            .map(|s| s.p_offset + s.p_memsz)
            .max()
            .unwrap_or(0);
        VDSO_END.store(start + length, Ordering::Release);
        VDSO_START.store(start, Ordering::Release);
    }
}

/// Notes where it is after a restart. That of another kernel, or one that may not be moved, is not where libc knows it: what
/// libc knows is ordinary memory now, which leads there.
pub fn note_vdso_again() -> Result<(), i32> {
    let (start, end) = maps::vdso()?.unwrap_or_default();
    VDSO_END.store(end, Ordering::Release);
    VDSO_START.store(start, Ordering::Release);
    Ok(())
}

/// Whether a PC is inside the vdso.
pub fn in_vdso(pc: u64) -> bool {
    pc >= VDSO_START.load(Ordering::Acquire) && pc < VDSO_END.load(Ordering::Acquire)
}

/// Memory of ours that changes while the image is written, or must not be in it.
#[derive(Clone, Copy, Debug)]
pub struct OwnMemory {
    /// The checkpoint thread's stack, with its thread control block.
    pub stack: (u64, u64),
    /// The buffer that unsafe bytes are copied to: not in the image.
    pub buffer: (u64, u64),
}

/// What the image tells of the process beyond its memory; rendered by the caller.
pub struct Facts {
    /// JSON of the identity.
    pub identity: Vec<u8>,
    /// Where restart enters.
    pub enter_process: u64,
    /// The checkpoint thread's slot.
    pub checkpoint_slot: &'static Slot,
}

/// Ranges that change while the image is written: this thread's stack, and the rseq areas of parked threads, which the
/// kernel writes when it moves one to another CPU.
pub fn volatile(own: &OwnMemory) -> Vec<(u64, u64)> {
    let mut out = vec![own.stack];
    for slot in threads::parked() {
        // SAFETY: the thread is parked.
        let area = unsafe { slot.saved() }.rseq;
        if area != 0 {
            out.push((area, area + threads::RSEQ_LENGTH as u64));
        }
    }
    out
}

fn region_kind(mapping: &Mapping, claimed: bool) -> u32 {
    match &mapping.name[..] {
        b"[vdso]" => kind::VDSO,
        name if name.starts_with(b"[vvar") => kind::VVAR,
        _ if claimed => kind::OBJECT,
        _ if mapping.flags & flag::DROPPABLE != 0 => kind::EMPTY,
        _ if mapping.shared => kind::ORPHAN,
        // The kernel gives memory of the hugetlb pool a file that nobody else can name.
        name if name.starts_with(b"/anon_hugepage") => kind::ANONYMOUS,
        _ if mapping.inode != 0 => kind::PRIVATE_FILE,
        _ => kind::ANONYMOUS,
    }
}

/// Adds memory to what is stored, if there is any.
fn push_extent(contents: &mut Contents, start: u64, end: u64, copy: bool, shared: bool) {
    if start < end {
        contents.extents.push((Source { address: start, length: end - start, copy, shared }, false));
    }
}

/// Lays the image out. The plan is consistent with the mappings that it returns the text of.
fn plan_once(
    description: &mut Description,
    facts: &Facts,
    own: &OwnMemory,
    pagemap: &Pagemap,
) -> Result<(Plan, Vec<u8>), String> {
    marks::probe();
    let text = maps::text().map_err(no_smaps)?;
    let mappings = maps::parse(&text);
    let has_keys = marks::look(&mappings, pagemap);
    let method = config::config().map_or(Method::None, |c| c.compress);
    let mut contents = Contents { identity: facts.identity.clone(), method, ..Contents::default() };
    let mut restore = restore_record(facts);
    let mut holes: Vec<(u64, u64)> = description.excluded.iter().copied().chain([own.buffer]).collect();
    holes.sort_unstable();
    for mapping in &mappings {
        if mapping.name == b"[vsyscall]" || (mapping.start >= own.buffer.0 && mapping.end <= own.buffer.1) {
            continue;
        }
        let claim = description.claims.iter().find(|c| c.start == mapping.start);
        let kind = region_kind(mapping, claim.is_some());
        match kind {
            kind::VDSO => {
                restore.vdso_start = mapping.start;
                restore.vdso_length = mapping.end - mapping.start;
            }
            kind::VVAR => {
                if restore.vvar_start == 0 {
                    restore.vvar_start = mapping.start;
                }
                restore.vvar_length = mapping.end - restore.vvar_start;
            }
            kind::ORPHAN => description.unsupported.push(format!(
                "shared memory at {:#x} ({}): no plugin supports it; it will come back as a private copy",
                mapping.start,
                String::from_utf8_lossy(&mapping.name)
            )),
            _ => {}
        }
        contents.regions.push(Region {
            start: mapping.start,
            end: mapping.end,
            offset: claim.map_or(mapping.offset, |c| c.offset),
            inode: mapping.inode,
            object: claim.map_or(0, |c| c.object),
            flags: mapping.flags,
            dev_major: mapping.dev_major,
            dev_minor: mapping.dev_minor,
            prot: mapping.prot,
            kind,
            name_offset: contents.names.len() as u32,
            name_length: mapping.name.len() as u32,
        });
        contents.names.extend_from_slice(&mapping.name);
        // What the kernel itself may not read (memfd_secret) is read as any program reads it.
        let secret = kind == kind::ORPHAN && mapping.name.starts_with(b"/secretmem");
        let safe = kind == kind::ANONYMOUS && mapping.flags & flag::GUARDS == 0;
        let plain = mapping.prot & 1 != 0 && (safe || secret);
        let shared = kind == kind::ORPHAN || mapping.flags & (flag::DONTFORK | flag::WIPEONFORK) != 0;
        let mut store = |start: u64, end: u64| {
            // What lies between the holes: the buffer may have grown together with its neighbours.
            let mut at = start;
            for &(a, b) in holes.iter().filter(|(a, b)| kind == kind::ANONYMOUS && *a < end && start < *b) {
                push_extent(&mut contents, at, a.min(end), !plain, shared);
                at = at.max(b);
            }
            push_extent(&mut contents, at, end, !plain, shared);
        };
        match kind {
            kind::VDSO | kind::PRIVATE_FILE => store(mapping.start, mapping.end),
            kind::ANONYMOUS | kind::ORPHAN => pagemap.populated(mapping, &mut store),
            _ => {}
        }
    }
    for (plugin, name, address, length) in &description.blobs {
        contents.blobs.push((plugin.clone(), name.clone(), contents.extents.len()));
        let source = Source { address: *address, length: *length, copy: true, shared: true };
        contents.extents.push((source, true));
    }
    contents.sections = std::mem::take(&mut description.sections);
    let parked = threads::parked();
    contents.threads = thread_records(&parked, facts.checkpoint_slot);
    (restore.xstate_size, restore.state_in_use) = notes::threads(&parked, &mut contents.debugger);
    if !has_keys {
        // The rights of keys that nobody has are in use in each thread: the kernel denies them.
        restore.state_in_use &= !processor::KEY_RIGHTS;
    }
    notes::process(&mappings, &parked, &mut contents.debugger);
    contents.restore = Some(restore);
    let plan = Plan::new(&contents);
    description.sections = contents.sections;
    Ok((plan, text))
}

fn no_smaps(error: i32) -> String {
    format!("/proc/PID/smaps cannot be read (errno {error})")
}

/// How often the plan is made again before it is given up; each time the arenas have grown to what the last one took.
const TRIES: usize = 8;

/// Lays the image out for good.
pub fn plan(description: &mut Description, facts: &Facts, own: &OwnMemory) -> Result<Plan, String> {
    let unsupported = description.unsupported.len();
    let mut swaps = false;
    for _ in 0..TRIES {
        description.unsupported.truncate(unsupported);
        let pagemap = Pagemap::open(!swaps);
        let (plan, text) = plan_once(description, facts, own, &pagemap)?;
        let sure = pagemap.is_sure().map_err(no_smaps)?;
        swaps |= !sure;
        if sure && maps::same_layout(&text)? {
            return Ok(plan);
        }
    }
    Err("the mappings of the process do not stay as they are although all its threads are stopped".into())
}

fn thread_records(parked: &[&'static Slot], checkpoint: &'static Slot) -> Vec<Thread> {
    const ENDED: u32 = 2;
    let mut out = Vec::with_capacity(parked.len() + 2);
    let pid = threads::known_process();
    if parked.first().is_none_or(|s| s.known() != pid) {
        out.push(Thread { tid: pid, role: ENDED, slot: 0, name: [0; 16] });
    }
    for slot in parked {
        // SAFETY: the thread is parked.
        let name = unsafe { slot.saved() }.name;
        out.push(Thread { tid: slot.known(), role: 0, slot: slot.address(), name });
    }
    // SAFETY: the calling thread is the checkpoint thread, whose slot this is.
    let name = unsafe { checkpoint.saved() }.name;
    out.push(Thread { tid: checkpoint.known(), role: 1, slot: checkpoint.address(), name });
    out
}

/// The fields of `struct prctl_mm_map` from /proc/PID/stat, and the rest that restart needs.
fn restore_record(facts: &Facts) -> Restore {
    let stat = proc_files::read_file("/proc/thread-self/../../stat").unwrap_or_default();
    let fields: Vec<u64> = proc_files::stat_fields(&stat).map(|w| w.parse().unwrap_or(0)).collect();
    // Fields count from 1 in proc(5); the first of `fields` is number 3.
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0);
    let personality = unsafe {
        // SAFETY: 0xffffffff only asks.
        sys::call(libc::SYS_personality as i32, [0xffff_ffff, 0, 0, 0, 0, 0])
    };
    Restore {
        enter_process: facts.enter_process,
        enter_task: threads::enter_task_address(),
        mm: [
            field(26),
            field(27),
            field(45),
            field(46),
            field(47),
            heap::note_end(),
            field(28),
            field(48),
            field(49),
            field(50),
            field(51),
        ],
        vdso_start: 0,
        vdso_length: 0,
        vvar_start: 0,
        vvar_length: 0,
        state_in_use: 0,
        xcomp_perm: cpu::xcomp_permission(),
        xstate_size: 0,
        personality: personality.unwrap_or(0) as u64,
    }
}
