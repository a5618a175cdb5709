//! CPU state beyond the general registers: what the frames may hold, and what a new task needs before it can take it.
//!
//! The kernel writes a frame's state in XSAVE's standard format, whose offsets are the processor's own. Where a restart
//! finds others, or lacks components that were not in use, [`fit`] gives the frame a state in the format of the machine
//! that it is on: the kernel would take a frame that it does not understand for one without vector registers.
//!
//! ```text
//!   0         464                512                576
//!   | legacy  | struct _fpx_sw_bytes | header: in use | component | component ... | magic |
//! ```
//! Frames of handlers that the application was in are the application's memory, and stay as they are.

use dmtcp_image::processor::{self, Component};
use dmtcp_plugin_api::sys;
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU64, Ordering};

const ARCH_GET_XCOMP_PERM: usize = 0x1022;
const ARCH_REQ_XCOMP_PERM: usize = 0x1023;
/// State component 18: AMX tile data, the only one that needs a permission.
const TILE_DATA: usize = 18;
/// Offsets in the legacy FPU area of a signal frame (kernel: `struct _fpx_sw_bytes`).
const FRAME_MAGIC: usize = 464;
const FRAME_EXTENDED_SIZE: usize = 468;
const FRAME_COMPONENTS: usize = 472;
const FRAME_SIZE: usize = 480;
const XSTATE_MAGIC: u32 = 0x4650_5853;
/// Behind the last component (FP_XSTATE_MAGIC2).
const END_MAGIC: u32 = 0x4650_5845;
/// The XSAVE header: the components that are in use, and where the others start.
const HEADER: usize = 512;
const COMPONENTS_FROM: usize = 576;
/// Components 0 and 1 are the legacy state; 18 is the last that a frame may hold.
const NUMBERS: usize = 19;
/// Room for a state that [`fit`] makes anew; dmtcp_restart refuses images whose state would need more.
pub const ROOM: usize = dmtcp_image::processor::FIT_ROOM;
/// A frame larger than this has room for AMX tiles.
const TILES_FROM: u32 = 8192;

static PERMISSION: AtomicU64 = AtomicU64::new(0);

/// Where the components are: in the frames of the image, and on this machine.
struct Layouts {
    then: [Option<Component>; NUMBERS],
    now: [Option<Component>; NUMBERS],
    enabled: u64,
}

struct Shared(UnsafeCell<Layouts>);
// SAFETY: written by the checkpoint thread while all others are parked, and by the first task of a restored process before
// any other runs; read by tasks after that.
unsafe impl Sync for Shared {}

static LAYOUTS: Shared = Shared(UnsafeCell::new(Layouts { then: [None; NUMBERS], now: [None; NUMBERS], enabled: 0 }));

/// A processor's state, as a place to build one for a frame.
#[repr(C, align(64))]
pub struct State(pub [u8; ROOM]);

fn here() -> [Option<Component>; NUMBERS] {
    let mut list = [None; NUMBERS];
    for component in processor::components(u64::MAX) {
        if let Some(place) = list.get_mut(component.number as usize) {
            *place = Some(component);
        }
    }
    list
}

/// Notes for [`fit`] where this processor has its components, and gives the list.
pub fn note_layout() -> Vec<Component> {
    let list = here();
    // SAFETY: all other threads are parked.
    unsafe { (*LAYOUTS.0.get()).then = list };
    list.into_iter().flatten().collect()
}

/// In a restored process, before its tasks run: looks where this machine has them.
pub fn look_again() {
    // SAFETY: no other task runs yet.
    let layouts = unsafe { &mut *LAYOUTS.0.get() };
    layouts.now = here();
    layouts.enabled = processor::enabled_state();
}

/// Makes the frame's state one that this machine can load; `room` must stay until the frame has been returned from.
pub fn fit(frame: u64, room: &mut State) {
    // SAFETY: written before any task of this process ran.
    let layouts = unsafe { &*LAYOUTS.0.get() };
    let state = state_of(frame);
    let (size, mask) = shape(state);
    if size as usize <= COMPONENTS_FROM {
        return;
    }
    // SAFETY: the frame's state is `size` bytes long, and nobody else uses it.
    let old = unsafe { std::slice::from_raw_parts(state, size as usize) };
    if rebuild(old, mask, layouts, &mut room.0) {
        // SAFETY: `frame` is the ucontext of a signal frame, which only this task uses.
        unsafe { (*(frame as *mut libc::ucontext_t)).uc_mcontext.fpregs = room.0.as_mut_ptr().cast() };
    }
}

/// Builds in `room` the state `old`, which holds the components of `mask`, for this machine; false: it is good as it is,
/// or the room is too small.
fn rebuild(old: &[u8], mask: u64, layouts: &Layouts, room: &mut [u8; ROOM]) -> bool {
    let kept = mask & layouts.enabled;
    let beyond = |mask: u64| (2..NUMBERS).filter(move |number| mask & 1 << number != 0);
    if kept == mask && beyond(mask).all(|number| layouts.then[number] == layouts.now[number]) {
        return false;
    }
    let end = |component: Component| (component.offset + component.size) as usize;
    let ends = beyond(kept).filter_map(|number| layouts.now[number]).map(end);
    let length = ends.max().unwrap_or(0).max(COMPONENTS_FROM);
    if length + size_of::<u32>() > ROOM {
        return false;
    }
    let word = |at: usize| old.get(at..at + 8).and_then(|x| x.try_into().ok()).map_or(0, u64::from_le_bytes);
    let in_use = word(HEADER) & kept;
    room.fill(0);
    room[..HEADER].copy_from_slice(&old[..HEADER]);
    room[HEADER..HEADER + 8].copy_from_slice(&in_use.to_le_bytes());
    for number in beyond(in_use) {
        let (Some(then), Some(now)) = (layouts.then[number], layouts.now[number]) else { continue };
        let from = old.get(then.offset as usize..end(then));
        let into = room.get_mut(now.offset as usize..end(now));
        if let (Some(from), Some(into), true) = (from, into, then.size == now.size) {
            into.copy_from_slice(from);
        }
    }
    let mut put = |at: usize, bytes: &[u8]| room[at..at + bytes.len()].copy_from_slice(bytes);
    put(FRAME_EXTENDED_SIZE, &(length as u32 + 4).to_le_bytes());
    put(FRAME_COMPONENTS, &kept.to_le_bytes());
    put(FRAME_SIZE, &(length as u32).to_le_bytes());
    put(length, &END_MAGIC.to_le_bytes());
    true
}

/// Dynamic state components that the process may use; noted for [`regain_permission`] too.
pub fn xcomp_permission() -> u64 {
    let mut value = 0u64;
    // SAFETY: the kernel writes one word.
    let _ =
        unsafe { sys::call(libc::SYS_arch_prctl as i32, [ARCH_GET_XCOMP_PERM, (&raw mut value) as usize, 0, 0, 0, 0]) };
    PERMISSION.store(value, Ordering::Release);
    value
}

/// After a restart: asks again for what the process was permitted.
pub fn regain_permission() {
    if PERMISSION.load(Ordering::Acquire) & 1 << TILE_DATA != 0 {
        // SAFETY: no memory is passed.
        let _ = unsafe { sys::call(libc::SYS_arch_prctl as i32, [ARCH_REQ_XCOMP_PERM, TILE_DATA, 0, 0, 0, 0]) };
    }
}

/// Address of the CPU state in a signal frame.
pub fn state_of(frame: u64) -> *const u8 {
    // SAFETY: `frame` is the ucontext of a signal frame.
    unsafe { (*(frame as *const libc::ucontext_t)).uc_mcontext.fpregs.cast::<u8>().cast_const() }
}

/// Size and component mask of the CPU state in a frame: (512, 3) if it is the legacy state only.
pub fn shape(state: *const u8) -> (u32, u64) {
    if state.is_null() {
        return (0, 0);
    }
    // SAFETY: the state is at least 512 bytes long, the software part at its end.
    unsafe {
        let word = |at: usize| state.add(at).cast::<u32>().read_unaligned();
        if word(FRAME_MAGIC) != XSTATE_MAGIC {
            return (512, 3);
        }
        (word(FRAME_SIZE), state.add(FRAME_COMPONENTS).cast::<u64>().read_unaligned())
    }
}

/// The components beyond the legacy state that a frame's state of that size has in use.
pub fn in_use(state: &[u8]) -> u64 {
    let header = state.get(HEADER..HEADER + 8).and_then(|x| x.try_into().ok());
    header.map_or(0, u64::from_le_bytes)
}

/// Makes the kernel give the calling task room for AMX tiles if its frame holds some. Without it the kernel falls back to
/// the legacy state for such a frame, and the upper halves of the vector registers are lost without an error.
pub fn prime(frame: u64) {
    if shape(state_of(frame)).0 <= TILES_FROM {
        return;
    }
    #[repr(C, align(64))]
    struct TileConfig([u8; 64]);
    let mut config = TileConfig([0; 64]);
    config.0[0] = 1; // palette
    config.0[16] = 64; // bytes per row of tile 0
    config.0[48] = 1; // rows of tile 0
    // SAFETY: the frame shows that the process may use AMX; the tiles come back from the frame afterwards.
    unsafe {
        core::arch::asm!(
            ".byte 0xc4, 0xe2, 0x78, 0x49, 0x00", // ldtilecfg [rax]
            ".byte 0xc4, 0xe2, 0x7b, 0x49, 0xc0", // tilezero tmm0
            ".byte 0xc4, 0xe2, 0x78, 0x49, 0xc0", // tilerelease
            in("rax") (&raw const config),
            options(nostack),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn component(number: u32, offset: u32, size: u32) -> Option<Component> {
        Some(Component { number, offset, size })
    }

    /// A state in the format of a processor that has AVX-512 at 1088, protection keys behind it, both in use.
    fn from_elsewhere() -> (Vec<u8>, u64, Layouts) {
        let mut then = [None; NUMBERS];
        then[2] = component(2, 576, 256);
        then[5] = component(5, 1088, 64);
        then[9] = component(9, 2688, 8);
        let mut now = then;
        now[5] = component(5, 832, 64);
        now[9] = None;
        let mask = 0b10_0010_0111;
        let mut state = vec![0u8; 2700];
        state[HEADER..HEADER + 8].copy_from_slice(&(mask & !4u64).to_le_bytes());
        state[1088..1152].fill(5);
        state[2688..2696].fill(9);
        (state, mask, Layouts { then, now, enabled: 0b10_0111 })
    }

    #[test]
    fn components_move_to_where_this_machine_has_them() {
        let (old, mask, layouts) = from_elsewhere();
        let mut room = State([1; ROOM]);
        assert!(rebuild(&old, mask, &layouts, &mut room.0));
        assert!(room.0[832..896].iter().all(|byte| *byte == 5));
        assert_eq!(in_use(&room.0), 0b10_0011, "protection keys are gone, AVX is in its first state");
        let word = |at: usize| u32::from_le_bytes(room.0[at..at + 4].try_into().unwrap());
        assert_eq!((word(FRAME_SIZE), word(FRAME_EXTENDED_SIZE), word(896)), (896, 900, END_MAGIC));
        assert_eq!(word(FRAME_COMPONENTS), 0b10_0111);
    }

    #[test]
    fn a_state_that_this_machine_understands_stays() {
        let (old, mask, mut layouts) = from_elsewhere();
        (layouts.now, layouts.enabled) = (layouts.then, mask);
        assert!(!rebuild(&old, mask, &layouts, &mut [0; ROOM]));
    }
}
