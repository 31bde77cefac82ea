"""Pytest in forked processes of a warm interpreter: which tests run which line, and whether one notices a mutant."""

import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import coverage
import pytest
from hypothesis import configuration

ROOT = Path(__file__).parents[2]
OWN = {"qvd", "baselines", "metrics", "experiments", "tests", "_pytest", "__main__"}


@dataclass(frozen=True)
class Baseline:
    """A run of the tests on the modules as they are.

    Attributes:
        seconds: by test.
        tests: file → line → tests that execute it.
        libraries: modules of others that were imported.
    """

    seconds: dict[str, float]
    tests: dict[str, dict[str, list[str]]]
    libraries: list[str]

    def of(self, file: str, line: int) -> set[str]:
        """Tests of a line; of the whole file for what is executed on import."""
        lines = self.tests.get(file, {})
        return set(lines.get(str(line), [])) or {test for tests in lines.values() for test in tests}


def measure(room: str, test_paths: Iterable[str]) -> Baseline:
    """Raises RuntimeError: where a test fails without any mutation."""
    answer = in_fork(lambda: _traced(room, test_paths), 3600)
    if answer is None or answer.pop("code") != 0:
        raise RuntimeError(f"the tests of {room} fail as they are: {[*test_paths]}")
    return Baseline(**answer)


def warm(libraries: Iterable[str]) -> None:
    """Import what every forked process would import by itself."""
    for name in libraries:
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def first_failure(file: str, source: str, line: int, baseline: Baseline) -> str | None:
    """The test that notices the module's mutated text; "timeout" where its tests did not end."""
    covering = baseline.of(file, line)
    if not covering:
        return None
    files = {_file(test) for test in covering}
    usual = sum(seconds for test, seconds in baseline.seconds.items() if _file(test) in files)
    answer = in_fork(lambda: _mutated(file, source, files, covering, baseline.seconds), 30 + 3 * usual)
    return "timeout" if answer is None else answer["failed"]


def in_fork(function: Callable[[], Any], timeout: float) -> Any:
    """What a function returns in a forked process, as JSON; None where it took too long or died."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        if (process := os.fork()) == 0:
            os.setpgid(0, 0)
            _isolate(folder)
            try:
                answer.write_text(json.dumps(function()))
            finally:
                os._exit(0)
        deadline = time.monotonic() + timeout
        while os.waitpid(process, os.WNOHANG) == (0, 0):
            if time.monotonic() > deadline:
                os.killpg(process, signal.SIGKILL)
                os.waitpid(process, 0)
                return None
            time.sleep(0.02)
        return json.loads(answer.read_text()) if answer.exists() else None


def _file(test: str) -> str:
    return test.partition("::")[0]


def _isolate(folder: str) -> None:
    for stream in (1, 2):
        os.dup2(os.open(f"{folder}/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    configuration.set_hypothesis_home_dir(f"{folder}/hypothesis")
    tempfile.tempdir = folder
    os.chdir(ROOT)


def _pytest(plugin: Any, *words: str) -> int:
    options = ("-q", "-p", "no:cacheprovider", "--hypothesis-seed=0", f"--basetemp={tempfile.gettempdir()}/pytest")
    return int(pytest.main([*options, *words], plugins=[plugin]))


class _Tracer:
    def __init__(self, room: str) -> None:
        self.coverage = coverage.Coverage(data_file=None, config_file=False, include=[f"{ROOT}/{room}/*"])
        self.seconds: dict[str, float] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        self.coverage.switch_context(item.nodeid)
        start = time.perf_counter()
        outcome = yield
        self.seconds[item.nodeid] = time.perf_counter() - start
        return outcome


def _traced(room: str, test_paths: Iterable[str]) -> dict[str, Any]:
    tracer = _Tracer(room)
    with tracer.coverage.collect():
        code = _pytest(tracer, *test_paths)
    data = tracer.coverage.get_data()
    tests = {
        str(Path(file).relative_to(ROOT)): {
            str(line): [context for context in contexts if context]
            for line, contexts in data.contexts_by_lineno(file).items()
        }
        for file in data.measured_files()
    }
    libraries = [name for name in sys.modules if name.partition(".")[0] not in OWN]
    return {"code": code, "seconds": tracer.seconds, "tests": tests, "libraries": libraries}


class _Mutant(importlib.abc.MetaPathFinder, importlib.machinery.SourceFileLoader):
    """Finds one module, with another text than its file's."""

    def __init__(self, file: str, source: str) -> None:
        super().__init__(file.removesuffix(".py").replace("/", "."), str(ROOT / file))
        self.source = source

    def find_spec(self, name, path=None, target=None):
        return importlib.util.spec_from_file_location(name, self.path, loader=self) if name == self.name else None

    def get_code(self, name):
        return compile(self.source, self.path, "exec")


class _Hasty:
    """Runs tests of the mutated line first, quick files first, and remembers what failed."""

    def __init__(self, covering: set[str], seconds: dict[str, float]) -> None:
        self.covering, self.seconds, self.failed = covering, seconds, None

    def pytest_collection_modifyitems(self, items):
        cost: Counter[str] = Counter()
        for test in self.covering:
            cost[_file(test)] += self.seconds[test]
        items.sort(key=lambda i: (cost[_file(i.nodeid)], _file(i.nodeid), i.nodeid not in self.covering))

    def pytest_runtest_logreport(self, report):
        if report.failed and self.failed is None:
            self.failed = report.nodeid


def _mutated(file: str, source: str, files: set[str], covering: set[str], seconds: dict[str, float]) -> dict[str, Any]:
    sys.meta_path.insert(0, _Mutant(file, source))
    plugin = _Hasty(covering, seconds)
    code = _pytest(plugin, "-x", *sorted(files))
    return {"failed": plugin.failed or (None if code == 0 else f"exit code {code}")}
