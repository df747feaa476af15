"""Adapters beside the weights they change, in both of PEFT's layouts, and weights of several places, by hand."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from kvtp.backbone._weights import Joined, Layout, Weights, compare, fill

ALPHA = 12.0


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.query = nn.Linear(6, 4, bias=False)
        self.key = nn.Linear(6, 4)


def noise(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


KEY = {"key.weight": noise(4, 6, seed=0), "key.bias": noise(4, seed=1)}
BASE, DOWN, UP = noise(4, 6, seed=2), noise(3, 6, seed=3), noise(4, 3, seed=4)
ADAPTER = {"query.lora_A.default.weight": DOWN, "query.lora_B.default.weight": UP}
LAYOUTS = {"query.base_layer.weight": "PEFT from 0.6 on", "query.weight": "PEFT 0.3, or the base model's own file"}


def written(path, tensors):
    save_file(tensors, path)
    return Weights([path])


def filled(weights, lora=ALPHA):
    with torch.device("meta"):
        model = Small()
    fill(model, weights, Layout(lora=lora), torch.float32, lambda name: torch.device("cpu"))
    return model


@pytest.mark.parametrize("base", LAYOUTS)
def test_adapter_is_added(tmp_path, base):
    """Element by element: W + 12/3 · B A."""
    model = filled(written(tmp_path / "a.safetensors", {**KEY, base: BASE, **ADAPTER}))
    merged = model.query.weight.detach()
    for row in range(4):
        for column in range(6):
            change = sum(float(UP[row, n] * DOWN[n, column]) for n in range(3))
            assert float(merged[row, column]) == pytest.approx(float(BASE[row, column]) + 4 * change, abs=1e-5)
    assert torch.equal(model.key.weight, KEY["key.weight"])


def test_base_and_adapter_in_different_places(tmp_path):
    """As VideoChat2 and Vicuna: the base under a prefix that only the reader gives it."""
    base = written(tmp_path / "base.safetensors", {"model.query.weight": BASE, **KEY})
    own = written(tmp_path / "own.safetensors", {f"wrapped.model.{name}": weight for name, weight in ADAPTER.items()})
    both = Joined({"llm.": base, "": own})
    names = {"llm.model.query.weight", *(f"llm.{name}" for name in KEY)}
    assert set(both) == names | {f"wrapped.model.{name}" for name in ADAPTER}
    assert both.shape("llm.model.query.weight") == (4, 6)
    assert both.files == (*base.files, *own.files)
    layout = Layout(renames=((r"^llm\.(model\.)?", ""), (r"^wrapped\.model\.", "")), lora=ALPHA)
    with torch.device("meta"):
        model = Small()
    fill(model, both, layout, torch.float32, lambda name: torch.device("cpu"))
    torch.testing.assert_close(model.query.weight.data, BASE + 4 * (UP @ DOWN))


def test_of_two_with_one_name_the_later_counts(tmp_path):
    first = written(tmp_path / "a.safetensors", KEY)
    second = written(tmp_path / "b.safetensors", {"bias": KEY["key.bias"] + 1})
    both = Joined({"": first, "key.": second})
    assert len(both) == 2
    assert torch.equal(both["key.bias"], KEY["key.bias"] + 1)


@pytest.mark.parametrize("lost", ["query.weight", *ADAPTER])
def test_half_an_adapter_is_missing(tmp_path, lost):
    whole = {**KEY, "query.weight": BASE, **ADAPTER}
    weights = written(tmp_path / "a.safetensors", {name: each for name, each in whole.items() if name != lost})
    found = compare(Small(), weights, Layout(lora=ALPHA))
    assert (found.missing, found.unexpected, found.misshapen) == (("query.weight",), (), ())


def test_an_adapter_of_another_layer_is_misshapen(tmp_path):
    changed = {**ADAPTER, "query.lora_B.default.weight": noise(5, 3, seed=4)}
    weights = written(tmp_path / "a.safetensors", {**KEY, "query.weight": BASE, **changed})
    assert compare(Small(), weights, Layout(lora=ALPHA)).misshapen == (("query.weight", (5, 6), (4, 6)),)


def test_without_lora_adapters_are_left_over(tmp_path):
    weights = written(tmp_path / "a.safetensors", {**KEY, "query.weight": BASE, **ADAPTER})
    assert set(compare(Small(), weights, Layout()).unexpected) == set(ADAPTER)


def test_depth(tmp_path):
    names = ("a.layers.0.x", "a.layers.0.y", "a.layers.1.x", "a.layers.x.1", "b.layers.7.x")
    weights = written(tmp_path / "a.safetensors", {name: torch.zeros(1) for name in names})
    assert [weights.depth(before) for before in ("a.layers.", "b.layers.", "c.")] == [2, 1, 0]
