"""`python -m tests.tools.reference` (`make docs`): writes the documents that are generated from the code."""

import textwrap
from collections.abc import Iterator
from typing import Any

import msgspec

from common import config
from scripts.launcher.processes import ROOT

CONFIGURATION = ROOT / "docs" / "configuration.md"

COLUMNS = 120  # of a line of a document

_HEAD = """# Configuration

`make docs` writes this file from [common/config.py](../common/config.py): do not edit it.

A program does not start when config.toml has an unknown key, a value of the wrong type or over its limit, or two keys
that contradict each other. The error names the key. `threefold config check` says the same without a start, and
`threefold config show` prints each key, its value, and where it comes from ([cli.md](cli.md#the-configuration)).

## The file

Without `--config` and without `THREEFOLD_CONFIG` in the environment, every program takes the first of these:

1. `config.toml` of the checkout from which it runs. An installed package has none.
2. `config.toml` in the current folder.
3. `$XDG_STATE_HOME/threefold/config.toml`, by default in `~/.local/state`. If it is missing, the file that came with
   the package is read instead. Data, keys and tokens lie beside the missing file, in the same folder.

## The environment

A variable overrides each key. Its name is `THREEFOLD_`, the table, two underscores, and the key. A `-` is written `_`.
Upper and lower case are the same.

```sh
THREEFOLD_FACADE__ADDRESS=0.0.0.0:8080
THREEFOLD_HAZELCAST__HAZELCAST_CLUSTER_NAME=orders
THREEFOLD_SERVICE_IPS__LOGGING_SERVICE=10.0.0.1:5002,10.0.0.2:5002
THREEFOLD_STORAGE__RETENTION_DAYS=7.5
THREEFOLD_HAZELCAST__LAUNCH=false
```

Text is written as it is, without quotes. Numbers and booleans are those of TOML. A list has commas between its values,
or is an array of TOML. A wrong value is an error that names the variable and the limit.

A variable that begins with `THREEFOLD_` and is none of these is refused at start, except `THREEFOLD_CONFIG` and those
that Kubernetes sets for a service of that name, such as `THREEFOLD_SERVICE_HOST`. `scripts.cluster` hands its
environment on to the processes that it starts. The demo ignores these variables.
"""
_LIMITS = {"minimum": "at least", "exclusiveMinimum": "over", "maximum": "at most"}


def configuration() -> str:
    """The document: for each table of config.toml a list of its keys."""
    return _HEAD + "".join(_tables())


def _tables() -> Iterator[str]:
    schemas = msgspec.json.schema(config.Config)["$defs"]
    for table in msgspec.structs.fields(config.Config):
        yield f"\n## `[{table.encode_name}]`\n\n{(table.type.__doc__ or '').strip()}\n\n"
        for key in msgspec.structs.fields(table.type):
            schema = schemas[table.type.__name__]["properties"][key.encode_name]
            default = "Required" if key.required else f"Default: `{_toml(key.default)}`"
            facts = "; ".join(filter(None, (default, _limits(schema))))
            yield _wrapped(f"- **`{key.encode_name}`**: {schema['description']}.") + _wrapped(f"  {facts}.")


def _wrapped(text: str) -> str:
    """The text in lines of at most COLUMNS characters; the lines after the first are indented like a list item."""
    return textwrap.fill(text, COLUMNS, subsequent_indent="  ", break_on_hyphens=False) + "\n"


def _limits(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " or ".join(sorted(schema["enum"]))
    if schema["type"] == "array":
        return f"{schema.get('minItems', 0)} to {schema['maxItems']} addresses"
    return ", ".join(f"{word} {schema[name]:,}" for name, word in _LIMITS.items() if name in schema)


def _toml(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case tuple():
            return f"[{', '.join(map(_toml, value))}]"
        case str():
            return f'"{value}"'
    return str(value)


if __name__ == "__main__":
    CONFIGURATION.write_text(configuration())
