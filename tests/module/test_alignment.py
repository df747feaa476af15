"""Vista-LLM's losses against plain loops, and against numbers worked out beside the released code."""

from math import exp, log

import pytest
import torch
from torch.nn import functional as F

from kvtp.module._alignment import Alignment, contrast, draw, key_weights, odds, points, similarity
from kvtp.scout._blip2 import saliency

PICTURES = F.normalize(torch.tensor([[1.0, 0], [0, 1], [1, 1]]), dim=-1)
TEXTS = F.normalize(torch.tensor([[1.0, 0.2], [0, 1], [0.5, 1]]), dim=-1)
SIMILAR = PICTURES @ TEXTS.T
OWN = torch.eye(3, dtype=torch.bool)


def test_similarity_query_by_query() -> None:
    generator = torch.Generator().manual_seed(0)
    pictures, texts = (torch.randn(shape, generator=generator) for shape in ((2, 3, 4), (5, 4)))
    for pool, over in (("mean", lambda each: sum(each) / len(each)), ("max", max)):
        found = similarity(pictures, texts, pool)
        for b in range(2):
            for n in range(5):
                cosines = [(q @ texts[n] / q.norm() / texts[n].norm()).item() for q in pictures[b]]
                assert found[b, n].item() == pytest.approx(over(cosines), abs=1e-6)


def test_contrast_row_by_row() -> None:
    """Of the true one 0.9 + 0.1/3 of the label, of each other 0.1/3; and torch's own."""
    terms = []
    for rows in (SIMILAR, SIMILAR.T):
        for own, row in enumerate((rows / 0.07).tolist()):
            total = sum(exp(one) for one in row)
            label = [0.1 / 3 + 0.9 * (place == own) for place in range(3)]
            terms.append(-sum(share * log(exp(one) / total) for share, one in zip(label, row, strict=True)))
    found = contrast(SIMILAR, OWN)
    assert found.item() == pytest.approx(sum(terms) / 6, rel=1e-5)
    both = [F.cross_entropy(rows / 0.07, torch.arange(3), label_smoothing=0.1) for rows in (SIMILAR, SIMILAR.T)]
    torch.testing.assert_close(found, sum(both) / 2)


def test_what_is_true_is_no_contrast() -> None:
    """Text 2 is true of picture 0, too: its row is over two texts, and text 2's column over two pictures."""
    true = OWN.clone()
    true[0, 2] = True
    similar = SIMILAR.clone().requires_grad_()
    rows = [[0, 1], [1, 0, 2], [2, 0, 1]], [[0, 1, 2], [1, 0, 2], [2, 1]]
    terms = []
    for table, sets in zip((SIMILAR, SIMILAR.T), rows, strict=True):
        for own, others in enumerate(sets):
            terms.append(F.cross_entropy(table[own, others] / 0.07, torch.tensor(0), label_smoothing=0.1))
    found = contrast(similar, true)
    torch.testing.assert_close(found, torch.stack(terms).mean())
    found.backward()
    assert similar.grad.isfinite().all()
    assert similar.grad[0, 2] == 0


TEXTBOOK_TEXTS = [[0, 0.39002, 0.60998], [0.33219, 0, 0.66781], [0.53120, 0.46880, 0]]
TEXTBOOK_PICTURES = [[0, 0.34617, 0.65383], [0.33024, 0, 0.66976], [0.39002, 0.60998, 0]]
OFFICIAL_TEXTS = [[0, 0.45850, 0.54150], [0.36204, 0, 0.63796], [0.49398, 0.50602, 0]]


@pytest.mark.parametrize(
    ("roles", "texts", "pictures"),
    [("textbook", TEXTBOOK_TEXTS, TEXTBOOK_PICTURES), ("official", OFFICIAL_TEXTS, TEXTBOOK_TEXTS)],
)
def test_odds_of_negatives(roles: str, texts: list, pictures: list) -> None:
    """Three pictures and three texts in the plane; the official numbers are what the released code's two lines give."""
    found = odds(SIMILAR, OWN, roles, 1.0)
    torch.testing.assert_close(found[0], torch.tensor(texts), atol=1e-5, rtol=0)
    torch.testing.assert_close(found[1], torch.tensor(pictures), atol=1e-5, rtol=0)


@pytest.mark.parametrize("roles", ["textbook", "official"])
def test_nothing_true_is_drawn(roles: str) -> None:
    """Text 0 is true of all, text 1 of pictures 0 and 1: of picture 0 only text 2 is wrong, of text 0 no picture."""
    true = torch.tensor([[1, 1, 0], [1, 1, 0], [1, 0, 1]], dtype=torch.bool)
    texts, pictures = odds(SIMILAR, true, roles, 0.07)
    assert texts[0].tolist() == [0, 0, 1]
    assert not (texts[true] > 0).any()
    generator = torch.Generator().manual_seed(0)
    wrong, some = draw(texts, generator)
    assert wrong.tolist() == [2, 2, 1]
    assert some.all()
    assert not (pictures[true.T] > 0).any()
    _, some = draw(pictures, generator)
    assert some.tolist() == [False, True, True]
    nothing, some = draw(odds(SIMILAR, torch.ones(3, 3, dtype=torch.bool), roles, 0.07)[0], generator)
    assert nothing.shape == (3,)
    assert not some.any()


def test_like_ones_are_drawn_more_often() -> None:
    """As often as told: 4000 draws, a few standard deviations of room."""
    texts, _ = odds(SIMILAR, OWN, "textbook", 1.0)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([draw(texts, generator)[0] for _ in range(4000)])
    shares = F.one_hot(drawn, 3).float().mean(0)
    torch.testing.assert_close(shares, texts, atol=0.03, rtol=0)
    again = draw(texts, torch.Generator().manual_seed(0))[0]
    assert again.equal(drawn[0])


ATTENTION = torch.tensor(
    [
        [[0.2, 0.5, 0.1, 0.1, 0.1], [0.2, 0.2, 0.2, 0.2, 0.2]],
        [[0.1, 0.1, 0.6, 0.1, 0.1], [0.4, 0.1, 0.1, 0.3, 0.1]],
    ]
)[None]  # two heads, two queries, a class token and four patches


@pytest.mark.parametrize(("pool", "scores"), [("max", [0.7, 0.8, 0.4, 0.3]), ("mean", [0.45, 0.5, 0.35, 0.25])])
def test_saliency_by_hand(pool: str, scores: list) -> None:
    torch.testing.assert_close(saliency(ATTENTION, pool), torch.tensor([scores]))


SCORES = torch.tensor([[0.5, 0.4, 0.1, 0.05]])


@pytest.mark.parametrize(
    ("weights", "told"),
    [("softmax", [0.79793, 0.20077, 0.00095, 0.00036]), ("masked", [0.63933, 0.34981, 0.00830, 0.00256])],
)
def test_soft_top_two_of_four(weights: str, told: list) -> None:
    found = key_weights(SCORES, 2, 0.1, weights)
    torch.testing.assert_close(found, torch.tensor([told]), atol=1e-5, rtol=0)
    if weights == "softmax":
        patches = torch.tensor([[1.0, 0], [0, 1], [1, 1], [-1, 0]])
        torch.testing.assert_close(found @ patches, torch.tensor([[0.79852, 0.20171]]), atol=1e-5, rtol=0)


def test_fewer_patches_than_the_top_are_all() -> None:
    all_of_them = key_weights(SCORES, 64, 0.1, "masked")
    torch.testing.assert_close(all_of_them, key_weights(SCORES, 4, 0.1, "masked"))
    assert all_of_them.sum().item() == pytest.approx(1)


def test_the_projector_has_the_released_size() -> None:
    module = Alignment(1408, 256, hidden=768, dropout=0.1, keep=64, temperature=0.1, weights="masked")
    assert sum(weight.numel() for weight in module.parameters()) == 1_280_512
    assert [type(layer).__name__ for layer in module.projector] == ["Linear", "LayerNorm", "GELU", "Dropout", "Linear"]
    assert not module.projector[0].bias.any()


def test_alignment_picture_by_picture() -> None:
    """Looking at a patch whose state is the text's, and at one whose state is its opposite; gradients reach the scores,
    and say: look more at the first."""
    torch.manual_seed(0)
    module = Alignment(2, 2, hidden=8, dropout=0.5, keep=1, temperature=0.1, weights="softmax").eval()
    module.projector = torch.nn.Identity()
    patches = torch.tensor([[[1.0, 0.5], [-1.0, 0.3]]]).expand(2, -1, -1)
    scores = torch.tensor([[0.6, 0.2], [0.2, 0.6]], requires_grad=True)
    text = torch.tensor([[1.0, 0.5]])
    found = module(scores, patches, text.expand(2, -1))
    for picture in range(2):
        mask = [1 / (1 + exp(-(one - 0.6) / 0.1)) for one in scores[picture].tolist()]
        raw = [exp(one / 0.1) * m for one, m in zip(scores[picture].tolist(), mask, strict=True)]
        key = sum(one / sum(raw) * patch for one, patch in zip(raw, patches[picture], strict=True))
        assert found[picture].item() == pytest.approx((key @ text[0] / key.norm() / text.norm()).item(), abs=1e-5)
    found.sum().backward()
    assert (scores.grad[:, 0] > 0).all()
    assert (scores.grad[:, 1] < 0).all()


def test_pointing_into_a_box() -> None:
    """Four patches of 2 × 2: the best is the one at the top right, with its centre at (0.75, 0.25)."""
    scores = torch.tensor([[0.1, 0.5, 0.2, 0.4]]).expand(3, -1)
    boxes = torch.tensor([[0.7, 0.2, 0.8, 0.3], [0.5, 0.3, 1.0, 1.0], [0.0, 0.0, 0.75, 0.25]])
    assert points(scores, boxes).tolist() == [True, False, True]
