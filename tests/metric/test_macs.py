"""THOP part by part against THOP on the whole, and against the figures of a report of its own."""

import pytest
import torch
from metric.shapes import QWEN2_7B, QWEN2_72B, onevision
from thop import profile
from transformers import LlavaOnevisionForConditionalGeneration

from kvtp.metric.macs import thop_macs

EVERYWHERE = {"full_attention": None}
ANY = (384, 384)  # pictures are made squares


@pytest.fixture
def backbone(tiny):
    def make(config):
        made = tiny()
        made.__dict__["config"] = config  # as if its checkpoint had been read
        return made

    return make


@pytest.mark.parametrize(
    ("shape", "frame", "token", "head"),
    [(QWEN2_7B, 289.24 + 12.37, 6.5253, 0.545), (QWEN2_72B, 289.24 + 55.80, 70.2126, 1.246)],
    ids=["7B", "72B"],
)
def test_figures_computed_elsewhere(backbone, shape, frame, token, head):
    """GMACs: tower and projector per frame, all layers per token, LM head."""
    macs = thop_macs(backbone(onevision(shape)), ANY)
    assert macs.frame / 1e9 == pytest.approx(frame, abs=0.01)
    assert (macs.attention_row + macs.mlp_row) * shape.layers / 1e9 == pytest.approx(token, abs=1e-4)
    assert macs.lm_head / 1e9 == pytest.approx(head, abs=1e-3)


class Whole(torch.nn.Module):
    """Decoder and LM head on the last row, without attention masks that need real tensors."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.decoder, self.head = model.model.language_model, model.lm_head

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        hidden = self.decoder(inputs_embeds=rows, attention_mask=EVERYWHERE, use_cache=False).last_hidden_state
        return self.head(hidden[:, -1:])


@pytest.mark.parametrize("length", [1, 1_000, 12_544])
def test_affine_form_equals_thop_on_the_whole(backbone, length):
    config = onevision(QWEN2_7B)
    with torch.device("meta"):
        whole, rows = Whole(LlavaOnevisionForConditionalGeneration(config)), torch.empty(1, length, QWEN2_7B.width)
    direct, _ = profile(whole, (rows,), verbose=False)
    macs = thop_macs(backbone(config), ANY)
    assert macs.total(0, [length] * 28, [length] * 28) == direct
    assert macs.total(3, [length] * 28, [length] * 28) == direct + 3 * macs.frame


def test_counting_leaves_no_marks(backbone, tiny):
    """THOP adds buffers to what it counts; the model that answers has none of them."""
    model = tiny()
    before = set(model.model.state_dict())
    thop_macs(model, ANY)
    assert set(model.model.state_dict()) == before
