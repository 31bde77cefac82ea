"""Who may import whom, what must stay light or absent: read from every import, those inside functions included."""

import ast
import importlib.util
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from qvd.store.source import reached_modules

ROOT = Path(__file__).parent.parent
ROOMS = ("qvd", "baselines", "metrics", "experiments")
# Inside qvd a room imports from itself and from those before it; rooms in one set do not know each other.
FLOORS = (
    {"options"},
    {"numerics", "store", "data"},
    {"spec"},
    {"graph"},
    {"models"},
    {"calibration", "backends"},
    {"algorithms"},
    {"methods"},
    {"api"},
)
ALLOWED = {
    "qvd": {"qvd", "metrics.files"},  # people's folders and captions are one thing to a run and to `metrics.cli`
    "metrics": {"metrics"},
    "baselines": {
        "baselines",
        "qvd.methods.base",
        *(f"qvd.{room}" for room in ("options", "numerics", "spec", "graph", "calibration", "algorithms", "backends")),
    },
    "experiments": {"experiments", "qvd", "baselines", "metrics"},
}
OPTIONS = ("qvd/options", "metrics/options", "experiments/options", "baselines/options.py")
LIGHT = (*OPTIONS, "metrics/files/", "metrics/errors.py")
FOR_OPTIONS = {"yaml", "omegaconf", "hydra"}  # beside Python's own library and other light modules


def modules():
    """Dotted name → file of every module of the repository's packages."""
    files = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in files}
    return {name.removesuffix(".__init__"): path for name, path in names.items()}


MODULES = modules()


def imports(source):
    """Every module that a source imports, wherever the import stands."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports here are absolute"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            found |= {named.value for named in node.args if isinstance(named, ast.Constant)}
    return found


IMPORTS = {name: imports(path.read_text()) for name, path in MODULES.items()}


def is_below(module, rooms):
    return any(module == room or module.startswith(f"{room}.") for room in rooms)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_follow_the_house(room):
    offences = [
        f"{name} imports {module}"
        for name, imported in IMPORTS.items()
        if name.split(".")[0] == room
        for module in imported
        if module.split(".")[0] in ROOMS and not is_below(module, ALLOWED[room])
    ]
    assert not offences


def test_inside_qvd_imports_go_down():
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    rooms = {name: name.split(".")[1] for name in MODULES if name.startswith("qvd.")}
    rooms["qvd"] = "api"  # by its lazy names the package itself is the door at the top
    offences = [
        f"{name} imports {module}"
        for name, room in rooms.items()
        for module in IMPORTS[name]
        if module in rooms and rooms[module] != room and floor[rooms[module]] >= floor[room]
    ]
    assert not offences


@pytest.mark.parametrize(
    "source",
    [
        "from qvd.models import base",
        "from qvd import models",
        "import qvd.models",
        "def f():\n    import qvd.models.base",
        "if TYPE_CHECKING:\n    from qvd.models.base import ModelAdapter",
        'importlib.import_module("qvd.models.base")',
        '__import__("qvd.models")',
    ],
)
def test_no_form_of_an_import_is_overlooked(source):
    assert any(is_below(module, {"qvd.models"}) for module in imports(source))
    assert imports("from qvd import load_model") == imports("import qvd") == {"qvd"}


def test_every_room_has_a_floor():
    rooms = {name.split(".")[1] for name in MODULES if name.startswith("qvd.")}
    assert rooms == set().union(*FLOORS)


@pytest.mark.parametrize("room", ["qvd.methods", "qvd.algorithms", "baselines"])
def test_methods_see_no_model(room):
    """What they may know of one is its `Anatomy`; not even by way of others do they reach an adapter."""
    modules = [name for name in MODULES if is_below(name, {room})]
    assert modules
    assert not [name for name in reached_modules(*modules) if is_below(name, {"qvd.models"})]


def test_no_module_imports_itself_by_way_of_others():
    graph = {name: imported & MODULES.keys() for name, imported in IMPORTS.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


def test_of_qvd_datasets_know_files_and_models_what_is_said_of_weights():
    known = {
        name: {module for module in imported if is_below(module, {"metrics"})} for name, imported in IMPORTS.items()
    }
    outside = {name: files for name, files in known.items() if is_below(name, {"qvd"}) and files}
    of_weights = {name: files for name, files in outside.items() if not is_below(name, {"qvd.data"})}
    assert set().union(*of_weights.values()) == {"metrics.files.weights"}
    assert all(is_below(name, {"qvd.models"}) for name in of_weights)


def test_options_and_files_are_light():
    light = [name for name, path in MODULES.items() if str(path.relative_to(ROOT)).startswith(LIGHT)]
    assert light
    known = {*sys.stdlib_module_names, *FOR_OPTIONS}
    offences = [
        f"{name} imports {module}"
        for name in light
        for module in IMPORTS[name]
        if module not in light and module.split(".")[0] not in known
    ]
    assert not offences


def test_networks_are_imported_where_they_are_named():
    """`import diffusers` and `import transformers` are lazy: a class, with all that its file imports, comes when it is
    first named, so that a run which finds everything in the store does without."""
    apart = ("experiments.training", "experiments.benchmarks", "qvd.models.latte_pipeline", "qvd.models.tokenizer")
    eager = [
        f"{name}: from {node.module} import …"
        for name, path in MODULES.items()
        if not name.startswith(apart)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module in ("diffusers", "transformers")
    ]
    assert not eager


def test_torchvision_is_absent():
    assert importlib.util.find_spec("torchvision") is None, "torchvision breaks diffusers with the CPU build of torch"


def test_validation_does_not_import_torch():
    code = (
        "import sys\n"
        "from hydra import compose, initialize_config_dir\n"
        "from experiments.config.build import build_run_config\n"
        "from experiments.config.groups import CONF, GROUPS\n"
        "with initialize_config_dir(str(CONF), version_base='1.3'):\n"
        "    config = compose('config', ['experiment=demo'], return_hydra_config=True)\n"
        "build_run_config(config, dict(config.hydra.runtime.choices))\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
