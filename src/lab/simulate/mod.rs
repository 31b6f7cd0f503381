//! A lesson under a device's limits: it is really run, here, within the device's memory; its time, its wear and what a power cut
//! leaves are then played on the device's clock.

mod device;
mod pace;
mod replay;
mod report;
mod survivor;
mod trace;

use std::path::Path;
use std::time::Duration;

use crate::bundle::Bundle;
use crate::error::{Error, ErrorKind, Result};
use crate::lab::profile::peak_gflops;
use crate::lab::temporary::TemporaryFolder;
use crate::session::lesson::{TrainReport, train};
use crate::session::photos::{load, pixels, stream};
use crate::session::process::processor_ms;
use crate::session::progress::{Flow, Progress};
use crate::session::settings::{CachePlace, Length, Lesson};
use rand::RngExt;

pub use device::{Arch, Device, Flash, Power, PowerHours, Ram, Speed, Thermal};
pub use replay::{Cause, Cut, CutAt};
pub use report::{FlashUse, HostUse, Point, RamUse, Simulation, Times};
pub use trace::{Excess, Phase, Written};

use pace::{Cost, Host};
use replay::{Conditions, Played, Timeline};
use trace::{Batch, Kept, Piece, Recorder, Trace};

/// Points of the accuracy over time between its ends.
const POINTS: u64 = 5;
/// Processor time that measuring the decoder takes, at least, unless there are no more photos.
const DECODING_MS: f64 = 300.0;

/// Power cuts that strike a lesson, one attempt each: those at chosen places, then so many at random moments of its work.
#[derive(Debug, Clone, PartialEq)]
pub struct Cuts {
    /// Work between two checkpoints: what a cut may cost.
    pub checkpoint: Duration,
    /// Chosen places.
    pub at: Vec<CutAt>,
    /// At random, from the lesson's seed.
    pub random: u32,
}

impl Cuts {
    fn list(&self, seed: u64) -> Vec<CutAt> {
        let mut random = stream(*b"powercut", [seed, 0, 0]);
        let shares = (0..self.random).map(|_| CutAt::Share(random.random_range(0.0..1.0)));
        self.at.iter().copied().chain(shares).collect()
    }
}

/// Runs `lesson` under the limits of `device` and tells what would happen there. Without a limit of its own, the lesson may take
/// the device's free memory. There it is kept after `checkpoint` of work, and after a cut it goes on from there. The store is
/// written to `output`, or to a place that is removed.
///
/// # Errors
/// Those of [`train`]; `Exists` where `output` is there; `Memory` where no plan fits; `Device` where the device cannot run this
/// program; `Usage` where more threads or memory are asked for than it has, or a cut at a step that the lesson does not have.
pub fn simulate<A: Into<Flow>>(
    bundle: &Bundle,
    lesson: &Lesson,
    device: &Device,
    cuts: &Cuts,
    output: Option<&Path>,
    observer: &mut impl FnMut(Progress<'_>) -> A,
) -> Result<Simulation> {
    device.require_system()?;
    check(lesson, device, cuts)?;
    output.map_or(Ok(()), check_new)?;
    let cap = lesson.ram_limit.unwrap_or(device.free_bytes());
    let limited = Lesson { ram_limit: Some(cap), ..lesson.clone() };
    let place = TemporaryFolder::new()?;
    let temporary = place.path().join("store");
    let store = output.unwrap_or(&temporary);
    let mut recorder = Recorder::new(store, cap);
    let mut watch = |progress: Progress<'_>| -> Flow {
        recorder.see(&progress);
        observer(progress).into()
    };
    let train = train(bundle, &limited, store, &mut watch).map_err(|e| too_little(e, lesson, device))?;
    let decoded = if train.planned.cache == CachePlace::Off { 1.0 } else { 0.0 };
    let mut trace = recorder.finish(&train, lesson.batch, decoded);
    let host = host(bundle, lesson)?;
    let cost = |piece: &Piece| Cost::of(piece, &host, device, train.threads);
    trace.add_checkpoints(cuts.checkpoint.as_secs_f64(), train.planned.checkpoint_bytes, |piece| cost(piece).total());
    let costs: Vec<Cost> = trace.pieces.iter().map(cost).collect();
    let timeline = Timeline::new(&trace.pieces, &costs);
    let cuts = cuts.list(lesson.seed);
    if let Some(CutAt::Step(step)) = cuts.iter().find(|cut| !timeline.has(**cut)) {
        return Err(no_such_step(*step, train.steps));
    }
    let thermal = device.thermal.filter(|thermal| train.threads >= thermal.from_threads);
    let mut played = timeline.play(&Conditions { thermal, schedule: device.schedule }, &cuts);
    for cut in &mut played.cuts {
        cut.generation = survivor::after_cut(store, cut.generation.unwrap_or(0), cut.saving, place.path())?;
    }
    let throttled = |work: f64| thermal.map_or(0.0, |thermal| thermal.stretched(work) - work);
    Ok(Simulation {
        device: device.name.clone(),
        arch: device.arch,
        cores: device.cores,
        finishes: played.finishes && trace.excess.is_none(),
        seconds: played.clock_s,
        time: times(&trace, &costs, throttled),
        ram: ram_use(&trace, device, &train, cap),
        flash: flash(&trace, &played, device, &train, cap),
        energy_wh: device.power.map(|power| power.watts(train.threads, device.cores) * played.busy_s / 3600.0),
        mean_w: device.power.map(|power| power.watts(train.threads, device.cores)),
        cuts: played.cuts.clone(),
        cuts_missed: played.missed,
        curve: curve(&trace, &played, &train),
        host: host_use(&trace, &host, device),
        ignored: train.ignored.clone(),
        train,
    })
}

fn check_new(output: &Path) -> Result<()> {
    if output.symlink_metadata().is_err() {
        return Ok(());
    }
    let message = "is already there, and a simulation writes a new store: choose another output";
    Err(Error::new(ErrorKind::Exists, output.display(), message))
}

fn ram_use(trace: &Trace, device: &Device, train: &TrainReport, cap_bytes: u64) -> RamUse {
    let (planned_bytes, peak_bytes) = (train.planned_peak_bytes, train.lesson_peak_bytes);
    RamUse { cap_bytes, total_bytes: device.total_bytes(), planned_bytes, peak_bytes, excess: trace.excess }
}

/// What can be found out before the lesson runs.
fn check(lesson: &Lesson, device: &Device, cuts: &Cuts) -> Result<()> {
    if lesson.threads > device.cores {
        let message = format!("{} are more than the {} cores of a {}", lesson.threads, device.cores, device.name);
        return Err(Error::new(ErrorKind::Usage, "option `threads`", message));
    }
    if lesson.ram_limit.is_some_and(|limit| limit > device.total_bytes()) {
        let message = format!("is more than the {} MiB of a {}", device.ram.total_mib, device.name);
        return Err(Error::new(ErrorKind::Usage, "option `ram_limit`", message));
    }
    let trains = lesson.method.settings().trains_head;
    let steps = match lesson.length {
        Length::Steps(steps) if trains => u64::from(steps),
        _ if trains => u64::MAX,
        _ => 0,
    };
    match cuts
        .at
        .iter()
        .find_map(|cut| if let CutAt::Step(step) = cut { (*step > steps).then_some(*step) } else { None })
    {
        Some(step) => Err(no_such_step(step, steps)),
        None => Ok(()),
    }
}

fn no_such_step(step: u64, steps: u64) -> Error {
    let message = format!("there is no step {step}; the lesson has {steps}");
    Error::new(ErrorKind::Usage, "option `cut_at`", message)
}

/// The planner's refusal names its flag; where the limit is the device's own, it names the device.
fn too_little(error: Error, lesson: &Lesson, device: &Device) -> Error {
    if error.kind() != ErrorKind::Memory || lesson.ram_limit.is_some() {
        return error;
    }
    Error::new(ErrorKind::Memory, format_args!("free memory of a {}", device.name), error.message())
}

/// How fast this machine computes and decodes.
fn host(bundle: &Bundle, lesson: &Lesson) -> Result<Host> {
    let photos = lesson.data.open()?.photos;
    let (begin, mut count, mut mpixels) = (processor_ms(), 0.0, 0.0);
    for photo in &photos {
        let found = load(&photo.picture, &bundle.preprocess, None).ok().and_then(|_| pixels(&photo.picture));
        if let Some(pixels) = found {
            count += 1.0;
            mpixels += pixels as f64 / 1e6;
        }
        if processor_ms() - begin >= DECODING_MS {
            break;
        }
    }
    let each = 1.0 / f64::max(count, 1.0);
    Ok(Host { gflops: peak_gflops(), decode_ms: each * (processor_ms() - begin), mpixels: each * mpixels })
}

fn times(trace: &Trace, costs: &[Cost], throttled: impl Fn(f64) -> f64) -> Times {
    let mut times = Times::default();
    let mut work = 0.0;
    for (piece, cost) in trace.pieces.iter().zip(costs) {
        let longer = throttled(work + cost.total()) - throttled(work);
        work += cost.total();
        *match piece.phase {
            Phase::Start => &mut times.start,
            Phase::Imprint => &mut times.imprint,
            Phase::Accuracy => &mut times.accuracy,
            Phase::Directions => &mut times.directions,
            Phase::CrossValidate => &mut times.cross_validate,
            Phase::Train => &mut times.train,
            Phase::Save => &mut times.save,
        } += cost.total() + longer;
        times.computing += cost.compute_s;
        times.decoding += cost.decode_s;
        times.writing += cost.write_s;
        times.throttled += longer;
    }
    times
}

fn flash(trace: &Trace, played: &Played, device: &Device, train: &TrainReport, cap: u64) -> FlashUse {
    let lesson = trace.written.clone();
    let endurance_bytes = device.flash.endurance_bytes();
    let wear = lesson.total() as f64 / endurance_bytes;
    let in_ram = train.planned_peak_bytes.map(|planned| planned + lesson.cache);
    FlashUse {
        cache_fits_in_ram: lesson.cache > 0 && in_ram.is_some_and(|bytes| bytes <= cap),
        written_bytes: played.bytes.round() as u64,
        endurance_bytes,
        wear,
        lessons_until_worn: (1.0 / wear).floor(),
        lesson,
    }
}

/// The ends of the lesson, and a few points between.
fn curve(trace: &Trace, played: &Played, train: &TrainReport) -> Vec<Point> {
    let every = train.steps.div_ceil(POINTS).max(1);
    let (mut points, mut since): (Vec<Point>, usize) = (Vec::new(), 0);
    let last = trace.written.generations.len() as u64;
    for mark in &played.marks {
        let piece = &trace.pieces[mark.piece];
        // Steps are taken one by one, and each has its batch.
        let seen = trace.batches.len().min(usize::try_from(piece.step).unwrap_or(usize::MAX));
        let due = piece.phase == Phase::Train && (piece.step.is_multiple_of(every) || seen == trace.batches.len());
        if !due && !piece.saves() {
            continue;
        }
        let batches = &trace.batches[since..seen];
        let mean = |of: fn(&Batch) -> f64| {
            (!batches.is_empty()).then(|| batches.iter().map(of).sum::<f64>() / batches.len() as f64)
        };
        let val_accuracy = match piece.kept {
            Some(Kept::Generation(1)) => train.val_accuracy_before,
            Some(Kept::Generation(generation)) if generation != last => None,
            Some(Kept::Generation(_) | Kept::Aside) => train.val_accuracy,
            _ => None,
        };
        points.push(Point {
            at_s: mark.at_s,
            step: piece.step,
            val_accuracy,
            batch_accuracy: mean(|batch| batch.accuracy),
            loss: mean(|batch| f64::from(batch.loss)),
            generation: piece.generation(),
        });
        since = seen;
    }
    points
}

fn host_use(trace: &Trace, host: &Host, device: &Device) -> HostUse {
    let photos: f64 = trace.pieces.iter().map(|piece| piece.photos).sum();
    HostUse {
        processor_ms: trace.pieces.iter().map(|piece| piece.host_ms).sum(),
        decode_ms: photos * host.decode_ms,
        photos,
        mpixels: host.mpixels,
        gflops: host.gflops,
        device_gflops: device.speed.gflops_per_core,
    }
}
