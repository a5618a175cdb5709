//! The vdso: restored memory calls the one that it knows, this kernel has another.
//!
//! Where both are the same bytes and the kernel lets it, the new one is moved to the old address. Else the old bytes
//! come back as ordinary memory in which each function jumps to its namesake in the new vdso, or makes the system call
//! itself where there is none.
//!
//! No thread is stopped inside the vdso, but one may be in a signal handler of the program's that takes its time and has
//! interrupted it. To the rest of that function the data pages are zeros: a sequence number that is even, and not the one
//! that it has read, and a clock that only the kernel can read. So it begins anew and makes the system call. What reads no
//! clock (time(2), the coarse clocks) says 0 then, and what stands where the jump is now crashes.

use crate::gaps::{Gaps, Mapping};
use crate::kernel;
use crate::layout::Vdso;
use dmtcp_image::PAGE;
use dmtcp_image::read::Image;
use dmtcp_image::record::{Region, kind};
use object::{Object, ObjectSymbol};
use std::ops::Range;

/// The vdso of the calling process, with its data pages.
#[derive(Debug, Clone)]
pub struct Current {
    /// The vdso's code.
    pub vdso: Range<u64>,
    /// The data pages' mappings.
    pub data: Vec<Range<u64>>,
}

impl Current {
    /// Finds it among the mappings; `None` if the kernel gave none.
    pub fn among(maps: &[Mapping]) -> Option<Self> {
        let vdso = maps.iter().find(|mapping| mapping.name == "[vdso]")?.range.clone();
        let data = maps.iter().filter(|mapping| mapping.name.starts_with("[vvar")).map(|mapping| mapping.range.clone());
        Some(Self { vdso, data: data.collect() })
    }

    /// Everything from the first page to the last, in the order of addresses.
    pub fn parts(&self) -> Vec<Range<u64>> {
        let mut parts = self.data.clone();
        parts.push(self.vdso.clone());
        parts.sort_by_key(|part| part.start);
        parts
    }

    /// First and last address.
    pub fn span(&self) -> Range<u64> {
        let parts = self.parts();
        parts[0].start..parts[parts.len() - 1].end
    }

    /// Its bytes.
    pub fn bytes(&self) -> &'static [u8] {
        let length = (self.vdso.end - self.vdso.start) as usize;
        // SAFETY: the kernel maps it readable, and nothing unmaps it before the stub does.
        unsafe { std::slice::from_raw_parts(self.vdso.start as *const u8, length) }
    }

    /// Whether the kernel lets it be moved. Tries it on one data page, there and back, because sealing shows nowhere
    /// cheaper. The calling thread must be the only one.
    pub fn can_move(&self, free: u64) -> bool {
        let Some(part) = self.data.first().cloned() else { return false };
        let length = part.end - part.start;
        // SAFETY: only the vdso's functions use these pages, and nobody calls them in between.
        unsafe {
            kernel::move_mapping(part.clone(), free).is_ok()
                && kernel::move_mapping(free..free + length, part.start).is_ok()
        }
    }
}

/// What is to be done about the vdso.
#[derive(Debug)]
pub struct Plan {
    /// What becomes of the kernel's.
    pub decision: Vdso,
    /// The old one, as memory that leads to the kernel's, and its data pages.
    pub memory: Vec<(Region, Vec<u8>)>,
}

/// Decides. `old` are the bytes that the process had, `own` is the vdso of the calling process, which is single-threaded,
/// and `current` that of the process to be restored, which may be another. `None`: the kernel's is in the way of memory.
pub fn plan(image: &Image, old: Option<Vec<u8>>, own: &Current, current: &Current, gaps: &mut Gaps) -> Option<Plan> {
    let span = current.span();
    let in_the_way = image.regions.iter().any(|region| region.start < span.end && span.start < region.end);
    let same = old.as_deref() == Some(own.bytes())
        && image.restore.vvar_length == current.vdso.start - span.start
        && !kernel::forbidden("vdso_move");
    let free = if same || in_the_way { gaps.take(span.end - span.start, 0, PAGE) } else { None };
    let free = free.filter(|free| own.can_move(*free));
    let region = image.regions.iter().find(|region| region.kind == kind::VDSO).copied();
    if let (true, Some(free), Some(region)) = (same, free, region) {
        return Some(Plan { decision: Vdso::Move { to: region.start, free }, memory: Vec::new() });
    }
    let (decision, base) = match free {
        Some(free) if in_the_way => (Vdso::Aside { free }, free + (current.vdso.start - span.start)),
        None if in_the_way => return None,
        _ => (Vdso::Stay, current.vdso.start),
    };
    let code = region.zip(old).map(|(region, mut bytes)| {
        redirect(&mut bytes, own.bytes(), base);
        (region, bytes)
    });
    let data = image.regions.iter().filter(|region| region.kind == kind::VVAR);
    let zeros = data.map(|region| (*region, vec![0; (region.end - region.start) as usize]));
    Some(Plan { decision, memory: code.into_iter().chain(zeros).collect() })
}

/// An exported function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Its offset in the vdso.
    pub offset: u64,
}

/// The functions that a vdso exports, by offset.
pub fn functions(vdso: &[u8]) -> Vec<Function> {
    let Ok(file) = object::read::elf::ElfFile64::<object::Endianness>::parse(vdso) else { return Vec::new() };
    let mut list: Vec<Function> = file
        .dynamic_symbols()
        .filter(|symbol| symbol.is_definition() && symbol.kind() == object::SymbolKind::Text)
        .filter_map(|symbol| Some(Function { name: symbol.name().ok()?.to_owned(), offset: symbol.address() }))
        .filter(|function| (function.offset as usize) < vdso.len())
        .collect();
    list.sort_by(|a, b| (a.offset, &a.name).cmp(&(b.offset, &b.name)));
    list
}

/// `movabs $target, %r11; jmp *%r11`
fn jump(target: u64) -> Vec<u8> {
    let mut code = vec![0x49, 0xbb];
    code.extend_from_slice(&target.to_le_bytes());
    code.extend_from_slice(&[0x41, 0xff, 0xe3]);
    code
}

/// `mov $number, %eax; syscall; ret`
fn system_call(number: i64) -> Vec<u8> {
    let mut code = vec![0xb8];
    code.extend_from_slice(&(number as u32).to_le_bytes());
    code.extend_from_slice(&[0x0f, 0x05, 0xc3]);
    code
}

/// The system call that does what a function of the vdso does.
fn equivalent(name: &str) -> Option<i64> {
    match name.strip_prefix("__vdso_").unwrap_or(name) {
        "clock_gettime" => Some(libc::SYS_clock_gettime),
        "clock_getres" => Some(libc::SYS_clock_getres),
        "gettimeofday" => Some(libc::SYS_gettimeofday),
        "time" => Some(libc::SYS_time),
        "getcpu" => Some(libc::SYS_getcpu),
        "getrandom" => Some(libc::SYS_getrandom),
        _ => None,
    }
}

/// Patches the bytes of an old vdso so that its functions lead to those of the new one, which is at `base`.
pub fn redirect(old: &mut [u8], new: &[u8], base: u64) {
    let same = *old == *new;
    let targets = functions(new);
    let sources = functions(old);
    for (index, function) in sources.iter().enumerate() {
        let target = targets.iter().find(|target| target.name == function.name);
        // The state that getrandom's callers keep has a layout of its own in each kernel.
        let foreign_state = !same && function.name.ends_with("getrandom");
        let code = match (target, equivalent(&function.name)) {
            (Some(target), _) if !foreign_state => jump(base + target.offset),
            (_, Some(number)) => system_call(number),
            _ => continue,
        };
        let next = sources[index..].iter().map(|next| next.offset).find(|offset| *offset > function.offset);
        let start = function.offset as usize;
        let room = next.unwrap_or(old.len() as u64) as usize - start;
        let code =
            if code.len() <= room { code } else { equivalent(&function.name).map(system_call).unwrap_or_default() };
        if let Some(place) = old.get_mut(start..start + code.len()).filter(|place| place.len() <= room) {
            place.copy_from_slice(&code);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Vec<u8> {
        Current::among(&crate::gaps::current().unwrap()).unwrap().bytes().to_vec()
    }

    #[test]
    fn the_running_kernel_exports_clock_gettime() {
        let list = functions(&own());
        assert!(list.iter().any(|function| function.name == "__vdso_clock_gettime"), "{list:?}");
        assert!(list.windows(2).all(|pair| pair[0].offset <= pair[1].offset));
    }

    #[test]
    fn every_function_of_a_redirected_vdso_jumps_to_its_namesake() {
        let new = own();
        let mut old = new.clone();
        redirect(&mut old, &new, 0x7fff_0000_0000);
        for function in functions(&new) {
            let code = &old[function.offset as usize..][..13];
            assert_eq!(code, jump(0x7fff_0000_0000 + function.offset), "{}", function.name);
        }
    }

    #[test]
    fn a_function_that_the_new_vdso_lacks_makes_the_system_call() {
        let mut old = own();
        let list = functions(&old);
        redirect(&mut old, b"not a vdso", 0);
        let clock = list.iter().find(|function| function.name == "__vdso_clock_gettime").unwrap();
        assert_eq!(old[clock.offset as usize..][..8], system_call(libc::SYS_clock_gettime));
    }

    #[test]
    fn junk_has_no_functions() {
        assert!(functions(&[0; 8192]).is_empty());
    }
}
