//! Histograms that remember, for each bucket, the trace of a recent observation.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use prometheus::{Histogram, HistogramVec};

/// A bucket's exemplar is replaced at most this often: a busy bucket needs no newer one.
const MIN_AGE: Duration = Duration::from_secs(1);

/// One observation and the trace that it belongs to.
#[derive(Clone, Debug)]
pub(super) struct Exemplar {
    pub trace_id: String,
    pub value: f64,
    pub at: SystemTime,
}

struct Series {
    histogram: Histogram,
    /// One more than there are bounds: the last is `+Inf`.
    exemplars: Vec<Mutex<Option<Exemplar>>>,
}

/// See [`super::Registry::exemplar_histogram_vec`]. Clones share the same series.
#[derive(Clone)]
pub struct ExemplarHistogramVec {
    inner: HistogramVec,
    bounds: Arc<[f64]>,
    /// Keyed by a hash of the label values, as the `prometheus` crate keys its own.
    series: Arc<RwLock<HashMap<u64, Arc<Series>>>>,
}

fn key<'a>(values: impl Iterator<Item = &'a str>) -> u64 {
    let mut hasher = DefaultHasher::new();
    values.for_each(|value| value.hash(&mut hasher));
    hasher.finish()
}

impl ExemplarHistogramVec {
    /// Observes `value` and, where the current trace is kept, remembers its id.
    pub fn observe(&self, labels: &[&str], value: f64) {
        let series = self.series(labels);
        series.histogram.observe(value);
        let bucket = self.bounds.partition_point(|bound| value > *bound);
        // Contended means that somebody else is just leaving an exemplar here.
        let Ok(mut slot) = series.exemplars[bucket].try_lock() else { return };
        let now = SystemTime::now();
        let stale = slot.as_ref().is_none_or(|e| now.duration_since(e.at).is_ok_and(|age| age >= MIN_AGE));
        if stale && let Some(trace_id) = crate::trace::sampled_trace_id() {
            *slot = Some(Exemplar { trace_id, value, at: now });
        }
    }

    fn series(&self, labels: &[&str]) -> Arc<Series> {
        let key = key(labels.iter().copied());
        if let Some(series) = self.series.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return series.clone();
        }
        let mut all = self.series.write().unwrap_or_else(PoisonError::into_inner);
        all.entry(key)
            .or_insert_with(|| {
                Arc::new(Series {
                    histogram: self.inner.with_label_values(labels),
                    exemplars: (0..=self.bounds.len()).map(|_| Mutex::default()).collect(),
                })
            })
            .clone()
    }
}

/// The exemplars of all histograms of a registry, by metric name.
#[derive(Default)]
pub(super) struct Store {
    histograms: RwLock<HashMap<String, ExemplarHistogramVec>>,
}

impl Store {
    pub fn histogram(&self, name: &str, inner: HistogramVec, bounds: &[f64]) -> ExemplarHistogramVec {
        let histogram = ExemplarHistogramVec { inner, bounds: bounds.into(), series: Arc::default() };
        self.histograms.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), histogram.clone());
        histogram
    }

    /// The exemplar of bucket number `bucket` of the series with these label values in declared order.
    ///
    /// `gather` sorts labels by name, so the values are matched by trying the declared order.
    pub fn get(&self, name: &str, labels: &[(&str, &str)], bucket: usize) -> Option<Exemplar> {
        let histograms = self.histograms.read().unwrap_or_else(PoisonError::into_inner);
        let histogram = histograms.get(name)?;
        let declared = prometheus::core::Collector::desc(&histogram.inner);
        let order = &declared.first()?.variable_labels;
        let value = |wanted: &String| labels.iter().find(|(name, _)| name == wanted).map_or("", |(_, value)| value);
        let key = key(order.iter().map(value));
        let series = histogram.series.read().unwrap_or_else(PoisonError::into_inner).get(&key)?.clone();
        let slot = series.exemplars.get(bucket)?.lock().unwrap_or_else(PoisonError::into_inner);
        slot.clone()
    }
}
