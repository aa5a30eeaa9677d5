"""Tests of facade.api.page.files."""

import hashlib
import re

from facade.api.page import files as pages

VENDOR = pages.FOLDER / "vendor"


def test_vendored_files_are_listed_with_their_hashes() -> None:
    """The table beside the files has the package, version, licence and hash of each."""
    row = r"^\| (\S+) \| \S+ [\d.]+ \| \[\S+\]\((\S+)\) \| (\w{64}) \|$"
    rows = re.findall(row, (VENDOR / "README.md").read_text(), re.MULTILINE)
    files = {file.name for file in VENDOR.iterdir() if file.suffix in (".js", ".css")}

    assert files == {name for name, *_ in rows}
    for name, licence, digest in rows:
        assert digest == hashlib.sha256((VENDOR / name).read_bytes()).hexdigest(), name
        assert (VENDOR / licence).exists()


def test_each_file_has_a_name_of_its_own() -> None:
    """All folders of assets share `/assets/`."""
    names = [file.name for file in pages.FOLDER.rglob("*") if file.suffix in pages.MEDIA_TYPES]

    assert sorted(set(names)) == sorted(names)
