"""How many videos decide, asked of a finished run: by its stored scores, for arms that are pairs."""

import json
from dataclasses import replace

import pytest

from experiments.power import main, read_scored
from experiments.record import metrics_document
from experiments.scores import Scores, write_scores
from metrics.comparisons import compare_scores
from metrics.power import videos_needed
from tests.experiments.arms import changed, scored

N = 60


@pytest.fixture(scope="module")
def rivals(arms):
    names = (("near", 0.1), ("far", 0.4), ("worse", 0.5))
    return [scored(arms[0], "fp", "fp", N), *(scored(arms[1], name, "w8a8", N, moved) for name, moved in names)]


def finish(folder, arms):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(metrics_document(arms)))
    write_scores(folder / "scores.csv", {arm.name: ([""] * N, arm.scores) for arm in arms})


def refused(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        main([*map(str, words)])
    out, err = capsys.readouterr()
    assert ended.value.code == 2 and not out and err.count("\n") == 1
    return err


def test_a_run_says_how_many_videos_an_effect_needs(rivals, tmp_path, capsys):
    finish(tmp_path, rivals)
    main([str(tmp_path), "near w8a8", "far w8a8", "--metric", "displacement_fp", "--effect", "0.05"])
    pilot, alone, one_of_three = capsys.readouterr().out.splitlines()
    near, far = (arm.scores.per_video["displacement_fp"].double() for arm in rivals[1:3])
    found = compare_scores(near, far, higher_is_better=False)
    assert pilot.startswith(
        f"Moved, near w8a8 against far w8a8, positive where the first is better: {found.difference:.4g} ["
    )
    assert f"better on {found.wins} of N = 60 videos, worse on {found.losses}; sign test p = " in pilot
    assert alone.endswith(f"on {videos_needed(near - far, 0.05)} videos as the only comparison")
    assert one_of_three.endswith(f"on {videos_needed(near - far, 0.05, level=0.05 / 3)} videos as any of 3 comparisons")


def test_arms_of_a_sweep_bear_their_setting_and_are_pairs_within_it(rivals, tmp_path, capsys):
    for number, seed in enumerate((0, 7)):
        folder = tmp_path / f"{number}-x"
        finish(folder, [replace(changed(arm, seed=seed), scores=arm.scores) for arm in rivals])
        (folder / ".hydra").mkdir()
        (folder / ".hydra" / "overrides.yaml").write_text(json.dumps([f"seed={seed}"]))
    assert list(read_scored(tmp_path))[:2] == ["seed=0 fp", "seed=0 near w8a8"]
    command = (tmp_path, "seed=0 near w8a8", "seed=7 far w8a8", "--metric", "clipsim", "--effect", "0.01")
    assert "no paired comparison of arms that differ in seed (0 and 7)" in refused(capsys, *command)
    main([str(tmp_path), "seed=7 near w8a8", "seed=7 far w8a8", "--metric", "clipsim", "--effect", "0.01"])
    assert "videos as any of 6 comparisons" in capsys.readouterr().out


def test_bad_words_are_refused_in_one_line(rivals, tmp_path, capsys):
    finish(tmp_path, rivals)
    effect = ("--effect", "0.1")
    told = refused(capsys, tmp_path, "nearer w8a8", "far w8a8", *effect)
    assert told.startswith("error: arm nearer w8a8: allowed are fp, near w8a8") and "did you mean near w8a8?" in told
    told = refused(capsys, tmp_path, "near w8a8", "far w8a8", "--metric", "psnr", *effect)
    assert "metric psnr: allowed are" in told and "did you mean psnr_fp?" in told
    told = refused(capsys, tmp_path, "near w8a8", "far w8a8", "--metric", "psnr_fp", *effect)
    assert told == "error: near w8a8: has no scores of psnr_fp for each video\n"
    told = refused(capsys, tmp_path, "near w8a8", "far w8a8", "--metric", "clipsim", "--effect", "0")
    assert told == "error: effect=0.0: must be positive\n"
    assert "holds no finished run with its scores.csv" in refused(capsys, tmp_path / "none", "a", "b", *effect)
    few = [
        replace(changed(arm, n_videos=5), scores=Scores({k: v[:5] for k, v in arm.scores.per_video.items()}))
        for arm in rivals
    ]
    (tmp_path / "metrics.json").write_text(json.dumps(metrics_document(few)))
    write_scores(tmp_path / "scores.csv", {arm.name: ([""] * 5, arm.scores) for arm in few})
    told = refused(capsys, tmp_path, "near w8a8", "far w8a8", "--metric", "clipsim", *effect)
    assert told == "error: N=5: a paired test at 0.05 needs at least 6 videos\n"
