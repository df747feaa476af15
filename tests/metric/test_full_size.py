"""Models of full size without weights: built on the meta device, counted, laid out."""

import pytest
from backbone import hosts

from kvtp.command import ROOT
from kvtp.metric.account import Account
from kvtp.metric.flops import vision

FOLDERS = {path.parent.name for path in (ROOT / "shapes").glob("*/config.json")}
BESIDE = {"siglip_so400m", "blip2_itm_vit_g"}  # predictor and scout, tested in paper/test_computed.py
NAMES = sorted(FOLDERS - BESIDE)
# CLIP-L/14 at 336 pixels, 23 layers on 577 rows, and two matrices on 576; Vicuna-7B
CLIP = 23 * 577 * 12 * 1024**2 + 576 * 1024 * 3 * 14**2 + 576 * (1024 * 4096 + 4096**2)
VICUNA = 32 * (4 * 4096**2 + 3 * 4096 * 11008)
# GMACs: tower and connector per look at 360 × 640, LLM per token, its head; those with SigLIP by a report of its own
COUNTED = {
    "pllava_7b": (CLIP / 1e9, VICUNA / 1e9, 4096 * 32064 / 1e9),
    "tarsier_7b": (CLIP / 1e9, VICUNA / 1e9, 4096 * 32064 / 1e9),
    "llava_onevision_7b": (289.24 + 12.37, 6.5253, 0.545),
    "llava_onevision_72b": (289.24 + 55.80, 70.2126, 1.246),
    "llava_video_7b": (289.24 + 12.37, 6.5253, 0.545),
    "llava_video_72b": (289.24 + 55.80, 70.2126, 1.246),
}


@pytest.mark.parametrize("name", NAMES)
def test_every_shape_is_a_backbone_of_that_name(name):
    """Linear maps make up most of a model: THOP sees less than all products, and most of them."""
    backbone = hosts.host(name, checkpoint=str(ROOT / "shapes" / name))
    seeing, macs = Account(backbone).seeing((360, 640))
    assert 0.8 < macs.frame / (vision(seeing, 1) / 2) <= 1
    assert macs.lm_head == backbone.shape.width * backbone.shape.vocabulary
    if name in COUNTED:
        told = (macs.frame, backbone.shape.layers * (macs.attention_row + macs.mlp_row), macs.lm_head)
        assert [each / 1e9 for each in told] == pytest.approx(COUNTED[name], rel=1e-3)


@pytest.mark.parametrize(("name", "tokens", "grid"), [
    ("llava_video_7b", 64 * 196, (14, 14)), ("llava_onevision_7b", 32 * 196, (14, 14)),
    ("pllava_7b", 2304, (12, 12)), ("tarsier_7b", 8 * 576, (24, 24)),
])  # fmt: skip
def test_tokens_of_as_many_pictures_as_it_is_used_to(name, tokens, grid):
    backbone = hosts.host(name, checkpoint=str(ROOT / "shapes" / name))
    blank = backbone.blank(backbone.frames, (360, 640))
    assert (len(blank), blank.grid) == (tokens, grid)
