"""Does something before the process ends, however it ends by itself."""

from __future__ import annotations

import atexit
import sys
from collections.abc import Callable


def before_the_end(do: Callable[[], None]) -> None:
    """Registers it with Python, and with multiprocessing, whose processes end without Python's own handlers.

    `atexit.unregister` takes it back; what multiprocessing was given may come all the same.
    """
    atexit.register(do)
    if "multiprocessing" in sys.modules:
        from multiprocessing import parent_process, util

        if parent_process() is not None:
            util.Finalize(None, do, exitpriority=0)
