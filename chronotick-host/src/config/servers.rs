//! The time servers of `[ntp]`: each a string, or a table where more is to be said of it.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

/// Most servers that can be configured, those of pools counted.
pub const MAX_SERVERS: usize = 8;
/// Servers that are used of a pool.
pub const POOL_SIZE: usize = 4;

const NTP_PORT: u16 = 123;
/// Where servers agree on keys (RFC 8915, section 4).
const KEY_EXCHANGE_PORT: u16 = 4460;

/// One entry of `servers`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Server {
    /// Where it is; with [`Server::nts`], where it agrees on keys.
    pub address: ServerAddress,
    /// Its answers are authenticated (RFC 8915).
    pub nts: bool,
    /// The certificates of the authorities that may vouch for it, in PEM, instead of the operating system's.
    pub ca: Option<PathBuf>,
    /// The name stands for many servers, of which [`POOL_SIZE`] are used.
    pub pool: bool,
    /// It is asked in pairs, for exact times of departure (RFC 9769). One that does not offer it is used without.
    pub interleaved: bool,
}

impl Server {
    /// As it would be written in the file.
    pub(super) fn written(&self) -> String {
        let Self { address, nts, ca, pool, interleaved } = self;
        let port = if *nts { KEY_EXCHANGE_PORT } else { NTP_PORT };
        let text = address.to_string();
        let text = text.strip_suffix(&format!(":{port}")).unwrap_or(&text);
        if *self == Self::from(address.clone()) {
            return format!("\"{text}\"");
        }
        let flags = [("nts", nts), ("pool", pool), ("interleaved", interleaved)];
        let flags: String = flags.iter().filter(|(_, on)| **on).map(|(name, _)| format!(", {name} = true")).collect();
        let ca = ca.as_ref().map_or_else(String::new, |ca| format!(", ca = {:?}", ca.display().to_string()));
        format!("{{ host = \"{text}\"{flags}{ca} }}")
    }

    /// Whether it is where a daemon of this machine serves time if nobody has told it otherwise.
    pub(super) fn is_usual_on_this_machine(&self) -> bool {
        self.address.is_loopback() && self.address.port == if self.nts { KEY_EXCHANGE_PORT } else { NTP_PORT }
    }

    /// How many servers it stands for.
    pub fn count(&self) -> usize {
        if self.pool { POOL_SIZE } else { 1 }
    }
}

impl From<ServerAddress> for Server {
    fn from(address: ServerAddress) -> Self {
        Self { address, nts: false, ca: None, pool: false, interleaved: false }
    }
}

/// As it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    host: String,
    #[serde(default)]
    nts: bool,
    ca: Option<PathBuf>,
    #[serde(default)]
    pool: bool,
    #[serde(default)]
    interleaved: bool,
}

impl TryFrom<Table> for Server {
    type Error = String;

    fn try_from(table: Table) -> Result<Self, String> {
        let Table { host, nts, ca, pool, interleaved } = table;
        let address = ServerAddress::parse(&host, if nts { KEY_EXCHANGE_PORT } else { NTP_PORT })?;
        if nts && cfg!(not(feature = "nts")) {
            return Err(format!("server `{host}`: this program was built without the feature `nts`"));
        }
        if nts && pool {
            return Err(format!("server `{host}`: a pool cannot be authenticated, name its servers one by one"));
        }
        if ca.is_some() && !nts {
            return Err(format!("server `{host}`: `ca` is for servers with `nts = true`"));
        }
        Ok(Self { address, nts, ca, pool, interleaved })
    }
}

impl<'de> Deserialize<'de> for Server {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        /// By hand, because an untagged enum would not say which key is wrong.
        struct Entry;

        impl<'de> Visitor<'de> for Entry {
            type Value = Server;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a server such as \"host\" or { host = \"host\", nts = true }")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Server, E> {
                text.parse::<ServerAddress>().map(Server::from).map_err(E::custom)
            }
            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Server, M::Error> {
                let table = Table::deserialize(MapAccessDeserializer::new(map))?;
                Server::try_from(table).map_err(M::Error::custom)
            }
        }
        input.deserialize_any(Entry)
    }
}

/// The list, checked as a whole.
pub(super) fn list<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<Server>, D::Error> {
    let servers = Vec::<Server>::deserialize(input)?;
    let count: usize = servers.iter().map(Server::count).sum();
    if count > MAX_SERVERS {
        let pools =
            if servers.iter().any(|s| s.pool) { format!(" (a pool counts as {POOL_SIZE})") } else { String::new() };
        return Err(D::Error::custom(format!("{count} servers{pools}; at most {MAX_SERVERS} can be used")));
    }
    for (index, server) in servers.iter().enumerate() {
        let address = &server.address;
        let Some(before) = servers[..index].iter().map(|before| &before.address).find(|it| it.is_machine_of(address))
        else {
            continue;
        };
        return Err(D::Error::custom(if before.port == address.port {
            format!("server `{address}` is listed twice")
        } else {
            format!("server `{address}` is on the machine of `{before}`, which has one vote: remove one of the two")
        }));
    }
    Ok(servers)
}

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

    /// Whether `other` is the same machine by another spelling. On loopback, ports tell apart the servers that are simulated or
    /// relayed there.
    fn is_machine_of(&self, other: &Self) -> bool {
        self.spelling() == other.spelling() && (self.port == other.port || !self.is_loopback())
    }

    fn is_loopback(&self) -> bool {
        let host = self.spelling();
        let is_name = host == "localhost" || host.ends_with(".localhost");
        is_name || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// One spelling of all that mean the same host. It is not the one to resolve: a dot at the end says where a name ends.
    fn spelling(&self) -> String {
        let host = self.host.strip_suffix('.').unwrap_or(&self.host).to_ascii_lowercase();
        host.parse::<IpAddr>().map_or(host, |address| address.to_canonical().to_string())
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
        Self::parse(text, NTP_PORT)
    }
}

impl ServerAddress {
    fn parse(text: &str, port: u16) -> Result<Self, String> {
        let bad = || format!("bad server `{text}`: write \"host\", \"host:port\" or \"[v6]:port\"");
        let port_of = |port: &str| port.parse::<u16>().ok().filter(|&port| port > 0).ok_or_else(bad);
        let is_v6 = |host: &str| host.split('%').next().is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
        if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest.split_once(']').ok_or_else(bad)?;
            let port = if rest.is_empty() { port } else { port_of(rest.strip_prefix(':').ok_or_else(bad)?)? };
            return if is_v6(host) { Ok(Self::new(host, port)) } else { Err(bad()) };
        }
        if is_v6(text) {
            return Ok(Self::new(text, port));
        }
        let (host, port) = match text.split_once(':') {
            Some((host, written)) => (host, port_of(written)?),
            None => (text, port),
        };
        let plausible = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if host.is_empty() || host.len() > 253 || !host.chars().all(plausible) {
            return Err(bad());
        }
        Ok(Self::new(host, port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct File {
        #[serde(deserialize_with = "list")]
        servers: Vec<Server>,
    }

    fn read(list: &str) -> Result<Vec<Server>, String> {
        toml::from_str::<File>(&format!("servers = {list}"))
            .map(|file| file.servers)
            .map_err(|e| e.message().to_owned())
    }

    #[test]
    fn strings_and_tables_side_by_side() {
        let servers = read(
            r#"["a", { host = "b:4461", nts = true, ca = "ca.pem" }, { host = "c", nts = true, interleaved = true },
                { host = "pool.d", pool = true }]"#,
        )
        .expect("good");
        let ports: Vec<_> = servers.iter().map(|s| s.address.port()).collect();
        assert_eq!(ports, [123, 4461, 4460, 123]);
        assert_eq!(servers.iter().map(Server::count).sum::<usize>(), 7);
        let written: Vec<_> = servers.iter().map(Server::written).collect();
        assert_eq!(read(&format!("[{}]", written.join(", "))).as_ref(), Ok(&servers), "{written:?}");
        assert!(servers[2].interleaved && !servers[1].interleaved && servers[1].ca.is_some());
    }

    #[test]
    fn what_cannot_be_is_refused_in_words() {
        for (list, told) in [
            (r#"[{ host = "a", ntss = true }]"#, "unknown field `ntss`"),
            (r#"[{ nts = true }]"#, "missing field `host`"),
            (r#"[7]"#, "expected a server such as"),
            (r#"[{ host = "a", nts = true, pool = true }]"#, "a pool cannot be authenticated"),
            (r#"[{ host = "a", ca = "x" }]"#, "`ca` is for servers with `nts = true`"),
            (r#"["a", { host = "a:123" }]"#, "listed twice"),
            (r#"["ntp.a", "NTP.a."]"#, "server `NTP.a.:123` is listed twice"),
            (r#"["::1", "[0:0::1]:123"]"#, "listed twice"),
            (r#"["192.0.2.1", "::ffff:192.0.2.1"]"#, "listed twice"),
            (r#"["127.0.0.1:5", "127.0.0.1:5"]"#, "listed twice"),
            (
                r#"["a", { host = "A", nts = true }]"#,
                "server `A:4460` is on the machine of `a:123`, which has one vote",
            ),
            (r#"["192.0.2.1", "192.0.2.1:1123"]"#, "is on the machine of `192.0.2.1:123`"),
            (r#"[{ host = "a", pool = true }, { host = "b", pool = true }, "c"]"#, "9 servers (a pool counts as 4)"),
            (r#"[{ host = "a b" }]"#, "bad server `a b`"),
        ] {
            let error = read(list).expect_err(list);
            assert!(error.contains(told), "{list}: {error}");
        }
    }

    #[test]
    fn ports_on_loopback_are_different_servers() {
        let servers = read(r#"["127.0.0.1:5", "127.0.0.1:6", "[::1]:5", "localhost:5", "localhost:6"]"#).expect("good");
        assert!(!servers.iter().any(Server::is_usual_on_this_machine));
        let usual = read(r#"["127.0.0.1", "LOCALHOST.", "::1", { host = "127.0.0.2", nts = true }, "ntp.localhost"]"#);
        assert!(usual.expect("good").iter().all(Server::is_usual_on_this_machine));
    }

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
