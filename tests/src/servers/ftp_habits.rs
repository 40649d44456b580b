//! Deviations of real FTP servers from the standards, each with the source that documents or
//! reports it.

/// How file names are stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Names {
    /// In UTF-8, as `FEAT` reports (RFC 2640).
    #[default]
    Utf8,
    /// In UTF-8 after `OPTS UTF8 ON`, before that in the Windows code page, although `FEAT` lists
    /// UTF8: IIS.
    Utf8OnRequest,
    /// In the Windows code page, always.
    Ansi,
    /// As bytes, without an entry in `FEAT`: Pure-FTPd, ProFTPD without mod_lang.
    Bytes,
}

impl Names {
    pub(super) fn features(self) -> &'static str {
        match self {
            Self::Utf8 => "211-Features:\r\n UTF8\r\n SIZE\r\n REST STREAM\r\n211 End",
            // IIS lists its features without text in the last line.
            Self::Utf8OnRequest => {
                "211-Extended features supported:\r\n LANG EN*\r\n UTF8\r\n AUTH TLS;TLS-C;SSL;TLS-P;\r\n PBSZ\r\n SIZE\r\n REST STREAM\r\n211 END"
            }
            Self::Ansi | Self::Bytes => "211-Features:\r\n SIZE\r\n REST STREAM\r\n211 End",
        }
    }
}

/// Result of `EPSV`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Extended {
    /// It works.
    #[default]
    Works,
    /// The server doesn't know it.
    Unknown,
    /// It is answered, but the port can't be reached: a firewall that only recognises `227`.
    Unreachable,
}

/// Reply to `STOR` before the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// This reply.
    Said(&'static str),
    /// None; the completion follows the data.
    Silent,
    /// The completion, and nothing after the data.
    Completed,
    /// The completion, and again after the data.
    CompletedTwice,
}

/// Results of `SIZE`, `RETR` and `DELE`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Shown {
    /// Every file is visible.
    #[default]
    All,
    /// Nothing is visible (a drop box); the reply.
    Refused(&'static str),
    /// No sizes are available; the reply to `SIZE`.
    Sizeless(&'static str),
}

/// Result of `MLST`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Facts {
    /// The server doesn't know it.
    #[default]
    Unknown,
    /// It reports the size.
    Told,
    /// It never answers: uftpd 2.13.
    Silent,
}

/// How a server on Windows names folders.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Drives {
    /// It shows no drives.
    #[default]
    Hidden,
    /// `/C:/reports`: Serv-U and FileZilla Server.
    Slashed,
    /// `C:/reports`, where `/` is not a root.
    Bare,
    /// `C:\\reports`.
    Backslashed,
}

impl Drives {
    /// Returns a folder in the form of `PWD`.
    pub(super) fn shown(self, folder: &str) -> String {
        match self {
            Self::Hidden | Self::Slashed => format!("/{folder}"),
            Self::Bare => folder.to_owned(),
            Self::Backslashed => folder.replace('/', "\\"),
        }
    }

    /// Returns whether an argument is an absolute path; `None` if such a path is not possible.
    pub(super) fn is_whole(self, argument: &str) -> Option<bool> {
        let bare = argument.as_bytes().get(1) == Some(&b':');
        match self {
            Self::Hidden | Self::Slashed => Some(argument.starts_with('/')),
            Self::Bare | Self::Backslashed => (!argument.starts_with('/')).then_some(bare),
        }
    }
}

/// Behaviour of a server.
#[derive(Debug, Clone)]
pub struct FtpHabits {
    /// The greeting.
    pub greeting: &'static str,
    /// The reply to the password.
    pub welcome: &'static str,
    /// How names are stored.
    pub names: Names,
    /// Whether replies are in Latin-1.
    pub latin1: bool,
    /// Result of `EPSV`.
    pub extended: Extended,
    /// The reply to `PASV`, with `{six}` in place of the numbers.
    pub passive: &'static str,
    /// The address in that reply.
    pub claims: &'static str,
    /// The reply to `STOR` before the data.
    pub beginning: Beginning,
    /// The reply that completes a transfer.
    pub completed: &'static str,
    /// Results of `SIZE` and `RETR`.
    pub shown: Shown,
    /// The code for a missing file or folder.
    pub absent: u16,
    /// Whether a job collects every file immediately, except for names that begin with a dot.
    pub taken_away: bool,
    /// Whether names that begin with a dot are refused.
    pub no_dots: bool,
    /// Extensions that are refused.
    pub no_endings: &'static [&'static str],
    /// Whether files may not be renamed.
    pub no_renames: bool,
    /// Whether a file may not be renamed over another.
    pub no_replacing: bool,
    /// Longest name, in bytes as stored.
    pub longest: usize,
    /// The login folder.
    pub home: &'static str,
    /// Existing folders.
    pub folders: &'static [&'static str],
    /// Folders that may not be entered or written.
    pub closed: &'static [&'static str],
    /// Whether `CWD` accepts only one folder at a time.
    pub one_level: bool,
    /// Whether `PWD` is refused.
    pub hides_folder: bool,
    /// Names of folders on Windows.
    pub drives: Drives,
    /// Result of `MLST`.
    pub facts: Facts,
}

impl Default for FtpHabits {
    /// Returns the behaviour that the standards require.
    fn default() -> Self {
        Self {
            greeting: "220 ready",
            welcome: "230 welcome",
            names: Names::Utf8,
            latin1: false,
            extended: Extended::Works,
            passive: "227 Entering Passive Mode ({six})",
            claims: "127,0,0,1",
            beginning: Beginning::Said("150 go on"),
            completed: "226 done",
            shown: Shown::All,
            absent: 550,
            taken_away: false,
            no_dots: false,
            no_endings: &[],
            no_renames: false,
            no_replacing: false,
            longest: 255,
            home: "",
            folders: &[],
            closed: &[],
            one_level: false,
            hides_folder: false,
            drives: Drives::Hidden,
            facts: Facts::Unknown,
        }
    }
}

/// A habit and its name, for tables and tests.
#[derive(Debug, Clone)]
pub struct NamedHabits {
    /// Its name.
    pub name: &'static str,
    /// The server's behaviour.
    pub habits: FtpHabits,
    /// Keys that a target needs there, as lines of its table; may be empty.
    pub keys: &'static str,
    /// Beginning of the expected reply in the ledger.
    pub said: &'static str,
}

const CHECKED: &str = "size and SHA-256 checked";
const ACCEPTED: &str = "accepted; can't be read back";

/// Returns typical servers and the keys that a target needs for each.
pub fn ftp_habits() -> Vec<NamedHabits> {
    let mut all = replies();
    all.extend(rights());
    all
}

fn standard() -> FtpHabits {
    FtpHabits::default()
}

fn named(
    name: &'static str,
    habits: FtpHabits,
    keys: &'static str,
    said: &'static str,
) -> NamedHabits {
    NamedHabits { name, habits, keys, said }
}

/// Returns servers with unusual replies.
fn replies() -> Vec<NamedHabits> {
    vec![
        // Microsoft, "FTP Globalization" and RFC 2640: names are UTF-8 only after OPTS UTF8 ON. IIS
        // replies 125 if the data connection is open, and does not rename over an existing file.
        named(
            "iis",
            FtpHabits {
                greeting: "220 Microsoft FTP Service",
                welcome: "230 User logged in.",
                names: Names::Utf8OnRequest,
                beginning: Beginning::Said("125 Data connection already open; Transfer starting."),
                completed: "226 Transfer complete.",
                no_replacing: true,
                ..standard()
            },
            "",
            CHECKED,
        ),
        // FileZilla Server before 1.0: multi-line greeting, German texts in the code page, an
        // address of the local network behind NAT ("Server sent passive reply with unroutable
        // address", FileZilla wiki, "Network Configuration").
        named(
            "filezilla-nat",
            FtpHabits {
                greeting: "220-FileZilla Server version 0.9.41 beta\r\n220-written by Tim Kosse\r\n220 Willkommen",
                welcome: "230-Gr\u{fc}\u{df} Gott\r\n200 Dateien heute\r\n230 Angemeldet",
                latin1: true,
                extended: Extended::Unknown,
                claims: "192,168,178,20",
                completed: "226 \u{dc}bertragung OK",
                ..standard()
            },
            "",
            CHECKED,
        ),
        // Firewalls that only open the port of a 227 (curl's CURLOPT_FTP_USE_EPSV; lftp's
        // ftp:prefer-epsv).
        named(
            "epsv-blocked",
            FtpHabits {
                extended: Extended::Unreachable,
                passive: "227 Entering Passive Mode {six}",
                claims: "0,0,0,0",
                ..standard()
            },
            "",
            CHECKED,
        ),
        // RFC 1123, 4.1.2.6: "a User-FTP must not depend on the parentheses".
        named(
            "bare-227",
            FtpHabits {
                extended: Extended::Unknown,
                passive: "227 =({six}",
                completed: "250 Requested file action okay, completed.",
                absent: 450,
                ..standard()
            },
            "",
            CHECKED,
        ),
        named(
            "no-150",
            FtpHabits { beginning: Beginning::Silent, ..standard() },
            "timeout = \"4s\"",
            CHECKED,
        ),
        named(
            "226-first",
            FtpHabits { beginning: Beginning::Completed, ..standard() },
            "",
            CHECKED,
        ),
        named(
            "226-twice",
            FtpHabits { beginning: Beginning::CompletedTwice, ..standard() },
            "",
            CHECKED,
        ),
    ]
}

/// Returns servers with restricted permissions.
fn rights() -> Vec<NamedHabits> {
    vec![
        // ProFTPD's documentation, "Configuring Limits": an "incoming" folder with <Limit ALL>
        // DenyAll and <Limit STOR CWD> AllowAll.
        named(
            "drop-box",
            FtpHabits {
                shown: Shown::Refused("550 Permission denied."),
                no_renames: true,
                hides_folder: true,
                ..standard()
            },
            "temporary = \"none\"",
            ACCEPTED,
        ),
        named(
            "no-size",
            FtpHabits { shown: Shown::Refused("502 Command not implemented."), ..standard() },
            "",
            ACCEPTED,
        ),
        // RFC 3659 defines SIZE and MLST; some devices only have the newer one.
        named(
            "mlst-only",
            FtpHabits {
                shown: Shown::Sizeless("500 'SIZE': command not understood."),
                facts: Facts::Told,
                ..standard()
            },
            "",
            CHECKED,
        ),
        // A job that moves every file on arrival.
        named(
            "taken-away",
            FtpHabits { taken_away: true, ..standard() },
            "",
            "size and SHA-256 checked; collected since",
        ),
        named(
            "taken-away-direct",
            FtpHabits { taken_away: true, ..standard() },
            "temporary = \"none\"",
            ACCEPTED,
        ),
        // pure-ftpd(8), -x: "prohibit users to read or write names beginning with a dot".
        named(
            "no-dots",
            FtpHabits { no_dots: true, names: Names::Bytes, ..standard() },
            "temporary = \"{{ name }}.{{ hash }}.part\"\nencoding = \"utf-8\"",
            CHECKED,
        ),
        // Devices that store names in the code page and offer no alternative.
        named("ansi", FtpHabits { names: Names::Ansi, ..standard() }, "", CHECKED),
    ]
}
