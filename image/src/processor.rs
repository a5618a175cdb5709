//! What an image depends on of the processor: the instructions that programs may have chosen, and where XSAVE puts the
//! state components in the signal frames of the image's threads.
//!
//! Both are asked of CPUID, as libc and programs do it themselves: what /proc/cpuinfo leaves out (`clearcpuid=`) they use
//! all the same. Standard-format offsets differ between vendors: AVX-512 state starts at 1088 on Intel's processors and
//! at 832 on AMD's, which have no MPX.

use core::arch::x86_64::{__cpuid, __cpuid_count, CpuidResult};
use serde::{Deserialize, Serialize};

/// A state component that XSAVE keeps beyond the legacy 576 bytes.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Component {
    /// Its bit in XCR0.
    pub number: u32,
    /// Where it starts in the standard format.
    pub offset: u32,
    /// Its length in bytes.
    pub size: u32,
}

/// State components that a machine may lack: bounds of MPX, which Linux has given up.
pub const DISPENSABLE: u64 = 0b11 << 3;
/// What a thread may do with protection keys. An image has it in use only if the process had keys.
pub const KEY_RIGHTS: u64 = 1 << 9;
/// Bytes that a restored thread has for a state whose components lie elsewhere than on the machine of the checkpoint.
pub const FIT_ROOM: usize = 4096;
const AVX: u64 = 0b110;
const AVX512: u64 = 0b1110_0110;
const TILES: u64 = 0b11 << 17;
/// XCR0 without XSAVE: x87 and SSE.
const LEGACY: u64 = 3;

/// XCR0: the state components that the kernel has enabled.
pub fn enabled_state() -> u64 {
    const OSXSAVE: u32 = 1 << 27;
    if __cpuid(1).ecx & OSXSAVE == 0 {
        return LEGACY;
    }
    let (low, high): (u32, u32);
    // SAFETY: OSXSAVE says that the instruction is there; it only writes these two registers.
    unsafe {
        core::arch::asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// Where those components of `mask` are on this processor that its kernel has enabled.
pub fn components(mask: u64) -> impl Iterator<Item = Component> {
    const EXTENDED_STATE: u32 = 0xd;
    let known = mask & enabled_state();
    (2..63).filter(move |number| known & 1 << number != 0).map(|number| {
        let CpuidResult { eax: size, ebx: offset, .. } = __cpuid_count(EXTENDED_STATE, number);
        Component { number, offset, size }
    })
}

/// A feature: its bit in one register, its name as in /proc/cpuinfo, and the state that must be enabled for its use.
type Feature = (u32, &'static str, u64);

const BASIC_C: &[Feature] = &[
    (0, "pni", 0),
    (1, "pclmulqdq", 0),
    (9, "ssse3", 0),
    (12, "fma", AVX),
    (13, "cx16", 0),
    (19, "sse4_1", 0),
    (20, "sse4_2", 0),
    (22, "movbe", 0),
    (23, "popcnt", 0),
    (25, "aes", 0),
    (26, "xsave", 0),
    (28, "avx", AVX),
    (29, "f16c", AVX),
    (30, "rdrand", 0),
];
const STRUCTURED_B: &[Feature] = &[
    (0, "fsgsbase", 0),
    (3, "bmi1", 0),
    (4, "hle", 0),
    (5, "avx2", AVX),
    (8, "bmi2", 0),
    (11, "rtm", 0),
    (16, "avx512f", AVX512),
    (17, "avx512dq", AVX512),
    (18, "rdseed", 0),
    (19, "adx", 0),
    (21, "avx512ifma", AVX512),
    (23, "clflushopt", 0),
    (24, "clwb", 0),
    (26, "avx512pf", AVX512),
    (27, "avx512er", AVX512),
    (28, "avx512cd", AVX512),
    (29, "sha_ni", 0),
    (30, "avx512bw", AVX512),
    (31, "avx512vl", AVX512),
];
const STRUCTURED_C: &[Feature] = &[
    (1, "avx512vbmi", AVX512),
    (5, "waitpkg", 0),
    (6, "avx512_vbmi2", AVX512),
    (8, "gfni", 0),
    (9, "vaes", AVX),
    (10, "vpclmulqdq", AVX),
    (11, "avx512_vnni", AVX512),
    (12, "avx512_bitalg", AVX512),
    (14, "avx512_vpopcntdq", AVX512),
    (22, "rdpid", 0),
    (27, "movdiri", 0),
    (28, "movdir64b", 0),
    (29, "enqcmd", 0),
];
const STRUCTURED_D: &[Feature] = &[
    (8, "avx512_vp2intersect", AVX512),
    (14, "serialize", 0),
    (22, "amx_bf16", TILES),
    (23, "avx512_fp16", AVX512),
    (24, "amx_tile", TILES),
    (25, "amx_int8", TILES),
];
const STRUCTURED_1_A: &[Feature] = &[(4, "avx_vnni", AVX), (5, "avx512_bf16", AVX512), (23, "avx_ifma", AVX)];
const XSAVE_A: &[Feature] = &[(0, "xsaveopt", 0), (1, "xsavec", 0), (2, "xgetbv1", 0)];
const EXTENDED_C: &[Feature] =
    &[(0, "lahf_lm", 0), (5, "abm", 0), (6, "sse4a", 0), (11, "xop", AVX), (16, "fma4", AVX)];
const EXTENDED_D: &[Feature] = &[(27, "rdtscp", 0)];

/// The features beyond the first x86-64 that programs use by themselves, so that their absence would end them with
/// SIGILL. What only the kernel cares about is left out, and protection keys, which are state ([`KEY_RIGHTS`]).
pub fn features() -> Vec<String> {
    let state = enabled_state();
    let highest = __cpuid(0).eax;
    let leaf = |number: u32, sub: u32| match number <= highest {
        true => __cpuid_count(number, sub),
        false => CpuidResult { eax: 0, ebx: 0, ecx: 0, edx: 0 },
    };
    let (basic, structured) = (leaf(1, 0), leaf(7, 0));
    let more = if structured.eax >= 1 { leaf(7, 1).eax } else { 0 };
    let extended = __cpuid(0x8000_0001);
    let registers = [
        (basic.ecx, BASIC_C),
        (structured.ebx, STRUCTURED_B),
        (structured.ecx, STRUCTURED_C),
        (structured.edx, STRUCTURED_D),
        (more, STRUCTURED_1_A),
        (leaf(0xd, 1).eax, XSAVE_A),
        (extended.ecx, EXTENDED_C),
        (extended.edx, EXTENDED_D),
    ];
    let present = |value: u32, (bit, _, needs): &Feature| value & 1 << bit != 0 && state & needs == *needs;
    let names = registers.iter().flat_map(|(value, list)| list.iter().filter(|feature| present(*value, feature)));
    names.map(|feature| feature.1.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_kernel() {
        let text = std::fs::read_to_string("/proc/cpuinfo").unwrap();
        let line = text.lines().find(|line| line.starts_with("flags")).unwrap();
        let kernel: Vec<&str> = line.split_whitespace().collect();
        let unknown: Vec<String> = features().into_iter().filter(|name| !kernel.contains(&name.as_str())).collect();
        assert!(unknown.is_empty(), "CPUID has {unknown:?}, /proc/cpuinfo has not");
    }

    #[test]
    fn vector_registers_lie_behind_the_legacy_state() {
        let enabled = enabled_state();
        assert_eq!(enabled & LEGACY, LEGACY);
        let list: Vec<Component> = components(enabled).collect();
        assert_eq!(list.iter().any(|component| component.number == 2), enabled & 4 != 0);
        assert!(list.iter().all(|component| component.offset >= 576), "{list:?}");
        assert_eq!(components(0).count(), 0);
    }
}
