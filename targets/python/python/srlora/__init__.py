"""srlora: a frozen vision classifier learns new classes on the device, from a handful of photos.

>>> import srlora
>>> report = srlora.train("my.bundle", "photos", "my.store")    # a folder with a folder of photos for each class
>>> classifier = srlora.Classifier("my.bundle", "my.store")
>>> classifier.predict("photo.jpg", top=1)
[('cat', 0.93)]

The words are those of the program: a *bundle* is what ships, a *store* what was learned, a *lesson* one run of `train`.
"""

# Named first: without numpy, this fails as what it is, and not deep inside of an extension.
import numpy as _numpy

from . import types as types
from ._errors import (
    BundleError as BundleError,
    BusyError as BusyError,
    CheckError as CheckError,
    DataError as DataError,
    DeviceError as DeviceError,
    DivergedError as DivergedError,
    Error as Error,
    ExistsError as ExistsError,
    ImageError as ImageError,
    InternalError as InternalError,
    IoError as IoError,
    MemoryLimitError as MemoryLimitError,
    MismatchError as MismatchError,
    ModelError as ModelError,
    SitesError as SitesError,
    SrloraWarning as SrloraWarning,
    Stopped as Stopped,
    StoreError as StoreError,
    UnsupportedOpError as UnsupportedOpError,
    UnsyncedError as UnsyncedError,
    UsageError as UsageError,
)
from ._native import (
    Bundle as Bundle,
    Classifier as Classifier,
    Store as Store,
    Trainer as Trainer,
    __version__ as __version__,
    adopt as adopt,
    evaluate as evaluate,
    export_onnx as export_onnx,
    export_peft as export_peft,
    import_peft as import_peft,
    inspect as inspect,
    pack as pack,
    plan as plan,
    train as train,
    trained as trained,
)

del _numpy
