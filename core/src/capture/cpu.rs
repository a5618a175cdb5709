//! CPU state beyond the general registers: what the frames may hold, and what a new task needs before it can take it.

use dmtcp_plugin_api::sys;
use std::sync::atomic::{AtomicU64, Ordering};

const ARCH_GET_XCOMP_PERM: usize = 0x1022;
const ARCH_REQ_XCOMP_PERM: usize = 0x1023;
/// State component 18: AMX tile data, the only one that needs a permission.
const TILE_DATA: usize = 18;
/// Offsets in the legacy FPU area of a signal frame (kernel: `struct _fpx_sw_bytes`).
const FRAME_MAGIC: usize = 464;
const FRAME_SIZE: usize = 480;
const XSTATE_MAGIC: u32 = 0x4650_5853;
/// A frame larger than this has room for AMX tiles.
const TILES_FROM: u32 = 8192;

static PERMISSION: AtomicU64 = AtomicU64::new(0);

/// XCR0: the state components that the kernel has enabled.
pub fn xcr0() -> u64 {
    // SAFETY: CPUID is always there on x86_64; leaf 1 says whether XGETBV is (OSXSAVE).
    unsafe {
        if core::arch::x86_64::__cpuid(1).ecx & 1 << 27 == 0 {
            return 3;
        }
        let (low, high): (u32, u32);
        core::arch::asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack));
        u64::from(high) << 32 | u64::from(low)
    }
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
        (word(FRAME_SIZE), state.add(472).cast::<u64>().read_unaligned())
    }
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
