//! Checks who can read the file of a secret.
//!
//! A file is accepted if one of these applies:
//! 1. Only its owner can read or write it.
//! 2. It belongs to root, this process runs as another user and in the file's group, the group can
//!    only read, and all others have no access: root has given it to this program.
//! 3. An orchestrator mounted it: it belongs to root, to this user, or to a user that does not
//!    exist in this user namespace, only its owner can write it, and it is where only orchestrators
//!    put files: below `/run/secrets` (Docker, Podman, Kubernetes' service accounts), in a
//!    Kubernetes volume (whose files are reached over a link to a folder such as
//!    `..2026_11_30_16_20_05.1`), or on a separate read-only mount that is in memory or contains
//!    only this file. Such a file is inside the container, whatever its mode is there.

use std::{
    fs::Metadata,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Component, Path},
};

use super::SecretError;

/// Owner id of files whose user does not exist in the current user namespace
/// (`/proc/sys/fs/overflowuid`, user_namespaces(7)).
const UNMAPPED: u32 = 65_534;

/// Adds to a permission error which user was denied access, and the remedy.
pub(super) fn explain_denial(error: std::io::Error) -> std::io::Error {
    if error.kind() != std::io::ErrorKind::PermissionDenied {
        return error;
    }
    let me = rustix::process::geteuid().as_raw();
    let text = format!(
        "this user (id {me}) has no permission to read it; make this user the owner, or give the file mode 440 \
         and one of this user's groups (in Kubernetes: fsGroup in the pod's securityContext)"
    );
    std::io::Error::new(std::io::ErrorKind::PermissionDenied, text)
}

/// Refuses a file that others can read.
pub(super) fn check(path: &Path, about: &Metadata) -> Result<(), SecretError> {
    let mode = about.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let me = rustix::process::geteuid().as_raw();
    let owner = about.uid();
    let only_owner_writes = mode & 0o022 == 0;
    let from_root = owner == 0 && me != 0 && mode & 0o007 == 0 && in_group(about.gid());
    // In a user namespace without root, root's files belong to the overflow user.
    let by_orchestrator = owner == 0 || owner == me || owner == UNMAPPED;
    let mounted = by_orchestrator && path.canonicalize().is_ok_and(|real| is_mounted(&real));
    if only_owner_writes && (from_root || mounted) {
        return Ok(());
    }
    let shown = path.display();
    let remedy = if owner == me {
        format!("run: chmod 600 {shown}")
    } else {
        format!(
            "give this user (id {me}) a private copy with mode 600, or make root the owner, with mode 440 and \
             one of this user's groups; in a container, mount it below /run/secrets"
        )
    };
    Err(SecretError::Exposed {
        path: path.to_owned(),
        mode,
        owner: if owner == me { String::new() } else { format!(", owned by user {owner}") },
        remedy,
    })
}

fn in_group(group: u32) -> bool {
    rustix::process::getegid().as_raw() == group
        || rustix::process::getgroups()
            .is_ok_and(|groups| groups.iter().any(|own| own.as_raw() == group))
}

/// Returns whether a file, by its path without links, is where only orchestrators put files.
fn is_mounted(real: &Path) -> bool {
    real.starts_with("/run/secrets")
        || real.starts_with("/var/run/secrets")
        || real.components().any(|part| match part {
            Component::Normal(name) => name.as_encoded_bytes().starts_with(b"..") && name.len() > 2,
            _ => false,
        })
        || std::fs::read_to_string("/proc/self/mountinfo")
            .is_ok_and(|mounts| has_own_mount(real, &mounts))
}

/// Returns whether a file is on a read-only mount that is in memory or contains nothing else, based
/// on the text of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
fn has_own_mount(real: &Path, mounts: &str) -> bool {
    let mut best: Option<(usize, bool)> = None;
    for line in mounts.lines() {
        let Some((head, tail)) = line.split_once(" - ") else {
            continue;
        };
        let mut words = head.split(' ').skip(4);
        let (Some(point), Some(options)) = (words.next(), words.next()) else {
            continue;
        };
        // Spaces, tabs, line ends and backslashes in names are octal escapes.
        let point = point.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\");
        let point = Path::new(&point);
        let depth = point.components().count();
        if real.starts_with(point) && best.is_none_or(|(deepest, _)| depth >= deepest) {
            let in_memory = matches!(tail.split(' ').next(), Some("tmpfs" | "ramfs"));
            let read_only = options.split(',').any(|option| option == "ro");
            best = Some((depth, read_only && (in_memory || point == real)));
        }
    }
    best.is_some_and(|(_, own)| own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_orchestrators_are_recognised() {
        let mounts = "\
22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
23 22 0:21 / /run rw,nosuid - tmpfs tmpfs rw
24 22 0:22 / /etc/mail\\040keys ro,relatime - tmpfs tmpfs rw
25 22 8:1 /srv/p /app/password ro,relatime - ext4 /dev/sda1 rw
26 22 8:1 /srv/q /app/other rw,relatime - ext4 /dev/sda1 rw
";
        for (path, own) in [
            ("/etc/mailqos/password", false),
            ("/run/password", false),
            ("/etc/mail keys/password", true),
            ("/app/password", true),
            ("/app/other", false),
        ] {
            assert_eq!(has_own_mount(Path::new(path), mounts), own, "{path}");
        }
        assert!(is_mounted(Path::new("/etc/keys/..2026_11_30_16_20_05.123/password")));
        assert!(is_mounted(Path::new("/run/secrets/kubernetes.io/serviceaccount/token")));
        assert!(!is_mounted(Path::new("/etc/keys/password")));
    }
}
