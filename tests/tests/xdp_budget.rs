//! What the datapath's maps take of the kernel's memory. It is taken at the start, for as many virtual
//! hosts as there can be.

use anyhow::Result;
use aya::EbpfLoader;
use carp_user::io::bpf::OBJECT;
use std::fs;

/// Of all maps together, but for what is kept once for each CPU: 3.8 MiB are the keys of 4096 virtual hosts, 1 MiB
/// 16384 addresses.
const BUDGET: u64 = 8 << 20;
/// For each CPU that there may be.
const BUDGET_OF_A_CPU: u64 = 1 << 20;
/// `BPF_MAP_TYPE_RINGBUF` of linux/bpf.h.
const RING_BUFFER: u64 = 27;

/// Of the object: what the kernel is given, and nothing that only a debugger reads.
const OBJECT_BUDGET: usize = 1 << 20;

#[test]
fn the_object_is_as_short_as_what_the_kernel_is_given() {
    assert!(OBJECT.len() <= OBJECT_BUDGET, "{} bytes", OBJECT.len());
}

#[test]
fn the_maps_stay_within_their_budget() -> Result<()> {
    let ebpf = EbpfLoader::new().load(OBJECT)?;
    let taken = memory_of_open_maps()?;
    let cpus = u64::try_from(aya::util::nr_cpus().map_err(|(_, error)| error)?)?;
    let (sum, budget) = (taken.iter().sum::<u64>(), BUDGET + cpus * BUDGET_OF_A_CPU);
    println!("{sum} of {budget} bytes, on {cpus} CPUs: {taken:?}");
    assert_eq!(taken.len(), ebpf.maps().count(), "every map, and only ours, is open here");
    assert!(taken.iter().all(|bytes| *bytes > 0), "the kernel tells: {taken:?}");
    assert!(sum <= budget, "the maps take {sum} bytes, {budget} are planned: {taken:?}");
    Ok(())
}

/// As the kernel reckons it, for each map that this process has open. From 5.11 to 6.3 it reckons nothing for a ring
/// buffer, which takes its size at least.
fn memory_of_open_maps() -> Result<Vec<u64>> {
    let infos = fs::read_dir("/proc/self/fdinfo")?.flatten();
    let infos = infos.filter_map(|entry| fs::read_to_string(entry.path()).ok());
    let number = |info: &str, key: &str| -> Option<u64> {
        info.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok())
    };
    let taken = |info: String| {
        let size = match number(&info, "map_type:")? {
            RING_BUFFER => number(&info, "max_entries:")?,
            _ => 0,
        };
        Some(number(&info, "memlock:")?.max(size))
    };
    Ok(infos.filter_map(taken).collect())
}
