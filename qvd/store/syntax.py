"""What of a module's source can change what it computes.

Comments, formatting, docstrings, `pass`, annotations and the names of local variables cannot, nor can what stands under
`if TYPE_CHECKING:`. Everything else counts: constants, operators, parameters and their defaults, decorators, the names
of functions, classes, attributes and globals, the order of statements, and which variable is used where. The
annotations in a class's own body count, for they make the fields of dataclasses.
"""

from __future__ import annotations

import ast
import hashlib
from dataclasses import dataclass

from qvd.store.scopes import NAMING, Scope, bind, bound_by, fields


@dataclass(frozen=True)
class Import:
    """An import statement: `level` dots, then `module`; `names` are taken from it, none by a plain `import`."""

    level: int
    module: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class NormalForm:
    """A module as far as it counts.

    Attributes:
        digest: SHA-256 of its normalized syntax tree.
        imports: those that can be executed, wherever they stand.
    """

    digest: str
    imports: tuple[Import, ...]


def normal_form(source: str | bytes) -> NormalForm:
    """The normal form of a module's source.

    Raises:
        SyntaxError: it is no Python.
    """
    tree = ast.parse(source)
    module, scopes = Scope(tree, None), dict[ast.AST, Scope]()
    bind(tree, module, scopes)
    writer = _Writer(scopes)
    writer.write(tree, module)
    return NormalForm(hashlib.sha256("\n".join(writer.words).encode()).hexdigest(), tuple(writer.imports))


class _Writer:
    """Writes a bound tree as words, and notes its imports."""

    def __init__(self, scopes: dict[ast.AST, Scope]) -> None:
        self.scopes, self.words, self.imports = scopes, list[str](), list[Import]()
        self._variables: dict[tuple[Scope, str], str] = {}

    def write(self, node: ast.AST, scope: Scope) -> None:
        kind = type(node)
        self.words.append(f"{kind.__name__}(")
        if isinstance(node, ast.Import | ast.ImportFrom):
            self._note(node)
        if isinstance(node, ast.Constant):
            self.words.append(repr(node.value))
        elif isinstance(node, ast.alias):
            self.words += [node.name, "as" if node.asname else "is", self._spelled(bound_by(node), scope)]
        else:
            for field, value, place in fields(node, scope, self.scopes):
                self.words.append(field)
                self._write_field(value, place, NAMING.get(kind) == field or kind is ast.Nonlocal)
        self.words.append(")")

    def _write_field(self, value: object, scope: Scope, names: bool) -> None:
        if isinstance(value, ast.AST):
            self.write(value, scope)
        elif isinstance(value, list):
            self.words.append("[")
            for item in value:
                self._write_field(item, scope, names)
            self.words.append("]")
        else:
            self.words.append(self._spelled(str(value), scope) if names else repr(value))

    def _spelled(self, name: str, scope: Scope) -> str:
        """A variable's name if that counts, otherwise which one it is, in order of appearance."""
        owner = scope.owner(name)
        # Python itself renames `__x` in a class.
        if owner is None or owner.reflects or name in owner.kept or name.startswith("__"):
            return name
        return self._variables.setdefault((owner, name), f"${len(self._variables)}")

    def _note(self, node: ast.Import | ast.ImportFrom) -> None:
        names = tuple(alias.name for alias in node.names)
        if isinstance(node, ast.Import):
            self.imports += [Import(0, name) for name in names]
        else:
            self.imports.append(Import(node.level, node.module or "", names))
