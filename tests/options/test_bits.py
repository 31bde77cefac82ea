import pytest

from qvd.options.bits import Bits


@pytest.mark.parametrize(
    ("text", "expected"), [("w8a8", (8, 8)), ("w2a15", (2, 15)), ("w4a16", (4, None)), ("fp", (None, None))]
)
def test_parse(text, expected):
    bits = Bits.parse(text)
    assert (bits.weight, bits.activation) == expected
    assert str(bits) == text


def test_weight_only_has_two_names():
    assert Bits.parse("w4afp") == Bits.parse("w4a16") and not Bits.parse("w4afp").is_float


@pytest.mark.parametrize(
    "text", ["w٤a8", "w4a", "wfpa8", "w99a8", "w1a8", "w8a17", "w8a1", "8", "w8", "", "fp16", "w8a8 "]
)
def test_out_of_range(text):
    with pytest.raises(ValueError, match=r"allowed are fp, or w\{2..8\}a\{2..16\}"):
        Bits.parse(text)
