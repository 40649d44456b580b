//! What the kernel knows of a process: its memory and its descriptors. Elsewhere than on Linux it tells nothing: 0.

use std::fs;

/// The most memory that a process has had, in bytes.
pub fn peak_memory(process: u32) -> u64 {
    bytes(process, "VmHWM:")
}

/// The memory that a process has now, in bytes.
pub fn memory(process: u32) -> u64 {
    bytes(process, "VmRSS:")
}

/// How many files, sockets and the like a process has open.
pub fn descriptors(process: u32) -> u64 {
    fs::read_dir(format!("/proc/{process}/fd")).map_or(0, Iterator::count) as u64
}

fn bytes(process: u32, key: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
