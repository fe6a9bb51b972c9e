//! Where an OpenTelemetry collector listens.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::values::Written;

/// What OTLP over HTTP is sent to where only a host and a port are given.
const PATH: &str = "/v1/metrics";

/// The address of a collector that takes OTLP over HTTP: `http://HOST:PORT`, with or without a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectorAddress {
    authority: String,
    path: String,
}

impl CollectorAddress {
    /// The address in `text`.
    ///
    /// # Errors
    /// What is wrong with it, and what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with("https:") {
            return Err(format!(
                "`{text}` wants TLS, which is left to the collector on this machine: name that one, as \"http://127.0.0.1:4318\""
            ));
        }
        let wrong = || format!("bad collector `{text}`: write an address such as \"http://127.0.0.1:4318\"");
        let rest = text.strip_prefix("http://").ok_or_else(wrong)?;
        let (authority, path) = rest.find('/').map_or((rest, PATH), |at| rest.split_at(at));
        let (host, port) = authority.rsplit_once(':').ok_or_else(wrong)?;
        let graphic = |part: &str| part.bytes().all(|byte| byte.is_ascii_graphic());
        let good = !host.is_empty() && !host.contains('@') && graphic(authority) && graphic(path);
        if !good || port.parse::<u16>().is_err() {
            return Err(wrong());
        }
        let path = if path == "/" { PATH } else { path };
        Ok(Self { authority: authority.to_owned(), path: path.to_owned() })
    }
}

impl fmt::Display for CollectorAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path)
    }
}

impl Written for Option<CollectorAddress> {
    fn written(&self) -> Option<String> {
        self.as_ref().map(|address| format!("\"{address}\""))
    }
}

pub(super) fn collector<'de, D: Deserializer<'de>>(input: D) -> Result<Option<CollectorAddress>, D::Error> {
    let Some(text) = Option::<String>::deserialize(input)?.filter(|text| !text.is_empty()) else { return Ok(None) };
    CollectorAddress::parse(&text).map(Some).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_with_or_without_a_path() {
        for (text, shown) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/metrics"),
            ("http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/metrics"),
            ("http://[::1]:4318/otlp/v1/metrics", "http://[::1]:4318/otlp/v1/metrics"),
        ] {
            assert_eq!(CollectorAddress::parse(text).expect(text).to_string(), shown);
        }
    }

    #[test]
    fn another_is_refused_with_what_would_be_right() {
        for text in ["127.0.0.1:4318", "http://", "http://a", "http://a:b", "http://:1", "http://u@a:1", "http://a b:1"]
        {
            let told = CollectorAddress::parse(text).expect_err(text);
            assert!(told.contains("\"http://127.0.0.1:4318\""), "{told}");
        }
        let told = CollectorAddress::parse("https://collector:4318").expect_err("TLS");
        assert!(told.contains("TLS"), "{told}");
    }
}
