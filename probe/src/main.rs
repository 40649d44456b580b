//! The binary `mailqos-probe`.

fn main() {}
