//! How the allocator gives memory back. It must never be asked for anything else.

/// Has freed memory go back to the system, in few arenas: call it first in `main`, before any thread.
///
/// glibc makes up to eight arenas a core, takes large blocks from them once one has been freed, and then keeps
/// twice that size at the end of each. Databases that are opened, filled and closed all day leave tens of megabytes in
/// every arena that way.
pub fn give_back() {
    crate::sys::set_allocator(2, 256 << 10);
}

/// Gives freed memory between blocks in use back too, whole pages of it. It walks what is free, tens of milliseconds
/// for hundreds of megabytes: for a blocking thread, now and then. With `GLASSHIVE_LOG=glasshive_daemon::memory=debug`
/// it says what is in use: unlike resident memory that does not depend on how the rest is scattered.
pub fn trim() {
    crate::sys::trim_allocator();
    if tracing::enabled!(tracing::Level::DEBUG) {
        tracing::debug!(in_use = crate::sys::allocated(), "freed memory given back");
    }
}
