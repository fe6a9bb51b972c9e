//! On which cores a thread runs, and how willingly the kernel gives them to it.
#![allow(unsafe_code)]

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

/// Cores that this thread may run on, ascending.
pub fn current() -> Vec<usize> {
    match sched_getaffinity(None) {
        Ok(set) => (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect(),
        Err(_) => Vec::new(),
    }
}

/// Pins this thread to `cores` and returns what the kernel made of it, which is the same.
///
/// If one of them does not exist or is not allowed, nothing changes and the error names what is missing.
pub fn pin(cores: &[usize]) -> Result<Vec<usize>, String> {
    let before = current();
    // The kernel leaves out cores that it does not have and refuses only when none is left.
    set(cores);
    let pinned = current();
    let missing: Vec<usize> = cores.iter().copied().filter(|core| !pinned.contains(core)).collect();
    if missing.is_empty() && pinned.iter().all(|core| cores.contains(core)) {
        return Ok(pinned);
    }
    set(&before);
    Err(format!("not pinned to cores {cores:?}: {missing:?} not available, allowed are {before:?}"))
}

/// Whether the kernel agrees shows in [`current`].
fn set(cores: &[usize]) {
    if let &[core] = cores
        && core < CpuSet::MAX_CPU
    {
        core_affinity::set_for_current(core_affinity::CoreId { id: core });
        return;
    }
    let mut mask = CpuSet::new();
    cores.iter().filter(|&&core| core < CpuSet::MAX_CPU).for_each(|&core| mask.set(core));
    let _ = sched_setaffinity(None, &mask);
}

/// The cores for a process beside this one: not core 0, which takes most interrupts, and not the caller's.
///
/// With too few cores the second wish is dropped first, then the first.
pub fn beside_caller() -> Vec<usize> {
    beside(&current(), sched_getcpu())
}

fn beside(allowed: &[usize], caller: usize) -> Vec<usize> {
    let without = |unwanted: &[usize]| -> Vec<usize> {
        allowed.iter().copied().filter(|core| !unwanted.contains(core)).collect()
    };
    [without(&[0, caller]), without(&[0])]
        .into_iter()
        .find(|cores| !cores.is_empty())
        .unwrap_or_else(|| allowed.to_vec())
}

/// Lowers the priority of this process: `nice` 0 to 19.
pub fn set_nice(nice: i32) -> io::Result<()> {
    Ok(rustix::process::setpriority_process(None, nice.clamp(0, 19))?)
}

/// Lets this process run only when nothing else wants the core (SCHED_IDLE).
pub fn set_idle() -> io::Result<()> {
    // SAFETY: all fields of the parameter are integers, for which zero is valid and required by this policy.
    let parameter: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: changes the scheduling of the calling thread only and reads the parameter, which outlives the call.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameter) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Gives memory that was freed back to the kernel, where the C library can.
pub fn trim_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no preconditions.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn automatic_cores_avoid_the_first_and_the_callers_while_they_can() {
        assert_eq!(beside(&[0, 1, 2, 3], 2), [1, 3]);
        assert_eq!(beside(&[0, 1], 0), [1]);
        assert_eq!(beside(&[0, 1], 1), [1]);
        assert_eq!(beside(&[0], 0), [0]);
        assert_eq!(beside(&[4, 5], 4), [5]);
    }

    #[test]
    fn a_core_that_does_not_exist_is_named() {
        let before = current();
        let refused = pin(&[100_000]);
        assert!(refused.is_err_and(|message| message.contains("[100000] not available")));
        assert_eq!(current(), before);
    }

    #[test]
    fn pinning_is_read_back() {
        let all = current();
        let last = all[all.len() - 1];
        // On a thread of its own: the pinning ends with it.
        let pinned = std::thread::spawn(move || (pin(&[last]), pin(&all))).join();
        assert!(pinned.is_ok_and(|(one, every)| one == Ok(vec![last]) && every.is_ok()));
    }
}
