//! The binary `mailqos-analytics`.

use std::process::ExitCode;

fn main() -> ExitCode {
    mailqos_analytics::commands::main()
}
