//! `chronotick doctor`: what this machine has, which preset suits it and why.

use std::path::Path;

use chronotick_host::os::affinity;
use serde::Serialize;

use super::{Failure, Outcome, line};

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

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// What was seen.
#[derive(Clone, Debug, Default, Serialize)]
struct Machine {
    architecture: &'static str,
    /// That this process may use.
    cores: Vec<usize>,
    memory_mib: u64,
    instruction_sets: Vec<&'static str>,
    accelerators: Vec<String>,
    ptp_clocks: Vec<String>,
    clocksource: String,
}

/// What was chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Choice {
    preset: &'static str,
    reason: String,
    worker_cores: Vec<usize>,
    accelerator: String,
}

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let machine = look();
    let choice = choose(&machine, affinity::beside_caller());
    if arguments.json {
        let report = serde_json::json!({ "machine": machine, "choice": choice });
        return line(serde_json::to_string(&report).map_err(Failure::because)?);
    }
    let list = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    line(format_args!("architecture      {} ({})", machine.architecture, machine.instruction_sets.join(" ")))?;
    line(format_args!("cores             {} that may be used: {:?}", machine.cores.len(), machine.cores))?;
    line(format_args!("memory            {} MiB", machine.memory_mib))?;
    line(format_args!("clocksource       {}", machine.clocksource))?;
    line(format_args!("hardware clocks   {}", list(&machine.ptp_clocks)))?;
    line(format_args!("accelerators      {}", list(&machine.accelerators)))?;
    line("")?;
    line(format_args!("preset            configs/{}.toml", choice.preset))?;
    line(format_args!("because           {}", choice.reason))?;
    line(format_args!("worker's cores    {:?}", choice.worker_cores))?;
    line(format_args!("models run on     the processor: {}", choice.accelerator))
}

fn look() -> Machine {
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

fn choose(machine: &Machine, worker_cores: Vec<usize>) -> Choice {
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
            let choice = choose(&machine, Vec::new());
            assert_eq!(choice.preset, preset, "{}", choice.reason);
            let file = format!("{}/../configs/{preset}.toml", env!("CARGO_MANIFEST_DIR"));
            assert!(Path::new(&file).is_file(), "{file}");
        }
    }

    #[test]
    fn an_accelerator_is_declined_with_a_reason() {
        assert!(choose(&machine(4, 8192, false, true), Vec::new()).accelerator.contains("takes longer"));
        assert!(choose(&machine(4, 8192, false, false), Vec::new()).accelerator.contains("no accelerator"));
    }
}
