//! The reference page of the configuration, from the tables of keys.

use std::fmt::Write;

use super::keys::Change;
use super::tables;

const HEAD: &str = "\
# Configuration

<!-- Made by `chronotick check-config --reference`; edit chronotick-host/src/config/keys.rs instead. -->

`chronotick run --config FILE` reads TOML, or YAML when the file is called `.yaml` or `.yml`. Every key has a default, so an
empty file is a good one, and so is none. Durations are strings of a number and `ns`, `us`, `ms`, `s`, `min`, `h` or `d`. An
unknown key, a value out of range or two values that contradict each other are errors with line and column;
`chronotick check-config FILE` finds them without starting anything.

## The environment

`CHRONOTICK_TABLE__KEY` goes before the file: `CHRONOTICK_NTP__POLL_MIN=\"32 s\"` is `poll_min = \"32 s\"` in `[ntp]`. Two
underscores stand between table and key. The value is written as in TOML, but strings need no quotes and lists may be written
with commas (`CHRONOTICK_NTP__SERVERS=a.example,b.example`). An empty variable counts as not set. An error names the variable; one
underscore where two belong is an error as well.

## Reload

On SIGHUP (`systemctl reload chronotick`) the daemon reads the file and its environment again. The served time neither steps
nor pauses: what has been learned stays, and only what changed is set up anew. Keys marked *restart* keep their value until the
daemon is started again; one line in the log names them. A file with an error changes nothing, and the log says what is wrong.

## Presets

`configs/` has files to start from: `default` (every key with its default), `minimal` (a machine with a time server of its own),
`production` (a service that starts at boot), `datacentre` (servers a switch away), `edge` (a small device on a poor link) and
`holdover` (long stretches without any server). `chronotick doctor` looks at the machine and says which one suits it.
";

/// `docs/CONFIGURATION.md`.
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    for table in tables() {
        // Writing to a string does not fail.
        let _ = write!(page, "\n## [{}]\n\n{}\n", table.name, paragraph(table.about));
        for key in table.keys {
            let default = key.default.map_or_else(|| "not set".to_owned(), |default| format!("`{default}`"));
            let change = match key.change {
                Change::Live => "reload",
                Change::Restart => "*restart*",
            };
            let variable = format!("CHRONOTICK_{}__{}", table.name.to_uppercase(), key.name.to_uppercase());
            let _ = write!(
                page,
                "\n### {}.{}\n\n{}\n\n* {}; default {default}\n* `{variable}`\n* changes take a {change}\n",
                table.name,
                key.name,
                paragraph(key.meaning),
                key.shape.describe(),
            );
        }
    }
    page
}

/// Lines of a comment as one paragraph, wrapped anew.
fn paragraph(comment: &str) -> String {
    const WIDTH: usize = 124;
    let mut lines = vec![String::new()];
    for word in comment.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + 1 + word.len() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::Config;
    use crate::config::keys::Shape;
    use crate::config::values::show_span;

    #[test]
    fn the_page_is_what_the_types_say() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/CONFIGURATION.md");
        let page = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            page == reference(),
            "docs/CONFIGURATION.md is stale: cargo run -- check-config --reference > docs/CONFIGURATION.md"
        );
    }

    /// The ranges that the page shows are those that the parser enforces.
    #[test]
    fn ranges_are_the_enforced_ones() {
        let mut ranges = 0;
        for table in tables() {
            for key in table.keys {
                let (inside, outside) = match key.shape {
                    Shape::Duration(low, high) => {
                        let text = |ns: i64| format!("\"{ns} ns\"");
                        assert!(key.shape.describe().contains(&show_span(high)));
                        ([low, high].map(text), [low - 1, high + 1].map(text))
                    }
                    Shape::Integer(low, high) => {
                        let text = |n: i64| n.to_string();
                        ([low, high].map(text), [low - 1, high + 1].map(text))
                    }
                    Shape::Ppm => (["0.000001", "10000"].map(str::to_owned), ["0", "10000.1"].map(str::to_owned)),
                    Shape::Word(words) => {
                        let text = |word: &&str| format!("\"{word}\"");
                        let (Some(first), Some(last)) = (words.first(), words.last()) else { panic!("no words") };
                        ([first, last].map(text), ["1", "\"qqqq\""].map(str::to_owned))
                    }
                    Shape::Boolean => (["true", "false"].map(str::to_owned), ["1", "\"yes\""].map(str::to_owned)),
                    Shape::Collector => {
                        let text = |address: &str| format!("\"{address}\"");
                        (["http://a:1", "http://[::1]:4318/v1/metrics"].map(text), ["https://a:1", "a:1"].map(text))
                    }
                    Shape::Path | Shape::Socket | Shape::Servers | Shape::LocalSources | Shape::Cpus => continue,
                };
                ranges += 1;
                let parsed = |value: &str| {
                    let text = format!("[{}]\n{} = {value}\n", table.name, key.name);
                    toml::from_str::<Config>(&text).map_err(|error| error.to_string())
                };
                for value in inside {
                    assert!(parsed(&value).is_ok(), "{}.{} = {value}: {:?}", table.name, key.name, parsed(&value));
                }
                for value in outside {
                    assert!(parsed(&value).is_err(), "{}.{} = {value} is taken", table.name, key.name);
                }
            }
        }
        assert!(ranges >= 20, "{ranges}");
    }
}
