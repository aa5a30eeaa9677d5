"""The files in docs/examples, parsed."""

import configparser
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

from scripts.launcher.processes import ROOT

FOLDER = ROOT / "docs" / "examples"
KUBERNETES = FOLDER / "kubernetes"
UNITS = sorted(FOLDER.glob("*.service"))


class Instruction(NamedTuple):
    """One instruction of a Dockerfile: its name in capitals, and what follows, on one line."""

    name: str
    argument: str


def dockerfile() -> list[list[Instruction]]:
    """The instructions of the Dockerfile by stage; each stage begins with its FROM."""
    text = re.sub(r"^#.*\n", "", (FOLDER / "Dockerfile").read_text(), flags=re.MULTILINE)
    stages: list[list[Instruction]] = []
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if line.strip():
            name, _, argument = line.partition(" ")
            if name == "FROM":
                stages.append([])
            stages[-1].append(Instruction(name, argument.strip()))
    return stages


def arguments_of(stage: list[Instruction], name: str) -> list[str]:
    """What follows each instruction of this name in a stage."""
    return [instruction.argument for instruction in stage if instruction.name == name]


def health_command() -> list[str]:
    """The command of the HEALTHCHECK of the image."""
    (check,) = arguments_of(dockerfile()[-1], "HEALTHCHECK")
    found: list[str] = json.loads(check.partition("CMD ")[2])
    return found


def compose() -> dict[str, Any]:
    """The compose file."""
    found: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    return found


def unit(text: str) -> configparser.RawConfigParser:
    """A unit of systemd."""
    parser = configparser.RawConfigParser(delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # as the documentation of configparser has it
    parser.read_string(text)
    return parser


def kustomization() -> dict[str, Any]:
    """The kustomization of the Kubernetes example."""
    found: dict[str, Any] = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
    return found


def objects(*kinds: str) -> Iterator[dict[str, Any]]:
    """The objects of these kinds in the resources of the kustomization."""
    for name in kustomization()["resources"]:
        for found in yaml.safe_load_all((KUBERNETES / name).read_text()):
            if found["kind"] in kinds:
                yield found


def workloads() -> list[dict[str, Any]]:
    """The objects that make pods."""
    return list(objects("StatefulSet", "Deployment"))


def container(workload: dict[str, Any]) -> dict[str, Any]:
    """The one container of a workload, besides that which copies the keys."""
    (found,) = workload["spec"]["template"]["spec"]["containers"]
    return dict(found)
