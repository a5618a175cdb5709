//! Wrappers that look at a call and let it pass: for functions whose signature Rust cannot write down (variadic ones) and for
//! those that return twice (vfork, setjmp). Nothing of ours is on the stack, and all registers that arguments come in are
//! as the caller left them, when the next function is entered, by a jump.
//!
//! What can go wrong: a function that takes vectors of more than 128 bits by value gets half of them.

use std::sync::atomic::{AtomicUsize, Ordering};

/// What a wrapper of [`pass_through!`](crate::pass_through) needs to know of itself.
#[derive(Debug)]
pub struct Passing {
    /// The next function in the chain.
    pub next: &'static AtomicUsize,
    /// What looks at the call: it gets the six words that integers and pointers come in, the first argument first.
    pub look: fn(&[usize; 6]),
}

extern "C" fn look(passing: &'static Passing, saved: &[usize; 6]) -> usize {
    let mut arguments = *saved;
    arguments.reverse();
    (passing.look)(&arguments);
    passing.next.load(Ordering::Relaxed)
}

/// Entered by a jump from a wrapper with the address of its [`Passing`] in r11.
///
/// # Safety
/// Not a function to call.
#[doc(hidden)]
#[unsafe(naked)]
pub unsafe extern "C" fn enter() {
    crate::resolve_and_jump!(look)
}

/// Defines wrappers that look at a call and let it pass, and a list of them.
///
/// ```ignore
/// dmtcp_plugin_api::pass_through! { pub static WATCHED;
///     /// Why it is looked at.
///     fn ioctl => device_is_used;
///     /// The same, as long as a number is not 0; otherwise it costs three instructions.
///     fn vfork if IS_WATCHING => program_is_started;
/// }
/// static IS_WATCHING: AtomicU32 = AtomicU32::new(0);
/// fn device_is_used(arguments: &[usize; 6]) {}
/// ```
/// The function that looks returns before the wrapped one is entered, whose result nobody sees. It keeps `errno`.
#[macro_export]
macro_rules! pass_through {
    ($vis:vis static $list:ident;
     $($(#[doc = $doc:literal])* $(#[priority($priority:literal)])? $(#[version($version:literal)])?
       fn $name:ident $(if $flag:ident)? => $look:path;)*) => {
        $(
            #[doc(hidden)]
            #[allow(non_snake_case)]
            pub(crate) mod $name {
                #[allow(unused_imports)]
                use super::*;

                $crate::wrapped_symbol!($name, wrapper, $crate::wrappers!(@version $($version)?), $crate::wrappers!(@priority $($priority)?));

                static PASSING: $crate::passing::Passing = $crate::passing::Passing { next: &NEXT, look: $look };

                $(#[doc = $doc])*
                ///
                /// # Safety
                /// Not a function to call: it has the wrapped function's signature.
                #[unsafe(naked)]
                pub unsafe extern "C" fn wrapper() {
                    $crate::pass_through!(@enter $($flag)?)
                }
            }
        )*
        /// The wrappers of this list.
        $vis static $list: &[&$crate::abi::Wrapper] = &[$(&$name::WRAPPER),*];
    };
    (@enter) => {
        ::core::arch::naked_asm!(
            "lea r11, [rip + {passing}]",
            "jmp {enter}",
            passing = sym PASSING,
            enter = sym $crate::passing::enter,
        )
    };
    (@enter $flag:ident) => {
        ::core::arch::naked_asm!(
            "cmp dword ptr [rip + {flag}], 0",
            "jne 2f",
            "jmp qword ptr [rip + {next}]",
            "2:",
            "lea r11, [rip + {passing}]",
            "jmp {enter}",
            flag = sym $flag,
            next = sym NEXT,
            passing = sym PASSING,
            enter = sym $crate::passing::enter,
        )
    };
}
