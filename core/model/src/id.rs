//! Names of configured things: lower-case letters, digits, `-`, `_` and `.`, at most 64 characters,
//! so that they are safe in file names, hive partitions, mail header fields and tokens.

use std::{fmt, str::FromStr, sync::Arc};

/// Maximum number of characters in a name.
const MAX_NAME: usize = 64;

/// Reasons why a text is not a valid name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// The name is empty.
    #[error("the name is empty")]
    Empty,
    /// The name has more than 64 characters.
    #[error("the name has {0} characters; at most {MAX_NAME} are allowed")]
    TooLong(usize),
    /// The name contains a character other than `a`–`z`, `0`–`9`, `-`, `_`, `.`.
    #[error(
        "{0:?} is not allowed; names may contain lower-case letters a–z, digits, '-', '_' and '.'"
    )]
    Character(char),
    /// The name consists of dots only, so it could lead out of a folder.
    #[error("a name can't consist of dots only")]
    Dots,
}

fn check(text: &str) -> Result<(), InvalidName> {
    if text.is_empty() {
        return Err(InvalidName::Empty);
    }
    if let Some(character) =
        text.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-' | '_' | '.'))
    {
        return Err(InvalidName::Character(character));
    }
    if text.len() > MAX_NAME {
        return Err(InvalidName::TooLong(text.len()));
    }
    if text.bytes().all(|b| b == b'.') {
        return Err(InvalidName::Dots);
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Returns the name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                check(text)?;
                Ok(Self(text.into()))
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name!(
    /// Id of a monitor, unique within a site.
    MonitorId
);
name!(
    /// Id of an object: a monitored host or service.
    ObjectId
);
name!(
    /// Name of an account.
    AccountName
);
name!(
    /// Name of a site: the place from which a probe measures.
    SiteName
);
name!(
    /// Name of any other configured thing: operator, action list, mail server, target.
    Name
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_names_are_rejected() {
        assert!("mail-1_a.b".parse::<MonitorId>().is_ok());
        assert_eq!("".parse::<MonitorId>(), Err(InvalidName::Empty));
        assert_eq!("Mail".parse::<MonitorId>(), Err(InvalidName::Character('M')));
        assert_eq!("a/b".parse::<MonitorId>(), Err(InvalidName::Character('/')));
        assert_eq!("..".parse::<SiteName>(), Err(InvalidName::Dots));
        assert!("a".repeat(64).parse::<MonitorId>().is_ok());
        assert_eq!("a".repeat(65).parse::<MonitorId>(), Err(InvalidName::TooLong(65)));
    }
}
