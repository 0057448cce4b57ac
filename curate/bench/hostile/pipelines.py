"""Pipeline files that explode, execute, or are none."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise

from curate.bench.hostile.inputs import Damage, HostilePipeline

_GOOD = "input: {path: a.tar}\noutput: out\nstages: [embed]\n"
_NAMES = "abcdefghi"


def _laughs(first: str, again: Callable[[str], str]) -> str:
    """Anchors, each of which holds the one before nine times; and a pipeline."""
    anchors = (f"{name}: &{name} {again(before)}\n" for before, name in pairwise(_NAMES))
    return f"a: &a {first}\n{''.join(anchors)}{_GOOD}"


PIPELINE_TEXTS: dict[str, tuple[str, ...]] = {
    "exploding anchors": (
        _laughs("[x, x]", lambda name: f"[{', '.join([f'*{name}'] * 9)}]"),
        _laughs("{x: 1}", lambda name: "{" + ", ".join(f"k{number}: *{name}" for number in range(9)) + "}"),
        _laughs("{x: 1}", lambda name: "{<<: [" + ", ".join([f"*{name}"] * 9) + "]}"),
        _GOOD + "seed: &a [*a]",
        "&a\ninput: *a\noutput: o\nstages: [embed]",
    ),
    "!!python tags": (
        _GOOD + "seed: !!python/object/apply:os.system ['touch {canary}']",
        _GOOD + "seed: !!python/object/new:os.system ['touch {canary}']",
        _GOOD + "seed: !!python/name:os.system",
        _GOOD + "seed: !!python/module:this",
        "!!python/object/apply:subprocess.check_call [[touch, '{canary}']]",
    ),
    "keys that are no words": (
        _GOOD + "1: 2",
        _GOOD + "~: 2",
        _GOOD + "? [a, b]\n: c",
        _GOOD + "!!binary aGk=: 2",
        _GOOD + "<<: {seed: 1}",
    ),
    "values that cannot be": (
        _GOOD + "seed: " + "9" * 5000,
        _GOOD + "seed: 0x" + "f" * 5000,
        _GOOD + "seed: 2001-99-99",
        _GOOD + "seed: !!int x",
        _GOOD + "seed: !!timestamp x",
        _GOOD + "seed: !!bool x",
        _GOOD + "seed: 0b_",
        _GOOD + "seed: .nan",
        _GOOD + "seed: -1e999",
        _GOOD + "stages.x: {}",
    ),
    "characters that cannot be": (
        'input: {path: "a\\0b"}\noutput: out\nstages: [embed]\n',
        'input: {path: a}\noutput: "out\\0"\nstages: [embed]\n',
        _GOOD + 'encoder: {model: "\\ud800"}',
        _GOOD + "x: \x00",
        _GOOD + '"\\e[31mred": 1',
    ),
    "deep nesting": (
        _GOOD + "seed: " + "[" * 3000 + "]" * 3000,
        _GOOD + "seed: " + "{a: " * 3000 + "1" + "}" * 3000,
        _GOOD + "seed: " + "- " * 3000 + "1",
    ),
    "no pipeline": (
        "",
        "just words",
        "--- 1\n--- 2",
        _GOOD + "---\n" + _GOOD,
        _GOOD + "x: " + "y" * 1_000_000,
        "%YAML 9.9\n---\na: 1",
        "stages: [*x]",
    ),
}


def _one_of(texts: tuple[str, ...]) -> Callable[[random.Random], HostilePipeline]:
    return lambda draw: HostilePipeline(draw.choice(texts))


PIPELINES: tuple[Damage, ...] = tuple(
    Damage(name, "pipeline", "refused with the file's name; nothing is executed", _one_of(texts))
    for name, texts in PIPELINE_TEXTS.items()
)
