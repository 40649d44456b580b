//! Helpers shared by the fuzz targets of all crates. Not part of the public interface.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

/// Provides a file with these bytes in a separate folder while `with` runs.
pub fn in_file<T>(name: &str, bytes: &[u8], with: impl FnOnce(&Path) -> T) -> T {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    struct Folder(PathBuf);
    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder =
        Folder(std::env::temp_dir().join(format!("mailqos-fuzz-{}-{number}", std::process::id())));
    let file = folder.0.join(name);
    std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
    std::fs::write(&file, bytes).expect("a file");
    with(&file)
}
