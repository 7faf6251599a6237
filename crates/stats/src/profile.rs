//! What a table's columns look like: summaries that grow row by row and merge, and the frozen
//! reference that is made of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    cells::{BINS, Binning, Cells},
    moments::Moments,
    sketch::Sample,
};

/// Categories that are counted one by one; what comes later is counted together.
pub const MAX_CATEGORIES: usize = 10_000;

/// A column of numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Numbers {
    /// Rows without a value.
    pub missing: u64,
    /// Rows with −∞ and with +∞: counted below and above all cells, in no mean and no distance.
    pub infinite: (u64, u64),
    /// Of the finite values.
    #[serde(deserialize_with = "lenient_moments")]
    pub moments: Moments,
    /// The finite values.
    pub sample: Sample,
}

/// JSON has no infinity: moments that overflowed were written as null.
fn lenient_moments<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Moments, D::Error> {
    #[derive(Deserialize)]
    struct Raw {
        count: u64,
        mean: Option<f64>,
        squares: Option<f64>,
        min: f64,
        max: f64,
    }
    let raw = Raw::deserialize(deserializer)?;
    let or_infinite = |x: Option<f64>| x.unwrap_or(f64::INFINITY);
    let (mean, squares) = (or_infinite(raw.mean), or_infinite(raw.squares));
    Ok(Moments { count: raw.count, mean, squares, min: raw.min, max: raw.max })
}

impl Numbers {
    /// None yet; `limit` values are kept exactly.
    pub fn new(limit: usize) -> Self {
        Self { missing: 0, infinite: (0, 0), moments: Moments::default(), sample: Sample::new(limit) }
    }

    /// Adds a value; not-a-number is a missing one.
    pub fn add(&mut self, x: f64) {
        if x.is_finite() {
            self.moments.add(x);
            self.sample.add(x);
        } else if x.is_nan() {
            self.missing += 1;
        } else if x < 0.0 {
            self.infinite.0 += 1;
        } else {
            self.infinite.1 += 1;
        }
    }

    /// Adds another partition.
    pub fn merge(&mut self, other: &Self) {
        self.missing += other.missing;
        self.infinite.0 += other.infinite.0;
        self.infinite.1 += other.infinite.1;
        self.moments.merge(&other.moments);
        self.sample.merge(&other.sample);
    }

    /// Rows, missing ones too.
    pub fn rows(&self) -> u64 {
        self.missing + self.infinite.0 + self.infinite.1 + self.moments.count
    }
}

/// A column of categories.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Categories {
    /// Rows without a value.
    pub missing: u64,
    /// Rows of each category.
    pub counts: BTreeMap<String, u64>,
    /// Rows of categories beyond [`MAX_CATEGORIES`].
    pub other: u64,
}

impl Categories {
    /// Adds a value.
    pub fn add(&mut self, value: &str) {
        self.add_many(value, 1);
    }

    fn add_many(&mut self, value: &str, rows: u64) {
        if let Some(count) = self.counts.get_mut(value) {
            *count += rows;
        } else if self.counts.len() < MAX_CATEGORIES {
            self.counts.insert(value.to_owned(), rows);
        } else {
            self.other += rows;
        }
    }

    /// Adds another partition.
    pub fn merge(&mut self, other: &Self) {
        self.missing += other.missing;
        self.other += other.other;
        other.counts.iter().for_each(|(value, rows)| self.add_many(value, *rows));
    }

    /// Rows, missing ones too.
    pub fn rows(&self) -> u64 {
        self.missing + self.other + self.counts.values().sum::<u64>()
    }
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Numbers.
    Number,
    /// Text, as categories.
    Text,
    /// True and false, as categories.
    Boolean,
    /// Instants, s since 1970.
    Time,
}

impl Kind {
    /// A word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Text => "text",
            Self::Boolean => "boolean",
            Self::Time => "time",
        }
    }
}

/// A column's summary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Summary {
    /// Of [`Kind::Number`] and [`Kind::Time`].
    Numbers(Numbers),
    /// Of [`Kind::Text`] and [`Kind::Boolean`].
    Categories(Categories),
}

impl Summary {
    /// Empty, for a kind.
    pub fn new(kind: Kind, limit: usize) -> Self {
        match kind {
            Kind::Number | Kind::Time => Self::Numbers(Numbers::new(limit)),
            Kind::Text | Kind::Boolean => Self::Categories(Categories::default()),
        }
    }

    /// Rows, missing ones too.
    pub fn rows(&self) -> u64 {
        match self {
            Self::Numbers(n) => n.rows(),
            Self::Categories(c) => c.rows(),
        }
    }

    /// Rows without a value.
    pub fn missing(&self) -> u64 {
        match self {
            Self::Numbers(n) => n.missing,
            Self::Categories(c) => c.missing,
        }
    }

    /// Adds another partition of the same column.
    ///
    /// # Errors
    /// One holds numbers and the other categories.
    pub fn merge(&mut self, other: &Self) -> Result<(), String> {
        match (self, other) {
            (Self::Numbers(a), Self::Numbers(b)) => a.merge(b),
            (Self::Categories(a), Self::Categories(b)) => a.merge(b),
            _ => return Err("numbers do not merge with categories".into()),
        }
        Ok(())
    }
}

/// A histogram over cells: underflow, the cells, overflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// The edges.
    pub cells: Cells,
    /// Rows in each.
    pub counts: Vec<u64>,
}

impl Histogram {
    /// No rows yet.
    pub fn new(cells: Cells) -> Self {
        Self { counts: vec![0; cells.count()], cells }
    }

    /// Counts a number; not-a-number belongs nowhere.
    pub fn add(&mut self, x: f64) {
        if !x.is_nan() {
            self.counts[self.cells.index(x)] += 1;
        }
    }

    /// Of numbers, over so many cells of their own.
    pub fn of(numbers: &Numbers, binning: Binning, bins: usize) -> Option<Self> {
        let ordered = numbers.sample.ordered();
        let mut histogram = Self::new(Cells::with_bins(&ordered, binning, bins)?);
        let mut below = 0;
        let last = histogram.cells.lower().len();
        for (i, count) in histogram.counts.iter_mut().enumerate().take(last + 1).skip(1) {
            // Cells hold what lies below the next edge and not below their own.
            let upto = match histogram.cells.lower().get(i) {
                Some(edge) => ordered.weight_below(*edge),
                None => ordered.total(),
            };
            *count = upto - below;
            below = upto;
        }
        histogram.counts[0] = numbers.infinite.0;
        histogram.counts[last + 1] = numbers.infinite.1;
        Some(histogram)
    }

    /// Largest distance of the two distribution functions at the edges: the Kolmogorov-Smirnov
    /// distance but for what happens inside a cell. `None` if either is empty or has other cells.
    pub fn ks(&self, other: &Self) -> Option<f64> {
        let (n, m) = (self.counts.iter().sum::<u64>() as f64, other.counts.iter().sum::<u64>() as f64);
        if n == 0.0 || m == 0.0 || self.cells != other.cells {
            return None;
        }
        let (mut below, mut above) = (0u64, 0u64);
        Some(self.counts.iter().zip(&other.counts).fold(0.0f64, |d, (a, b)| {
            (below, above) = (below + a, above + b);
            d.max((below as f64 / n - above as f64 / m).abs())
        }))
    }

    /// Both over about `cells` cells: neighbours are put together until they hold their share of
    /// this one's rows. Underflow and overflow stay as they are.
    pub fn coarse(&self, other: &Self, cells: usize) -> (Vec<u64>, Vec<u64>) {
        let (mine, others, _) = self.put_together(other, cells);
        (mine, others)
    }

    /// The same as histograms over the cells that were put together.
    pub fn coarse_pair(&self, other: &Self, cells: usize) -> (Self, Self) {
        let (mine, others, edges) = self.put_together(other, cells);
        let cells = self.cells.only(&edges);
        (Self { cells: cells.clone(), counts: mine }, Self { cells, counts: others })
    }

    /// Counts of both, and which of the lower edges are left.
    fn put_together(&self, other: &Self, cells: usize) -> (Vec<u64>, Vec<u64>, Vec<usize>) {
        let rows = self.counts.iter().sum::<u64>();
        let (mut mine, mut others, mut edges) = (Vec::new(), Vec::new(), Vec::new());
        let mut first = 0;
        let (mut a, mut b, mut held) = (0, 0, 0);
        let last = self.counts.len().saturating_sub(1);
        for (i, (x, y)) in self.counts.iter().zip(&other.counts).enumerate() {
            (a, b, held) = (a + x, b + y, held + x);
            let full = held * cells as u64 >= rows * (mine.len() as u64).max(1);
            if i == 0 || i + 1 >= last || full {
                mine.push(a);
                others.push(b);
                (a, b) = (0, 0);
                // Cell i begins at lower edge i − 1; underflow and overflow have none.
                if i > 0 && i < last {
                    edges.push(first - 1);
                }
                first = i + 1;
            }
        }
        (mine, others, edges)
    }
}

/// A column of a frozen reference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    /// Name.
    pub name: String,
    /// What it holds.
    pub kind: Kind,
    /// How it looked.
    pub summary: Summary,
    /// Over the deciles; none without a finite number.
    pub deciles: Option<Histogram>,
    /// Over cells of one width; none without a finite number.
    pub equal_width: Option<Histogram>,
}

impl Reference {
    /// Freezes a summary.
    pub fn freeze(name: &str, kind: Kind, summary: Summary) -> Self {
        let histogram = |binning| match (&summary, kind) {
            (Summary::Numbers(numbers), Kind::Number) => Histogram::of(numbers, binning, BINS),
            _ => None,
        };
        Self {
            name: name.to_owned(),
            kind,
            deciles: histogram(Binning::Deciles),
            equal_width: histogram(Binning::EqualWidth),
            summary,
        }
    }

    /// The histogram that a binning asks for.
    pub fn histogram(&self, binning: Binning) -> Option<&Histogram> {
        match binning {
            Binning::Deciles => self.deciles.as_ref(),
            Binning::EqualWidth => self.equal_width.as_ref(),
        }
    }

    /// For a file: at most so many values are kept one by one, the histograms stay as they are.
    pub fn limited(mut self, limit: usize) -> Self {
        if let Summary::Numbers(numbers) = &mut self.summary {
            numbers.sample = numbers.sample.clone().limited(limit);
        }
        self
    }

    /// Checks what was read from outside.
    ///
    /// # Errors
    /// What does not fit together, with the column's name.
    pub fn check(&self) -> Result<(), String> {
        let fault = |reason: &str| format!("column {:?}: {reason}", self.name);
        match (&self.summary, self.kind) {
            (Summary::Numbers(numbers), Kind::Number | Kind::Time) => {
                numbers.sample.check().map_err(|e| fault(&e))?;
                if numbers.sample.count() != numbers.moments.count {
                    return Err(fault("as many values as moments are needed"));
                }
            }
            (Summary::Categories(_), Kind::Text | Kind::Boolean) => {}
            _ => return Err(fault("its summary is not of its kind")),
        }
        for histogram in [&self.deciles, &self.equal_width].into_iter().flatten() {
            histogram.cells.check().map_err(|e| fault(&e))?;
            if histogram.counts.len() != histogram.cells.count() {
                return Err(fault("as many counts as cells are needed"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(values: impl Iterator<Item = f64>) -> Summary {
        let mut n = Numbers::new(1_000);
        values.for_each(|x| n.add(x));
        Summary::Numbers(n)
    }

    #[test]
    fn a_frozen_histogram_counts_what_adding_would() {
        let values = || (0..997).map(|i| f64::from(i * i % 211)).chain([f64::NAN, f64::INFINITY, f64::NEG_INFINITY]);
        let frozen = Reference::freeze("x", Kind::Number, numbers(values()));
        for binning in [Binning::Deciles, Binning::EqualWidth] {
            let histogram = frozen.histogram(binning).unwrap();
            let mut counted = Histogram::new(histogram.cells.clone());
            values().for_each(|x| counted.add(x));
            assert_eq!(&counted, histogram);
            assert_eq!(histogram.counts.iter().sum::<u64>(), 999);
        }
        assert_eq!((frozen.summary.rows(), frozen.summary.missing()), (1_000, 1));
        frozen.check().unwrap();
    }

    #[test]
    fn a_fine_histogram_stands_in_for_its_sample() {
        let (mut a, mut b) = (Numbers::new(9_999), Numbers::new(9_999));
        (0..4_000).for_each(|i| a.add(f64::from(i * 7 % 1_009)));
        (0..1_500).for_each(|i| b.add(f64::from(i * 11 % 1_009) + 60.0));
        let fine = Histogram::of(&a, Binning::Deciles, 200).unwrap();
        let mut now = Histogram::new(fine.cells.clone());
        (0..1_500).for_each(|i| now.add(f64::from(i * 11 % 1_009) + 60.0));
        let (binned, exact) = (fine.ks(&now).unwrap(), a.sample.ordered().ks(&b.sample.ordered()).unwrap());
        assert!(binned <= exact + 1e-12 && exact - binned < 0.006, "{binned} {exact}");
        let (x, y) = fine.coarse(&now, 10);
        assert_eq!((x.iter().sum::<u64>(), y.iter().sum::<u64>()), (4_000, 1_500));
        assert_eq!((x.len(), x[0], y[y.len() - 1]), (12, 0, now.counts[201]));
        let (p, q) = fine.coarse_pair(&now, 10);
        assert_eq!((&p.counts, &q.counts, p.cells.count()), (&x, &y, 12));
        // Counting anew over the cells that are left gives the same.
        let mut again = Histogram::new(p.cells.clone());
        (0..4_000).for_each(|i| again.add(f64::from(i * 7 % 1_009)));
        assert_eq!(again, p);
        assert!(x[1..11].iter().all(|c| (380..=420).contains(c)), "{x:?}");
        assert_eq!(fine.ks(&Histogram::new(Cells::of(&a.sample.ordered(), Binning::EqualWidth).unwrap())), None);
    }

    #[test]
    fn a_document_comes_back_as_it_was() {
        let mut text = Categories::default();
        ["a", "b", "a"].iter().for_each(|v| text.add(v));
        for reference in [
            Reference::freeze("x", Kind::Number, numbers((0..500).map(f64::from))),
            Reference::freeze("x", Kind::Number, numbers((0..5_000).map(f64::from))),
            Reference::freeze("t", Kind::Text, Summary::Categories(text)),
            Reference::freeze("e", Kind::Number, numbers(std::iter::empty())),
        ] {
            let json = serde_json::to_string(&reference).unwrap();
            let mut back: Reference = serde_json::from_str(&json).unwrap();
            back.check().unwrap();
            // JSON's numbers may come back a last digit off.
            if let (Summary::Numbers(a), Summary::Numbers(b)) = (&reference.summary, &mut back.summary) {
                assert!((a.moments.squares - b.moments.squares).abs() <= 1e-12 * a.moments.squares);
                b.moments.squares = a.moments.squares;
                b.moments.mean = a.moments.mean;
            }
            assert_eq!(back, reference);
            reference.check().unwrap();
        }
        let huge = Reference::freeze("h", Kind::Number, numbers([1e308, -1e308, 1e308].into_iter()));
        let back: Reference = serde_json::from_str(&serde_json::to_string(&huge).unwrap()).unwrap();
        let Summary::Numbers(n) = back.summary else { panic!("numbers") };
        assert_eq!(n.moments.deviation(), None);
    }

    #[test]
    fn partitions_merge_and_kinds_do_not() {
        let mut a = numbers((0..10).map(f64::from));
        a.merge(&numbers((10..30).map(f64::from))).unwrap();
        let Summary::Numbers(n) = &a else { panic!("numbers") };
        assert_eq!((n.moments.count, n.sample.count(), n.moments.max), (30, 30, 29.0));
        assert!(a.merge(&Summary::new(Kind::Text, 9)).is_err());
        let mut c = Categories::default();
        (0..MAX_CATEGORIES + 5).for_each(|i| c.add(&i.to_string()));
        assert_eq!((c.counts.len(), c.other, c.rows()), (MAX_CATEGORIES, 5, MAX_CATEGORIES as u64 + 5));
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let good = Reference::freeze("x", Kind::Number, numbers((0..50).map(f64::from)));
        let mut bad = good.clone();
        bad.kind = Kind::Text;
        assert!(bad.check().unwrap_err().contains("\"x\""));
        let mut bad = good.clone();
        bad.deciles.as_mut().unwrap().counts.pop();
        assert!(bad.check().is_err());
    }
}
