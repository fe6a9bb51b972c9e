//! docs/FALLBACK.md names every tier and every reason as the code says them.

use chronotick_core::{Reason, Tier};

const PAGE: &str = include_str!("../docs/FALLBACK.md");

#[test]
fn every_tier_has_its_row_in_the_order_of_rank() {
    let mut from = 0;
    for tier in Tier::ALL {
        let row = format!("\n| `{tier}` | ");
        let at = PAGE[from..].find(&row).unwrap_or_else(|| panic!("no row for {tier} after byte {from}"));
        from += at + 1;
    }
}

#[test]
fn every_reason_has_its_row_and_there_is_no_other() {
    let table = &PAGE[PAGE.find("## Reasons").expect("the section")..];
    for reason in Reason::ALL {
        let row = format!("| `{reason:?}` | {reason} |");
        assert!(table.contains(&row), "missing: {row}");
    }
    assert_eq!(table.lines().filter(|line| line.starts_with("| `")).count(), Reason::ALL.len());
}
