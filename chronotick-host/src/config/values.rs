//! How single values are written: servers, durations, rates, CPUs. Each is refused with a line that says what would be right.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use chronotick_core::units::Span;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::{Device, Forecasters, MAX_SERVERS};
use crate::supervisor::{Affinity, Mode};

/// Where a server is to be found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerAddress {
    host: String,
    port: u16,
}

impl ServerAddress {
    /// A host name or address, and a port.
    pub fn new(host: &str, port: u16) -> Self {
        Self { host: host.to_owned(), port }
    }
    /// The host name or address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }
    /// The UDP port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for ServerAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("bad server `{text}`: write \"host\", \"host:port\" or \"[v6]:port\"");
        let port_of = |port: &str| port.parse::<u16>().ok().filter(|&port| port > 0).ok_or_else(bad);
        let is_v6 = |host: &str| host.split('%').next().is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
        if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest.split_once(']').ok_or_else(bad)?;
            let port = if rest.is_empty() { 123 } else { port_of(rest.strip_prefix(':').ok_or_else(bad)?)? };
            return if is_v6(host) { Ok(Self::new(host, port)) } else { Err(bad()) };
        }
        if is_v6(text) {
            return Ok(Self::new(text, 123));
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, port_of(port)?),
            None => (text, 123),
        };
        let plausible = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if host.is_empty() || host.len() > 253 || !host.chars().all(plausible) {
            return Err(bad());
        }
        Ok(Self::new(host, port))
    }
}

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

pub(super) fn servers<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<ServerAddress>, D::Error> {
    let texts = Vec::<String>::deserialize(input)?;
    if texts.len() > MAX_SERVERS {
        return Err(D::Error::custom(format!("{} servers; at most {MAX_SERVERS} can be used", texts.len())));
    }
    let mut servers = Vec::with_capacity(texts.len());
    for text in texts {
        let server = text.parse().map_err(D::Error::custom)?;
        if servers.contains(&server) {
            return Err(D::Error::custom(format!("server `{server}` is listed twice")));
        }
        servers.push(server);
    }
    Ok(servers)
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

impl Written for Vec<ServerAddress> {
    fn written(&self) -> Option<String> {
        let shown = |server: &ServerAddress| {
            let text = server.to_string();
            format!("\"{}\"", text.strip_suffix(":123").unwrap_or(&text))
        };
        Some(format!("[{}]", self.iter().map(shown).collect::<Vec<_>>().join(", ")))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_addresses() {
        for (text, shown) in [("::1", "[::1]:123"), ("[fe80::1%lo]:9", "[fe80::1%lo]:9"), ("h:65535", "h:65535")] {
            assert_eq!(text.parse::<ServerAddress>().map(|s| s.to_string()), Ok(shown.to_owned()));
        }
        for text in ["", ":", "h:", "h:0", "h:65536", "[::1", "[::1]x", "[h]:1", "a/b", "h:1:2"] {
            assert!(text.parse::<ServerAddress>().is_err(), "{text}");
        }
    }
}
