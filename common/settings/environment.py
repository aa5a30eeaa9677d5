"""Settings in the environment: THREEFOLD_FACADE__ADDRESS overrides `address` in the table `[facade]` of config.toml.

Two underscores separate table and key, `-` is written `_`, and upper and lower case are the same.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import tomli
from msgspec import Struct, inspect
from msgspec.structs import FieldInfo

from common.errors import ConfigError, suggestion

PREFIX = "THREEFOLD_"
CONFIG_FILE = "THREEFOLD_CONFIG"  # names the configuration file
ADDRESS = "THREEFOLD_ADDRESS"  # names the process that `scripts.launcher.ping` asks
SHOWN_CHARACTERS = 80  # of a wrong value

# Kubernetes sets these in each container for a service whose name begins with `threefold`.
_SERVICE_LINK = re.compile(r"THREEFOLD_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP)(_\w+)?)?)")
_SYNTAX: dict[type[inspect.Type], str] = {
    inspect.IntType: "a whole number",
    inspect.FloatType: "a number",
    inspect.BoolType: "`true` or `false`",
    inspect.VarTupleType: "texts separated by commas, or an array as in TOML",
}


@dataclass(frozen=True, slots=True)
class Setting:
    """The value of one key.

    Attributes:
        variable: the name of the environment variable, as it was written.
        table: the table of config.toml.
        key: the key in it.
        value: the value, as tomli would return it.
    """

    variable: str
    table: str
    key: str
    value: object


def variable_of(table: str, key: str) -> str:
    """The environment variable that overrides a key of config.toml."""
    return f"{PREFIX}{table}__{key}".replace("-", "_").upper()


def read(environ: Mapping[str, str], tables: type[Struct]) -> tuple[Setting, ...]:
    """The settings in the environment; `tables` is the type of the configuration, with a Struct for each table.

    Raises:
        ConfigError: a variable that begins with THREEFOLD_ is unknown, or has a wrong value.
    """
    known = dict(_variables(tables))
    found: dict[str, Setting] = {}
    for variable, text in environ.items():
        name = variable.upper()
        if name in known:
            if name in found:
                raise ConfigError(f"{found[name].variable} and {variable} are the same setting: remove one of them")
            table, key = known[name]
            found[name] = Setting(variable, table, key.encode_name, _value(variable, text, key))
        elif name.startswith(PREFIX) and variable not in (CONFIG_FILE, ADDRESS) and not _SERVICE_LINK.fullmatch(name):
            raise ConfigError(f"unknown environment variable {variable}; {suggestion(name, [CONFIG_FILE, *known])}")
    return tuple(found.values())


def overlaid(tables: Mapping[str, object], settings: Sequence[Setting]) -> dict[str, object]:
    """A copy of the tables of config.toml in which the settings replace or add keys."""
    result = dict(tables)
    for setting in settings:
        table = result.get(setting.table, {})
        if isinstance(table, dict):  # else the check of the whole names it
            result[setting.table] = {**table, setting.key: setting.value}
    return result


def without_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without any setting, for a cluster that must not depend on the one that is configured."""
    return {name: text for name, text in environ.items() if not name.upper().startswith(PREFIX)}


def _variables(tables: type[Struct]) -> Iterator[tuple[str, tuple[str, FieldInfo]]]:
    for table in msgspec.structs.fields(tables):
        for key in msgspec.structs.fields(table.type):
            yield variable_of(table.encode_name, key.encode_name), (table.encode_name, key)


def _value(variable: str, text: str, key: FieldInfo) -> object:
    kind = inspect.type_info(key.type)
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    shown = f"{variable} is {text[:SHOWN_CHARACTERS]!r}"
    if isinstance(kind, inspect.LiteralType) and text not in kind.values:
        raise ConfigError(f"{shown}: {suggestion(text, [str(value) for value in kind.values])}")
    try:
        value = _decoded(text, kind)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{shown}: it must be {_SYNTAX[type(kind)]}") from error
    try:
        msgspec.convert(value, key.type)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{shown}: {error}") from error
    return value


def _decoded(text: str, kind: inspect.Type) -> object:
    """The value of a text: the text itself for a key that is one, else a value of TOML."""
    if isinstance(kind, inspect.StrType | inspect.LiteralType):
        return text
    if isinstance(kind, inspect.VarTupleType) and not text.lstrip().startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    (value,) = tomli.loads(f"value = {text}").values()  # ValueError if the text has lines with more keys
    return value
