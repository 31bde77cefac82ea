"""Which changes of a source count: those that can change what it computes, and no others."""

import ast
import symtable
from pathlib import Path

import pytest

from qvd.store.syntax import Import, normal_form

ROOT = Path(__file__).parents[2]
MODULES = sorted(path for room in ("qvd", "baselines", "metrics") for path in (ROOT / room).rglob("*.py"))


def digest(source: str) -> str:
    return normal_form(source).digest


SAME = {
    "comment": ("x = 1", "x = 1  # why"),
    "formatting": ("x = f(1, 'a')", 'x = (\n    f(\n        1,\n        "a",\n    )\n)'),
    "docstrings": (
        "class A:\n    def f(self):\n        return 1",
        '"""M"""\nclass A:\n    """C"""\n    def f(self):\n        """F"""\n        return 1',
    ),
    "nothing but a docstring": ("def f(): pass", 'def f():\n    """Says it all."""'),
    "signature": ("def f(a, *b, c=1, **d): return a", "def f(a: int, *b: str, c: int = 1, **d: 'X') -> int: return a"),
    "signature under a decorator that reads none": (
        "@torch.no_grad()\ndef f(a): return a",
        "@torch.no_grad()\ndef f(a: Tensor) -> Tensor: return a",
    ),
    "annotated local": ("def f():\n    a = []\n    return a", "def f():\n    b: list[int] = []\n    return b"),
    "annotated attribute": ("def f(self):\n    self.a = 1", "def f(self):\n    self.a: int = 1"),
    "annotated global": ("X = 1", "X: int = 1"),
    "annotated only": ("def f():\n    a = 1\n    return a", "def f():\n    a: int\n    a = 1\n    return a"),
    "type checking": ("x = 1", "if TYPE_CHECKING:\n    from a import b\nx = 1"),
    "type checking, otherwise": ("b = 1", "if typing.TYPE_CHECKING:\n    from a import b\nelse:\n    b = 1"),
    "local": ("def f(x):\n    a = x\n    return a + g(a)", "def f(x):\n    total = x\n    return total + g(total)"),
    "locals that change places": (
        "def f():\n    a, b = g()\n    return a / b",
        "def f():\n    b, a = g()\n    return b / a",
    ),
    "local like a built-in": ("def f():\n    a = 1\n    return a", "def f():\n    sum = 1\n    return sum"),
    "closure": (
        "def f():\n    n = 0\n    def g():\n        nonlocal n\n        n += 1\n        return lambda: n\n    return g",
        "def f():\n    m = 0\n    def g():\n        nonlocal m\n        m += 1\n        return lambda: m\n    return g",
    ),
    "comprehension": (
        "x = {k: [v for v in w if v] for k, w in y if k}",
        "x = {a: [c for c in b if c] for a, b in y if a}",
    ),
    "comprehension over its own name": ("def f(x): return [x for x in x]", "def f(x): return [y for y in x]"),
    "comprehension in a class": (
        "class A:\n    n = 3\n    m = [i for i in range(n)]",
        "class A:\n    n = 3\n    m = [j for j in range(n)]",
    ),
    "walrus": (
        "def f(x):\n    return [b for a in x if (b := g(a))], b",
        "def f(x):\n    return [q for p in x if (q := g(p))], q",
    ),
    "except": (
        "def f():\n    try: g()\n    except E as e: raise X from e",
        "def f():\n    try: g()\n    except E as error: raise X from error",
    ),
    "with, for, del": (
        "def f():\n    with g() as a:\n        for b, *c in a: h(b, c)\n        del b",
        "def f():\n    with g() as x:\n        for y, *z in x: h(y, z)\n        del y",
    ),
    "match": (
        "def f(x):\n    match x:\n        case [a, *b] | {'k': a, **b} | C(a) as b: return a\n        case c: return c",
        "def f(x):\n    match x:\n        case [p, *q] | {'k': p, **q} | C(p) as q: return p\n        case r: return r",
    ),
    "local import": (
        "def f():\n    from a import b as c\n    import d.e as g\n    return c(g)",
        "def f():\n    from a import b as x\n    import d.e as y\n    return x(y)",
    ),
    "local captured by a class": (
        "def f():\n    a = 1\n    class A:\n        b = a\n        def g(self): return a\n    return A",
        "def f():\n    x = 1\n    class A:\n        b = x\n        def g(self): return x\n    return A",
    ),
}
DIFFERENT = {
    "constant": ("x = 1", "x = 2"),
    "kind of number": ("x = 1", "x = 1.0"),
    "bool": ("x = 1", "x = True"),
    "string": ("x = 'a'", "x = 'b'"),
    "bytes": ("x = 'a'", "x = b'a'"),
    "f-string": ("x = f'{a}b'", "x = f'{a}c'"),
    "format": ("x = f'{a:.1f}'", "x = f'{a:.2f}'"),
    "string that is no docstring": ("def f():\n    g()\n    'a'", "def f():\n    g()\n    'b'"),
    "operator": ("x = a + b", "x = a - b"),
    "comparison": ("x = a < b", "x = a <= b"),
    "precedence": ("x = a * (b + c)", "x = a * b + c"),
    "operands": ("x = a - b", "x = b - a"),
    "parameter": ("def f(a): return a", "def f(b): return b"),
    "lambda's parameter": ("f = lambda a: a", "f = lambda b: b"),
    "kind of parameter": ("def f(a, b): pass", "def f(a, *, b): pass"),
    "default": ("def f(a=1): pass", "def f(a=2): pass"),
    "place of a default": ("def f(*, a=1, b): pass", "def f(*, a, b=1): pass"),
    "keyword": ("f(a=1)", "f(b=1)"),
    "function": ("def f(): pass", "def g(): pass"),
    "inner function": ("def f():\n    def g(): pass\n    return g", "def f():\n    def h(): pass\n    return h"),
    "class": ("class A: pass", "class B: pass"),
    "base": ("class A(B): pass", "class A(C): pass"),
    "method": ("class A:\n    def f(self): pass", "class A:\n    def g(self): pass"),
    "attribute": ("a.b", "a.c"),
    "attribute of a class": ("class A:\n    a = 1", "class A:\n    b = 1"),
    "global": ("x = 1", "y = 1"),
    "global in a function": (
        "def f():\n    global a\n    a = 1\n    return a",
        "def f():\n    global b\n    b = 1\n    return b",
    ),
    "global read": ("def f(): return a", "def f(): return b"),
    "decorator": ("@a\ndef f(): pass", "@b\ndef f(): pass"),
    "its argument": ("@a(1)\ndef f(): pass", "@a(2)\ndef f(): pass"),
    "field": ("@dataclass\nclass A:\n    a: int = 1", "@dataclass\nclass A:\n    a: float = 1"),
    "field or attribute": ("@dataclass\nclass A:\n    a: int = 1", "@dataclass\nclass A:\n    a = 1"),
    "field without default": ("@dataclass\nclass A:\n    a: int\n    b: int", "@dataclass\nclass A:\n    a: int"),
    "annotation that a decorator reads": (
        "@f.register\ndef _(a: int): pass",
        "@f.register\ndef _(a: str): pass",
    ),
    "order": ("f()\ng()", "g()\nf()"),
    "nesting": ("if a:\n    f()\ng()", "if a:\n    f()\n    g()"),
    "import": ("from a import b", "from a import c"),
    "imported under a name": ("import a.b", "import a.b as a"),
    "dots": ("from . import a", "from .. import a"),
    "other local": ("def f():\n    a, b = g()\n    return a", "def f():\n    a, b = g()\n    return b"),
    "local or global": ("def f():\n    a = 1\n    return a", "def f():\n    a = 1\n    return b"),
    "local or parameter": ("def f(a):\n    b = 1\n    return a", "def f(a):\n    b = 1\n    return b"),
    "one local or two": (
        "def f():\n    a = 1\n    a = 2\n    return a",
        "def f():\n    a = 1\n    b = 2\n    return a",
    ),
    "own local or the outer's": (
        "def f():\n    a = 1\n    def g():\n        nonlocal a\n        a = 2\n    g()\n    return a",
        "def f():\n    a = 1\n    def g():\n        a = 2\n    g()\n    return a",
    ),
    "comprehension's or the function's": (
        "def f(x):\n    a = 1\n    return [a for a in x]",
        "def f(x):\n    a = 1\n    return [a for b in x]",
    ),
    "class's name or the global": (
        "a = 1\nclass A:\n    a = 2\n    def f(self): return a",
        "b = 1\nclass A:\n    a = 2\n    def f(self): return b",
    ),
    "declared and never set": ("def f():\n    a: int\n    return a", "def f(): return a"),
    "names that locals() shows": (
        "def f():\n    a = 1\n    return dict(locals())",
        "def f():\n    b = 1\n    return dict(locals())",
    ),
    "names that an f-string shows": (
        "def f():\n    a = 1\n    return f'{a=}'",
        "def f():\n    b = 1\n    return f'{b=}'",
    ),
    "private name": (
        "class A:\n    def f(self):\n        __a = 1\n        return __a",
        "class A:\n    def f(self):\n        __b = 1\n        return __b",
    ),
}


@pytest.mark.parametrize(("before", "after"), SAME.values(), ids=SAME)
def test_what_does_not_count(before, after):
    assert before != after and digest(before) == digest(after)


@pytest.mark.parametrize(("before", "after"), DIFFERENT.values(), ids=DIFFERENT)
def test_what_counts(before, after):
    assert digest(before) != digest(after)


def test_imports_are_found_wherever_they_can_be_executed():
    source = """
import a.b, c as d
from . import e
if TYPE_CHECKING:
    import never
class A:
    from ..f import g
    def h(self):
        return [__import__ for i in j if (k := lambda: 0)]
        from l.m import n, o as p
if q:
    pass
elif TYPE_CHECKING:
    import never
else:
    import r
"""
    assert normal_form(source).imports == (
        Import(0, "a.b"),
        Import(0, "c"),
        Import(1, "", ("e",)),
        Import(2, "f", ("g",)),
        Import(0, "l.m", ("n", "o")),
        Import(0, "r"),
    )


def renamed(source: str) -> str:
    """The source with other names for local variables, wherever symtable says that they mean nothing else."""
    tree, tables = ast.parse(source), list(_below(symtable.symtable(source, "", "exec")))
    functions = {(t.get_name(), t.get_lineno()): t for t in tables if isinstance(t, symtable.Function)}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            table = functions[node.name, node.lineno]
            inner = [symbol for t in _below(table) for symbol in t.get_symbols()]
            for symbol in table.get_symbols():
                plain = not (symbol.is_parameter() or symbol.is_namespace() or symbol.is_imported())
                if symbol.is_local() and plain and all(s.is_free() for s in inner if s.get_name() == symbol.get_name()):
                    _rename(node.body, symbol.get_name(), f"renamed_{symbol.get_name()}")
    return ast.unparse(tree)


def _below(table):
    for child in table.get_children():
        yield child
        yield from _below(child)


def _rename(body, old, new):
    for statement in body:
        for node in ast.walk(statement):
            for field in ("id", "name", "names", "rest"):
                value = getattr(node, field, None)
                if isinstance(node, ast.Nonlocal):
                    node.names = [new if name == old else name for name in node.names]
                elif value == old and not isinstance(node, ast.alias):
                    setattr(node, field, new)


@pytest.mark.full
def test_renaming_every_local_of_a_module_changes_nothing():
    sources = [path.read_text() for path in MODULES]
    others = list(map(renamed, sources))
    assert sum(other.count("renamed_") for other in others) > 4000
    assert list(map(digest, sources)) == list(map(digest, others))


SAMPLE = """
import os.path as path
from typing import Any as Thing
LIMIT = 3
@decorated(1)
class A(Base, key=LIMIT):
    field: int = 4
    def method(self, first, /, second=2, *rest, third=3, **more):
        total = first + second * 5 - -third
        for item, other in zip(rest, more):
            total += item if other and not item else other
        try:
            with opened(path) as handle:
                found = {k: v for k, v in handle if k < v}
        except (OSError, Thing) as error:
            raise ValueError(f"{error!r:>9} of {total}") from error
        while found and total > 6:
            def inner(x=7):
                nonlocal total
                total = x[1:total]
                return total
            match found:
                case {"a": [head, *tail], **others} if head:
                    return inner(x=head), tail, others
                case A(field=8) as whole:
                    yield whole
        key = lambda entry: entry.weight ** total
        assert (seen := sorted(found, key=key)), "none"
        return seen
"""
SWAPPED = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Pow: ast.Mult,
    ast.And: ast.Or,
    ast.Or: ast.And,
} | {**{ast.USub: ast.UAdd, ast.Not: ast.USub, ast.Lt: ast.LtE, ast.Gt: ast.Lt}}
NAMES = ("id", "attr", "arg", "name", "asname", "module", "rest", "kwd_attrs")


def changes(tree):
    """Every way to change one word of a tree: (node, field, its new content)."""
    for node in ast.walk(tree):
        for field, value in ast.iter_fields(node):
            if type(value) in SWAPPED:
                yield node, field, SWAPPED[type(value)]()
            elif field in NAMES and isinstance(value, str):
                yield node, field, f"{value}_"
            elif field == "value" and isinstance(node, ast.Constant):
                yield node, field, value + (1 if isinstance(value, int) else "!")
            elif field in ("body", "orelse", "handlers", "cases") and isinstance(value, list) and len(value) > 1:
                yield from ((node, field, value[:i] + value[i + 1 :]) for i in range(len(value)))
                yield from (
                    (node, field, [*value[:i], *value[i : i + 2][::-1], *value[i + 2 :]]) for i in range(len(value) - 1)
                )


def test_any_change_of_a_single_word_counts():
    total = len(list(changes(ast.parse(SAMPLE))))
    digests = {digest(SAMPLE)}
    for number in range(total):
        tree = ast.parse(SAMPLE)
        node, field, value = list(changes(tree))[number]
        setattr(node, field, value)
        digests.add(digest(ast.unparse(tree)))
    assert total > 120 and len(digests) == total + 1
