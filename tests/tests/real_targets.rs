//! Targets on real servers with permissions and rules as in companies: ProFTPD, Pure-FTPd, OpenSSH,
//! Samba. Needs `MAILQOS_REAL_SERVERS`, the folder of the scripts in `tests/real/`; otherwise
//! prints that it was skipped.

#![cfg(unix)]
#![allow(clippy::expect_used, clippy::unwrap_used, missing_docs)]

use std::path::Path;

use mailqos_tests::{real::RealServer, secrets::secret_file, setting::Setting};

const NAME: &str = "Bericht März – 東京.pdf";
const ACCEPTED: &str = "accepted; can't be read back";
const CHECKED: &str = "size and SHA-256 checked";

/// Returns a setting with one target.
fn setting(server: &RealServer, target: &str) -> Setting {
    let mut setting = Setting::new("here");
    if server.has("PASSWORD") {
        secret_file(&setting.path("password"), server.get("PASSWORD"));
        setting.add("[account.reports]\nuser = \"reports\"\npassword = { file = \"password\" }");
    }
    setting.add(&format!("[target.far]\n{target}"));
    setting
}

fn ftp(server: &RealServer, port: &str, keys: &str) -> Setting {
    let port = server.port(port);
    setting(
        server,
        &format!(
            "kind = \"ftp\"\nserver = \"127.0.0.1\"\nport = {port}\ntls = \"none\"\naccount = \"reports\"\n{keys}"
        ),
    )
}

fn sftp(server: &RealServer, port: &str, keys: &str) -> Setting {
    setting(
        server,
        &format!(
            "kind = \"sftp\"\nserver = \"127.0.0.1\"\nport = {}\nuser = \"{}\"\nkey_file = \"{}\"\nhost_key = \"{}\"\n{keys}",
            server.port(port),
            server.get("USER"),
            server.get("KEY_FILE"),
            server.get("HOST_KEY")
        ),
    )
}

fn smb(server: &RealServer, share: &str, keys: &str) -> Setting {
    setting(
        server,
        &format!(
            "kind = \"smb\"\nserver = \"127.0.0.1\"\nport = {}\nshare = \"{}\"\naccount = \"reports\"\n{keys}",
            server.port("SMB_PORT"),
            server.get(share)
        ),
    )
}

/// Delivers; returns the ledger's entry, or the error.
fn deliver(setting: &Setting, content: &[u8], folder: &str) -> Result<String, String> {
    std::fs::write(setting.path(NAME), content).unwrap();
    let output =
        setting.run("mailqos-analytics", &["deliver", NAME, "--to", "far", "--folder", folder]);
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let entry = setting.ledger().pop().unwrap();
    Ok(entry["reply"].as_str().unwrap().to_owned())
}

fn try_out(setting: &Setting) -> String {
    let output = setting.run("mailqos-analytics", &["targets", "test"]);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Returns a folder's files, except those of other tests.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|entry| entry.path().is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn clear(folder: &Path) {
    for name in names(folder) {
        let _ = std::fs::remove_file(folder.join(name));
    }
}

#[test]
fn ftp_servers_with_rules_are_served() {
    let Some(server) = RealServer::find("ftp") else {
        return;
    };
    let folder = |key: &str, below: &str| Path::new(server.get(key)).join(below);
    // Pure-FTPd -x: no dots. It does not offer UTF-8, and stores the bytes that it receives.
    let pure = folder("PURE_FOLDER", "");
    clear(&pure);
    let text = deliver(&ftp(&server, "PURE_PORT", ""), b"x", "").unwrap_err();
    assert!(text.contains("temporary"), "{text}");
    let text = try_out(&ftp(&server, "PURE_PORT", ""));
    assert!(text.contains("temporary = \"{{ name }}.{{ hash }}.part\" works"), "{text}");
    let keys = "temporary = \"{{ name }}.{{ hash }}.part\"\nencoding = \"utf-8\"";
    for content in [&b"one"[..], b"another"] {
        assert_eq!(deliver(&ftp(&server, "PURE_PORT", keys), content, "").unwrap(), CHECKED);
        assert_eq!(names(&pure), [NAME]);
        assert_eq!(std::fs::read(pure.join(NAME)).unwrap(), content);
    }
    clear(&pure);

    // ProFTPD's drop box, and a folder behind one that may not be entered.
    let dropbox = folder("FOLDER", "dropbox");
    clear(&dropbox);
    let keys = "path = \"dropbox\"\ntemporary = \"none\"";
    let said = deliver(&ftp(&server, "FTP_PORT", keys), b"dropped", "").unwrap();
    assert!(said.starts_with(ACCEPTED), "{said}");
    assert_eq!(std::fs::read(dropbox.join(NAME)).unwrap(), b"dropped");
    let text = try_out(&ftp(&server, "FTP_PORT", "path = \"dropbox\""));
    assert!(text.contains("temporary = \"none\" works"), "{text}");
    clear(&dropbox);
    let closed = folder("FOLDER", "closed/reports");
    clear(&closed);
    for path in ["closed/reports", "/closed/reports"] {
        let keys = format!("path = \"{path}\"");
        assert_eq!(
            deliver(&ftp(&server, "FTP_PORT", &keys), path.as_bytes(), "").unwrap(),
            CHECKED
        );
        assert_eq!(names(&closed), [NAME]);
    }
}

#[test]
fn ssh_servers_with_rules_are_served() {
    let Some(server) = RealServer::find("sftp") else {
        return;
    };
    let drop = Path::new(server.get("DROP_FOLDER"));
    clear(drop);
    let said =
        deliver(&sftp(&server, "DROP_PORT", "temporary = \"none\""), b"dropped", "").unwrap();
    assert_eq!(said, ACCEPTED);
    assert_eq!(std::fs::read(drop.join(NAME)).unwrap(), b"dropped");
    let text = try_out(&sftp(&server, "DROP_PORT", ""));
    assert!(text.contains("temporary = \"none\" works"), "{text}");
    clear(drop);
    let fixed = Path::new(server.get("FIXED_FOLDER"));
    clear(fixed);
    let text = deliver(&sftp(&server, "FIXED_PORT", ""), b"x", "").unwrap_err();
    assert!(text.contains("temporary = \"none\""), "{text}");
    clear(fixed);
    let said =
        deliver(&sftp(&server, "FIXED_PORT", "temporary = \"none\""), b"fixed", "a/b").unwrap();
    assert_eq!(said, CHECKED);
    assert_eq!(std::fs::read(fixed.join("a/b").join(NAME)).unwrap(), b"fixed");
    let _ = std::fs::remove_dir_all(fixed.join("a"));
}

#[test]
fn shares_with_rules_are_served() {
    let Some(server) = RealServer::find("share") else {
        return;
    };
    let folder = |key: &str, below: &str| Path::new(server.get(key)).join(below);
    let veto = folder("VETO_FOLDER", "");
    clear(&veto);
    let text = deliver(&smb(&server, "VETO_SHARE", ""), b"x", "").unwrap_err();
    assert!(text.contains("temporary"), "{text}");
    let text = try_out(&smb(&server, "VETO_SHARE", ""));
    assert!(text.contains("temporary = \"{{ name }}.{{ hash }}.tmp\" works"), "{text}");
    let keys = "temporary = \"{{ name }}.{{ hash }}.tmp\"";
    assert_eq!(deliver(&smb(&server, "VETO_SHARE", keys), b"y", "").unwrap(), CHECKED);
    assert_eq!(names(&veto), [NAME]);
    clear(&veto);

    let drop = folder("DROP_FOLDER", "");
    clear(&drop);
    let said =
        deliver(&smb(&server, "DROP_SHARE", "temporary = \"none\""), b"dropped", "").unwrap();
    assert!(
        said == ACCEPTED || said.starts_with("size checked; the target does not allow reading"),
        "{said}"
    );
    assert_eq!(std::fs::read(drop.join(NAME)).unwrap(), b"dropped");
    clear(&drop);

    let text = deliver(&smb(&server, "READONLY_SHARE", ""), b"x", "").unwrap_err();
    assert!(text.contains("lacks write permission there"), "{text}");
}

/// Samba sends referrals of version 3, which the SMB client can't parse; Windows, which is not
/// available here, sends version 4.
#[test]
fn a_dfs_link_that_cannot_be_followed_is_reported() {
    let Some(server) = RealServer::find("share") else {
        return;
    };
    for path in ["link/dfs-test", "deeper", "lost/x"] {
        let setting = smb(&server, "DFS_SHARE", &format!("path = \"{path}\""));
        let text = deliver(&setting, b"x", "").unwrap_err();
        let link = format!("DFS link \\\\127.0.0.1\\dfs\\{}", path.replace('/', "\\"));
        assert!(
            text.contains(&link) && text.contains("set server, share and path of the target"),
            "{text}"
        );
        assert!(!text.contains("panicked"), "{text}");
    }
}
