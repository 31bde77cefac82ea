"""Layer rules: validation, order, and the error for a pattern that matches nothing."""

import pytest

from qvd.options.rules import LayerRule
from qvd.spec.rules import SiteBits, apply_rules, nearest, restrict

PLAN = {name: SiteBits(8, 8, "default") for name in ("down.conv1", "down.conv2", "mid.attn1.to_q")}


def test_last_match_wins_and_is_recorded():
    result = apply_rules(PLAN, [LayerRule("down.*", 4, None), LayerRule("*conv2", None, 6)])
    assert result["down.conv1"] == SiteBits(4, None, "rules[0] down.*")
    assert result["down.conv2"] == SiteBits(None, 6, "rules[1] *conv2")
    assert result["mid.attn1.to_q"].rule == "default"


def test_pattern_without_match_names_the_nearest():
    with pytest.raises(ValueError, match=r"quantizer\.rules\[0\]\.pattern='down\.conv3'.*down\.conv"):
        apply_rules(PLAN, [LayerRule("down.conv3", 8, 8)])


def test_something_is_near_to_anything():
    assert nearest("down.conv3", PLAN) == "down.conv2, down.conv1, mid.attn1.to_q"
    assert nearest("zzz", [*PLAN, "up.conv1"]).count(",") == 2


@pytest.mark.parametrize("field", ["weight_bits", "activation_bits"])
def test_bits_out_of_range_are_refused(field):
    with pytest.raises(ValueError, match=rf"{field}=1"):
        LayerRule(**({"pattern": "*", "weight_bits": 8, "activation_bits": 8} | {field: 1}))


def test_only_leaves_everything_else_in_floating_point():
    restricted = restrict(PLAN, ["*.attn1.*", "*conv2"])
    assert restricted["down.conv1"] == SiteBits(None, None, "only")
    assert {name: restricted[name] for name in PLAN if name != "down.conv1"} == {
        name: PLAN[name] for name in PLAN if name != "down.conv1"
    }


def test_only_that_matches_nothing_names_the_nearest():
    with pytest.raises(ValueError, match=r"quantizer\.only='down\.conv3': matches no layer; nearest: down\.conv"):
        restrict(PLAN, ["down.conv1", "down.conv3"])
