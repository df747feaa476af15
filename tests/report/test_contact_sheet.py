"""What the contact sheet shows, read back from its figure."""

import torch
from matplotlib.colors import to_hex

from kvtp.report.contact_sheet import ACROSS, CONTEXT, KEY, OTHER, contact_sheet
from kvtp.types import Frames, Question


def test_every_frame_in_time_framed_by_its_clip() -> None:
    count = 20
    pixels = torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(-1, 4, 4, 3).contiguous()
    frames = Frames(pixels, torch.arange(count) * 0.5, torch.arange(count), duration=10.0, reader="none")
    question = Question("q7", "v", "Where?", ("here", "there"), "B", relevance=(0, 3, 0, 5, 0))
    bare = Question("q8", "v", "Why?")
    first, second = contact_sheet([(question, frames), (bare, frames)]).subfigs
    assert first.get_suptitle() == "q7: Where?    A. here   B. there    → B"
    cells = [cell for cell in first.axes if cell.get_visible()]
    assert len(cells) == count
    assert len(first.axes) == 2 * ACROSS
    assert [int(cell.images[0].get_array()[0, 0, 0]) for cell in cells] == list(range(count))
    assert [cell.get_title() for cell in cells[:3]] == ["0.0 s", "0.5 s", "1.0 s"]
    edges = [to_hex(cell.spines["left"].get_edgecolor()) for cell in cells]
    assert edges == [OTHER] * 4 + [CONTEXT] * 4 + [OTHER] * 4 + [KEY] * 4 + [OTHER] * 4
    assert {to_hex(cell.spines["left"].get_edgecolor()) for cell in second.axes if cell.get_visible()} == {OTHER}
