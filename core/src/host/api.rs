//! The functions that the core hands to plugins: [`CoreApi`].

use super::{description, exchange, happened, services};
use crate::{capture, interface, life, log, signal, threads};
use dmtcp_plugin_api::abi::{CoreApi, MappingView};
use dmtcp_plugin_api::core::Level;
use dmtcp_plugin_api::usage::Usage;
use std::ffi::{CStr, c_char, c_void};

/// The table.
pub static API: CoreApi = CoreApi {
    size: size_of::<CoreApi>() as u32,
    reserved: 0,
    log: write_log,
    section,
    blob,
    new_object,
    claim_mapping,
    mappings,
    unsupported,
    fail,
    application_task,
    copy_descriptor,
    offer_service: services::offer,
    find_service: services::find,
    threads: list_threads,
    restart_environment,
    neighbours,
    checkpoint_directory,
    tell,
    generation,
    set_checkpoint_directory,
    name: exchange::name,
    meet: exchange::meet,
    exclude,
    wanted: happened::wanted,
    happened: happened::happened,
    tasks,
    asked: happened::asked,
    divert,
    in_each_thread,
    thread_usage,
    carry,
};

/// Bytes that a plugin passed.
pub fn bytes<'a>(start: *const u8, length: usize) -> &'a [u8] {
    if length == 0 {
        return &[];
    }
    // SAFETY: the interface demands `length` readable bytes for the duration of the call.
    unsafe { std::slice::from_raw_parts(start, length) }
}

pub fn string(start: *const u8, length: usize) -> String {
    String::from_utf8_lossy(bytes(start, length)).into_owned()
}

extern "C" fn write_log(level: u32, component: *const u8, component_length: usize, text: *const u8, length: usize) {
    let level = [Level::Error, Level::Warning, Level::Note, Level::Trace][level.min(3) as usize];
    log::line(level, &string(component, component_length), &string(text, length));
}

extern "C" fn section(p: *const u8, pn: usize, n: *const u8, nn: usize, b: *const u8, bn: usize) {
    description::with(|d| d.sections.push((string(p, pn), string(n, nn), bytes(b, bn).to_vec())));
}

extern "C" fn blob(p: *const u8, pn: usize, n: *const u8, nn: usize, address: u64, length: u64) {
    description::with(|d| d.blobs.push((string(p, pn), string(n, nn), address, length)));
}

extern "C" fn exclude(start: u64, length: u64) {
    description::with(|d| d.exclude(start, start.saturating_add(length)));
}

extern "C" fn new_object() -> u64 {
    description::new_object()
}

extern "C" fn claim_mapping(start: u64, object: u64, offset: u64) -> bool {
    description::with(|d| {
        let free = d.claims.iter().all(|c| c.start != start);
        if free {
            d.claims.push(description::Claim { start, object, offset });
        }
        free
    })
    .unwrap_or(false)
}

extern "C" fn mappings(callback: extern "C" fn(*mut c_void, *const MappingView), context: *mut c_void) {
    let Ok(maps) = capture::maps::read() else { return };
    for mapping in &maps {
        let view = MappingView {
            start: mapping.start,
            end: mapping.end,
            offset: mapping.offset,
            inode: mapping.inode,
            dev_major: mapping.dev_major,
            dev_minor: mapping.dev_minor,
            prot: mapping.prot,
            shared: u32::from(mapping.shared),
            flags: mapping.flags,
            name: mapping.name.as_ptr(),
            name_length: mapping.name.len(),
        };
        callback(context, &raw const view);
    }
}

extern "C" fn unsupported(text: *const u8, length: usize) {
    description::with(|d| d.unsupported.push(string(text, length)));
}

extern "C" fn fail(text: *const u8, length: usize) {
    description::with(|d| d.failure.get_or_insert_with(|| string(text, length)).len());
}

extern "C" fn application_task() -> i32 {
    threads::first_alive()
}

extern "C" fn copy_descriptor(number: i32) -> i32 {
    life::descriptors::copy(number)
}

/// Copies ids into a caller's array; how many there are.
fn fill(ids: &[i32], into: *mut i32, room: usize) -> usize {
    for (i, id) in ids.iter().take(room).enumerate() {
        // SAFETY: `i` is below `room`, the number of elements that the caller has.
        unsafe { into.add(i).write(*id) };
    }
    ids.len()
}

extern "C" fn list_threads(into: *mut i32, room: usize) -> usize {
    fill(&threads::parked_tids(), into, room)
}

extern "C" fn tasks(into: *mut [i32; 2], room: usize) -> usize {
    let tasks = threads::known();
    for (i, pair) in tasks.iter().take(room).enumerate() {
        // SAFETY: `i` is below `room`, the number of elements that the caller has.
        unsafe { into.add(i).write(*pair) };
    }
    tasks.len()
}

extern "C" fn neighbours(into: *mut i32, room: usize) -> usize {
    fill(description::neighbours(), into, room)
}

extern "C" fn restart_environment(name: *const c_char, into: *mut c_char, room: usize) -> isize {
    // SAFETY: the interface demands a zero-terminated name.
    let name = unsafe { CStr::from_ptr(name) }.to_bytes();
    let Some(value) = life::restore::environment(name) else { return -1 };
    give(value, into, room)
}

extern "C" fn checkpoint_directory(into: *mut c_char, room: usize) -> isize {
    interface::files::directory().map_or(-1, |directory| give(directory.as_bytes(), into, room))
}

extern "C" fn generation() -> u64 {
    interface::news::snapshot().captured
}

extern "C" fn set_checkpoint_directory(path: *const u8, length: usize) -> bool {
    interface::files::choose_directory(bytes(path, length))
}

extern "C" fn divert(gate: usize, start: u64, end: u64, signals: u64) {
    // SAFETY: the interface demands that the instruction stays.
    unsafe { dmtcp_plugin_api::sys::gate::set(gate) };
    threads::note_trapped(start, end);
    signal::leave_unblocked(signals);
}

extern "C" fn in_each_thread(function: extern "C" fn(*mut c_void)) {
    threads::in_each(function);
}

extern "C" fn thread_usage(tid: i32, into: *mut [Usage; 2]) -> bool {
    let used = threads::usage_of(tid);
    // SAFETY: the caller has room for both.
    used.map(|used| unsafe { into.write(used) }).is_some()
}

extern "C" fn carry(name: *const u8, name_length: usize, value: *const u8, length: usize) {
    life::exec::carry(&[(&string(name, name_length), string(value, length))]);
}

extern "C" fn tell(text: *const u8, length: usize) {
    log::tell(&string(text, length));
}

/// Copies a text with its zero; its length, or -2: it does not fit.
fn give(value: &[u8], into: *mut c_char, room: usize) -> isize {
    if value.len() + 1 > room {
        return -2;
    }
    // SAFETY: the caller has `room` bytes, and the value with its zero fits.
    unsafe {
        std::ptr::copy_nonoverlapping(value.as_ptr(), into.cast(), value.len());
        into.add(value.len()).write(0);
    }
    value.len() as isize
}
