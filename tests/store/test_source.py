"""Which modules a result depends on, and when their digest changes."""

import subprocess
import sys
from pathlib import Path

import pytest

from qvd.store import source
from qvd.store.source import changed_modules, code_digest, module_digests, reached_modules

ROOT = Path(__file__).parents[2]


def test_function_and_class_level_imports_are_followed(tree):
    tree.write("a.py", "import p.b\ndef f():\n    from p.c import x\nclass A:\n    import p.d as d\n")
    tree.write("p/__init__.py", "")
    for name in "bcde":
        tree.write(f"p/{name}.py", "x = 1\n")
    assert reached_modules("a") == ("a", "p", "p.b", "p.c", "p.d")


def test_transitively_and_round_a_circle(tree):
    tree.write("a.py", "import b\n")
    tree.write("b.py", "import c\n")
    tree.write("c.py", "import a\n")
    assert reached_modules("b") == ("a", "b", "c")


def test_from_imports_name_modules_or_what_is_in_them(tree):
    tree.write("a.py", "from p import module, name\n")
    tree.write("p/__init__.py", "from p.other import name\n")
    for name in ("module", "other", "unused"):
        tree.write(f"p/{name}.py", "")
    assert reached_modules("a") == ("a", "p", "p.module", "p.other")


def test_relative_imports(tree):
    tree.write("p/__init__.py", "from . import a\n")
    tree.write("p/q/__init__.py", "from .b import x\n")
    tree.write("p/q/b.py", "from ..c import x\nfrom .. import d\n")
    for name in "acd":
        tree.write(f"p/{name}.py", "x = 1\n")
    assert reached_modules("p.q.b") == ("p", "p.a", "p.c", "p.d", "p.q", "p.q.b")


def test_imports_for_annotations_alone_and_libraries_are_not_followed(tree):
    tree.write("a.py", "import json, torch\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import b\n")
    tree.write("b.py", "")
    assert reached_modules("a") == ("a",)


def test_a_package_without_init(tree):
    tree.write("a.py", "import p.b\n")
    tree.write("p/b.py", "")
    assert reached_modules("a") == ("a", "p.b")


def test_a_module_that_comes_goes_or_moves_changes_the_digest(tree):
    tree.write("a.py", "from p import b\n")
    tree.write("p/__init__.py", "b = c = 1\n")
    digests = [code_digest("a")]
    tree.write("p/b.py", "")
    digests.append(code_digest("a"))
    tree.write("a.py", "from p import c as b\n")
    tree.move("p/b.py", "p/c.py")
    digests.append(code_digest("a"))
    assert len(set(digests)) == 3
    tree.move("p/c.py", "p/d.py")
    assert reached_modules("a") == ("a", "p")


def test_the_digest_is_that_of_what_counts(tree):
    tree.write("a.py", "import b\n")
    tree.write("b.py", "x = 1\n")
    tree.write("c.py", "y = 1\n")
    before = code_digest("a")
    tree.write("b.py", '"""What b is."""\n\nx: int = 1  # for now\n')
    tree.write("c.py", "y = 2\n")
    assert code_digest("a") == before
    tree.write("b.py", "x = 2\n")
    assert code_digest("a") != before


def test_libraries_versions_count(tree, monkeypatch):
    tree.write("a.py", "")
    before, recorded = code_digest("a"), module_digests("a")
    monkeypatch.setattr(source, "version", lambda library: "0.0")
    tree.forget()
    assert code_digest("a") != before and changed_modules(recorded, "a") == ["diffusers", "torch", "transformers"]


def test_what_changed_is_named(tree):
    tree.write("a.py", "import b, c\n")
    for name in "bc":
        tree.write(f"{name}.py", "x = 1\n")
    recorded = module_digests("a")
    assert changed_modules(recorded, "a") == []
    tree.write("b.py", "x = 2\n")
    tree.move("c.py", "d.py")
    tree.write("a.py", "import b, d\n")
    assert changed_modules(recorded, "a") == ["a", "b", "c", "d"]


def test_a_package_of_the_users_own(tree, tmp_path_factory, monkeypatch):
    """Its modules are found beside it, the repository's where they are, and what else lies in site-packages is not."""
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "site-packages"
    for path, text in {
        "mine/__init__.py": "",
        "mine/method.py": "from . import helper\nimport experiments.b, library\n",
        "mine/helper.py": "",
        "library.py": "",
    }.items():
        (elsewhere / path).parent.mkdir(parents=True, exist_ok=True)
        (elsewhere / path).write_text(text)
    tree.write("experiments/b.py", "")
    with pytest.raises(ValueError, match=r"module mine\.method has no source file"):
        reached_modules("mine.method")
    module = type(sys)("mine.method")
    module.__file__ = str(elsewhere / "mine" / "method.py")
    monkeypatch.setitem(sys.modules, "mine.method", module)
    tree.forget()
    assert reached_modules("mine.method") == ("experiments.b", "mine", "mine.helper", "mine.method")


def test_it_is_light_and_below_everything():
    assert reached_modules("qvd.store.source") == (
        "qvd",
        "qvd.store",
        "qvd.store.scopes",
        "qvd.store.source",
        "qvd.store.syntax",
    )
    code = "import sys, qvd.store.source\nassert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
