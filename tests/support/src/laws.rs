//! What has to hold at every step of every run, whatever goes wrong.

use std::fmt;

/// A law of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Law {
    /// The truth lies inside the estimate's hard bound while the assumptions hold.
    Bound,
    /// So it does for predictions, at every horizon.
    PredictedBound,
    /// So it does for what readers are served, the slew still to apply included.
    ServedBound,
    /// Two readings of an epoch never go backwards.
    Monotone,
    /// A new record of the same epoch starts where the old one was.
    Continuous,
    /// Bound and interval never shrink without new information.
    Growth,
    /// Numbers are numbers and intervals are intervals.
    Finite,
    /// The tier says when measurements are missing.
    Tier,
    /// A majority of liars is noticed.
    Noticed,
    /// Nothing panics.
    Panic,
    /// A refused sample or forecast is an error, and nonsense is refused.
    Refused,
    /// With fresh measurements the estimate is no further off than the exchanges that it rests on can be, and the oscillator
    /// can have moved since.
    Accurate,
    /// Nothing better than the operating system's clock is served between waking up and the first exchange.
    Awake,
    /// While every assumption holds no exchange contradicts the bound.
    FalseAlarm,
    /// An honest server is heard while most of those that speak are honest.
    Heard,
    /// A server that says no is not asked again, and one that asks for relief gets it.
    Kiss,
    /// Over a campaign, the 95 % interval covers as often as it says, at every horizon.
    Coverage,
    /// Over a campaign, the estimate is hardly worse than the best expert picked with hindsight.
    Regret,
    /// Memory does not grow with time.
    Memory,
}

impl fmt::Display for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bound => "truth inside the bound",
            Self::PredictedBound => "truth inside the predicted bound",
            Self::ServedBound => "truth inside the served bound",
            Self::Monotone => "served time monotone",
            Self::Continuous => "served time continuous",
            Self::Growth => "nothing shrinks without news",
            Self::Finite => "numbers finite",
            Self::Tier => "tier tells of silence",
            Self::Noticed => "lying majority noticed",
            Self::Panic => "nothing panics",
            Self::Refused => "nonsense refused",
            Self::Accurate => "as accurate as its exchanges",
            Self::Awake => "nothing claimed after waking up",
            Self::FalseAlarm => "no false alarm",
            Self::Heard => "honest majority heard",
            Self::Kiss => "kiss of death obeyed",
            Self::Coverage => "coverage within its limits",
            Self::Regret => "hardly worse than the best expert",
            Self::Memory => "memory constant",
        })
    }
}

/// A law was broken.
#[derive(Clone, Debug, PartialEq)]
pub struct Violation {
    /// Which.
    pub law: Law,
    /// Seconds after the start.
    pub at: f64,
    /// What was seen.
    pub detail: String,
}
