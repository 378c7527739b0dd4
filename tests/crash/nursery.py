"""Has everything imported and forks one life at a time: a start costs milliseconds instead of a second.

python -m tests.crash.nursery: reads one order a line, says "born PID" and, when that life has ended, "ended CODE".
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import traceback

import sync.documents  # noqa: F401 - what a life would import later, with all that it brings
from tests.crash.lives import Order, live

PR_SET_PDEATHSIG = 1


def main() -> None:
    not_alone()
    gc.freeze()
    say("ready")
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _live(line)
        say(f"born {child}")
        _, status = os.waitpid(child, 0)
        say(f"ended {os.waitstatus_to_exitcode(status)}")


def _live(line: str) -> None:
    code = 1
    not_alone()
    try:
        live(Order.from_json(line))
        code = 0
    except BaseException:  # noqa: BLE001 - whatever it is: the parent must not go on as two
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def not_alone() -> None:
    """Whoever started this is gone: then it ends, too."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


if __name__ == "__main__":
    main()
