"""`python -m tests.without PART -- COMMAND`: a process of ours without one part of it, to measure what that costs.

COMMAND is what the launcher starts, `python -m MODULE ...`.
"""

import runpy
import sys

from nodes.journal import Journal
from nodes.peers import Peers
from nodes.replicated import ReplicatedStore


async def _nothing(*_args: object, **_kwargs: object) -> None:
    """Done."""


def _leave_out(part: str) -> None:
    match part:
        case "journal":
            Journal.append = _nothing  # type: ignore[method-assign]
            Journal.append_all = _nothing  # type: ignore[method-assign]
        case "shipping":
            Peers._fetch_beside = _nothing  # type: ignore[method-assign]
        case "settling":
            ReplicatedStore.settle = _nothing  # type: ignore[method-assign]
        case _:
            sys.exit(f"there is no part {part!r} that can be left out")


if __name__ == "__main__":
    _, part, _, _python, _m, module, *arguments = sys.argv
    _leave_out(part)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
