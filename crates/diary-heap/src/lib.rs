//! Gives freed memory back to the system.
//!
//! glibc returns only what is freed at the top of its heaps. After many sessions have held much, the rest of the heap is
//! free and stays resident. This is the one crate with unsafe code, so that no other needs any.

/// Gives the free pages of all heaps back. It takes some milliseconds and holds up who allocates meanwhile. Other
/// allocators than glibc's give memory back by themselves; there it does nothing.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim (malloc_trim(3)) takes no pointer, may be called at any time, and is thread-safe.
    unsafe {
        libc::malloc_trim(0);
    }
}
