//! How many experts there are, and of what kind is which.

use super::{DRIFTS, HOLDS, PER_TEMPERATURE};

/// How many experts there are with a [`Bank`](super::Bank) of these capacities, one for each model among them.
pub const fn experts(
    filters: usize,
    temperature_filters: usize,
    reversions: usize,
    day_bins: usize,
    cycles: usize,
) -> usize {
    let classical = filters + temperature_filters * PER_TEMPERATURE + HOLDS + reversions + drifts(reversions);
    classical + stacked(day_bins, cycles)
}

/// How many of them are stacked upon the others: the two models, and the daily pattern and the cycle where there are these.
pub const fn stacked(day_bins: usize, cycles: usize) -> usize {
    2 + (day_bins > 0) as usize + cycles
}

/// How many of them follow a drift: with the averages that `reversions` need, one each.
pub(super) const fn drifts(reversions: usize) -> usize {
    if reversions < DRIFTS.len() { reversions } else { DRIFTS.len() }
}

/// What kind of expert an index stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// A line of one of the filters.
    Filter,
    /// A line that follows the temperature.
    Temperature,
    /// The present offset, held.
    Hold,
    /// A rate that returns to its mean.
    Reversion,
    /// A rate that moves on away from its mean.
    Drift,
    /// The daily pattern.
    Daily,
    /// A cycle of the rate.
    Cycle,
    /// The near model.
    NearModel,
    /// The far model.
    FarModel,
}

impl Family {
    /// All of them, in the order of their experts.
    pub const ALL: [Self; 9] = [
        Self::Filter,
        Self::Temperature,
        Self::Hold,
        Self::Reversion,
        Self::Drift,
        Self::Daily,
        Self::Cycle,
        Self::NearModel,
        Self::FarModel,
    ];

    /// The kind of expert `index` of a [`Bank`](super::Bank) of these capacities.
    pub const fn of(
        index: usize,
        filters: usize,
        temperature_filters: usize,
        reversions: usize,
        day_bins: usize,
        cycles: usize,
    ) -> Self {
        let all = experts(filters, temperature_filters, reversions, day_bins, cycles);
        let holds = filters + temperature_filters * PER_TEMPERATURE;
        match index {
            i if i < filters => Self::Filter,
            i if i < holds => Self::Temperature,
            i if i < holds + HOLDS => Self::Hold,
            i if i < holds + HOLDS + reversions => Self::Reversion,
            i if i < holds + HOLDS + reversions + drifts(reversions) => Self::Drift,
            i if day_bins > 0 && i + stacked(day_bins, cycles) == all => Self::Daily,
            i if i + 2 < all => Self::Cycle,
            i if i + 2 == all => Self::NearModel,
            _ => Self::FarModel,
        }
    }

    /// For people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Temperature => "temperature",
            Self::Hold => "hold",
            Self::Reversion => "reversion",
            Self::Drift => "drift",
            Self::Daily => "daily",
            Self::Cycle => "cycle",
            Self::NearModel => "near model",
            Self::FarModel => "far model",
        }
    }
}
