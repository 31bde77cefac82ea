"""The names of a module's scopes, and its syntax tree without what never counts.

As Python resolves them, but found from the tree alone: `symtable` says nothing of which node lies in which scope.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_SCOPED = (*_FUNCTIONS, ast.ClassDef, ast.Lambda, *_COMPREHENSIONS)
_INNER = {"body", "elt", "key", "value", "generators"}  # a scoped node's fields inside its scope; the others lie around
_UNWRITTEN = {"ctx", "kind", "type_comment", "type_ignores"}
# Where a variable is named, other than in an import and by `nonlocal`.
NAMING = {ast.Name: "id", ast.ExceptHandler: "name", ast.MatchAs: "name", ast.MatchStar: "name"} | {
    ast.MatchMapping: "rest"
}
_REFLECTION = {"locals", "vars", "dir", "eval", "exec"}  # these see what local variables are called
# A decorator may read annotations, as singledispatch and torch's custom operators do; these do not.
_BLIND_DECORATORS = {
    *("property", "setter", "cached_property", "classmethod", "staticmethod", "abstractmethod", "override"),
    *("contextmanager", "cache", "lru_cache", "wraps", "no_grad", "inference_mode"),
}


class Scope:
    """The names of a module, class, function or comprehension."""

    def __init__(self, node: ast.AST, parent: Scope | None) -> None:
        self.node, self.parent = node, parent
        self.bound: set[str] = set()
        self.kept: set[str] = set()  # of those, the ones whose spelling counts
        self.globals: set[str] = set()
        self.nonlocals: set[str] = set()
        self.reflects = False

    def owner(self, name: str) -> Scope | None:
        """The function or comprehension whose variable `name` is, used here; None where it is a global or a class's."""
        scope = self
        while scope.parent is not None:
            of_class = isinstance(scope.node, ast.ClassDef)
            if scope is self or not of_class:  # functions in a class do not see its names
                if name in scope.globals:
                    return None
                if name in scope.bound and name not in scope.nonlocals:
                    return None if of_class else scope
            scope = scope.parent
        return None

    def around(self) -> Iterator[Scope]:
        """This scope and those around it."""
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.parent


def fields(node: ast.AST, scope: Scope, scopes: dict[ast.AST, Scope]) -> Iterator[tuple[str, object, Scope]]:
    """Every filled field that counts of a node in `scope`, and the scope that the field lies in."""
    inner = scopes.get(node)
    for field in node._fields:
        value = getattr(node, field, None)
        if value is None or value == [] or field in _UNWRITTEN:
            continue
        if inner is not None and field in _INNER:
            yield field, value, inner
        elif field == "iter" and node is getattr(scope.node, "generators", [None])[0]:
            assert scope.parent is not None, "a comprehension lies in a module"
            yield field, value, scope.parent  # Python evaluates the first iterable outside
        else:
            yield field, value, scope


def bind(node: ast.AST, scope: Scope, scopes: dict[ast.AST, Scope]) -> None:
    """Find the names of every scope, and take out of the tree what does not count."""
    if isinstance(node, _SCOPED):
        scopes[node] = Scope(node, scope)
    if isinstance(node, (*_FUNCTIONS, ast.Lambda)):
        _bind_parameters(node, scopes[node])
    _bind_name(node, scope)
    for field, value, place in fields(node, scope, scopes):
        if isinstance(node, ast.NamedExpr) and field == "target":
            continue  # `_bind_name` has bound it, where it belongs
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, ast.AST):
                bind(item, place, scopes)
        if isinstance(value, list) and isinstance(value[0], ast.stmt):
            documented = isinstance(node, (ast.Module, ast.ClassDef, *_FUNCTIONS)) and _is_text(value[0])
            setattr(node, field, list(_counting(value[documented:], place)))


def _bind_parameters(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, inner: Scope) -> None:
    """Callers may name them, so they keep their names; annotations go."""
    given = node.args
    parameters = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    names = {parameter.arg for parameter in parameters if parameter is not None}
    inner.bound |= names
    inner.kept |= names
    if isinstance(node, ast.Lambda) or not all(map(_is_blind, node.decorator_list)):
        return
    node.returns = None
    for parameter in parameters:
        if parameter is not None:
            parameter.annotation = None


def _is_blind(decorator: ast.expr) -> bool:
    function = decorator.func if isinstance(decorator, ast.Call) else decorator
    return getattr(function, "attr", getattr(function, "id", "")) in _BLIND_DECORATORS


def _bind_name(node: ast.AST, scope: Scope) -> None:
    match node:
        case ast.Name(ctx=ast.Load()):
            if node.id in _REFLECTION:
                for seen in scope.around():
                    seen.reflects = True
        case ast.NamedExpr(target=ast.Name(id=name)):
            next(s for s in scope.around() if not isinstance(s.node, _COMPREHENSIONS)).bound.add(name)
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            scope.bound.add(node.name)
            scope.kept.add(node.name)
        case ast.alias():
            scope.bound.add(bound_by(node))
        case ast.Global():
            scope.globals.update(node.names)
        case ast.Nonlocal():
            scope.nonlocals.update(node.names)
        case _ if type(node) in NAMING:
            scope.bound |= {getattr(node, NAMING[type(node)])} - {None}


def bound_by(alias: ast.alias) -> str:
    return alias.asname or alias.name.partition(".")[0]


def _is_text(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _counting(body: list[ast.stmt], scope: Scope) -> Iterator[ast.stmt]:
    """The statements of a body that count, without annotations unless it is a class's."""
    for statement in body:
        if isinstance(statement, ast.If) and _is_type_checking(statement.test):
            yield from statement.orelse
        elif isinstance(statement, ast.AnnAssign) and not isinstance(scope.node, ast.ClassDef):
            if statement.value is not None:
                yield ast.Assign([statement.target], statement.value)
        elif not isinstance(statement, ast.Pass):
            yield statement


def _is_type_checking(test: ast.expr) -> bool:
    return getattr(test, "attr", getattr(test, "id", "")) == "TYPE_CHECKING"
