//! How single values are written: durations, rates, CPUs. Each is refused with a line that says what would be right.

use std::net::SocketAddr;
use std::path::PathBuf;

use chronotick_core::leap::Policy;
use chronotick_core::units::Span;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::{Device, Forecasters, Server};
use crate::local::LocalAddress;
use crate::supervisor::{Affinity, Mode};

pub(super) const SECOND: i64 = 1_000_000_000;
pub(super) const DAY: i64 = 86_400 * SECOND;

/// "250 us" and the like.
fn parse_span(text: &str) -> Option<Span> {
    let text = text.trim();
    let unit_at = text.find(|c: char| !matches!(c, '0'..='9' | '.' | '_'))?;
    let (number, unit) = text.split_at(unit_at);
    let scale = match unit.trim() {
        "ns" => 1e-9,
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    let number: f64 = number.replace('_', "").parse().ok()?;
    Some(Span::from_secs_f64(number * scale))
}

/// Nanoseconds in the largest unit that divides them.
pub(super) fn show_span(nanos: i64) -> String {
    let units = [(3600 * SECOND, "h"), (60 * SECOND, "min"), (SECOND, "s"), (1_000_000, "ms"), (1_000, "us")];
    units
        .iter()
        .find(|(unit, _)| nanos % unit == 0)
        .map_or_else(|| format!("{nanos} ns"), |(unit, name)| format!("{} {name}", nanos / unit))
}

pub(super) fn span<'de, const MIN: i64, const MAX: i64, D: Deserializer<'de>>(input: D) -> Result<Span, D::Error> {
    /// A bare number is accepted by the parser only to be refused with a better message than "invalid type".
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a duration such as \"16 s\"")]
    enum Written {
        Text(String),
        Number(f64),
    }
    match Written::deserialize(input)? {
        Written::Number(number) => Err(D::Error::custom(format!("a duration needs a unit: \"{number} s\""))),
        Written::Text(text) => {
            let span = parse_span(&text).ok_or_else(|| {
                D::Error::custom(format!(
                    "bad duration `{text}`: write a number and ns, us, ms, s, min, h or d, such as \"16 s\""
                ))
            })?;
            if (MIN..=MAX).contains(&span.as_nanos()) {
                return Ok(span);
            }
            Err(D::Error::custom(format!("{text} is out of range: {} to {}", show_span(MIN), show_span(MAX))))
        }
    }
}

pub(super) fn integer<'de, const MIN: i64, const MAX: i64, D: Deserializer<'de>, T: TryFrom<i64>>(
    input: D,
) -> Result<T, D::Error> {
    let value = i64::deserialize(input)?;
    let in_range = (MIN..=MAX).contains(&value).then_some(value);
    in_range
        .and_then(|value| T::try_from(value).ok())
        .ok_or_else(|| D::Error::custom(format!("{value} is out of range: {MIN} to {MAX}")))
}

pub(super) fn ppm<'de, D: Deserializer<'de>>(input: D) -> Result<f64, D::Error> {
    let value = f64::deserialize(input)?;
    if value.is_finite() && (1e-6..=10_000.0).contains(&value) {
        return Ok(value);
    }
    Err(D::Error::custom(format!("{value} is out of range: 0.000001 to 10000 ppm")))
}

pub(super) fn mode<'de, D: Deserializer<'de>>(input: D) -> Result<Mode, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Written {
        Process,
        Thread,
        Off,
    }
    Ok(match Written::deserialize(input)? {
        Written::Process => Mode::Process,
        Written::Thread => Mode::Thread,
        Written::Off => Mode::Off,
    })
}

pub(super) fn affinity<'de, D: Deserializer<'de>>(input: D) -> Result<Affinity, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected \"auto\" or a list of CPUs such as [2, 3]")]
    enum Written {
        Word(String),
        List(Vec<u16>),
    }
    match Written::deserialize(input)? {
        Written::Word(word) if word == "auto" => Ok(Affinity::Auto),
        Written::Word(word) => {
            Err(D::Error::custom(format!("`{word}` is neither \"auto\" nor a list of CPUs such as [2, 3]")))
        }
        Written::List(cpus) => Ok(Affinity::Cores(cpus.into_iter().map(usize::from).collect())),
    }
}

pub(super) fn local_sources<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<LocalAddress>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a local source such as \"auto\" or a list of them")]
    enum Written {
        One(String),
        List(Vec<String>),
    }
    let texts = match Written::deserialize(input)? {
        Written::One(text) => vec![text],
        Written::List(texts) => texts,
    };
    let mut sources = Vec::new();
    for text in texts {
        let source = text.parse().map_err(D::Error::custom)?;
        if sources.contains(&source) {
            return Err(D::Error::custom(format!("local source `{source}` is listed twice")));
        }
        sources.push(source);
    }
    Ok(sources)
}

pub(super) fn socket<'de, D: Deserializer<'de>>(input: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(input)?;
    let bad = || D::Error::custom(format!("bad address `{text}`: write \"127.0.0.1:9123\" or \"[::1]:9123\""));
    text.parse().map(Some).map_err(|_| bad())
}

/// A value as it would be written in the file.
pub(super) trait Written {
    /// The text, or `None` where nothing is written.
    fn written(&self) -> Option<String>;
}

impl Written for Span {
    fn written(&self) -> Option<String> {
        Some(format!("\"{}\"", show_span(self.as_nanos())))
    }
}

impl Written for Option<PathBuf> {
    fn written(&self) -> Option<String> {
        self.as_ref().map(|path| format!("{:?}", path.display().to_string()))
    }
}

impl Written for Option<SocketAddr> {
    fn written(&self) -> Option<String> {
        self.map(|address| format!("\"{address}\""))
    }
}

impl Written for Vec<Server> {
    fn written(&self) -> Option<String> {
        Some(format!("[{}]", self.iter().map(Server::written).collect::<Vec<_>>().join(", ")))
    }
}

impl Written for Vec<LocalAddress> {
    fn written(&self) -> Option<String> {
        let shown = self.iter().map(|source| format!("\"{source}\"")).collect::<Vec<_>>();
        Some(format!("[{}]", shown.join(", ")))
    }
}

impl Written for Mode {
    fn written(&self) -> Option<String> {
        let word = match self {
            Self::Process => "process",
            Self::Thread => "thread",
            Self::Off => "off",
        };
        Some(format!("\"{word}\""))
    }
}

impl Written for Affinity {
    fn written(&self) -> Option<String> {
        Some(match self {
            Self::Auto => "\"auto\"".to_owned(),
            Self::Cores(cores) => format!("{cores:?}"),
        })
    }
}

impl Written for Forecasters {
    fn written(&self) -> Option<String> {
        Some(format!("\"{}\"", format!("{self:?}").to_lowercase()))
    }
}

impl Written for Policy {
    fn written(&self) -> Option<String> {
        Some(format!("\"{}\"", format!("{self:?}").to_lowercase()))
    }
}

impl Written for Device {
    fn written(&self) -> Option<String> {
        Some(format!("\"{}\"", format!("{self:?}").to_lowercase()))
    }
}

macro_rules! written_as_displayed {
    ($($kind:ty),*) => {
        $(impl Written for $kind {
            fn written(&self) -> Option<String> {
                Some(self.to_string())
            }
        })*
    };
}
written_as_displayed!(bool, u8, u32, f64);
