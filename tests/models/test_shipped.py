"""What ships with the repository: small, in half precision, and with a card that says what it is and what it shows."""

import re
from pathlib import Path

import pytest
from safetensors import safe_open

from experiments.training.card import PICTURE, SECTION
from metrics.extractors.base import file_sha256

ROOT = Path(__file__).parent.parent.parent
FILES = [path for room in ("qvd", "metrics") for path in (ROOT / room).glob("**/weights/**/*") if path.is_file()]
MODELS = sorted(path.parent.name for path in (ROOT / "qvd/models/weights").glob("*/model_index.json"))
CARDS = sorted({path.parent for path in FILES if path.name == "README.md"})
LIMIT, PICTURE_LIMIT = 40e6, 150e3  # bytes
PROMISED = {"shape": 0.90, "colour": 0.90, "motion": 0.80}
PROMISED_RATIO = 0.25


def test_all_weights_together_are_small():
    assert sum(path.stat().st_size for path in FILES) <= LIMIT


@pytest.mark.parametrize("card", CARDS, ids=lambda folder: folder.name)
def test_weights_are_in_half_precision_and_those_of_their_card(card):
    text = (card / "README.md").read_text()
    weights = sorted(card.rglob("*.safetensors"))
    assert dict(re.findall(r"^- `(.+)` ([0-9a-f]{64})$", text, re.MULTILINE)) == {
        str(path.relative_to(card)): file_sha256(path) for path in weights
    }
    for path in weights:
        with safe_open(path, "pt") as tensors:
            types = {tensors.get_slice(name).get_dtype() for name in tensors.keys()}  # noqa: SIM118
        assert "F16" in types and not types & {"F32", "F64"}
    for fact in ("data", "training time", "seed", "machine", "date"):
        assert re.search(rf"^\| {fact} \| .+ \|$", text, re.MULTILINE), fact


@pytest.mark.parametrize("model", MODELS)
def test_a_model_shows_what_was_promised(model):
    """As its card says: `python -m experiments.training.card model=…` writes that part."""
    folder = ROOT / "qvd/models/weights" / model
    section = (folder / "README.md").read_text().partition(f"\n## {SECTION}\n")[2]
    samples = re.search(r"^\| FP samples \(512\) \| (.+) \| (.+) \| (.+) \|$", section, re.MULTILINE)
    assert samples, f"run `python -m experiments.training.card model={model}`"
    for (attribute, least), share in zip(PROMISED.items(), samples.groups(), strict=True):
        assert float(share) >= least, attribute
    assert float(re.search(r"\(ratio (.+)\)", section)[1]) <= PROMISED_RATIO
    assert f"({PICTURE})" in section and (folder / PICTURE).stat().st_size <= PICTURE_LIMIT
