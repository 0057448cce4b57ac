"""Conditions over annotation columns, such as `noise_prob < 0.5 and label != 'noisy'`.

The text is parsed, never executed: only comparisons, `and`, `or`, `not`, `in` and `is None` over columns and constants
are understood.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Callable
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import InputError

_COMPARISONS: dict[type[ast.cmpop], Callable[[pc.Expression, pc.Expression], pc.Expression]] = {
    ast.Lt: lambda a, b: a < b,
    ast.LtE: lambda a, b: a <= b,
    ast.Gt: lambda a, b: a > b,
    ast.GtE: lambda a, b: a >= b,
    ast.Eq: lambda a, b: a == b,
    ast.NotEq: lambda a, b: a != b,
}
MOST_CHARACTERS = 10_000
_HOW = "Write it like: noise_prob < 0.5 and label != 'noisy'"


def parse_where(text: str, schema: pa.Schema, option: str = "--where") -> pc.Expression:
    """A condition as an Arrow expression; a row for which it is null (a column is null there) does not fulfil it.

    Args:
        text: Python syntax. Columns of structs are named with a dot, `signals.crossfit_csls`.
        schema: the columns there are.
        option: what the user gave it as, for messages.

    Raises:
        InputError: it cannot be parsed, names no such column, or compares what cannot be compared.
    """
    if len(text) > MOST_CHARACTERS:
        raise InputError(f"{option}: {len(text):,} characters are too many (at most {MOST_CHARACTERS:,})")
    try:
        tree = ast.parse(text.strip(), mode="eval")
        condition = _Reader(text, schema, option).condition(tree.body)
    except (SyntaxError, ValueError) as error:
        raise InputError(f"{option} {text}: not a condition: {error}. {_HOW}") from None
    except RecursionError:
        raise InputError(f"{option}: the condition is nested too deeply") from None
    _try_on_nothing(condition, schema, f"{option} {text}")
    return condition


def _try_on_nothing(condition: pc.Expression, schema: pa.Schema, said: str) -> None:
    """Types are only compared when rows are: find out before anything is written."""
    try:
        schema.empty_table().filter(condition)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise InputError(f"{said}: these cannot be compared: {error}") from None


class _Reader:
    def __init__(self, text: str, schema: pa.Schema, option: str) -> None:
        self._text, self._schema, self._option = text, schema, option

    def condition(self, node: ast.expr) -> pc.Expression:
        if isinstance(node, ast.BoolOp):
            parts = [self.condition(value) for value in node.values]
            both = isinstance(node.op, ast.And)
            return reduce(lambda a, b: (a & b) if both else (a | b), parts)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return ~self.condition(node.operand)
        if isinstance(node, ast.Compare):
            return self._comparison(node)
        if isinstance(node, ast.Name | ast.Attribute):
            return self._column(node)
        raise self._wrong(node)

    def _comparison(self, node: ast.Compare) -> pc.Expression:
        sides = [node.left, *node.comparators]
        parts = [self._pair(a, op, b) for a, op, b in zip(sides, node.ops, sides[1:], strict=False)]
        return reduce(lambda a, b: a & b, parts)

    def _pair(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> pc.Expression:
        if isinstance(op, ast.Is | ast.IsNot):
            if not (isinstance(right, ast.Constant) and right.value is None):
                raise self._wrong(right)
            missing = self._value(left).is_null()
            return missing if isinstance(op, ast.Is) else ~missing
        if isinstance(op, ast.In | ast.NotIn):
            if not isinstance(right, ast.List | ast.Tuple | ast.Set):
                raise self._wrong(right)
            found = self._value(left).isin([self._constant(element) for element in right.elts])
            return found if isinstance(op, ast.In) else ~found
        return _COMPARISONS[type(op)](self._value(left), self._value(right))

    def _value(self, node: ast.expr) -> pc.Expression:
        if isinstance(node, ast.Name | ast.Attribute):
            return self._column(node)
        return pc.scalar(self._constant(node))

    def _constant(self, node: ast.expr) -> str | int | float | bool:
        value: Any = ast.literal_eval(node) if isinstance(node, ast.Constant | ast.UnaryOp) else None
        if not isinstance(value, str | int | float | bool):
            raise self._wrong(node)
        return value

    def _column(self, node: ast.Name | ast.Attribute) -> pc.Expression:
        names = self._path(node)
        known: Any = self._schema
        for depth, name in enumerate(names):
            there = list(known.names) if isinstance(known, pa.Schema) else [f.name for f in _fields(known)]
            if name not in there:
                close = difflib.get_close_matches(name, there, 1)
                hint = (
                    f"Did you mean {'.'.join([*names[:depth], close[0]])}?" if close else f"There are: {_few(there)}."
                )
                raise InputError(f"{self._option} {self._text}: there is no column '{'.'.join(names)}'. {hint}")
            known = known.field(name).type
        return pc.field(*names) if len(names) == 1 else pc.field(tuple(names))

    def _path(self, node: ast.expr) -> list[str]:
        if isinstance(node, ast.Name):
            return [node.id]
        if isinstance(node, ast.Attribute):
            return [*self._path(node.value), node.attr]
        raise self._wrong(node)

    def _wrong(self, node: ast.expr) -> InputError:
        part = ast.get_source_segment(self._text.strip(), node) or self._text
        return InputError(f"{self._option} {self._text}: '{part}' is not understood here. {_HOW}")


def _fields(kind: pa.DataType) -> list[pa.Field]:
    return [kind.field(place) for place in range(kind.num_fields)] if pa.types.is_struct(kind) else []


def _few(names: list[str]) -> str:
    return ", ".join(names) or "none inside it"
