"""A fleet that learns together, on Flower: `pip install srlora[flower]`.

    client_app    what a device runs: Flower's ClientApp over lessons and a store
    server_app    what the server runs: Flower's ServerApp with `FleetStrategy`
    device        the same without Flower: count classes, imprint, learn, take
    average       the mean of what devices have learned, and what is refused
    privacy       clipping, noise, and the epsilon that it keeps

Flower is imported when one of the first two is.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .client import client_app as client_app
    from .server import FleetStrategy as FleetStrategy
    from .server import server_app as server_app
    from .settings import FleetSettings as FleetSettings

__all__ = ["FleetSettings", "FleetStrategy", "client_app", "server_app"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from . import client, server
    except ImportError as error:
        raise ImportError(f"{error}; `pip install srlora[flower]` installs Flower") from error
    return getattr(client if name == "client_app" else server, name)
