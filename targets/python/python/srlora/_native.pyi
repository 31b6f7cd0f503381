# Written by hand; stubtest compares it with what is built.
from types import TracebackType
from typing import Iterable, Iterator, List, Optional, Tuple, Type, Union, final, overload

import numpy as np
import numpy.typing as npt
from typing_extensions import Unpack

from . import types as t

__all__ = [
    "Bundle",
    "Classifier",
    "Store",
    "Trainer",
    "__version__",
    "adopt",
    "evaluate",
    "export_onnx",
    "export_peft",
    "import_peft",
    "inspect",
    "pack",
    "plan",
    "train",
    "trained",
]

__version__: str

@final
class Bundle:
    def __new__(cls, path: t.Path, *, verify_key: Optional[t.Path] = None, min_release: Optional[int] = None) -> Bundle: ...
    @property
    def path(self) -> str: ...
    @property
    def labels(self) -> Optional[List[str]]: ...
    @property
    def sites(self) -> List[str]: ...
    @property
    def rank(self) -> int: ...
    @property
    def feature_dim(self) -> int: ...
    @property
    def input(self) -> Tuple[int, int]: ...
    @property
    def precision(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def release(self) -> Optional[int]: ...

@final
class Store:
    def __new__(cls, path: t.Path) -> Store: ...
    @property
    def path(self) -> str: ...
    @property
    def current(self) -> int: ...
    @property
    def generations(self) -> List[int]: ...
    @property
    def aside(self) -> List[int]: ...
    @property
    def classes_(self) -> List[str]: ...
    @property
    def record(self) -> dict[str, object]: ...
    def rollback(self, to: Optional[int] = None) -> int: ...
    def forget(self, name: str) -> None: ...

@final
class Classifier:
    def __new__(cls, bundle: Union[t.Path, Bundle], store: Union[t.Path, Store, None] = None) -> Classifier: ...
    @property
    def classes_(self) -> List[str]: ...
    @property
    def tells_unknown(self) -> bool: ...
    @overload  # a str is one image, though it is an iterable of str
    def predict(  # type: ignore[overload-overlap]
        self, images: t.Image, top: int = 5
    ) -> List[Tuple[str, float]]: ...
    @overload
    def predict(self, images: Iterable[t.Image], top: int = 5) -> List[List[Tuple[str, float]]]: ...
    @overload  # a str is one image, though it is an iterable of str
    def examine(  # type: ignore[overload-overlap]
        self, images: t.Image, top: int = 5
    ) -> t.Prediction: ...
    @overload
    def examine(self, images: Iterable[t.Image], top: int = 5) -> List[t.Prediction]: ...
    def predict_proba(self, images: Union[t.Image, Iterable[t.Image]]) -> npt.NDArray[np.float32]: ...
    def embed(self, images: Union[t.Image, Iterable[t.Image]]) -> npt.NDArray[np.float32]: ...

@final
class Trainer(Iterator[t.Happened]):
    def __new__(
        cls,
        bundle: Union[t.Path, Bundle],
        data: Union[t.Path, Iterable[t.Image]],
        store: t.Path,
        **settings: Unpack[t.Settings],
    ) -> Trainer: ...
    @property
    def forecast(self) -> t.Forecast: ...
    @property
    def classes_(self) -> List[str]: ...
    @property
    def report(self) -> Optional[t.TrainReport]: ...
    def step(self, callback: Optional[t.Callback] = None) -> t.Happened: ...
    def run(self, callback: Optional[t.Callback] = None, *, progress: bool = True) -> t.TrainReport: ...
    def stop(self) -> None: ...
    def close(self) -> None: ...
    def __enter__(self) -> Trainer: ...
    def __exit__(
        self,
        _raised: Optional[Type[BaseException]],
        _value: Optional[BaseException],
        _traceback: Optional[TracebackType],
        /,
    ) -> None: ...
    def __iter__(self) -> Trainer: ...
    def __next__(self) -> t.Happened: ...

def pack(model: t.Path, output: t.Path, **settings: Unpack[t.PackSettings]) -> t.PackReport: ...
def inspect(path: t.Path, *, verify_key: Optional[t.Path] = None, min_release: Optional[int] = None) -> t.Inspection: ...
def train(
    bundle: Union[t.Path, Bundle],
    data: Union[t.Path, Iterable[t.Image]],
    store: t.Path,
    *,
    callback: Optional[t.Callback] = None,
    progress: bool = True,
    **settings: Unpack[t.Settings],
) -> t.TrainReport: ...
def plan(
    bundle: Union[t.Path, Bundle],
    data: Union[t.Path, Iterable[t.Image]],
    store: t.Path,
    **settings: Unpack[t.Settings],
) -> t.Forecast: ...
def evaluate(
    bundle: Union[t.Path, Bundle],
    data: Union[t.Path, Iterable[t.Image]],
    store: Union[t.Path, Store, None] = None,
    *,
    callback: Optional[t.Callback] = None,
    progress: bool = True,
    **settings: Unpack[t.EvaluateSettings],
) -> t.Evaluation: ...
def export_onnx(
    bundle: Union[t.Path, Bundle],
    store: Union[t.Path, Store],
    output: t.Path,
    *,
    callback: Optional[t.Callback] = None,
    progress: bool = True,
    **settings: Unpack[t.OnnxSettings],
) -> t.ExportReport: ...
def export_peft(
    bundle: Union[t.Path, Bundle],
    store: Union[t.Path, Store],
    output: t.Path,
    *,
    callback: Optional[t.Callback] = None,
    progress: bool = True,
    **settings: Unpack[t.PeftSettings],
) -> t.PeftReport: ...
def import_peft(
    bundle: Union[t.Path, Bundle], peft: t.Path, output: t.Path, **settings: Unpack[t.ImportSettings]
) -> t.ImportReport: ...
def trained(bundle: Union[t.Path, Bundle], store: Union[t.Path, Store]) -> t.Trained: ...
def adopt(
    bundle: Union[t.Path, Bundle],
    trained: t.Trained,
    store: t.Path,
    *,
    val: Union[t.Path, Iterable[t.Image], None] = None,
    val_labels: Optional[Iterable[str]] = None,
) -> t.Adopted: ...
