//! The command line, parsed into types before any work is done.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use super::compare::CompareArgs;
use super::flags::{LessonFlags, TrustFlags};
use super::simulate::SimulateArgs;
use super::values::{
    CacheArg, FitArg, MethodArg, PrecisionArg, StartArg, Switch, parse_bytes, parse_channels, parse_mistakes,
    parse_range, parse_rate, parse_seconds, parse_size, parse_whole, presets,
};
use crate::bundle::Preset;

/// Personalize a frozen image classifier on the device, from a handful of photos.
///
/// Three commands do the main job:
///   srlora pack model.onnx -o model.bundle                   once, on a desktop
///   srlora train model.bundle --data photos -o my.store      on the device
///   srlora predict model.bundle --store my.store photo.jpg
///
/// `srlora demo` shows all of it on a small network that comes with the program.
#[derive(Debug, Parser)]
#[command(name = "srlora", version, verbatim_doc_comment, max_term_width = 110, arg_required_else_help = true)]
pub(super) struct Cli {
    /// Print the result, and nothing else, as JSON on stdout; progress and warnings go to stderr.
    #[arg(long, global = true)]
    pub(super) json: bool,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Prepare an ONNX classifier for training: choose sites, compute their directions, check the gradients.
    Pack(PackArgs),
    /// Learn the classes of a photo folder; writes a store.
    Train(TrainArgs),
    /// Undo the last lesson of a store, or go back to any generation; that, too, can be undone.
    Rollback(RollbackArgs),
    /// Take a class out of a store's classifier. What the pairs have learned with it stays, and older generations still know it.
    Forget(ForgetArgs),
    /// Measure accuracy on a photo folder, with precision, recall and confusions of its classes.
    ///
    /// Up to 20 classes are shown as a confusion matrix; of more, those with the lowest recall and the most frequent confusions.
    /// --json has `per_class` (the precision and recall of every class) and `confused` (every confusion), and up to 1024 classes
    /// `confusion`, the whole matrix.
    Eval(EvalArgs),
    /// Classify single photos. Of one that cannot be read the error is told, and the exit code is 1 once the others are done.
    Predict(PredictArgs),
    /// Show what a bundle or a store holds.
    Inspect(InspectArgs),
    /// Time the forward pass and the training step on this machine.
    Bench(BenchArgs),
    /// Train several methods on the same photos, each with its best learning rate, and show how they differ.
    ///
    /// Every method is trained with every rate of its grid on three quarters of each class's training photos, several
    /// times, and the rate that does best on the quarters held out is chosen; of equal ones the smallest. The photos that
    /// accuracy is measured on have no say in it. Then each is trained on all training photos, once per seed. A seed decides the order of the
    /// photos, which all methods share, and random starts where there are some; so differences are taken seed by seed.
    /// Photos are decoded, and the frozen part is run, once for all methods with pairs and once for those without.
    Compare(CompareArgs),
    /// Try a lesson under a device's limits: time, memory, wear, energy, power cuts.
    ///
    /// The lesson really runs, here, within the device's free memory; its result is the one that `train` would give. Its time on
    /// the device is an estimate: this machine's processor time, by the speed of a core here and there at a large product; photos
    /// by pixels a second and writes by bytes a second; spread over its threads, longer by the profile's throttling, within its
    /// hours with power. Expect it to be right within a factor of five. Wear counts the bytes of files; what the file system and
    /// the card add is not in it.
    Simulate(SimulateArgs),
    /// Personalize the network that comes with the program, on photos that come with it.
    Demo,
}

#[derive(Debug, Args)]
pub(super) struct PackArgs {
    /// The classifier: an ONNX file (fp32, fp16 or int8) with one image input, N x 3 x H x W.
    pub(super) model: PathBuf,
    /// The bundle to write; it must not exist yet.
    #[arg(short, long, value_name = "BUNDLE")]
    pub(super) output: PathBuf,
    /// Precision in which the frozen weights ship and stay in memory; other than keep, the file has to be fp32.
    #[arg(long, value_enum, default_value_t = PrecisionArg::Keep)]
    pub(super) precision: PrecisionArg,
    /// Pairs per site: how much each adapted layer can learn; 256 at most.
    #[arg(long, default_value_t = 8, value_parser = parse_whole::<usize>)]
    pub(super) rank: usize,
    /// Directions shipped per site, those that the pairs start on included; 2048 at most, and no more than the site has.
    #[arg(long, default_value_t = 32, value_parser = parse_whole::<usize>)]
    pub(super) reserve: usize,
    /// Which layers learn: last:N, all, or a regular expression over the site names that `inspect` prints.
    #[arg(long, value_name = "SPEC", default_value = "last:12")]
    pub(super) sites: String,
    /// The tensor or node that the new classifier reads [default: what the model's own classifier reads, a linear layer or a
    /// pooled 1x1 convolution; without one, the model's output].
    #[arg(long, value_name = "NODE")]
    pub(super) features: Option<String>,
    /// The model's own classes, one name a line, as many as it has outputs and in their order.
    #[arg(long, value_name = "FILE")]
    pub(super) labels: Option<PathBuf>,
    /// Sign the bundle with this Ed25519 private key, a PEM file as `openssl genpkey -algorithm ed25519` writes it.
    #[arg(long, value_name = "KEYFILE")]
    pub(super) sign: Option<PathBuf>,
    /// A number that grows from release to release; --min-release refuses earlier ones.
    #[arg(long, value_name = "N", value_parser = parse_whole::<u64>)]
    pub(super) release: Option<u64>,
    /// Image size, height x width [default: what the model says].
    #[arg(long, value_name = "HxW", value_parser = parse_size)]
    pub(super) input: Option<[usize; 2]>,
    /// What the model's own photos went through; sets --fit, --range, --mean and --std, each of which overrides it.
    ///
    /// No preset, and no flag, reverses the channels: for a network that reads BGR (Caffe's, and Keras's mode caffe), reverse the
    /// input channels of its first weight and export it again.
    #[arg(long, value_name = "NAME", value_parser = presets())]
    pub(super) preset: Option<&'static Preset>,
    /// How a photo is brought to that size [default: crop].
    #[arg(long, value_enum)]
    pub(super) fit: Option<FitArg>,
    /// Pixel values run from 0 to this before mean and std: 1 or 255 [default: 1].
    #[arg(long, value_parser = parse_range)]
    pub(super) range: Option<f32>,
    /// Mean per channel, one value or three, in the units of --range [default: 0].
    #[arg(long, value_name = "a,b,c", value_parser = parse_channels)]
    pub(super) mean: Option<[f32; 3]>,
    /// Standard deviation per channel, one value or three, in the units of --range [default: 1].
    #[arg(long, value_name = "a,b,c", value_parser = parse_channels)]
    pub(super) std: Option<[f32; 3]>,
}

#[derive(Debug, Args)]
pub(super) struct TrainArgs {
    /// What `pack` wrote.
    pub(super) bundle: PathBuf,
    #[command(flatten)]
    pub(super) trust: TrustFlags,
    #[command(flatten)]
    pub(super) lesson: LessonFlags,
    /// The store to write; it must not exist yet, but for --resume.
    #[arg(short, long, value_name = "STORE", required_unless_present = "from")]
    pub(super) output: Option<PathBuf>,
    /// Instead of -o: a store that learns a further lesson. New folders become new classes; where a class that it knows has no photos,
    /// all classes are imprinted and no step is taken.
    #[arg(long, value_name = "STORE", conflicts_with = "output")]
    pub(super) from: Option<PathBuf>,
    /// Go on with the same lesson where it was cut off, to the same bytes; where nothing was begun, begin.
    #[arg(long)]
    pub(super) resume: bool,
    /// Seconds between checkpoints: the most work that a power cut can cost; 0: after every step.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = parse_seconds)]
    pub(super) checkpoint: Duration,
    /// What is trained, and how.
    #[arg(long, value_enum, default_value_t = MethodArg::Srlora)]
    pub(super) method: MethodArg,
    /// Learning rate of the pairs [default: 0.003].
    #[arg(long, value_parser = parse_rate)]
    pub(super) lr: Option<f32>,
    /// Learning rate of the head [default: 0.001].
    #[arg(long, value_parser = parse_rate)]
    pub(super) head_lr: Option<f32>,
    /// Decides order, split and augmentation; same seed, same bytes.
    #[arg(long, default_value_t = 0, value_parser = parse_whole::<u64>)]
    pub(super) seed: u64,
    /// Memory that the run may take, for instance 64MiB or 1.5GiB; cache, kept activations and threads are given
    /// up to fit, in this order, or it is refused.
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    pub(super) ram_limit: Option<u64>,
    /// Where to keep what the frozen part makes of each photo, so that it runs only once per photo.
    #[arg(long, value_enum, default_value_t = CacheArg::Disk)]
    pub(super) cache: CacheArg,
    /// Bytes that this may take, for instance 64MiB; photos that find no place run it every time [default: no limit].
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    pub(super) cache_limit: Option<u64>,
    /// Random crops or shifts, and mirror images; photos keep the scale that they have in prediction [default: off].
    #[arg(long, value_enum)]
    pub(super) augment: Option<Switch>,
    /// What a pair starts on [default: aligned; principal for pissa].
    #[arg(long, value_enum)]
    pub(super) start: Option<StartArg>,
    /// Steps between recompositions of half of the pairs, 0 for none; with it they happen however high the loss is. Those after
    /// which the loss rises are taken back, and there are no more [default: all pairs once, after three fifths of the lesson].
    #[arg(long, value_name = "STEPS")]
    pub(super) interval: Option<u32>,
    /// Steps that a pair must have lived before it can be fused [default: one more than the interval; without one, none].
    #[arg(long, value_name = "STEPS")]
    pub(super) min_age: Option<u32>,
}

#[derive(Debug, Args)]
pub(super) struct RollbackArgs {
    /// What `train` wrote.
    pub(super) store: PathBuf,
    /// The generation to go back to, or the number of a lesson that was kept aside [default: what the last lesson went out from].
    #[arg(long, value_name = "N", value_parser = parse_whole::<u64>)]
    pub(super) to: Option<u64>,
}

#[derive(Debug, Args)]
pub(super) struct ForgetArgs {
    /// What `train` wrote.
    pub(super) store: PathBuf,
    /// The class, by its folder's name.
    pub(super) class: String,
}

#[derive(Debug, Args)]
pub(super) struct EvalArgs {
    /// What `pack` wrote.
    pub(super) bundle: PathBuf,
    #[command(flatten)]
    pub(super) trust: TrustFlags,
    /// What `train` wrote; without it the model's own classifier answers.
    #[arg(long)]
    pub(super) store: Option<PathBuf>,
    /// One folder per class, named as the classes were in training.
    #[arg(long, value_name = "DIR")]
    pub(super) data: PathBuf,
    /// List up to N photos with a wrong guess, the most confident guess first; 1000 at most [default: none].
    #[arg(long, value_name = "N", value_parser = parse_mistakes)]
    pub(super) mistakes: Option<usize>,
}

#[derive(Debug, Args)]
pub(super) struct PredictArgs {
    /// What `pack` wrote.
    pub(super) bundle: PathBuf,
    #[command(flatten)]
    pub(super) trust: TrustFlags,
    /// What `train` wrote; without it the model's own classifier answers.
    #[arg(long)]
    pub(super) store: Option<PathBuf>,
    /// How many classes to list for each photo, the likeliest first.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) top: u32,
    /// Photos to classify.
    #[arg(required = true, value_name = "PHOTO")]
    pub(super) photos: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// A bundle file or a store folder.
    pub(super) path: PathBuf,
    #[command(flatten)]
    pub(super) trust: TrustFlags,
    /// Of a store: every recomposition with its outcome, and each site's importance over the lesson.
    #[arg(long)]
    pub(super) events: bool,
    /// Of a store: draw the importance of every pair over the lesson into an SVG file, which must not exist yet.
    #[arg(long, value_name = "FILE")]
    pub(super) svg: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    /// What `pack` wrote.
    pub(super) bundle: PathBuf,
    #[command(flatten)]
    pub(super) trust: TrustFlags,
    /// Time with this store's pairs and head.
    #[arg(long)]
    pub(super) store: Option<PathBuf>,
    /// Photos per step.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(super) batch: u32,
    /// Threads that photos are run on.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(super) threads: u32,
    /// Also time every node of a training step, against its arithmetic.
    #[arg(long)]
    pub(super) profile: bool,
}
