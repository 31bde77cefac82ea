"""Every arm as a wandb run, written below the run folder, beside where the code and its libraries came from."""

from __future__ import annotations

import html
import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import wandb
from PIL import Image

from experiments.config.run_config import Arm, RunConfig
from experiments.options import Tracking, TrackingMode
from experiments.provenance import provenance
from experiments.record import measured_record
from experiments.report.figures import histogram_ranges
from experiments.report.media import write_gif
from experiments.report.tabular import Table
from experiments.result import ArmResult
from metrics.declaration import INTERVAL_SUFFIX, Place

_SAMPLE_VIDEOS = 4
_HISTOGRAM_BINS = 256  # wandb takes at most 512


def check_tracking(config: RunConfig) -> None:
    """Have wandb judge what it will be told of every arm, its own environment variables included, before any is
    computed; online it also has to know who is asking.

    Raises:
        ValueError: what it refuses, in one line.
    """
    tracking = config.tracking
    if tracking.mode is TrackingMode.disabled:
        return
    try:
        for arm in config.all_arms:
            labels = _settings(tracking, arm, group=config.experiment, model=config.model_name)
            labels.update_from_env_vars(dict(os.environ))
        if tracking.mode is TrackingMode.online:
            wandb.login()
    except (wandb.Error, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"tracking.mode={tracking.mode.value}: wandb refuses: {reason}") from error


def _settings(tracking: Tracking, arm: Arm | ArmResult, group: str, model: str) -> wandb.Settings:
    """What the run of an arm is called and where it goes."""
    return wandb.Settings(
        mode=tracking.mode.value,
        project=tracking.project,
        entity=tracking.entity,
        run_group=group,
        run_name=arm.name,
        run_job_type=arm.quantizer,
        run_tags=tuple(dict.fromkeys([group, model, arm.quantizer, str(arm.bits)])),
        silent=True,
        console="off",
        x_disable_stats=True,
    )


@dataclass(frozen=True)
class ArmTracker:
    """Records arms, each as a wandb run; what all of a run's arms share.

    Attributes:
        run_dir: the run folder; in offline mode wandb writes nothing outside it.
        group: the experiment, which groups its arms.
        config: the resolved config.
        table: of all arms.
    """

    tracking: Tracking
    run_dir: Path
    group: str
    config: Mapping[str, Any]
    table: Table

    def track(self, arm: ArmResult, fp_arm: ArmResult, figures: Mapping[str, bytes]) -> Path | None:
        """Record config, provenance, metrics, table, the arm's videos below FP's, range histograms, figures.

        Args:
            fp_arm: the floating-point arm of the same seeds and prompts.

        Returns:
            The folder of the wandb run; None if tracking is disabled.
        """
        if self.tracking.mode is TrackingMode.disabled:
            return None
        with _written_below(self.run_dir, self.tracking.mode):
            run = self._start(arm)
            exit_code = 1
            try:
                metrics = flatten(measured_record(arm))
                media = _media(self.run_dir, arm, fp_arm)
                run.log({**metrics, **media, **_histograms(arm), **_table_and_figures(self.table, figures)})
                run.summary.update(metrics)
                exit_code = 0
            finally:
                run.finish(exit_code=exit_code)
        return Path(run.dir).parent

    def _start(self, arm: ArmResult) -> wandb.Run:
        return wandb.init(
            dir=self.run_dir,
            config={**self.config, "arm": {"quantizer": arm.quantizer, "bits": arm.bits, "command": arm.command}}
            | {"provenance": provenance()},
            settings=_settings(self.tracking, arm, self.group, arm.conditions.model),
        )


def flatten(metrics: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as "seconds/sampling", intervals as "fvd_ci/low" and "fvd_ci/high"; None is left out."""
    flat: dict[str, Any] = {}
    for key, value in metrics.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            flat |= flatten(value, f"{name}/")
        elif isinstance(value, list | tuple) and key.endswith(INTERVAL_SUFFIX):
            flat |= {f"{name}/low": value[0], f"{name}/high": value[1]}
        elif value is not None:
            flat[name] = value
    return flat


@contextmanager
def _written_below(run_dir: Path, mode: TrackingMode) -> Iterator[None]:
    """Point wandb's folders below `run_dir` for as long as the context lasts; online, settings stay the user's own."""
    folders = {"WANDB_DIR": "", "WANDB_DATA_DIR": "wandb/data", "WANDB_CACHE_DIR": "wandb/cache"}
    if mode is TrackingMode.offline:
        folders["WANDB_CONFIG_DIR"] = "wandb/config"
    before = {name: os.environ.get(name) for name in (*folders, "WANDB_SILENT")}
    for name, folder in folders.items():
        (run_dir / folder).mkdir(parents=True, exist_ok=True)
        os.environ[name] = str(run_dir / folder)
    os.environ["WANDB_SILENT"] = "true"
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


def _media(run_dir: Path, arm: ArmResult, fp_arm: ArmResult) -> dict[str, wandb.Video]:
    path = run_dir / "wandb" / f"{arm.name.replace(' ', '_')}.gif"
    compared = [arm] if arm.quantizer == "fp" else [fp_arm, arm]
    write_gif(compared, path, count=_SAMPLE_VIDEOS)
    return {"samples": wandb.Video(str(path), caption="; ".join(arm.prompts[:_SAMPLE_VIDEOS]), format="gif")}


def _histograms(arm: ArmResult) -> dict[str, wandb.Histogram]:
    binned = {site: histogram_ranges(histogram, _HISTOGRAM_BINS) for site, histogram in arm.histograms.items()}
    return {f"ranges/{site}": wandb.Histogram(np_histogram=pair) for site, pair in binned.items()}


def _table_and_figures(table: Table, figures: Mapping[str, bytes]) -> dict[str, Any]:
    columns, rows = table.at(Place.DOCUMENT)
    data = [[cell.text(column) for cell, column in zip(row, columns, strict=True)] for row in rows]
    logged: dict[str, Any] = {
        "table": wandb.Table(columns=[column.header for column in columns], data=data),
        "protocol": wandb.Html(f"<pre>{html.escape(table.caption)}</pre>", inject=False),
    }
    return logged | {f"figures/{name}": wandb.Image(Image.open(io.BytesIO(png))) for name, png in figures.items()}
