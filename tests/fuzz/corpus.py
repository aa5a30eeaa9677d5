"""Makes many inputs from a few: hypothesis generates a corpus, and a fast seeded generator mutates its examples."""

import random
import re
from collections.abc import Callable, Iterator, Sequence

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

UNCHANGED = 0.35  # share of inputs that are unchanged examples
CHANGES = 3  # most mutations of one input; more would leave nothing of the example
SPAN_BYTES = 16  # longest span that one mutation deletes, doubles or splices in

_LENGTH = re.compile(rb"(?im)^(content-length: *)\d+")
_NUMBERS = (b"-1", b"0", b"1", b"255", b"256", b"65536", b"4294967296", b"18446744073709551616")

Mutation = Callable[[random.Random, bytearray, Sequence[bytes]], None]


def examples(strategy: st.SearchStrategy[bytes], count: int, seed_number: int) -> list[bytes]:
    """About `count` different examples of a strategy; the same for the same seed."""
    found: dict[bytes, None] = {}

    @seed(seed_number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(example: bytes) -> None:
        found[example] = None

    collect()
    return [example for example in found if example]


def endless(corpus: Sequence[bytes], chance: random.Random, change: "Change") -> Iterator[bytes]:
    """An endless stream of non-empty inputs: examples of the corpus, most of them mutated by `change`."""
    while True:
        example = chance.choice(corpus)
        if made := example if chance.random() < UNCHANGED else change(chance, example, corpus):
            yield made


Change = Callable[[random.Random, bytes, Sequence[bytes]], bytes]


def changed(chance: random.Random, example: bytes, corpus: Sequence[bytes]) -> bytes:
    """The example with one to CHANGES random mutations."""
    found = bytearray(example)
    for _ in range(chance.randint(1, CHANGES)):
        chance.choice(_MUTATIONS)(chance, found, corpus)
    return bytes(found)


def changed_request(chance: random.Random, example: bytes, corpus: Sequence[bytes]) -> bytes:
    """A mutated request; half of those with a body are mutated only in it, with a matching length, so they parse."""
    head, end, body = example.partition(b"\r\n\r\n")
    if not body or chance.random() < 0.5:
        return changed(chance, example, corpus)
    made = changed(chance, body, [other.partition(b"\r\n\r\n")[2] or b"\0" for other in chance.choices(corpus, k=2)])
    return _LENGTH.sub(rb"\g<1>%d" % len(made), head) + end + made


def _flip(chance: random.Random, found: bytearray, _corpus: Sequence[bytes]) -> None:
    if found:
        found[chance.randrange(len(found))] ^= 1 << chance.randrange(8)


def _set(chance: random.Random, found: bytearray, _corpus: Sequence[bytes]) -> None:
    if found:
        found[chance.randrange(len(found))] = chance.randrange(256)


def _delete(chance: random.Random, found: bytearray, _corpus: Sequence[bytes]) -> None:
    del found[_span(chance, found)]


def _double(chance: random.Random, found: bytearray, _corpus: Sequence[bytes]) -> None:
    span = _span(chance, found)
    found[span.start : span.start] = found[span]


def _splice(chance: random.Random, found: bytearray, corpus: Sequence[bytes]) -> None:
    other = chance.choice(corpus)
    place = chance.randint(0, len(found))
    found[place:place] = other[_span(chance, other)]


def _cut(chance: random.Random, found: bytearray, _corpus: Sequence[bytes]) -> None:
    if not chance.randrange(4):
        del found[chance.randint(0, len(found)) :]


def _number(chance: random.Random, found: bytearray, _corpus: Sequence[bytes]) -> None:
    if numbers := list(re.finditer(rb"\d{1,20}", found[:4_096])):
        span = chance.choice(numbers)
        found[span.start() : span.end()] = chance.choice(_NUMBERS)


def _span(chance: random.Random, found: Sequence[int]) -> slice:
    begin = chance.randint(0, len(found))
    return slice(begin, min(len(found), begin + chance.randint(1, SPAN_BYTES)))


_MUTATIONS: tuple[Mutation, ...] = (_flip, _set, _delete, _double, _splice, _cut, _number)
