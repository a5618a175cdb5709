//! The macros that a plugin's in-process half is written with.

/// Defines wrappers and a list of them.
///
/// ```ignore
/// dmtcp_plugin_api::wrappers! { pub static WRAPPERS;
///     /// Why it is wrapped.
///     fn getpid() -> libc::pid_t { next() }
/// }
/// ```
/// Inside a body, `next(...)` calls the next wrapper in the chain, at last the real function, with the same signature.
/// A wrapper holds nothing across `next`: a signal handler may jump out of it, a C++ exception or a cancellation unwind it.
#[macro_export]
macro_rules! wrappers {
    ($vis:vis static $list:ident;
     $($(#[doc = $doc:literal])* $(#[priority($priority:literal)])? $(#[version($version:literal)])?
       fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block)*) => {
        $(
            #[doc(hidden)]
            #[allow(non_snake_case)]
            pub(crate) mod $name {
                #[allow(unused_imports)]
                use super::*;

                $crate::wrapped_symbol!($name, wrapper, $crate::wrappers!(@version $($version)?), $crate::wrappers!(@priority $($priority)?));

                #[allow(dead_code)]
                #[inline(always)]
                pub fn next($($arg: $ty),*) $(-> $ret)? {
                    let address = NEXT.load(::std::sync::atomic::Ordering::Relaxed);
                    // SAFETY: the core wires NEXT before it wires any SLOT through which a wrapper can be reached, always to
                    // a function of the wrapped symbol's type.
                    let function: extern "C" fn($($ty),*) $(-> $ret)? = unsafe { ::std::mem::transmute(address) };
                    function($($arg),*)
                }

                $(#[doc = $doc])*
                pub extern "C" fn wrapper($($arg: $ty),*) $(-> $ret)? $body
            }
        )*
        /// The wrappers of this module.
        $vis static $list: &[&$crate::abi::Wrapper] = &[$(&$name::WRAPPER),*];
    };
    (@version) => { ::std::ptr::null() };
    (@version $version:literal) => { concat!($version, "\0").as_ptr().cast() };
    (@priority) => { 0 };
    (@priority $priority:literal) => { $priority };
}

/// What a wrapped symbol consists of, in the module of that name: its cells, its descriptor, and the stub that is exported.
/// `$function` is what stands in the chain; [`wrappers!`] makes it, or somebody who needs one that Rust cannot write.
#[doc(hidden)]
#[macro_export]
macro_rules! wrapped_symbol {
    ($name:ident, $function:path, $version:expr, $priority:expr) => {
        pub static SLOT: ::std::sync::atomic::AtomicUsize = ::std::sync::atomic::AtomicUsize::new(0);
        pub static NEXT: ::std::sync::atomic::AtomicUsize = ::std::sync::atomic::AtomicUsize::new(0);
        pub static WRAPPER: $crate::abi::Wrapper = $crate::abi::Wrapper {
            symbol: concat!(stringify!($name), "\0").as_ptr().cast(),
            version: $version,
            function: $function as *const ::std::ffi::c_void,
            stub: stub as *const ::std::ffi::c_void,
            slot: &SLOT,
            next: &NEXT,
            priority: $priority,
            flags: 0,
        };

        #[unsafe(naked)]
        #[cfg_attr(not(test), unsafe(export_name = stringify!($name)))]
        pub unsafe extern "C" fn stub() {
            ::core::arch::naked_asm!(
                "mov r11, [rip + {slot}]",
                "test r11, r11",
                "jz 2f",
                "jmp r11",
                "2:",
                "lea r11, [rip + {wrapper}]",
                "jmp {lazy}",
                slot = sym SLOT,
                wrapper = sym WRAPPER,
                lazy = sym $crate::private::lazy_stub,
            )
        }
    };
}

/// Declares the plugin: exports its descriptor, installs its allocator.
///
/// ```ignore
/// dmtcp_plugin_api::plugin! {
///     name: "event",
///     priority: 0,
///     requires: ["descriptors"],
///     wrappers: [WRAPPERS],
///     init: |core| true,
/// }
/// ```
#[macro_export]
macro_rules! plugin {
    (name: $name:literal, priority: $priority:expr, requires: [$($requires:literal),* $(,)?],
     wrappers: [$($wrappers:expr),* $(,)?], init: $init:expr $(,)?) => {
        #[cfg(not(test))]
        #[global_allocator]
        static ARENAS: $crate::arena::Arenas = $crate::arena::Arenas::new();

        #[cfg(not(test))]
        $crate::memory_functions!();

        /// What the core finds this plugin by.
        #[cfg_attr(not(test), unsafe(no_mangle))]
        #[allow(non_upper_case_globals)]
        pub static dmtcp_plugin_v1: $crate::abi::Plugin = $crate::abi::Plugin {
            abi: $crate::abi::ABI_VERSION,
            size: ::std::mem::size_of::<$crate::abi::Plugin>() as u32,
            core_size: ::std::mem::size_of::<$crate::abi::CoreApi>() as u32,
            priority: $priority,
            name: concat!($name, "\0").as_ptr().cast(),
            version: concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast(),
            requires: DMTCP_REQUIRES.0.as_ptr(),
            wrappers: DMTCP_WRAPPERS.as_ptr(),
            wrapper_lists: DMTCP_WRAPPERS.len(),
            next_symbol: $crate::private::next_symbol,
            init: dmtcp_plugin_init,
            on_event: $crate::core::dispatch,
        };

        /// For which events it has hooks.
        #[cfg_attr(not(test), unsafe(export_name = "dmtcp_plugin_events_v1"))]
        pub unsafe extern "C" fn dmtcp_plugin_events(into: *mut u32, room: usize) -> usize {
            // SAFETY: the caller's promise is the same.
            unsafe { $crate::core::events(into, room) }
        }

        const DMTCP_REQUIRED: &[&str] = &[$($requires),*];
        struct Requires([*const ::std::ffi::c_char; 1 + DMTCP_REQUIRED.len()]);
        // SAFETY: pointers to constant texts.
        unsafe impl Sync for Requires {}
        static DMTCP_REQUIRES: Requires =
            Requires([$(concat!($requires, "\0").as_ptr().cast(),)* ::std::ptr::null()]);
        static DMTCP_WRAPPERS: &[$crate::abi::WrapperList] =
            &[$($crate::abi::WrapperList { first: $wrappers.as_ptr(), count: $wrappers.len() }),*];

        extern "C" fn dmtcp_plugin_init(api: &'static $crate::abi::CoreApi) -> i32 {
            let init: fn($crate::core::Core) -> bool = $init;
            #[cfg(not(test))]
            $crate::arena::register(&ARENAS);
            i32::from(!$crate::core::attach(api, $name, init))
        }
    };
}

/// Registers a hook for an event: `hook!(PreCheckpoint, |core| { ... });` A plugin's hooks of one event run in the order of
/// their `priority` (0 if not given), smaller ones first before a checkpoint, last after it.
///
/// An event that comes with something gives it as well: `hook!(OpenFd, |core, opened| { ... });` has a `&mut abi::OpenFd`.
/// Such hooks run on the thread of the application that does it.
#[macro_export]
macro_rules! hook {
    ($event:ident, |$core:pat_param, $payload:ident| $body:expr) => {
        $crate::private::inventory::submit! {
            $crate::core::Hook {
                event: $crate::abi::Event::$event,
                priority: 0,
                run: |$core, data| {
                    // SAFETY: this event's payload is of this type, and nobody else uses it meanwhile.
                    let $payload: &mut $crate::abi::$event = unsafe { &mut *data.cast() };
                    $body
                },
            }
        }
    };
    ($event:ident, $hook:expr) => {
        $crate::hook!($event, priority: 0, $hook);
    };
    ($event:ident, priority: $priority:expr, $hook:expr) => {
        $crate::private::inventory::submit! {
            $crate::core::Hook {
                event: $crate::abi::Event::$event,
                priority: $priority,
                run: |core, _| {
                    let hook: fn($crate::core::Core) = $hook;
                    hook(core)
                },
            }
        }
    };
}
