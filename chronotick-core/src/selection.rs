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
//! **The first to speak.** Alone, a source is its own majority, and of three a liar may be heard first. So where three or more are
//! expected nobody is believed until all have been heard, or a majority of them and [`MOST_WAIT`] has passed, or [`ANY_WAIT`] has.
//! Only then can an absent honest source be missed, and [`Selection::is_short`] says so. Of those who are heard later each makes all decide
//! anew, as long as the clock is [`YOUNG`]: [`Selection::electorate`]. When all have been silent for so long that no vote is left, it is as at
//! the start again, only that the wait may be longer ([`BACK_WAIT`]): there is an estimate to go on with.
//!
//! **The last to speak.** When others fall silent, one that lies may be left over. Where fewer than a majority of the expected sources are
//! heard, those that a majority has found false have no vote, until a majority agrees with them.
//!
//! **Sources that contradict themselves.** What the oscillator can have drifted is an assumption. Where it is broken, the intervals of honest
//! sources that are heard at different instants miss each other, and each misses its own earlier one: if more than half do, it is not the
//! sources that are wrong, and [`Selection::most_contradict_themselves`] says so.
//!
//! **Weaknesses.** Two sources that disagree outvote each other. A majority that lies alike wins.

use serde::{Deserialize, Serialize};

use crate::sample::SourceId;
use crate::units::{Local, Offset, Rate, Span, Timestamp};

/// A source that has been silent for this long has no vote.
const SILENT: Span = Span::from_secs(4 * 3600);
/// After the first source has been heard, a majority of the expected ones may decide without the rest when this has passed.
pub const MOST_WAIT: Span = Span::from_secs(2);
/// After the first source has been heard, whoever has been heard decides when this has passed.
pub const ANY_WAIT: Span = Span::from_secs(5);
/// The same after all had been silent. A server that does not answer is asked about once a minute, so that two minutes give each two chances.
pub const BACK_WAIT: Span = Span::from_secs(150);

/// For so long after the first source has been heard another one makes all decide anew. Later the others' votes are old, and the bound would
/// be hundreds of times as wide for an hour.
pub const YOUNG: Span = Span::from_secs(1800);

/// The latest interval of each of `S` sources.
#[derive(Clone, Debug)]
pub struct Selection<const S: usize> {
    votes: [Option<Vote>; S],
    /// How many sources there are to hear.
    expected: usize,
    /// When the first was heard, since the start or since all had been silent.
    first: Option<Timestamp<Local>>,
    /// How long to wait for the others, at most, and whether that is over.
    wait: Span,
    opened: bool,
    /// Whether fewer than a majority of the expected sources had been heard at the last vote.
    short: bool,
    /// The most sources that had been heard when a majority decided, within [`YOUNG`] of the first.
    electorate: usize,
}

/// Why a vote had no outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undecided {
    /// The others have not been heard yet.
    Waiting,
    /// No point is covered by a majority.
    NoMajority,
}

#[derive(Clone, Copy, Debug)]
struct Vote {
    at: Timestamp<Local>,
    low: Offset,
    high: Offset,
    verdict: Verdict,
    /// It misses what the same source said before.
    contradicts: bool,
    /// The latest majority of the expected sources that judged this source found it false.
    refuted: bool,
}

/// What the others make of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Agrees with the majority.
    Selected,
    /// Its interval misses what the majority agrees on.
    Falseticker,
    /// There is no majority, or it is too early to say.
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
    /// Nobody has voted, and whoever does is heard at once.
    pub const fn new() -> Self {
        Self::expecting(1)
    }

    /// Nobody of `expected` sources has voted.
    pub const fn expecting(expected: usize) -> Self {
        Self { votes: [None; S], expected, first: None, wait: ANY_WAIT, opened: false, short: false, electorate: 0 }
    }

    /// Takes in the interval of `source` at `at` and judges all. `rates` are the lowest and highest rate the oscillator can have.
    /// Returns the hull of what a majority covers.
    ///
    /// # Errors
    /// When there is no majority, or none can be known yet.
    pub fn vote(
        &mut self,
        source: SourceId,
        at: Timestamp<Local>,
        interval: (Offset, Offset),
        rates: (Rate, Rate),
    ) -> Result<(Offset, Offset), Undecided> {
        let (low, high) = interval;
        if S > 2 && self.opened && self.heard(at) == 0 {
            (self.first, self.wait, self.opened, self.electorate) = (None, BACK_WAIT, false, 0);
        }
        if let Some(slot) = self.votes.get_mut(usize::from(source.0)) {
            // A source alone is its own majority, whatever it said before.
            let contradicts = S > 1
                && slot.is_some_and(|before| {
                    let (lowest, highest) = before.aged(at, rates);
                    high < lowest || highest < low
                });
            let refuted = slot.is_some_and(|before| before.refuted);
            *slot = Some(Vote { at, low, high, verdict: Verdict::Undecided, contradicts, refuted });
        }
        self.judge(at, rates)
    }

    /// Whether more than half of the sources have contradicted what they said before.
    pub fn most_contradict_themselves(&self, at: Timestamp<Local>) -> bool {
        2 * self.voters(at).filter(|vote| vote.contradicts).count() > self.voters(at).count()
    }

    /// Judges all once more by other `rates`, by which nobody has contradicted itself yet: see [`Selection::vote`].
    ///
    /// # Errors
    /// The same.
    pub fn reconsider(&mut self, at: Timestamp<Local>, rates: (Rate, Rate)) -> Result<(Offset, Offset), Undecided> {
        self.votes.iter_mut().flatten().for_each(|vote| vote.contradicts = false);
        self.judge(at, rates)
    }

    fn judge(&mut self, at: Timestamp<Local>, rates: (Rate, Rate)) -> Result<(Offset, Offset), Undecided> {
        let hull = if self.is_open(at) { self.majority(at, rates) } else { None };
        if hull.is_some() && self.first.is_some_and(|first| at.since(first) <= YOUNG) {
            self.electorate = self.electorate.max(self.voters(at).count());
        }
        for vote in self.votes.iter_mut().flatten() {
            let (low, high) = vote.aged(at, rates);
            vote.verdict = match hull {
                Some(hull) if vote.counts(at) => {
                    let agrees = low <= hull.1 && hull.0 <= high;
                    if !self.short {
                        vote.refuted = !agrees;
                    }
                    if agrees { Verdict::Selected } else { Verdict::Falseticker }
                }
                _ => Verdict::Undecided,
            };
        }
        hull.ok_or(if self.opened { Undecided::NoMajority } else { Undecided::Waiting })
    }

    /// There are this many sources to hear from now on.
    pub const fn expect(&mut self, sources: usize) {
        self.expected = sources;
    }

    /// Whether more than one source is to be heard.
    pub const fn expects_several(&self) -> bool {
        self.expected > 1
    }

    /// Whether those who decided last are fewer than a majority of the expected sources.
    pub const fn is_short(&self) -> bool {
        self.short
    }

    /// Of how many sources a majority has decided, at most, within [`YOUNG`] of the first that was heard. When one more is heard, what fewer have decided is decided
    /// anew: it may be the word of a liar and of another source that is too vague to contradict it.
    pub const fn electorate(&self) -> usize {
        self.electorate
    }

    /// The latest verdict on `source`; `None` if it has never been heard.
    pub fn verdict(&self, source: SourceId) -> Option<Verdict> {
        self.votes.get(usize::from(source.0)).copied().flatten().map(|vote| vote.verdict)
    }

    /// Forgets all votes, after a break in the counter itself.
    pub fn reset(&mut self) {
        *self = Self::expecting(self.expected);
    }

    /// Whether enough has been heard at `at` to decide.
    fn is_open(&mut self, at: Timestamp<Local>) -> bool {
        let first = *self.first.get_or_insert(at);
        let heard = self.heard(at);
        let most = heard > self.expected / 2;
        let waited = at.since(first);
        let all = heard >= self.expected;
        self.opened |= self.expected < 3 || all || most && waited >= MOST_WAIT || waited >= self.wait;
        self.short = self.opened && self.expected >= 3 && !most;
        self.opened
    }

    /// How many sources have been heard of late.
    fn heard(&self, at: Timestamp<Local>) -> usize {
        self.votes.iter().flatten().filter(|vote| vote.counts(at)).count()
    }

    /// The votes that count.
    fn voters(&self, at: Timestamp<Local>) -> impl Iterator<Item = &Vote> {
        self.votes.iter().flatten().filter(move |vote| vote.counts(at) && !(self.short && vote.refuted))
    }

    /// Forgets the vote of `source`.
    pub fn forget(&mut self, source: SourceId) {
        if let Some(slot) = self.votes.get_mut(usize::from(source.0)) {
            *slot = None;
        }
    }

    /// The hull of all points covered by more than half of the voters.
    fn majority(&self, at: Timestamp<Local>, rates: (Rate, Rate)) -> Option<(Offset, Offset)> {
        let needed = self.voters(at).count() / 2 + 1;
        let covered = |point: Offset| {
            self.voters(at)
                .map(|vote| vote.aged(at, rates))
                .filter(|&(low, high)| low <= point && point <= high)
                .count()
        };
        // Coverage rises only at a lower end and falls only after an upper end.
        let low = self.voters(at).map(|vote| vote.aged(at, rates).0).filter(|&low| covered(low) >= needed).min()?;
        let high = self.voters(at).map(|vote| vote.aged(at, rates).1).filter(|&high| covered(high) >= needed).max()?;
        Some((low, high))
    }
}

impl Vote {
    /// Whether it is not too old.
    fn counts(&self, at: Timestamp<Local>) -> bool {
        at.since(self.at) <= SILENT
    }

    /// Moved to `at`, which a slow exchange may put before it.
    fn aged(&self, at: Timestamp<Local>, rates: (Rate, Rate)) -> (Offset, Offset) {
        let age = at.since(self.at);
        let rates = if age < Span::ZERO { (rates.1, rates.0) } else { rates };
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
        hull.ok().map(|(low, high)| (low.as_nanos(), high.as_nanos()))
    }

    fn vote_at(selection: &mut Selection<4>, source: u8, second: i64, low: i64) -> Result<(Offset, Offset), Undecided> {
        let interval = (Offset::from_nanos(low), Offset::from_nanos(low + 10));
        selection.vote(SourceId(source), Timestamp::from_nanos(second * 1_000_000_000), interval, STILL)
    }

    #[test]
    fn a_liar_that_speaks_first_is_not_believed() {
        let mut selection = Selection::<4>::expecting(3);
        assert_eq!(vote_at(&mut selection, 2, 0, 500_000_000), Err(Undecided::Waiting));
        assert_eq!(selection.verdict(SourceId(2)), Some(Verdict::Undecided));
        assert_eq!(vote_at(&mut selection, 0, 0, 0), Err(Undecided::Waiting));
        assert!(vote_at(&mut selection, 1, 0, 5).is_ok());
        assert_eq!(selection.verdict(SourceId(2)), Some(Verdict::Falseticker));
        assert!(!selection.is_short());
    }

    const SILENCE: i64 = SILENT.as_nanos() / 1_000_000_000;

    #[test]
    fn after_a_long_silence_of_all_the_first_to_speak_is_not_believed_at_once() {
        let mut selection = Selection::<4>::expecting(3);
        for source in 0..3 {
            let _ = vote_at(&mut selection, source, 0, 0);
        }
        let back = SILENCE + 600;
        for second in [0, 60, 120] {
            assert_eq!(vote_at(&mut selection, 2, back + second, 500_000_000), Err(Undecided::Waiting));
        }
        assert_eq!(vote_at(&mut selection, 0, back + 122, 0), Err(Undecided::NoMajority), "one word against another");
        assert!(vote_at(&mut selection, 1, back + 123, 0).is_ok());
        assert_eq!(selection.verdict(SourceId(2)), Some(Verdict::Falseticker));
        assert_eq!(selection.electorate(), 3, "decided anew by all");
        // And where nobody else comes back, one is believed after the wait.
        let back = 2 * back;
        assert_eq!(vote_at(&mut selection, 0, back, 0), Err(Undecided::Waiting));
        assert!(vote_at(&mut selection, 0, back + 150, 0).is_ok());
        assert!(selection.is_short());
    }

    #[test]
    fn one_that_a_majority_has_found_false_decides_nothing_when_it_is_left_over() {
        let mut selection = Selection::<4>::expecting(3);
        let mut say = |source, second, low| vote_at(&mut selection, source, second, low);
        let _ = (say(0, 0, 0), say(1, 0, 0), say(2, 0, 500_000_000));
        for second in (60..2 * SILENCE).step_by(60) {
            let heard = say(2, second, 500_000_000);
            // The aged votes of the others outvote it, and then nobody is left who could decide.
            assert!(heard.is_ok() == (second <= SILENCE), "{second}: {heard:?}");
        }
        assert_eq!(selection.verdict(SourceId(2)), Some(Verdict::Undecided));
        assert_eq!(selection.verdict(SourceId(0)), Some(Verdict::Undecided), "silent for hours");
        // One honest source is enough then, and a majority that agrees with it makes it one of them again.
        assert!(vote_at(&mut selection, 0, 2 * SILENCE + 1, 0).is_err(), "one word against another");
        assert!(vote_at(&mut selection, 2, 2 * SILENCE + 2, 0).is_ok());
        assert_eq!(selection.verdict(SourceId(2)), Some(Verdict::Selected));
        assert!(vote_at(&mut selection, 2, 3 * SILENCE, 0).is_ok());
        assert!(vote_at(&mut selection, 2, 3 * SILENCE + 2, 0).is_ok(), "alone");
        assert!(selection.is_short());
    }

    #[test]
    fn the_wait_for_the_silent_is_bounded() {
        let mut selection = Selection::<4>::expecting(3);
        assert_eq!(vote_at(&mut selection, 0, 10, 0), Err(Undecided::Waiting));
        assert_eq!(vote_at(&mut selection, 1, 11, 0), Err(Undecided::Waiting));
        assert!(vote_at(&mut selection, 0, 12, 0).is_ok(), "a majority after two seconds");
        assert!(!selection.is_short());
        selection.reset();
        assert_eq!(vote_at(&mut selection, 0, 20, 0), Err(Undecided::Waiting));
        assert_eq!(vote_at(&mut selection, 0, 24, 0), Err(Undecided::Waiting));
        assert!(vote_at(&mut selection, 0, 25, 0).is_ok(), "anybody after five");
        assert!(selection.is_short());
        assert!(vote_at(&mut selection, 1, 26, 0).is_ok());
        assert!(!selection.is_short(), "two of three are a majority again");
    }

    /// A slow exchange is about an instant before those that are known already.
    #[test]
    fn votes_are_moved_back_as_well() {
        let mut selection = Selection::<4>::expecting(3);
        let rates = (Rate::from_ppm(-500.0), Rate::from_ppm(500.0));
        // The oscillator loses 400 ppm.
        let truth = |millis: i64| millis * 400;
        let mut hear = |source: u8, millis: i64, half: i64| {
            let ends = [truth(millis) - half, truth(millis) + half].map(Offset::from_nanos);
            selection.vote(SourceId(source), Timestamp::from_nanos(millis * 1_000_000), (ends[0], ends[1]), rates)
        };
        assert!(hear(0, 10_000, 10_000).is_err());
        assert!(hear(1, 10_010, 10_000).is_err());
        let (low, high) = hear(2, 9_520, 500_000_000).expect("all three agree");
        assert!(low.as_nanos() <= truth(9_520) && truth(9_520) <= high.as_nanos(), "{low:?} {high:?}");
    }

    #[test]
    fn an_oscillator_that_breaks_its_word_is_told_from_liars() {
        let mut selection = Selection::<4>::new();
        for (second, source) in [(0, 0), (1, 1), (2, 2)] {
            assert!(vote_at(&mut selection, source, second, 0).is_ok());
        }
        // Two of three contradict the others and themselves; one might be a liar.
        assert!(vote_at(&mut selection, 0, 10, 100).is_ok());
        assert!(!selection.most_contradict_themselves(Timestamp::from_nanos(10_000_000_000)));
        assert_eq!(vote_at(&mut selection, 1, 11, 200), Err(Undecided::NoMajority));
        let at = Timestamp::from_nanos(11_000_000_000);
        assert!(selection.most_contradict_themselves(at));
        let any = Rate::from_ppm(500.0);
        assert!(selection.reconsider(at, (Rate::from_ppm(-500.0), any)).is_ok());
        assert!(!selection.most_contradict_themselves(at));
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

        #[test]
        fn whoever_speaks_first_the_truth_is_never_hidden(
            voters in prop::collection::vec((0i64..1_000_000, 0i64..1_000_000, -5_000_000i64..5_000_000, any::<u32>()), 3..=8),
            truth in -1_000_000_000i64..1_000_000_000,
        ) {
            let lying = (voters.len() - 1) / 2;
            let mut selection = Selection::<8>::expecting(voters.len());
            let mut order: [usize; 8] = core::array::from_fn(|i| i);
            let order = &mut order[..voters.len()];
            order.sort_unstable_by_key(|&i| voters[i].3);
            for &mut i in order {
                let (below, above, away, _) = voters[i];
                let from = if i < lying { truth + away } else { truth - below };
                let to = if i < lying { from + above } else { truth + above };
                if let Some((low, high)) = vote(&mut selection, u8::try_from(i).unwrap(), from, to) {
                    prop_assert!(low <= truth && truth <= high, "{low} {truth} {high}");
                }
            }
            prop_assert!(selection.opened);
        }
    }
}
