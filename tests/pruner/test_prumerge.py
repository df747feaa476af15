"""PruMerge against a hand-checked frame and against its definition, token by token."""

import pytest
import torch
from toys import component, toy_budget, toy_tokens

ATTENTION = torch.tensor([0.05, 0.30, 0.12, 0.25, 0.18, 0.10])
X = torch.tensor([[1, 0], [0, 1], [1, 1], [2, 0], [0, 2], [1, -0.5]])
MERGED = {1: [0.12, 1.48], 3: [2.15, -0.05], 4: [0.12, 2.42], 2: [1.5, 1.3], 5: [1.55, -0.5], 0: [1.6, -0.05]}


@pytest.mark.parametrize("ids", [[1, 3, 4], [1, 3], [1, 3, 4, 2, 5, 0]])
@pytest.mark.parametrize("variant", ["paper", "official"])
def test_example(variant: str, ids: list[int]) -> None:
    tokens = toy_tokens([6], (1, 6), features=X, tower_states=X, probe_attention=ATTENTION)
    pruner = component("pruner", "prumerge", neighbours=2, variant=variant)
    selection = pruner(tokens, toy_budget([len(ids)], tokens))
    expected = sorted(ids) if variant == "paper" else ids
    assert selection.index.tolist() == expected
    assert torch.allclose(selection.features, torch.tensor([MERGED[i] for i in expected]), atol=1e-6)


@pytest.mark.parametrize("neighbours", [0, 3, 32])
@pytest.mark.parametrize("variant", ["paper", "official"])
def test_equals_one_token_at_a_time(variant: str, neighbours: int) -> None:
    granted = [7, 16, 0, 2, 1, 3]
    tokens = toy_tokens([16, 16, 16, 3, 1, 0], (4, 4), seed=neighbours)
    tokens_granted = [min(g, n) for g, n in zip(granted, [16, 16, 16, 3, 1, 0], strict=True)]
    pruner = component("pruner", "prumerge", neighbours=neighbours, variant=variant)
    selection = pruner(tokens, toy_budget(tokens_granted, tokens))
    attention, states, x = tokens.cues.probe_attention, tokens.cues.tower_states, tokens.features
    index, features = [], []
    for t, n in enumerate(tokens_granted):
        rows = [int(row) for row in torch.nonzero(tokens.frame == t)]
        best = sorted(rows, key=lambda row: -float(attention[row]))[:n]
        for i in best if variant == "official" else sorted(best):
            others = [j for j in rows if j != i]
            others.sort(key=lambda j, i=i: -float(torch.cosine_similarity(states[i], states[j], dim=0)))
            index.append(i)
            features.append(x[i] + sum(attention[j] * x[j] for j in others[:neighbours]))
    assert selection.index.tolist() == index
    assert torch.allclose(selection.features, torch.stack(features), atol=1e-5)


def test_without_attention_it_is_a_plain_choice() -> None:
    tokens = toy_tokens([9, 9], (3, 3), probe_attention=torch.zeros(18))
    selection = component("pruner", "prumerge")(tokens, toy_budget([2, 3], tokens))
    assert selection.index.tolist() == [0, 1, 9, 10, 11]  # ties: the earlier first
    assert torch.equal(selection.features, tokens.features[selection.index])
