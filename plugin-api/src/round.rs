//! What an in-process half remembers from one event to the next, or from one claim to the next.
//!
//! Only one thread at a time works on it, in practice the checkpoint thread. Nobody ever waits: whoever comes while the
//! value is in use, which means that it called itself, gets nothing.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, Ordering};

/// A value for a `static`.
#[derive(Debug)]
pub struct Round<T> {
    in_use: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: `with` hands out the value to one caller at a time.
unsafe impl<T: Send> Sync for Round<T> {}

impl<T> Round<T> {
    /// Holds a first value.
    pub const fn new(value: T) -> Self {
        Self { in_use: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Works on the value; `None` if it is in use.
    pub fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        if self.in_use.swap(true, Ordering::Acquire) {
            return None;
        }
        // SAFETY: the flag was clear, so nobody else has a reference, and it is set until `f` has returned.
        let result = f(unsafe { &mut *self.value.get() });
        self.in_use.store(false, Ordering::Release);
        Some(result)
    }

    /// Takes the value out and leaves an empty one.
    pub fn take(&self) -> T
    where
        T: Default,
    {
        self.with(std::mem::take).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::Round;

    #[test]
    fn a_second_user_gets_nothing() {
        static ROUND: Round<u32> = Round::new(1);
        assert_eq!(ROUND.with(|v| (std::mem::replace(v, 2), ROUND.with(|_| ()))), Some((1, None)));
        assert_eq!(ROUND.take(), 2);
        assert_eq!(ROUND.with(|v| *v), Some(0));
    }
}
