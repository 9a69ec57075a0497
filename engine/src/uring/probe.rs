//! What the kernel can do, asked at the start, and what is missing, named with its likely cause.

use std::fmt;
use std::io;

use io_uring::{IoUring, Probe, opcode};

use super::descriptors::{DescriptorKind, DescriptorSetting, direct_descriptors_are_released};

/// Why a data ring can't be had, and what mends it.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The kernel is too old.
    #[error("kernel {0} is too old: Crore needs Linux 6.1 or newer (deferred task work, single issuer)")]
    KernelTooOld(KernelRelease),
    /// io_uring is switched off.
    #[error(
        "io_uring is not permitted here ({0}): set the sysctl kernel.io_uring_disabled to 0, or allow io_uring_setup, \
         io_uring_enter and io_uring_register in the seccomp profile of the container"
    )]
    NotPermitted(io::Error),
    /// There is no io_uring in this kernel, or a filter hides it.
    #[error(
        "the kernel answers `no such system call` to io_uring_setup: it was built without CONFIG_IO_URING, or seccomp hides it"
    )]
    Missing,
    /// Locked or plain memory has run out.
    #[error(
        "no memory for the ring ({0}): raise RLIMIT_MEMLOCK (`LimitMEMLOCK=infinity` in a systemd unit) or the cgroup's memory limit"
    )]
    NoMemory(io::Error),
    /// The process has too many open files.
    #[error(
        "no descriptor is left for the ring ({0}): raise RLIMIT_NOFILE (`ulimit -n`, `LimitNOFILE=` in a systemd unit)"
    )]
    NoDescriptor(io::Error),
    /// The kernel lacks an operation.
    #[error("kernel {release} has no io_uring operation `{operation}`: Crore needs Linux 6.1 or newer")]
    OperationMissing {
        /// The running kernel.
        release: KernelRelease,
        /// The operation's name.
        operation: &'static str,
    },
    /// Direct descriptors were asked for, and this kernel leaks them.
    #[error(
        "descriptors = \"direct\" needs Linux 6.13 or newer: kernel {0} keeps a closed direct descriptor for as long as any \
         other request is in flight; use \"auto\" or \"regular\""
    )]
    DirectDescriptorsLeak(KernelRelease),
    /// Anything else.
    #[error("io_uring can't be set up: {0}")]
    Other(#[from] io::Error),
}

impl SetupError {
    /// Sorts what `io_uring_setup(2)` and `io_uring_register(2)` answer.
    pub(super) fn from_setup(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::NotPermitted(error),
            Some(libc::ENOSYS) => Self::Missing,
            Some(libc::ENOMEM) => Self::NoMemory(error),
            Some(libc::EMFILE | libc::ENFILE) => Self::NoDescriptor(error),
            Some(libc::EINVAL) => match KernelRelease::running() {
                release if release < KernelRelease::MINIMUM => Self::KernelTooOld(release),
                _ => Self::Other(error),
            },
            _ => Self::Other(error),
        }
    }
}

/// The first two numbers of a kernel release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelRelease {
    major: u32,
    minor: u32,
}

impl KernelRelease {
    /// The oldest kernel that Crore runs on.
    pub const MINIMUM: Self = Self { major: 6, minor: 1 };

    /// The running kernel, from `uname(2)`.
    #[must_use]
    pub fn running() -> Self {
        Self::parse(&rustix::system::uname().release().to_string_lossy())
    }

    /// The release in a text such as `6.12.9+deb12-amd64`; what is no number counts as 0.
    #[must_use]
    pub fn parse(release: &str) -> Self {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
        Self { major: numbers.next().unwrap_or(0), minor: numbers.next().unwrap_or(0) }
    }

    /// The first number.
    #[must_use]
    pub const fn major(self) -> u32 {
        self.major
    }

    /// The second number.
    #[must_use]
    pub const fn minor(self) -> u32 {
        self.minor
    }
}

impl fmt::Display for KernelRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What the kernel offers, as far as Crore makes use of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// The running kernel.
    pub release: KernelRelease,
    /// The kind of descriptor that the rings will use.
    pub descriptors: DescriptorKind,
    /// Rings without an array of indices (Linux 6.6): one cache line less per submission.
    pub no_submission_array: bool,
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "deferred task work, multishot accept and receive, provided buffers, {} descriptors",
            self.descriptors
        )?;
        if self.no_submission_array {
            write!(f, ", no submission array")?;
        }
        Ok(())
    }
}

/// Asks the kernel for everything that the data ring needs.
///
/// # Errors
/// Something that Crore can't do without is missing; the error says what and why.
pub fn probe(setting: DescriptorSetting) -> Result<Features, SetupError> {
    let release = KernelRelease::running();
    let operations = ask_for_operations()?;
    if release < KernelRelease::MINIMUM {
        return Err(SetupError::KernelTooOld(release));
    }
    for (code, operation) in NEEDED {
        if !operations.is_supported(code) {
            return Err(SetupError::OperationMissing { release, operation });
        }
    }
    let descriptors = match setting {
        DescriptorSetting::Regular => DescriptorKind::Regular,
        DescriptorSetting::Auto | DescriptorSetting::Direct => match (direct_descriptors_are_released()?, setting) {
            (true, _) => DescriptorKind::Direct,
            (false, DescriptorSetting::Direct) => return Err(SetupError::DirectDescriptorsLeak(release)),
            (false, _) => DescriptorKind::Regular,
        },
    };
    Ok(Features { release, descriptors, no_submission_array: has_no_submission_array() })
}

/// One thing that the data ring makes use of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// What it is: a property of rings, or an operation such as `recv`.
    pub name: &'static str,
    /// Whether there is no server without it.
    pub needed: bool,
    /// Whether the kernel has it.
    pub present: bool,
}

/// Asks the kernel for each thing that the data ring makes use of, needed or not: [`probe`] for people who
/// want to see all of it.
///
/// # Errors
/// No ring can be set up, so that there is nothing to ask.
pub fn capabilities() -> Result<Vec<Capability>, SetupError> {
    let operations = ask_for_operations()?;
    let optional = |name, present| Capability { name, needed: false, present };
    let mut all = vec![Capability { name: "single issuer, deferred task work", needed: true, present: true }];
    all.extend(NEEDED.map(|(code, name)| Capability { name, needed: true, present: operations.is_supported(code) }));
    all.push(optional("direct descriptors that are released", direct_descriptors_are_released()?));
    all.push(optional("rings without a submission array", has_no_submission_array()));
    Ok(all)
}

/// Sets up a small ring with the flags of the data ring, and asks for the operations that it has.
fn ask_for_operations() -> Result<Probe, SetupError> {
    let ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .build(4)
        .map_err(SetupError::from_setup)?;
    let mut operations = Probe::new();
    ring.submitter().register_probe(&mut operations).map_err(SetupError::from_setup)?;
    Ok(operations)
}

fn has_no_submission_array() -> bool {
    IoUring::<io_uring::squeue::Entry>::builder().setup_no_sqarray().build(4).is_ok()
}

const NEEDED: [(u8, &str); 8] = [
    (opcode::AcceptMulti::CODE, "accept"),
    (opcode::PollAdd::CODE, "poll"),
    (opcode::RecvMulti::CODE, "recv"),
    (opcode::Send::CODE, "send"),
    (opcode::Shutdown::CODE, "shutdown"),
    (opcode::Close::CODE, "close"),
    (opcode::AsyncCancel::CODE, "cancel"),
    (opcode::Timeout::CODE, "timeout"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read_and_compared() {
        assert_eq!(KernelRelease::parse("6.12.9+deb12-amd64"), KernelRelease { major: 6, minor: 12 });
        assert_eq!(KernelRelease::parse("7.0-rc1"), KernelRelease { major: 7, minor: 0 });
        assert!(KernelRelease::parse("5.15.0") < KernelRelease::MINIMUM);
        assert!(KernelRelease::parse("6.1.0") >= KernelRelease::MINIMUM);
        assert_eq!((KernelRelease::MINIMUM.major(), KernelRelease::MINIMUM.minor()), (6, 1));
    }

    #[test]
    fn this_kernel_is_good_enough_for_the_tests() {
        let features = probe(DescriptorSetting::Auto).unwrap();
        assert!(features.release >= KernelRelease::MINIMUM);
        assert_eq!(probe(DescriptorSetting::Regular).unwrap().descriptors, DescriptorKind::Regular);
    }

    #[test]
    fn what_can_be_shown_agrees_with_what_is_used() {
        let all = capabilities().unwrap();
        assert!(all.iter().filter(|one| one.needed).all(|one| one.present), "{all:?}");
        let released = all.iter().find(|one| one.name.starts_with("direct")).unwrap().present;
        assert_eq!(released, probe(DescriptorSetting::Auto).unwrap().descriptors == DescriptorKind::Direct);
    }

    #[test]
    fn refusals_say_what_to_do() {
        let error = |errno| SetupError::from_setup(io::Error::from_raw_os_error(errno)).to_string();
        assert!(error(libc::EPERM).contains("kernel.io_uring_disabled"));
        assert!(error(libc::ENOMEM).contains("RLIMIT_MEMLOCK"));
        assert!(error(libc::EMFILE).contains("RLIMIT_NOFILE"));
        assert!(error(libc::ENOSYS).contains("CONFIG_IO_URING"));
    }
}
