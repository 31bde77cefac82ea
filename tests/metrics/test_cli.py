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

from metrics.cli import main, read_prompts


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
    code = main([*map(str, arguments), "--workers", "0"])
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
    _, out, _ = run(
        capsys, "fvd", folders[1], folders[1], "--videos", 9, "--weights", weights, "--protocol", "viditq_101"
    )
    assert float(dict(line.split(maxsplit=1) for line in out.splitlines())["fvd"]) == pytest.approx(0, abs=1e-6)


def test_cached_features_give_the_same_value(folders, weights, tmp_path, capsys):
    command = ("fvd", *folders, "--videos", 9, "--weights", weights, "--cache", tmp_path, "--json")
    first, second = (json.loads(run(capsys, *command)[1]) for _ in range(2))
    assert first == second and len(list(tmp_path.iterdir())) == 2


def test_too_few_videos(folders, weights, capsys):
    code, out, err = run(capsys, "fvd", *folders, "--weights", weights)
    assert (code, out) == (1, "")
    assert err.startswith("error: styleganv_fvd2048 needs 2048 videos, the reference folder has 9; --videos 9")


def test_bad_videos_are_named_or_counted(folders, weights, tmp_path, capsys):
    generated = shutil.copytree(folders[1], tmp_path / "generated")
    (generated / "4.avi").write_bytes(b"")
    command = ("fvd", folders[0], generated, "--weights", weights, "--videos", 9)
    assert run(capsys, *command) == (1, "", f"error: {generated}/4.avi: empty file\n")
    code, out, _ = run(capsys, *command, "--json", "--skip-bad")
    result = json.loads(out)
    assert code == 0 and (result["n_videos"], result["n_reference"]) == (8, 9)
    assert (result["skipped"], result["skipped_files"]) == (1, [f"{generated}/4.avi: empty file"])


def test_native_i3d_needs_weights(folders, capsys):
    code, _, err = run(capsys, "fvd", *folders, "--videos", 9, "--extractor", "i3d")
    assert code == 1 and "extractor i3d needs its weights" in err


def test_clipsim(folders, clip_folder, tmp_path, capsys):
    prompts = tmp_path / "prompts.json"
    prompts.write_text(json.dumps({f"{i}.avi": "a b" for i in range(9)}))
    code, out, err = run(capsys, "clipsim", folders[1], "--prompts", prompts, "--clip", clip_folder, "--json")
    result = json.loads(out)
    assert code == 0, err
    assert -1 < result["clipsim"] < 1 and result["clip_temp"] == pytest.approx(1, abs=1e-3)
    assert result["n_videos"] == 9 and result["clip"] == str(clip_folder) and not result["evalcrafter_compat"]


def test_any_metric_of_videos(folders, clip_folder, tmp_path, capsys):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a b\n" * 9)
    command = ("clipsim", folders[1], "--prompts", prompts, "--clip", clip_folder, "--json", "--metrics")
    code, out, err = run(capsys, *command, "flicker")
    result = json.loads(out)
    assert code == 0 and result["flicker"] < 3 and len(result["flicker_ci"]) == 2 and "clipsim" not in result, err
    assert run(capsys, *command, "psnr_fp") == (
        1,
        "",
        "error: metric psnr_fp: needs more than videos and their prompts\n",
    )
    assert run(capsys, *command, "fid")[2].startswith("error: metric fid: allowed are fvd, ")


def test_prompt_files(tmp_path):
    paths = [tmp_path / "a.mp4", tmp_path / "b.mp4"]
    lines = tmp_path / "prompts.txt"
    lines.write_text("one\ntwo\n")
    assert read_prompts(lines, paths) == dict(zip(paths, ("one", "two"), strict=True))
    with pytest.raises(ValueError, match="2 prompts for 1 videos"):
        read_prompts(lines, paths[:1])
    (tmp_path / "prompts.json").write_text('{"a.mp4": "one"}')
    with pytest.raises(ValueError, match=r"no prompt for 1 videos, the first b.mp4"):
        read_prompts(tmp_path / "prompts.json", paths)


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
    assert code == 1 and err.startswith("error: protocol latte_relase: allowed are latte_release,")
    assert "did you mean latte_release?" in err and len(err.splitlines()) == 1


def test_help_is_quick_and_a_wrong_command_fails():
    """As a module, in its own process; nothing heavy is imported for the help."""
    code = "import sys; sys.argv = ['metrics', '--help']; import runpy\n"
    code += "try: runpy.run_module('metrics.cli', run_name='__main__')\n"
    code += "except SystemExit: print('torch' in sys.modules)"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "{fvd,clipsim}" in process.stdout and process.stdout.strip().endswith("False")
