//! Settings: one value of each thing that may be swept.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// What can be swept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dimension {
    Sites,
    Workers,
    Requests,
    /// Of the link, a round trip, in microseconds.
    Delay,
    /// Of each connection, in bytes a second.
    Rate,
    /// What applications write, a second.
    Transactions,
}

impl Dimension {
    /// As JSON has it.
    pub fn key(self) -> &'static str {
        match self {
            Self::Sites => "sites",
            Self::Workers => "workers",
            Self::Requests => "requests",
            Self::Delay => "delay_seconds",
            Self::Rate => "rate_bytes_per_second",
            Self::Transactions => "transactions_per_second",
        }
    }

    /// As a plot has it below an axis.
    pub fn title(self) -> &'static str {
        match self {
            Self::Sites => "sites of the fleet",
            Self::Workers => "workers",
            Self::Requests => "requests at once",
            Self::Delay => "round trip to the store",
            Self::Rate => "rate of each connection",
            Self::Transactions => "transactions a second",
        }
    }

    /// A value alone, as it stands at an axis.
    pub fn value(self, value: u64) -> String {
        match self {
            Self::Delay if !value.is_multiple_of(1_000) => format!("{} us", value),
            Self::Delay => format!("{} ms", value / 1_000),
            Self::Rate => format!("{} MB/s", value as f64 / 1e6),
            _ => value.to_string(),
        }
    }

    /// A value with what it is.
    pub fn label(self, value: u64) -> String {
        let many = if value == 1 { "" } else { "s" };
        match self {
            Self::Sites => format!("{value} site{many}"),
            Self::Workers => format!("{value} worker{many}"),
            Self::Requests => format!("{value} request{many}"),
            Self::Delay => format!("{} away", self.value(value)),
            Self::Rate => self.value(value),
            Self::Transactions => format!("{value}/s"),
        }
    }

    fn json(self, value: u64) -> Value {
        match self {
            Self::Delay => json!(value as f64 / 1e6),
            _ => json!(value),
        }
    }
}

/// One value of each dimension that was named; the others are as the program has them by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Setting(BTreeMap<Dimension, u64>);

impl Setting {
    pub fn of(values: impl IntoIterator<Item = (Dimension, u64)>) -> Self {
        Self(values.into_iter().collect())
    }

    pub fn get(&self, dimension: Dimension) -> Option<u64> {
        self.0.get(&dimension).copied()
    }

    /// The sites of its fleet.
    pub fn sites(&self) -> usize {
        self.get(Dimension::Sites).and_then(|sites| usize::try_from(sites).ok()).unwrap_or(0)
    }

    /// The same without one dimension.
    pub fn without(&self, dimension: Dimension) -> Self {
        Self(self.0.iter().filter(|(at, _)| **at != dimension).map(|(at, value)| (*at, *value)).collect())
    }

    /// The values of some dimensions, in words.
    pub fn label(&self, of: &[Dimension]) -> String {
        let named = self.0.iter().filter(|(dimension, _)| of.contains(dimension));
        named.map(|(dimension, value)| dimension.label(*value)).collect::<Vec<_>>().join(", ")
    }

    pub fn json(&self) -> Value {
        Value::Object(self.0.iter().map(|(at, value)| (at.key().to_owned(), at.json(*value))).collect())
    }
}

/// All settings that come of lists of values: each value with each; a dimension without values is left out.
pub fn combine(lists: &[(Dimension, Vec<u64>)]) -> Vec<Setting> {
    let mut all = vec![Setting::default()];
    for (dimension, values) in lists.iter().filter(|(_, values)| !values.is_empty()) {
        let with = |setting: &Setting, value: u64| {
            let mut setting = setting.clone();
            setting.0.insert(*dimension, value);
            setting
        };
        all = all.iter().flat_map(|setting| values.iter().map(move |value| with(setting, *value))).collect();
    }
    all
}

/// The dimensions that have more than one value among the settings, and those values.
pub fn swept(settings: &[Setting]) -> Vec<(Dimension, Vec<u64>)> {
    let mut values: BTreeMap<Dimension, Vec<u64>> = BTreeMap::new();
    for (dimension, value) in settings.iter().flat_map(|setting| &setting.0) {
        values.entry(*dimension).or_default().push(*value);
    }
    for list in values.values_mut() {
        list.sort_unstable();
        list.dedup();
    }
    values.into_iter().filter(|(_, values)| values.len() > 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_combined_with_each() {
        let lists =
            [(Dimension::Sites, vec![4]), (Dimension::Workers, vec![1, 2]), (Dimension::Delay, vec![0, 20_000])];
        let all = combine(&[&lists[..], &[(Dimension::Rate, Vec::new())]].concat());
        assert_eq!(all.len(), 4);
        assert_eq!(all[1].label(&[Dimension::Workers, Dimension::Delay]), "1 worker, 20 ms away");
        assert_eq!(all[3].json(), json!({ "sites": 4, "workers": 2, "delay_seconds": 0.02 }));
        let swept: Vec<Dimension> = swept(&all).into_iter().map(|(dimension, _)| dimension).collect();
        assert_eq!(swept, [Dimension::Workers, Dimension::Delay], "one value alone is no sweep");
        assert_eq!(combine(&[]), [Setting::default()]);
    }
}
