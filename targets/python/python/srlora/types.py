"""What goes into srlora and what comes out of it, for type checkers and for reading.

At run time all of these are plain dicts. They have the keys that the program prints with `--json`; None stands where that has null.
Accuracies and probabilities are in 0 to 1, sizes in bytes, times in seconds unless a name ends in `_ms`.
"""

import os
from typing import Any, Callable, Dict, List, Literal, Optional, Sequence, Tuple, TypeAlias, TypedDict, Union

import numpy as np
import numpy.typing as npt

Path: TypeAlias = Union[str, "os.PathLike[str]"]
"""Where a file or a folder is."""

Image: TypeAlias = Union[Path, bytes, bytearray, memoryview, npt.NDArray[np.uint8]]
"""One image: a file, the bytes of a JPEG or PNG, or pixels: height x width x 3 (red, green, blue) or height x width (grey), any strides."""

Method: TypeAlias = Literal["srlora", "pissa", "lora", "head", "imprint"]
"""What is trained: pairs that may be recomposed, pairs on principal components, pairs, the head alone, or nothing but class means."""

Pairs: TypeAlias = Literal["one-sided", "both"]
"""Which sides of pairs learn."""

Precision: TypeAlias = Literal["keep", "fp32", "fp16", "int8"]
"""In which weights are written; `keep`: as the file has them."""


# --- what goes in -------------------------------------------------------------------------------------------------------------


class Settings(TypedDict, total=False):
    """The settings of `train`, `plan` and `Trainer`. What is not given, or is None, is the program's default."""

    labels: Optional[Sequence[str]]
    """The class of each image in `data`. Without them, `data` is a folder."""
    val: Union[Path, Sequence[Image], None]
    """Photos held back to measure accuracy on: a folder, or images with `val_labels`. None of them may be in `data`."""
    val_labels: Optional[Sequence[str]]
    """The class of each image in `val`."""
    val_split: Optional[float]
    """Or the share of each class of `data` to hold back for that."""
    further: Optional[bool]
    """The lesson goes on from what `store` has learned. New classes are added to those that it knows."""
    resume: Optional[bool]
    """The same lesson goes on where it was stopped, to the same bytes. If nothing was begun, it begins."""
    checkpoint: Optional[float]
    """Seconds between checkpoints: the most work that a power cut can cost. 0: after every step."""
    method: Optional[Method]
    """What is trained, and how."""
    start: Optional[Literal["aligned", "principal", "random"]]
    """What a pair starts on."""
    pairs: Optional[Pairs]
    """Which sides of pairs learn."""
    directions: Optional[Literal["shipped", "photos"]]
    """Where the directions of aligned pairs come from."""
    epochs: Optional[int]
    """Passes over the photos."""
    steps: Optional[int]
    """Or the number of steps; a step takes one batch."""
    batch: Optional[int]
    """Photos per step."""
    lr: Optional[float]
    """Learning rate of the pairs."""
    head_lr: Optional[float]
    """Learning rate of the head."""
    decay: Optional[float]
    """Weight decay of the pairs per unit of their rate."""
    head_decay: Optional[float]
    """Weight decay of the head per unit of its rate."""
    seed: Optional[int]
    """Decides order, split and augmentation. The same seed gives the same bytes."""
    augment: Optional[bool]
    """Random crops or shifts, and mirrored photos."""
    interval: Union[int, Literal["once"], None]
    """Steps between recompositions of half of the pairs; `once` for all pairs after three fifths of the lesson; 0 for none."""
    min_age: Optional[int]
    """Steps that a pair must have lived before it can be fused."""
    solve: Optional[bool]
    """Whether the head is solved anew after the last step, where photos are few enough; the program always does."""
    replay: Optional[int]
    """Bytes of examples that the store keeps, so that a further lesson does not need the photos. 0 keeps none, and uses none."""
    threads: Optional[int]
    """Threads that photos run on. The result does not depend on their number."""
    cache: Optional[Literal["disk", "ram", "off"]]
    """Where what the frozen part makes of each photo is kept."""
    cache_limit: Optional[int]
    """Bytes that the cache may take."""
    ram_limit: Optional[int]
    """Bytes of memory that the process may reach. To fit, cache, activations and threads are given up; then the lesson is refused."""


class PackSettings(TypedDict, total=False):
    """What `pack` takes besides its files."""

    rank: Optional[int]
    """Pairs per site: how much each of these layers can learn."""
    reserve: Optional[int]
    """Directions shipped per site."""
    sites: Optional[str]
    """Which layers learn: `last:N`, `all`, or a regular expression over names."""
    precision: Optional[Precision]
    """Precision in which the frozen weights ship and stay in memory."""
    preset: Optional[Literal["torchvision", "timm-inception", "raw", "unit"]]
    """The preprocessing that the model was trained with."""
    fit: Optional[Literal["crop", "stretch"]]
    """How a photo is brought to the network's size."""
    range: Optional[float]
    """Largest pixel value before mean and std are applied: 1 or 255."""
    mean: Union[float, Sequence[float], None]
    """Mean per channel, one value or three, in the units of `range`."""
    std: Union[float, Sequence[float], None]
    """Standard deviation per channel, one value or three, in the units of `range`."""
    input: Optional[Tuple[int, int]]
    """Height and width of the network's input, where the model does not say."""
    labels: Optional[Path]
    """A file with the names of the model's own classes, one a line."""
    features: Optional[str]
    """The tensor or node that the new head reads."""
    sign: Optional[Path]
    """An Ed25519 private key to sign with, a PEM file."""
    release: Optional[int]
    """A number that grows from release to release."""


class OnnxSettings(TypedDict, total=False):
    """What `export_onnx` takes besides its files."""

    precision: Optional[Precision]
    """Precision of the file's weights."""
    with_preprocessing: Optional[bool]
    """The file takes the bytes of an image, and gives probabilities."""
    photos: Optional[Path]
    """A folder of photos that the file is checked with; without one it is noise."""


class NamingSettings(TypedDict, total=False):
    """How the modules of PyTorch's network are found."""

    torch: Optional[Path]
    """The network's weights in PyTorch, a safetensors file."""
    map: Optional[Path]
    """A TOML file with a line for each site whose name tells nothing."""


class PeftSettings(NamingSettings, total=False):
    """What `export_peft` takes besides its files."""

    rank: Union[int, float, Literal["exact"], None]
    """Pairs of each module: all, so many, or those that have such a share of what was learned."""
    photos: Optional[Path]
    """A folder of photos that the adapter is checked with; without one it is noise."""


class ImportSettings(NamingSettings, total=False):
    """What `import_peft` takes besides its files."""

    labels: Optional[Path]
    """A file with the names of the classes, one a line, where the adapter does not name them."""


class EvaluateSettings(TypedDict, total=False):
    """What `evaluate` takes besides its photos."""

    labels: Optional[Sequence[str]]
    """The class of each image in `data`. Without them, `data` is a folder."""
    mistakes: Optional[int]
    """Wrong guesses to list, the most confident first."""
    unknown: Optional[Path]
    """A folder of photos that show none of the classes."""


# --- what is told on the way --------------------------------------------------------------------------------------------------


class Forecast(TypedDict):
    """What a lesson will take."""

    peak_rss_bytes: Optional[int]
    threads: int
    recompute: bool
    cache: Literal["disk", "ram", "off"]
    cache_bytes: int
    write_bytes: int
    checkpoint_bytes: int
    steps: int
    cross_validated_steps: int
    step_ms: float
    seconds: float


class BeginEvent(TypedDict):
    """A phase of `total` units begins."""

    event: Literal["begin"]
    phase: str
    total: int


class AdvanceEvent(TypedDict):
    """One more unit of the phase is done, `done` in all."""

    event: Literal["advance"]
    phase: str
    done: int
    total: int


class StepEvent(TypedDict):
    """An optimizer step was taken: its number from 1, and the loss and the accuracy of its batch before it."""

    event: Literal["step"]
    step: int
    loss: float
    accuracy: float


class EndEvent(TypedDict):
    """The phase is over."""

    event: Literal["end"]
    phase: str


class PlannedEvent(TypedDict):
    """What the lesson will take."""

    event: Literal["planned"]
    forecast: Forecast


class NoteEvent(TypedDict):
    """Something to know."""

    event: Literal["note"]
    text: str


class WarningEvent(TypedDict):
    """Something went wrong that does not stop the work."""

    event: Literal["warning"]
    text: str


Event: TypeAlias = Union[BeginEvent, AdvanceEvent, StepEvent, EndEvent, PlannedEvent, NoteEvent, WarningEvent]
"""What a callback is told; `event` says which it is."""

Callback: TypeAlias = Callable[[Event], object]
"""Is told each event. One that answers False stops the work; whatever else it answers does not matter."""


# --- what comes out -----------------------------------------------------------------------------------------------------------


class Guess(TypedDict):
    """A class and how likely it is."""

    label: str
    probability: float


class Prediction(TypedDict):
    """All that is known of an image."""

    path: str
    top: List[Guess]
    confidence: Optional[float]
    unknown: Optional[bool]
    ms: float


class Calibration(TypedDict):
    """How logits are to be read, as photos that were left out have shown."""

    temperature: float
    unknown_below: float
    photos: int
    solved: bool


class CrossValidation(TypedDict):
    """How many photos were right, each left out once, and how methods differ on them."""

    photos: int
    imprinted: int
    head: int
    pairs: int
    pairs_differ: int
    head_differs: int
    both_differ: int
    parts: int


_Known = TypedDict(
    "_Known", {"class": str, "photos": int, "before": float, "after": float, "imprinted": Optional[float]}
)


class Known(_Known, total=False):
    """A class that the store knew before a further lesson. `of_all` is there where `adopt` has brought new classes."""

    of_all: float


class AllClasses(TypedDict):
    """All classes after a further lesson."""

    photos: int
    imprinted: float
    after: float
    known_imprinted: Optional[float]


class _Trial(TypedDict):
    on: Literal["held_back", "left_out", "cross_validated", "replayed", "seen", "made_up"]
    photos: int
    before: float
    after: float
    warned: bool


class Trial(_Trial, total=False):
    """What a lesson was judged by. `known` and `all` are there after a further lesson."""

    known: List[Known]
    all: AllClasses


class Quarantined(TypedDict):
    """A photo that could not be read, and why."""

    path: str
    reason: str


class Ignored(TypedDict):
    """Photos of a format that is not read."""

    format: str
    count: int
    first: str


class TrainReport(TypedDict):
    """What `train` answers: the keys of `srlora train --json`."""

    method: Method
    seed: int
    steps: int
    classes: List[str]
    trainable_params: int
    train_loss: Optional[float]
    val_accuracy: Optional[float]
    val_accuracy_before: Optional[float]
    trial: Optional[Trial]
    aside: Optional[int]
    resumed_after: Optional[int]
    recompositions: int
    undone: int
    rested_steps: Optional[int]
    left_out_accuracy: Optional[float]
    calibration: Optional[Calibration]
    cross_validation: Optional[CrossValidation]
    seconds: float
    startup_ms: float
    step_ms_median: Optional[float]
    threads: int
    cache_bytes: int
    peak_rss_bytes: Optional[int]
    lesson_peak_bytes: Optional[int]
    planned_peak_bytes: Optional[int]
    planned: Forecast
    generation: int
    quarantined: List[Quarantined]
    ignored: List[Ignored]
    train_images: int
    replayed: int
    replay_bytes: int
    val_images: int


class ImprintedHappened(TypedDict):
    """Every photo was read, and new classes were imprinted: a first lesson's store is there now."""

    happened: Literal["imprinted"]


class ReadyHappened(TypedDict):
    """What is known before the first step was found out."""

    happened: Literal["ready"]
    cross_validation: Optional[CrossValidation]


class StepHappened(TypedDict):
    """An optimizer step was taken."""

    happened: Literal["step"]
    step: int
    loss: float
    accuracy: float


class EndedHappened(TypedDict):
    """The lesson was judged, and is over."""

    happened: Literal["ended"]
    report: TrainReport


Happened: TypeAlias = Union[ImprintedHappened, ReadyHappened, StepHappened, EndedHappened]
"""What `Trainer.step` has done; `happened` says which it is."""


class PackedSite(TypedDict):
    """A layer that learns."""

    name: str
    out_dim: int
    in_dim: int
    reserve: int
    rounding_error: Optional[float]
    rounded_to_zero: Optional[float]


class PackReport(TypedDict):
    """What `pack` answers: the keys of `srlora pack --json`."""

    sites: List[PackedSite]
    rank: int
    features: str
    features_from: Literal["flag", "linear", "convolution", "cosine", "output"]
    feature_dim: int
    precision: Literal["fp32", "fp16", "int8"]
    backbone_bytes: int
    weight_bytes: int
    f32_bytes: int
    directions_bytes: int
    bundle_bytes: int
    forward_error: float
    gradient_error: float
    takes_bytes: bool
    seconds: float
    notes: List[str]
    warnings: List[str]


class InspectedSite(TypedDict):
    """A layer that learns, of a bundle or a store."""

    name: str
    out_dim: int
    in_dim: int
    reserve: int
    unused: Optional[int]
    found: Optional[int]


class Inspection(TypedDict):
    """What `inspect` answers: the keys of `srlora inspect --json`."""

    kind: Literal["bundle", "store"]
    sites: List[InspectedSite]
    rank: Optional[int]
    precision: str
    backbone_sha256: str
    features: Optional[str]
    preprocess: Optional[str]
    preset: Optional[str]
    labels: Optional[List[str]]
    release: Optional[int]
    signed: Optional[bool]
    verified: bool
    bytes: Optional[int]
    generation: Optional[int]
    generations: Optional[List[int]]
    aside: Optional[List[int]]
    steps_under_way: Optional[int]
    events: Optional[List[Dict[str, Any]]]
    importance: Optional[Dict[str, Any]]
    lesson: Optional[Dict[str, Any]]
    warning: Optional[str]


class ExportedFile(TypedDict):
    """A file that was written."""

    path: str
    bytes: int


class ExportedSite(TypedDict):
    """What has become of the weight of a site."""

    name: str
    error_fro: float
    saturated: int


class _SelfCheck(TypedDict):
    max_probability_difference: float
    same_class: int
    photos: int
    noise: bool
    seconds: float
    peak_rss_bytes: Optional[int]


class ExportReport(_SelfCheck):
    """What `export_onnx` answers: the keys of `srlora export --json`."""

    format: Literal["onnx"]
    files: List[ExportedFile]
    sites: List[ExportedSite]


class PeftSite(TypedDict):
    """A site, and the module that it has become."""

    name: str
    module: str
    rank: int
    unfolded: bool
    base_error_fro: Optional[float]
    error_fro: float
    saturated: int


class PeftReport(_SelfCheck):
    """What `export_peft` answers: the keys of `srlora export --json`."""

    format: Literal["peft"]
    files: List[ExportedFile]
    sites: List[PeftSite]
    head: str
    classes: List[str]
    matched: bool


class ImportedSite(TypedDict):
    """A module, and the site that it has become."""

    name: str
    module: str
    rank: int
    fused: bool
    max_error: float


class ImportReport(TypedDict):
    """What `import_peft` answers: the keys of `srlora import --json`."""

    store: str
    generation: int
    sites: List[ImportedSite]
    classes: List[str]
    matched: bool


class Trained(TypedDict):
    """What was trained, by key: see `trained`."""

    bundle_sha256: str
    classes: List[str]
    arrays: Dict[str, npt.NDArray[np.float32]]


class Adopted(TypedDict):
    """What `adopt` answers. `aside` is the number under which the arrays were kept aside; None: they are current."""

    generation: int
    aside: Optional[int]
    trial: Optional[Trial]
    max_error: float
    let_go: Optional[int]


ClassScore = TypedDict(
    "ClassScore", {"class": str, "photos": int, "precision": Optional[float], "recall": Optional[float]}
)
"""How a class did."""

Confused = TypedDict("Confused", {"class": str, "guess": str, "count": int})
"""Photos of a class that were taken for another."""

Mistake = TypedDict("Mistake", {"path": str, "class": str, "guess": str, "probability": float})
"""A photo with a wrong guess."""


class Evaluation(TypedDict):
    """What `evaluate` answers: the keys of `srlora eval --json`."""

    accuracy: float
    n: int
    classes: List[str]
    confusion: Optional[List[List[int]]]
    confused: List[Confused]
    per_class: List[ClassScore]
    at_chance: Optional[bool]
    calibration_error: Optional[float]
    calibration_error_before: Optional[float]
    unknown_images: Optional[int]
    auroc: Optional[float]
    unknown_found: Optional[float]
    false_alarms: Optional[float]
    images_per_second: float
    mistakes: Optional[List[Mistake]]
    quarantined: List[Quarantined]
    ignored: List[Ignored]
