"""Which arms a run can tell apart: within one setting, by per-video scores of the same seeds and prompts."""

import csv
import io
import json
from dataclasses import replace

import pytest
import torch

from experiments.comparison import check_comparable, compare_arms, comparisons_document, group_of
from experiments.report.comparison_figure import comparison_figures
from experiments.report.comparison_tables import comparisons_csv, comparisons_markdown, write_comparisons
from experiments.report.figures import to_png
from experiments.report.html import write_report
from experiments.report.table import build_table
from experiments.report.tabular import to_csv, to_markdown
from experiments.scores import Scores, read_scores, write_scores
from metrics.comparisons import compare_all, compare_distances
from metrics.intervals import paired_bootstrap_distances
from tests.experiments.arms import changed, scored

N = 40


@pytest.fixture(scope="module")
def rivals(arms):
    """FP, three arms at W8A8 of which `near` and `too` do not differ, and one at W4A8."""
    levels = {("near", "w8a8"): 0.1, ("too", "w8a8"): 0.1, ("far", "w8a8"): 0.4, ("near", "w4a8"): 0.8}
    return [scored(arms[0], "fp", "fp", N), *(scored(arms[1], *name, N, moved) for name, moved in levels.items())]


@pytest.fixture(scope="module")
def setting(rivals):
    (setting,) = compare_arms(rivals)
    return setting


def test_pairs_are_of_all_arms_that_have_the_scores(setting, rivals):
    names = [arm.name for arm in rivals]
    assert set(setting.tested) == {"displacement_fp", "clipsim"}
    assert {a for a, _ in setting.tested["displacement_fp"]} == set(names[1:]), "FP has not moved from itself"
    assert {a for a, _ in setting.tested["clipsim"]} == set(names)
    scores = {arm.name: arm.scores.per_video["displacement_fp"] for arm in rivals[1:]}
    assert setting.tested["displacement_fp"] == compare_all(scores, higher_is_better=False)
    assert setting.untested == []


def test_arms_that_cannot_be_told_apart_share_a_rank_among_their_bits(setting, rivals):
    assert [setting.group(arm) for arm in rivals] == [None, 1, 1, 3, None]
    rows = list(csv.DictReader(io.StringIO(to_csv(build_table(rivals, settings=[setting])))))
    assert [row["rank"] for row in rows] == ["", "1", "1", "3", ""]
    table = build_table(rivals, settings=[setting])
    assert (
        "better by Moved on the same seeds and prompts (sign and signed-rank test, Holm-corrected, 5%)" in table.caption
    )
    assert "rank" not in csv.DictReader(io.StringIO(to_csv(build_table(rivals)))).fieldnames


@pytest.mark.parametrize(
    ("difference", "told"),
    [
        ({"seed": 7}, r"seed \(0 and 7\)"),
        ({"prompts_digest": "other"}, "prompts$"),
        ({"n_videos": 64}, rf"N \({N} and 64\)"),
        ({"protocol": "viditq_101"}, r"protocol \(tiny and viditq_101\)"),
        ({"model_digest": "other"}, "weights$"),
        ({"extractor": {"name": "i3d", "sha256": "0"}}, "FVD extractor$"),
    ],
)
def test_arms_of_other_conditions_are_not_compared_and_named_where_asked_for(rivals, difference, told):
    other = replace(changed(rivals[2], **difference), scores=rivals[2].scores)
    settings = compare_arms([*rivals[:2], other])
    assert len(settings) == 2 and not settings[1].tested
    assert [group_of(settings, arm) for arm in (*rivals[:2], other)] == [None] * 3
    with pytest.raises(ValueError, match=f"near w8a8 against too w8a8: no paired comparison .* differ in {told}"):
        check_comparable(rivals[1], other)
    check_comparable(*rivals[1:3])


def test_runs_of_a_sweep_are_compared_each_within_itself(rivals):
    arms = [replace(arm, setting=setting) for setting in ("a", "b") for arm in rivals]
    settings = compare_arms(arms)
    assert [setting.name for setting in settings] == ["a", "b"]
    assert [group_of(settings, arm) for arm in arms] == [None, 1, 1, 3, None] * 2
    assert "(a, w8a8, N = 40)" in comparisons_markdown(settings)


def test_too_few_videos_are_said_and_not_tested(arms):
    few = [scored(arms[1], name, "w8a8", 5, 0.1) for name in ("near", "too")]
    (setting,) = compare_arms(few)
    assert not setting.tested and "N = 5: a paired test at 0.05 needs at least 6 videos." in comparisons_markdown(
        [setting]
    )
    assert "Not compared: N = 5: a paired test" in build_table(few, settings=[setting]).caption
    assert comparison_figures([setting]) == {}


def test_scores_that_are_not_finite_are_said_and_the_other_metrics_compared(rivals):
    scores = dict(rivals[1].scores.per_video)
    odd = replace(rivals[1], scores=Scores({**scores, "clipsim": scores["clipsim"] * torch.nan}))
    (setting,) = compare_arms([odd, *rivals[2:]])
    assert set(setting.tested) == {"displacement_fp"}
    assert "CLIPSIM: near w8a8 against too w8a8: scores that are not finite" in setting.untested[0]


def test_ratios_of_distances_are_those_of_the_features(arms):
    z = torch.randn(N, 5, generator=torch.Generator().manual_seed(9))
    sides = [z + s * torch.randn(N, 5, generator=torch.Generator().manual_seed(i)) for i, s in enumerate((0.2, 0.9))]
    pair = [scored(arms[1], name, "w8a8", N, 0.1) for name in ("a", "b")]
    whole = compare_distances(*sides, z)
    pair = [
        replace(
            changed(arm, n_videos=N, fvd_fp=value),
            scores=Scores(arm.scores.per_video, {"fvd_fp": paired_bootstrap_distances(side, z)}),
        )
        for arm, side, value in zip(pair, sides, (whole.ratio, 1.0), strict=True)
    ]
    (setting,) = compare_arms(pair)
    assert setting.ratios == {"fvd_fp": {("a w8a8", "b w8a8"): whole}} and whole.interval[1] < 1
    assert f"| a w8a8 | b w8a8 | {whole.ratio:.4f} [" in comparisons_markdown([setting])
    (row,) = [row for row in csv.DictReader(io.StringIO(comparisons_csv([setting]))) if row["metric"] == "fvd_fp"]
    assert float(row["ratio_high"]) == whole.interval[1] and float(row["p"]) == whole.p
    equal = replace(pair[1], scores=Scores(replicates={"fvd_fp": torch.zeros(500)}))
    (setting,) = compare_arms([pair[0], changed(equal, fvd_fp=0.0)])
    assert not setting.ratios and "no ratio where a distance is zero" in setting.untested[0]


def test_matrices_say_who_wins_on_how_many_videos(setting, rivals):
    lines = comparisons_markdown([setting]).splitlines()
    assert lines[2].startswith("- ▲ the row's arm is better than the column's, ▼ worse, · not decided at 5%")
    first = next(i for i, line in enumerate(lines) if line.startswith("## "))
    assert lines[first] == "## Moved ↓ (w8a8, N = 40)"
    near, too, far = (line.split(" | ") for line in lines[first + 4 : first + 7])
    pair = setting.tested["displacement_fp"]["near w8a8", "far w8a8"]
    assert near[3].removesuffix(" |") == f"▲ {pair.wins}:{pair.losses}" and near[2].startswith("· ")
    assert far[1] == f"▼ {pair.losses}:{pair.wins}" and pair.wins > 35


def test_csv_and_json_hold_each_pair_once_with_every_number(setting, rivals, tmp_path):
    write_comparisons(tmp_path, [setting])
    rows = list(csv.DictReader(io.StringIO((tmp_path / "comparisons.csv").read_text())))
    assert len(rows) == 6 + 10  # pairs of four arms that moved, and of five with a caption
    row = next(row for row in rows if (row["a"], row["b"]) == ("near w8a8", "far w8a8"))
    found = setting.tested["displacement_fp"]["near w8a8", "far w8a8"]
    assert [float(row[f"difference{end}"]) for end in ("", "_low", "_high")] == [found.difference, *found.interval]
    assert (float(row["p"]), int(row["wins"]), row["n_videos"]) == (found.p, found.wins, "40")
    (document,) = json.loads((tmp_path / "comparisons.json").read_text())
    assert document["arms"] == [arm.name for arm in rivals] and len(document["paired"]) == 16
    assert document == json.loads(json.dumps(comparisons_document([setting])))[0]
    assert document["paired"][1]["improvement_interval"] == list(found.improvement_interval)


def test_the_figure_has_a_panel_for_each_metric_and_bits(setting):
    figure = comparison_figures([setting])["comparisons"]
    titles = {ax.get_title(loc="left"): ax for ax in figure.axes if ax.axison}
    assert set(titles) == {"Moved, w8a8", "CLIPSIM, w8a8", "CLIPSIM, w4a8"}
    shares = {text.get_position(): text for text in titles["Moved, w8a8"].texts}
    found = setting.tested["displacement_fp"]["near w8a8", "far w8a8"]
    assert shares[2, 0].get_text() == f"{100 * found.improvement:.0f}" and shares[2, 0].get_fontweight() == "bold"
    assert shares[1, 0].get_fontweight() == "normal"
    assert to_png(figure).startswith(b"\x89PNG")


def test_the_report_shows_them(arms, setting, tmp_path, pngs):
    html = write_report(arms, tmp_path, "", {}, pngs, [setting]).read_text()
    assert "Paired comparisons" in html and "Moved ↓ (w8a8, N = 40)" in html
    assert "Paired comparisons" not in write_report(arms, tmp_path, "", {}, pngs).read_text()


def test_scores_survive_their_file(rivals, tmp_path):
    prompts = [f"a {i}, with a comma" for i in range(N)]
    write_scores(tmp_path / "scores.csv", {arm.name: (prompts, arm.scores) for arm in rivals})
    back = read_scores(tmp_path / "scores.csv")
    for arm in rivals:
        assert set(back[arm.name].per_video) == set(arm.scores.per_video)
        for key, scores in arm.scores.per_video.items():
            assert torch.equal(back[arm.name].per_video[key], scores.double())
    rows = list(csv.DictReader(io.StringIO((tmp_path / "scores.csv").read_text())))
    assert rows[0]["displacement_fp"] == "" and rows[N]["prompt"] == prompts[0] and len(rows) == 5 * N
    (tmp_path / "scores.csv").write_text("arm,video,prompt,psnr_fp\na,0,x,loud\n")
    with pytest.raises(ValueError, match=r"scores.csv: line 2 is none of a run's scores: .*loud"):
        read_scores(tmp_path / "scores.csv")


def test_tables_without_ranks_do_not_explain_them(rivals):
    assert "Rank" not in to_markdown(build_table(rivals))
    alone = rivals[:2]  # FP and one arm, compared by CLIPSIM
    (setting,) = compare_arms(alone)
    assert set(setting.tested) == {"clipsim"} and "Rank" not in to_markdown(build_table(alone, settings=[setting]))
