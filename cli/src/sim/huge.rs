//! Huge pages for runs: thousands of hosts lie all over the memory, and whatever happens, happens to
//! another one. With pages of 4 KiB a run of 1,000 peers spends a fifth of its time on finding out
//! where its memory is.

/// Begins the program anew with memory in huge pages, where there are any. The C library's allocator
/// reads what it is told before anything of ours runs, so there is no other way; it stays the same
/// process. Whoever has told it something, even nothing, is left his will.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(super) fn begin_anew() {
    use std::env;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    const TUNABLES: &str = "GLIBC_TUNABLES";
    if env::var_os(TUNABLES).is_some() {
        return;
    }
    let mut args = env::args_os();
    if let (Ok(program), Some(called)) = (env::current_exe(), args.next()) {
        let mut anew = Command::new(program);
        anew.arg0(called).args(args).env(TUNABLES, "glibc.malloc.hugetlb=1");
        // Comes back only if that is not possible; the run is slower then.
        let _ = anew.exec();
    }
}

/// Elsewhere the system has none, or gives them by itself.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) const fn begin_anew() {}
