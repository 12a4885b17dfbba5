//! Makes sled's sync points real. The only `unsafe` of the project.
//!
//! sled 0.34.7 ends `flush` in `sync_file_range(2)` on Linux. That call starts and awaits the write
//! of dirty pages, but flushes neither the disk's write cache nor file metadata (its manual page
//! warns of both), so a power cut takes acknowledged data away. sled also writes snapshot files,
//! which it syncs properly and which may then be ahead of the log, so that a sync of our own after
//! `flush` is not enough: every one of sled's own sync points must be real.
//!
//! The function below has the name of libc's `sync_file_range`. The static linker finds it before
//! it looks into the shared libc, so sled calls it instead, and it calls `fdatasync`, which does
//! what is needed. A counter proves at start that this happened: an engine refuses to run unless
//! the counter moved during a flush.
//!
//! This does not make `fdatasync` itself honest: a disk that lies about its cache still lies.

#![allow(unsafe_code, reason = "a C symbol must be exported to take libc's place")]

use std::{
    ffi::c_int,
    sync::atomic::{AtomicU64, Ordering},
};

/// How often sled has reached a real sync in this process. Global because C symbols are.
static SYNCS: AtomicU64 = AtomicU64::new(0);

/// How often sled has reached a real sync in this process.
#[inline(never)]
pub(crate) fn count() -> u64 {
    SYNCS.load(Ordering::SeqCst)
}

/// Takes the place of libc's function; see the module header. The range and flags are ignored:
/// the whole file is synced. Like libc's, it answers 0, or -1 with `errno` set.
///
/// # Safety
///
/// `fd` must be an open file descriptor, as for libc's function.
#[expect(unreachable_pub, reason = "the linker reaches it, by its name")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sync_file_range(
    fd: c_int,
    _offset: i64,
    _bytes: i64,
    _flags: u32,
) -> c_int {
    // SAFETY: fdatasync takes any number and answers EBADF for one that is no open file.
    let result = unsafe { libc::fdatasync(fd) };
    if result == 0 {
        SYNCS.fetch_add(1, Ordering::SeqCst);
    }
    result
}
