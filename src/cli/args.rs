//! The command line, parsed into types before any work is done.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use super::compare::CompareArgs;
use super::export::ExportArgs;
use super::flags::{LessonFlags, TrustFlags};
use super::import::ImportArgs;
use super::report::ReportFlag;
use super::serve::ServeArgs;
use super::simulate::SimulateArgs;
use super::values::{
    CacheArg, DirectionsArg, FitArg, MethodArg, PairsArg, PrecisionArg, StartArg, Switch, parse_bytes,
    parse_bytes_or_none, parse_channels, parse_interval, parse_mistakes, parse_range, parse_rate, parse_seconds,
    parse_size, parse_whole, presets,
};
use crate::bundle::{PackRequest, Preset};
use crate::session::Interval;

/// Teach a frozen vision classifier new classes on the device, from a handful of photos.
///
/// Four commands do the main job:
///   srlora pack model.onnx -o model.bundle --preset torchvision           once, on a PC
///   srlora train model.bundle --data photos --val-split 0.2 -o my.store   on the device
///   srlora predict model.bundle --store my.store photo.jpg
///   srlora rollback my.store                                              takes the lesson back
///
/// `srlora demo` shows it on a small network that comes with the program.
///
/// The words:
///   bundle   the file that ships: the frozen network, its preprocessing, and the directions
///            along which it can learn; `pack` makes it
///   store    the folder on the device that holds what was learned, as numbered generations;
///            the newest one counts, and earlier ones can come back
///   lesson   one run of `train`, which learns a folder of photos into a store
///   site     a layer that learns: its weights stay as they are, and a few low-rank pairs
///            beside them are trained
///   head     the new classifier behind the network; it starts imprinted, as class means
///   trial    the judgement at the end of a lesson: it becomes current only if it is no worse
///            than what was there before, and is kept aside otherwise
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
    /// Make a bundle from an ONNX classifier.
    ///
    /// `pack` chooses the sites, computes their directions, and checks the gradients before it writes anything. It refuses an
    /// operator that it cannot differentiate, and names the sites that would avoid it.
    Pack(PackArgs),
    /// Learn the classes of a photo folder into a store: one lesson.
    ///
    /// `train` imprints a head from class means, trains pairs and head, and judges the result. This is the lesson's trial: it
    /// becomes current only if it is no worse than what was there before. Otherwise it is kept aside. Before it starts, `train`
    /// says what memory, time and writes the lesson will take.
    Train(TrainArgs),
    /// Take back the last lesson of a store, or go back to any generation.
    ///
    /// A rollback writes a new generation, so it can be undone too.
    Rollback(RollbackArgs),
    /// Take a class out of a store.
    ///
    /// The class leaves the head and the class means. What the pairs have learned with it stays, and older generations still
    /// know it. This can be undone with `rollback`.
    Forget(ForgetArgs),
    /// Measure accuracy on a photo folder, and precision, recall and confusions of its classes.
    ///
    /// Up to 20 classes are shown as a confusion matrix. Of more, those with the lowest recall are shown, and the most frequent
    /// confusions. --json has `per_class` (the precision and recall of every class) and `confused` (every confusion). Up to 1024
    /// classes it also has `confusion`, the whole matrix.
    Eval(EvalArgs),
    /// Classify photos, one by one.
    ///
    /// A photo that cannot be read gets an error of its own. The exit code is then 1, once the others are done.
    Predict(PredictArgs),
    /// Make a store of an adapter that PyTorch's PEFT has trained on the same network.
    ///
    /// LoRA and rsLoRA of linear layers and convolutions are taken, with a classifier in `modules_to_save`. Pairs beyond the bundle's
    /// rank go into the delta.
    Import(ImportArgs),
    /// Write the network with what a store has learned: as one ONNX file for any runtime, as an adapter for
    /// onnxruntime, or as one for PyTorch's PEFT.
    ///
    /// The file is the vendor's, byte by byte, but for the weights of the sites, into which the pairs are merged, and the classifier,
    /// which gives logits of the store's classes. Its metadata has the names of the classes and how photos are prepared.
    ///
    /// Before it has its name, the file is read again and checked: photos go through it and through the adapted network, and the
    /// largest difference of a probability is printed.
    Export(ExportArgs),
    /// Serve a page to collect photos, learn and undo, from a phone's browser.
    ///
    /// It shows the camera with what is recognized in it, collects photos into classes, runs lessons, and goes back to earlier
    /// generations. A class works as soon as it has its first photos. Guesses go on during a lesson, with the generation before.
    ///
    /// Without --listen only this machine can open the page. With it, the page needs a token, which is part of the address that is
    /// printed. SIGTERM ends it; a lesson under way leaves a checkpoint, and the page offers to go on with it.
    Serve(ServeArgs),
    /// Show what a bundle or a store holds.
    Inspect(InspectArgs),
    /// Time the forward pass and the training step on this machine.
    Bench(BenchArgs),
    /// Train several methods on the same photos, each with its best learning rate, and show how they differ.
    ///
    /// First each method's rate is chosen. The method is trained with every rate of its grid on three quarters of each class's
    /// training photos, several times. The rate that does best on the quarters held out is taken; of equal ones the smallest. The
    /// photos that accuracy is measured on have no say in it.
    ///
    /// Then each method is trained on all training photos, once for each seed. A seed decides the order of the photos, which all
    /// methods share, and random starts. So differences are taken seed by seed.
    ///
    /// Photos are decoded, and the frozen part is run, once for all methods with pairs and once for those without.
    Compare(CompareArgs),
    /// Try a lesson under a device's limits: time, memory, wear, energy, power cuts.
    ///
    /// The lesson really runs, here, within the device's free memory. Its result is the one that `train` would give.
    ///
    /// Its time on the device is an estimate, right within a factor of five. It is this machine's processor time, scaled by the
    /// speed of a core here and there at a large product. Photos count by pixels a second, and writes by bytes a second. All of it
    /// is spread over the lesson's threads, takes longer where the profile throttles, and stays within the hours with power.
    ///
    /// Wear counts the bytes of files. What the file system and the card add is not in it.
    Simulate(SimulateArgs),
    /// Run a whole lesson on a network and photos that come with the program.
    Demo,
}

#[derive(Debug, Args)]
pub(super) struct PackArgs {
    /// The classifier: an ONNX file (fp32, fp16 or int8) with one image input: N x 3 x H x W, N x H x W x 3 or one channel.
    pub(super) model: PathBuf,
    /// The bundle to write; it must not exist yet.
    #[arg(short, long, value_name = "BUNDLE")]
    pub(super) output: PathBuf,
    /// Precision in which the frozen weights ship and stay in memory. Unless it is keep, the file has to be fp32.
    #[arg(long, value_enum, default_value_t = PrecisionArg::Keep)]
    pub(super) precision: PrecisionArg,
    /// Pairs per site: how much each of these layers can learn. 256 at most.
    #[arg(long, default_value_t = PackRequest::DEFAULT_RANK, value_parser = parse_whole::<usize>)]
    pub(super) rank: usize,
    /// Directions shipped per site. The pairs start on the first of them. 2048 at most, and no more than the site has.
    #[arg(long, default_value_t = PackRequest::DEFAULT_RESERVE, value_parser = parse_whole::<usize>)]
    pub(super) reserve: usize,
    /// Which layers learn (the sites): last:N, all, or a regular expression over the names that `inspect` prints.
    #[arg(long, value_name = "SPEC", default_value = PackRequest::DEFAULT_SITES)]
    pub(super) sites: String,
    /// The tensor or node that the new head reads [default: what the model's own classifier reads, a linear layer or a pooled
    /// 1x1 convolution; without one, the model's output].
    #[arg(long, value_name = "NODE")]
    pub(super) features: Option<String>,
    /// Names of the model's own classes, one a line, as many as it has outputs and in their order.
    #[arg(long, value_name = "FILE")]
    pub(super) labels: Option<PathBuf>,
    /// Sign the bundle with this Ed25519 private key, a PEM file as `openssl genpkey -algorithm ed25519` writes it.
    #[arg(long, value_name = "KEYFILE")]
    pub(super) sign: Option<PathBuf>,
    /// A number that grows from release to release. --min-release refuses earlier ones.
    #[arg(long, value_name = "N", value_parser = parse_whole::<u64>)]
    pub(super) release: Option<u64>,
    /// Size of the network's input, height x width [default: what the model says].
    #[arg(long, value_name = "HxW", value_parser = parse_size)]
    pub(super) input: Option<[usize; 2]>,
    /// The preprocessing that the model was trained with. It sets --fit, --range, --mean and --std; each of them overrides it.
    ///
    /// Channels are red, green, blue; there is no flag for another order. For a network that reads BGR (Caffe's, and Keras's mode
    /// caffe), reverse the input channels of its first weight and export it again.
    #[arg(long, value_name = "NAME", value_parser = presets())]
    pub(super) preset: Option<&'static Preset>,
    /// How a photo is brought to that size [default: crop].
    #[arg(long, value_enum)]
    pub(super) fit: Option<FitArg>,
    /// Largest pixel value before mean and std are applied: 1 or 255 [default: 1].
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
    /// The bundle, which `pack` wrote.
    pub(super) bundle: PathBuf,
    #[command(flatten)]
    pub(super) trust: TrustFlags,
    #[command(flatten)]
    pub(super) lesson: LessonFlags,
    /// The store to write. It must not exist yet, except with --resume.
    #[arg(short, long, value_name = "STORE", required_unless_present = "from")]
    pub(super) output: Option<PathBuf>,
    /// Instead of -o: a store that learns a further lesson. New folders become new classes. Examples that the store has kept stand in for
    /// photos of the classes that it knows. If such a class has neither, no step is taken and all classes are imprinted.
    #[arg(long, value_name = "STORE", conflicts_with = "output")]
    pub(super) from: Option<PathBuf>,
    /// Go on with the same lesson where it was cut off, to the same bytes. If nothing was begun, begin.
    #[arg(long)]
    pub(super) resume: bool,
    /// Seconds between checkpoints: the most work that a power cut can cost. 0 means after every step.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = parse_seconds)]
    pub(super) checkpoint: Duration,
    #[command(flatten)]
    pub(super) report: ReportFlag,
    /// What is trained, and how.
    #[arg(long, value_enum, default_value_t = MethodArg::Srlora)]
    pub(super) method: MethodArg,
    /// Learning rate of the pairs [default: 1e-4 times the root of the number of photos, between 0.001 and 0.004; 0.003 where both
    /// sides of pairs learn].
    #[arg(long, value_parser = parse_rate)]
    pub(super) lr: Option<f32>,
    /// Learning rate of the head [default: 0.001].
    #[arg(long, value_parser = parse_rate)]
    pub(super) head_lr: Option<f32>,
    /// Weight decay of the pairs per unit of their rate, toward what they started on [default: 1; 0 where both sides of pairs learn].
    #[arg(long, value_parser = parse_rate)]
    pub(super) decay: Option<f32>,
    /// Weight decay of the head per unit of its rate [default: 0.5; 0 where both sides of pairs learn, or none].
    #[arg(long, value_parser = parse_rate)]
    pub(super) head_decay: Option<f32>,
    /// Decides order, split and augmentation. The same seed gives the same bytes.
    #[arg(long, default_value_t = 0, value_parser = parse_whole::<u64>)]
    pub(super) seed: u64,
    /// Memory that the lesson may take, for instance 64MiB or 1.5GiB. To fit, `train` gives up the cache, then kept activations,
    /// then threads. If that is not enough, it refuses.
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    pub(super) ram_limit: Option<u64>,
    /// Where to keep what the prefix (the network before its first site) makes of each photo, so that it runs once a photo.
    #[arg(long, value_enum, default_value_t = CacheArg::Disk)]
    pub(super) cache: CacheArg,
    /// Bytes that the cache may take, for instance 64MiB. Photos that find no room run the prefix every time [default: no limit].
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    pub(super) cache_limit: Option<u64>,
    /// Bytes of examples that the store keeps of the photos, so that a further lesson does not need them: what the prefix has made of
    /// each, in int8. 0 keeps none, and uses none.
    #[arg(long, value_name = "SIZE", default_value = "2MiB", value_parser = parse_bytes_or_none)]
    pub(super) replay: u64,
    /// Random crops or shifts, and mirrored photos. Photos keep the scale that they have in prediction [default: off].
    #[arg(long, value_enum)]
    pub(super) augment: Option<Switch>,
    /// What a pair starts on [default: aligned; principal for pissa].
    #[arg(long, value_enum)]
    pub(super) start: Option<StartArg>,
    /// Which sides of pairs learn [default: one-sided; both for lora and pissa].
    #[arg(long, value_enum)]
    pub(super) pairs: Option<PairsArg>,
    /// Where the directions of aligned pairs come from [default: photos where pairs are one-sided, else shipped].
    #[arg(long, value_enum)]
    pub(super) directions: Option<DirectionsArg>,
    /// Steps between recompositions of half of the pairs, whatever the loss; `once` for all pairs after three fifths of the lesson,
    /// where the loss says that it can pay; 0 for none. One after which the loss rises is taken back, and there are no more
    /// [default: 0].
    #[arg(long, value_name = "STEPS", value_parser = parse_interval)]
    pub(super) interval: Option<Interval>,
    /// Steps that a pair must have lived before it can be fused [default: one more than the interval; without an interval, none].
    #[arg(long, value_name = "STEPS")]
    pub(super) min_age: Option<u32>,
}

#[derive(Debug, Args)]
pub(super) struct RollbackArgs {
    /// The store, which `train` wrote.
    pub(super) store: PathBuf,
    /// The generation to go back to, or the number of a lesson that was kept aside [default: the generation that the last lesson
    /// started from].
    #[arg(long, value_name = "N", value_parser = parse_whole::<u64>)]
    pub(super) to: Option<u64>,
}

#[derive(Debug, Args)]
pub(super) struct ForgetArgs {
    /// The store, which `train` wrote.
    pub(super) store: PathBuf,
    /// The class, by its folder's name.
    pub(super) class: String,
}

#[derive(Debug, Args)]
pub(super) struct EvalArgs {
    /// The bundle, which `pack` wrote.
    pub(super) bundle: PathBuf,
    #[command(flatten)]
    pub(super) trust: TrustFlags,
    /// The store, which `train` wrote. Without it the model's own classifier answers.
    #[arg(long)]
    pub(super) store: Option<PathBuf>,
    /// One folder per class, named as the classes were in training.
    #[arg(long, value_name = "DIR")]
    pub(super) data: PathBuf,
    /// List up to N photos with a wrong guess, the most confident guess first. 1000 at most [default: none].
    #[arg(long, value_name = "N", value_parser = parse_mistakes)]
    pub(super) mistakes: Option<usize>,
    /// Photos that show none of the classes, in DIR or in folders in it: how many are found to be unknown.
    #[arg(long, value_name = "DIR")]
    pub(super) unknown: Option<PathBuf>,
    #[command(flatten)]
    pub(super) report: ReportFlag,
}

#[derive(Debug, Args)]
pub(super) struct PredictArgs {
    /// The bundle, which `pack` wrote.
    pub(super) bundle: PathBuf,
    #[command(flatten)]
    pub(super) trust: TrustFlags,
    /// The store, which `train` wrote. Without it the model's own classifier answers.
    #[arg(long)]
    pub(super) store: Option<PathBuf>,
    /// How many classes to list for each photo, the likeliest first.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) top: u32,
    /// Say so where a photo is like none of the classes (in JSON `unknown`, always). About one known photo in twenty is taken for that, or fewer.
    #[arg(long)]
    pub(super) unknown: bool,
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
    /// Of a store: draw the importance of every pair over the lesson into an SVG file. It must not exist yet.
    #[arg(long, value_name = "FILE")]
    pub(super) svg: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    /// The bundle, which `pack` wrote.
    pub(super) bundle: PathBuf,
    #[command(flatten)]
    pub(super) trust: TrustFlags,
    /// Time with this store's pairs and head.
    #[arg(long)]
    pub(super) store: Option<PathBuf>,
    /// Photos per step.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(super) batch: u32,
    /// Threads that photos run on.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(super) threads: u32,
    /// Also time every node of a training step, and compare it with its arithmetic.
    #[arg(long)]
    pub(super) profile: bool,
    /// Answer with a table in Markdown that also says what was timed, and on what: the board, its processor and kernel, the bundle's
    /// hash. It has no names of files, users or hosts.
    #[arg(long, conflicts_with_all = ["json", "profile"])]
    pub(super) report: bool,
}
