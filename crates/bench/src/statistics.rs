//! The few statistics that are told of several runs.

use serde_json::{Value, json};

/// The smallest, the median and the largest of several runs; of none they are NaN.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub min: f64,
    pub median: f64,
    pub max: f64,
}

impl Spread {
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |at: usize| values.get(at).copied().unwrap_or(f64::NAN);
        let last = values.len().saturating_sub(1);
        // Of an even number the mean of the two in the middle.
        Self { min: at(0), median: (at(last / 2) + at(last.div_ceil(2))) / 2.0, max: at(last) }
    }

    /// `median (min-max)`.
    pub fn show(&self, decimals: usize) -> String {
        let Self { min, median, max } = self;
        format!("{median:.decimals$} ({min:.decimals$}-{max:.decimals$})")
    }

    /// `{min, median, max}`, or null where nothing was measured.
    pub fn json(&self) -> Value {
        match self.median.is_finite() {
            true => json!({ "min": self.min, "median": self.median, "max": self.max }),
            false => Value::Null,
        }
    }
}

/// The smallest value that `percent` of all are not above (the nearest rank); of none NaN.
pub fn percentile(values: impl IntoIterator<Item = f64>, percent: u32) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let rank = (values.len() * percent as usize).div_ceil(100);
    values.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_value_that_was_measured() {
        let check = |values: &[f64], percent: u32, want: f64| {
            assert_eq!(percentile(values.iter().copied(), percent), want, "{percent} of {values:?}");
        };
        check(&[3.0], 50, 3.0);
        check(&[3.0], 95, 3.0);
        check(&[4.0, 1.0, 3.0, 2.0], 50, 2.0);
        check(&[4.0, 1.0, 3.0, 2.0], 75, 3.0);
        check(&[4.0, 1.0, 3.0, 2.0], 95, 4.0);
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        check(&hundred, 50, 50.0);
        check(&hundred, 95, 95.0);
        check(&hundred, 100, 100.0);
        assert!(percentile([], 50).is_nan());
    }

    #[test]
    fn a_spread_is_the_ends_and_the_middle() {
        let check = |values: &[f64], want: [f64; 3]| {
            let Spread { min, median, max } = Spread::of(values.iter().copied());
            assert_eq!([min, median, max], want, "{values:?}");
        };
        check(&[2.0], [2.0, 2.0, 2.0]);
        check(&[3.0, 1.0, 2.0], [1.0, 2.0, 3.0]);
        check(&[4.0, 1.0, 3.0, 2.0], [1.0, 2.5, 4.0]);
        assert_eq!(Spread::of([]).json(), Value::Null);
        assert_eq!(Spread::of([1.0, 2.0]).show(1), "1.5 (1.0-2.0)");
    }
}
