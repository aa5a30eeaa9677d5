"""Groups of tests: each runs in one process of pytest-xdist, one test after the other."""

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

# (start of a path, group), the longest group first. The tests of a group share a cluster, and there are never more
# clusters at a time than two cores can take. Tests without a group are spread file by file.
GROUPS = (
    ("tests/cluster/test_", "nodes"),
    ("tests/cluster/interface/", "interface"),
    ("tests/cluster/telemetry/", "interface"),
    ("tests/cluster/chaos/test_torture.py", "torture"),
    ("tests/cluster/", "others"),
    ("tests/fuzz/", "others"),
)
ORDER = list(dict.fromkeys(group for _, group in GROUPS))


def sort_key(item: pytest.Item) -> tuple[int, bool]:
    """Sorts tests: groups in their order, then the rest; in a group, the tests that use a browser are the last.

    The greenlets of a browser stay until its process ends.
    """
    group = _group(item.nodeid)
    return ORDER.index(group) if group else len(ORDER), "browser" in getattr(item, "fixturenames", ())


class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc]  # pytest-xdist ships no types
    """Gives the next group, or the next file, to the process that has finished."""

    def __init__(self, config: pytest.Config, log: Producer) -> None:
        config.option.loadscopereorder = False  # the order is that of the collection
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:  # the method that pytest-xdist documents for this
        return _group(nodeid) or nodeid.partition("::")[0]


def _group(nodeid: str) -> str | None:
    return next((group for start, group in GROUPS if nodeid.startswith(start)), None)
