"""Tests of common.security.versions: libraries with known holes are refused."""

import pytest

from common.errors import FatalError
from common.security.versions import FLOORS, Floor, refuse_known_bad


def test_the_installed_libraries_are_accepted() -> None:
    """A process starts with the libraries that are installed here."""
    refuse_known_bad("4.3.5")


@pytest.mark.parametrize("version", ["4.3.2", "4.2", "3", "4.3.2.dev1"])
def test_an_old_libzmq_is_refused(version: str) -> None:
    """The error names the advisory and the version that is needed."""
    with pytest.raises(FatalError, match=r"CVE-2020-15166.*4\.3\.3 or newer"):
        refuse_known_bad(version)


def test_a_library_below_its_minimum_is_refused() -> None:
    """Whatever library it is; a library at its minimum is accepted."""
    with pytest.raises(FatalError, match=r"waitress .* is not safe"):
        refuse_known_bad("4.3.5", {"waitress": Floor((99,), "a test")})
    refuse_known_bad("4.3.3", {"libzmq": FLOORS["libzmq"]})
