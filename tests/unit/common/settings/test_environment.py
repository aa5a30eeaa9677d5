"""Tests of common.settings.environment, with the keys of the project and environments that are made up."""

import pytest

from common import config
from common.errors import ConfigError
from common.settings import environment
from common.settings.environment import Setting


def value_of(variable: str, text: str) -> object:
    """The value that one variable has."""
    (setting,) = environment.read({variable: text}, config.Config)
    return setting.value


def refusal(environ: dict[str, str]) -> str:
    """Why an environment is refused."""
    with pytest.raises(ConfigError) as caught:
        environment.read(environ, config.Config)
    return str(caught.value)


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("THREEFOLD_FACADE__ADDRESS", "127.0.0.1:8000", "127.0.0.1:8000"),
        ("threefold_facade__threads", "1_000", 1_000),
        ("THREEFOLD_FACADE__DEADLINE_S", "2.5", 2.5),
        ("THREEFOLD_FACADE__DEADLINE_S", "3", 3),
        ("THREEFOLD_HAZELCAST__LAUNCH", "false", False),
        ("THREEFOLD_HAZELCAST__HAZELCAST_CLUSTER_NAME", "5", "5"),
        ("THREEFOLD_STORAGE__ENGINE", "embedded", "embedded"),
        ("THREEFOLD_SECURITY__TOKENS", "", ""),
        ("THREEFOLD_SERVICE_IPS__LOGGING_SERVICE", "a:1, b:2,", ["a:1", "b:2"]),
        ("THREEFOLD_REGISTRY__ADDRESSES", '["a:1", "[::1]:2"]', ["a:1", "[::1]:2"]),
        ("THREEFOLD_REGISTRY__ADDRESSES", " a:1", ["a:1"]),
        ("THREEFOLD_METRICS__LOGGING_SERVICE", "", []),
    ],
)
def test_a_value_has_the_type_of_its_key(variable: str, text: str, expected: object) -> None:
    """Text is taken as it is; numbers, booleans and arrays are those of TOML; an array may be separated by commas."""
    value = value_of(variable, text)

    assert (type(expected), expected) == (type(value), value)


@pytest.mark.parametrize(
    ("variable", "text", "reason"),
    [
        ("THREEFOLD_FACADE__THREADS", "0", "THREEFOLD_FACADE__THREADS is '0': Expected `int` >= 1"),
        ("threefold_facade__threads", "5000", "threefold_facade__threads is '5000': Expected `int` <= 1000"),
        ("THREEFOLD_FACADE__THREADS", "many", "is 'many': it must be a whole number"),
        ("THREEFOLD_FACADE__THREADS", "", "is '': it must be a whole number"),
        ("THREEFOLD_FACADE__THREADS", "1\nworkers = 2", "it must be a whole number"),
        ("THREEFOLD_FACADE__THREADS", "1.5", "Expected `int`, got `float`"),
        ("THREEFOLD_FACADE__DEADLINE_S", "soon", "it must be a number"),
        ("THREEFOLD_HAZELCAST__LAUNCH", "yes", "it must be `true` or `false`"),
        ("THREEFOLD_STORAGE__ENGINE", "embeded", "THREEFOLD_STORAGE__ENGINE is 'embeded': did you mean 'embedded'?"),
        ("THREEFOLD_FACADE__ADDRESS", "nowhere", "matching regex"),
        ("THREEFOLD_REGISTRY__ADDRESSES", "", "Expected `array` of length >= 1"),
        ("THREEFOLD_REGISTRY__ADDRESSES", "[a:1]", "it must be texts separated by commas, or an array as in TOML"),
    ],
)
def test_a_wrong_value_is_named_with_its_variable_and_its_limit(variable: str, text: str, reason: str) -> None:
    """The sentence has the name as it was written, the value, and what is allowed."""
    assert reason in refusal({variable: text})


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("THREEFOLD_FACADE__ADRESS", "THREEFOLD_FACADE__ADDRESS"),
        ("THREEFOLD_FACADE_ADDRESS", "THREEFOLD_FACADE__ADDRESS"),
        ("THREEFOLD_HAZELCAST__CLUSTER_NAME", "THREEFOLD_HAZELCAST__HAZELCAST_CLUSTER_NAME"),
        ("threefold_config", "THREEFOLD_CONFIG"),
    ],
)
def test_an_unknown_variable_is_refused_with_the_nearest_one(variable: str, meant: str) -> None:
    """A misspelled variable must not be ignored in silence."""
    assert f"unknown environment variable {variable}; did you mean '{meant}'?" == refusal({variable: "x"})


def test_two_spellings_of_one_variable_are_refused() -> None:
    """Nobody could say which of them counts."""
    environ = {"THREEFOLD_FACADE__THREADS": "1", "Threefold_Facade__Threads": "2"}

    assert "THREEFOLD_FACADE__THREADS and Threefold_Facade__Threads are the same setting: remove one of them" == (
        refusal(environ)
    )


def test_variables_that_are_no_settings_are_left_alone() -> None:
    """That of the file, those that Kubernetes sets for a service of this name, and those of other programs."""
    environ = {
        "THREEFOLD_CONFIG": "/etc/threefold/config.toml",
        "_THREEFOLD_COMPLETE": "bash_source",
        "THREEFOLD_SERVICE_HOST": "10.0.0.1",
        "THREEFOLD_FACADE_SERVICE_PORT_HTTP": "5000",
        "THREEFOLD_PORT": "tcp://10.0.0.1:5000",
        "THREEFOLD_PORT_5000_TCP_ADDR": "10.0.0.1",
        "PATH": "/bin",
    }

    assert () == environment.read(environ, config.Config)


def test_settings_replace_and_add_keys() -> None:
    """Keys and tables that are not set stay; what is no table is left for the check of the whole."""
    tables: dict[str, object] = {"facade": {"threads": 1, "workers": 2}, "limits": 3}
    settings = [
        Setting("A", "facade", "threads", 4),
        Setting("B", "storage", "engine", "embedded"),
        Setting("C", "limits", "queued", 5),
    ]

    assert {
        "facade": {"threads": 4, "workers": 2},
        "storage": {"engine": "embedded"},
        "limits": 3,
    } == environment.overlaid(tables, settings)
    assert {"facade": {"threads": 1, "workers": 2}, "limits": 3} == tables


def test_an_environment_without_settings_keeps_everything_else() -> None:
    """A demo must not write to the folder of another cluster."""
    environ = {"THREEFOLD_STORAGE__DIRECTORY": "/data", "threefold_facade__threads": "1", "PATH": "/bin"}

    assert {"PATH": "/bin"} == environment.without_settings(environ)
