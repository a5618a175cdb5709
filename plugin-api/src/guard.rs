//! A hook that panics is ended, and with it the plugin's part in the program; the program goes on.
//!
//! The profile aborts on a panic, and an abort would end somebody's computation. So a hook is [`run`] with a way out: the
//! panic hook, which runs before the abort, notes what happened and goes back to where the hook was called.
//!
//! ```text
//!   run --enter--> hook --panic--> panic hook --leave--> run: Err
//! ```
//! Nothing on the way is dropped: memory is lost, a lock stays locked. What such a plugin knows can no longer be relied on,
//! so none of its hooks runs again. A panic outside of a hook, in a wrapper, has no way out: it says so and aborts.

use crate::sys;
use std::cell::Cell;
use std::ffi::c_void;
use std::panic::PanicHookInfo;
use std::sync::OnceLock;

/// Why this plugin's hooks do not run any more.
static BROKEN: OnceLock<String> = OnceLock::new();
/// Set once per process.
static NOTICED: OnceLock<()> = OnceLock::new();

thread_local! {
    /// Stack pointer to go back to, 0: no hook runs on this thread. Constant and without a destructor: plain memory.
    static WAY_OUT: Cell<usize> = const { Cell::new(0) };
}

/// Calls `f(argument)` and returns 0. Where to come back to is in `*way_out` meanwhile; [`leave`] makes this return 1.
#[unsafe(naked)]
unsafe extern "C" fn enter(_f: extern "C" fn(*mut c_void), _argument: *mut c_void, _way_out: *mut usize) -> usize {
    core::arch::naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "sub rsp, 8",
        "mov [rdx], rsp",
        "mov rax, rdi",
        "mov rdi, rsi",
        "call rax",
        "xor eax, eax",
        "add rsp, 8",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}

/// Makes the [`enter`] that keeps this stack pointer return 1.
#[unsafe(naked)]
unsafe extern "C" fn leave(_way_out: usize) -> ! {
    core::arch::naked_asm!(
        "mov rsp, rdi",
        "mov eax, 1",
        "add rsp, 8",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}

fn on_panic(info: &PanicHookInfo<'_>) {
    let place = info.location().map(|at| format!(" at {}:{}", at.file(), at.line())).unwrap_or_default();
    let text = format!("panicked{place}: {}", info.payload_as_str().unwrap_or("(no text)"));
    let way_out = WAY_OUT.replace(0);
    if way_out == 0 {
        let name = crate::core::core().map_or("", |core| core.plugin());
        let _ =
            sys::write(2, format!("dmtcp: plugin {name} {text}; outside of a hook that ends the program\n").as_bytes());
        return;
    }
    // The first one counts.
    let _ = BROKEN.set(text);
    // SAFETY: the `enter` that set the cell is still active on this thread: `run` resets the cell after it.
    unsafe { leave(way_out) }
}

struct Call<F, R> {
    function: Option<F>,
    result: Option<R>,
}

extern "C" fn call<F: FnOnce() -> R, R>(argument: *mut c_void) {
    // SAFETY: `run` passes its own `Call`, which outlives this.
    let call = unsafe { &mut *argument.cast::<Call<F, R>>() };
    if let Some(function) = call.function.take() {
        call.result = Some(function());
    }
}

/// Why this plugin's hooks do not run any more, if that is so.
pub(crate) fn broken() -> Option<&'static str> {
    BROKEN.get().map(String::as_str)
}

/// Runs a hook. The error says why there is no result: it has panicked, or another one has before.
pub(crate) fn run<F: FnOnce() -> R, R>(hook: F) -> Result<R, String> {
    if let Some(reason) = BROKEN.get() {
        return Err(reason.clone());
    }
    NOTICED.get_or_init(|| std::panic::set_hook(Box::new(on_panic)));
    let mut hook = Call { function: Some(hook), result: None };
    // A hook may cause another one on its thread: EXIT, if it ends the program.
    let before = WAY_OUT.get();
    WAY_OUT.with(|cell| {
        // SAFETY: `call` gets the type of `Call` that it was made for; it and this thread's cell outlive `enter`.
        unsafe { enter(call_of(&hook), (&raw mut hook).cast(), cell.as_ptr()) }
    });
    WAY_OUT.set(before);
    hook.result.ok_or_else(|| BROKEN.get().cloned().unwrap_or_default())
}

/// The function that makes this call.
fn call_of<F: FnOnce() -> R, R>(_: &Call<F, R>) -> extern "C" fn(*mut c_void) {
    call::<F, R>
}
