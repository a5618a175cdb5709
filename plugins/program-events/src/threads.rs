//! Threads that begin and end. The program's start routine runs inside one of ours, which holds nothing while it does: a
//! cancellation or pthread_exit unwinds through it.

use crate::{tell_of, wanted};
use dmtcp_plugin_api::abi::Event;
use libc::{c_int, c_void};

type Start = extern "C" fn(*mut c_void) -> *mut c_void;

/// What the new thread is to run.
struct Beginning {
    start: Start,
    argument: *mut c_void,
}

/// Tells of an event, if anybody asks.
fn say(event: Event) {
    if wanted(event) {
        tell_of(event);
    }
}

extern "C" fn begin(beginning: *mut c_void) -> *mut c_void {
    // SAFETY: `pthread_create` below leaked it for this thread alone.
    let Beginning { start, argument } = *unsafe { Box::from_raw(beginning.cast::<Beginning>()) };
    say(Event::PthreadStart);
    let result = start(argument);
    say(Event::PthreadReturn);
    result
}

dmtcp_plugin_api::wrappers! { pub static WRAPPERS;
    /// PTHREAD_START and PTHREAD_RETURN, on the new thread.
    fn pthread_create(thread: *mut c_void, attributes: *const c_void, start: Start, argument: *mut c_void) -> c_int {
        if ![Event::PthreadStart, Event::PthreadReturn].into_iter().any(wanted) {
            return next(thread, attributes, start, argument);
        }
        let beginning = Box::into_raw(Box::new(Beginning { start, argument }));
        let result = next(thread, attributes, begin, beginning.cast());
        if result != 0 {
            // SAFETY: no thread has come into being that could use it.
            drop(unsafe { Box::from_raw(beginning) });
        }
        result
    }
    /// PTHREAD_EXIT.
    fn pthread_exit(value: *mut c_void) -> () {
        say(Event::PthreadExit);
        next(value);
    }
}
