//! Free ranges of an address space: where the stub and staged memory can be.
//!
//! Memory is staged right where it belongs, if the restarter has nothing near that place. Elsewhere a place must be free
//! twice: in the restarter as it is, and in the process as it will be. Both lists go into one.

use std::ops::Range;

/// Where user memory ends (without five-level page tables, which the kernel gives only on request).
pub const TOP: u64 = 0x7fff_ffff_f000;
/// The search starts here: below it live programs that are not position-independent, and reservations for 32-bit
/// pointers.
const BOTTOM: u64 = 0x10_0000_0000;
/// The kernel keeps this much free below a stack that grows; moving memory into it would end the growth.
const STACK_ROOM: u64 = 64 << 20;
/// What the restarter still maps lands this close to what it has mapped, and no further.
const NEAR: u64 = 4 << 30;

/// The ranges that are taken.
#[derive(Debug, Clone, Default)]
pub struct Gaps {
    present: Vec<Range<u64>>,
    taken: Vec<Range<u64>>,
}

impl Gaps {
    /// A space where these ranges are taken: now, and in the process as it will be. They may overlap.
    pub fn new(present: impl IntoIterator<Item = Range<u64>>, future: impl IntoIterator<Item = Range<u64>>) -> Self {
        let present: Vec<_> = present.into_iter().filter(|range| range.start < range.end).collect();
        let mut taken = present.clone();
        taken.extend(future.into_iter().filter(|range| range.start < range.end));
        taken.sort_by_key(|range| range.start);
        Self { present, taken }
    }

    /// Whether a range of the process as it will be can be mapped where it belongs, here and now.
    pub fn is_free_now(&self, range: &Range<u64>) -> bool {
        self.present
            .iter()
            .all(|p| p.start >= range.end.saturating_add(NEAR) || p.end.saturating_add(NEAR) <= range.start)
    }

    /// Takes a range of this length whose address is `like` modulo `modulus`.
    pub fn take(&mut self, length: u64, like: u64, modulus: u64) -> Option<u64> {
        let fit = |from: u64| from.checked_add((like.wrapping_sub(from)) & (modulus - 1));
        let mut at = fit(BOTTOM)?;
        let mut index = 0;
        while let Some(range) = self.taken.get(index) {
            if at.checked_add(length)? <= range.start {
                break;
            }
            at = at.max(fit(range.end)?);
            index += 1;
        }
        if at.checked_add(length)? > TOP {
            return None;
        }
        // Entries before `index` may end after `at` only if they were skipped, which the loop above excludes.
        self.taken.insert(index, at..at + length);
        Some(at)
    }
}

/// A mapping of the calling process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// Its addresses.
    pub range: Range<u64>,
    /// Its name as in /proc/PID/maps.
    pub name: String,
}

/// The mappings of the calling process.
pub fn current() -> std::io::Result<Vec<Mapping>> {
    Ok(parse(
        &std::fs::read_to_string("/proc/thread-self/maps").or_else(|_| std::fs::read_to_string("/proc/self/maps"))?,
    ))
}

/// The mappings of another process.
pub fn of_process(pid: i32) -> std::io::Result<Vec<Mapping>> {
    Ok(parse(&std::fs::read_to_string(format!("/proc/{pid}/maps"))?))
}

/// The mappings in the text of /proc/PID/maps.
fn parse(text: &str) -> Vec<Mapping> {
    text.lines()
        .filter_map(|line| {
            let (start, rest) = line.split_once('-')?;
            let (end, rest) = rest.split_once(' ')?;
            let name = rest.splitn(5, ' ').nth(4).unwrap_or("").trim_start();
            let range = u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()?;
            Some(Mapping { range, name: name.into() })
        })
        .filter(|mapping| mapping.range.end <= TOP)
        .collect()
}

/// A mapping's addresses, with the room that the kernel wants below a stack.
pub fn with_stack_room(mapping: &Mapping) -> Range<u64> {
    match mapping.name.as_str() {
        "[stack]" => mapping.range.start.saturating_sub(STACK_ROOM)..mapping.range.end,
        _ => mapping.range.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_congruent_and_free() {
        let mut gaps = Gaps::new(Some(BOTTOM + 0x1000..BOTTOM + 0x40_0000), None);
        let at = gaps.take(0x10_0000, 0x7f00_0012_3000, 2 << 20).unwrap();
        assert_eq!(at % (2 << 20), 0x12_3000);
        assert!(at >= BOTTOM + 0x40_0000);
        let second = gaps.take(0x10_0000, 0x7f00_0012_3000, 2 << 20).unwrap();
        assert_eq!(second, at + (2 << 20), "the first one is taken");
        assert_eq!(gaps.take(0x1000, 0, 0x1000), Some(BOTTOM), "a small one fits before");
    }

    #[test]
    fn overlapping_ranges_are_skipped_together() {
        let mut gaps = Gaps::new(Some(BOTTOM..BOTTOM + 0x10_0000), Some(BOTTOM + 0x1000..BOTTOM + 0x2000));
        assert_eq!(gaps.take(0x1000, 0, 0x1000), Some(BOTTOM + 0x10_0000));
    }

    #[test]
    fn nothing_fits_in_a_full_space() {
        let mut gaps = Gaps::new(Some(0..TOP), None);
        assert_eq!(gaps.take(0x1000, 0, 0x1000), None);
    }

    #[test]
    fn home_is_free_if_nothing_is_near() {
        let home = BOTTOM..BOTTOM + (8 << 40);
        let mut gaps = Gaps::new(Some(home.end + NEAR..TOP), Some(home.clone()));
        assert_eq!(gaps.take(8 << 40, 0, 0x1000), None);
        assert!(gaps.is_free_now(&home));
        assert!(!gaps.is_free_now(&(home.start..home.end + 0x1000)));
    }

    #[test]
    fn maps_parse_with_and_without_names() {
        let text = "55d0c0000000-55d0c0001000 r--p 00000000 fe:00 247030                     /usr/bin/a b\n\
                    7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0                          [stack]\n\
                    7f0000000000-7f0000001000 rw-p 00000000 00:00 0 \n\
                    ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n";
        let maps = parse(text);
        assert_eq!(maps.len(), 3);
        assert_eq!(maps[0], Mapping { range: 0x55d0c0000000..0x55d0c0001000, name: "/usr/bin/a b".into() });
        assert_eq!(maps[1].name, "[stack]");
        assert_eq!(maps[2].name, "");
        assert_eq!(with_stack_room(&maps[1]).start, 0x7ffd00000000 - STACK_ROOM);
    }
}
