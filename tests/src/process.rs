//! Statistics of a process from the kernel: memory, descriptors, processor time. On systems other
//! than Linux they are 0.

use std::fs;

/// Returns the peak memory of a process, in bytes.
pub fn peak_memory(process: u32) -> u64 {
    bytes(process, "VmHWM:")
}

/// Returns the current memory of a process, in bytes.
pub fn memory(process: u32) -> u64 {
    bytes(process, "VmRSS:")
}

/// Returns how many files, sockets and similar objects a process has open.
pub fn descriptors(process: u32) -> u64 {
    fs::read_dir(format!("/proc/{process}/fd")).map_or(0, Iterator::count) as u64
}

/// Returns the processor time of a process in seconds, in user and system mode.
pub fn processor(process: u32) -> f64 {
    ticks(process, [11, 12])
}

/// Returns the processor time in seconds of ended child processes of this one.
pub fn processor_of_children() -> f64 {
    ticks(std::process::id(), [13, 14])
}

/// Returns the sum of some fields after the name in a process's `stat`, in seconds.
fn ticks(process: u32, fields: [usize; 2]) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name in parentheses may contain anything.
    let all: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks =
        fields.map(|at| all.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0));
    // The kernel counts in hundredths of a second on all supported machines.
    ticks.iter().sum::<f64>() / 100.0
}

fn bytes(process: u32, key: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
