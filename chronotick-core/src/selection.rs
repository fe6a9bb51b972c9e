//! Whom to believe: the interval that a majority of the sources agrees on.
//!
//! **Model.** Every source confines the offset to an interval, its latest exchange's, aged by what the oscillator can have drifted
//! since. An honest source's interval contains the truth; up to fewer than half of the sources may lie, in any way. Then every
//! point that contains the truth is covered by a majority, so the hull of all points that a majority covers contains it too
//! (Marzullo and Owicki 1983; RFC 5905 section 11.2.1 looks for the largest agreeing set instead, which a liar that overlaps the
//! honest ones in part can pull off the truth).
//!
//! **Verdicts.** A source whose interval misses the hull is a falseticker. Where no point has a majority nobody is believed: an
//! update would be a guess.
//!
//! **Weaknesses.** Two sources that disagree outvote each other. A majority that lies alike wins.

use serde::{Deserialize, Serialize};

use crate::sample::SourceId;
use crate::units::{Local, Offset, Rate, Span, Timestamp};

/// A source that has been silent for this long has no vote.
const SILENT: Span = Span::from_secs(4 * 3600);

/// The latest interval of each of `S` sources.
#[derive(Clone, Debug)]
pub struct Selection<const S: usize> {
    votes: [Option<Vote>; S],
}

#[derive(Clone, Copy, Debug)]
struct Vote {
    at: Timestamp<Local>,
    low: Offset,
    high: Offset,
    verdict: Verdict,
}

/// What the others make of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Agrees with the majority.
    Selected,
    /// Its interval misses what the majority agrees on.
    Falseticker,
    /// There is no majority.
    Undecided,
}

impl Verdict {
    /// The lower-case word shown to people and in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Selected => "selected",
            Self::Falseticker => "falseticker",
            Self::Undecided => "undecided",
        }
    }
}

impl<const S: usize> Default for Selection<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const S: usize> Selection<S> {
    /// Nobody has voted.
    pub const fn new() -> Self {
        Self { votes: [None; S] }
    }

    /// Takes in the interval of `source` at `at` and judges all. `rates` are the lowest and highest rate the oscillator can have.
    /// Returns the hull of what a majority covers, or `None` when there is no majority.
    pub fn vote(
        &mut self,
        source: SourceId,
        at: Timestamp<Local>,
        interval: (Offset, Offset),
        rates: (Rate, Rate),
    ) -> Option<(Offset, Offset)> {
        let (low, high) = interval;
        if let Some(slot) = self.votes.get_mut(usize::from(source.0)) {
            *slot = Some(Vote { at, low, high, verdict: Verdict::Undecided });
        }
        let hull = self.majority(at, rates);
        for vote in self.votes.iter_mut().flatten() {
            let (low, high) = vote.aged(at, rates);
            vote.verdict = match hull {
                None => Verdict::Undecided,
                Some(hull) if low <= hull.1 && hull.0 <= high => Verdict::Selected,
                Some(_) => Verdict::Falseticker,
            };
        }
        hull
    }

    /// The latest verdict on `source`; `None` if it has never been heard.
    pub fn verdict(&self, source: SourceId) -> Option<Verdict> {
        self.votes.get(usize::from(source.0)).copied().flatten().map(|vote| vote.verdict)
    }

    /// Forgets all votes, after a break in the counter itself.
    pub fn reset(&mut self) {
        self.votes = [None; S];
    }

    /// The hull of all points covered by more than half of the voters.
    fn majority(&self, at: Timestamp<Local>, rates: (Rate, Rate)) -> Option<(Offset, Offset)> {
        let voters = || self.votes.iter().flatten().filter(|vote| at.since(vote.at) <= SILENT);
        let needed = voters().count() / 2 + 1;
        let covered = |point: Offset| {
            voters().map(|vote| vote.aged(at, rates)).filter(|&(low, high)| low <= point && point <= high).count()
        };
        // Coverage rises only at a lower end and falls only after an upper end.
        let low = voters().map(|vote| vote.aged(at, rates).0).filter(|&low| covered(low) >= needed).min()?;
        let high = voters().map(|vote| vote.aged(at, rates).1).filter(|&high| covered(high) >= needed).max()?;
        Some((low, high))
    }
}

impl Vote {
    fn aged(&self, at: Timestamp<Local>, rates: (Rate, Rate)) -> (Offset, Offset) {
        let age = at.since(self.at);
        let age = if age > Span::ZERO { age } else { Span::ZERO };
        (self.low.saturating_add(rates.0.over(age)), self.high.saturating_add(rates.1.over(age)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STILL: (Rate, Rate) = (Rate::ZERO, Rate::ZERO);

    fn vote<const S: usize>(selection: &mut Selection<S>, source: u8, low: i64, high: i64) -> Option<(i64, i64)> {
        let interval = (Offset::from_nanos(low), Offset::from_nanos(high));
        let hull = selection.vote(SourceId(source), Timestamp::from_nanos(0), interval, STILL);
        hull.map(|(low, high)| (low.as_nanos(), high.as_nanos()))
    }

    #[test]
    fn one_source_is_its_own_majority() {
        assert_eq!(vote(&mut Selection::<4>::new(), 2, -5, 7), Some((-5, 7)));
    }

    #[test]
    fn two_that_disagree_leave_nobody_selected() {
        let mut selection = Selection::<4>::new();
        vote(&mut selection, 0, 0, 10);
        assert_eq!(vote(&mut selection, 1, 20, 30), None);
        assert_eq!(selection.verdict(SourceId(0)), Some(Verdict::Undecided));
    }

    #[test]
    fn a_liar_with_a_tiny_claim_is_named() {
        let mut selection = Selection::<4>::new();
        vote(&mut selection, 0, -1_000, 1_000);
        vote(&mut selection, 1, -900, 1_100);
        assert_eq!(vote(&mut selection, 2, 500_000_000, 500_000_001), Some((-900, 1_000)));
        assert_eq!(selection.verdict(SourceId(2)), Some(Verdict::Falseticker));
        assert_eq!(selection.verdict(SourceId(0)), Some(Verdict::Selected));
    }

    proptest! {
        #[test]
        fn a_minority_of_liars_never_hides_the_truth(
            honest in prop::collection::vec((0i64..1_000_000, 0i64..1_000_000), 1..=8),
            liars in prop::collection::vec((-5_000_000i64..5_000_000, 0i64..2_000_000), 0..=7),
            truth in -1_000_000_000i64..1_000_000_000,
        ) {
            let mut selection = Selection::<16>::new();
            let mut hull = None;
            let lying = liars.len().min(honest.len() - 1);
            for (i, &(below, above)) in honest.iter().enumerate() {
                hull = vote(&mut selection, u8::try_from(i).unwrap(), truth - below, truth + above);
            }
            for (i, &(away, width)) in liars.iter().take(lying).enumerate() {
                let source = u8::try_from(honest.len() + i).unwrap();
                hull = vote(&mut selection, source, truth + away, truth + away + width);
            }
            let (low, high) = hull.expect("the honest are a majority");
            prop_assert!(low <= truth && truth <= high, "{low} {truth} {high}");
        }
    }
}
