//! What a device has and how fast it is: the profiles that ship, and those of users.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::backbone::nearest;
use crate::error::{Error, ErrorKind, Result};

/// The largest number that a profile may have, in any unit.
const MOST: f64 = 1e12;

/// The profiles that are part of the program, by name.
const SHIPPED: [(&str, &str); 5] = [
    ("pi-zero-2w", include_str!("../../../targets/raspberry-pi/zero-2w.toml")),
    ("pi-4", include_str!("../../../targets/raspberry-pi/4.toml")),
    ("pi-5", include_str!("../../../targets/raspberry-pi/5.toml")),
    ("jetson-nano", include_str!("../../../targets/jetson/nano.toml")),
    ("jetson-orin-nano", include_str!("../../../targets/jetson/orin-nano.toml")),
];
const MIB: u64 = 1 << 20;

/// A device, as its profile describes it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// What people call it.
    pub name: String,
    /// What its processor runs.
    pub arch: Arch,
    /// Cores that a lesson may use.
    pub cores: usize,
    /// Memory.
    pub ram: Ram,
    /// Speed of one core.
    pub speed: Speed,
    /// What stores and caches are written to.
    pub flash: Flash,
    /// How it slows down when it is hot; without it, it does not.
    pub thermal: Option<Thermal>,
    /// What it draws; without it, no energy is told.
    pub power: Option<Power>,
    /// When it has power; without it, always.
    pub schedule: Option<PowerHours>,
}

/// What a device's processor runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Arch {
    /// ARM, 64 bits.
    #[serde(rename = "aarch64")]
    Aarch64,
    /// ARM, 32 bits, with hardware floating point.
    #[serde(rename = "armv7")]
    Armv7,
    /// Intel and AMD, 64 bits.
    #[serde(rename = "x86-64")]
    X86_64,
    /// A microcontroller without an operating system.
    #[serde(rename = "cortex-m")]
    CortexM,
}

/// Memory of a device.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ram {
    /// All of it, in MiB.
    pub total_mib: u64,
    /// What the system and everything else leave, in MiB.
    pub free_mib: u64,
}

/// Speed of one core while all are busy.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Speed {
    /// Floating-point operations a second of a large product in single precision, in 10^9.
    pub gflops_per_core: f64,
    /// Pixels of photos that are decoded and brought to the input's size a second, in 10^6.
    pub decode_mpixels_per_s: f64,
}

/// The medium that is written to.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flash {
    /// Its size, in 10^9 bytes.
    pub size_gb: f64,
    /// How often each of its blocks can be written, wear being spread evenly.
    pub write_cycles: f64,
    /// Bytes written a second, in 10^6.
    pub write_mb_per_s: f64,
}

/// Throttling as a duty cycle: some time at full speed, some time slower, and so on.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thermal {
    /// With fewer threads the device stays cool.
    pub from_threads: usize,
    /// Seconds at full speed, from a cold start and again after each slower time.
    pub full_speed_s: f64,
    /// Seconds of the slower time.
    pub throttled_s: f64,
    /// Speed in it, as a share of full speed.
    pub throttled_speed: f64,
}

/// What a device draws.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Power {
    /// With nothing to do, in watts.
    pub idle_w: f64,
    /// With all cores busy, in watts.
    pub load_w: f64,
}

/// When a device has power: on, off, on, off. The power goes without warning.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PowerHours {
    /// Minutes with power.
    pub on_minutes: f64,
    /// Minutes without.
    pub off_minutes: f64,
}

impl Device {
    /// The names of the profiles that ship.
    pub fn names() -> impl Iterator<Item = &'static str> {
        SHIPPED.iter().map(|(name, _)| *name)
    }

    /// The profile that ships under a name, or the one in a file.
    ///
    /// # Errors
    /// `Usage` where there is neither, or where a field is unknown, missing or cannot be meant; `Io`.
    pub fn find(wanted: &str) -> Result<Self> {
        if let Some((name, text)) = SHIPPED.iter().find(|(name, _)| *name == wanted) {
            return Self::parse(text, name);
        }
        let path = Path::new(wanted);
        // Asked before opening: opening a pipe would wait for its other end.
        if path.exists() && !path.is_file() {
            return Err(Error::new(ErrorKind::Usage, wanted, "is no file; give a profile in TOML"));
        }
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, wanted),
            Err(_) if !path.exists() => Err(unknown(wanted)),
            Err(e) => Err(Error::io(path, e)),
        }
    }

    /// Reads a profile; `subject` is what errors call it.
    fn parse(text: &str, subject: &str) -> Result<Self> {
        let device: Device = toml::from_str(text).map_err(|e| {
            let line = e.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            let what = e.message().replace('\n', " ");
            Error::new(ErrorKind::Usage, subject, format_args!("line {line}: {what}"))
        })?;
        device.check().map_err(|what| Error::new(ErrorKind::Usage, subject, what))?;
        Ok(device)
    }

    /// Whether the numbers can be meant.
    fn check(&self) -> std::result::Result<(), String> {
        let Device { ram, speed, flash, .. } = self;
        let mut positive = vec![
            ("cores", self.cores as f64),
            ("ram.free_mib", ram.free_mib as f64),
            ("speed.gflops_per_core", speed.gflops_per_core),
            ("speed.decode_mpixels_per_s", speed.decode_mpixels_per_s),
            ("flash.size_gb", flash.size_gb),
            ("flash.write_cycles", flash.write_cycles),
            ("flash.write_mb_per_s", flash.write_mb_per_s),
        ];
        if let Some(thermal) = &self.thermal {
            positive.extend([
                ("thermal.full_speed_s", thermal.full_speed_s),
                ("thermal.throttled_s", thermal.throttled_s),
                ("thermal.throttled_speed", thermal.throttled_speed),
            ]);
        }
        if let Some(schedule) = &self.schedule {
            positive
                .extend([("schedule.on_minutes", schedule.on_minutes), ("schedule.off_minutes", schedule.off_minutes)]);
        }
        if let Some(power) = &self.power {
            positive.extend([("power.idle_w", power.idle_w), ("power.load_w", power.load_w)]);
        }
        if let Some((field, value)) = positive.into_iter().find(|(_, value)| !(*value > 0.0 && *value <= MOST)) {
            return Err(format!("{field} is {value:e}; it has to be a number above 0, and {MOST:e} at most"));
        }
        if ram.free_mib > ram.total_mib || ram.total_mib > u64::MAX / MIB {
            return Err(format!("ram.free_mib is {} of {} in ram.total_mib", ram.free_mib, ram.total_mib));
        }
        if self.thermal.is_some_and(|thermal| thermal.throttled_speed > 1.0) {
            return Err("thermal.throttled_speed is a share of full speed, 1 at most".to_owned());
        }
        if self.power.is_some_and(|power| power.load_w < power.idle_w) {
            return Err("power.load_w is less than power.idle_w".to_owned());
        }
        Ok(())
    }

    /// # Errors
    /// `Device` where the device cannot run this program at all.
    pub(super) fn require_system(&self) -> Result<()> {
        if self.arch != Arch::CortexM {
            return Ok(());
        }
        let message = "is a Cortex-M, and a bundle needs an operating system and its memory; a microcontroller learns with \
                       the core alone, from a network in its firmware: targets/cortex-m has one, with its own trial in QEMU";
        Err(Error::new(ErrorKind::Device, &self.name, message))
    }

    /// Memory that a lesson may take, in bytes.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        self.ram.free_mib * MIB
    }

    /// All of its memory, in bytes.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.ram.total_mib * MIB
    }
}

impl Arch {
    /// Its name in profiles.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Arch::Aarch64 => "aarch64",
            Arch::Armv7 => "armv7",
            Arch::X86_64 => "x86-64",
            Arch::CortexM => "cortex-m",
        }
    }
}

impl Flash {
    /// Bytes that it can take before it is worn.
    pub(super) fn endurance_bytes(&self) -> f64 {
        self.size_gb * 1e9 * self.write_cycles
    }
}

impl Power {
    /// Watts with so many of `cores` busy: in proportion between idle and load.
    pub(super) fn watts(&self, threads: usize, cores: usize) -> f64 {
        self.idle_w + (self.load_w - self.idle_w) * (threads as f64 / cores as f64).min(1.0)
    }
}

fn unknown(wanted: &str) -> Error {
    let near = nearest(wanted, Device::names());
    let known = Device::names().collect::<Vec<_>>().join(", ");
    let message = format!(
        "is neither a profile that ships nor a file; nearest: {}. Known: {known}; or write a TOML file as those in targets/",
        near[0]
    );
    Error::new(ErrorKind::Usage, wanted, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "name = \"board\"\narch = \"armv7\"\ncores = 2\n[ram]\ntotal_mib = 64\nfree_mib = 32\n[speed]\n\
                         gflops_per_core = 1\ndecode_mpixels_per_s = 5\n[flash]\nsize_gb = 1\nwrite_cycles = 100\n\
                         write_mb_per_s = 2\n";

    #[test]
    fn every_profile_that_ships_can_be_read() {
        for name in Device::names() {
            let device = Device::find(name).unwrap();
            assert!(device.power.is_some() && device.free_bytes() < device.total_bytes(), "{name}");
            device.require_system().unwrap();
        }
    }

    #[test]
    fn every_number_that_ships_names_its_source_or_says_that_it_is_an_estimate() {
        let said = |text: &str| text.contains("https://") || text.contains("estimate");
        for (name, text) in SHIPPED {
            let (mut above, mut numbers) = (String::new(), 0);
            for line in text.lines() {
                let (code, comment) = line.split_once('#').unwrap_or((line, ""));
                match code.split_once('=') {
                    Some((_, value)) if value.trim().parse::<f64>().is_ok() => {
                        assert!(said(comment) || said(&above), "{name}: {line}");
                        above.clear();
                        numbers += 1;
                    }
                    _ if code.trim().is_empty() && !comment.is_empty() => above += comment,
                    _ => above.clear(),
                }
            }
            assert!(numbers >= 9, "{name}: {numbers} numbers");
        }
    }

    #[test]
    fn a_profile_that_cannot_be_meant_is_refused_with_its_field() {
        assert_eq!(Device::parse(PLAIN, "x").unwrap().free_bytes(), 32 << 20);
        let refused = |from: &str, to: &str| {
            let error = Device::parse(&PLAIN.replace(from, to), "my.toml").unwrap_err();
            assert_eq!((error.kind(), error.subject()), (ErrorKind::Usage, "my.toml"));
            error.message().to_owned()
        };
        for (from, to, words) in [
            ("cores = 2", "cores = 2\nbogomips = 7", "line 4: unknown field `bogomips`"),
            ("free_mib", "free_kib", "line 6: unknown field `free_kib`"),
            ("write_cycles = 100\n", "", "missing field `write_cycles`"),
            ("armv7", "sparc", "line 2: unknown variant `sparc`, expected one of `aarch64`"),
            ("cores = 2", "cores = 0", "cores is 0"),
            ("free_mib = 32", "free_mib = 65", "ram.free_mib is 65 of 64"),
            ("gflops_per_core = 1", "gflops_per_core = -1", "speed.gflops_per_core is -1"),
            ("gflops_per_core = 1", "gflops_per_core = inf", "speed.gflops_per_core is inf"),
            ("[flash]", "[power]\nidle_w = 3\nload_w = 2\n[flash]", "power.load_w is less"),
            ("[flash]", "[schedule]\non_minutes = 0\noff_minutes = 2\n[flash]", "schedule.on_minutes is 0"),
        ] {
            let said = refused(from, to);
            assert!(said.contains(words), "{words:?} should be in: {said}");
        }
    }

    #[test]
    fn an_unknown_name_lists_the_nearest_and_all() {
        let said = Device::find("pi-zero").unwrap_err().to_string();
        assert!(said.contains("nearest: pi-zero-2w.") && said.contains("jetson-orin-nano"), "{said}");
    }

    #[test]
    fn a_microcontroller_is_sent_to_its_firmware() {
        let device = Device::parse(&PLAIN.replace("armv7", "cortex-m"), "x").unwrap();
        let error = device.require_system().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Device);
        assert!(error.to_string().contains("targets/cortex-m"), "{error}");
    }

    #[test]
    fn power_rises_with_the_cores_that_are_busy() {
        let power = Power { idle_w: 1.0, load_w: 5.0 };
        assert_eq!([1, 2, 4, 8].map(|threads| power.watts(threads, 4)), [2.0, 3.0, 5.0, 5.0]);
    }
}
