//! Tables of measurements: native, ours, ratio, budget.

use std::fmt;

/// Some measurements of one thing, in seconds.
#[derive(Clone, Debug, Default)]
pub struct Times(Vec<f64>);

impl Times {
    /// Note one.
    pub fn add(&mut self, seconds: f64) {
        self.0.push(seconds);
    }

    /// The least.
    pub fn least(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// The one in the middle.
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

/// A duration as a person reads it.
pub fn duration(seconds: f64) -> String {
    match seconds {
        s if s.is_nan() => "-".into(),
        s if s < 1e-6 => format!("{:.1} ns", s * 1e9),
        s if s < 1e-3 => format!("{:.2} us", s * 1e6),
        s if s < 1.0 => format!("{:.2} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}

/// One table.
pub struct Table {
    title: String,
    rows: Vec<[String; 6]>,
}

impl Table {
    /// An empty one.
    pub fn new(title: &str) -> Table {
        let head = ["", "native", "ours (least)", "ours (median)", "ratio", "budget"].map(str::to_string);
        Table { title: title.into(), rows: vec![head] }
    }

    /// What it costs natively and with us; the ratio is that of the least of each.
    pub fn compare(&mut self, what: &str, native: &Times, ours: &Times, budget: &str) {
        let ratio = format!("{:.2}x", ours.least() / native.least());
        self.rows.push([
            what.into(),
            duration(native.least()),
            duration(ours.least()),
            duration(ours.median()),
            ratio,
            budget.into(),
        ]);
    }

    /// Something that has no native counterpart.
    pub fn alone(&mut self, what: &str, ours: &Times, budget: &str) {
        let (least, median) = (duration(ours.least()), duration(ours.median()));
        self.rows.push([what.into(), "-".into(), least, median, "-".into(), budget.into()]);
    }

    /// A number that is not a time.
    pub fn value(&mut self, what: &str, value: String, budget: &str) {
        self.rows.push([what.into(), "-".into(), value, "".into(), "-".into(), budget.into()]);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title)?;
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..6).map(width).collect();
        for row in &self.rows {
            write!(f, "  {:<w$}", row[0], w = widths[0])?;
            for column in 1..5 {
                write!(f, "  {:>w$}", row[column], w = widths[column])?;
            }
            writeln!(f, "   {}", row[5])?;
        }
        Ok(())
    }
}
