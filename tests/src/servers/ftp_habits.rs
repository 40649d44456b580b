//! What FTP servers in the wild do otherwise than the standards, each with the place where it is
//! documented or was reported.

/// How file names are stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Names {
    /// In UTF-8, as `FEAT` says (RFC 2640).
    #[default]
    Utf8,
    /// In UTF-8 after `OPTS UTF8 ON`, until then in the code page of Windows, though `FEAT` lists
    /// UTF8: IIS.
    Utf8OnRequest,
    /// In the code page of Windows, always.
    Ansi,
    /// As the bytes come, and without a word of it in `FEAT`: Pure-FTPd, ProFTPD without mod_lang.
    Bytes,
}

impl Names {
    pub(super) fn features(self) -> &'static str {
        match self {
            Self::Utf8 => "211-Features:\r\n UTF8\r\n SIZE\r\n REST STREAM\r\n211 End",
            // IIS lists its features without a last line of its own text.
            Self::Utf8OnRequest => {
                "211-Extended features supported:\r\n LANG EN*\r\n UTF8\r\n AUTH TLS;TLS-C;SSL;TLS-P;\r\n PBSZ\r\n SIZE\r\n REST STREAM\r\n211 END"
            }
            Self::Ansi | Self::Bytes => "211-Features:\r\n SIZE\r\n REST STREAM\r\n211 End",
        }
    }
}

/// What becomes of `EPSV`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Extended {
    /// It works.
    #[default]
    Works,
    /// The server doesn't know it.
    Unknown,
    /// It is answered, and the port can't be reached: a firewall that watches for `227` only.
    Unreachable,
}

/// What the server says to `STOR` before the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// This.
    Said(&'static str),
    /// Nothing; the completion comes behind the data.
    Silent,
    /// The completion, and nothing behind the data.
    Completed,
    /// The completion, and once more behind the data.
    CompletedTwice,
}

/// What `SIZE` and `RETR` show, and whether `DELE` works.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Shown {
    /// Every file.
    #[default]
    All,
    /// Nothing: a drop box. The reply.
    Refused(&'static str),
    /// No sizes; the reply to `SIZE`.
    Sizeless(&'static str),
}

/// What becomes of `MLST`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Facts {
    /// The server doesn't know it.
    #[default]
    Unknown,
    /// It tells the size.
    Told,
    /// It is never answered: uftpd 2.13.
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
    /// `C:/reports`, in which `/` is no root.
    Bare,
    /// `C:\\reports`.
    Backslashed,
}

impl Drives {
    /// A folder as `PWD` shows it.
    pub(super) fn shown(self, folder: &str) -> String {
        match self {
            Self::Hidden | Self::Slashed => format!("/{folder}"),
            Self::Bare => folder.to_owned(),
            Self::Backslashed => folder.replace('/', "\\"),
        }
    }

    /// Whether an argument is a path from a root; `None` if there can be no such path.
    pub(super) fn is_whole(self, argument: &str) -> Option<bool> {
        let bare = argument.as_bytes().get(1) == Some(&b':');
        match self {
            Self::Hidden | Self::Slashed => Some(argument.starts_with('/')),
            Self::Bare | Self::Backslashed => (!argument.starts_with('/')).then_some(bare),
        }
    }
}

/// What a server does.
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
    /// What becomes of `EPSV`.
    pub extended: Extended,
    /// The reply to `PASV`, with `{six}` for the numbers.
    pub passive: &'static str,
    /// The address in it.
    pub claims: &'static str,
    /// What is said to `STOR`.
    pub beginning: Beginning,
    /// The reply that completes a transfer.
    pub completed: &'static str,
    /// What `SIZE` and `RETR` show.
    pub shown: Shown,
    /// The code for a file or folder that is not there.
    pub absent: u16,
    /// Whether a job takes every file away as soon as it is there, but for those whose names begin
    /// with a dot.
    pub taken_away: bool,
    /// Whether names that begin with a dot are refused.
    pub no_dots: bool,
    /// Endings that are refused.
    pub no_endings: &'static [&'static str],
    /// Whether files may not be renamed.
    pub no_renames: bool,
    /// Whether a file may not be renamed over another.
    pub no_replacing: bool,
    /// The longest name, in the bytes that the server stores.
    pub longest: usize,
    /// The log-in folder.
    pub home: &'static str,
    /// Folders that are there.
    pub folders: &'static [&'static str],
    /// Folders that may not be entered, and in which nothing may be made.
    pub closed: &'static [&'static str],
    /// Whether `CWD` takes one folder at a time only.
    pub one_level: bool,
    /// Whether `PWD` is refused.
    pub hides_folder: bool,
    /// How folders are named on Windows.
    pub drives: Drives,
    /// What becomes of `MLST`.
    pub facts: Facts,
}

impl Default for FtpHabits {
    /// By the standards.
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

/// A habit by its name, for tables and tests.
#[derive(Debug, Clone)]
pub struct NamedHabits {
    /// Its name.
    pub name: &'static str,
    /// What the server does.
    pub habits: FtpHabits,
    /// What a target needs there, as lines of its table; may be empty.
    pub keys: &'static str,
    /// The beginning of what the ledger says of a delivery.
    pub said: &'static str,
}

const CHECKED: &str = "size and SHA-256 checked";
const ACCEPTED: &str = "accepted; can't be read back";

/// Servers as they are met, and what a target needs there.
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

/// Those that answer otherwise.
fn replies() -> Vec<NamedHabits> {
    vec![
        // Microsoft, "FTP Globalization" and RFC 2640: names are UTF-8 only after OPTS UTF8 ON. IIS
        // begins with 125 where the data connection is there, and renames over no file.
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
        // Firewalls that open the port of a 227 only (curl's CURLOPT_FTP_USE_EPSV; lftp's
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

/// Those that allow less.
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
        // RFC 3659 has SIZE and MLST; some devices have the newer one only.
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
        // A job that moves every file as it comes.
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
        // Devices that store names in the code page and offer nothing else.
        named("ansi", FtpHabits { names: Names::Ansi, ..standard() }, "", CHECKED),
    ]
}
