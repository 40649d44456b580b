//! How long a mail is under way inside the embedded server: drawn from a seeded distribution.

use std::time::Duration;

use rand::RngExt as _;
use rand_distr::{Distribution as _, LogNormal};
use rand_pcg::Pcg64Mcg;

/// The distribution of the time between a mail's acceptance and its landing in the mailbox.
#[derive(Debug, Clone)]
pub enum Delays {
    /// Always the same.
    Fixed(Duration),
    /// Each in the range is as likely as any other.
    Uniform(Duration, Duration),
    /// Log-normal, as real mail is: most near the median, a long tail, cut at `longest`.
    LogNormal {
        /// Half of the mails are faster.
        median: Duration,
        /// Standard deviation of the logarithm; 0.5 is calm, 1.5 is wild.
        sigma: f64,
        /// The fixed part that no mail undercuts.
        shortest: Duration,
        /// No mail takes longer.
        longest: Duration,
    },
}

impl Delays {
    /// Draws the next delay.
    pub fn draw(&self, random: &mut Pcg64Mcg) -> Duration {
        match self {
            Self::Fixed(delay) => *delay,
            Self::Uniform(shortest, longest) => random.random_range(*shortest..=*longest),
            Self::LogNormal { median, sigma, shortest, longest } => {
                let beyond = median.saturating_sub(*shortest).as_secs_f64().max(1e-6);
                let distribution = LogNormal::new(beyond.ln(), *sigma).expect("a finite spread");
                (*shortest + Duration::from_secs_f64(distribution.sample(random).min(1e6)))
                    .min(*longest)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;

    #[test]
    fn the_same_seed_gives_the_same_delays_around_the_median() {
        let delays = Delays::LogNormal {
            median: Duration::from_millis(800),
            sigma: 0.8,
            shortest: Duration::from_millis(50),
            longest: Duration::from_secs(60),
        };
        let draw = |seed| {
            let mut random = Pcg64Mcg::seed_from_u64(seed);
            (0..999).map(|_| delays.draw(&mut random)).collect::<Vec<_>>()
        };
        let mut drawn = draw(7);
        assert_eq!(drawn, draw(7));
        assert_ne!(drawn, draw(8));
        drawn.sort();
        let median = drawn[499].as_secs_f64();
        assert!((0.7..0.9).contains(&median), "{median}");
        assert!(drawn[0] >= Duration::from_millis(50) && drawn[998] <= Duration::from_secs(60));
    }
}
