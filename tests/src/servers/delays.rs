//! How long a mail takes inside the embedded server: drawn from a seeded distribution.

use std::time::Duration;

use rand::RngExt as _;
use rand_distr::{Distribution as _, LogNormal};
use rand_pcg::Pcg64Mcg;

/// Distribution of the time between a mail's acceptance and its arrival in the mailbox.
#[derive(Debug, Clone)]
pub enum Delays {
    /// Always the same delay.
    Fixed(Duration),
    /// Uniform in this range.
    Uniform(Duration, Duration),
    /// Log-normal, like real mail: most delays are near the median, with a long tail that is cut at
    /// `longest`.
    LogNormal {
        /// Median delay above `shortest`.
        median: Duration,
        /// Standard deviation of the logarithm; 0.5 is calm, 1.5 is wild.
        sigma: f64,
        /// Minimum delay.
        shortest: Duration,
        /// Maximum delay.
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
