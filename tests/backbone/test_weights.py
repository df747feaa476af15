"""Released weights into bare models: names, shapes, one tensor at a time."""

import weakref

import pytest
import torch
from accelerate import init_empty_weights
from safetensors.torch import save_file
from torch import nn

from kvtp.backbone._weights import Layout, Weights, compare, fill

HERE = torch.device("cpu")


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(3, 4)
        self.head = nn.Linear(4, 3, bias=False)
        self.register_buffer("turn", torch.arange(3.0), persistent=False)


def bare():
    with init_empty_weights(include_buffers=False):
        return Model()


@pytest.fixture
def released():
    noise = torch.Generator().manual_seed(0)
    return {
        "old.body.weight": torch.randn(4, 3, generator=noise),
        "old.body.bias": torch.randn(4, generator=noise),
        "head.weight": torch.randn(3, 4, generator=noise),
        "old.turn": torch.zeros(3),
    }


def written(folder, tensors, suffix):
    """Two files in the format that the suffix names."""
    files = []
    for number in range(2):
        path = folder / f"part-{number}{suffix}"
        part = {name: tensors[name] for name in list(tensors)[number::2]}
        save_file(part, path) if suffix == ".safetensors" else torch.save({"model": part}, path)
        files.append(path)
    return Weights(files)


LAYOUT = Layout(renames=((r"^old\.", ""),), unwanted=(r"turn$",))


@pytest.mark.parametrize("suffix", [".safetensors", ".bin", ".pth"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_tensor_arrives_and_buffers_stay(tmp_path, released, suffix, dtype):
    model = bare()
    fill(model, written(tmp_path, released, suffix), LAYOUT, dtype, lambda name: HERE)
    assert {weight.dtype for weight in model.parameters()} == {dtype}
    assert torch.equal(model.body.weight, released["old.body.weight"].to(dtype))
    assert torch.equal(model.body.bias, released["old.body.bias"].to(dtype))
    assert torch.equal(model.head.weight, released["head.weight"].to(dtype))
    assert model.turn.tolist() == [0, 1, 2]
    assert model.turn.dtype == torch.float32, "a buffer keeps its precision"


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_model_does_not_depend_on_its_files(tmp_path, released, suffix):
    """A training may write where it was read from."""
    weights = written(tmp_path, released, suffix)
    model = bare()
    fill(model, weights, LAYOUT, torch.float32, lambda name: HERE)
    for path in weights.files:
        with path.open("r+b") as file:
            file.seek(path.stat().st_size // 2)
            file.write(b"\0" * (path.stat().st_size // 2))
    assert torch.equal(model.body.weight, released["old.body.weight"])
    assert torch.equal(model.head.weight, released["head.weight"])


def test_differences_are_named(tmp_path, released):
    del released["old.body.bias"]
    released |= {"old.more": torch.zeros(2), "head.weight": torch.zeros(3, 5)}
    weights = written(tmp_path, released, ".safetensors")
    found = compare(bare(), weights, LAYOUT)
    assert found.missing == ("body.bias",)
    assert found.unexpected == ("old.more",)
    assert found.misshapen == (("head.weight", (3, 5), (3, 4)),)
    told = "1 missing: body.bias; 1 unexpected: old.more; 1 of the wrong shape: head.weight is 3×5, must be 3×4"
    with pytest.raises(ValueError, match=f"do not fit the model, {told}; .*check=true tells all"):
        fill(bare(), weights, LAYOUT, torch.float32, lambda name: HERE)


def test_a_head_that_is_not_there_is_the_one_it_is_tied_to(tmp_path, released):
    del released["head.weight"]
    released["old.body.weight"] = torch.randn(4, 3)
    weights = written(tmp_path, released, ".safetensors")
    tied = Layout(renames=LAYOUT.renames, unwanted=LAYOUT.unwanted, tied=(("head.weight", "body.weight"),))
    model = bare()
    fill(model, weights, tied, torch.float32, lambda name: HERE)
    assert model.head.weight is model.body.weight
    assert compare(bare(), weights, LAYOUT).missing == ("head.weight",)


class Watched(Weights):
    """Knows which of the tensors that it gave are still held when another is asked for."""

    def __init__(self, files):
        super().__init__(files)
        self.given, self.most = [], 0

    def __getitem__(self, name):
        value = super().__getitem__(name).clone()
        self.given.append(weakref.ref(value))
        self.most = max(self.most, sum(tensor() is not None for tensor in self.given[:-1]))
        return value


def test_no_second_copy_in_memory(tmp_path):
    """Of twelve matrices, when one is read, the last two at most are still held besides the model, which has another
    precision and so none of their memory."""
    with init_empty_weights():
        model = nn.ModuleList(nn.Linear(3, 3, bias=False) for _ in range(12))
    matrices = {f"{number}.weight": torch.randn(3, 3) for number in range(12)}
    weights = Watched(written(tmp_path, matrices, ".safetensors").files)
    fill(model, weights, Layout(), torch.bfloat16, lambda name: HERE)
    assert len(weights.given) >= 12
    assert weights.most <= 2
    kept = list(weights.values())
    assert weights.most == len(kept) - 1, "had they been kept, it would have been seen"
