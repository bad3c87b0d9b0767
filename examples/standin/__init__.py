"""Stand-ins for servers that need a key or a graphics card, so that the examples run anywhere."""

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from standin.server import serve

__all__ = ["standin"]

# Where a user's data folder is named: on Linux and macOS, and on Windows.
_DATA_FOLDER = ("XDG_DATA_HOME", "WIN_PD_OVERRIDE_LOCAL_APPDATA")


@contextmanager
def standin(outage: threading.Event | None = None) -> Iterator[str]:
    """The address of a running stand-in, which is down while `outage` is set.

    No real money is paid to it. So until it ends, this program has a data folder of its own, and writes
    nothing into your ledger.
    """
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        mock.patch.dict(os.environ, dict.fromkeys(_DATA_FOLDER, folder)),
        serve(outage) as address,
    ):
        yield address
