import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.attributes import compose_run_config
from experiments.options import Tracking, TrackingMode
from experiments.provenance import provenance
from experiments.report.table import build_table
from experiments.tracking.wandb_run import ArmTracker, check_tracking, flatten

ROOT = Path(__file__).parents[3]


def track(arms, run_dir, mode=TrackingMode.offline, figures=None):
    config = {"bits": "w8a8", "model": {"name": "tiny_modelscope"}}
    tracker = ArmTracker(Tracking(mode), run_dir, "demo", config, build_table(arms))
    return tracker.track(arms[1], arms[0], figures or {})


def read_back(run):
    """What wandb's own reader finds in the log of an offline run."""
    wandb = Path(sys.executable).with_name("wandb")
    environment = os.environ | {"WANDB_CONFIG_DIR": str(run), "WANDB_CACHE_DIR": str(run), "WANDB_DIR": str(run)}
    command = [wandb, "leet", "inspect", "--summary", "--json", run]
    return json.loads(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)


def test_offline_run_holds_everything(arms, tmp_path, monkeypatch, pngs):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    run_dir = tmp_path / "run"
    run_dir.mkdir()

    run = track(arms, run_dir, figures=pngs)

    assert run.is_relative_to(run_dir)
    assert not list(home.iterdir()), "wandb wrote outside the run folder"
    assert not {"WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_SILENT"} & set(os.environ)
    record = read_back(run)
    assert (record["state"], record["exit_code"], record["name"]) == ("finished", 0, "qvd w8a8")
    assert record["config"]["model"]["name"] == "tiny_modelscope"
    assert record["config"]["provenance"]["torch"]
    summary = record["summary"]
    assert summary["fvd"] == arms[1].estimate("fvd").value
    assert summary["fvd_ci/high"] == arms[1].estimate("fvd").interval[1]
    assert summary["seconds/sampling"] == 55.25
    logged = {key: value["_type"] for key, value in summary.items() if isinstance(value, dict) and "_type" in value}
    assert logged["samples"] == "video-file" and logged["table"] == "table-file"
    assert logged["ranges/conv_in"] == "histogram" and logged["figures/metrics"] == "image-file"


def test_html_that_is_recorded_has_no_tags_of_others(arms, tmp_path):
    named = [replace(arm, conditions=replace(arm.conditions, reference="<script>alert(1)</script>")) for arm in arms]
    tracker = ArmTracker(Tracking(TrackingMode.offline), tmp_path, "demo", {}, build_table(named))
    tracker.track(named[1], named[0], {})
    (page,) = tmp_path.rglob("*.html")
    assert "&lt;script&gt;alert(1)" in page.read_text() and "<script" not in page.read_text()


def test_a_failing_run_is_finished_as_failed(arms, tmp_path):
    with pytest.raises(OSError, match="cannot identify image"):
        track(arms, tmp_path, figures={"broken": b"no picture"})
    (run,) = (tmp_path / "wandb").glob("offline-run-*")
    assert read_back(run)["exit_code"] == 1


def test_disabled_writes_nothing(arms, tmp_path):
    assert track(arms, tmp_path, TrackingMode.disabled) is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mode", list(TrackingMode))
def test_conf_makes_the_dataclass(mode):
    node = OmegaConf.load(ROOT / "conf" / "tracking" / f"{mode.value}.yaml")
    assert node.pop("_target_") == f"{Tracking.__module__}.{Tracking.__qualname__}"
    assert OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Tracking), node)) == Tracking(mode)


def test_conf_rejects_an_unknown_mode():
    with pytest.raises(OmegaConfBaseException, match="offline"):
        OmegaConf.merge(OmegaConf.structured(Tracking), {"mode": "sometimes"})


@pytest.mark.parametrize("name", ["", "a/b", "what?", "x" * 129])
@pytest.mark.parametrize("field", ["project", "entity"])
def test_names_that_wandb_refuses(field, name):
    with pytest.raises(ValueError, match=rf"tracking\.{field}="):
        Tracking(**{field: name})


def test_wandb_is_asked_before_anything_is_computed(monkeypatch):
    config = compose_run_config(["experiment=demo"])
    check_tracking(config)
    check_tracking(replace(config, tracking=Tracking(project="x" * 128, entity="y" * 128), experiment="e" * 64))
    monkeypatch.setenv("WANDB_TAGS", "t" * 65)
    with pytest.raises(ValueError, match=r"tracking\.mode=offline: wandb refuses: .*between 1 and 64"):
        check_tracking(config)
    check_tracking(replace(config, tracking=Tracking(TrackingMode.disabled)))


@pytest.mark.full
def test_without_a_login_an_online_run_does_not_start(monkeypatch, tmp_path):
    for name in ("HOME", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    code = (
        "from experiments.attributes import compose_run_config as compose\n"
        "from experiments.tracking.wandb_run import check_tracking\n"
        "check_tracking(compose(['tracking=online']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert "ValueError: tracking.mode=online: wandb refuses:" in done.stderr


def test_flatten_names_the_parts():
    nested = {"fvd": 1.0, "fvd_ci": [0.5, 2.0], "fvd_fp_ci": None, "seconds": {"sampling": 3.0}, "protocol": "tiny"}
    expected = {"fvd": 1.0, "fvd_ci/low": 0.5, "fvd_ci/high": 2.0, "seconds/sampling": 3.0, "protocol": "tiny"}
    assert flatten(nested) == expected


def test_provenance_is_json_and_needs_no_heavy_import():
    code = (
        "import sys, json; from experiments.provenance import provenance; json.dumps(provenance());"
        "print([m for m in ('torch', 'wandb', 'matplotlib', 'diffusers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert {"git_commit", "git_dirty", "torch", "diffusers", "numpy", "python", "platform", "date"} <= set(provenance())
