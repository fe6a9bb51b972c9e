//! What is known of each source: its delays, and what the other sources make of it.

use crate::sample_filter::SampleFilter;
use crate::selection::Selection;

/// The delays and the votes of `S` sources; `D` recent delays are remembered of each.
#[derive(Clone, Debug)]
pub struct Sources<const S: usize = 8, const D: usize = 1024> {
    pub(crate) filters: [SampleFilter<D>; S],
    pub(crate) selection: Selection<S>,
    /// Whether there was no majority when last heard.
    pub(crate) undecided: bool,
}

impl<const S: usize, const D: usize> Sources<S, D> {
    /// None has been heard.
    pub const fn new() -> Self {
        Self { filters: [const { SampleFilter::new() }; S], selection: Selection::new(), undecided: false }
    }
}

impl<const S: usize, const D: usize> Default for Sources<S, D> {
    fn default() -> Self {
        Self::new()
    }
}
