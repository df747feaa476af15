import pytest
import torch

from kvtp.types import Frames, Prompt


@pytest.fixture(scope="session")
def frames():
    generator = torch.Generator().manual_seed(7)
    pixels = torch.randint(0, 256, (5, 90, 160, 3), generator=generator, dtype=torch.uint8)
    return Frames(pixels, torch.arange(5, dtype=torch.float64), torch.arange(5), duration=5.0, reader="none")


@pytest.fixture(scope="session")
def prompt():
    bare = "What comes right after the red square?"
    text = f"{bare}\nA. a circle\nB. nothing\nAnswer with the option's letter from the given choices directly."
    return Prompt(text=text, bare=bare, question_span=(0, len(bare)), preset="test", choices=("A", "B", "violet"))
