"""Tests of common.config."""

from pathlib import Path

import pytest

from common import config
from common.errors import ConfigError

USER_CONFIG = """
[service_ips]
messages-service = ["127.0.0.1:5001"]
logging-service = ["127.0.0.1:5002", "127.0.0.1:5003", "127.0.0.1:5004"]

[hazelcast]
hazelcast-cluster-name = "microservice"
hazelcast-clients = ["127.0.0.1:5701", "127.0.0.1:5702", "127.0.0.1:5703"]
"""


def load(tmp_path: Path, text: str) -> config.Config:
    """The configuration that this text is."""
    (tmp_path / "config.toml").write_text(text)
    return config.load(tmp_path / "config.toml")


def test_the_file_of_todays_users_is_enough(tmp_path: Path) -> None:
    """The two tables that users have are read unchanged; everything else has a default."""
    loaded = load(tmp_path, USER_CONFIG)

    assert ("127.0.0.1:5002", "127.0.0.1:5003", "127.0.0.1:5004") == loaded.service_ips.logging_service
    assert "microservice" == loaded.hazelcast.cluster_name
    assert ("127.0.0.1:5000", "127.0.0.1:5005") == (loaded.facade.address, *loaded.registry.addresses)


def test_the_file_in_the_repository_is_that_of_todays_users(tmp_path: Path) -> None:
    """config.toml has the ports that users know, those of the metrics, and no other setting."""
    metrics = '\n[metrics]\nlogging-service = ["127.0.0.1:5012", "127.0.0.1:5013", "127.0.0.1:5014"]\n'

    assert load(tmp_path, USER_CONFIG + metrics) == config.load()
    assert "127.0.0.1:5013" == config.metrics_of(config.load(), "127.0.0.1:5003")
    assert config.metrics_of(load(tmp_path, USER_CONFIG), "127.0.0.1:5003") is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("[hazelcast]", "[hazelcats]"), "unknown table 'hazelcats'; did you mean 'hazelcast'?"),
        (("logging-service", "loging-service"), "unknown key in [service_ips] 'loging-service'; did you mean"),
        (("[hazelcast]", "[hazelcast]\nxyz = 1"), "known: hazelcast-cluster-name, hazelcast-clients, launch, heap_mb"),
        (('"microservice"', "5"), "Expected `str`, got `int` - at `hazelcast.hazelcast-cluster-name`"),
        (("127.0.0.1:5001", "127.0.0.1"), "matching regex"),
        (("127.0.0.1:5001", "127.0.0.1:99999"), "port over 65535"),
        (
            ("127.0.0.1:5001", "127.0.0.1:5002"),
            "[service_ips] messages-service and [service_ips] logging-service both have 127.0.0.1:5002",
        ),
        ((', "127.0.0.1:5703"', ""), "logging-service has 3 addresses and [hazelcast] hazelcast-clients has 2"),
        (("[hazelcast]", "[facade]\nattempt_timeout_s = 5\ndeadline_s = 2\n[hazelcast]"), "5.0, over deadline_s"),
        (("[service_ips]\n", "[registry]\naddresses = []\n[service_ips]\n"), "registry.addresses"),
        (("[hazelcast]", "[facade]\nthreads = 0\n[hazelcast]"), "facade.threads"),
        (
            ("[hazelcast]", '[metrics]\nlogging-service = ["127.0.0.1:9001"]\n[hazelcast]'),
            "logging-service has 3 addresses and [metrics] logging-service has 1: give each node one, or leave it out",
        ),
        (("[hazelcast]", '[storage]\nengine = "sqlite"\n[hazelcast]'), "storage.engine"),
        (("[service_ips]", "[service_ips"), "is not valid TOML"),
        (("[service_ips]", "service_ips = 3\n[x]"), "unknown table 'x'"),
    ],
)
def test_an_invalid_file_is_refused_with_one_sentence(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    """The error names the file, the key, and the value or the known keys."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, USER_CONFIG.replace(*change))

    assert message in str(caught.value)
    assert str(tmp_path / "config.toml") in str(caught.value)


def test_a_table_of_another_type_is_named(tmp_path: Path) -> None:
    """A number instead of a table is an error of the configuration, not a crash."""
    with pytest.raises(ConfigError, match="Expected `object`, got `int` - at `service_ips`"):
        load(tmp_path, "service_ips = 3\n" + USER_CONFIG[USER_CONFIG.index("[hazelcast]") :])


def test_a_missing_or_unreadable_file_is_named(tmp_path: Path) -> None:
    """A file that is missing, or is not text, is an error of one sentence."""
    with pytest.raises(ConfigError, match=r"cannot read the configuration .*none\.toml: No such file"):
        config.load(tmp_path / "none.toml")
    (tmp_path / "config.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        config.load(tmp_path / "config.toml")


def test_a_running_cluster_needs_no_member_for_each_node(tmp_path: Path) -> None:
    """With launch = false nodes start no Hazelcast members, so any number of members may be listed."""
    text = USER_CONFIG.replace(', "127.0.0.1:5703"', "").replace("[hazelcast]", "[hazelcast]\nlaunch = false")

    assert not load(tmp_path, text).hazelcast.launch


@pytest.mark.parametrize("name", [" x", "x ", "\\t", "x\\ny", "x\\u0000y", "x\\u007f"])
def test_a_name_that_members_do_not_take_is_refused(tmp_path: Path, name: str) -> None:
    """Otherwise the members would not join, and nothing would say why."""
    with pytest.raises(ConfigError, match=r"hazelcast-cluster-name is .*: it may not have blanks at its ends"):
        load(tmp_path, USER_CONFIG.replace("microservice", name))


def test_every_part_may_have_an_ipv6_address(tmp_path: Path) -> None:
    """It stands in brackets, as in a URL."""
    loaded = load(tmp_path, USER_CONFIG.replace("127.0.0.1", "[::1]") + '[facade]\naddress = "[2001:db8::1]:5000"\n')

    assert ("[2001:db8::1]:5000", "[::1]:5001") == (loaded.facade.address, *loaded.service_ips.messages_service)
    with pytest.raises(ConfigError, match=r"facade\.address"):
        load(tmp_path, USER_CONFIG + '[facade]\naddress = "::1:5000"\n')


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    """Each key may come from a variable; a contradiction names the file and the variables."""
    (tmp_path / "config.toml").write_text(USER_CONFIG)
    environ = {"THREEFOLD_FACADE__THREADS": "7", "THREEFOLD_HAZELCAST__HAZELCAST_CLUSTER_NAME": "other"}
    loaded = config.load(tmp_path / "config.toml", environ)
    with pytest.raises(ConfigError) as caught:
        config.load(tmp_path / "config.toml", {"THREEFOLD_FACADE__ADDRESS": "127.0.0.1:5001"})

    assert (7, "other") == (loaded.facade.threads, loaded.hazelcast.cluster_name)
    assert (
        f"{tmp_path}/config.toml, THREEFOLD_FACADE__ADDRESS: [service_ips] messages-service and [facade] address both "
        "have 127.0.0.1:5001; each listener needs its own address"
    ) == str(caught.value)
