"""`python -m scripts.reference` (`make docs`): writes what docs/ has from the code."""

from collections.abc import Iterator
from typing import Any

import msgspec

from common import config
from scripts.launcher.processes import ROOT

CONFIGURATION = ROOT / "docs" / "configuration.md"

_HEAD = """# Configuration

Written by `make docs` from [common/config.py](../common/config.py): do not edit. An unknown key, one of a wrong type or
over its limit, and two that contradict each other stop a program at its start, with a sentence that names them.
"""
_LIMITS = {"minimum": "at least", "exclusiveMinimum": "over", "maximum": "at most"}


def configuration() -> str:
    """A table of all keys for each table of config.toml."""
    return _HEAD + "".join(_tables())


def _tables() -> Iterator[str]:
    schemas = msgspec.json.schema(config.Config)["$defs"]
    for table in msgspec.structs.fields(config.Config):
        yield f"\n## `[{table.encode_name}]`\n\n{(table.type.__doc__ or '').strip()}\n\n"
        yield "| key | default | limits | meaning |\n| --- | --- | --- | --- |\n"
        for key in msgspec.structs.fields(table.type):
            schema = schemas[table.type.__name__]["properties"][key.encode_name]
            default = "required" if key.required else f"`{_toml(key.default)}`"
            yield f"| `{key.encode_name}` | {default} | {_limits(schema)} | {schema['description']} |\n"


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
