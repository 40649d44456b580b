//! The binary `mailqos-analytics`.

use std::process::ExitCode;

/// Columns are decoded and let go a thousand times: this allocator keeps their pages, the system's gives them back each time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    mailqos_analytics::commands::main()
}
