//! Statistics of few samples: medians, quantiles, and confidence intervals of medians and their ratios.
//!
//! Samples come in pairs, one of each side taken right after the other, so that fluctuations of the machine affect both
//! alike. The interval is a bootstrap over pairs with a fixed seed: the same samples give the same report.

/// Resamplings of a bootstrap.
const RESAMPLINGS: usize = 2_000;
/// Share of resamplings inside the interval.
const COVERAGE: f64 = 0.9;

/// Returns the median; NaN without values.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// Returns the quantile `q`, interpolated; NaN without values.
pub fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let position = q.clamp(0.0, 1.0) * last as f64;
    let below = position.floor() as usize;
    let above = position.ceil() as usize;
    sorted[below] + (sorted[above] - sorted[below]) * (position - below as f64)
}

/// An interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub low: f64,
    pub high: f64,
}

/// Returns the confidence interval of the median of `values`.
pub fn spread_of_median(values: &[f64]) -> Spread {
    spread(values.len(), |picked| {
        let chosen: Vec<f64> = picked.iter().map(|&i| values[i]).collect();
        median(&chosen)
    })
}

/// Returns the confidence interval of `median(ours) / median(theirs)`; sample `i` of both sides is from the same pair.
pub fn spread_of_ratio(ours: &[f64], theirs: &[f64]) -> Spread {
    spread(ours.len().min(theirs.len()), |picked| {
        let side = |values: &[f64]| median(&picked.iter().map(|&i| values[i]).collect::<Vec<_>>());
        side(ours) / side(theirs)
    })
}

fn spread(samples: usize, statistic: impl Fn(&[usize]) -> f64) -> Spread {
    if samples == 0 {
        return Spread {
            low: f64::NAN,
            high: f64::NAN,
        };
    }
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let results: Vec<f64> = (0..RESAMPLINGS)
        .map(|_| {
            let picked: Vec<usize> = (0..samples).map(|_| random.below(samples)).collect();
            statistic(&picked)
        })
        .collect();
    Spread {
        low: quantile(&results, (1.0 - COVERAGE) / 2.0),
        high: quantile(&results, (1.0 + COVERAGE) / 2.0),
    }
}

/// xorshift64*: small, and sufficient for resampling.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let mixed = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D);
        ((u128::from(mixed) * bound as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_quantiles_interpolate() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(quantile(&[0.0, 10.0], 0.9), 9.0);
        assert_eq!(quantile(&[5.0], 0.99), 5.0);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn the_spread_of_equal_samples_is_a_point() {
        let spread = spread_of_ratio(&[2.0; 5], &[4.0; 5]);
        assert_eq!(
            spread,
            Spread {
                low: 0.5,
                high: 0.5
            }
        );
    }

    #[test]
    fn the_spread_covers_the_median_and_not_a_lone_outlier() {
        let values = [1.0, 1.1, 0.9, 1.05, 0.95, 1.02, 0.98, 9.0, 1.0];
        let spread = spread_of_median(&values);
        assert!(
            spread.low <= median(&values) && median(&values) <= spread.high,
            "{spread:?}"
        );
        assert!(spread.high < 2.0, "{spread:?}");
    }

    #[test]
    fn a_mood_that_falls_on_both_sides_of_a_pair_leaves_the_ratio_alone() {
        let theirs = [1.0, 2.0, 1.5, 3.0, 0.5];
        let ours = theirs.map(|value| value * 2.0);
        let spread = spread_of_ratio(&ours, &theirs);
        assert!(
            (spread.low - 2.0).abs() < 1e-9 && (spread.high - 2.0).abs() < 1e-9,
            "{spread:?}"
        );
    }

    #[test]
    fn resampling_picks_every_sample_and_none_beyond() {
        let mut random = Random(1);
        let mut seen = [false; 7];
        for _ in 0..1_000 {
            seen[random.below(7)] = true;
        }
        assert_eq!(seen, [true; 7]);
    }
}
