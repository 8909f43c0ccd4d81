//! Aims: what was wanted, what came out, whether it is met.

use serde_json::{Value, json};

/// One aim and what came out; what was not measured is NaN.
pub struct Target {
    what: String,
    aim: f64,
    measured: f64,
    met: bool,
    sign: &'static str,
}

impl Target {
    pub fn at_most(what: impl Into<String>, aim: f64, measured: f64) -> Self {
        Self { what: what.into(), aim, measured, met: measured <= aim, sign: "<=" }
    }

    pub fn at_least(what: impl Into<String>, aim: f64, measured: f64) -> Self {
        Self { what: what.into(), aim, measured, met: measured >= aim, sign: ">=" }
    }

    pub fn is_met(&self) -> bool {
        self.met
    }

    fn met(&self) -> &'static str {
        match (self.measured.is_nan(), self.met) {
            (true, _) => "not measured",
            (false, true) => "yes",
            (false, false) => "NO",
        }
    }

    pub fn row(&self) -> Vec<String> {
        let Self { what, aim, measured, sign, .. } = self;
        vec![what.clone(), format!("{sign} {aim}"), format!("{measured:.2}"), self.met().to_owned()]
    }

    pub fn json(&self) -> Value {
        let measured = if self.measured.is_nan() { Value::Null } else { self.measured.into() };
        json!({ "what": self.what, "aim": self.aim, "measured": measured, "met": self.met() })
    }
}
