//! Throttling of sign-ins: failures slow down further attempts of the same address, and of the same
//! user from unknown addresses. No one else is locked out: an address from which a user has signed
//! in before is not affected by the failures of others.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv6Addr},
    sync::Mutex,
    time::{Duration, Instant},
};

use mailqos_base::lock::IgnorePoison as _;

/// Failures of a user from one address before attempts are delayed.
const FREE_OF_PAIR: u32 = 5;
/// Failures of an address, whatever the user.
const FREE_OF_ADDRESS: u32 = 30;
/// Failures of a user, from whatever address.
const FREE_OF_USER: u32 = 60;
/// First delay; each further failure doubles it.
const FIRST_DELAY: Duration = Duration::from_secs(2);
/// Longest delay.
const MAX_DELAY: Duration = Duration::from_secs(15 * 60);
/// Failures are forgotten after this time without another.
const FORGET_AFTER: Duration = Duration::from_secs(3_600);
/// Number of remembered keys; more remove the oldest.
const MAX_KEYS: usize = 50_000;
/// Number of remembered addresses of successful sign-ins.
const MAX_KNOWN: usize = 50_000;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Pair(String, IpAddr),
    Address(IpAddr),
    User(String),
}

impl Key {
    fn free(&self) -> u32 {
        match self {
            Self::Pair(..) => FREE_OF_PAIR,
            Self::Address(_) => FREE_OF_ADDRESS,
            Self::User(_) => FREE_OF_USER,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    last: Instant,
}

impl Failures {
    /// Returns the time until the next attempt is allowed.
    fn wait(&self, free: u32, now: Instant) -> Duration {
        let Some(over) = self.count.checked_sub(free) else {
            return Duration::ZERO;
        };
        let delay = FIRST_DELAY.saturating_mul(1 << over.min(16)).min(MAX_DELAY);
        (self.last + delay).saturating_duration_since(now)
    }
}

#[derive(Debug, Default)]
struct Memory {
    failures: HashMap<Key, Failures>,
    known: HashSet<(String, IpAddr)>,
}

/// Remembers failed sign-ins.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    memory: Mutex<Memory>,
}

/// Returns the network of an address: an IPv6 user has at least a /64 (RFC 6177).
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let prefix = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(prefix))
        }
        address => address,
    }
}

impl Throttle {
    /// Counts an attempt as failed until [`Throttle::succeeded`], so that many at the same time
    /// don't all pass.
    ///
    /// # Errors
    /// Too many attempts have failed: the time to wait.
    pub(crate) fn attempt(&self, user: &str, address: IpAddr) -> Result<(), Duration> {
        self.attempt_at(user, address, Instant::now())
    }

    fn attempt_at(&self, user: &str, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let mut memory = self.memory.lock().ignore_poison();
        // Names are not limited in length here, and the memory is.
        let (user, address) = (user.chars().take(64).collect::<String>(), network(address));
        let mut keys = vec![Key::Pair(user.clone(), address), Key::Address(address)];
        if !memory.known.contains(&(user.clone(), address)) {
            keys.push(Key::User(user));
        }
        let wait = keys.iter().filter_map(|key| {
            let failures = memory.failures.get(key)?;
            (now.saturating_duration_since(failures.last) < FORGET_AFTER)
                .then(|| failures.wait(key.free(), now))
        });
        let wait = wait.max().unwrap_or_default();
        if wait > Duration::ZERO {
            return Err(wait);
        }
        for key in keys {
            let entry = memory.failures.entry(key).or_insert(Failures { count: 0, last: now });
            if now.saturating_duration_since(entry.last) >= FORGET_AFTER {
                entry.count = 0;
            }
            *entry = Failures { count: entry.count.saturating_add(1), last: now };
        }
        memory.shrink(now);
        Ok(())
    }

    /// Takes back the last attempt, which succeeded.
    pub(crate) fn succeeded(&self, user: &str, address: IpAddr) {
        let mut memory = self.memory.lock().ignore_poison();
        let (user, address) = (user.to_owned(), network(address));
        memory.failures.remove(&Key::Pair(user.clone(), address));
        for key in [Key::Address(address), Key::User(user.clone())] {
            if let Some(failures) = memory.failures.get_mut(&key) {
                failures.count = failures.count.saturating_sub(1);
            }
        }
        if memory.known.len() < MAX_KNOWN {
            memory.known.insert((user, address));
        }
    }
}

impl Memory {
    /// Removes what is forgotten and, if that is not enough, the oldest half.
    fn shrink(&mut self, now: Instant) {
        if self.failures.len() <= MAX_KEYS {
            return;
        }
        self.failures
            .retain(|_, failures| now.saturating_duration_since(failures.last) < FORGET_AFTER);
        if self.failures.len() > MAX_KEYS {
            let mut times: Vec<Instant> = self.failures.values().map(|found| found.last).collect();
            times.sort_unstable();
            let middle = times[times.len() / 2];
            self.failures.retain(|_, failures| failures.last > middle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ATTACKER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7));

    #[test]
    fn failures_delay_their_address_and_lock_nobody_else_out() {
        let throttle = Throttle::default();
        let begun = Instant::now();
        for _ in 0..FREE_OF_PAIR {
            assert_eq!(throttle.attempt_at("anna", ATTACKER, begun), Ok(()));
        }
        assert_eq!(throttle.attempt_at("anna", ATTACKER, begun), Err(FIRST_DELAY));
        assert_eq!(throttle.attempt_at("anna", HOME, begun), Ok(()));
        assert_eq!(throttle.attempt_at("bo", ATTACKER, begun), Ok(()));
        // After the delay there is one attempt, and then a longer delay.
        assert_eq!(throttle.attempt_at("anna", ATTACKER, begun + FIRST_DELAY), Ok(()));
        let wait = throttle.attempt_at("anna", ATTACKER, begun + FIRST_DELAY);
        assert_eq!(wait, Err(FIRST_DELAY * 2));
        assert_eq!(throttle.attempt_at("anna", ATTACKER, begun + FORGET_AFTER * 2), Ok(()));
    }

    #[test]
    fn many_addresses_slow_a_user_down_except_where_it_has_signed_in_before() {
        let throttle = Throttle::default();
        let now = Instant::now();
        assert_eq!(throttle.attempt_at("anna", HOME, now), Ok(()));
        throttle.succeeded("anna", HOME);
        let address = |number: u32| IpAddr::V4(std::net::Ipv4Addr::from_bits(number << 8));
        for number in 0..FREE_OF_USER {
            assert_eq!(throttle.attempt_at("anna", address(number), now), Ok(()), "{number}");
        }
        assert!(throttle.attempt_at("anna", address(9_999), now).is_err());
        assert_eq!(throttle.attempt_at("anna", HOME, now), Ok(()));
    }

    #[test]
    fn an_address_that_tries_many_names_is_delayed_and_ipv6_counts_by_network() {
        let throttle = Throttle::default();
        let now = Instant::now();
        let address = |host: u16| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, host));
        for number in 0..FREE_OF_ADDRESS {
            let user = format!("user{number}");
            assert_eq!(throttle.attempt_at(&user, address(number as u16), now), Ok(()));
        }
        assert!(throttle.attempt_at("another", address(999), now).is_err());
    }

    #[test]
    fn the_memory_is_limited() {
        let throttle = Throttle::default();
        let now = Instant::now();
        for number in 0..MAX_KEYS as u32 {
            let address = IpAddr::V4(std::net::Ipv4Addr::from_bits(number));
            let at = now + Duration::from_millis(number.into());
            let _ = throttle.attempt_at(&format!("u{number}"), address, at);
        }
        assert!(throttle.memory.lock().ignore_poison().failures.len() <= MAX_KEYS);
    }
}
