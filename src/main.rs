//! The `srlora` command.

use std::process::ExitCode;

/// tract aligns its tensors to 64 bytes, and the C library of most devices does not use such memory again well (glibc before
/// 2.38, its bug 14581): a heap would grow with every photo. This one is the same on every system.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    srlora::cli::main()
}
