//! Medians and ratios of interleaved rounds.

use serde::Serialize;

/// The values of one server in all rounds; a round in which it failed has none.
pub(crate) type Rounds = [Option<f64>];

/// Middle and ends of the values of several rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    /// The middle value, or the mean of the two middle ones.
    pub(crate) median: f64,
    /// The smallest.
    pub(crate) min: f64,
    /// The largest.
    pub(crate) max: f64,
}

impl Spread {
    /// Of the rounds that have a value; `None` if none has.
    pub(crate) fn of(rounds: &Rounds) -> Option<Self> {
        let mut values: Vec<f64> = rounds.iter().flatten().copied().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) };
        Some(Self { median, min, max })
    }
}

/// One server by another.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Ratio {
    /// Median by median.
    pub(crate) of_medians: f64,
    /// The same within each round, which were next to each other in time: the spread says how far the
    /// ratio can be trusted.
    pub(crate) within_rounds: Option<Spread>,
}

impl Ratio {
    /// `rounds` by `base`; `None` if either has no value, or the base is zero.
    pub(crate) fn of(rounds: &Rounds, base: &Rounds) -> Option<Self> {
        let (own, other) = (Spread::of(rounds)?, Spread::of(base)?);
        if other.median == 0.0 {
            return None;
        }
        let pairs: Vec<Option<f64>> = rounds
            .iter()
            .zip(base)
            .map(|(own, base)| own.zip(*base).filter(|(_, base)| *base != 0.0).map(|(own, base)| own / base))
            .collect();
        Some(Self { of_medians: own.median / other.median, within_rounds: Spread::of(&pairs) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_even_and_missing_rounds() {
        let median = |rounds: &Rounds| Spread::of(rounds).map(|spread| spread.median);
        assert_eq!(median(&[Some(3.0), Some(1.0), Some(2.0)]), Some(2.0));
        assert_eq!(median(&[Some(4.0), Some(1.0), Some(2.0), Some(3.0)]), Some(2.5));
        assert_eq!(median(&[None, Some(7.0), None]), Some(7.0));
        assert_eq!(median(&[None]), None);
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn one_wild_round_moves_the_ends_and_not_the_middle() {
        let spread = Spread::of(&[Some(5.0), Some(5.1), Some(50.0), Some(4.9), Some(5.0)]).expect("has values");
        assert_eq!(spread, Spread { median: 5.0, min: 4.9, max: 50.0 });
    }

    #[test]
    fn ratios_pair_the_rounds() {
        // The machine slows down by half from round to round; the servers stay at 0.5 of each other.
        let base = [Some(4.0), Some(6.0), Some(9.0), None];
        let own = [Some(2.0), Some(3.0), Some(4.5), Some(100.0)];
        let ratio = Ratio::of(&own, &base).expect("has values");
        assert_eq!(ratio.of_medians, 3.75 / 6.0);
        assert_eq!(ratio.within_rounds, Some(Spread { median: 0.5, min: 0.5, max: 0.5 }));
        assert_eq!(Ratio::of(&own, &[Some(0.0)]), None);
        assert_eq!(Ratio::of(&[None], &base), None);
    }
}
