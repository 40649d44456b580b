//! Behaviour of a store with conditional writes, and versions of objects.

use super::dialect::NO_ETAG;

/// A version of an object, used in conditions.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub struct Version {
    pub(super) e_tag: Option<String>,
    pub(super) version: Option<String>,
    /// SHA-256 of the content, if it was read. It distinguishes versions in a store without ETags.
    #[serde(default)]
    pub(super) digest: Option<String>,
    /// Size and time from a listing, if there is one.
    #[serde(default)]
    pub(super) stamp: Option<String>,
}

impl Version {
    /// Returns the version that the store describes in a listing or a response.
    pub(super) fn of(meta: object_store::ObjectMeta) -> Self {
        Self {
            stamp: Some(format!("{} {}", meta.size, meta.last_modified)),
            e_tag: meta.e_tag,
            version: meta.version,
            digest: None,
        }
    }

    /// Returns the ETag; in a store without ETags, the version, or else the size and time.
    pub fn name(&self) -> &str {
        self.tag().or(self.version.as_deref()).or(self.stamp.as_deref()).unwrap_or_default()
    }

    /// Returns whether both are the same version, as far as they can be compared. Some responses
    /// quote ETags, some mark them as weak, and not all include a version.
    pub fn is(&self, other: &Self) -> bool {
        if let (Some(own), Some(other)) = (&self.digest, &other.digest) {
            return own == other;
        }
        if let (Some(own), Some(other)) = (self.tag(), other.tag()) {
            return own == other;
        }
        match (&self.version, &other.version) {
            (Some(own), Some(other)) => own == other,
            _ => self.stamp.is_some() && self.stamp == other.stamp,
        }
    }

    /// Returns whether the store gave it an ETag.
    pub(super) fn has_tag(&self) -> bool {
        self.tag().is_some()
    }

    /// Returns the ETag without quotes and without the mark of a weak one.
    pub(super) fn tag(&self) -> Option<&str> {
        let tag = self.e_tag.as_deref().filter(|tag| *tag != NO_ETAG)?;
        let tag = tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"');
        (!tag.is_empty()).then_some(tag)
    }
}

/// How a store handles conditional writes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Conditions {
    /// As HTTP defines them (RFC 9110, section 13.1).
    #[default]
    Kept,
    /// As HTTP defines them, but with unquoted ETags.
    Unquoted,
    /// The store rejects conditional requests.
    Refused,
    /// The store ignores conditions.
    Ignored,
}

/// Known behaviour of a store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Habits {
    /// Handling of conditional writes.
    pub conditions: Conditions,
    /// Whether the store requires a checksum with each object.
    pub checksum: bool,
    /// Whether the store never replaces an object.
    pub write_once: bool,
}

impl Habits {
    /// Describes the consequences of the behaviour for users.
    pub fn told(self) -> Vec<&'static str> {
        let mut told = vec![match self.conditions {
            Conditions::Kept => {
                "it supports conditional writes: no writer can overwrite another's rows"
            }
            Conditions::Unquoted => "it supports conditional writes, with unquoted ETags",
            Conditions::Refused => {
                "it does not support conditional writes: each object is read before and after it is written, \
                 and only one probe may write for a site"
            }
            Conditions::Ignored => {
                "it ignores the conditions of writes: each object is read before and after it is written, and \
                 only one probe may write for a site"
            }
        }];
        if self.checksum {
            told.push("it requires a checksum with each object, which mailqos sends");
        }
        if self.write_once {
            told.push(
                "it never replaces an object: each day is uploaded once it is complete, a few hours after its \
                 end, and another probe of the same site can't be detected",
            );
        }
        told
    }

    /// Returns whether the store itself prevents two writers from overwriting each other.
    pub fn guards(self) -> bool {
        matches!(self.conditions, Conditions::Kept | Conditions::Unquoted)
    }
}
