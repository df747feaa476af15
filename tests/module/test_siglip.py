"""The tiny SigLIP's losses against their definitions, and against transformers' own forward."""

from math import exp, log1p

import pytest
import torch
from transformers import AutoTokenizer, SiglipModel

from kvtp.data.scenes import Scenes
from kvtp.module.siglip import Siglip, sigmoid_loss

TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


REST = {"vocabulary": 800, "bias": -2.0, "region_weight": 1.0, "seed": 0}
RATES = {"lr": 1e-3, "text_lr": 1e-4, "weight_decay": 0.0, "warmup": 1, "betas": (0.9, 0.98)}


def siglip(**vision: int) -> Siglip:
    text = {**TOWER, "max_position_embeddings": 16}
    return Siglip(vision={**TOWER, **vision}, text=text, **REST, **RATES)


@pytest.fixture(scope="module")
def module() -> Siglip:
    return siglip(image_size=32, patch_size=4)


def scenes(grid: int, cells: list[list[int]]) -> Scenes:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (len(cells), 32, 32, 3), generator=generator, dtype=torch.uint8)
    texts = ("a red ring", "a circle", "nothing but the background")
    shows = torch.rand(len(cells), 3, generator=generator) < 0.4
    picked = torch.tensor(cells)
    return Scenes(pixels, texts, shows, picked, shows[:, None].expand(-1, picked.shape[1], -1), grid, {"x": (0, 3)})


def test_sigmoid_loss_pair_by_pair() -> None:
    """Zhai et al. 2023, eq. (1): −Σ log 1/(1 + exp(z(−t x·y + b))), written with z = ±1."""
    logits = torch.tensor([[2.0, -1.0, 0.5], [-3.0, 0.0, 1.5]])
    true = torch.tensor([[True, False, False], [False, True, True]])
    pairs = [
        log1p(exp(-(1 if truth else -1) * logit))
        for row, truths in zip(logits.tolist(), true.tolist(), strict=True)
        for logit, truth in zip(row, truths, strict=True)
    ]
    assert sigmoid_loss(logits, true).item() == pytest.approx(sum(pairs) / 2)


def test_picture_scores_are_those_of_transformers(module: Siglip, tmp_path) -> None:
    """The saved folder, loaded and run as anybody would."""
    batch = scenes(2, [[0], [3]])
    module.save(tmp_path)
    model, words = SiglipModel.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    given = words(list(batch.texts), padding="max_length", return_tensors="pt")
    pixels = (batch.pixels.permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
    with torch.no_grad():
        expected = model(input_ids=given.input_ids, pixel_values=pixels).logits_per_image
        scores, _ = module._scores(batch)
    torch.testing.assert_close(scores, expected, atol=1e-4, rtol=1e-4)


def test_a_region_that_is_the_picture_scores_as_the_picture(module: Siglip) -> None:
    with torch.no_grad():
        pictures, regions = module._scores(scenes(1, [[0], [0]]))
    torch.testing.assert_close(regions[:, 0], pictures, atol=1e-5, rtol=1e-5)


def test_patches_of_a_cell_lie_in_it(module: Siglip) -> None:
    """On the 8 × 8 patches of a 32-pixel picture, cell (1, 0) of 4 × 4 is the two by two at rows 2, 3, columns 0, 1."""
    assert module._patches(scenes(4, [[4]])).tolist() == [[[16, 17, 24, 25]]]


def test_cells_must_be_whole_patches() -> None:
    with pytest.raises(ValueError, match="multiple of 8 patches in a row, got 112 // 8"):
        siglip(image_size=112, patch_size=8)


def test_it_learns_what_it_is_told(module: Siglip) -> None:
    """Two pictures and three texts can be learnt by heart."""
    batch = scenes(2, [[0, 1], [2, 3]])
    module.log_dict = lambda *_, **__: None
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3)
    before = module.training_step(batch, 0).item()
    for _ in range(60):
        optimizer.zero_grad()
        module.training_step(batch, 0).backward()
        optimizer.step()
    assert module.training_step(batch, 0).item() < 0.2 * before
