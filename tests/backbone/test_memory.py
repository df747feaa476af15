"""One decoder layer over 12 544 tokens: no S×S tensor, and no more memory than the layer of `transformers` itself.

Memory is what torch's allocator was asked for (its profiler sees kernels' workspaces, too), not the process's.
"""

import subprocess
import sys

TOKENS = 12_544
PROGRAM = """
import sys
import torch
from torch.profiler import profile
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import DynamicCache, Qwen2Config, Qwen2Model
from kvtp.backbone._decoder import Decoder
from kvtp.backbone._state import Prefill
from kvtp.types import Prompt, VisualTokens

torch.set_num_threads(2)
torch.manual_seed(0)
size, width = {tokens}, 512
config = Qwen2Config(hidden_size=width, intermediate_size=4 * width, num_hidden_layers=1, num_attention_heads=8,
                     num_key_value_heads=2, vocab_size=32)
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
    tokens = VisualTokens(hidden, zeros, zeros, every, 1, (1, length), torch.zeros(1), every, every)
    none = hidden[:0]
    state = Prefill.lay_out(Prompt("", "", (0, 0), ""), none, tokens, none, "none", none)
    del hidden, tokens
    Decoder(model, torch.nn.Identity()).prefill(state, 1)


with torch.inference_mode():
    run(64)
    if sys.argv[1] == "cells":
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


def measured(what):
    program = PROGRAM.format(tokens=TOKENS)
    out = subprocess.run([sys.executable, "-c", program, what], capture_output=True, text=True, check=True)
    return int(out.stdout.split()[-1])


def test_no_tensor_of_sequence_squared():
    assert measured("cells") < TOKENS * TOKENS / 4


def test_peak_memory_is_that_of_a_plain_layer():
    engine, plain = measured("engine"), measured("plain")
    print(f"peak of allocations, bytes: engine {engine}, plain {plain}, ratio {engine / plain:.3f}")
    assert plain > TOKENS * 512 * 4, "the measure sees the layer at all"
    assert engine <= 1.3 * plain


def test_the_detector_would_see_it():
    """The same detector on a run that does materialise the map (a mask of S×S)."""
    program = PROGRAM.format(tokens=2000).replace(
        "attention_mask=None", "attention_mask=torch.zeros(1, 1, length, length)"
    )
    program = program.replace('sys.argv[1] == "plain"', "True")
    out = subprocess.run([sys.executable, "-c", program, "cells"], capture_output=True, text=True, check=True)
    assert int(out.stdout.split()[-1]) >= 2000 * 2000
