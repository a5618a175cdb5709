//! The list of operations that turns the restarter's memory into the restored process'.
//!
//! Pure: from a description of what is and what shall be to the table that the stub works off. The order is
//!
//! ```text
//!   unmap everything but what is kept | move the new vdso out of the way | map what has no staged bytes
//!   | move staged memory into place | vdso | process (PR_SET_MM, personality, limits) | locks | loose ends
//! ```

use crate::gaps::TOP;
use crate::kernel::CloneArgs;
use crate::mm::Way;
use crate::table::{Arg, Table};
use crate::vdso;
use dmtcp_image::record::{Region, Restore, flag, kind};
use libc::{c_long, c_ulong};
use std::ops::Range;
use std::os::fd::RawFd;

/// How a region's memory comes to its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// It is ready, with its protection and flags, at this address.
    Staged(u64),
    /// The stub maps it: anonymous memory, and over it what the image has.
    Fresh(Vec<FromImage>),
}

/// A run of bytes of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FromImage {
    /// Where it goes.
    pub address: u64,
    /// Its length.
    pub length: u64,
    /// Where it is in the image.
    pub offset: u64,
}

/// A region that is to be.
#[derive(Debug, Clone)]
pub struct Placement {
    /// The region as it was.
    pub region: Region,
    /// The part of `[anon:NAME]`, if it has such a name.
    pub anon_name: Option<String>,
    /// Where its memory comes from.
    pub source: Source,
}

/// What becomes of the vdso.
#[derive(Debug, Clone)]
pub enum Vdso {
    /// The restored process had none, or it stays where it is anyway.
    Stay,
    /// It is moved so that its code starts at this address; `free` is room for its pages on the way, if they overlap.
    Move {
        /// Where its code starts.
        to: u64,
        /// Room on the way.
        free: u64,
    },
    /// It is moved out of the way of restored memory.
    Aside {
        /// Where its first page goes.
        free: u64,
    },
}

/// Everything that the list is made from.
#[derive(Debug)]
pub struct Layout<'a> {
    /// The stub's mapping.
    pub stub: Range<u64>,
    /// The restored process' mappings.
    pub placements: &'a [Placement],
    /// The restarter's vdso.
    pub current_vdso: Option<vdso::Current>,
    /// What becomes of it.
    pub vdso: Vdso,
    /// From the image.
    pub restore: &'a Restore,
    /// The auxiliary vector as the image has it.
    pub auxv: &'a [u8],
    /// How the kernel is told about its memory.
    pub memory: Way,
    /// The original executable, opened; -1: it is the process's already, or is gone.
    pub exe: RawFd,
    /// The image, opened, if memory is mapped from it.
    pub image: RawFd,
    /// Descriptors that are closed when memory stands, in this order.
    pub close: &'a [RawFd],
    /// Tasks that the stub makes itself: how, their ids if they shall have certain ones, their slots.
    pub tasks: Vec<(CloneArgs, Option<i32>, u64)>,
    /// Descriptors that get their close-on-exec flag.
    pub close_on_exec: &'a [RawFd],
    /// Soft and hard limit of descriptors that the process goes on with.
    pub descriptor_limit: [u64; 2],
}

const PR_SET_VMA: u64 = 0x5356_4d41;
const PR_SET_VMA_ANON_NAME: u64 = 0;
const MAP_DROPPABLE: i32 = 0x08;
const MADV_WIPEONFORK: i32 = 18;

/// The madvise(2) calls that give memory its flags back.
pub fn advice(flags: u64) -> impl Iterator<Item = i32> {
    const TABLE: [(u64, i32); 8] = [
        (flag::DONTDUMP, libc::MADV_DONTDUMP),
        (flag::DONTFORK, libc::MADV_DONTFORK),
        (flag::WIPEONFORK, MADV_WIPEONFORK),
        (flag::HUGEPAGE | flag::HUGETLB, libc::MADV_HUGEPAGE),
        (flag::NOHUGEPAGE, libc::MADV_NOHUGEPAGE),
        (flag::MERGEABLE, libc::MADV_MERGEABLE),
        (flag::RANDOM, libc::MADV_RANDOM),
        (flag::SEQUENTIAL, libc::MADV_SEQUENTIAL),
    ];
    TABLE.into_iter().filter(move |(bits, _)| flags & bits != 0).map(|(_, advice)| advice)
}

/// Flags of mmap(2) for the anonymous memory of a region.
pub fn map_flags(region: &Region) -> i32 {
    let mut flags = 0;
    if region.flags & flag::NORESERVE != 0 {
        flags |= libc::MAP_NORESERVE;
    }
    if region.flags & flag::GROWSDOWN != 0 {
        flags |= libc::MAP_GROWSDOWN;
    }
    flags
}

/// Flags of mmap(2) for pages of the hugetlb pool; 0: the region has ordinary ones.
pub fn huge_pages(region: &Region) -> i32 {
    const SHIFT: i32 = 26;
    let order = if region.flags & flag::GIGANTIC != 0 { 30 } else { 21 };
    let huge = region.flags & flag::HUGETLB != 0 && region.kind == kind::ANONYMOUS;
    if huge { libc::MAP_HUGETLB | order << SHIFT } else { 0 }
}

/// Upper bound of the bytes that [`Layout::table`] needs.
pub fn room(regions: usize, extents: usize, auxv: usize) -> usize {
    (regions * 14 + extents + 64) * (size_of::<crate::stub::Op>() + 112) + auxv + 4096
}

impl Layout<'_> {
    /// The operations.
    pub fn table(&self) -> Table {
        let mut table = Table::default();
        for (args, tid, slot) in &self.tasks {
            make_task(&mut table, *args, *tid, *slot);
        }
        self.unmap(&mut table);
        self.vdso_aside(&mut table);
        for placement in self.placements {
            self.map(&mut table, placement);
        }
        for placement in self.placements {
            if let Source::Staged(from) = placement.source
                && from != placement.region.start
            {
                let region = &placement.region;
                let what = format!("moving memory to {:x}-{:x}", region.start, region.end);
                remap(&mut table, from..from + (region.end - region.start), region.start, &what);
            }
        }
        for placement in self.placements {
            self.name(&mut table, placement);
        }
        self.vdso_home(&mut table);
        self.process(&mut table);
        for placement in self.placements {
            self.lock(&mut table, &placement.region);
        }
        for descriptor in self.close_on_exec {
            let values = [*descriptor as u64, libc::F_SETFD as u64, libc::FD_CLOEXEC as u64];
            table.may(libc::SYS_fcntl, &values.map(Arg::Value));
        }
        for descriptor in self.close {
            table.may(libc::SYS_close, &[Arg::Value(*descriptor as u64)]);
        }
        table
    }

    /// Unmaps all that is between what is kept.
    fn unmap(&self, table: &mut Table) {
        let mut kept = vec![self.stub.clone()];
        for placement in self.placements {
            if let Source::Staged(from) = placement.source {
                kept.push(from..from + (placement.region.end - placement.region.start));
            }
        }
        kept.extend(self.current_vdso.iter().flat_map(vdso::Current::parts));
        kept.push(TOP..TOP);
        kept.sort_by_key(|range| range.start);
        let mut at = 0;
        for range in kept {
            if range.start > at {
                let what = format!("unmapping {at:x}-{:x}", range.start);
                table.must(libc::SYS_munmap, &[Arg::Value(at), Arg::Value(range.start - at)], &what);
            }
            at = range.end;
        }
    }

    /// Maps a region that is not staged.
    fn map(&self, table: &mut Table, placement: &Placement) {
        let Source::Fresh(extents) = &placement.source else { return };
        let region = &placement.region;
        let length = region.end - region.start;
        let what = format!("mapping {:x}-{:x}", region.start, region.end);
        let anonymous = libc::MAP_ANONYMOUS;
        if region.kind == kind::EMPTY {
            let flags = MAP_DROPPABLE | libc::MAP_NORESERVE | anonymous;
            table.or_else(libc::SYS_mmap, &mmap(region, region.start, length, flags, -1, 0), 1);
        }
        let flags = libc::MAP_PRIVATE | map_flags(region) | anonymous;
        table.must(libc::SYS_mmap, &mmap(region, region.start, length, flags, -1, 0), &what);
        for extent in extents {
            let what = format!("mapping {:x} from the image", extent.address);
            let flags = libc::MAP_PRIVATE | (map_flags(region) & libc::MAP_NORESERVE);
            let args = mmap(region, extent.address, extent.length, flags, self.image, extent.offset);
            table.must(libc::SYS_mmap, &args, &what);
        }
        for advice in advice(region.flags) {
            table.may(libc::SYS_madvise, &[region.start, length, advice as u64].map(Arg::Value));
        }
    }

    fn name(&self, table: &mut Table, placement: &Placement) {
        let Some(name) = &placement.anon_name else { return };
        let mut bytes = name.clone().into_bytes();
        bytes.push(0);
        let region = &placement.region;
        let args = [
            Arg::Value(PR_SET_VMA),
            Arg::Value(PR_SET_VMA_ANON_NAME),
            Arg::Value(region.start),
            Arg::Value(region.end - region.start),
            Arg::Bytes(bytes),
        ];
        table.may(libc::SYS_prctl, &args);
    }

    fn vdso_aside(&self, table: &mut Table) {
        let Some(current) = &self.current_vdso else { return };
        let start = current.span().start;
        let free = match self.vdso {
            Vdso::Stay => return,
            Vdso::Move { to, .. } if to == current.vdso.start => return,
            Vdso::Move { free, .. } | Vdso::Aside { free } => free,
        };
        for part in current.parts() {
            remap(table, part.clone(), free + (part.start - start), "moving the vdso aside");
        }
    }

    fn vdso_home(&self, table: &mut Table) {
        let (Some(current), Vdso::Move { to, free }) = (&self.current_vdso, &self.vdso) else { return };
        if *to == current.vdso.start {
            return;
        }
        let start = current.span().start;
        for part in current.parts() {
            let from = free + (part.start - start);
            let home = to.wrapping_add(part.start.wrapping_sub(current.vdso.start));
            remap(table, from..from + (part.end - part.start), home, "moving the vdso to its place");
        }
    }

    /// What the kernel knows about the process besides its mappings.
    fn process(&self, table: &mut Table) {
        self.memory.describe(table, self.restore, self.auxv, self.exe);
        table.may(libc::SYS_personality, &[Arg::Value(self.restore.personality)]);
        let mut limit = self.descriptor_limit[0].to_le_bytes().to_vec();
        limit.extend_from_slice(&self.descriptor_limit[1].to_le_bytes());
        let args = [Arg::Value(0), Arg::Value(c_ulong::from(libc::RLIMIT_NOFILE)), Arg::Bytes(limit), Arg::Value(0)];
        table.may(libc::SYS_prlimit64, &args);
        // From here on the process stands on its own.
        table.may(libc::SYS_prctl, &[Arg::Value(libc::PR_SET_PDEATHSIG as u64), Arg::Value(0)]);
        table.may(libc::SYS_set_robust_list, &[Arg::Value(0), Arg::Value(24)]);
        table.may(libc::SYS_set_tid_address, &[Arg::Value(0)]);
    }

    fn lock(&self, table: &mut Table, region: &Region) {
        const MLOCK_ONFAULT: u64 = 1;
        let on_fault = if region.flags & flag::LOCKONFAULT != 0 { MLOCK_ONFAULT } else { 0 };
        if region.flags & (flag::LOCKED | flag::LOCKONFAULT) != 0 {
            let args = [Arg::Value(region.start), Arg::Value(region.end - region.start), Arg::Value(on_fault)];
            table.may(libc::SYS_mlock2, &args);
        }
    }
}

/// Arguments of mmap(2) for a part of a region.
fn mmap(region: &Region, start: u64, length: u64, flags: i32, file: RawFd, offset: u64) -> [Arg; 6] {
    let flags = (flags | libc::MAP_FIXED) as u64;
    [start, length, u64::from(region.prot), flags, file as i64 as u64, offset].map(Arg::Value)
}

fn make_task(table: &mut Table, args: CloneArgs, tid: Option<i32>, slot: u64) {
    let bytes = |args: CloneArgs| bytemuck::bytes_of(&args).to_vec();
    let args = match tid {
        Some(tid) => Arg::BytesWithPointer {
            bytes: bytes(CloneArgs { set_tid_size: 1, ..args }),
            pointer: std::mem::offset_of!(CloneArgs, set_tid),
            target: tid.to_le_bytes().to_vec(),
        },
        None => Arg::Bytes(bytes(args)),
    };
    let rest = [size_of::<CloneArgs>() as u64, 0, 0, 0, slot].map(Arg::Value);
    let list: Vec<Arg> = std::iter::once(args).chain(rest).collect();
    table.must(libc::SYS_clone3, &list, "making a thread");
}

fn remap(table: &mut Table, from: Range<u64>, to: u64, what: &str) {
    const NUMBER: c_long = libc::SYS_mremap;
    let length = from.end - from.start;
    let flags = (libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED) as u64;
    let args = [Arg::Value(from.start), Arg::Value(length), Arg::Value(length), Arg::Value(flags), Arg::Value(to)];
    table.must(NUMBER, &args, what);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stub::{Op, Rule};
    use std::collections::BTreeMap;

    const STUB: Range<u64> = 0x10_0000_0000..0x10_0010_0000;

    fn region(start: u64, end: u64, prot: u32, flags: u64) -> Region {
        let zero: Region = bytemuck::Zeroable::zeroed();
        Region { start, end, prot, kind: kind::ANONYMOUS, flags, ..zero }
    }

    fn placement(region: Region, source: Source) -> Placement {
        Placement { region, anon_name: None, source }
    }

    fn table(placements: &[Placement], current: Option<vdso::Current>, vdso: Vdso) -> Vec<Op> {
        let restore: Restore = bytemuck::Zeroable::zeroed();
        let layout = Layout {
            stub: STUB,
            placements,
            current_vdso: current,
            vdso,
            restore: &restore,
            auxv: &[],
            memory: Way::Map,
            exe: 5,
            image: 6,
            close: &[5, 6],
            tasks: Vec::new(),
            close_on_exec: &[],
            descriptor_limit: [1024, 4096],
        };
        layout.table().ops().to_vec()
    }

    /// What the operations do to an address space in which everything is mapped at first: page-exact for the pages
    /// that are looked at.
    fn mapped_after(ops: &[Op], pages: &[u64]) -> BTreeMap<u64, &'static str> {
        let mut state: BTreeMap<u64, &'static str> = pages.iter().map(|page| (*page, "old")).collect();
        for op in ops {
            let [a, b, _, _, e, _] = op.args;
            let mut set = |start: u64, length: u64, what| {
                for (_, value) in state.range_mut(start..start + length) {
                    *value = what;
                }
            };
            match op.number as c_long {
                libc::SYS_munmap => set(a, b, "gone"),
                libc::SYS_mmap => set(a, b, "mapped"),
                libc::SYS_mremap => {
                    set(a, b, "gone");
                    set(e, b, "moved");
                }
                _ => {}
            }
        }
        state
    }

    #[test]
    fn everything_goes_but_what_is_kept_and_all_regions_stand() {
        let staged = 0x20_0000_0000;
        let placements = [
            placement(region(0x5000_0000_0000, 0x5000_0000_4000, 3, 0), Source::Staged(staged)),
            placement(region(0x6000_0000_0000, 0x6100_0000_0000, 0, flag::NORESERVE), Source::Fresh(Vec::new())),
        ];
        let pages = [0x1000, STUB.start, STUB.end, staged, 0x5000_0000_0000, 0x6000_0000_0000, 0x7fff_ffff_e000];
        let ops = table(&placements, None, Vdso::Stay);
        let after = mapped_after(&ops, &pages);
        let states: Vec<_> = after.values().copied().collect();
        assert_eq!(states, ["gone", "old", "gone", "gone", "moved", "mapped", "gone"]);
    }

    #[test]
    fn nothing_is_unmapped_after_something_new_is_mapped() {
        let placements = [placement(region(0x5000_0000_0000, 0x5000_0000_4000, 3, 0), Source::Fresh(Vec::new()))];
        let ops = table(&placements, None, Vdso::Stay);
        let position = |number: c_long, last: bool| {
            let mut found = ops.iter().enumerate().filter(|(_, op)| op.number == number as u64).map(|(index, _)| index);
            if last { found.next_back() } else { found.next() }
        };
        assert!(position(libc::SYS_munmap, true) < position(libc::SYS_mmap, false));
        assert_eq!(ops.last().map(|op| op.number), Some(libc::SYS_close as u64));
    }

    #[test]
    fn a_reservation_keeps_its_flag_and_a_lazy_region_lies_over_its_zeros() {
        let run = FromImage { address: 0x5000_0000_1000, length: 0x1000, offset: 0x9000 };
        let placements =
            [placement(region(0x5000_0000_0000, 0x5000_0000_4000, 3, flag::NORESERVE), Source::Fresh(vec![run]))];
        let ops = table(&placements, None, Vdso::Stay);
        let maps: Vec<&Op> = ops.iter().filter(|op| op.number == libc::SYS_mmap as u64).collect();
        assert_eq!(maps.len(), 2);
        assert!(maps.iter().all(|op| op.args[3] & libc::MAP_NORESERVE as u64 != 0));
        assert_eq!(maps[1].args, [run.address, run.length, 3, maps[1].args[3], 6, run.offset]);
        assert_eq!(maps[1].args[3] & libc::MAP_ANONYMOUS as u64, 0);
    }

    #[test]
    fn the_vdso_goes_home_in_its_order_by_way_of_a_free_place() {
        let data = 0x7f00_0000_0000;
        let parts = [data..data + 0x4000, data + 0x4000..data + 0x6000];
        let current = vdso::Current { vdso: data + 0x6000..data + 0x8000, data: parts.to_vec() };
        let to = 0x6fff_0000_0000;
        let ops = table(&[], Some(current.clone()), Vdso::Move { to, free: 0x30_0000_0000 });
        let homes: Vec<u64> =
            ops.iter().filter(|op| op.number == libc::SYS_mremap as u64).map(|op| op.args[4]).collect();
        assert_eq!(homes[3..], [to - 0x6000, to - 0x2000, to]);
        let stays = table(&[], Some(current.clone()), Vdso::Move { to: current.vdso.start, free: 0x30_0000_0000 });
        assert!(stays.iter().all(|op| op.number != libc::SYS_mremap as u64));
    }

    #[test]
    fn a_droppable_region_is_plain_memory_where_the_kernel_knows_no_better() {
        let empty = Region { kind: kind::EMPTY, ..region(0x5000_0000_0000, 0x5000_0000_1000, 3, flag::DROPPABLE) };
        let ops = table(&[placement(empty, Source::Fresh(Vec::new()))], None, Vdso::Stay);
        let index = ops.iter().position(|op| op.number == libc::SYS_mmap as u64).unwrap();
        assert_eq!((ops[index].rule, ops[index].skip), (Rule::Else, 1));
        assert_eq!((ops[index + 1].number, ops[index + 1].rule), (libc::SYS_mmap as u64, Rule::Must));
    }

    #[test]
    fn the_room_is_enough_for_regions_with_every_flag() {
        let all = flag::DONTDUMP | flag::DONTFORK | flag::WIPEONFORK | flag::HUGEPAGE | flag::MERGEABLE | flag::RANDOM;
        let all = all | flag::SEQUENTIAL | flag::LOCKED | flag::NOHUGEPAGE | flag::GROWSDOWN;
        let placements: Vec<_> = (1..100u64)
            .map(|index| {
                let start = index << 32;
                let run = FromImage { address: start, length: 0x1000, offset: 0 };
                let source = if index % 2 == 0 { Source::Staged(index << 40) } else { Source::Fresh(vec![run]) };
                placement(region(start, start + 0x1000, 3, all), source)
            })
            .collect();
        let restore: Restore = bytemuck::Zeroable::zeroed();
        let layout = Layout {
            stub: STUB,
            placements: &placements,
            current_vdso: None,
            vdso: Vdso::Stay,
            restore: &restore,
            auxv: &[0; 400],
            memory: Way::Map,
            exe: 5,
            image: 6,
            close: &[5, 6],
            tasks: Vec::new(),
            close_on_exec: &[],
            descriptor_limit: [1024, 4096],
        };
        assert!(layout.table().at(0).len() <= room(placements.len(), placements.len(), 400));
    }
}
