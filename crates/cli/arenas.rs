//! How much the C library's allocator may keep of what was freed.
//!
//! It has up to eight arenas a core, gives threads one each, and returns to the system what is free at an arena's end alone. A
//! daemon begins a thread a job: with an arena each, what one night's backup freed was of no use to the prune after it, and
//! 10,000 sites took 317 MB of memory, and 120 MB without (`docs/benchmarks.md`).

/// As many arenas as cores, and two at least: to be called before there are other threads.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn limit() {
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get).max(2);
    let arenas = libc::c_int::try_from(cores).unwrap_or(libc::c_int::MAX);
    // SAFETY: it takes two numbers, and no other thread allocates yet.
    #[allow(unsafe_code)]
    let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, arenas) };
}

/// Others have an allocator of their own kind.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn limit() {}
