"""Own prompts in, every video out: no reference clips, so no FVD to real videos, and everything else."""

import json

import pytest
import torch

from experiments.attributes import compose_run_config
from experiments.experiment import run_experiment
from experiments.stages.evaluation import why_missing
from metrics.inputs import FeatureSets

LONG = f"a cat {'and another cat ' * 6}that sleeps"
PROMPTS = ["a red circle growing on a plain background", "a blue cross moving left", LONG, "a/dog"]
ARM = "{quantizer: naive, bits: w8a8, options: {calibration: {num_samples: 1, num_steps: 1}}}"


@pytest.mark.full
def test_own_prompts_in_every_video_out(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("\n".join(PROMPTS))
    words = ["dataset=prompts", f"dataset.file={tmp_path}/mine.txt", "dataset.videos_per_prompt=2", "export.videos=all"]
    words += ["workers=1", "num_inference_steps=2", "model.batch_size=5", f"store={tmp_path}/store"]
    words += [f"experiment.arms=[{ARM}]", "tracking=disabled", "model.scheduler=euler_a", "model.negative_prompt=ring"]
    run = tmp_path / "run"
    run_experiment(compose_run_config(words), run, "", words)

    log = capsys.readouterr().err
    told = "1 of 5 prompts are longer than the 16 tokens that the model's text encoder reads, and cut there: 'a cat and"
    assert log.count(f"warning: {told}") == 1, "once, whatever the number of arms; the fifth is the negative one"
    assert (run / "table.md").read_text().count(told) == 1

    arms = json.loads((run / "metrics.json").read_text())["arms"]
    for arm in arms.values():
        assert arm["n_videos"] == 8 and arm["n_reference"] == 0 and arm["reference_skipped"] == []
        assert [cut["prompts"] for cut in arm["prompts_cut"]] == [[LONG], [LONG]]
        assert arm["reference"] == "none (prompts of mine.txt, 4)"
        assert arm["fvd"] is arm["fvd_inf"] is arm["kvd"] is None
        assert set(arm["missing"].values()) == {"there are no reference clips"}
        assert -1 < arm["clipsim"] < 1 and arm["flicker"] > 0
    naive = arms["naive w8a8"]
    assert naive["fvd_fp"] > 0 and naive["psnr_fp"] > 10 and naive["fvd_fp_ci"]
    table = (run / "table.md").read_text()
    assert "n/a: FVD, FVD∞, KVD: there are no reference clips." in table
    assert "there are no reference clips" in (run / "report.html").read_text()

    for arm in arms:
        manifest = json.loads((run / "videos" / f"{arm}.json").read_text())
        assert len(manifest) == len(list((run / "videos" / arm).glob("*.mp4"))) == 8
        assert [row["prompt"] for row in manifest.values()] == PROMPTS * 2
        assert [row["index"] for row in manifest.values()] == [0] * 4 + [1] * 4
        assert (run / "videos" / arm / f"{PROMPTS[0]}-1.mp4").is_file()


def test_of_few_videos_no_distance_of_sets_is_computed():
    features = torch.randn(7, 4)
    reasons = why_missing(FeatureSets(features=features, fp_features=features, reference=features))
    assert reasons["fvd_fp"] == "fewer than 8 videos" and "psnr_fp" not in reasons
