//! What a machine is, drawn once from its seed, and how its moving values move with time.

use std::net::{IpAddr, Ipv4Addr};

use super::api::MachineSpec;

/// A small deterministic generator (SplitMix64). Not for secrets: only for looks.
#[derive(Clone, Debug)]
pub(super) struct Rng(u64);

impl Rng {
    /// A stream of its own for each label.
    pub(super) fn new(seed: &[u8], label: &[u8]) -> Self {
        let mut state = 0xcbf2_9ce4_8422_2325u64;
        for b in seed.iter().chain(b"/").chain(label) {
            state = (state ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3);
        }
        let mut rng = Self(state);
        rng.next();
        rng
    }
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    /// From `low` to below `high`.
    pub(super) fn range(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % high.saturating_sub(low).max(1)
    }
    pub(super) fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get((self.next() % from.len().max(1) as u64) as usize)
    }
    pub(super) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(count + 8);
        while out.len() < count {
            out.extend(self.next().to_le_bytes());
        }
        out.truncate(count);
        out
    }
    pub(super) fn hex(&mut self, digits: usize) -> String {
        self.bytes(digits.div_ceil(2)).iter().map(|b| format!("{b:02x}")).collect::<String>().chars().take(digits).collect()
    }
    pub(super) fn uuid(&mut self) -> String {
        let h = self.hex(32);
        let part = |a: usize, b: usize| h.get(a..b).unwrap_or("").to_owned();
        format!("{}-{}-4{}-a{}-{}", part(0, 8), part(8, 12), part(13, 16), part(17, 20), part(20, 32))
    }
}

/// A point release of the distribution and what belongs to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Release {
    pub version: &'static str,
    pub abi: &'static str,
    pub kernel: &'static str,
    pub built: &'static str,
    /// First day it could be installed, in days since 1970.
    pub from_day: i64,
    pub openssl: &'static str,
    pub openssl_package: &'static str,
    pub base_files: &'static str,
}

/// A processor a hosting machine shows to its guests.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cpu {
    pub vendor: &'static str,
    pub model: &'static str,
    pub family: u32,
    pub number: u32,
    pub stepping: u32,
    pub mhz: u32,
    pub cache_kb: u32,
    pub flags: &'static str,
}

const INTEL: &str = "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 ss syscall nx pdpe1gb rdtscp lm constant_tsc rep_good nopl xtopology cpuid tsc_known_freq pni pclmulqdq ssse3 fma cx16 pcid sse4_1 sse4_2 x2apic movbe popcnt tsc_deadline_timer aes xsave avx f16c rdrand hypervisor lahf_lm abm 3dnowprefetch cpuid_fault invpcid_single pti ssbd ibrs ibpb fsgsbase tsc_adjust bmi1 avx2 smep bmi2 erms invpcid avx512f avx512dq rdseed adx smap clflushopt clwb avx512cd avx512bw avx512vl xsaveopt xsavec xgetbv1 arat md_clear";
const AMD: &str = "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 syscall nx mmxext fxsr_opt pdpe1gb rdtscp lm rep_good nopl cpuid extd_apicid tsc_known_freq pni pclmulqdq ssse3 fma cx16 sse4_1 sse4_2 x2apic movbe popcnt tsc_deadline_timer aes xsave avx f16c rdrand hypervisor lahf_lm cmp_legacy cr8_legacy abm sse4a misalignsse 3dnowprefetch osvw topoext perfctr_core ssbd ibrs ibpb stibp vmmcall fsgsbase tsc_adjust bmi1 avx2 smep bmi2 rdseed adx smap clflushopt clwb sha_ni xsaveopt xsavec xgetbv1 clzero xsaveerptr wbnoinvd arat umip rdpid";

const CPUS: [Cpu; 5] = [
    Cpu {
        vendor: "GenuineIntel",
        model: "Intel(R) Xeon(R) Gold 6148 CPU @ 2.40GHz",
        family: 6,
        number: 85,
        stepping: 4,
        mhz: 2_399_998,
        cache_kb: 28_160,
        flags: INTEL,
    },
    Cpu {
        vendor: "GenuineIntel",
        model: "Intel(R) Xeon(R) Silver 4214 CPU @ 2.20GHz",
        family: 6,
        number: 85,
        stepping: 7,
        mhz: 2_194_842,
        cache_kb: 16_896,
        flags: INTEL,
    },
    Cpu {
        vendor: "GenuineIntel",
        model: "Intel(R) Xeon(R) Gold 6226R CPU @ 2.90GHz",
        family: 6,
        number: 85,
        stepping: 7,
        mhz: 2_893_202,
        cache_kb: 22_528,
        flags: INTEL,
    },
    Cpu {
        vendor: "AuthenticAMD",
        model: "AMD EPYC 7402P 24-Core Processor",
        family: 23,
        number: 49,
        stepping: 0,
        mhz: 2_794_748,
        cache_kb: 512,
        flags: AMD,
    },
    Cpu {
        vendor: "AuthenticAMD",
        model: "AMD EPYC 7543 32-Core Processor",
        family: 25,
        number: 1,
        stepping: 1,
        mhz: 2_794_750,
        cache_kb: 512,
        flags: AMD,
    },
];

/// All that is drawn once.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub seed: [u8; 32],
    pub release: Release,
    pub cpu: Cpu,
    pub cores: u32,
    pub mem_kb: u64,
    pub swap_kb: u64,
    /// `sda` or `vda`.
    pub disk: &'static str,
    /// 1 KiB blocks of the root file system.
    pub root_kb: u64,
    root_used_kb: u64,
    pub iface: &'static str,
    pub v4: Ipv4Addr,
    pub gateway: Ipv4Addr,
    pub machine_id: String,
    pub root_uuid: String,
    /// When it was installed, seconds since 1970.
    pub installed: i64,
    boot_period: i64,
    boot_phase: i64,
    busy: u64,
}

impl Facts {
    pub(super) fn new(spec: &MachineSpec, releases: &[Release], ssh_package: Option<u32>) -> Option<Self> {
        let mut rng = Rng::new(&spec.seed, b"facts");
        // The banner's package revision tells the point release.
        let release = match ssh_package {
            Some(5) => *releases.first()?,
            Some(6) => *releases.get(1)?,
            Some(_) => *releases.last()?,
            None => *rng.pick(releases)?,
        };
        let cpu = *rng.pick(&CPUS)?;
        let cores = *rng.pick(&[1u32, 2, 2, 4, 4, 8])?;
        let gigabytes = *rng.pick(&[2u64, 4, 4, 8, 16])?;
        // Firmware and kernel take their part of the nominal size.
        let mem_kb = gigabytes * 1_048_576 - 38_000 - gigabytes * 11_000 - rng.range(0, 3_000) * 4;
        let swap_kb = if rng.range(0, 3) == 0 { 0 } else { 998_396 + rng.range(0, 3) * 1_000 };
        let disk = *rng.pick(&["sda", "vda", "vda"])?;
        let root_kb = *rng.pick(&[19u64, 24, 39, 49, 78])? * 1_048_576 + rng.range(20_000, 400_000) * 4 % 900_000;
        let v4 =
            spec.addresses.iter().find_map(|a| if let IpAddr::V4(v) = a { Some(*v) } else { None }).unwrap_or(Ipv4Addr::new(10, 0, 2, 15));
        let [a, b, c, d] = v4.octets();
        let gateway = Ipv4Addr::new(a, b, c, if d == 1 || (d != 254 && rng.range(0, 4) == 0) { 254 } else { 1 });
        let installed = (release.from_day + rng.range(2, 45) as i64) * 86_400 + rng.range(25_000, 72_000) as i64;
        let boot_period = rng.range(19, 83) as i64 * 86_400;
        Some(Self {
            seed: spec.seed,
            release,
            cpu,
            cores,
            mem_kb,
            swap_kb,
            disk,
            root_kb,
            root_used_kb: 1_500_000 + rng.range(0, 6_000_000).min(root_kb / 4),
            iface: rng.pick(&["eth0", "ens3", "ens18", "ens192", "enp1s0"])?,
            v4,
            gateway,
            machine_id: rng.hex(32),
            root_uuid: rng.uuid(),
            installed,
            boot_period,
            boot_phase: rng.range(0, boot_period as u64) as i64,
            busy: rng.range(1, 14),
        })
    }

    /// When the machine was last started, seconds since 1970: restarts come at seeded intervals.
    pub(super) fn boot(&self, now: i64) -> i64 {
        let slot = (now - self.boot_phase).div_euclid(self.boot_period);
        let jitter = |slot: i64| Rng::new(&self.seed, &slot.to_le_bytes()).range(0, 21_600) as i64;
        let at = slot * self.boot_period + self.boot_phase + jitter(slot);
        let at = if at > now - 1_800 { (slot - 1) * self.boot_period + self.boot_phase + jitter(slot - 1) } else { at };
        at.max(self.installed.min(now - 1_800))
    }

    /// The start before that one, for `last`.
    pub(super) fn boot_before(&self, boot: i64) -> i64 {
        self.boot(boot - 3_600)
    }

    /// Smooth noise in 0..1 that moves every `step` seconds.
    pub(super) fn noise(&self, label: &str, now: i64, step: i64) -> f64 {
        let slot = now.div_euclid(step);
        let point = |slot: i64| {
            let mut name = label.as_bytes().to_vec();
            name.extend(slot.to_le_bytes());
            (Rng::new(&self.seed, &name).next() >> 11) as f64 / (1u64 << 53) as f64
        };
        let part = now.rem_euclid(step) as f64 / step as f64;
        point(slot) * (1.0 - part) + point(slot + 1) * part
    }

    /// The three load averages.
    pub(super) fn load(&self, now: i64) -> [f64; 3] {
        let scale = self.busy as f64 / 20.0 * f64::from(self.cores).sqrt();
        let one = self.noise("l1", now, 40).powi(3) * scale;
        let five = self.noise("l5", now, 200).powi(2) * scale * 0.6;
        let fifteen = self.noise("l15", now, 600) * scale * 0.35;
        [one, five, fifteen]
    }

    /// Seconds all cores together were idle.
    pub(super) fn idle(&self, now: i64) -> f64 {
        let up = (now - self.boot(now)) as f64;
        up * f64::from(self.cores) * (0.985 - self.busy as f64 / 800.0)
    }

    /// Memory in KiB: free, available, buffers, cached, shared, swap free.
    pub(super) fn memory(&self, now: i64) -> Memory {
        let total = self.mem_kb;
        let part = |base: u64, spread: u64, label: &str, step: i64| base + (self.noise(label, now, step) * spread as f64) as u64;
        let used = part(total / 14 + 90_000, total / 40, "used", 90);
        let buffers = part(total / 90, total / 300, "buf", 400);
        let cached = part(total / 4, total / 16, "cache", 700);
        let reclaim = part(total / 60, 9_000, "slab", 500);
        let free = total.saturating_sub(used + buffers + cached + reclaim);
        Memory {
            total,
            free,
            available: free + cached * 19 / 20 + buffers / 2,
            buffers,
            cached,
            shared: part(520, 300, "shm", 3_000),
            slab: reclaim,
            swap: self.swap_kb,
            swap_free: self.swap_kb.saturating_sub(part(0, self.swap_kb / 60, "swap", 4_000) / 4 * 4),
        }
    }

    /// Used KiB of the root file system.
    pub(super) fn disk_used(&self, now: i64) -> u64 {
        let days = (now - self.installed).max(0) as u64 / 3_600;
        let grown = (days * (40 + self.busy * 6)).min(self.root_kb / 3);
        self.root_used_kb + grown + (self.noise("disk", now, 300) * 900.0) as u64 * 4
    }

    /// A process id that goes up with time.
    pub(super) fn pid_at(&self, now_ns: i64) -> u32 {
        let up = (now_ns / 1_000_000_000 - self.boot(now_ns / 1_000_000_000)).max(0) as u64;
        let per_hour = 20 + self.busy * 9;
        let millis = (now_ns / 1_000_000 % 1000).unsigned_abs();
        let pid = 1_100 + up * per_hour / 3_600 + millis % 3;
        (pid % 4_190_000) as u32 + 2
    }

    /// An IPv6 link-local address from the hardware address (EUI-64).
    pub(super) fn link_local(mac: [u8; 6]) -> std::net::Ipv6Addr {
        let [a, b, c, d, e, f] = mac.map(u16::from);
        std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, (a ^ 2) << 8 | b, c << 8 | 0xff, 0xfe00 | d, e << 8 | f)
    }

    /// The hardware address of another host on the segment.
    pub(super) fn neighbour_mac(&self, address: IpAddr) -> String {
        let mut rng = Rng::new(&self.seed, format!("mac {address}").as_bytes());
        let oui = rng.pick(&["52:54:00", "00:50:56", "bc:24:11", "00:15:5d"]).copied().unwrap_or("52:54:00");
        format!("{oui}:{:02x}:{:02x}:{:02x}", rng.range(0, 256), rng.range(0, 256), rng.range(0, 256))
    }
}

/// Memory figures in KiB.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    pub total: u64,
    pub free: u64,
    pub available: u64,
    pub buffers: u64,
    pub cached: u64,
    pub shared: u64,
    pub slab: u64,
    pub swap: u64,
    pub swap_free: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_and_repeat() {
        let a: Vec<u64> = (0..3).map(|_| Rng::new(b"s", b"a").next()).collect();
        assert_eq!(a[0], a[1]);
        assert_ne!(Rng::new(b"s", b"a").next(), Rng::new(b"s", b"b").next());
        assert_ne!(Rng::new(b"s", b"a").next(), Rng::new(b"t", b"a").next());
        assert_eq!(Rng::new(b"s", b"a").uuid().len(), 36);
    }
}
