"""The command line: numbers as JSON, one line per error, nothing silently dropped."""

import json
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from metrics.cli import main
from metrics.clipsim import ClipScorer, clip_scores
from metrics.decoding import Source, read_clip
from metrics.options import ClipRule


class Detector(nn.Module):
    """The call signature of StyleGAN-V's I3D around a projection."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.projection = nn.Linear(3 * 4 * 4, 400)

    def forward(self, x, rescale: bool, resize: bool, return_features: bool):
        return self.projection(nn.functional.adaptive_avg_pool3d(x.float() / 255, (1, 4, 4)).flatten(1))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "detector.pt"
    torch.jit.script(Detector()).save(path)
    return str(path)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two folders of nine noise videos; those of the second are darker."""
    root = tmp_path_factory.mktemp("videos")
    rng = np.random.default_rng(0)
    for folder, top in (("real", 255), ("generated", 128)):
        (root / folder).mkdir()
        for i in range(9):
            writer = cv2.VideoWriter(str(root / folder / f"{i}.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (32, 32))
            colours = rng.integers(0, top, (2, 2, 3)).astype(np.uint8).repeat(16, 0).repeat(16, 1)
            for _ in range(18):
                writer.write(colours)
            writer.release()
    return root / "real", root / "generated"


def run(capsys, *arguments):
    code = 0
    try:
        main([*map(str, arguments), "--workers", "0"])
    except SystemExit as end:
        code = end.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_fvd(folders, weights, capsys):
    code, out, err = run(capsys, "fvd", *folders, "--videos", 9, "--weights", weights, "--json")
    result = json.loads(out)
    assert (code, err) == (0, "")
    assert result["fvd"] > 0 and result["fvd_ci"][0] < result["fvd"] < result["fvd_ci"][1]
    assert (result["n_videos"], result["n_reference"], result["skipped"]) == (9, 9, 0)
    assert result["extractor"] == "i3d-kinetics400-styleganv" and len(result["extractor_sha256"]) == 64
    assert result["protocol"]["name"] == "styleganv_fvd2048" and result["protocol"]["n_videos"] == 9
    assert result["real"] == {"first": "0.avi", "last": "8.avi", "left_out": {}}


def test_a_folder_against_itself(folders, weights, capsys):
    """Where the protocol takes the same frames of both sides all is 0; where it does not, that is said."""
    command = ("fvd", folders[1], folders[1], "--videos", 9, "--weights", weights)
    _, out, _ = run(capsys, *command, "--protocol", "viditq_101")
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert [lines[key] for key in ("fvd", "fvd_inf", "fvd_ci", "kvd")] == ["0.0", "0.0", "[0.0, 0.0]", "0.0"]
    assert lines["warning"] == "both sides are the same 9 videos"


def test_the_same_files_at_other_frames_are_said(tmp_path, weights, capsys):
    for i in range(9):
        writer = cv2.VideoWriter(str(tmp_path / f"{i}.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (32, 32))
        for t in range(30):
            writer.write(np.full((32, 32, 3), 8 * t + i, np.uint8))
        writer.release()
    code, out, err = run(capsys, "fvd", tmp_path, tmp_path, "--videos", 9, "--weights", weights, "--json")
    assert code == 0, err
    assert json.loads(out)["fvd"] > 0
    assert json.loads(out)["warning"].endswith("the same files, but the protocol takes other frames of the reference")


def test_cached_features_give_the_same_value(folders, weights, tmp_path, capsys):
    command = ("fvd", *folders, "--videos", 9, "--weights", weights, "--cache", tmp_path, "--json")
    first, second = (json.loads(run(capsys, *command)[1]) for _ in range(2))
    assert first == second and len(list(tmp_path.glob("*.safetensors"))) == 2
    counted = [json.loads(line)["frames"] for line in (tmp_path / "frame_counts.jsonl").read_text().splitlines()]
    assert counted == [18] * 9  # once each, for the random starts of the reference


def test_too_few_videos(folders, weights, capsys):
    code, out, err = run(capsys, "fvd", *folders, "--weights", weights)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: styleganv_fvd2048 needs 2048 videos, {folders[0]} has 9; --videos 9")


def test_bad_videos_are_named_or_counted(folders, weights, tmp_path, capsys):
    generated = shutil.copytree(folders[1], tmp_path / "generated")
    (generated / "4.avi").write_bytes(b"")
    command = ("fvd", folders[0], generated, "--weights", weights, "--videos", 9)
    assert run(capsys, *command) == (2, "", f"error: {generated}/4.avi: empty file\n")
    code, out, _ = run(capsys, *command, "--json", "--skip-bad")
    result = json.loads(out)
    assert code == 0 and (result["n_videos"], result["n_reference"]) == (8, 9)
    assert (result["skipped"], result["skipped_files"]) == (1, [f"{generated}/4.avi: empty file"])


def test_native_i3d_needs_weights(folders, capsys):
    code, _, err = run(capsys, "fvd", *folders, "--videos", 9, "--extractor", "i3d")
    assert code == 2 and "extractor i3d needs its weights" in err


def test_clipsim(folders, clip_folder, tmp_path, capsys):
    prompts = tmp_path / "prompts.json"
    long = " ".join("ab" * 100)
    prompts.write_text(json.dumps({f"{i}.avi": "a b" if i else long for i in range(9)}))
    code, out, err = run(capsys, "clipsim", folders[1], "--prompts", prompts, "--clip", clip_folder, "--json")
    result = json.loads(out)
    assert code == 0, err
    assert -1 < result["clipsim"] < 1 and result["clip_temp"] == pytest.approx(1, abs=1e-3)
    assert result["n_videos"] == 9 and result["clip"] == str(clip_folder) and not result["evalcrafter_compat"]
    assert result["prompts_cut"] == [long] and result["max_tokens"] < 100


def test_any_metric_of_videos(folders, clip_folder, tmp_path, capsys):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a b\n" * 9)
    command = ("clipsim", folders[1], "--prompts", prompts, "--clip", clip_folder, "--json", "--metrics")
    code, out, err = run(capsys, *command, "flicker")
    result = json.loads(out)
    assert code == 0 and result["flicker"] < 3 and len(result["flicker_ci"]) == 2 and "clipsim" not in result, err
    assert run(capsys, *command, "psnr_fp") == (
        2,
        "",
        "error: metric psnr_fp: needs more than videos and their prompts\n",
    )
    assert run(capsys, *command, "fid")[2].startswith("error: metric fid: allowed are fvd, ")


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    """Twelve videos of their own colours, 0.avi to 11.avi, and the names that a session of macOS leaves."""
    folder = tmp_path_factory.mktemp("numbered")
    for i, colour in enumerate(np.random.default_rng(1).integers(0, 255, (12, 3))):
        writer = cv2.VideoWriter(str(folder / f"{i}.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (32, 32))
        for _ in range(2):
            writer.write(np.full((32, 32, 3), colour, np.uint8))
        writer.release()
    for name in (".DS_Store", "._0.avi", "prompts.md"):
        (folder / name).write_text("not a video")
    return folder


@pytest.mark.parametrize("form", ["txt", "json"])
def test_the_prompt_on_line_i_is_that_of_video_i(numbered, clip_folder, tmp_path, capsys, form):
    """Also of 10.avi, which in the order of letters would come third."""
    prompts = {f"{i}.avi": " ".join("abcdefghijkl"[: i + 1]) for i in range(12)}
    file = tmp_path / f"prompts.{form}"
    file.write_text("\n".join(prompts.values()) if form == "txt" else json.dumps(dict(reversed(prompts.items()))))
    command = ("clipsim", numbered, "--prompts", file, "--clip", clip_folder, "--frames", 2, "--json")
    code, out, err = run(capsys, *command)
    assert code == 0, err
    result = json.loads(out)
    frames = [read_clip(Source(numbered / name), ClipRule(2)) for name in prompts]
    scores = clip_scores(
        ClipScorer.from_pretrained(clip_folder), torch.from_numpy(np.stack(frames)), [*prompts.values()]
    )
    assert result["clipsim"] == pytest.approx(scores.mean().item(), abs=1e-6)
    assert result["generated"] == {
        "first": "0.avi",
        "last": "11.avi",
        "first_prompt": "a",
        "last_prompt": "a b c d e f g h i j k l",
        "left_out": {"hidden": 2, "no video by its name": 1},
    }
    assert result["unused_prompts"] == 0


def test_sides_of_different_size(folders, weights, capsys):
    command = ("fvd", *folders, "--weights", weights, "--protocol", "viditq_101", "--json")
    code, out, err = run(capsys, *command, "--videos", 8, "--reference-videos", 9)
    assert code == 0, err
    result = json.loads(out)
    assert (result["n_videos"], result["n_reference"]) == (8, 9)
    assert (result["generated"]["last"], result["real"]["last"]) == ("7.avi", "8.avi")
    _, _, err = run(capsys, *command, "--videos", 8, "--reference-videos", 10)
    assert err.startswith(f"error: viditq_101 needs 10 videos, {folders[0]} has 9; --reference-videos 9 compares")


@pytest.mark.full
def test_fvd_of_each_class(folders, weights, tmp_path, capsys):
    for side, folder in zip(("real", "generated"), folders, strict=True):
        for name in ("YoYo", "Archery"):
            shutil.copytree(folder, tmp_path / side / name)
    command = ("fvd", tmp_path / "real", tmp_path / "generated", "--per-class", "--videos", 8, "--weights", weights)
    code, out, err = run(capsys, *command, "--json")
    assert code == 0, err
    result = json.loads(out)
    _, out, _ = run(capsys, "fvd", *folders, "--videos", 8, "--weights", weights, "--json")
    alone = json.loads(out)
    assert list(result["classes"]) == ["Archery", "YoYo"]
    for report in result["classes"].values():
        assert report["fvd"] == pytest.approx(alone["fvd"]) and report["n_videos"] == report["n_reference"] == 8
    assert result["fvd_mean"] == pytest.approx(alone["fvd"])
    assert "classes.YoYo.fvd " in run(capsys, *command)[1]
    (tmp_path / "generated" / "YoYo").rename(tmp_path / "generated" / "Yo")
    assert run(capsys, *command)[2] == "error: --per-class: 2 classes are in one folder alone, the first Yo\n"
    shutil.copy(folders[0] / "0.avi", tmp_path / "real")
    assert "real/0.avi lies in no class's folder" in run(capsys, *command)[2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--batch-size", "0"], "argument --batch-size: 0: must be an integer of at least 1"),
        (["--workers", "-1"], "argument --workers: -1: must be an integer of at least 0"),
        (["--videos", "0"], "argument --videos: 0: must be an integer of at least 1"),
        (["--device", "cuda:99"], "error: device=cuda:99: cannot be used ("),
        (["--device", "gpu"], "error: device=gpu: cannot be used (Expected one of cpu,"),
        (["--weights", "{tmp}/garbage.pt"], "error: {tmp}/garbage.pt: not a TorchScript network"),
        (["--extractor", "i3d", "--weights", "{tmp}/garbage.pt"], "error: {tmp}/garbage.pt: not a file of weights"),
        (["--extractor", "i3d", "--weights", "{tmp}/list.pt"], "error: {tmp}/list.pt: holds a list, not weights"),
        (["--extractor", "i3d", "--weights", "{tmp}/other.pt"], "not the weights of InceptionI3D: "),
        (["--extractor", "videomae", "--weights", "{tmp}/garbage.pt"], "garbage.pt: not a file of weights"),
        (["--weights", "{tmp}/nowhere.pt"], "nowhere.pt"),
        (["--extractor", "i3d", "--weights", "{tmp}"], "error: {tmp}: is a directory"),
        (
            ["--protocol", "tiny", "--weights", "{tmp}/garbage.pt"],
            "garbage.pt: extractor shapes_classifier is embedded",
        ),
        (["--protocol", "{tmp}/empty.yaml"], "error: {tmp}/empty.yaml: must hold the options of a protocol"),
        (["--protocol", "{tmp}/broken.yaml"], "error: {tmp}/broken.yaml: not yaml: "),
        (["--protocol", "{tmp}"], "error: protocol {tmp}: "),
        (["--cache", "{tmp}/garbage.pt"], "error: {tmp}/garbage.pt: file exists"),
    ],
)
def test_bad_input_to_fvd_is_one_line(folders, weights, tmp_path, capsys, words, message):
    (tmp_path / "garbage.pt").write_text("no weights at all")
    torch.save([1], tmp_path / "list.pt")
    torch.save({"logits.bias": torch.zeros(3)}, tmp_path / "other.pt")
    (tmp_path / "empty.yaml").touch()
    (tmp_path / "broken.yaml").write_text("name: [")
    words = [word.format(tmp=tmp_path) for word in words]
    given = ["--weights", weights] if "--weights" not in words else []
    code, out, err = run(capsys, "fvd", *folders, "--videos", 9, *given, *words)
    assert (code, out) == (2, "")
    assert message.format(tmp=tmp_path) in err.splitlines()[-1] and "Traceback" not in err
    assert err.startswith("usage:") or len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "error: CLIP openai/clip-vit-base-patch32: "),  # the default, offline
        (["--clip", "{tmp}/clip"], "error: CLIP {tmp}/clip: "),
        (["--clip", "{tmp}/damaged"], "error: CLIP {tmp}/damaged: "),
        (["--prompts", "{tmp}"], "error: {tmp}: a folder, not a file"),
        (["--prompts", "{tmp}/nowhere.txt"], "error: {tmp}/nowhere.txt: no such file"),
        (["--frames", "0"], "argument --frames: 0: must be an integer of at least 1"),
    ],
)
def test_bad_input_to_clipsim_is_one_line(folders, clip_folder, tmp_path, capsys, monkeypatch, words, message):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (tmp_path / "clip").mkdir()
    shutil.copytree(clip_folder, tmp_path / "damaged")
    (tmp_path / "damaged" / "model.safetensors").write_bytes(b"no weights at all")
    (tmp_path / "prompts.txt").write_text("a\n" * 9)
    words = [word.format(tmp=tmp_path) for word in words]
    given = ["--prompts", tmp_path / "prompts.txt"] if "--prompts" not in words else []
    code, out, err = run(capsys, "clipsim", folders[1], *given, *words)
    assert (code, out) == (2, "")
    assert message.format(tmp=tmp_path) in err.splitlines()[-1] and "Traceback" not in err
    assert err.startswith("usage:") or len(err.splitlines()) == 1


def test_a_protocol_of_ones_own(folders, weights, tmp_path, capsys):
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "name: mine\nn_videos: 9\nmin_videos: 8\nnum_frames: 12\nresolution: 16\nchoice: random\nresize: bilinear\n"
        f"extractor_weights: {weights}\n"
    )
    code, out, err = run(capsys, "fvd", *folders, "--protocol", mine, "--json")
    assert code == 0, err
    protocol = json.loads(out)["protocol"]
    assert (protocol["name"], protocol["num_frames"], protocol["resize"]) == ("mine", 12, "bilinear")


def test_an_unknown_protocol_is_one_line(folders, capsys):
    code, _, err = run(capsys, "fvd", *folders, "--protocol", "latte_relase")
    assert code == 2 and err.startswith("error: protocol latte_relase: allowed are latte_release,")
    assert "did you mean latte_release?" in err and len(err.splitlines()) == 1


def test_help_is_quick_and_a_wrong_command_fails():
    """As a module, in its own process; nothing heavy is imported for the help."""
    code = "import sys; sys.argv = ['metrics', '--help']; import runpy\n"
    code += "try: runpy.run_module('metrics.cli', run_name='__main__')\n"
    code += "except SystemExit: print('torch' in sys.modules)"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "{fvd,clipsim}" in process.stdout and process.stdout.strip().endswith("False")
