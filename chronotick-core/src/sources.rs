//! What is known of each source: its delays, and what the other sources make of it.

use crate::sample::SourceId;
use crate::sample_filter::SampleFilter;
use crate::selection::{Selection, Undecided};

/// The delays and the votes of `S` sources; `D` recent delays are remembered of each.
#[derive(Clone, Debug)]
pub struct Sources<const S: usize = 8, const D: usize = 1024> {
    pub(crate) filters: [SampleFilter<D>; S],
    pub(crate) selection: Selection<S>,
    /// Why there was no majority when last heard, if there was none.
    pub(crate) undecided: Option<Undecided>,
}

impl<const S: usize, const D: usize> Sources<S, D> {
    /// None of `sources` has been heard.
    pub const fn expecting(sources: usize) -> Self {
        let selection = Selection::expecting(sources);
        Self { filters: [const { SampleFilter::new() }; S], selection, undecided: None }
    }

    /// `source` is another one from now on.
    pub(crate) fn forget(&mut self, source: SourceId) {
        if let Some(filter) = self.filters.get_mut(usize::from(source.0)) {
            *filter = SampleFilter::new();
        }
        self.selection.forget(source);
    }
}

impl<const S: usize, const D: usize> Default for Sources<S, D> {
    fn default() -> Self {
        Self::expecting(1)
    }
}
