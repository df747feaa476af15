"""One decoder layer over 12 544 tokens: no S×S tensor, and no more memory than the layer of `transformers` itself; with
LLM-VTP's cut after it a fifth more at most.

`python tests/backbone/test_memory.py` measures the same at the sizes of Qwen2-7B. Memory is what torch's allocator was
asked for (its profiler sees kernels' workspaces, too), not the process's.
"""

import subprocess
import sys

import pytest

TOKENS = 12_544
TEXT = 60  # rows of the question
PROGRAM = """
import sys
from dataclasses import replace
import torch
from torch.profiler import profile
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import DynamicCache, Qwen2Config, Qwen2Model
from kvtp.backbone._decoder import Decoder
from kvtp.backbone._state import Prefill
from kvtp.pruner.llm_vtp import LLMVTP
from kvtp.pruner.look_m import LookMCache
from kvtp.types import Budget, Prompt, VisualTokens

torch.set_num_threads(2)
torch.manual_seed(0)
size, width = {tokens}, {width}
config = Qwen2Config(hidden_size=width, intermediate_size={ffn}, num_hidden_layers=1, num_attention_heads={heads},
                     num_key_value_heads={kv_heads}, vocab_size=32)
model = Qwen2Model(config).eval()


class Largest(TorchDispatchMode):
    cells = 0
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {{}}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, torch.Tensor):
                self.cells = max(self.cells, tensor.numel())
        return out


def run(length):
    hidden = torch.randn(length, width)
    every = torch.arange(length)
    zeros = torch.zeros_like(every)
    if sys.argv[1] == "plain":
        rotary = model.rotary_emb(hidden[None], every[None])
        model.layers[0](hidden[None], attention_mask=None, position_embeddings=rotary, past_key_values=DynamicCache())
        return
    asked = frozenset({{"question_attention"}} if "llm_vtp" in sys.argv else ())
    frames, rows = 64, length - {text}
    frame = torch.arange(rows) * frames // rows
    tokens = VisualTokens(hidden[:rows], frame, zeros[:rows], every[:rows], frames, (1, rows), torch.zeros(frames),
                          every[:rows], every[:rows], asked=asked)
    none = hidden[:0]
    state = Prefill.lay_out(Prompt("", "", (0, 0), ""), none, tokens, hidden[rows:].clone(), "none", none)
    del hidden, tokens
    if "look_m" in sys.argv:
        state = replace(state, policy=LookMCache(0.1, 0.1, "pivot"))
    state = Decoder(model, torch.nn.Identity()).prefill(state, 1)
    if "look_m" in sys.argv and length > 64:
        assert state.cache.layers[0].keys.shape[2] < 0.21 * length
    if asked:
        pruner = LLMVTP(layer=1, alpha=0.2, scope="frame", head_pool="max", query_pool="mean", attention="rope",
                        rounding="ceil", merge=False, complement=False)
        selection = pruner(state.visual, Budget(frame.new_full((frames,), rows // frames), 0.2))
        state = state.keep(selection, renumber=False, compress_cache=True)
        assert abs(len(state) - 0.2 * rows) < 2 * frames + {text}


with torch.inference_mode():
    run(64)
    if "cells" in sys.argv:
        with Largest() as largest:
            run(size)
        print(largest.cells)
    else:
        with profile(profile_memory=True) as profiled:
            run(size)
        events = [e for e in profiled.profiler.kineto_results.events() if e.name() == "[memory]"]
        held = peak = 0
        for event in sorted(events, key=lambda e: e.start_ns()):
            held += event.nbytes()
            peak = max(peak, held)
        print(peak)
"""


SMALL = {"width": 512, "ffn": 2048, "heads": 8, "kv_heads": 2}
QWEN2_7B = {"width": 3584, "ffn": 18944, "heads": 28, "kv_heads": 4}


def measured(*what, **sizes):
    program = PROGRAM.format(tokens=TOKENS + TEXT, text=TEXT, **sizes or SMALL)
    out = subprocess.run([sys.executable, "-c", program, *what], capture_output=True, text=True, check=True)
    return int(out.stdout.split()[-1])


@pytest.mark.parametrize("what", [("cells",), ("cells", "llm_vtp"), ("cells", "look_m")])
def test_no_tensor_of_sequence_squared(what):
    """Nor with a question's attention told again, nor with the sums of all columns."""
    assert measured(*what) < TOKENS * TOKENS / 4


def test_peak_memory_is_that_of_a_plain_layer():
    engine, plain = measured("engine"), measured("plain")
    print(f"peak of allocations, bytes: engine {engine}, plain {plain}, ratio {engine / plain:.3f}")
    assert plain > TOKENS * 512 * 4, "the measure sees the layer at all"
    assert engine <= 1.3 * plain


def test_peak_memory_with_llm_vtp():
    """Its cue, selection, cut and compressed cache on top of the layer."""
    pruned, plain = measured("llm_vtp"), measured("plain")
    print(f"peak of allocations, bytes: llm_vtp {pruned}, plain {plain}, ratio {pruned / plain:.3f}")
    assert measured("engine") < pruned <= 1.2 * plain


def test_the_detector_would_see_it():
    """The same detector on a run that does materialise the map (a mask of S×S)."""
    program = PROGRAM.format(tokens=2000, text=TEXT, **SMALL).replace(
        "attention_mask=None", "attention_mask=torch.zeros(1, 1, length, length)"
    )
    program = program.replace('sys.argv[1] == "plain"', "True")
    out = subprocess.run([sys.executable, "-c", program, "cells"], capture_output=True, text=True, check=True)
    assert int(out.stdout.split()[-1]) >= 2000 * 2000


if __name__ == "__main__":
    peaks = {what: measured(what, **QWEN2_7B) for what in ("plain", "engine", "llm_vtp")}
    for what, peak in peaks.items():
        print(f"{what}: {peak / 2**30:.3f} GiB, {peak / peaks['plain']:.3f} of the plain layer")
