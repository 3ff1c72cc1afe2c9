//! How many heaps the C library keeps for a long-lived process.
//!
//! glibc gives threads heaps of their own, up to eight for each core, and what was freed in one is of no use to the
//! others. Database pages and objects wander between threads here: with 100,000 people the process held 126 MiB after a
//! few runs, with two heaps 93 MiB, at the same speed (another allocator, jemalloc, held 125 MiB). The number is read
//! when a process starts, and setting it later takes `unsafe` code: so the program starts itself once more, in place.

#[cfg(all(target_os = "linux", target_env = "gnu"))]
const NAME: &str = "MALLOC_ARENA_MAX";

/// Starts this program anew as the same process, with few heaps, unless whoever started it chose a number. Answers only
/// where that is not needed or not possible; nothing may have been opened before.
pub(super) fn keep_few() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        use std::os::unix::process::CommandExt as _;
        if std::env::var_os(NAME).is_some() {
            return;
        }
        let Ok(program) = std::env::current_exe() else { return };
        let mut arguments = std::env::args_os();
        let mut again = std::process::Command::new(program);
        if let Some(own) = arguments.next() {
            again.arg0(own);
        }
        let error = again.args(arguments).env(NAME, "2").exec();
        tracing::debug!(%error, "the number of heaps stays as it is");
    }
}
