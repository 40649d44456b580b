//! The binary `mailqos-probe`.

use std::process::ExitCode;

fn main() -> ExitCode {
    mailqos_probe::commands::main()
}
