"""The mutation tool: which errors it makes, and that it tells a test that notices from none."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutation.__main__ import DEFAULT, TESTS, files_of, sample
from tests.mutation.operators import mutations

ROOT = Path(__file__).parent.parent


def changed(source):
    return {mutation.apply(source) for mutation in mutations(source)}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a < b", {"(a <= b)", "(a > b)"}),
        ("a in b", {"(a not in b)"}),
        ("a + b * c", {"(a - b * c)", "a + (b / c)"}),
        ("x += y", {"x -= y"}),
        ("not a", {"(a)"}),
        ("-a", {"(a)"}),
        ("a and b", {"(a or b)"}),
        ("True", {"(False)"}),
        ("7", {"(8)", "(6)"}),
        ("0.5", {"(1.0)", "(0.25)"}),
        ("0.0", {"(1.0)", "(-1.0)"}),
        ("a if b else c", {"a if (not b) else c"}),
        ("x.clamp(a, b)", {"(x.clamp(b, a))", "pass"}),
        ("max(a, b)", {"(min(a, b))", "pass"}),
        ("f(a, device=d, k=v)", {"(f(a, device=d))", "pass"}),
        ("torch.sqrt(a)", {"(a)", "pass"}),
        ("def f(a: int = b) -> int:\n    return a", {"def f(a: int = b) -> int:\n    return None"}),
        ("raise ValueError(f'{a + 1}: must be over {b - 1}')", set()),
        ("é = 'é' if ü else a - b", {"é = 'é' if ü else (a + b)", "é = 'é' if (not ü) else a - b"}),
    ],
)
def test_errors(source, expected):
    assert changed(source) == expected


@pytest.mark.full
def test_every_mutant_of_the_default_modules_is_another_program():
    files = [file for of_room in files_of(DEFAULT).values() for file in of_room]
    assert len(files) > 25
    for file in files:
        source = (ROOT / file).read_text()
        programs = {ast.dump(ast.parse(mutant)) for mutant in changed(source)}
        assert ast.dump(ast.parse(source)) not in programs, file


def test_samples_are_seeded_and_tests_exist():
    file = "qvd/numerics/affine.py"
    assert sample(file, 5, 0) == sample(file, 5, 0) != sample(file, 5, 1)
    assert len(sample(file, None, 0)) > len(sample(file, 5, 0)) == 5
    assert all((ROOT / path).exists() for paths in TESTS.values() for path in paths)


TOY = """
import sys
from pathlib import Path
from tests.mutation import process

process.ROOT = Path(sys.argv[1])
process.OWN.add("toy")
baseline = process.measure("toy", ["test_toy.py"])
source = (process.ROOT / "toy/maths.py").read_text()
for old, new, line in (("/ 2", "* 2", 2), ("0.0", "1.0", 5), ("while x", "while True or x", 7)):
    print(process.first_failure("toy/maths.py", source.replace(old, new), line, baseline))
"""
MATHS = """def half(x):
    return x / 2

def nothing(x):
    return 0.0 * x

def down(x):
    while x > 0:
        x -= 1
    return x
"""
CHECKS = """from toy.maths import down, half

def test_down():
    assert down(3) == 0

def test_half():
    assert half(4) == 2
"""


@pytest.mark.full
def test_a_mutant_is_noticed_or_not_or_never_ends(tmp_path):
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy/maths.py").write_text(MATHS)
    (tmp_path / "test_toy.py").write_text(CHECKS)
    command = [sys.executable, "-c", TOY, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["test_toy.py::test_half", "None", "timeout"]
