//! Taking rights away from this process for good: Landlock for the file system and the network, seccomp for system calls.

use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetStatus, Scope};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use serde::{Deserialize, Serialize};

/// How much of a protection the kernel granted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grant {
    /// None: the kernel does not know it or refused it.
    #[default]
    None,
    /// Some of it: an older kernel.
    Partial,
    /// All of it.
    Full,
}

/// What [`seal`] achieved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// No access to any file, no TCP, no signals or abstract sockets beyond this process.
    pub landlock: Grant,
    /// Only the system calls of a process that computes, reads and writes open descriptors, and ends.
    pub seccomp: Grant,
}

/// Seals the calling thread, and with it a process that has only this one. Nothing undoes it.
///
/// Afterwards opening a file or a socket, starting a process or thread, and mapping executable memory end the process with
/// SIGSYS. What the kernel cannot do is left out and shows in the result.
pub fn seal() -> Sandbox {
    Sandbox { landlock: restrict_files().unwrap_or_default(), seccomp: restrict_calls().unwrap_or_default() }
}

fn restrict_files() -> Option<Grant> {
    // All that is handled and not allowed by a rule is denied; there are no rules. Older kernels leave out what they lack.
    let abi = ABI::V6;
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(abi))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(abi)))
        .and_then(|rules| rules.scope(Scope::AbstractUnixSocket | Scope::Signal))
        .and_then(Ruleset::create)
        .and_then(landlock::RulesetCreated::restrict_self)
        .ok()?;
    Some(match status.ruleset {
        RulesetStatus::FullyEnforced => Grant::Full,
        RulesetStatus::PartiallyEnforced => Grant::Partial,
        RulesetStatus::NotEnforced => Grant::None,
    })
}

fn restrict_calls() -> Option<Grant> {
    let program: BpfProgram = filter(SeccompAction::KillProcess).ok()?.try_into().ok()?;
    seccompiler::apply_filter(&program).ok()?;
    Some(Grant::Full)
}

/// What is not allowed meets with `refusal`.
fn filter(refusal: SeccompAction) -> Result<SeccompFilter, seccompiler::BackendError> {
    let free = [
        // Descriptors that are open already.
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_ppoll,
        libc::SYS_close,
        // Memory; mapping and protecting are below.
        libc::SYS_brk,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_madvise,
        // Time, waiting, randomness for hash maps.
        libc::SYS_clock_gettime,
        libc::SYS_clock_nanosleep,
        libc::SYS_nanosleep,
        libc::SYS_restart_syscall,
        libc::SYS_sched_yield,
        libc::SYS_futex,
        libc::SYS_getrandom,
        // Panicking, aborting, ending.
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
        libc::SYS_getpid,
        libc::SYS_gettid,
        libc::SYS_getppid,
        libc::SYS_exit,
        libc::SYS_exit_group,
    ];
    #[cfg(target_arch = "x86_64")]
    let old = [libc::SYS_poll];
    #[cfg(not(target_arch = "x86_64"))]
    let old: [libc::c_long; 0] = [];
    let mut rules: std::collections::BTreeMap<i64, Vec<SeccompRule>> =
        free.into_iter().chain(old).map(|call| (call, Vec::new())).collect();
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        // The third argument is the protection: anything but executable.
        let not_executable = SeccompCondition::new(
            2,
            SeccompCmpArgLen::Dword,
            SeccompCmpOp::MaskedEq(libc::PROT_EXEC.unsigned_abs().into()),
            0,
        )?;
        rules.insert(call, vec![SeccompRule::new(vec![not_executable])?]);
    }
    // Aborting is a signal to oneself; nobody else is sent one.
    let to_oneself = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, std::process::id().into())?;
    rules.insert(libc::SYS_tgkill, vec![SeccompRule::new(vec![to_oneself])?]);
    // Whether a descriptor is open: the standard library asks before it closes one when it checks itself (debug builds).
    let is_open =
        SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, libc::F_GETFD.unsigned_abs().into())?;
    rules.insert(libc::SYS_fcntl, vec![SeccompRule::new(vec![is_open])?]);
    #[cfg(target_arch = "x86_64")]
    {
        // Processors with a matrix unit lend it on request (ARCH_GET_XCOMP_SUPP, _PERM, ARCH_REQ_XCOMP_PERM), and the inference library
        // asks for it before its first product. The other uses of the call move the thread's own segments.
        const MATRIX_UNIT: std::ops::RangeInclusive<u64> = 0x1021..=0x1023;
        let asked = |code| {
            SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, code)
                .and_then(|condition| SeccompRule::new(vec![condition]))
        };
        rules.insert(libc::SYS_arch_prctl, MATRIX_UNIT.map(asked).collect::<Result<_, _>>()?);
    }
    SeccompFilter::new(rules, refusal, SeccompAction::Allow, std::env::consts::ARCH.try_into()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_compiles_for_this_machine() {
        let compiled: Result<BpfProgram, _> = filter(SeccompAction::KillProcess)
            .map_err(|e| e.to_string())
            .and_then(|f| f.try_into().map_err(|e: seccompiler::BackendError| e.to_string()));
        assert!(compiled.is_ok_and(|program| !program.is_empty()));
    }

    #[test]
    #[expect(unsafe_code, reason = "the call that the filter is about")]
    fn signals_reach_nobody_else() {
        // No call gives this by itself.
        let refused = libc::EXFULL;
        let program: BpfProgram =
            filter(SeccompAction::Errno(refused.unsigned_abs())).and_then(BpfProgram::try_from).unwrap();
        let signal_nothing = |process: u32, thread: i64| {
            // SAFETY: signal 0 is not delivered; whether it could be is all that is asked.
            let answer = unsafe { libc::syscall(libc::SYS_tgkill, process, thread, 0) };
            if answer == 0 { 0 } else { std::io::Error::last_os_error().raw_os_error().unwrap_or(-1) }
        };
        let sealed = || {
            // Of this thread alone, which ends with it.
            seccompiler::apply_filter(&program).map_err(|error| error.to_string())?;
            // SAFETY: asks for a number.
            let own = unsafe { libc::syscall(libc::SYS_gettid) };
            Ok::<_, String>([
                signal_nothing(std::process::id(), own),
                signal_nothing(std::os::unix::process::parent_id(), 1),
            ])
        };
        let answers = std::thread::scope(|scope| scope.spawn(sealed).join().unwrap());
        assert_eq!(answers, Ok([0, refused]));
    }
}
