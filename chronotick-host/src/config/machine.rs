//! What this machine has, which preset suits it, and why: `chronotick doctor`, and `device = "auto"`.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Kind};
use crate::os::affinity;

/// Memory below which a machine counts as small, in MiB.
const SMALL_MEMORY_MIB: u64 = 1024;
/// Cores from which a machine with a hardware clock counts as a server in a data centre.
const MANY_CORES: usize = 16;
/// Device nodes of accelerators: their beginnings under /dev, and what they are.
const ACCELERATORS: [(&str, &str); 6] = [
    ("nvidia0", "NVIDIA GPU"),
    ("kfd", "AMD GPU"),
    ("dri/renderD", "GPU"),
    ("accel/accel", "accelerator"),
    ("apex_", "Coral TPU"),
    ("hailo", "Hailo accelerator"),
];

/// What was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// As the compiler calls it.
    pub architecture: &'static str,
    /// That this process may use.
    pub cores: Vec<usize>,
    /// All of it, in MiB.
    pub memory_mib: u64,
    /// Those that matter for the models.
    pub instruction_sets: Vec<&'static str>,
    /// Kind and device node.
    pub accelerators: Vec<String>,
    /// Device nodes of PTP hardware clocks.
    pub ptp_clocks: Vec<String>,
    /// What the kernel counts with.
    pub clocksource: String,
}

/// What was chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Choice {
    /// `configs/PRESET.toml`.
    pub preset: &'static str,
    /// In one line.
    pub reason: String,
    /// The cores that a worker started from here would use.
    pub worker_cores: Vec<usize>,
    /// Why an accelerator is not used.
    pub accelerator: String,
}

impl Choice {
    /// What the preset says about the machine: all of `[worker]`, and which models are asked. Where the servers are, how often
    /// they may be asked and what the oscillator is worth does not follow from cores and memory.
    pub(super) fn suggestions(&self) -> Result<Vec<(String, String, Value)>, Error> {
        let text = match self.preset {
            "edge" => include_str!("../../../configs/edge.toml"),
            "datacentre" => include_str!("../../../configs/datacentre.toml"),
            _ => include_str!("../../../configs/default.toml"),
        };
        let preset = toml::from_str::<Map<String, Value>>(text).map_err(|cause| {
            Error::new(Kind::Config, format!("the preset {} is damaged", self.preset)).caused_by(cause)
        })?;
        let about_machine = |table: &str, key: &str| table == "worker" || (table, key) == ("models", "forecasters");
        let keys = preset.into_iter().flat_map(|(table, keys)| {
            let keys = Map::<String, Value>::deserialize(keys).unwrap_or_default();
            keys.into_iter().map(move |(key, value)| (table.clone(), key, value))
        });
        Ok(keys.filter(|(table, key, _)| about_machine(table, key) && key != "device").collect())
    }
}

/// Looks at this machine. What cannot be seen is left empty.
pub fn look() -> Machine {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let memory_kib = read("/proc/meminfo")
        .lines()
        .find_map(|row| row.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok())
        .unwrap_or(0);
    let mut accelerators: Vec<String> = Vec::new();
    for (beginning, what) in ACCELERATORS {
        accelerators.extend(nodes(beginning).into_iter().map(|node| format!("{what} (/dev/{node})")));
    }
    Machine {
        architecture: std::env::consts::ARCH,
        cores: affinity::current(),
        memory_mib: memory_kib / 1024,
        instruction_sets: instruction_sets(),
        accelerators,
        ptp_clocks: nodes("ptp").into_iter().map(|node| format!("/dev/{node}")).collect(),
        clocksource: read("/sys/devices/system/clocksource/clocksource0/current_clocksource").trim().to_owned(),
    }
}

/// The preset for `machine`.
pub fn choose(machine: &Machine) -> Choice {
    let worker_cores = affinity::beside_caller();
    let cores = machine.cores.len();
    let (preset, reason) = if machine.memory_mib < SMALL_MEMORY_MIB || cores <= 1 {
        ("edge", format!("{cores} core(s) and {} MiB: few packets, small worker", machine.memory_mib))
    } else if cores >= MANY_CORES && !machine.ptp_clocks.is_empty() {
        ("datacentre", format!("{cores} cores and a hardware clock: servers are probably a switch away"))
    } else {
        ("default", format!("{cores} cores, {} MiB, nothing special: any network will do", machine.memory_mib))
    };
    let accelerator = match machine.accelerators.as_slice() {
        [] => "no accelerator was seen, and none is needed for models this small",
        _ => {
            "models of half a million parameters take half a millisecond there; starting and feeding an accelerator takes longer"
        }
    };
    Choice { preset, reason, worker_cores, accelerator: accelerator.to_owned() }
}

/// Device nodes whose path under /dev begins so, followed by digits or nothing.
fn nodes(beginning: &str) -> Vec<String> {
    let (folder, name) = beginning.rsplit_once('/').map_or(("", beginning), |(folder, name)| (folder, name));
    let entries = std::fs::read_dir(Path::new("/dev").join(folder)).into_iter().flatten().flatten();
    let mut found: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|entry| entry.strip_prefix(name).is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit())))
        .map(|entry| if folder.is_empty() { entry } else { format!("{folder}/{entry}") })
        .collect();
    found.sort();
    found
}

fn instruction_sets() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    let known = [
        ("sse4.2", std::arch::is_x86_feature_detected!("sse4.2")),
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("fma", std::arch::is_x86_feature_detected!("fma")),
        ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
    ];
    #[cfg(target_arch = "aarch64")]
    let known = [("neon", true)];
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let known: [(&'static str, bool); 0] = [];
    known.into_iter().filter_map(|(name, there)| there.then_some(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(cores: usize, memory_mib: u64, ptp: bool, gpu: bool) -> Machine {
        let named = |there: bool, name: &str| there.then(|| name.to_owned()).into_iter().collect();
        Machine {
            cores: (0..cores).collect(),
            memory_mib,
            ptp_clocks: named(ptp, "/dev/ptp0"),
            accelerators: named(gpu, "GPU"),
            ..Machine::default()
        }
    }

    #[test]
    fn the_preset_follows_the_machine_and_exists() {
        for (machine, preset) in [
            (machine(1, 8192, false, false), "edge"),
            (machine(4, 512, false, false), "edge"),
            (machine(4, 8192, true, false), "default"),
            (machine(64, 262_144, true, true), "datacentre"),
            (machine(64, 262_144, false, true), "default"),
        ] {
            let choice = choose(&machine);
            assert_eq!(choice.preset, preset, "{}", choice.reason);
            let file = format!("{}/../configs/{preset}.toml", env!("CARGO_MANIFEST_DIR"));
            assert!(Path::new(&file).is_file(), "{file}");
        }
    }

    #[test]
    fn an_accelerator_is_declined_with_a_reason() {
        assert!(choose(&machine(4, 8192, false, true)).accelerator.contains("takes longer"));
        assert!(choose(&machine(4, 8192, false, false)).accelerator.contains("no accelerator"));
    }
}
