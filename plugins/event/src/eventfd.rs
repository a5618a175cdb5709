//! eventfd(2): count, in hexadecimal, and whether it is a semaphore.

use crate::state::Kind;
use dmtcp_plugin_api::descriptors::Descriptor;
use dmtcp_plugin_api::sys;

/// Looks at one.
pub fn look(d: &Descriptor) -> Result<Kind, i32> {
    let count = d.info_field("eventfd-count").and_then(|c| u64::from_str_radix(c, 16).ok()).ok_or(libc::EPROTO)?;
    let semaphore = match d.info_field("eventfd-semaphore") {
        Some(text) => text != "0",
        None => probe(d.copy, count)?,
    };
    Ok(Kind::Counter { count, semaphore })
}

fn read(fd: i32) -> Result<u64, i32> {
    let mut value = [0; 8];
    sys::read(fd, &mut value)?;
    Ok(u64::from_ne_bytes(value))
}

fn add(fd: i32, value: u64) -> Result<(), i32> {
    if value == 0 {
        return Ok(());
    }
    sys::write(fd, &value.to_ne_bytes()).map(drop)
}

/// Older kernels do not tell a semaphore. One read of a count of at least two does: a semaphore gives 1, a counter all.
/// The count is as before when this returns.
fn probe(fd: i32, count: u64) -> Result<bool, i32> {
    let added = if count < 2 { 2 } else { 0 };
    add(fd, added)?;
    if read(fd)? != 1 {
        add(fd, count)?;
        return Ok(false);
    }
    match added {
        0 => add(fd, 1)?,
        _ => drop(read(fd)?),
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probing_tells_a_semaphore_and_leaves_the_count() {
        for semaphore in [false, true] {
            for count in [0, 1, 2, 3, u64::MAX - 1] {
                let flags = libc::EFD_NONBLOCK | libc::EFD_CLOEXEC | if semaphore { libc::EFD_SEMAPHORE } else { 0 };
                // SAFETY: no memory is passed; nobody else owns the result.
                let fd = sys::Fd::own(unsafe { libc::eventfd(0, flags) });
                add(fd.number(), count).unwrap();
                assert_eq!(probe(fd.number(), count), Ok(semaphore));
                let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.number())).unwrap();
                let shown = info.lines().find_map(|l| l.strip_prefix("eventfd-count:")).unwrap().trim().to_owned();
                assert_eq!(u64::from_str_radix(&shown, 16).unwrap(), count);
            }
        }
    }
}
