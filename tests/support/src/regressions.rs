//! Seeds that once broke a law. Every run of the worlds begins with them; docs/SIMULATION.md says what was wrong.

use crate::scenario::Family;

/// Family, seed, hours, and what was wrong.
pub const REGRESSIONS: [(Family, u64, f64, &str); 15] = [
    (Family::Restarts, 6, 6.0, "a suspension emptied the history and not the count of the last question"),
    (Family::Restarts, 21, 6.0, "the bound shrank along a line that led back into the confinement"),
    (Family::HeldOut, 523, 6.0, "the bound shrank along a line that led back into the confinement"),
    (
        Family::Restarts,
        258,
        6.0,
        "the filters that learn from temperature began where the estimate had been 38 minutes before",
    ),
    (Family::Chaos, 439, 6.0, "the first to be heard lied, and its word on the rate outlived it"),
    (
        Family::Majority,
        737,
        6.0,
        "a law: with a silent server's old vote as wide as the lie, nobody can tell the time from it",
    ),
    (Family::Majority, 1541, 6.0, "the same with two liars and three silent servers"),
    (Family::Chaos, 71_399, 6.0, "a law: the page of a daemon that was lied to is served on after its crash"),
    (Family::Chaos, 502_521, 6.0, "old votes were moved by a rate that had just been contradicted"),
    (Family::Chaos, 1_300_729, 6.0, "an estimate that was given up began again with no rate"),
    (Family::Chaos, 1_401_983, 6.0, "a law: the estimate rested on exchanges that only a liar had made"),
    (Family::Chaos, 3_002_291, 6.0, "a law: one that the core had not heard was counted among those who decide"),
    (
        Family::Chaos,
        3_004_543,
        6.0,
        "experts that a liar had torn apart stayed so where only a majority could have them given up",
    ),
    (Family::Chaos, 5_004_507, 6.0, "a law: one whose exchange came too late had not been heard"),
    (Family::Chaos, 5_005_860, 6.0, "a law: the same, and an honest server was refused with nobody to agree with it"),
];
