//! What the columns of the lake are called, which type they have, and where their values stand in memory.

use mailqos_model::{Event, EventKind, Exclusion, Hop, Micros, Outcome, Sample, Stage, UtcMicros};

/// A value on its way to or from a column.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Not known.
    Null,
    /// Microseconds, counts.
    Int(i64),
    /// Words and texts.
    Text(String),
    /// Yes or no.
    Bool(bool),
    /// Scores.
    Real(f64),
    /// The mail's way.
    Hops(Vec<Hop>),
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// `string`; few different values.
    Word,
    /// `timestamp(µs, UTC)`.
    Timestamp,
    /// `int64`.
    Long,
    /// `int32`.
    Int,
    /// `boolean`.
    Bool,
    /// `double`.
    Real,
    /// `list<struct>` of [`Hop`].
    Hops,
}

/// One column of a record.
pub struct Column<R> {
    /// Its name in the file.
    pub name: &'static str,
    /// Its type.
    pub holds: Hold,
    /// Whether it is never null.
    pub required: bool,
    /// Takes the value out of a record.
    pub get: fn(&R) -> Cell,
    /// Puts a value into a record; one of a wrong kind is an error with its reason.
    pub set: fn(&mut R, Cell) -> Result<(), String>,
}

/// Something that is kept in day files.
pub trait Record: Clone + Send + 'static {
    /// The folder in the lake, and the name of its files.
    const FOLDER: &'static str;
    /// All columns, in the order of the file.
    fn columns() -> &'static [Column<Self>];
    /// A record to be filled in.
    fn blank() -> Self;
    /// The file's order and what is unique in a site: the monitor and a moment.
    fn key(&self) -> (&str, i64);
    /// Whether this record takes the place of another one with the same key.
    fn replaces(&self, other: &Self) -> bool;
}

impl Cell {
    fn int(value: Option<i64>) -> Self {
        value.map_or(Self::Null, Self::Int)
    }

    fn text(value: Option<&str>) -> Self {
        value.map_or(Self::Null, |text| Self::Text(text.to_owned()))
    }

    fn into_int(self) -> Result<Option<i64>, String> {
        match self {
            Self::Null => Ok(None),
            Self::Int(value) => Ok(Some(value)),
            other => Err(format!("{other:?} is no number")),
        }
    }

    fn into_text(self) -> Result<Option<String>, String> {
        match self {
            Self::Null => Ok(None),
            Self::Text(value) => Ok(Some(value)),
            other => Err(format!("{other:?} is no text")),
        }
    }

    fn into_bool(self) -> Result<Option<bool>, String> {
        match self {
            Self::Null => Ok(None),
            Self::Bool(value) => Ok(Some(value)),
            other => Err(format!("{other:?} is not true or false")),
        }
    }

    fn into_word<T: std::str::FromStr>(self) -> Result<Option<T>, String>
    where
        T::Err: std::fmt::Display,
    {
        self.into_text()?
            .map(|text| text.parse().map_err(|error| format!("{error}")))
            .transpose()
    }
}

fn present<T>(value: Option<T>) -> Result<T, String> {
    value.ok_or_else(|| "it is null".to_owned())
}

macro_rules! column {
    ($name:literal, $holds:ident, $required:literal, $get:expr, $set:expr) => {
        Column {
            name: $name,
            holds: Hold::$holds,
            required: $required,
            get: $get,
            set: $set,
        }
    };
}

macro_rules! micros {
    ($name:literal, $field:ident) => {
        column!(
            $name,
            Long,
            false,
            |r: &Sample| Cell::int(r.$field.map(|value| value.0)),
            |r: &mut Sample, cell| {
                r.$field = cell.into_int()?.map(Micros);
                Ok(())
            }
        )
    };
}

macro_rules! moment {
    ($name:literal, $field:ident) => {
        column!(
            $name,
            Timestamp,
            false,
            |r: &Sample| Cell::int(r.$field.map(|value| value.0)),
            |r: &mut Sample, cell| {
                r.$field = cell.into_int()?.map(UtcMicros);
                Ok(())
            }
        )
    };
}

macro_rules! text {
    ($name:literal, $field:ident) => {
        column!(
            $name,
            Word,
            false,
            |r: &Sample| Cell::text(r.$field.as_deref()),
            |r: &mut Sample, cell| {
                r.$field = cell.into_text()?;
                Ok(())
            }
        )
    };
}

macro_rules! count {
    ($name:literal, $field:ident) => {
        column!(
            $name,
            Int,
            false,
            |r: &Sample| Cell::int(r.$field.map(i64::from)),
            |r: &mut Sample, cell| {
                r.$field = cell
                    .into_int()?
                    .map(|value| i32::try_from(value).map_err(|_| format!("{value} is too large")))
                    .transpose()?;
                Ok(())
            }
        )
    };
}

macro_rules! flag {
    ($name:literal, $field:ident) => {
        column!(
            $name,
            Bool,
            false,
            |r: &Sample| r.$field.map_or(Cell::Null, Cell::Bool),
            |r: &mut Sample, cell| {
                r.$field = cell.into_bool()?;
                Ok(())
            }
        )
    };
}

static SAMPLE: &[Column<Sample>] = &[
    column!(
        "monitor",
        Word,
        true,
        |r| Cell::text(Some(r.monitor.as_str())),
        |r, cell| {
            r.monitor = present(cell.into_word()?)?;
            Ok(())
        }
    ),
    column!(
        "started_at",
        Timestamp,
        true,
        |r| Cell::Int(r.started_at.0),
        |r, cell| {
            r.started_at = UtcMicros(present(cell.into_int()?)?);
            Ok(())
        }
    ),
    column!(
        "outcome",
        Word,
        true,
        |r| Cell::text(Some(r.outcome.as_str())),
        |r, cell| {
            r.outcome = present(cell.into_word()?)?;
            Ok(())
        }
    ),
    column!(
        "stage",
        Word,
        false,
        |r| Cell::text(r.stage.map(Stage::as_str)),
        |r, cell| {
            r.stage = cell.into_word()?;
            Ok(())
        }
    ),
    text!("error", error),
    micros!("smtp_connect_us", smtp_connect),
    micros!("smtp_send_us", smtp_send),
    micros!("pickup_connect_us", pickup_connect),
    micros!("pickup_login_us", pickup_login),
    micros!("pickup_receive_us", pickup_receive),
    micros!("round_trip_us", round_trip),
    micros!("round_trip_error_us", round_trip_error),
    micros!("round_trip_likely_error_us", round_trip_likely_error),
    flag!("settled", settled),
    column!(
        "excluded",
        Word,
        false,
        |r| Cell::text(r.excluded.map(Exclusion::as_str)),
        |r, cell| {
            r.excluded = cell.into_word()?;
            Ok(())
        }
    ),
    micros!("test_interval_us", test_interval),
    micros!("max_round_trip_us", max_round_trip),
    micros!("smtp_tcp_us", smtp_tcp),
    micros!("smtp_tls_us", smtp_tls),
    micros!("smtp_greeting_us", smtp_greeting),
    micros!("smtp_ehlo_us", smtp_ehlo),
    micros!("smtp_auth_us", smtp_auth),
    micros!("smtp_envelope_us", smtp_envelope),
    micros!("smtp_data_us", smtp_data),
    micros!("pickup_tcp_us", pickup_tcp),
    micros!("pickup_tls_us", pickup_tls),
    micros!("pickup_greeting_us", pickup_greeting),
    micros!("pickup_list_us", pickup_list),
    count!("pickups", pickups),
    count!("smtp_attempts", smtp_attempts),
    count!("smtp_reply_code", smtp_reply_code),
    text!("smtp_enhanced_status", smtp_enhanced_status),
    text!("smtp_tls_version", smtp_tls_version),
    text!("smtp_tls_cipher", smtp_tls_cipher),
    moment!("smtp_certificate_expires_at", smtp_certificate_expires_at),
    text!("pickup_tls_version", pickup_tls_version),
    text!("pickup_tls_cipher", pickup_tls_cipher),
    moment!("pickup_certificate_expires_at", pickup_certificate_expires_at),
    flag!("tls_unverified", tls_unverified),
    text!("folder", folder),
    text!("folders_missing", folders_missing),
    count!("duplicates", duplicates),
    column!(
        "hops",
        Hops,
        false,
        |r| r.hops.clone().map_or(Cell::Null, Cell::Hops),
        |r, cell| {
            r.hops = match cell {
                Cell::Null => None,
                Cell::Hops(hops) => Some(hops),
                other => return Err(format!("{other:?} is no list of hops")),
            };
            Ok(())
        }
    ),
    micros!("smtp_elapsed_us", smtp_elapsed),
    flag!("send_uncertain", send_uncertain),
    count!("message_bytes", message_bytes),
    text!("spf", spf),
    text!("dkim", dkim),
    text!("dmarc", dmarc),
    text!("spam_verdict", spam_verdict),
    column!(
        "spam_score",
        Real,
        false,
        |r| r.spam_score.map_or(Cell::Null, Cell::Real),
        |r, cell| {
            r.spam_score = match cell {
                Cell::Null => None,
                Cell::Real(score) => Some(score),
                other => return Err(format!("{other:?} is no score")),
            };
            Ok(())
        }
    ),
    text!("kind", kind),
];

impl Record for Sample {
    const FOLDER: &'static str = "samples";

    fn columns() -> &'static [Column<Self>] {
        SAMPLE
    }

    fn blank() -> Self {
        #[allow(clippy::expect_used, reason = "the text is a constant that is a name")]
        let monitor = "blank".parse().expect("a name");
        Self::new(monitor, UtcMicros(0), Outcome::NotTested)
    }

    fn key(&self) -> (&str, i64) {
        (self.monitor.as_str(), self.started_at.0)
    }

    /// A settled sample is never replaced by a provisional one.
    fn replaces(&self, other: &Self) -> bool {
        other.is_provisional() || !self.is_provisional()
    }
}

static EVENT: &[Column<Event>] = &[
    // Null would be no key: an event of the whole site has an empty text here.
    column!(
        "monitor",
        Word,
        true,
        |r| Cell::text(Some(r.monitor.as_ref().map_or("", |monitor| monitor.as_str()))),
        |r, cell| {
            r.monitor = match cell.into_text()? {
                Some(text) if !text.is_empty() => Some(text.parse().map_err(|error| format!("{error}"))?),
                _ => None,
            };
            Ok(())
        }
    ),
    column!("at", Timestamp, true, |r| Cell::Int(r.at.0), |r, cell| {
        r.at = UtcMicros(present(cell.into_int()?)?);
        Ok(())
    }),
    column!("kind", Word, true, |r| Cell::text(Some(r.kind.as_str())), |r, cell| {
        r.kind = present(cell.into_word()?)?;
        Ok(())
    }),
    column!("text", Word, false, |r| Cell::text(r.text.as_deref()), |r, cell| {
        r.text = cell.into_text()?;
        Ok(())
    }),
    column!("actor", Word, false, |r| Cell::text(r.actor.as_deref()), |r, cell| {
        r.actor = cell.into_text()?;
        Ok(())
    }),
    column!(
        "until",
        Timestamp,
        false,
        |r| Cell::int(r.until.map(|at| at.0)),
        |r, cell| {
            r.until = cell.into_int()?.map(UtcMicros);
            Ok(())
        }
    ),
    column!("detail", Word, false, |r| Cell::text(r.detail.as_deref()), |r, cell| {
        r.detail = cell.into_text()?;
        Ok(())
    }),
];

impl Record for Event {
    const FOLDER: &'static str = "events";

    fn columns() -> &'static [Column<Self>] {
        EVENT
    }

    fn blank() -> Self {
        Self::new(None, UtcMicros(0), EventKind::ProbeStarted)
    }

    fn key(&self) -> (&str, i64) {
        (self.monitor.as_ref().map_or("", |monitor| monitor.as_str()), self.at.0)
    }

    fn replaces(&self, _other: &Self) -> bool {
        true
    }
}
