//! The doctor on hosts that are made up: a tree of files, and an answer of io_uring.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crore_engine::uring::{Capability, DescriptorKind, DescriptorSetting, Features, KernelRelease, SetupError};

use super::host::{Host, Uring};
use super::knobs::Role;
use super::report::{Check, Report, Verdict};
use super::{Examination, Question};
use crore_engine::Limits;

/// A tree of files that goes when the test ends.
struct FakeHost {
    root: PathBuf,
    uring: Result<Uring, SetupError>,
}

impl Drop for FakeHost {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn works(kind: DescriptorKind, release: &str) -> Result<Uring, SetupError> {
    let features = Features { release: KernelRelease::parse(release), descriptors: kind, no_submission_array: true };
    let capability = |name, needed, present| Capability { name, needed, present };
    Ok(Uring { features, capabilities: vec![capability("accept", true, true), capability("extra", false, false)] })
}

/// A process with so many descriptors and so much locked memory, soft and hard.
fn limits(descriptors: &str, locked: &str) -> String {
    format!(
        "Limit                     Soft Limit           Hard Limit           Units     \n\
         Max open files            {descriptors}     files     \n\
         Max locked memory         {locked}     bytes     \n"
    )
}

/// No capability, and those of root.
const NOBODY: &str = "Gid:\t1000\t1000\t1000\t1000\nGroups:\t27 990\nSeccomp:\t0\nCapEff:\t0000000000000000\n";
const ROOT: &str = "Gid:\t0\t0\t0\t0\nGroups:\t\nSeccomp:\t0\nCapEff:\t000001ffffffffff\n";

impl FakeHost {
    /// A host of 64 GiB that is ready for a million connections on 16 cores with direct descriptors.
    fn ready() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("crore-doctor-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let host = Self { root: std::env::temp_dir().join(name), uring: works(DescriptorKind::Direct, "6.18") };
        host.put("proc/self/limits", &limits("131072 131072", "67108864 67108864"))
            .put("proc/self/status", NOBODY)
            .put("proc/self/cgroup", "0::/system.slice/crore.service\n")
            .put("proc/meminfo", "MemTotal:       67108864 kB\nMemAvailable:   62914560 kB\n")
            .put("proc/sys/kernel/osrelease", "6.18.44\n")
            .put("proc/sys/kernel/io_uring_disabled", "0\n")
            .put("proc/sys/kernel/io_uring_group", "-1\n")
            .put("proc/sys/fs/nr_open", "1073741816\n")
            .put("proc/sys/fs/file-max", "9223372036854775807\n")
            .put("proc/sys/fs/file-nr", "1024\t0\t9223372036854775807\n")
            .put("proc/sys/net/core/somaxconn", "65535\n")
            .put("proc/sys/net/ipv4/tcp_syncookies", "1\n")
            .put("proc/sys/net/ipv4/tcp_max_syn_backlog", "128\n")
            .put("proc/sys/net/ipv4/tcp_mem", "1000000\t1250000\t1500000\n")
            .put("proc/sys/net/ipv4/tcp_max_orphans", "1000000\n")
            .put("proc/sys/net/ipv4/tcp_max_tw_buckets", "1000000\n")
            .put("proc/sys/net/ipv4/tcp_ehash_entries", "524288\n")
            .put("proc/sys/net/ipv4/tcp_congestion_control", "cubic\n")
            .put("proc/sys/net/ipv4/ip_local_port_range", "1024\t65535\n")
            .put("proc/sys/net/ipv4/ip_local_reserved_ports", "8080\n")
            .put("sys/fs/cgroup/system.slice/memory.max", "max\n");
        host
    }

    fn put(&self, path: &str, text: &str) -> &Self {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn ask(mut self, question: Question) -> Report {
        let uring = std::mem::replace(&mut self.uring, Err(SetupError::Missing));
        let host = Host::new(self.root.clone(), uring);
        Examination::new(question, &host).report().unwrap()
    }

    fn report(self) -> Report {
        self.ask(million())
    }
}

fn million() -> Question {
    Question {
        connections: 1_000_000,
        role: Role::Server,
        cores: 16,
        descriptors: DescriptorSetting::Auto,
        listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
        limits: Limits::default(),
    }
}

fn check<'r>(report: &'r Report, name: &str) -> &'r Check {
    report.checks.iter().find(|check| check.name == name).unwrap_or_else(|| panic!("{name} is not in {report}"))
}

/// What a host with one file more, or another one, gets for one knob; nothing else may change.
#[track_caller]
fn judged(path: &str, text: &str, name: &str, verdict: Verdict) -> Check {
    let host = FakeHost::ready();
    host.put(path, text);
    let report = host.report();
    let others: Vec<_> =
        report.checks.iter().filter(|check| check.name != name && check.verdict != Verdict::Pass).collect();
    assert!(others.is_empty(), "{others:?}");
    assert_eq!(report.verdict, verdict);
    let check = check(&report, name).clone();
    assert_eq!(check.verdict, verdict, "{check:?}");
    check
}

#[test]
fn a_host_that_is_ready_passes() {
    let report = FakeHost::ready().report();
    assert_eq!(report.verdict, Verdict::Pass, "{report}");
    assert_eq!(report.verdict.exit_code(), 0);
    // 16 rings with 131,072 slots, of which 256 are spare.
    assert_eq!(report.connections_max, 16 * (131_072 - 256));
    assert_eq!(report.bounds[0].name, "nofile");
    assert!(report.to_string().contains("As it is, this host holds 2,093,056 connections: nofile binds, then"));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["verdict"], "PASS");
    assert_eq!(json["connections_max"], 2_093_056);
    assert_eq!(json["host"], "server");
    assert_eq!(json["checks"][0]["where"], "rlimit");
}

#[test]
fn descriptors_are_judged_by_the_engines_arithmetic() {
    let few = judged("proc/self/limits", &limits("1024 20000", "67108864 67108864"), "nofile", Verdict::Fail);
    assert_eq!(few.have, "20000 (1024 soft, 20000 hard)");
    assert_eq!(few.want, "67686");
    assert!(few.mend.unwrap().contains("prlimit --pid $$ --nofile=67686:67686"));
    // Enough for an even spread, and no more.
    let even = limits("62756 62756", "unlimited unlimited");
    assert!(judged("proc/self/limits", &even, "nofile", Verdict::Warn).mend.is_some());

    let host = FakeHost::ready();
    host.put("proc/self/limits", &limits("1024 20000", "unlimited unlimited")).put("proc/self/status", ROOT);
    let report = host.report();
    assert!(check(&report, "nofile").mend.as_ref().unwrap().starts_with("ulimit -n 67686"));
    assert_eq!(report.connections_max, 16 * (20_000 - 256));
    assert_eq!(report.bounds[1].name, "memory_budget");

    let mut host = FakeHost::ready();
    host.uring = works(DescriptorKind::Regular, "6.12");
    let report = host.report();
    assert_eq!(check(&report, "nofile").verdict, Verdict::Fail);
    assert_eq!(report.connections_max, (131_072 - 32 - 16 * 16) / 16 * 16);

    // What bounds the limit comes first.
    let mut host = FakeHost::ready();
    host.uring = works(DescriptorKind::Regular, "6.12");
    host.put("proc/sys/fs/nr_open", "1048576").put("proc/self/status", ROOT);
    let report = host.report();
    let mend = check(&report, "nofile").mend.as_ref().unwrap();
    assert!(mend.starts_with("sysctl -w fs.nr_open=1078884 && ulimit -n 1078884 "), "{mend}");

    // Past 2^20 a ring, no limit helps.
    let question = Question { connections: 20_000_000, ..million() };
    let report = FakeHost::ready().ask(question);
    let nofile = check(&report, "nofile");
    assert!(nofile.why.contains("16,773,120") && nofile.mend.as_ref().unwrap().contains("more cores"), "{nofile:?}");
}

#[test]
fn a_bound_of_the_configuration_counts() {
    let report = FakeHost::ready()
        .ask(Question { limits: Limits { connections_per_core_max: Some(1000), ..Limits::default() }, ..million() });
    assert_eq!((report.connections_max, report.bounds[0].name), (16_000, "limits.connections_per_core_max"));
}

#[test]
fn sysctls_are_compared_with_what_is_wanted() {
    use Verdict::{Fail, Pass, Warn};
    let sysctl = |name: &str, value: &str, verdict| {
        judged(&format!("proc/sys/{}", name.replace('.', "/")), value, name, verdict)
    };
    let mend = |name: &str, value: &str, verdict| sysctl(name, value, verdict).mend.unwrap();
    assert_eq!(mend("net.core.somaxconn", "4096", Warn), "sysctl -w net.core.somaxconn=65535");
    assert_eq!(
        mend("net.ipv4.tcp_mem", "100\t2000000\t300", Warn),
        "sysctl -w net.ipv4.tcp_mem='1000000 2000000 1500000'"
    );
    assert_eq!(mend("net.ipv4.tcp_max_orphans", "131072", Warn), "sysctl -w net.ipv4.tcp_max_orphans=1000000");
    assert_eq!(mend("fs.nr_open", "50000", Fail), "sysctl -w fs.nr_open=1048576");
    assert_eq!(mend("fs.nr_open", "70000", Warn), "sysctl -w fs.nr_open=1048576");
    assert_eq!(mend("fs.file-max", "1000000", Fail), "sysctl -w fs.file-max=1128036");
    assert!(mend("fs.file-max", "1002000", Warn).ends_with("=1128036"));
    assert_eq!(
        mend("net.ipv4.tcp_congestion_control", "dctcp", Warn),
        "sysctl -w net.ipv4.tcp_congestion_control=cubic"
    );
    sysctl("net.ipv4.tcp_congestion_control", "bbr", Pass);
    sysctl("fs.file-max", "18446744073709551615", Pass);
    let hash = judged("proc/sys/net/ipv4/tcp_ehash_entries", "-131072", "thash_entries", Warn);
    assert!(hash.have == "131072 chains" && hash.mend.unwrap().contains("thash_entries=250000"));
    judged("proc/sys/net/ipv4/tcp_ehash_entries", "-262144", "thash_entries", Pass);
}

#[test]
fn root_may_open_more_files_than_there_are() {
    let host = FakeHost::ready();
    host.put("proc/sys/fs/file-max", "500000").put("proc/self/status", ROOT);
    let report = host.report();
    assert_eq!(check(&report, "fs.file-max").verdict, Verdict::Warn);
    assert!(report.bounds.iter().all(|bound| bound.name != "fs.file-max"));
    let host = FakeHost::ready();
    host.put("proc/sys/fs/file-max", "500000");
    let report = host.report();
    assert_eq!((report.connections_max, report.bounds[0].name), (500_000 - 1024, "fs.file-max"));
}

#[test]
fn the_syn_backlog_counts_without_cookies() {
    assert!(check(&FakeHost::ready().report(), "net.ipv4.tcp_max_syn_backlog").have.contains("does not count"));
    let host = FakeHost::ready();
    host.put("proc/sys/net/ipv4/tcp_syncookies", "0\n");
    assert_eq!(check(&host.report(), "net.ipv4.tcp_max_syn_backlog").verdict, Verdict::Warn);
}

#[test]
fn connections_are_tracked_only_where_there_is_a_table_in_use() {
    let with = |count: &str| {
        let host = FakeHost::ready();
        host.put("proc/sys/net/netfilter/nf_conntrack_max", "262144")
            .put("proc/sys/net/netfilter/nf_conntrack_buckets", "262144")
            .put("proc/sys/net/netfilter/nf_conntrack_count", count);
        host.report()
    };
    const NAME: &str = "net.netfilter.nf_conntrack_max";
    assert!(FakeHost::ready().report().checks.iter().all(|check| check.name != NAME));
    assert_eq!(check(&with("0"), NAME).verdict, Verdict::Warn);
    let report = with("144");
    assert_eq!(check(&report, NAME).verdict, Verdict::Fail);
    assert_eq!(check(&report, NAME).mend.as_deref(), Some("sysctl -w net.netfilter.nf_conntrack_max=1250000"));
    assert_eq!((report.connections_max, report.bounds[0].name), (262_000, NAME));
}

#[test]
fn memory_is_that_of_the_host_and_of_every_cgroup_above() {
    use Verdict::{Fail, Warn};
    let meminfo = |available| format!("MemTotal:       67108864 kB\nMemAvailable:   {available} kB\n");
    // 4,400,000,000 bytes for the connections, and 8 MiB for each of 16 cores: 4.22 GiB.
    let with = |available| {
        let host = FakeHost::ready();
        host.put("proc/meminfo", &meminfo(available));
        host.report()
    };
    assert_eq!(check(&with(5_920_000), "memory").verdict, Verdict::Pass);
    assert_eq!(check(&with(5_000_000), "memory").verdict, Warn);
    let report = with(4_000_000);
    let short = check(&report, "memory");
    assert_eq!((short.verdict, short.have.as_str(), short.want.as_str()), (Fail, "3.81 GiB", "5.63 GiB"));
    // What the server takes of it binds before.
    assert_eq!(report.bounds[0].name, "memory_budget");
    let memory = report.bounds.iter().find(|bound| bound.name == "memory").unwrap();
    assert_eq!(memory.connections, (4_000_000 * 1024 - 16 * 8_388_608) / 4400);

    let host = FakeHost::ready();
    host.put("sys/fs/cgroup/system.slice/memory.max", "3000000000\n")
        .put("sys/fs/cgroup/system.slice/memory.current", "1000000000\n")
        .put("sys/fs/cgroup/system.slice/memory.stat", "anon 5\ninactive_file 500000000\n")
        .put("sys/fs/cgroup/system.slice/crore.service/memory.max", "9000000000\n")
        .put("sys/fs/cgroup/system.slice/crore.service/memory.current", "10\n");
    let report = host.report();
    assert_eq!(check(&report, "cgroup").verdict, Fail);
    assert_eq!(check(&report, "cgroup").have, "2.33 GiB");
    let cgroup = report.bounds.iter().find(|bound| bound.name == "cgroup").unwrap();
    assert_eq!(cgroup.connections, (2_500_000_000 - 16 * 8_388_608) / 4400);

    // The first version of cgroups.
    let host = FakeHost::ready();
    host.put("proc/self/cgroup", "5:cpu:/x\n4:memory:/box\n0::/\n")
        .put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
        .put("sys/fs/cgroup/memory/memory.usage_in_bytes", "1\n")
        .put("sys/fs/cgroup/memory/box/memory.limit_in_bytes", "2147483648\n")
        .put("sys/fs/cgroup/memory/box/memory.usage_in_bytes", "0\n");
    assert_eq!(check(&host.report(), "cgroup").have, "2.00 GiB");
}

/// The engine itself says what the budget holds.
#[test]
fn the_servers_budget_is_computed_as_the_engine_does() {
    use Verdict::{Fail, Pass, Warn};
    let with = |budget| {
        let limits = Limits { memory_budget_bytes: budget, ..Limits::default() };
        let question = Question { limits: limits.clone(), ..million() };
        let host = FakeHost::ready();
        let fake = Host::new(host.root.clone(), works(DescriptorKind::Direct, "6.18"));
        let room = Examination::new(question.clone(), &fake).resources().room(&limits);
        let report = host.ask(question);
        let bound = report.bounds.iter().find(|bound| bound.name == "memory_budget").unwrap();
        if room.bound == crore_engine::Bound::Memory {
            assert_eq!(
                (bound.connections, report.connections_max),
                (u64::from(room.connections_per_core_max) * 16, bound.connections)
            );
        }
        (check(&report, "memory_budget").clone(), bound.connections)
    };
    let (check, connections) = with(Some(1 << 30));
    assert_eq!((check.verdict, check.have.as_str()), (Fail, "1.00 GiB (as it is set)"));
    // 15/16 of it, without the receive buffers of 16 cores, by 4.1 KB and the server's part.
    assert!((230_000..240_000).contains(&connections), "{connections}");
    let mend = check.mend.unwrap();
    assert!(mend.starts_with("export CRORE_MEMORY_BUDGET=4613MiB   # "), "{mend}");
    assert_eq!(with(Some(4_613 << 20)).0.verdict, Pass);
    assert_eq!(with(Some(4_500 << 20)).0.verdict, Warn);
    let (check, _) = with(None);
    assert_eq!((check.verdict, check.have.as_str()), (Pass, "48.00 GiB (80 % of what there is)"));
}

#[test]
fn locked_memory_counts_from_linux_6_14_on() {
    let default = limits("131072 131072", "3145728 3145728");
    let short = judged("proc/self/limits", &default, "memlock", Verdict::Fail);
    assert!(short.mend.unwrap().starts_with("ulimit -l 8192 "));
    judged("proc/self/limits", &limits("131072 131072", "4194304 4194304"), "memlock", Verdict::Warn);
    let older = FakeHost::ready();
    older.put("proc/self/limits", &default).put("proc/sys/kernel/osrelease", "6.13.1");
    assert_eq!(check(&older.report(), "memlock").verdict, Verdict::Pass);
    let root = FakeHost::ready();
    root.put("proc/self/limits", &default).put("proc/self/status", ROOT);
    assert!(check(&root.report(), "memlock").have.contains("exempt"));
}

#[test]
fn io_uring_that_is_switched_off_is_named() {
    let refused = |disabled: &str, status: &str, group: &str| {
        let mut host = FakeHost::ready();
        host.uring = Err(SetupError::NotPermitted(io::Error::from_raw_os_error(1)));
        host.put("proc/sys/kernel/io_uring_disabled", disabled)
            .put("proc/sys/kernel/io_uring_group", group)
            .put("proc/self/status", status);
        let report = host.report();
        assert_eq!((report.verdict, report.connections_max), (Verdict::Fail, 0));
        assert!(check(&report, "io_uring").why.contains("kernel.io_uring_disabled"));
        let verdict = |name| check(&report, name).verdict;
        (verdict("kernel.io_uring_disabled"), verdict("seccomp"))
    };
    use Verdict::{Fail, Pass};
    assert_eq!(refused("2", NOBODY, "-1"), (Fail, Pass));
    assert_eq!(refused("1", NOBODY, "991"), (Fail, Pass));
    assert_eq!(refused("1", NOBODY, "990"), (Pass, Pass));
    assert_eq!(refused("1", ROOT, "-1"), (Pass, Pass));
    // A filter of system calls.
    let filtered = NOBODY.replace("Seccomp:\t0", "Seccomp:\t2");
    assert_eq!(refused("0", &filtered, "-1"), (Pass, Fail));
    assert_eq!(refused("2", &filtered, "-1"), (Fail, Pass));
    let host = FakeHost::ready();
    host.put("proc/self/status", &filtered);
    assert_eq!(check(&host.report(), "seccomp").have, "a filter that allows io_uring");
}

#[test]
fn the_kernel_and_each_feature_are_shown() {
    let mut host = FakeHost::ready();
    host.put("proc/sys/kernel/osrelease", "5.15.0-91-generic");
    host.uring = Err(SetupError::KernelTooOld(KernelRelease::parse("5.15")));
    let report = host.report();
    assert_eq!(check(&report, "linux").verdict, Verdict::Fail);
    assert_eq!(report.descriptors, "regular");
    let mut host = FakeHost::ready();
    if let Ok(uring) = &mut host.uring {
        uring.capabilities.push(Capability { name: "recv", needed: true, present: false });
    }
    let report = host.report();
    assert_eq!(check(&report, "io_uring: accept").verdict, Verdict::Pass);
    assert_eq!(check(&report, "io_uring: extra").verdict, Verdict::Pass);
    assert_eq!(check(&report, "io_uring: recv").verdict, Verdict::Fail);
}

#[test]
fn the_other_end_needs_ports() {
    let load = || Question { role: Role::Load, ..million() };
    let host = FakeHost::ready();
    host.put("proc/self/limits", &limits("1001280 1001280", "unlimited unlimited"));
    let report = host.ask(load());
    assert_eq!(report.verdict, Verdict::Pass, "{report}");
    assert!(report.to_string().contains("1,000,000 connections to open"));

    let host = FakeHost::ready();
    host.put("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999")
        .put("proc/self/limits", &limits("1024 1000448", "0 0"));
    let report = host.ask(Question { listen: SocketAddr::from(([127, 0, 0, 1], 33_000)), ..load() });
    let ports = check(&report, "net.ipv4.ip_local_port_range");
    assert!(ports.verdict == Verdict::Warn && ports.why.contains("28,232 ports, 36 source addresses"), "{ports:?}");
    let reserved = check(&report, "net.ipv4.ip_local_reserved_ports");
    assert_eq!(reserved.mend.as_deref(), Some("sysctl -w net.ipv4.ip_local_reserved_ports=8080,33000"));
    // The hard limit counts: crore-bench raises its soft one.
    assert_eq!(check(&report, "nofile").verdict, Verdict::Warn);
    assert_eq!(report.connections_max, 1_000_448 - 256);

    let host = FakeHost::ready();
    host.put("proc/sys/net/ipv4/ip_local_reserved_ports", "22,8000-8100");
    assert_eq!(check(&host.ask(load()), "net.ipv4.ip_local_reserved_ports").verdict, Verdict::Pass);
    let host = FakeHost::ready();
    host.put("proc/sys/net/ipv4/ip_local_reserved_ports", "\n");
    let outside = host.ask(Question { listen: SocketAddr::from(([127, 0, 0, 1], 443)), ..load() });
    assert_eq!(check(&outside, "net.ipv4.ip_local_reserved_ports").verdict, Verdict::Pass);
}

#[test]
fn both_ends_on_one_host_take_twice_its_files_and_its_memory() {
    let both = Question { role: Role::Both, cores: 2, connections: 40_000, ..million() };
    let ask = |host: FakeHost| host.ask(both.clone());
    let host = FakeHost::ready();
    host.put("proc/sys/fs/file-max", "61024").put("proc/meminfo", "MemTotal: 1048576 kB\nMemAvailable: 900000 kB\n");
    let report = ask(host);
    assert!(report.to_string().contains("40,000 connections to accept and to open"), "{report}");
    // 1,024 files are open, and each connection takes two.
    assert_eq!((report.connections_max, report.bounds[0].name), (30_000, "fs.file-max"));
    assert_eq!(check(&report, "fs.file-max").mend.as_deref(), Some("sysctl -w fs.file-max=150536"));
    let memory = report.bounds.iter().find(|bound| bound.name == "memory").unwrap();
    assert_eq!(memory.connections, (900_000 * 1024 - 2 * 8_388_608) / 8800);
    assert_eq!(check(&report, "net.ipv4.ip_local_port_range").verdict, Verdict::Pass);

    // The server's descriptors are direct, 20,000 in each of two rings; those of the load are all in one.
    let host = FakeHost::ready();
    host.put("proc/self/limits", &limits("1024 20000", "unlimited unlimited"));
    let report = ask(host);
    assert_eq!((report.connections_max, report.bounds[0].name), (20_000 - 256, "nofile"));
    assert_eq!(
        (check(&report, "nofile").verdict, check(&report, "nofile (load)").verdict),
        (Verdict::Fail, Verdict::Fail)
    );
}

#[test]
fn what_keeps_nofile_from_being_raised_binds_before_it() {
    let mut host = FakeHost::ready();
    host.uring = works(DescriptorKind::Regular, "6.12");
    host.put("proc/self/limits", &limits("4096 8192", "unlimited unlimited")).put("proc/sys/fs/nr_open", "8192");
    let report = host.ask(Question { cores: 2, ..million() });
    let first: Vec<_> = report.bounds.iter().take(2).map(|bound| (bound.name, bound.connections)).collect();
    assert_eq!(first, [("fs.nr_open", 8192 - 64), ("nofile", 8192 - 64)]);
    // The table of a ring ends where the usual nr_open does, and only the one can be raised.
    let host = FakeHost::ready();
    host.put("proc/self/limits", &limits("4096 1048576", "unlimited unlimited"))
        .put("proc/sys/fs/nr_open", "1048576")
        .put("proc/meminfo", "MemTotal: 1048576000 kB\nMemAvailable: 1000000000 kB\n");
    assert_eq!(host.report().bounds[0].name, "direct_descriptors");
}

#[test]
fn a_bound_without_a_check_fails_too() {
    let mut host = FakeHost::ready();
    host.put("proc/meminfo", "MemTotal: 99048576000 kB\nMemAvailable: 90000000000 kB\n")
        .put("proc/self/limits", &limits("999999999999 999999999999", "unlimited unlimited"))
        .put("proc/sys/fs/nr_open", "999999999999");
    host.uring = works(DescriptorKind::Regular, "6.12");
    let report = host.ask(Question { connections: (1 << 28) + 1, ..million() });
    assert!(report.bounds.iter().any(|bound| (bound.name, bound.connections) == ("identifiers", 1 << 28)), "{report}");
    assert_eq!(report.verdict, Verdict::Fail, "{report}");
}

/// The scripts and the doctor want the same.
#[test]
fn a_host_passes_after_the_scripts() {
    let tuning = concat!(env!("CARGO_MANIFEST_DIR"), "/../tuning");
    for (role, script, end) in
        [(Role::Server, "apply.sh", "server"), (Role::Load, "load-client.sh", "load"), (Role::Both, "apply.sh", "both")]
    {
        let host = FakeHost::ready();
        host.put("proc/sys/fs/nr_open", "524288")
            .put("proc/sys/fs/file-max", "500000")
            .put("proc/sys/net/core/somaxconn", "128")
            .put("proc/sys/net/ipv4/tcp_mem", "1\t2\t3")
            .put("proc/sys/net/ipv4/tcp_max_orphans", "4096")
            .put("proc/sys/net/ipv4/tcp_max_tw_buckets", "4096")
            .put("proc/sys/net/netfilter/nf_conntrack_max", "4096")
            .put("proc/sys/net/netfilter/nf_conntrack_buckets", "1024")
            .put("proc/sys/net/netfilter/nf_conntrack_count", "3")
            .put("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999")
            .put("proc/sys/net/ipv4/ip_local_reserved_ports", "\n")
            .put("proc/self/limits", &limits("1001280 1001280", "unlimited unlimited"));
        let scripts = Command::new("bash")
            .arg(format!("{tuning}/{script}"))
            .args(["--connections", "1000000", "--cores", "16", "--host", end, "--root"])
            .arg(&host.root)
            .output()
            .unwrap();
        assert!(scripts.status.success(), "{}", String::from_utf8_lossy(&scripts.stderr));
        let report = host.ask(Question { role, ..million() });
        assert_eq!(report.verdict, Verdict::Pass, "{report}");
    }
}

#[test]
fn what_is_wrong_is_explained_with_what_mends_it() {
    let host = FakeHost::ready();
    host.put("proc/sys/net/core/somaxconn", "128");
    let text = host.report().to_string();
    assert!(text.contains("WARN  net.core.somaxconn"), "{text}");
    assert!(text.contains("=> sysctl -w net.core.somaxconn=65535"), "{text}");
    assert!(text.ends_with("1 warnings, 0 failures\n"), "{text}");
}
