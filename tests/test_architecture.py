"""Who may import whom, and what must stay light or absent."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("qvd", "baselines", "metrics", "experiments")
ALLOWED = {
    "qvd": {"qvd"},
    "metrics": {"metrics"},
    "baselines": {"baselines", "qvd"},
    "experiments": {"experiments", "qvd", "baselines", "metrics"},
}


def imported_modules(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return {name for name in names if name.split(".")[0] in ROOMS}


def is_type_checking_only(path: Path, module: str) -> bool:
    """Whether `module` is imported for annotations alone."""
    tree = ast.parse(path.read_text())
    guarded = [n for n in ast.walk(tree) if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.unparse(n.test)]
    inside = {n.module for block in guarded for n in ast.walk(block) if isinstance(n, ast.ImportFrom)}
    unguarded = sum(isinstance(n, ast.ImportFrom) and n.module == module for n in ast.walk(tree))
    return module in inside and unguarded == 1


@pytest.mark.parametrize("room", ROOMS)
def test_imports_follow_the_house(room):
    offences = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in (ROOT / room).rglob("*.py")
        for module in imported_modules(path)
        if not any(module == allowed or module.startswith(f"{allowed}.") for allowed in ALLOWED[room])
        and not is_type_checking_only(path, module)
    ]
    assert not offences


def test_torchvision_is_absent():
    assert importlib.util.find_spec("torchvision") is None, "torchvision breaks diffusers with the CPU build of torch"


def test_validation_does_not_import_torch():
    code = (
        "import sys\n"
        "from hydra import compose, initialize_config_dir\n"
        "from experiments.config.build import CONF, GROUPS, build_run_config\n"
        "with initialize_config_dir(str(CONF), version_base='1.3'):\n"
        "    config = compose('config', ['experiment=demo'], return_hydra_config=True)\n"
        "build_run_config(config, dict(config.hydra.runtime.choices))\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
