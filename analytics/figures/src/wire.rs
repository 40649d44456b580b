//! How figures travel between processes: as values of serde, without loss.
//!
//! JSON has only texts as keys of maps, so maps are lists of pairs. Long lists of values in which
//! only the values matter, not their order, are pairs of a value and its number.

use std::{collections::BTreeMap, sync::Arc};

use mailqos_lake_tables::TlsFacts;
use mailqos_model::{EnhancedStatus, UtcMicros};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// TLS version and cipher suite.
type Encryption = (Arc<str>, Option<Arc<str>>);
/// TLS facts and when they were found.
type LatestTls = Option<(UtcMicros, Arc<TlsFacts>)>;

/// Optional shared texts.
pub(crate) mod shared_text {
    use super::{Arc, Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        text: &Option<Arc<str>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        text.as_deref().serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Arc<str>>, D::Error> {
        Ok(Option::<String>::deserialize(deserializer)?.map(Into::into))
    }
}

/// An optional site and monitor.
pub(crate) mod site_and_monitor {
    use super::{Arc, Deserialize as _, Deserializer, Serialize as _, Serializer};

    type Pair = Option<(Arc<str>, Arc<str>)>;

    pub(crate) fn serialize<S: Serializer>(pair: &Pair, serializer: S) -> Result<S::Ok, S::Error> {
        pair.as_ref().map(|(site, monitor)| (&**site, &**monitor)).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Pair, D::Error> {
        let pair = Option::<(String, String)>::deserialize(deserializer)?;
        Ok(pair.map(|(site, monitor)| (site.into(), monitor.into())))
    }
}

/// Arrays of maps.
pub(crate) mod arrays_of_pairs {
    use super::{BTreeMap, Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer, K: Serialize, V: Serialize, const N: usize>(
        maps: &[BTreeMap<K, V>; N],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(maps.iter().map(|map| map.iter().collect::<Vec<_>>()))
    }

    pub(crate) fn deserialize<
        'de,
        D: Deserializer<'de>,
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
        const N: usize,
    >(
        deserializer: D,
    ) -> Result<[BTreeMap<K, V>; N], D::Error> {
        let maps = Vec::<Vec<(K, V)>>::deserialize(deserializer)?;
        let maps: Vec<BTreeMap<K, V>> =
            maps.into_iter().map(|pairs| pairs.into_iter().collect()).collect();
        maps.try_into().map_err(|_| serde::de::Error::custom("a list has the wrong length"))
    }
}

/// Values whose order doesn't matter.
pub(crate) mod counted {
    use super::{BTreeMap, Deserialize, Deserializer, Serialize, Serializer};

    /// Most values that a list may claim to have: its pairs are short, its values are not.
    const MAX_VALUES: usize = 1 << 28;

    pub(crate) fn serialize<S: Serializer, T: Serialize + Copy + Ord>(
        values: &[T],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut counts: BTreeMap<T, usize> = BTreeMap::new();
        for value in values {
            *counts.entry(*value).or_default() += 1;
        }
        serializer.collect_seq(counts)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>, T: Deserialize<'de> + Copy>(
        deserializer: D,
    ) -> Result<Vec<T>, D::Error> {
        let mut values = Vec::new();
        for (value, count) in Vec::<(T, usize)>::deserialize(deserializer)? {
            let length = values.len().checked_add(count).filter(|length| *length <= MAX_VALUES);
            let length = length.ok_or_else(|| serde::de::Error::custom("a list is too long"))?;
            values.resize(length, value);
        }
        Ok(values)
    }
}

/// Bounces by status.
pub(crate) mod bounces {
    use super::{BTreeMap, Deserialize as _, Deserializer, EnhancedStatus, Serializer};

    type Status = (u8, u16, u16);

    pub(crate) fn serialize<S: Serializer>(
        bounces: &BTreeMap<Option<EnhancedStatus>, u64>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(bounces.iter().map(|(status, count)| {
            (status.map(|status| (status.class, status.subject, status.detail)), count)
        }))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<Option<EnhancedStatus>, u64>, D::Error> {
        let pairs = Vec::<(Option<Status>, u64)>::deserialize(deserializer)?;
        let status = |(class, subject, detail)| EnhancedStatus { class, subject, detail };
        Ok(pairs.into_iter().map(|(found, count)| (found.map(status), count)).collect())
    }
}

/// Connections by TLS version and cipher suite.
pub(crate) mod connections {
    use super::{BTreeMap, Deserialize as _, Deserializer, Encryption, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        legs: &[BTreeMap<Encryption, u64>; 2],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(legs.iter().map(|leg| {
            let each = leg.iter();
            each.map(|((version, cipher), count)| (&**version, cipher.as_deref(), *count))
                .collect::<Vec<_>>()
        }))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<[BTreeMap<Encryption, u64>; 2], D::Error> {
        let legs = <[Vec<(String, Option<String>, u64)>; 2]>::deserialize(deserializer)?;
        Ok(legs.map(|leg| {
            let each = leg.into_iter();
            each.map(|(version, cipher, count)| ((version.into(), cipher.map(Into::into)), count))
                .collect()
        }))
    }
}

/// Latest TLS facts of each connection.
pub(crate) mod latest_tls {
    use super::{
        Arc, Deserialize as _, Deserializer, LatestTls, Serialize as _, Serializer, TlsFacts,
        UtcMicros,
    };

    type Facts<T> = (UtcMicros, Option<T>, Option<T>, Option<UtcMicros>);

    pub(crate) fn serialize<S: Serializer>(
        legs: &[LatestTls; 2],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let facts = |leg: &LatestTls| -> Option<Facts<String>> {
            let (at, facts) = leg.as_ref()?;
            let text = |text: &Option<Arc<str>>| text.as_deref().map(str::to_owned);
            Some((*at, text(&facts.version), text(&facts.cipher), facts.expires_at))
        };
        [facts(&legs[0]), facts(&legs[1])].serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<[LatestTls; 2], D::Error> {
        let legs = <[Option<Facts<String>>; 2]>::deserialize(deserializer)?;
        Ok(legs.map(|leg| {
            let (at, version, cipher, expires_at) = leg?;
            let text = |text: Option<String>| text.map(Arc::from);
            let facts = TlsFacts { version: text(version), cipher: text(cipher), expires_at };
            Some((at, Arc::new(facts)))
        }))
    }
}
