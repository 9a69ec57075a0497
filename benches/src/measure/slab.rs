//! Kernel memory: slab caches, page counts, and the TCP stack's own numbers.
//!
//! On loopback both ends of every connection live in one kernel, so that a growth seen here is
//! that of server and client together. `scenario/idle.rs` tells them apart.

use std::collections::BTreeMap;
use std::fs;

use serde::Serialize;

use super::memory::field_bytes;
use super::{MeasureError, read};

/// Bytes of a page, the unit in which slabs are allocated.
const PAGE_BYTES: u64 = 4096;

/// One slab cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slab {
    /// Objects in use.
    pub(crate) objects: u64,
    /// Bytes of one object, padding included.
    pub(crate) object_bytes: u64,
    /// Bytes of the pages that hold the cache.
    pub(crate) page_bytes: u64,
}

/// Kernel memory at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct KernelMemory {
    /// By name of the cache; `None` where `/proc/slabinfo` is closed to this user (it is root's).
    pub(crate) slabs: Option<BTreeMap<String, Slab>>,
    /// `Slab` of `/proc/meminfo`: all pages of all caches, in bytes.
    pub(crate) slab_bytes: u64,
    /// `PageTables` of `/proc/meminfo`, in bytes.
    pub(crate) page_table_bytes: u64,
    /// The TCP line of `/proc/net/sockstat`.
    pub(crate) tcp: SocketCounts,
}

/// TCP sockets of this host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct SocketCounts {
    /// Connected or listening.
    pub(crate) in_use: u64,
    /// Closed by their process and still speaking.
    pub(crate) orphans: u64,
    /// In TIME_WAIT.
    pub(crate) time_wait: u64,
    /// Allocated, in whatever state.
    pub(crate) allocated: u64,
    /// Pages of queued data.
    pub(crate) pages: u64,
}

impl KernelMemory {
    /// Reads `/proc/slabinfo`, `/proc/meminfo` and `/proc/net/sockstat`.
    ///
    /// # Errors
    /// One of the last two is missing.
    pub(crate) fn read() -> Result<Self, MeasureError> {
        let information = read("/proc/meminfo")?;
        let field = |name, field| {
            field_bytes(&information, name).ok_or(MeasureError::Format { path: "/proc/meminfo".into(), field })
        };
        Ok(Self {
            slabs: read("/proc/slabinfo").ok().map(|text| parse_slabinfo(&text)),
            slab_bytes: field("Slab:", "Slab")?,
            page_table_bytes: field("PageTables:", "PageTables")?,
            tcp: SocketCounts::read()?,
        })
    }
}

impl SocketCounts {
    /// Reads `/proc/net/sockstat`.
    ///
    /// # Errors
    /// The file is missing or has no TCP line.
    pub(crate) fn read() -> Result<Self, MeasureError> {
        Self::parse(&read("/proc/net/sockstat")?)
            .ok_or(MeasureError::Format { path: "/proc/net/sockstat".into(), field: "TCP line" })
    }

    fn parse(text: &str) -> Option<Self> {
        let line = text.lines().find_map(|line| line.strip_prefix("TCP:"))?;
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let value = |name| {
            let at = fields.iter().position(|field| *field == name)?;
            fields.get(at + 1)?.parse().ok()
        };
        Some(Self {
            in_use: value("inuse")?,
            orphans: value("orphan")?,
            time_wait: value("tw")?,
            allocated: value("alloc")?,
            pages: value("mem")?,
        })
    }
}

/// Version 2.1: name, active objects, objects, object size, objects per slab, pages per slab,
/// then after `slabdata` active slabs and slabs (slabinfo(5)). Lines that differ are skipped.
fn parse_slabinfo(text: &str) -> BTreeMap<String, Slab> {
    text.lines()
        .filter(|line| !line.starts_with('#') && !line.starts_with("slabinfo"))
        .filter_map(|line| {
            let mut sections = line.split(':');
            let mut fields = sections.next()?.split_ascii_whitespace();
            let name = fields.next()?.to_owned();
            let [objects, _, object_bytes, _, pages_per_slab] = numbers(&mut fields)?;
            let mut data = sections.nth(1)?.split_ascii_whitespace().skip(1);
            let [_, slabs] = numbers(&mut data)?;
            Some((name, Slab { objects, object_bytes, page_bytes: slabs * pages_per_slab * PAGE_BYTES }))
        })
        .collect()
}

/// The next `N` fields as numbers.
fn numbers<'text, const N: usize>(fields: &mut impl Iterator<Item = &'text str>) -> Option<[u64; N]> {
    let mut values = [0; N];
    for value in &mut values {
        *value = fields.next()?.parse().ok()?;
    }
    Some(values)
}

/// Which caches the kernel has merged: `/proc/slabinfo` shows one name for all of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Aliases(BTreeMap<String, Vec<String>>);

impl Aliases {
    /// Reads `/sys/kernel/slab`, where merged caches are links to the same place. Empty where that is not there: then
    /// every cache has its own name alone.
    pub(crate) fn read() -> Self {
        let Ok(entries) = fs::read_dir("/sys/kernel/slab") else { return Self::default() };
        Self::group(entries.flatten().filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            Some((name, fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned()))
        }))
    }

    fn group(links: impl Iterator<Item = (String, String)>) -> Self {
        let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, target) in links {
            groups.entry(target).or_default().push(name);
        }
        let by_name = |names: Vec<String>| names.clone().into_iter().map(move |name| (name, names.clone()));
        Self(groups.into_values().flat_map(by_name).collect())
    }

    /// Whether objects of a cache whose name begins with `prefix` are in the cache that is shown as `name`.
    pub(crate) fn has(&self, name: &str, prefix: &str) -> bool {
        let merged = self.0.get(name).is_some_and(|names| names.iter().any(|name| name.starts_with(prefix)));
        merged || name.starts_with(prefix)
    }
}

/// Growth of one slab cache between two readings. It can be negative: other processes free too.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct SlabGrowth {
    /// The cache.
    pub(crate) name: String,
    /// Objects that were added.
    pub(crate) objects: i64,
    /// Bytes of one object.
    pub(crate) object_bytes: u64,
    /// Bytes of the added objects.
    pub(crate) bytes: i64,
    /// Bytes of the added pages: above `bytes` by the free objects on partly filled pages.
    pub(crate) page_bytes: i64,
}

/// What every cache grew by from `before` to `after`, largest first; caches that kept their size are left out.
pub(crate) fn growth(before: &BTreeMap<String, Slab>, after: &BTreeMap<String, Slab>) -> Vec<SlabGrowth> {
    let mut list: Vec<SlabGrowth> = after
        .iter()
        .filter_map(|(name, now)| {
            let then = before.get(name).copied().unwrap_or_default();
            let objects = now.objects.cast_signed() - then.objects.cast_signed();
            let page_bytes = now.page_bytes.cast_signed() - then.page_bytes.cast_signed();
            (objects != 0 || page_bytes != 0).then(|| SlabGrowth {
                name: name.clone(),
                objects,
                object_bytes: now.object_bytes,
                bytes: objects * now.object_bytes.cast_signed(),
                page_bytes,
            })
        })
        .collect();
    list.sort_by(|left, right| right.bytes.cmp(&left.bytes).then_with(|| left.name.cmp(&right.name)));
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLABINFO: &str = "\
slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> <batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>
TCP                  120    130   2368   13    8 : tunables    0    0    0 : slabdata     10     10      0
kmalloc-512         2000   2048    512   16    2 : tunables    0    0    0 : slabdata    128    128      0
broken line without numbers
";

    #[test]
    fn slabinfo_counts_objects_and_pages() {
        let slabs = parse_slabinfo(SLABINFO);
        assert_eq!(slabs.len(), 2);
        assert_eq!(slabs["TCP"], Slab { objects: 120, object_bytes: 2368, page_bytes: 10 * 8 * 4096 });
        assert_eq!(slabs["kmalloc-512"].page_bytes, 128 * 2 * 4096);
    }

    #[test]
    fn growth_is_sorted_signed_and_silent_about_what_stayed() {
        let before = parse_slabinfo(SLABINFO);
        let mut after = before.clone();
        after.insert("io_kiocb".into(), Slab { objects: 50, object_bytes: 256, page_bytes: 4 * 4096 });
        after.entry("kmalloc-512".into()).and_modify(|slab| slab.objects -= 10);
        let growth = growth(&before, &after);
        let summary: Vec<_> = growth.iter().map(|slab| (slab.name.as_str(), slab.objects, slab.bytes)).collect();
        assert_eq!(summary, [("io_kiocb", 50, 12_800), ("kmalloc-512", -10, -5_120)]);
    }

    #[test]
    fn merged_caches_are_known_by_all_their_names() {
        let links = [("eventpoll_epi", ":A-128"), ("tcp_bind_bucket", ":A-128"), ("pid", ":A-192")];
        let aliases = Aliases::group(links.into_iter().map(|(name, target)| (name.into(), target.into())));
        assert!(aliases.has("eventpoll_epi", "tcp_bind") && aliases.has("eventpoll_epi", "eventpoll_"));
        assert!(!aliases.has("pid", "tcp_bind") && aliases.has("TCP", "TCP"));
    }

    #[test]
    fn sockstat_is_read_by_name() {
        let text = "sockets: used 180\nTCP: inuse 5 orphan 1 tw 2 alloc 6 mem 3\nUDP: inuse 1 mem 0\n";
        let expected = SocketCounts { in_use: 5, orphans: 1, time_wait: 2, allocated: 6, pages: 3 };
        assert_eq!(SocketCounts::parse(text), Some(expected));
        assert_eq!(SocketCounts::parse("UDP: inuse 1 mem 0\n"), None);
    }

    #[test]
    fn this_kernel_is_readable() {
        let memory = KernelMemory::read().expect("/proc is mounted");
        assert!(memory.slab_bytes > 0 && memory.page_table_bytes > 0);
    }
}
