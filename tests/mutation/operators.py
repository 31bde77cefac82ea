"""The small errors that are put into a module, one at a time, as replacements of its text."""

import ast
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Any

COMPARISONS = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
ARITHMETIC = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
}
_PAIRS = (
    "min max, amin amax, argmin argmax, minimum maximum, clamp_min clamp_max, floor ceil, mean sum, any all, sin cos"
)
NAMES = dict(pair for a, b in map(str.split, _PAIRS.split(", ")) for pair in ((a, b), (b, a)))
SWAPPED = {"clamp", "clamp_", "where", "lerp", "sub", "div", "zip", "isclose", "linspace", "range"}
DROPPED = {
    "abs",
    "sqrt",
    "square",
    "neg",
    "exp",
    "log",
    "sigmoid",
    "round",
    "floor",
    "ceil",
    "double",
    "flip",
    "sorted",
}


@dataclass(frozen=True)
class Mutation:
    """One replacement in a file.

    Attributes:
        line: first line of what is replaced, from 1.
        start, end: the replaced bytes.
        text: what stands there instead.
        operator: kind of the error.
    """

    line: int
    start: int
    end: int
    text: str
    operator: str

    def apply(self, source: str) -> str:
        data = source.encode()
        return (data[: self.start] + self.text.encode() + data[self.end :]).decode()


def mutations(source: str) -> list[Mutation]:
    """All mutations of a module, in the order of its text; equal replacements of one place once."""
    starts = list(accumulate(map(len, source.encode().splitlines(keepends=True)), initial=0))
    found = {}
    for operator, node, other in chain.from_iterable(map(_errors, _mutable(ast.parse(source)))):
        start = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        text = ast.unparse(ast.fix_missing_locations(other))
        text = f"({text})" if isinstance(node, ast.expr) else text
        found.setdefault((start, end, text), Mutation(node.lineno, start, end, text, operator))
    return [found[key] for key in sorted(found)]


def _mutable(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes whose change could matter: no annotation, no decorator, no message, and nothing in an f-string."""
    yield node
    for field, value in ast.iter_fields(node):
        if field in {"annotation", "returns", "decorator_list"}:
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not isinstance(child, ast.JoinedStr | ast.Raise):
                yield from _mutable(child)


def _errors(node: ast.AST) -> Iterator[tuple[str, ast.AST, ast.AST]]:
    """(kind of error, node to replace, replacement)."""
    match node:
        case ast.Compare():
            for place, operator in enumerate(node.ops):
                for other in COMPARISONS[type(operator)]:
                    ops = [*node.ops[:place], other(), *node.ops[place + 1 :]]
                    yield "comparison", node, _with(node, ops=ops)
        case ast.BinOp(op=operator) | ast.AugAssign(op=operator) if type(operator) in ARITHMETIC:
            yield "arithmetic", node, _with(node, op=ARITHMETIC[type(operator)]())
        case ast.UnaryOp(op=ast.USub() | ast.Not() | ast.Invert()):
            yield "sign or not dropped", node, node.operand
        case ast.BoolOp():
            yield "and for or", node, _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
        case ast.Constant(value=bool(value)):
            yield "boolean", node, ast.Constant(not value)
        case ast.Constant(value=int(value)):
            yield from (("number", node, ast.Constant(other)) for other in (value + 1, value - 1))
        case ast.Constant(value=float(value)):
            others = (value * 2, value / 2) if value else (1.0, -1.0)
            yield from (("number", node, ast.Constant(other)) for other in others)
        case ast.If() | ast.While() | ast.IfExp():
            yield "condition negated", node.test, ast.UnaryOp(ast.Not(), node.test)
        case ast.comprehension():
            yield from (("condition negated", test, ast.UnaryOp(ast.Not(), test)) for test in node.ifs)
        case ast.Return(value=ast.expr() as value) if not _is_none(value):
            yield "None returned", node, ast.Return(ast.Constant(None))
        case ast.Expr(value=ast.Call()):
            yield "statement dropped", node, ast.Pass()
        case ast.Call():
            yield from _errors_of_call(node)


def _errors_of_call(node: ast.Call) -> Iterator[tuple[str, ast.AST, ast.AST]]:
    name = getattr(node.func, "attr", getattr(node.func, "id", ""))
    arguments = node.args
    if isinstance(node.func, ast.Attribute) and not _is_module(node.func.value):
        arguments = [node.func.value, *node.args]
    if name in NAMES:
        part = "attr" if isinstance(node.func, ast.Attribute) else "id"
        yield "another function", node, _with(node, func=_with(node.func, **{part: NAMES[name]}))
    if name in SWAPPED and len(node.args) > 1:
        yield "arguments swapped", node, _with(node, args=[*node.args[1::-1], *node.args[2:]])
    if name in DROPPED and arguments:
        yield "call dropped", node, arguments[0]
    for keyword in node.keywords:
        if keyword.arg not in {None, "device"}:  # there is one device where this runs
            others = [other for other in node.keywords if other is not keyword]
            yield "keyword dropped", node, _with(node, keywords=others)


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _is_module(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in {"torch", "np", "math", "F"}


def _with(node: ast.AST, **fields: Any) -> ast.AST:
    changed = copy(node)
    for field, value in fields.items():
        setattr(changed, field, value)
    return changed
