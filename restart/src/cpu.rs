//! What this machine's processor can do, as far as an image may depend on it.

use std::arch::asm;
use std::io::Read;

/// State components that the kernel has enabled (XCR0); 1 (x87) on a processor that has no such register.
pub fn xcr0() -> u64 {
    // CPUID leaf 1, ECX bit 27: the kernel has enabled XGETBV.
    if std::arch::x86_64::__cpuid(1).ecx & (1 << 27) == 0 {
        return 1;
    }
    let (low, high): (u32, u32);
    // SAFETY: the instruction is there (tested above) and only writes these two registers.
    unsafe { asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags)) };
    u64::from(high) << 32 | u64::from(low)
}

/// The calling thread's thread pointer.
pub fn thread_pointer() -> usize {
    let pointer;
    // SAFETY: the ABI has the thread pointer's own value at %fs:0.
    unsafe { asm!("mov {}, fs:0", out(reg) pointer, options(nostack, readonly, preserves_flags)) };
    pointer
}

/// Features of the first processor, as in /proc/cpuinfo. Only its entry is read: the kernel takes time for each.
pub fn features() -> std::io::Result<Vec<String>> {
    let mut file = std::fs::File::open("/proc/cpuinfo")?;
    let mut text = Vec::new();
    let mut part = [0u8; 4096];
    loop {
        let count = file.read(&mut part)?;
        text.extend_from_slice(&part[..count]);
        let line = String::from_utf8_lossy(&text);
        let flags = line.lines().find_map(|line| line.strip_prefix("flags")?.split_once(':'));
        match flags {
            Some((_, list)) if count == 0 || line.contains("\nbugs") => {
                return Ok(list.split_whitespace().map(str::to_owned).collect());
            }
            _ if count == 0 => return Ok(Vec::new()),
            _ => {}
        }
    }
}

/// Whether programs use this feature directly, so that its absence would end them with SIGILL. What only the kernel
/// cares about is left out.
pub fn is_for_programs(feature: &str) -> bool {
    const PREFIXES: [&str; 7] = ["sse", "avx", "bmi", "amx", "xsave", "vpcl", "movdir"];
    const NAMES: [&str; 33] = [
        "abm",
        "adx",
        "aes",
        "clflushopt",
        "clwb",
        "cmov",
        "cx16",
        "cx8",
        "enqcmd",
        "erms",
        "f16c",
        "fma",
        "fma4",
        "fsgsbase",
        "fsrm",
        "gfni",
        "lahf_lm",
        "mmx",
        "movbe",
        "ospke",
        "pclmulqdq",
        "popcnt",
        "rdpid",
        "rdrand",
        "rdseed",
        "rdtscp",
        "rtm",
        "serialize",
        "sha_ni",
        "ssse3",
        "vaes",
        "waitpkg",
        "xgetbv1",
    ];
    NAMES.contains(&feature) || PREFIXES.iter().any(|prefix| feature.starts_with(prefix))
}
