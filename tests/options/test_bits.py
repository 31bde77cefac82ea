import pytest

from qvd.options.bits import Bits


@pytest.mark.parametrize(
    ("text", "expected"), [("w8a8", (8, 8)), ("w2a16", (2, 16)), ("w4a8", (4, 8)), ("fp", (None, None))]
)
def test_parse(text, expected):
    bits = Bits.parse(text)
    assert (bits.weight, bits.activation) == expected
    assert str(bits) == text


@pytest.mark.parametrize("text", ["w99a8", "w1a8", "w8a17", "w8a1", "8", "w8", "", "fp16", "w8a8 "])
def test_out_of_range(text):
    with pytest.raises(ValueError, match=r"allowed are fp, or w\{2..8\}a\{2..16\}"):
        Bits.parse(text)
