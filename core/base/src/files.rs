//! Reads files written by others, replaces files atomically and syncs folders, on any file system.
//! Every read has a deadline and a size limit, and missing features of a file system are tolerated.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

/// Deadline for reading a named pipe, which password managers and shells use to pass secrets and
/// files.
const PIPE_DEADLINE: Duration = Duration::from_secs(5);
/// Pause between two attempts to read from a pipe.
const PIPE_WAIT: Duration = Duration::from_millis(20);

/// Reads a file of at most `limit` bytes. A named pipe must deliver its content within five
/// seconds. Anything but a file or a pipe is refused without being read.
///
/// # Errors
/// The system refuses; the file is longer ([`io::ErrorKind::FileTooLarge`]), a pipe delivers
/// nothing in time ([`io::ErrorKind::TimedOut`]), or the path is a folder, a device or a socket.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    read_open(&mut open(path)?, limit)
}

/// Maximum size of a state file in bytes, far above that for ten thousand monitors or for a report
/// to a thousand recipients.
pub const MAX_STATE: u64 = 64 << 20;

/// Reads a state file of this program like [`read`], with at most [`MAX_STATE`] bytes, because
/// something else may have replaced the file.
///
/// # Errors
/// Those of [`read`].
pub fn read_state(path: &Path) -> io::Result<Vec<u8>> {
    read(path, MAX_STATE)
}

/// Opens a file for reading without blocking: opening a pipe without a writer would otherwise never
/// return.
///
/// # Errors
/// The system refuses.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let mut options = std::fs::OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32);
    }
    options.open(path)
}

/// Reads an open file like [`read`].
///
/// # Errors
/// Those of [`read`].
pub(crate) fn read_open(file: &mut File, limit: u64) -> io::Result<Vec<u8>> {
    let kind = file.metadata()?.file_type();
    let mut bytes = Vec::new();
    if kind.is_file() {
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    } else if is_pipe(kind) {
        read_pipe(file, limit, &mut bytes)?;
    } else {
        let what = if kind.is_dir() {
            "it is a folder, not a file"
        } else {
            "it is a device or a socket, not a file"
        };
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it is larger than {limit} bytes"),
        ));
    }
    Ok(bytes)
}

#[cfg(unix)]
fn is_pipe(kind: std::fs::FileType) -> bool {
    std::os::unix::fs::FileTypeExt::is_fifo(&kind)
}

#[cfg(not(unix))]
fn is_pipe(_kind: std::fs::FileType) -> bool {
    false
}

fn read_pipe(file: &mut File, limit: u64, bytes: &mut Vec<u8>) -> io::Result<()> {
    let began = Instant::now();
    let mut piece = [0; 8192];
    while bytes.len() as u64 <= limit {
        match file.read(&mut piece) {
            Ok(0) if !bytes.is_empty() => break,
            // No process has opened the other end yet.
            Ok(0) => {}
            Ok(count) => {
                bytes.extend_from_slice(&piece[..count]);
                continue;
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            Err(error) => return Err(error),
        }
        if began.elapsed() >= PIPE_DEADLINE {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!(
                    "it is a named pipe that was not written and closed within {PIPE_DEADLINE:?}"
                ),
            ));
        }
        std::thread::sleep(PIPE_WAIT);
    }
    Ok(())
}

/// Reads a text file as editors on all systems save it: UTF-8 with or without a byte order mark, or
/// UTF-16 with one.
///
/// # Errors
/// The same as for [`read`]; [`io::ErrorKind::InvalidData`] if the file is not text.
pub fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    text(read(path, limit)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text"))
}

/// Decodes bytes as text without a byte order mark.
///
/// # Errors
/// Returns the bytes if they are neither UTF-8 nor UTF-16 with a byte order mark.
pub fn text(mut bytes: Vec<u8>) -> Result<String, Vec<u8>> {
    let wide = match bytes.as_slice() {
        [0xFF, 0xFE, rest @ ..] => Some((rest, u16::from_le_bytes as fn([u8; 2]) -> u16)),
        [0xFE, 0xFF, rest @ ..] => Some((rest, u16::from_be_bytes as fn([u8; 2]) -> u16)),
        _ => None,
    };
    if let Some((rest, unit)) = wide {
        let (pairs, odd) = rest.as_chunks::<2>();
        let units = pairs.iter().map(|pair| unit(*pair));
        let decoded: Result<String, _> = char::decode_utf16(units).collect();
        return match decoded {
            Ok(text) if odd.is_empty() => Ok(text),
            _ => Err(bytes),
        };
    }
    if bytes.starts_with(b"\xEF\xBB\xBF") {
        bytes.drain(..3);
    }
    String::from_utf8(bytes).map_err(std::string::FromUtf8Error::into_bytes)
}

/// Replaces a file as a whole: `write` fills `temporary`, which is synced and renamed to `path`;
/// then the folder is synced. After a crash, either the earlier file or the new one exists.
/// `temporary` must be in the same folder; one left by a crash is overwritten.
///
/// # Errors
/// The file system or `write` refuses. The earlier file is still in place, and the temporary one is
/// removed. Only if the folder can't be synced is the new file already in place.
pub fn replace(
    path: &Path,
    temporary: &Path,
    access: Access,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    swap(path, temporary, access, |file| {
        write(file)?;
        file.sync_all()
    })?;
    sync_folder(path.parent().unwrap_or(Path::new("")))
}

/// Replaces a file like [`replace`], without waiting for the disk, for data that can be
/// regenerated. If the machine loses power, the file may be empty.
///
/// # Errors
/// The file system or `write` refuses. The earlier file is still in place, and the temporary one is
/// removed.
pub fn swap(
    path: &Path,
    temporary: &Path,
    access: Access,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let mut options = File::options();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    if access == Access::Owner {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    #[cfg(not(unix))]
    let _ = access;
    let written = options.open(temporary).and_then(|mut file| {
        write(&mut file)?;
        drop(file);
        std::fs::rename(temporary, path)
    });
    if written.is_err() {
        let _ = std::fs::remove_file(temporary);
    }
    written
}

/// Read permissions of a file that [`replace`] writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Only the user who runs the program: for files with secrets or state.
    Owner,
    /// Everyone whom the process's umask allows.
    Umask,
}

/// Syncs a folder, so that the names in it are durable. A file system that can't do this (old CIFS,
/// some FUSE file systems) is reported once in the log and tolerated; its server then decides when
/// names reach the disk.
///
/// # Errors
/// The disk refuses.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    static SAID: AtomicBool = AtomicBool::new(false);
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    #[cfg(unix)]
    let synced = File::open(folder).and_then(|open| open.sync_all());
    #[cfg(not(unix))]
    let synced = Ok(());
    match synced {
        Err(error) if cannot_sync(&error) => {
            if !SAID.swap(true, Ordering::Relaxed) {
                tracing::warn!(folder = %folder.display(), %error, "this file system can't sync folders; a power failure may lose the newest files");
            }
            Ok(())
        }
        synced => synced,
    }
}

/// Returns whether an error of `fsync` means that the file system does not support it for folders.
fn cannot_sync(error: &io::Error) -> bool {
    let kinds = [io::ErrorKind::InvalidInput, io::ErrorKind::Unsupported];
    #[cfg(unix)]
    let is_errno = {
        use rustix::io::Errno;
        [Errno::INVAL, Errno::NOTSUP, Errno::OPNOTSUPP, Errno::NOSYS, Errno::BADF, Errno::ISDIR]
            .iter()
            .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
    };
    #[cfg(not(unix))]
    let is_errno = false;
    is_errno || kinds.contains(&error.kind())
}

/// Returns whether an error of a lock means that locks are unavailable, rather than a disk failure:
/// no lock service responds (NFS), or the call is not supported (some file systems in user space
/// and shares).
pub fn gives_no_locks(error: &io::Error) -> bool {
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        [Errno::NOLCK, Errno::OPNOTSUPP, Errno::NOTSUP, Errno::NOSYS, Errno::INVAL]
            .iter()
            .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
    }
    #[cfg(not(unix))]
    {
        error.kind() == io::ErrorKind::Unsupported
    }
}

/// Adds an explanation to an error of a lock if the file system has no locks.
pub fn lock_error(error: io::Error) -> io::Error {
    if gives_no_locks(&error) {
        io::Error::new(
            io::ErrorKind::Unsupported,
            format!(
                "this file system does not support locks ({error}); move the state folder to a local disk"
            ),
        )
    } else {
        error
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn texts_of_all_editors_are_read_without_byte_order_marks() {
        let wide = |text: &str, unit: fn(u16) -> [u8; 2]| {
            text.encode_utf16().flat_map(unit).collect::<Vec<u8>>()
        };
        for bytes in [
            "pässword".as_bytes().to_vec(),
            "\u{feff}pässword".as_bytes().to_vec(),
            wide("\u{feff}pässword", u16::to_le_bytes),
            wide("\u{feff}pässword", u16::to_be_bytes),
        ] {
            assert_eq!(text(bytes).as_deref(), Ok("pässword"));
        }
        assert!(text(vec![0xFF, 0xFE, b'a']).is_err());
        assert!(text(b"p\xE4ssword".to_vec()).is_err());
        assert_eq!(text(Vec::new()).as_deref(), Ok(""));
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_or_not_at_all() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, temporary) = (folder.path().join("state.json"), folder.path().join("state.new"));
        std::fs::write(&temporary, "a longer text that a crash left").expect("written");
        let replace_with = |text: &str| {
            replace(&path, &temporary, Access::Umask, |file| file.write_all(text.as_bytes()))
        };
        replace_with("one").expect("written");
        replace_with("two").expect("replaced");
        replace(&path, &temporary, Access::Umask, |file| {
            file.write_all(b"half")?;
            Err(io::ErrorKind::StorageFull.into())
        })
        .expect_err("full");
        assert_eq!(std::fs::read(&path).expect("there"), b"two");
        assert!(!temporary.exists());
        replace(&path.join("no/folder"), &temporary, Access::Umask, |_| Ok(()))
            .expect_err("there is no such folder");
        assert!(!temporary.exists());
    }

    #[cfg(unix)]
    #[test]
    fn a_file_for_its_owner_is_readable_by_no_one_else() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        replace(&path, &folder.path().join("token.new"), Access::Owner, |file| {
            file.write_all(b"x")
        })
        .expect("written");
        let mode = std::fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[cfg(unix)]
    #[test]
    fn anything_but_a_file_is_refused_and_a_pipe_has_a_deadline() {
        let folder = tempfile::tempdir().expect("a folder");
        let refused = |path: &Path| read(path, 10).expect_err("refused").kind();
        assert_eq!(refused(folder.path()), io::ErrorKind::InvalidInput);
        assert_eq!(refused(Path::new("/dev/zero")), io::ErrorKind::InvalidInput);
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo");
        assert!(made.success());
        assert_eq!(refused(&pipe), io::ErrorKind::TimedOut);
        let writer = {
            let pipe = pipe.clone();
            std::thread::spawn(move || std::fs::write(pipe, "word"))
        };
        assert_eq!(read(&pipe, 10).expect("what was written"), b"word");
        writer.join().expect("a writer").expect("written");
        let long = folder.path().join("long");
        std::fs::write(&long, "12345678901").expect("a file");
        assert_eq!(refused(&long), io::ErrorKind::FileTooLarge);
        assert_eq!(read(&long, 11).expect("read").len(), 11);
    }

    #[test]
    fn only_unsupported_operations_are_tolerated() {
        let folder = tempfile::tempdir().expect("a folder");
        sync_folder(folder.path()).expect("synced");
        sync_folder(&folder.path().join("none")).expect_err("there is no such folder");
        #[cfg(unix)]
        for (errno, lacks) in [
            (rustix::io::Errno::INVAL, true),
            (rustix::io::Errno::OPNOTSUPP, true),
            (rustix::io::Errno::NOSYS, true),
            (rustix::io::Errno::IO, false),
            (rustix::io::Errno::NOSPC, false),
        ] {
            let error = io::Error::from_raw_os_error(errno.raw_os_error());
            assert_eq!(cannot_sync(&error), lacks, "{error}");
        }
    }
}
