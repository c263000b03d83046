//! What was measured, as a table of medians with their least and most, and the ratios that are the goals.

use std::fmt::Write;

use serde_json::{Value, json};

/// One thing measured of some servers, a round at a time.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) unit: String,
    pub(crate) series: Vec<Series>,
    pub(crate) goals: Vec<Goal>,
    /// What else is to be known.
    pub(crate) note: Option<String>,
}

/// A server's figures, one a round.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) of: String,
    pub(crate) figures: Vec<f64>,
}

/// What a row should show.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    /// The first series is at least so many times that series.
    AtLeast(f64, usize),
    /// The first series is at most so many times that series.
    AtMost(f64, usize),
    /// The first series is at most so much.
    Below(f64),
    /// The first series is at least so much.
    Above(f64),
}

impl Goal {
    /// The series that it compares with.
    pub(crate) fn of(self) -> usize {
        match self {
            Goal::AtLeast(_, of) | Goal::AtMost(_, of) => of,
            Goal::Below(_) | Goal::Above(_) => 0,
        }
    }
}

impl Row {
    pub(crate) fn new(what: impl Into<String>, unit: impl Into<String>, of: &[&str], goals: &[Goal]) -> Self {
        let series = of.iter().map(|of| Series { of: (*of).to_owned(), figures: Vec::new() }).collect();
        Self { what: what.into(), unit: unit.into(), series, goals: goals.to_vec(), note: None }
    }

    /// A ratio for each round: both of its figures were measured right after each other.
    fn ratios(&self, of: usize) -> Vec<f64> {
        let pairs = self.series[0].figures.iter().zip(&self.series[of].figures);
        pairs.map(|(a, b)| a / b).collect()
    }

    /// What a goal is about, a figure a round.
    fn values(&self, goal: Goal) -> Vec<f64> {
        match goal {
            Goal::AtLeast(_, of) | Goal::AtMost(_, of) => self.ratios(of),
            Goal::Below(_) | Goal::Above(_) => self.series[0].figures.clone(),
        }
    }

    fn goal(&self, goal: Goal) -> (String, f64, bool) {
        let value = median(&self.values(goal));
        match goal {
            Goal::AtLeast(least, of) => {
                (format!("≥ {least} of {}", self.series[of].of), value, value >= least)
            }
            Goal::AtMost(most, of) => {
                (format!("≤ {} of {}", figure(most), self.series[of].of), value, value <= most)
            }
            Goal::Below(most) => (format!("≤ {}", figure(most)), value, value <= most),
            Goal::Above(least) => (format!("≥ {}", figure(least)), value, value >= least),
        }
    }

    /// How many goals there are, and how many are met.
    pub(crate) fn met(&self) -> (usize, usize) {
        (self.goals.len(), self.goals.iter().filter(|&&goal| self.goal(goal).2).count())
    }

    /// As lines of text.
    pub(crate) fn text(&self) -> String {
        let mut out = format!("{} ({})\n", self.what, self.unit);
        for series in &self.series {
            let (least, most) = ends(&series.figures);
            let (middle, least, most) = (figure(median(&series.figures)), figure(least), figure(most));
            let _ = writeln!(out, "    {:<24} {middle:>12}   {least} – {most}", series.of);
        }
        for &goal in &self.goals {
            let (least, most) = ends(&self.values(goal));
            let (goal, value, met) = self.goal(goal);
            let _ = writeln!(
                out,
                "    {:<24} {:>12}   {} – {}; goal {goal}",
                if met { "met" } else { "NOT MET" },
                figure(value),
                figure(least),
                figure(most)
            );
        }
        if let Some(note) = &self.note {
            let _ = writeln!(out, "    {note}");
        }
        out
    }

    /// As JSON.
    pub(crate) fn json(&self) -> Value {
        let series = self.series.iter().map(|series| {
            let (least, most) = ends(&series.figures);
            json!({
                "of": series.of, "median": median(&series.figures), "min": least, "max": most,
                "rounds": series.figures,
            })
        });
        let goals = self.goals.iter().map(|&goal| {
            let values = self.values(goal);
            let (goal, value, met) = self.goal(goal);
            json!({ "goal": goal, "value": value, "rounds": values, "met": met })
        });
        json!({
            "what": self.what, "unit": self.unit,
            "note": self.note, "series": series.collect::<Vec<_>>(), "goals": goals.collect::<Vec<_>>(),
        })
    }
}

/// The middle one, or the mean of the two in the middle.
pub(crate) fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => f64::midpoint(sorted[even / 2 - 1], sorted[even / 2]),
    }
}

fn ends(figures: &[f64]) -> (f64, f64) {
    let fold = |with: fn(f64, f64) -> f64| figures.iter().copied().reduce(with).unwrap_or(f64::NAN);
    (fold(f64::min), fold(f64::max))
}

/// A figure with three digits that count, and spaces between thousands.
fn figure(value: f64) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    if value.abs() < 100.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}
