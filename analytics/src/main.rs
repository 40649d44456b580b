//! The binary `mailqos-analytics`.

fn main() {}
