//! From this machine's time to a device's.
//!
//! ```text
//! computing = processor time here, without decoding, x (GFLOP/s of a core here / there) / threads
//! decoding  = pixels / pixels a second of a core there / threads
//! writing   = bytes / bytes a second there
//! ```

use super::device::{Device, Thermal};
use super::trace::Piece;

/// How fast this machine is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Host {
    /// Of a large product on one thread.
    pub(super) gflops: f64,
    /// Processor time that decoding one photo takes here.
    pub(super) decode_ms: f64,
    /// Pixels of one photo, in 10^6.
    pub(super) mpixels: f64,
}

/// Seconds that a piece takes on the device at full speed.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Cost {
    pub(super) compute_s: f64,
    pub(super) decode_s: f64,
    pub(super) write_s: f64,
}

impl Cost {
    pub(super) fn of(piece: &Piece, host: &Host, device: &Device, threads: usize) -> Self {
        let threads = threads as f64;
        let compute_ms = (piece.host_ms - piece.photos * host.decode_ms).max(0.0);
        let decode_s = piece.photos * host.mpixels / device.speed.decode_mpixels_per_s;
        Cost {
            compute_s: compute_ms / 1e3 * host.gflops / device.speed.gflops_per_core / threads,
            decode_s: decode_s / threads,
            write_s: piece.bytes / (device.flash.write_mb_per_s * 1e6),
        }
    }

    pub(super) fn total(&self) -> f64 {
        self.compute_s + self.decode_s + self.write_s
    }
}

impl Thermal {
    /// Seconds that so many seconds of work at full speed take, from a cold start.
    pub(super) fn stretched(&self, work_s: f64) -> f64 {
        let in_cycle = self.full_speed_s + self.throttled_s * self.throttled_speed;
        let cycles = (work_s / in_cycle).floor();
        let rest = work_s - cycles * in_cycle;
        let slow = (rest - self.full_speed_s).max(0.0);
        cycles * (self.full_speed_s + self.throttled_s) + rest.min(self.full_speed_s) + slow / self.throttled_speed
    }
}

#[cfg(test)]
mod tests {
    use super::super::trace::Phase;
    use super::*;

    #[test]
    fn every_kind_of_work_goes_at_its_own_speed() {
        let device = Device::find("pi-4").unwrap();
        let host = Host { gflops: 57.0, decode_ms: 4.0, mpixels: 0.4 };
        let piece = Piece { phase: Phase::Train, step: 1, host_ms: 100.0, photos: 5.0, bytes: 1e6, kept: None };
        let cost = Cost::of(&piece, &host, &device, 2);
        // 100 ms less 5 x 4, ten times slower, on two cores; 5 x 0.4 at 20 a second on two; 1 MB at 10 a second.
        let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
        assert!(near(cost.compute_s, 0.4) && near(cost.decode_s, 0.05) && near(cost.write_s, 0.1), "{cost:?}");
        let quick = Cost::of(&Piece { host_ms: 1.0, ..piece }, &host, &device, 2);
        assert_eq!(quick.compute_s, 0.0, "decoding that took less than usual is not paid back");
    }

    #[test]
    fn a_hot_device_takes_as_long_as_its_cycle_adds_up_to() {
        let thermal = Thermal { from_threads: 1, full_speed_s: 10.0, throttled_s: 4.0, throttled_speed: 0.5 };
        // By hand, a hundredth of a second at a time.
        let slowly = |work: f64| {
            let (mut done, mut ticks) = (0.0, 0u32);
            while done < work - 1e-9 {
                let in_cycle = f64::from(ticks % 1400) / 100.0;
                done += 0.01 * if in_cycle < 10.0 { 1.0 } else { 0.5 };
                ticks += 1;
            }
            f64::from(ticks) / 100.0
        };
        for work in [0.0, 3.0, 10.0, 11.0, 12.0, 12.5, 40.0, 123.0] {
            assert!((thermal.stretched(work) - slowly(work)).abs() < 0.02, "{work}");
        }
    }
}
