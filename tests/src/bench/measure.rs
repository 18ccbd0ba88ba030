//! What a benchmark says: samples of the subject beside samples of what it is held against, the
//! budgets of the design, and whether they are met. Medians only; it must never judge a single run.

use serde_json::{Value, json};

/// Samples of one control (the least that could do the work) or peer (another product).
#[derive(Clone, Debug)]
pub(super) struct Series {
    /// Its name, such as `bare tokio` or `cowrie`.
    pub(super) name: &'static str,
    /// One sample a round.
    pub(super) samples: Vec<f64>,
}

/// A limit the design sets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Budget {
    /// At most so many units.
    AtMost(f64),
    /// At least so many units.
    AtLeast(f64),
    /// At most so many times the median of a control or peer.
    Times(f64, &'static str),
}

/// How a budget came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Within it.
    Met,
    /// Over it.
    NotMet,
    /// What it is held against was not measured in this run.
    NotMeasured,
}

impl Verdict {
    /// As printed.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::NotMet => "NOT MET",
            Self::NotMeasured => "not measured",
        }
    }
}

/// One measured thing.
#[derive(Clone, Debug)]
pub(super) struct Measure {
    /// What is measured.
    pub(super) name: String,
    /// Its unit.
    pub(super) unit: &'static str,
    /// One sample a round.
    pub(super) subject: Vec<f64>,
    /// Controls and peers of the same run.
    pub(super) others: Vec<Series>,
    /// Limits of the design.
    pub(super) budgets: Vec<Budget>,
}

/// The middle of the samples; the mean of the two middle ones when their number is even.
pub(super) fn median(samples: &[f64]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    let upper = sorted.get(half).copied()?;
    if sorted.len() % 2 == 1 { Some(upper) } else { Some(f64::midpoint(sorted.get(half.checked_sub(1)?).copied()?, upper)) }
}

/// The smallest sample that at least `percent` of all are not above (nearest rank).
pub(super) fn percentile(samples: &[f64], percent: f64) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (percent / 100.0 * sorted.len() as f64).ceil().max(1.0) as usize;
    sorted.get(rank.min(sorted.len()).checked_sub(1)?).copied()
}

impl Measure {
    /// Nothing measured yet.
    pub(super) fn new(name: &str, unit: &'static str) -> Self {
        Self { name: name.to_owned(), unit, subject: Vec::new(), others: Vec::new(), budgets: Vec::new() }
    }

    /// Adds a sample of the subject.
    pub(super) fn subject(&mut self, sample: f64) -> &mut Self {
        self.subject.push(sample);
        self
    }

    /// Adds a sample of a control or peer.
    pub(super) fn beside(&mut self, name: &'static str, sample: f64) -> &mut Self {
        match self.others.iter_mut().find(|series| series.name == name) {
            Some(series) => series.samples.push(sample),
            None => self.others.push(Series { name, samples: vec![sample] }),
        }
        self
    }

    /// Says that a peer has nothing like it: shown as `-`.
    pub(super) fn without(&mut self, name: &'static str) -> &mut Self {
        if !self.others.iter().any(|series| series.name == name) {
            self.others.push(Series { name, samples: Vec::new() });
        }
        self
    }

    /// Sets a budget; the same one again changes nothing.
    pub(super) fn budget(&mut self, budget: Budget) -> &mut Self {
        if !self.budgets.contains(&budget) {
            self.budgets.push(budget);
        }
        self
    }

    /// Median of the subject.
    pub(super) fn median(&self) -> Option<f64> {
        median(&self.subject)
    }

    /// Median of a control or peer.
    pub(super) fn median_of(&self, name: &str) -> Option<f64> {
        median(&self.others.iter().find(|series| series.name == name)?.samples)
    }

    /// Subject over control or peer, by medians.
    pub(super) fn ratio(&self, name: &str) -> Option<f64> {
        let other = self.median_of(name).filter(|other| *other != 0.0)?;
        Some(self.median()? / other)
    }

    /// Whether a budget is met.
    pub(super) fn judge(&self, budget: Budget) -> Verdict {
        let met = match budget {
            Budget::AtMost(limit) => self.median().map(|median| median <= limit),
            Budget::AtLeast(limit) => self.median().map(|median| median >= limit),
            Budget::Times(limit, name) => self.ratio(name).map(|ratio| ratio <= limit),
        };
        match met {
            Some(true) => Verdict::Met,
            Some(false) => Verdict::NotMet,
            None => Verdict::NotMeasured,
        }
    }

    /// A budget in words.
    pub(super) fn words(&self, budget: Budget) -> String {
        match budget {
            Budget::AtMost(limit) => format!("<= {} {}", short(limit), self.unit),
            Budget::AtLeast(limit) => format!(">= {} {}", short(limit), self.unit),
            Budget::Times(limit, name) => format!("<= {} x {name}", short(limit)),
        }
    }

    /// Everything, for the file.
    pub(super) fn json(&self) -> Value {
        let others: Vec<_> = self
            .others
            .iter()
            .map(|series| {
                json!({
                    "name": series.name,
                    "samples": series.samples,
                    "median": median(&series.samples),
                    "ratio": self.ratio(series.name),
                })
            })
            .collect();
        let budgets: Vec<_> =
            self.budgets.iter().map(|budget| json!({"budget": self.words(*budget), "verdict": self.judge(*budget).text()})).collect();
        json!({
            "measure": self.name,
            "unit": self.unit,
            "subject": {"samples": self.subject, "median": self.median()},
            "others": others,
            "budgets": budgets,
        })
    }
}

/// A number a person can read: three digits that count.
pub(super) fn short(value: f64) -> String {
    let size = value.abs();
    let digits = if size >= 100.0 || value == value.trunc() {
        0
    } else if size >= 10.0 {
        1
    } else if size >= 0.095 {
        2
    } else {
        4
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_percentiles() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(percentile(&hundred, 50.0), Some(50.0));
        assert_eq!(percentile(&hundred, 99.0), Some(99.0));
        assert_eq!(percentile(&[7.0], 99.0), Some(7.0));
        assert_eq!(percentile(&[], 50.0), None);
    }

    #[test]
    fn verdicts() {
        let mut measure = Measure::new("p99", "ms");
        for budget in [Budget::AtMost(50.0), Budget::AtLeast(10.0), Budget::Times(1.5, "bare tokio"), Budget::Times(0.5, "peer")] {
            measure.budget(budget).budget(budget);
        }
        assert!(measure.budgets.iter().all(|budget| measure.judge(*budget) == Verdict::NotMeasured));
        measure.subject(30.0).subject(9.0).subject(20.0).beside("bare tokio", 10.0);
        let verdicts: Vec<_> = measure.budgets.iter().map(|budget| measure.judge(*budget)).collect();
        assert_eq!(verdicts, [Verdict::Met, Verdict::Met, Verdict::NotMet, Verdict::NotMeasured]);
        assert_eq!(measure.words(Budget::Times(1.5, "bare tokio")), "<= 1.50 x bare tokio");
        let json = measure.json();
        assert_eq!((&json["subject"]["median"], &json["others"][0]["ratio"]), (&json!(20.0), &json!(2.0)));
        assert_eq!(json["budgets"][2]["verdict"], "NOT MET");
    }

    #[test]
    fn numbers_for_people() {
        for (value, text) in [(0.0, "0"), (0.0123, "0.0123"), (1.5, "1.50"), (12.34, "12.3"), (123.4, "123"), (50_000.0, "50000")] {
            assert_eq!(short(value), text);
        }
    }
}
