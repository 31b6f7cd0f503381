//! What a measurement was taken on, as the system tells it: nothing that says whose machine it is.

use std::fs;
use std::path::Path;

use serde::Serialize;

/// Arm's cores that this program is meant for, by the number that `/proc/cpuinfo` has for them (`CPU part`, implementer 0x41).
const ARM_CORES: [(u32, &str); 14] = [
    (0xc07, "Cortex-A7"),
    (0xc09, "Cortex-A9"),
    (0xc0f, "Cortex-A15"),
    (0xd03, "Cortex-A53"),
    (0xd04, "Cortex-A35"),
    (0xd05, "Cortex-A55"),
    (0xd07, "Cortex-A57"),
    (0xd08, "Cortex-A72"),
    (0xd09, "Cortex-A73"),
    (0xd0a, "Cortex-A75"),
    (0xd0b, "Cortex-A76"),
    (0xd0c, "Neoverse-N1"),
    (0xd41, "Cortex-A78"),
    (0xd42, "Cortex-A78AE"),
];

/// A machine, without its name, its serial number and its user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// The board, where the system has a device tree: "Raspberry Pi 4 Model B Rev 1.4".
    pub board: Option<String>,
    /// Its cores: "4 x Cortex-A72".
    pub processor: Option<String>,
    /// The highest clock of the first core, in Hz.
    pub clock_hz: Option<u64>,
    /// What sets the first core's clock.
    pub governor: Option<String>,
    /// The kernel's release.
    pub kernel: Option<String>,
}

impl Machine {
    /// The one that this runs on.
    #[must_use]
    pub fn here() -> Self {
        Self::below(Path::new("/"))
    }

    /// What the files of `/proc` and `/sys` below `root` say.
    fn below(root: &Path) -> Self {
        let read = |file: &str| fs::read_to_string(root.join(file)).ok();
        let word = |file: &str| read(file).map(|text| text.trim_matches(['\0', '\n', ' ']).to_owned());
        let clock = word("sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq");
        Machine {
            board: word("proc/device-tree/model"),
            processor: read("proc/cpuinfo").and_then(|text| processor(&text)),
            clock_hz: clock.and_then(|khz| khz.parse::<u64>().ok()).and_then(|khz| khz.checked_mul(1000)),
            governor: word("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            kernel: word("proc/sys/kernel/osrelease"),
        }
    }
}

/// The cores that a `/proc/cpuinfo` tells of, equal ones together, in the order in which they come.
fn processor(cpuinfo: &str) -> Option<String> {
    let mut kinds: Vec<(String, usize)> = Vec::new();
    for name in cpuinfo.split("\n\n").filter_map(core) {
        match kinds.iter_mut().find(|(kind, _)| *kind == name) {
            Some((_, count)) => *count += 1,
            None => kinds.push((name, 1)),
        }
    }
    let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{count} x {kind}")).collect();
    (!kinds.is_empty()).then(|| kinds.join(" + "))
}

/// The name of one core, from its lines.
fn core(lines: &str) -> Option<String> {
    let field = |name: &str| {
        let values = lines.lines().filter_map(|line| line.split_once(':'));
        values.filter(|(key, _)| key.trim() == name).map(|(_, value)| value.trim()).next()
    };
    let number = |name: &str| u32::from_str_radix(field(name)?.trim_start_matches("0x"), 16).ok();
    match (number("CPU implementer"), number("CPU part")) {
        (Some(0x41), Some(part)) => {
            let known = ARM_CORES.iter().find(|(number, _)| *number == part);
            Some(known.map_or_else(|| format!("Arm's core {part:#x}"), |(_, name)| (*name).to_owned()))
        }
        (Some(implementer), Some(part)) => Some(format!("core {part:#x} of implementer {implementer:#x}")),
        _ => field("model name").map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a Raspberry Pi writes it, with its serial number.
    const PI: &str = "processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm crc32 cpuid\nCPU implementer\t: 0x41\n\
        CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd08\nCPU revision\t: 3\n\nprocessor\t: 1\n\
        CPU implementer\t: 0x41\nCPU part\t: 0xd08\n\nHardware\t: BCM2835\nRevision\t: c03114\nSerial\t\t: 10000000deadbeef\n\
        Model\t\t: Raspberry Pi 4 Model B Rev 1.4\n";

    #[test]
    fn cores_are_named_and_counted() {
        let arm = |implementer: &str, part: &str| format!("CPU implementer : {implementer}\nCPU part : {part}\n\n");
        for (cpuinfo, name) in [
            (PI.to_owned(), Some("2 x Cortex-A72")),
            (arm("0x41", "0xd05") + &arm("0x41", "0xd0b"), Some("1 x Cortex-A55 + 1 x Cortex-A76")),
            (arm("0x41", "0x123"), Some("1 x Arm's core 0x123")),
            (arm("0x61", "0x23"), Some("1 x core 0x23 of implementer 0x61")),
            (
                "processor : 0\nmodel name : A Processor\n\nprocessor : 1\nmodel name : A Processor\n".to_owned(),
                Some("2 x A Processor"),
            ),
            ("CPU implementer : none\n".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(processor(&cpuinfo).as_deref(), name, "{cpuinfo}");
        }
    }

    #[test]
    fn a_board_is_told_without_its_serial_number() {
        let root = tempfile::TempDir::new().unwrap();
        let write = |file: &str, text: &str| {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(Machine::below(root.path()).board, None);
        write("proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0");
        write("proc/cpuinfo", PI);
        write("proc/sys/kernel/osrelease", "6.12.25+rpt-rpi-v8\n");
        write("sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", "1800000\n");
        write("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "ondemand\n");
        let machine = Machine::below(root.path());
        assert_eq!(machine.board.as_deref(), Some("Raspberry Pi 4 Model B Rev 1.4"));
        assert_eq!(machine.processor.as_deref(), Some("2 x Cortex-A72"));
        assert_eq!((machine.clock_hz, machine.governor.as_deref()), (Some(1_800_000_000), Some("ondemand")));
        assert_eq!(machine.kernel.as_deref(), Some("6.12.25+rpt-rpi-v8"));
        assert!(!serde_json::to_string(&machine).unwrap().contains("deadbeef"));
    }
}
