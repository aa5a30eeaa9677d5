"""Tests of the Kubernetes example. No cluster runs it: the objects are parsed, and fit each other and the project."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from common import config, hostport
from common.security.keyring import OPERATOR, Keyring
from facade.api.openapi.operations import OPERATIONS
from scripts import keys
from scripts.launcher import ping
from tests.support.examples import KUBERNETES, container, kustomization, objects, workloads

SETTINGS = config.load(KUBERNETES / "config.toml")
LISTENERS = {
    *SETTINGS.registry.addresses,
    *SETTINGS.service_ips.messages_service,
    *SETTINGS.service_ips.logging_service,
    *SETTINGS.metrics.logging_service,
}
PROBES = ("startupProbe", "livenessProbe", "readinessProbe")

each_workload = pytest.mark.parametrize("workload", workloads(), ids=lambda workload: workload["metadata"]["name"])


def pod_of(workload: dict[str, Any]) -> dict[str, Any]:
    """The specification of the pods of a workload."""
    return dict(workload["spec"]["template"]["spec"])


def generated(kind: str) -> dict[str, list[tuple[str, str]]]:
    """The ConfigMaps or Secrets that kustomize makes: for each its keys, with the files of their values."""
    return {
        one["name"]: [(key, file or key) for key, _, file in (entry.partition("=") for entry in one["files"])]
        for one in kustomization()[kind]
    }


def test_every_resource_is_listed() -> None:
    """The kustomization has all files of the folder."""
    files = {path.name for path in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml"}

    assert files == {*kustomization()["resources"]}
    assert "config.toml" == generated("configMapGenerator")["config"][0][1]


@each_workload
def test_selectors_match_the_labels_of_the_pods(workload: dict[str, Any]) -> None:
    """Of the workload itself, and of the service of the same name."""
    name, labels = workload["metadata"]["name"], workload["spec"]["template"]["metadata"]["labels"]
    (service,) = [one for one in objects("Service") if one["metadata"]["name"] == name]

    assert labels == workload["spec"]["selector"]["matchLabels"]
    assert labels == service["spec"]["selector"]


def test_at_most_one_pod_of_each_kind_is_evicted_at_a_time() -> None:
    """Each workload with several pods has a budget, which selects its pods."""
    budgets = [one["spec"] for one in objects("PodDisruptionBudget")]
    several = [one["spec"]["template"]["metadata"]["labels"] for one in workloads() if one["spec"]["replicas"] > 1]

    assert sorted(several, key=str) == sorted((budget["selector"]["matchLabels"] for budget in budgets), key=str)
    assert {1} == {budget["maxUnavailable"] for budget in budgets}


def test_the_addresses_are_those_of_the_pods() -> None:
    """A pod of a StatefulSet is named by its headless service; the configuration has each of its ports."""
    names = set()
    for workload in objects("StatefulSet"):
        name, ports = workload["metadata"]["name"], container(workload)["ports"]
        for number in range(workload["spec"]["replicas"]):
            host = f"{name}-{number}.{workload['spec']['serviceName']}.{kustomization()['namespace']}.svc.cluster.local"
            names |= {hostport.join(host, port["containerPort"]) for port in ports}

    assert names == LISTENERS


def test_the_services_of_stateful_sets_are_headless() -> None:
    """They name pods that are not ready, too: a node catches up from the others before it is ready."""
    services = {one["metadata"]["name"]: one["spec"] for one in objects("Service")}
    for workload in objects("StatefulSet"):
        service = services[workload["spec"]["serviceName"]]
        assert ("None", True) == (service["clusterIP"], service["publishNotReadyAddresses"])


def test_all_logging_nodes_start_at_once_on_different_hosts() -> None:
    """After an outage, the last one that was in sync may be any of them."""
    (logging,) = [one for one in objects("StatefulSet") if one["metadata"]["name"] == "logging"]
    (rule,) = pod_of(logging)["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]

    assert "Parallel" == logging["spec"]["podManagementPolicy"]
    assert 3 == logging["spec"]["replicas"]
    assert "kubernetes.io/hostname" == rule["topologyKey"]
    assert logging["spec"]["selector"] == rule["labelSelector"]


@each_workload
def test_probes_ask_what_exists(workload: dict[str, Any]) -> None:
    """A path of the API, or scripts.launcher.ping. Only readiness asks more than whether the process is alive."""
    probes = {name: container(workload)[name] for name in PROBES}
    alive = []
    for name, probe in probes.items():
        if "httpGet" in probe:
            assert probe["httpGet"]["path"] in OPERATIONS
            is_alive = probe["httpGet"]["path"] == "/livez"
        else:
            program, *arguments = probe["exec"]["command"][2:]
            assert "scripts.launcher.ping" == program
            is_alive = ping.main.make_context("ping", arguments).params["alive"]
            assert probe["timeoutSeconds"] > ping.ANSWER_S
        alive += [name] if is_alive else []

    assert ["startupProbe", "livenessProbe"] == alive


@each_workload
def test_pods_meet_the_restricted_standard(workload: dict[str, Any]) -> None:
    """As the label of the namespace demands: not root, no capabilities, a read-only root, the default seccomp."""
    pod = pod_of(workload)
    expected = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}

    assert True is pod["securityContext"]["runAsNonRoot"]
    assert {"type": "RuntimeDefault"} == pod["securityContext"]["seccompProfile"]
    assert False is pod["automountServiceAccountToken"]
    for one in (*pod["initContainers"], *pod["containers"]):
        assert expected == one["securityContext"]


@each_workload
def test_what_is_mounted_exists(workload: dict[str, Any]) -> None:
    """Each mount has a volume, and each volume a ConfigMap or Secret that kustomize makes."""
    pod = pod_of(workload)
    claims = [claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", [])]
    mounts = {mount["name"] for one in (*pod["initContainers"], *pod["containers"]) for mount in one["volumeMounts"]}
    maps = {volume["configMap"]["name"] for volume in pod["volumes"] if "configMap" in volume}
    secrets = {volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume}

    assert mounts == {*claims, *(volume["name"] for volume in pod["volumes"])}
    assert maps <= {*generated("configMapGenerator")}
    assert secrets <= {*generated("secretGenerator")}


def test_the_keys_are_those_that_the_command_makes() -> None:
    """Each process has its secret key, and the public keys of all; the operator's secret key stays outside."""
    names = {*keys.all_names(SETTINGS)}
    public = generated("configMapGenerator")["public-keys"]
    secret = [entry for name, files in generated("secretGenerator").items() if name != "tokens" for entry in files]

    assert {(f"{name.replace(':', '_')}.pub", f"keys/{name}.pub") for name in names} == {*public}
    assert {f"keys/{name}.key" for name in names - {OPERATOR}} == {file for _, file in secret}


@each_workload
def test_a_pod_has_its_key_as_the_process_wants_it(workload: dict[str, Any], tmp_path: Path) -> None:
    """The first container of a pod copies the keys; then the process reads its own, and that of every other."""
    (init,) = pod_of(workload)["initContainers"]
    address = str(init["env"][-1]["value"]).replace("$(POD_NAME)", f"{workload['metadata']['name']}-0")
    mounted, copied = tmp_path / "public", tmp_path / "keys"
    copied.mkdir()
    for name in keys.all_names(SETTINGS):
        keys.write_pair(tmp_path / "made", name)
    mounted.mkdir()
    for key, file in generated("configMapGenerator")["public-keys"]:
        shutil.copy(tmp_path / "made" / Path(file).name, mounted / key)
    shutil.copy(tmp_path / "made" / f"{address}.key", tmp_path / "own.key")
    script = init["args"][0]
    for folder in ("/public", "/keys", "/own.key"):
        script = script.replace(folder, f"{tmp_path}{folder}")
    subprocess.run([*init["command"], script], env=os.environ | {"THREEFOLD_ADDRESS": address}, check=True)
    ring = Keyring(copied, address)

    assert [] == [name for name in keys.all_names(SETTINGS) if not ring.has_key_of(name)]


@each_workload
def test_the_probe_knows_the_address_of_the_process(workload: dict[str, Any]) -> None:
    """The variable has what the arguments of the program say; a facade listens where the configuration says."""
    one = container(workload)
    arguments, address = one["args"], str(one["env"][-1]["value"])
    host, port = hostport.split(SETTINGS.facade.address)
    if "--host" in arguments:
        host, port = (arguments[arguments.index(option) + 1] for option in ("--host", "--port"))

    assert "THREEFOLD_ADDRESS" == one["env"][-1]["name"]
    assert f"{host}:{port}" == address


def test_no_image_of_a_stranger_is_named() -> None:
    """The name of the image is replaced by one at a registry that the reader must choose."""
    (image,) = kustomization()["images"]
    images = {one["image"] for workload in workloads() for one in (*pod_of(workload)["initContainers"],)}

    assert {image["name"]} == images | {container(workload)["image"] for workload in workloads()}
    assert "registry.example.com/threefold" == image["newName"]


@pytest.mark.needs("kubectl")
def test_kustomize_makes_the_objects(tmp_path: Path) -> None:
    """With keys and a token made by the documented commands, every reference leads to an object of the output."""
    folder = Path(shutil.copytree(KUBERNETES, tmp_path / "kubernetes", ignore=shutil.ignore_patterns("keys")))
    run_key_command(folder)
    (folder / "tokens.toml").write_text("")
    ended = subprocess.run(["kubectl", "kustomize", str(folder)], check=True, capture_output=True, timeout=60)
    found = [*yaml.safe_load_all(ended.stdout)]
    names = {(one["kind"], one["metadata"]["name"]) for one in found}
    pods = [pod_of(one) for one in found if one["kind"] in ("StatefulSet", "Deployment")]
    secrets = {volume["secret"]["secretName"] for pod in pods for volume in pod["volumes"] if "secret" in volume}

    assert 4 == len(pods)
    assert {("Secret", name) for name in secrets} == {name for name in names if name[0] == "Secret"}
    assert {"threefold"} == {one["metadata"].get("namespace", "threefold") for one in found}


def run_key_command(folder: Path) -> None:
    """Make the keys of the configuration in a folder."""
    result = CliRunner().invoke(keys.main, ["make", "--config", str(folder / "config.toml")])
    assert 0 == result.exit_code, result.output
