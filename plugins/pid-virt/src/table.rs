//! The table by which ids are translated: where it is, since when, and who notes what in it.
//!
//! ```text
//!   first run       no table: every wrapper passes its call on after one load and one comparison
//!   PRECHECKPOINT   a table, or room for one, is claimed as a mapping of an object of its own
//!   restart         the object is an empty file; if ids are translated, dmtcp_restart has noted all processes in it
//!   Placed          the table is taken up, or its room given back
//!   RESTART         each process notes its threads
//!   fork            child and parent note the child; exec: the new program finds the table by the name in its environment
//! ```
//! Ids are given by the kernel; only a task whose real id is somebody's virtual one gets another. What can go wrong: a task
//! that ends without any wrapper seeing it keeps its entry until the kernel gives its number to another task of ours. A
//! stranger who gets the number meanwhile is then reachable by it, as after any reuse of a pid.

use crate::{commands, family, signals, tcb};
use dmtcp_plugin_api::core::{Core, Level};
use dmtcp_plugin_api::ids::{LENGTH, NAME_LENGTH, PREFIX, Table, Translator};
use dmtcp_plugin_api::{headroom, ids, sys};
use std::ffi::{CStr, c_char};
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// Nobody has looked yet.
const UNKNOWN: u64 = 1;
/// Address of the table, 0: ids are what they are.
static TABLE: AtomicU64 = AtomicU64::new(UNKNOWN);
/// What the last checkpoint has claimed, 0: nothing.
static CLAIMED: AtomicU64 = AtomicU64::new(0);
/// Where a table was, and is none any more: memory of zeros, in which every id is what it is. A thread that was stopped
/// with the table in its hands goes on with it. 0: nowhere.
static FORMER_TABLE: AtomicU64 = AtomicU64::new(0);
const PAGE: u64 = 4096;
/// Counts restarts. Who was given an id by the kernel before one, and looks at it behind it, has an id of before.
pub static RESTARTS: AtomicU32 = AtomicU32::new(0);
/// The children of the last checkpoint: real id, virtual id. Where nothing was translated there are none.
static FORMER: AtomicPtr<Vec<[i32; 2]>> = AtomicPtr::new(std::ptr::null_mut());
/// The children that the last restart brought back, by their real ids and those that they are known by. One that is waited
/// for just when all stop is no child any more, and its id is still to be shown.
static BROUGHT_BACK: AtomicPtr<Vec<[i32; 2]>> = AtomicPtr::new(std::ptr::null_mut());
/// The tasks of the last checkpoint: real id, virtual id. Only those that had two.
static FORMER_TASKS: AtomicPtr<Vec<[i32; 2]>> = AtomicPtr::new(std::ptr::null_mut());
/// The youngest child of each task that had one at the last checkpoint, both by their virtual ids.
static YOUNGEST: AtomicPtr<Vec<[i32; 2]>> = AtomicPtr::new(std::ptr::null_mut());
/// Environment variable with the table's name.
const VARIABLE: &[u8] = b"DMTCP_IDS=";

unsafe extern "C" {
    static environ: *const *const c_char;
}

/// The table, if ids are translated.
#[inline(always)]
pub fn current() -> Option<Table> {
    match TABLE.load(Ordering::Acquire) {
        0 => None,
        UNKNOWN => attach(),
        // SAFETY: a table is unmapped only after the word has changed, while the application's threads are stopped.
        address => Some(unsafe { Table::mapped(address) }),
    }
}

/// How many restarts there were.
pub fn restarts() -> u32 {
    RESTARTS.load(Ordering::Acquire)
}

/// A list for hooks and wrappers; never freed: a thread that reads one may be stopped for as long as it lives.
fn noted(list: &AtomicPtr<Vec<[i32; 2]>>) -> &'static [[i32; 2]] {
    // SAFETY: as above.
    unsafe { list.load(Ordering::Acquire).as_ref() }.map_or(&[], Vec::as_slice)
}

fn note(list: &AtomicPtr<Vec<[i32; 2]>>, reals: &[i32]) {
    let pairs = current().map(|table| {
        let pairs = reals.iter().map(|real| [*real, table.known(*real).unwrap_or(*real)]);
        Box::leak(Box::new(pairs.filter(|[real, id]| real != id).collect()))
    });
    list.store(pairs.map_or(std::ptr::null_mut(), std::ptr::from_mut), Ordering::Release);
}

/// The virtual id of a child whose real id was this at the last checkpoint.
pub fn former_child(real: i32) -> i32 {
    noted(&FORMER).iter().find(|[r, _]| *r == real).map_or(real, |[_, id]| *id)
}

/// At PRECHECKPOINT: notes the children and the own tasks as they are now.
pub fn note_family(children: &[i32], tasks: &[i32]) {
    let brought_back = noted(&BROUGHT_BACK).iter().map(|[real, _]| *real);
    note(&FORMER, &children.iter().copied().chain(brought_back).collect::<Vec<_>>());
    note(&FORMER_TASKS, tasks);
}

/// At PRECHECKPOINT: notes the youngest children of tasks.
pub fn note_youngest(children: &[[i32; 2]]) {
    let shown = children.iter().map(|pair| pair.map(|id| to_virtual(id))).collect();
    YOUNGEST.store(Box::leak(Box::new(shown)), Ordering::Release);
}

/// The youngest child that a task had at the last checkpoint; 0: none.
pub fn youngest_child(task: i32) -> i32 {
    noted(&YOUNGEST).iter().find(|[of, _]| *of == task).map_or(0, |[_, child]| *child)
}

/// At RESTART: the tasks of the process by their virtual ids, with the real ids that they had and those that they have.
pub struct Moved(Vec<[i32; 3]>);

impl Moved {
    /// All that there are.
    pub fn of(core: Core) -> Self {
        let former = noted(&FORMER_TASKS);
        let real = |id: i32| former.iter().find(|[_, of]| *of == id).map_or(id, |[real, _]| *real);
        Self(core.tasks().into_iter().map(|[id, now]| [id, real(id), now]).collect())
    }

    /// Whether all have what they had.
    pub fn is_nobody(&self) -> bool {
        self.0.iter().all(|[_, former, now]| former == now)
    }

    /// The real ids, of before and of now, of the task with a virtual one.
    pub fn task(&self, id: i32) -> Option<[i32; 2]> {
        self.0.iter().find(|[of, ..]| *of == id).map(|[_, former, now]| [*former, *now])
    }

    /// The real id of now behind that of before.
    pub fn real(&self, former: i32) -> Option<i32> {
        self.0.iter().find(|[_, of, _]| *of == former).map(|[.., now]| *now)
    }
}

/// At the start of a program: its process may be known by another id than its own.
#[cold]
pub fn attach() -> Option<Table> {
    let found = open_by_name();
    if !settle(&TABLE, found) {
        return current();
    }
    let table = found?;
    note_process(table.ensure(sys::pid()));
    Some(table)
}

/// Puts what was found into the word. When two threads have looked at once, the second one's mapping goes: what belongs to
/// nobody is told of by every checkpoint.
fn settle(word: &AtomicU64, found: Option<Table>) -> bool {
    let address = found.map_or(0, |table| table.address());
    let first = word.compare_exchange(UNKNOWN, address, Ordering::AcqRel, Ordering::Acquire).is_ok();
    if !first && found.is_some() {
        let _ = sys::unmap(address, LENGTH as u64);
    }
    first
}

/// The only thread of a new process takes the process's id.
fn note_process(id: i32) {
    if sys::tid() == sys::pid() {
        tcb::set_own(id);
    }
}

fn open_by_name() -> Option<Table> {
    let digits = variable(VARIABLE).filter(|value| value.len() == NAME_LENGTH)?;
    let name = u64::from_str_radix(str::from_utf8(digits).ok()?, 16).ok().filter(|name| *name != 0)?;
    let path = format!("{PREFIX}{}", ids::name(name));
    let flags = libc::O_RDWR | libc::O_CLOEXEC | libc::O_NOFOLLOW;
    let file = sys::open(path.as_bytes(), flags, 0).ok()?;
    let status = sys::fstat(file.number()).ok()?;
    if status.st_uid != sys::user_ids()[1] || status.st_size < LENGTH as i64 {
        return None;
    }
    let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_NORESERVE);
    let address = sys::map(0, LENGTH, prot, flags, file.number(), 0).ok()?;
    // SAFETY: the file was mapped whole just now, and stays so.
    let table = unsafe { Table::at(address) };
    if table.is_none() {
        let _ = sys::unmap(address, LENGTH as u64);
    }
    table
}

/// A variable of the environment, by its name and the sign behind it.
pub fn variable(name: &[u8]) -> Option<&'static [u8]> {
    // SAFETY: the environment is a null-terminated array of zero-terminated texts, or null.
    unsafe {
        let mut at = environ;
        while !at.is_null() && !(*at).is_null() {
            if let Some(value) = CStr::from_ptr(*at).to_bytes().strip_prefix(name) {
                return Some(value);
            }
            at = at.add(1);
        }
    }
    None
}

/// The mapping for PRECHECKPOINT to claim: the table's, or as much room. The error is an errno.
pub fn claim(core: Core, object: u64) -> Result<(), i32> {
    let address = match current() {
        Some(table) => table.address(),
        None => match FORMER_TABLE.load(Ordering::Acquire) {
            0 => room()?,
            former => former,
        },
    };
    CLAIMED.store(address, Ordering::Release);
    core.claim_mapping(address, object, 0);
    Ok(())
}

/// Room for a table, that no mapping beside it can grow together with.
fn room() -> Result<u64, i32> {
    let length = LENGTH as u64 + 2 * PAGE;
    let address = headroom::map_with(length as usize, libc::PROT_NONE, libc::MAP_NORESERVE)?;
    sys::unmap(address, PAGE)?;
    sys::unmap(address + length - PAGE, PAGE)?;
    Ok(address + PAGE)
}

/// The hook for RESUME: room that was only for the image is given back.
pub fn give_back(_: Core) {
    let claimed = CLAIMED.swap(0, Ordering::AcqRel);
    let former = FORMER_TABLE.load(Ordering::Acquire);
    if claimed != 0 && claimed != former && current().is_none_or(|table| table.address() != claimed) {
        let _ = sys::unmap(claimed, LENGTH as u64);
    }
}

/// The hook for Placed: takes up what dmtcp_restart has put where the claim was.
pub fn take_up(core: Core) {
    let claimed = CLAIMED.swap(0, Ordering::AcqRel);
    RESTARTS.fetch_add(1, Ordering::AcqRel);
    let before = TABLE.swap(0, Ordering::AcqRel);
    if claimed == 0 {
        return;
    }
    let was_one = before == claimed || FORMER_TABLE.load(Ordering::Acquire) == claimed;
    if let Err(error) = sys::protect(claimed, LENGTH as u64, libc::PROT_READ | libc::PROT_WRITE) {
        core.log(Level::Error, &format!("the table of ids cannot be used: error {error}"));
        return;
    }
    // SAFETY: the restart has mapped the object there that the checkpoint had claimed it for.
    match unsafe { Table::at(claimed) } {
        Some(table) => {
            FORMER_TABLE.store(0, Ordering::Release);
            TABLE.store(table.address(), Ordering::Release);
        }
        None if was_one => keep(claimed),
        None => {
            let _ = sys::unmap(claimed, LENGTH as u64);
        }
    }
}

/// Puts zeros where a table was.
fn keep(address: u64) {
    let (prot, anonymous) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    let flags = anonymous | libc::MAP_NORESERVE | libc::MAP_FIXED;
    if sys::map(address, LENGTH, prot, flags, -1, 0).is_ok() {
        FORMER_TABLE.store(address, Ordering::Release);
    }
}

/// The hook for RESTART: notes all threads, and remembers the children.
pub fn note_tasks(core: Core) {
    if let Some(table) = current() {
        for [id, real] in core.tasks() {
            table.set(id, real);
        }
    }
    note(&BROUGHT_BACK, &family::children().unwrap_or_default());
}

/// The hook for a fork's child.
pub fn note_child(_: Core) {
    if let Some(table) = current() {
        note_process(table.ensure(sys::pid()));
    }
}

/// What the program is told of a real id; a stranger whose id is somebody else's is 0.
pub extern "C" fn to_virtual(real: i32) -> i32 {
    current().map_or(real, |table| table.shown(real).unwrap_or(0))
}

/// The real id behind a virtual one; 0: nobody is known by it.
pub extern "C" fn to_real(id: i32) -> i32 {
    current().map_or(id, |table| table.real(id).unwrap_or(0))
}

/// For the core and other plugins.
pub static TRANSLATOR: Translator = Translator {
    size: size_of::<Translator>(),
    to_virtual,
    to_real,
    waits_again: commands::waits_again,
    handler_behind: signals::handler_behind,
};

#[cfg(test)]
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a test is a program of its own")]
mod tests {
    use super::*;

    /// A program that is executed is looked at by its first thread and by ours at the same time.
    #[test]
    fn threads_that_look_at_once_leave_one_mapping() {
        let path = format!("{PREFIX}unit-test-{}", std::process::id());
        let file = std::fs::File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        file.set_len(LENGTH as u64).unwrap();
        let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_NORESERVE);
        let number = std::os::fd::AsRawFd::as_raw_fd(&file);
        // SAFETY: the file is mapped whole.
        let look = || Some(unsafe { Table::mapped(sys::map(0, LENGTH, prot, flags, number, 0).unwrap()) });
        let (first, second) = (look(), look());
        let word = AtomicU64::new(UNKNOWN);
        assert!(settle(&word, first));
        assert!(!settle(&word, second));
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        std::fs::remove_file(&path).unwrap();
        let there: Vec<&str> = maps.lines().filter(|line| line.ends_with(&path)).collect();
        assert_eq!(there.len(), 1, "{maps}");
        assert!(there[0].starts_with(&format!("{:x}-", word.load(Ordering::Acquire))), "{maps}");
    }
}
