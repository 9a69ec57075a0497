//! How many upgrades a core lets in: what comes back after a restart comes all at once.

use std::time::Duration;

/// A token bucket (one second's tokens at most) of a core's part of the engine's upgrades.
pub(super) struct Pace {
    /// Upgrades in a second; less than one where there are more cores than upgrades.
    rate: f64,
    tokens: f64,
    filled: Duration,
}

impl Pace {
    /// One core's part of `per_second`, full.
    pub(super) fn new(per_second: u32, cores: usize) -> Self {
        let rate = f64::from(per_second) / cores.max(1) as f64;
        Self { rate, tokens: rate.max(1.0), filled: Duration::ZERO }
    }

    /// Whether one more may come in now.
    pub(super) fn take(&mut self, now: Duration) -> bool {
        let since = now.saturating_sub(self.filled).as_secs_f64();
        self.tokens = (self.tokens + since * self.rate).min(self.rate.max(1.0));
        self.filled = now;
        let lets_in = self.tokens >= 1.0;
        self.tokens -= f64::from(u8::from(lets_in));
        lets_in
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of those who ask every millisecond are let in, in each second.
    fn let_in(pace: &mut Pace, seconds: u64) -> Vec<usize> {
        let second = |second| (0..1000).filter(|ms| pace.take(Duration::from_millis(second * 1000 + ms))).count();
        (0..seconds).map(second).collect()
    }

    #[test]
    fn a_storm_is_let_in_at_the_rate_after_one_seconds_worth() {
        let all = let_in(&mut Pace::new(100, 2), 5);
        assert!((99..=100).contains(&all[0]), "a full bucket and a second: {all:?}");
        assert!(all[1..].iter().all(|count| (49..=51).contains(count)), "{all:?}");
    }

    #[test]
    fn what_is_not_used_is_kept_for_a_second_only() {
        let mut pace = Pace::new(10, 1);
        let hour = Duration::from_secs(3600);
        assert_eq!((0..100).filter(|_| pace.take(hour)).count(), 10);
    }

    #[test]
    fn many_cores_share_few_upgrades() {
        let mut pace = Pace::new(1, 4);
        assert_eq!(let_in(&mut pace, 12).iter().sum::<usize>(), 3, "one at once, then one in four seconds");
    }
}
