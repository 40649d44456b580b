//! What the kernel knows of a process: its memory, its descriptors, its processor time. Elsewhere
//! than on Linux it tells nothing: 0.

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

/// Processor seconds of a process, in user and system mode.
pub fn processor(process: u32) -> f64 {
    ticks(process, [11, 12])
}

/// Processor seconds of the processes that this one has started and that have ended.
pub fn processor_of_children() -> f64 {
    ticks(std::process::id(), [13, 14])
}

/// The sum of some fields behind the name in a process's `stat`, in seconds.
fn ticks(process: u32, fields: [usize; 2]) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name in parentheses may hold anything.
    let all: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks =
        fields.map(|at| all.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0));
    // The kernel counts in hundredths of a second wherever this runs.
    ticks.iter().sum::<f64>() / 100.0
}

fn bytes(process: u32, key: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
