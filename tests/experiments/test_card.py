"""The card's command on a copy of a shipped folder, and how its section is replaced."""

import shutil

import pytest

from experiments.attributes import HELD_OUT_CLIPS, command_line_config
from experiments.training import card

ADDED = "\n## Remarks\n\nWritten by hand.\n"


def test_a_section_is_replaced_where_it_stands_and_nothing_else():
    first = card.with_section("# Title\n\nText.\n", "Samples", "## Samples\n\nold\n")
    assert first == "# Title\n\nText.\n\n## Samples\n\nold\n"
    again = card.with_section(first + ADDED, "Samples", "## Samples\n\n\\1 new\n\n")
    assert again == "# Title\n\nText.\n\n## Samples\n\n\\1 new\n" + ADDED


def test_as_many_samples_as_held_out_clips_unless_the_command_line_says_otherwise():
    assert command_line_config(["model=tiny_latte"]).n_videos == HELD_OUT_CLIPS
    assert command_line_config(["n_videos=70"]).n_videos == 70


@pytest.mark.full
def test_the_command_draws_samples_and_rewrites_its_section(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "weights"
    shutil.copytree(command_line_config(["model=tiny_latte_cc"]).model.folder(), folder)
    (folder / card.PICTURE).unlink(missing_ok=True)
    (folder / "README.md").write_text("# tiny\n")
    quick = ["n_videos=65", "num_inference_steps=1", f"store={tmp_path}/store"]
    monkeypatch.setattr("sys.argv", ["card", "model=tiny_latte_cc", f"model.path={folder}", *quick])
    card.main()
    written = (folder / "README.md").read_text()
    assert capsys.readouterr().out.strip() == str(folder / "README.md")
    assert written.startswith("# tiny\n\n## Samples\n\n| clips | shape | colour | motion |")
    for part in ("| FP samples (65) |", "of 65 FP samples to 512 held-out", f"`python -m {card.__name__} model=tiny_"):
        assert part in written
    assert (folder / card.PICTURE).exists() and f"]({card.PICTURE})" in written
    (folder / "README.md").write_text(written + ADDED)
    card.main()
    assert (folder / "README.md").read_text() == written + ADDED


def test_a_model_from_a_hub_gets_no_card_of_ours(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["card", "model=modelscope", "model.init=random", "protocol=tiny"])
    with pytest.raises(SystemExit):
        card.main()
    assert "only embedded models" in capsys.readouterr().err
