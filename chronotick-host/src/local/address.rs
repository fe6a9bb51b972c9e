//! How a local source is written in the configuration.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A reference on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LocalAddress {
    /// `"ptp:/dev/ptp0"`: a hardware clock that keeps UTC; `"ptp-tai:/dev/ptp0"`: one that keeps TAI.
    Ptp {
        /// The device.
        path: PathBuf,
        /// It keeps TAI.
        tai: bool,
    },
    /// `"pps:/dev/pps0"`: a pulse at the start of each second.
    Pps(PathBuf),
    /// `"kernel"`: the system's clock with the error that whoever disciplines it admits to.
    Kernel,
    /// `"chronyd"`, `"chronyd:127.0.0.1:323"` or `"chronyd:/run/chrony/chronyd.sock"`.
    Chronyd(ChronydAddress),
    /// `"auto"`: whichever of them has the smallest bound.
    Auto,
}

/// Where a chronyd of this machine takes commands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ChronydAddress {
    /// A UDP port on a loopback address.
    Udp(SocketAddr),
    /// Its Unix socket. Whoever asks there needs to be able to make a socket in the same folder.
    Unix(PathBuf),
}

impl ChronydAddress {
    /// The port that chronyd listens on unless told otherwise.
    pub const DEFAULT: Self = Self::Udp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 323));
}

impl FromStr for LocalAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "bad local source `{text}`: write \"ptp:/dev/ptp0\", \"ptp-tai:/dev/ptp0\", \"pps:/dev/pps0\", \"kernel\", \
                 \"chronyd\", \"chronyd:127.0.0.1:323\", \"chronyd:/run/chrony/chronyd.sock\" or \"auto\""
            )
        };
        let (kind, rest) = text.split_once(':').map_or((text, None), |(kind, rest)| (kind, Some(rest)));
        let path = || rest.map(Path::new).filter(|path| path.is_absolute()).map(Path::to_owned).ok_or_else(bad);
        match (kind, rest) {
            ("ptp", _) => Ok(Self::Ptp { path: path()?, tai: false }),
            ("ptp-tai", _) => Ok(Self::Ptp { path: path()?, tai: true }),
            ("pps", _) => Ok(Self::Pps(path()?)),
            ("kernel", None) => Ok(Self::Kernel),
            ("auto", None) => Ok(Self::Auto),
            ("chronyd", None) => Ok(Self::Chronyd(ChronydAddress::DEFAULT)),
            ("chronyd", Some(rest)) => match rest.parse::<SocketAddr>() {
                Ok(address) if address.ip().is_loopback() && address.port() > 0 => {
                    Ok(Self::Chronyd(ChronydAddress::Udp(address)))
                }
                Ok(address) => Err(format!(
                    "bad local source `{text}`: {address} is not this machine; list a chronyd elsewhere in [ntp] servers"
                )),
                Err(_) => Ok(Self::Chronyd(ChronydAddress::Unix(path()?))),
            },
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for LocalAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ptp { path, tai: false } => write!(f, "ptp:{}", path.display()),
            Self::Ptp { path, tai: true } => write!(f, "ptp-tai:{}", path.display()),
            Self::Pps(path) => write!(f, "pps:{}", path.display()),
            Self::Kernel => f.write_str("kernel"),
            Self::Chronyd(ChronydAddress::Udp(address)) => write!(f, "chronyd:{address}"),
            Self::Chronyd(ChronydAddress::Unix(path)) => write!(f, "chronyd:{}", path.display()),
            Self::Auto => f.write_str("auto"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_shown() {
        for text in [
            "ptp:/dev/ptp0",
            "ptp-tai:/dev/ptp1",
            "pps:/dev/pps0",
            "kernel",
            "auto",
            "chronyd:/run/chrony/chronyd.sock",
            "chronyd:[::1]:323",
        ] {
            assert_eq!(text.parse::<LocalAddress>().map(|a| a.to_string()), Ok(text.to_owned()));
        }
        assert_eq!("chronyd".parse(), "chronyd:127.0.0.1:323".parse::<LocalAddress>());
    }

    #[test]
    fn anything_else_is_refused_in_one_line() {
        for text in ["", "ptp", "ptp:", "ptp:ptp0", "pps", "kernel:", "kernel:x", "auto:1", "gps", "chronyd:here"] {
            let told = text.parse::<LocalAddress>().expect_err(text);
            assert!(!told.contains('\n') && told.contains(text), "{told}");
        }
        assert!("chronyd:192.0.2.1:323".parse::<LocalAddress>().expect_err("elsewhere").contains("[ntp] servers"));
    }
}
