//! The root module that a plugin's shared object exports for programs, checked by `abi_stable` when it is loaded.
//!
//! Frozen: a newer program must accept an older plugin, and `abi_stable` refuses fields that it does not expect. What
//! grows is [`super::HostTable`].

use super::{Host, HostRef, RestartHalf};
use abi_stable::StableAbi;
use abi_stable::library::RootModule;
use abi_stable::sabi_types::VersionStrings;
use abi_stable::std_types::{RResult, RStr, RString, RVec};

/// The functions of a restart half.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = RestartModuleRef)))]
#[sabi(missing_field(panic))]
pub struct RestartModule {
    /// Name of the plugin, as its in-process half has it.
    pub name: RStr<'static>,
    /// [`RestartHalf::check`].
    pub check: extern "C" fn(HostRef) -> RVec<RString>,
    /// [`RestartHalf::create`].
    pub create: extern "C" fn(HostRef) -> RResult<(), RString>,
    /// [`RestartHalf::place`].
    pub place: extern "C" fn(HostRef, u32) -> RResult<(), RString>,
    /// [`RestartHalf::explain`].
    #[sabi(last_prefix_field)]
    pub explain: extern "C" fn(HostRef, u32) -> RString,
}

impl RootModule for RestartModuleRef {
    abi_stable::declare_root_module_statics! {RestartModuleRef}
    const BASE_NAME: &'static str = "dmtcp_plugin";
    const NAME: &'static str = "dmtcp_plugin";
    // Of the table, not of this package: a plugin built with any release stays loadable.
    const VERSION_STRINGS: VersionStrings = VersionStrings::new("1.0.0");
}

/// Functions of the shape that [`RestartModule`] wants, made from a [`RestartHalf`]. Used by `restart_half!`. A panic in a
/// restart half is one of its errors.
pub mod adapter {
    use super::{Host, HostRef, RResult, RString, RVec, RestartHalf};
    use crate::guard;

    fn text(outcome: Result<String, String>) -> RString {
        outcome.unwrap_or_else(|reason| reason).into()
    }

    fn nothing(outcome: Result<Result<(), String>, String>) -> RResult<(), RString> {
        outcome.and_then(|result| result).map_err(RString::from).into()
    }

    /// Adapts [`RestartHalf::check`].
    pub extern "C" fn check<H: RestartHalf + Default>(host: HostRef) -> RVec<RString> {
        // SAFETY: the program passes a table that outlives the call.
        let host = unsafe { Host::from_ref(host) };
        let missing = guard::run(|| H::default().check(&host)).unwrap_or_else(|reason| vec![reason]);
        missing.into_iter().map(RString::from).collect()
    }

    /// Adapts [`RestartHalf::create`].
    pub extern "C" fn create<H: RestartHalf + Default>(host: HostRef) -> RResult<(), RString> {
        // SAFETY: the program passes a table that outlives the call.
        let host = unsafe { Host::from_ref(host) };
        nothing(guard::run(|| H::default().create(&host)))
    }

    /// Adapts [`RestartHalf::place`].
    pub extern "C" fn place<H: RestartHalf + Default>(host: HostRef, index: u32) -> RResult<(), RString> {
        // SAFETY: the program passes a table that outlives the call.
        let host = unsafe { Host::from_ref(host) };
        nothing(guard::run(|| H::default().place(&host, index)))
    }

    /// Adapts [`RestartHalf::explain`].
    pub extern "C" fn explain<H: RestartHalf + Default>(host: HostRef, index: u32) -> RString {
        // SAFETY: the program passes a table that outlives the call.
        let host = unsafe { Host::from_ref(host) };
        text(guard::run(|| H::default().explain(&host, index)))
    }
}

/// Exports a type that implements [`RestartHalf`] and [`Default`] as the plugin's restart half.
#[macro_export]
macro_rules! restart_half {
    ($name:literal, $half:ty) => {
        #[doc(hidden)]
        #[allow(missing_docs)]
        pub mod dmtcp_restart_export {
            #[allow(unused_imports)]
            use super::*;

            #[abi_stable::export_root_module]
            pub fn module() -> $crate::restart::RestartModuleRef {
                use abi_stable::prefix_type::PrefixTypeTrait;
                $crate::restart::RestartModule {
                    name: abi_stable::std_types::RStr::from_str($name),
                    check: $crate::restart::adapter::check::<$half>,
                    create: $crate::restart::adapter::create::<$half>,
                    place: $crate::restart::adapter::place::<$half>,
                    explain: $crate::restart::adapter::explain::<$half>,
                }
                .leak_into_prefix()
            }
        }
    };
}
