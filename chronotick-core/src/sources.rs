//! What is known of each source: its delays, and what the other sources make of it.

use crate::disagreement::Disagreement;
use crate::sample::{Sample, SourceId};
use crate::sample_filter::{SampleFilter, Trust};
use crate::selection::{Selection, Undecided};
use crate::units::Variance;

/// The delays and the votes of `S` sources; `D` recent delays are remembered of each.
#[derive(Clone, Debug)]
pub struct Sources<const S: usize = 8, const D: usize = 1024> {
    pub(crate) filters: [SampleFilter<D>; S],
    pub(crate) selection: Selection<S>,
    /// How far their paths may put the estimate off.
    pub(crate) disagreement: Disagreement<S>,
    /// Why there was no majority when last heard, if there was none.
    pub(crate) undecided: Option<Undecided>,
}

impl<const S: usize, const D: usize> Sources<S, D> {
    /// None of `sources` has been heard.
    pub const fn expecting(sources: usize) -> Self {
        let selection = Selection::expecting(sources);
        Self {
            filters: [const { SampleFilter::new() }; S],
            selection,
            disagreement: Disagreement::NONE,
            undecided: None,
        }
    }

    /// The exchange of `sample`, for which `trust` was given, was `innovation` s from an expectation of variance `expected`, `elapsed` s
    /// after the one before.
    #[allow(
        clippy::cast_possible_truncation,
        reason = "single precision is enough for means of what is only estimated"
    )]
    #[inline]
    pub(crate) fn learn(&mut self, sample: &Sample, trust: &Trust, innovation: f64, expected: Variance, elapsed: f64) {
        let source = usize::from(sample.source.0);
        self.filters[source].learn(trust, innovation, expected);
        if S > 1 {
            let variance = (trust.variance().value() + expected.value()) as f32;
            let delay = sample.delay.as_secs_f64() as f32;
            self.disagreement.learn(source, innovation as f32, variance, delay, elapsed as f32);
        }
    }

    /// The clock was found anew: what was said of its errors is void.
    pub(crate) fn begin_anew(&mut self) {
        self.filters.iter_mut().for_each(SampleFilter::begin_anew);
        if S > 1 {
            self.disagreement = Disagreement::NONE;
        }
    }

    /// `source` is another one from now on.
    pub(crate) fn forget(&mut self, source: SourceId) {
        if let Some(filter) = self.filters.get_mut(usize::from(source.0)) {
            *filter = SampleFilter::new();
        }
        self.selection.forget(source);
        self.disagreement.forget(usize::from(source.0));
    }
}

impl<const S: usize, const D: usize> Default for Sources<S, D> {
    fn default() -> Self {
        Self::expecting(1)
    }
}
