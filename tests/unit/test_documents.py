"""Tests of README.md and docs/: their form, their links, and that they say what the code does."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args, get_type_hints

import click
import pytest

from common.config import Facade, Limits
from common.protocol.messages import PAGE_MESSAGES
from common.telemetry import request_context
from common.telemetry.request_context import REQUEST_ID_CHARACTERS, RequestContext
from facade.api import problem
from facade.api.openapi.operations import OPERATIONS
from facade.api.schema import Problem
from facade.status.schema import StatusEvent
from scripts import cli, cluster
from scripts.console import configuration
from scripts.console.__main__ import main as console
from scripts.launcher.processes import ROOT
from tests.tools import reference

README = ROOT / "README.md"
README_WORDS = 900  # as `wc -w` counts them: what it is, why, and how to start
COLUMNS = 120
HISTORY = ROOT / "docs" / "history"  # keeps what was written at the time, also the commands of then
DOCUMENTS = sorted({README, *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*/DESIGN.md"), *ROOT.glob("*/*/DESIGN.md")})
CURRENT = [path for path in DOCUMENTS if HISTORY not in path.parents]

HTTP = (ROOT / "docs" / "http.md").read_text()
CLI = (ROOT / "docs" / "cli.md").read_text()
OF_SERVER = {405, 408, 414, 431, 500}  # statuses of Falcon, of the parser and of defects, which no error of ours has

each_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
each_current = pytest.mark.parametrize("path", CURRENT, ids=lambda path: path.relative_to(ROOT).as_posix())


PACKAGES = ("common", "facade", "nodes", "registry", "scripts")
SOURCE = "\n".join(path.read_text() for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def code(text: str) -> Iterator[str]:
    """The lines of code blocks without prompts, and the code within lines."""
    blocks = re.findall(r"^ *```\w*\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    for block in blocks:
        yield from (line.strip().removeprefix("$ ") for line in block.splitlines())
    rest = re.sub(r"^ *```\w*\n.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from (" ".join(span.split()) for span in re.findall(r"`([^`]+)`", rest))


def section(text: str, heading: str) -> str:
    """What stands below a heading, up to the next one of its level or above."""
    level = len(heading) - len(heading.lstrip("#"))
    _, found, rest = f"\n{text}".partition(f"\n{heading}\n")
    assert found, f"there is no heading {heading!r}"
    return re.split(rf"^#{{1,{level}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def anchors(path: Path) -> set[str]:
    """The names of the headings of a document, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def options(command: click.Command) -> set[str]:
    """The long options of a command."""
    return {name for option in command.params for name in option.opts if name.startswith("--")}


def test_the_readme_is_short() -> None:
    """A newcomer reads it in a few minutes; the rest is in docs/."""
    assert len(README.read_text().split()) <= README_WORDS


@each_document
def test_no_line_is_long(path: Path) -> None:
    """Lines have at most 120 characters; tables of the past may be wider."""
    lines = enumerate(path.read_text().splitlines(), 1)
    long = [number for number, line in lines if len(line) > COLUMNS and not (path not in CURRENT and line[:1] == "|")]

    assert [] == long


@each_current
def test_each_target_of_make_exists(path: Path) -> None:
    """Every `make TARGET` is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {found[1] for line in code(path.read_text()) if (found := re.match(r"make ([a-z|]+)", line))}

    assert set() == {target for names in named for target in names.split("|")} - targets


@each_current
def test_each_module_and_script_exists(path: Path) -> None:
    """Every `python -m MODULE` can be run, and every shell script that is named is there."""
    text = path.read_text()
    modules = {name.rstrip(".").replace(".", "/") for name in re.findall(r"python\s+-m\s+([\w.]+)", text)}
    missing = [
        name for name in modules if not any((ROOT / f"{name}{end}").is_file() for end in (".py", "/__main__.py"))
    ]
    scripts = set(re.findall(r"\bscripts/\w+\.sh\b", text))

    assert [] == missing
    assert [] == [script for script in scripts if not (ROOT / script).is_file()]


@each_document
def test_nothing_is_installed_under_our_name_from_an_index(path: Path) -> None:
    """No package index has this project: whoever has the name there is a stranger."""
    assert [] == re.findall(r"pip[3x]? install (?:-\S+ )*['\"]?threefold\b", path.read_text())


@each_document
def test_links_lead_somewhere(path: Path) -> None:
    """Every relative link names a file that is there, and a heading in it."""
    wrong = []
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", path.read_text()):
        file = path.parent / target if target else path
        if not file.exists() or (anchor and anchor not in anchors(file)):
            wrong.append(f"{target}#{anchor}")

    assert [] == wrong


def test_the_configuration_is_that_of_the_code() -> None:
    """docs/configuration.md is what `make docs` writes, and has all keys."""
    assert reference.configuration() == reference.CONFIGURATION.read_text()
    assert 40 == reference.configuration().count("\n- **`")


def test_every_path_and_method_is_documented() -> None:
    """The table of paths in docs/http.md has the operations of the API, and no others."""
    documented = set(re.findall(r"^\| `([A-Z]+) (\S+)` \|", section(HTTP, "## Paths"), re.MULTILINE))

    assert {(method.upper(), path) for path, methods in OPERATIONS.items() for method in methods} == documented


def test_every_parameter_and_header_is_documented() -> None:
    """What an operation takes, and which headers its answers have, stands in docs/http.md."""
    operations = [operation for methods in OPERATIONS.values() for operation in methods.values()]
    named = {
        name for operation in operations for name in (*operation.query, *operation.headers, *operation.response_headers)
    }
    said = set(re.findall(r"`[?&]?([\w.-]+)(?:=\w+)?`|\?(verbose)`", HTTP))

    assert set() == named - {name for names in said for name in names}


def test_every_kind_of_event_is_documented() -> None:
    """The table in docs/http.md has the kinds of events that /v1/cluster may show, and no others."""
    (table,) = re.findall(r"\| kind of event \|.*\n((?:\|.*\n)+)", HTTP)
    kinds = get_args(get_args(get_type_hints(StatusEvent, include_extras=True)["kind"])[0])

    assert {*kinds} == {*re.findall(r"`([a-z-]+)`", "\n".join(row.split("|")[1] for row in table.splitlines()))}


def test_every_status_is_documented() -> None:
    """The table of errors has each status that an error of ours has, and those of the server itself."""
    documented = {int(status) for status in re.findall(r"^\| (\d{3}) \|", section(HTTP, "## Errors"), re.MULTILINE)}

    assert {*problem.STATUS.values(), *OF_SERVER} == documented


def test_every_member_and_header_of_an_error_is_documented() -> None:
    """The example in docs/http.md has the members of a problem document, the list below it has all that may occur."""
    text = section(HTTP, "## Errors")
    example = json.loads(re.findall(r"```json\n(.*?)```", text, re.DOTALL)[0])
    with request_context.use(RequestContext("id", "trace")):
        always = json.loads(problem.body(422, "a sentence", path="/v1/messages"))
    members = set(re.findall(r"`(\w+)`", "\n".join(re.findall(r"^- (.*)$", text, re.MULTILINE))))
    headers = {name for status in problem.STATUS.values() for name, _ in problem.headers(status)} - {"Content-Type"}

    assert [*always] == [*example]
    assert always["title"] == example["title"]
    assert {*Problem.__struct_fields__} <= members
    assert set() == {name for name in headers if f"`{name}`" not in text}
    assert problem.MEDIA_TYPE in text


def test_the_limits_are_those_of_the_code() -> None:
    """The table of limits in docs/http.md has the defaults."""
    limits, facade = Limits(), Facade()
    expected = [
        f"{limits.message_bytes:,} bytes",
        f"{limits.body_bytes >> 20} MiB",
        f"{limits.batch_bytes >> 20} MiB",
        f"{limits.batch_messages:,}",
        f"{PAGE_MESSAGES:,}",
        f"{limits.url_bytes >> 10} KiB",
        f"{limits.header_bytes >> 10} KiB",
        f"{limits.key_characters} characters",
        f"{REQUEST_ID_CHARACTERS} characters",
        f"{limits.receive_s:g} s",
        f"{limits.body_bytes_per_s:,} bytes a second",
        f"{facade.deadline_s:g} s",
        f"{limits.stalled_s:g} s",
        f"{facade.streams}",
        f"{limits.queued}",
        f"{limits.connections:,}",
        limits.client_rate or "no limit",
    ]

    assert ["default", "---", *expected] == re.findall(
        r"^\|[^|]*\| ([^|]*) \|[^|]*\|$", section(HTTP, "## Limits"), re.MULTILINE
    )


def test_every_command_of_the_client_is_documented() -> None:
    """docs/cli.md has a section for each command of scripts.cli, with all its options."""
    text = section(CLI, "## The client")
    headings = re.findall(r"^### (\w+)$", text, re.MULTILINE)

    assert {*cli.main.commands, "Completion"} == set(headings)
    assert set() == {option for option in options(cli.main) if f"`{option}`" not in text}
    for name, command in cli.main.commands.items():
        body = section(CLI, f"### {name}")
        aliases = {"--follow": "-f"}  # of which the short form is documented
        own = options(command) - options(cli.main)  # `-o` may be before or after the command
        assert [] == [one for one in own if f"`{aliases.get(one, one)}" not in body], name


def test_every_command_of_the_console_script_is_documented() -> None:
    """docs/cli.md names each command of `threefold`, and has a row for each command of `config`."""
    text = section(CLI, "## The console script")
    rows = section(CLI, "## The configuration")

    assert [] == [name for name in console.commands if not re.search(rf"`(threefold )?{name}\b", text)]
    assert {*configuration.main.commands} == set(re.findall(r"^\| `(\w+)`", rows, re.MULTILINE))


def test_every_command_of_the_launcher_is_documented() -> None:
    """docs/cli.md has a row for each command of scripts.cluster, and its options."""
    text = section(CLI, "## A cluster on this machine")
    rows = re.findall(r"^\| `(\w+)", text, re.MULTILINE)

    assert {*cluster.main.commands} == set(rows)
    assert set() == {option for option in options(cluster.main) if f"`{option}" not in text}


def test_the_documented_metrics_and_modules_exist() -> None:
    """Each metric in docs/operation.md is served by a process, and each module in docs/design.md is a file."""
    names = set(re.findall(r"`(threefold_\w+)`", (ROOT / "docs" / "operation.md").read_text()))
    modules = {
        name
        for name in re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)`", (ROOT / "docs" / "design.md").read_text())
        if name.partition(".")[0] in PACKAGES
    }
    paths = [ROOT.joinpath(*name.split(".")) for name in sorted(modules)]

    assert len(names) > 5
    assert set() == {name for name in names if f'"{name.removesuffix("_total")}"' not in SOURCE}
    assert len(paths) > 20
    assert [] == [path for path in paths if not (path.with_suffix(".py").exists() or path.is_dir() or is_name(path))]


def is_name(path: Path) -> bool:
    """True for a class or function of a module, such as `common.rpc.transport.ask`."""
    module = path.parent.with_suffix(".py")
    return module.exists() and bool(re.search(rf"^(class|def) {path.name}\b", module.read_text(), re.MULTILINE))


def test_the_documented_sentences_are_those_of_the_code() -> None:
    """Each error that docs/operation.md explains is one that a process can write, apart from names and numbers."""
    text = (ROOT / "docs" / "operation.md").read_text()
    rows = text[text.index("At a start, or in a log:") :].splitlines()
    sentences = [row.split("`")[1] for row in rows if row.startswith("| `")]
    parts = {part.strip() for one in sentences for part in re.split(r"…|'[^']*'|logging-2", one)}

    assert len(parts) > 8
    assert [] == [part for part in sorted(parts) if part.strip(":, ") not in SOURCE]
