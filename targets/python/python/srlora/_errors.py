"""One class for each kind of failure; the text is the program's sentence, with options named as arguments."""


class Error(Exception):
    """What all errors of srlora are. Its text is `subject: message`."""

    subject: str = ""
    """The file, node or argument at fault."""
    message: str = ""
    """What is wrong with it, and what to do."""


class UsageError(Error, ValueError):
    """An argument has a value that cannot be meant."""


class IoError(Error, OSError):
    """The operating system refused a read or a write."""


class UnsyncedError(Error):
    """What was written is whole and has its name, but the medium did not promise to keep that name: a power cut may take it."""


class ExistsError(Error, FileExistsError):
    """The output is already there."""


class ModelError(Error):
    """A model file that is damaged, or of a form that is not taken."""


class UnsupportedOpError(Error):
    """An operator without a gradient rule between the first site and the head."""


class SitesError(Error, ValueError):
    """Sites that select nothing, or something that cannot be a site; a rank that does not fit."""


class CheckError(Error):
    """A check found that what was prepared does not compute what the file says."""


class BundleError(Error):
    """A bundle file that is damaged, of another version, or not signed as it has to be."""


class StoreError(Error):
    """A store that is damaged, empty or of another version."""


class MismatchError(Error):
    """A bundle and a store, or a bundle and photos, that do not belong together."""


class DataError(Error):
    """Photos that cannot be trained or evaluated on."""


class ImageError(Error):
    """One image that cannot be read."""


class MemoryLimitError(Error):
    """A memory limit that the work cannot be done in."""


class DeviceError(Error):
    """A device that the work cannot be done on."""


class BusyError(Error):
    """A store that another writer is changing, in this process or another one."""


class Stopped(Error):
    """Asked to stop, it did; the same call with `resume=True` goes on."""


class DivergedError(Error):
    """The loss stopped being a number."""


class InternalError(Error):
    """A state that the library itself should have ruled out."""


class SrloraWarning(UserWarning):
    """Something went wrong that does not stop the work."""


def _name_as_imported(*classes: type) -> None:
    for each in classes:
        each.__module__ = "srlora"


# In tracebacks, and where they are pickled.
_name_as_imported(Error, *Error.__subclasses__(), SrloraWarning)
