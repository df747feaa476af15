"""Vista-LLM's semantic scout: how much the queries of a BLIP-2, having read the question, look at each patch."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from math import isqrt

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import Blip2ForImageTextRetrieval, Blip2VisionConfig

from kvtp.backbone._pixels import squash
from kvtp.backbone._qformer import QFormerShape
from kvtp.backbone.base import AbstractBackbone, Size, VisionShape
from kvtp.errors import check_choice, check_whole
from kvtp.metric.flops import vision
from kvtp.relevance._similarity import by_token_frame
from kvtp.scout._blip2 import match, saliency, see
from kvtp.scout._checkpoint import Checkpoint
from kvtp.scout.base import AbstractScout
from kvtp.tensors import under
from kvtp.types import Frames, Question, VisualTokens


@dataclass(frozen=True)
class Seen:
    """A video's states, each picture squashed to `size`; `ready`: when they are, on CUDA."""

    frames: Frames
    size: Size
    states: Float[Tensor, "n seen C"]
    ready: torch.cuda.Event | None


class QFormer(AbstractScout):
    """Equation 6 of Vista-LLM: attention of the last layer that looks at the picture, softmaxed over the class token
    and the patches, its maximum over heads, summed over queries; the class token is left out, nothing is normalised
    again. The question's text is read as it is, with BERT's tokens around it, cut off at the length of the model.

    On the token grid a token has the highest score of the patches whose centres lie in it; where there are none, that
    of the patch which its own centre lies in. (The released code ranks patches, and tokens that two patches fall into
    are taken twice: `scout_patches` is for that.) Of pictures that one token frame stands for, the highest counts.

    `checkpoint`: a BLIP-2 for comparing pictures and texts in the Hugging Face layout, a folder or a hub id with its
    `revision`. `frame_chunk`: pictures in it at once.

    text_ffn: own = words go through the feed-forward layers that were trained for them; shared = through those of the
    queries, as in the released code at inference, though its training uses the words' own.
    resize: square = the pictures that the model was trained with, squashed; tokens = so large that a patch is a token,
    with interpolated position codes, as released for Qwen2.5-VL (there resized without antialiasing).

    A video is looked at once for all its questions; on CUDA beside the backbone's tower, or on another `device`. It is
    shown what the backbone's tokens show, where that is a part of the picture.
    """

    def __init__(
        self,
        checkpoint: str,
        revision: str | None,
        text_ffn: str,
        resize: str,
        dtype: str,
        device: str,
        frame_chunk: int,
    ) -> None:
        check_choice("scout.text_ffn", text_ffn, ("own", "shared"))
        check_choice("scout.resize", resize, ("square", "tokens"))
        check_choice("scout.dtype", dtype, ("float32", "bfloat16", "float16"))
        check_whole("scout.frame_chunk", frame_chunk, 1)
        self.checkpoint = Checkpoint(checkpoint, revision, "scout.checkpoint")
        self.shares, self.fits = text_ffn == "shared", resize == "tokens"
        # patches that are tokens already are on no grid of their own
        self.supplies = frozenset({"scout"} if self.fits else {"scout", "scout_patches"})  # type: ignore[misc]
        self.dtype, self.frame_chunk = getattr(torch, dtype), frame_chunk
        self.device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
        self.backbone: AbstractBackbone | None = None
        self._seen: Seen | None = None

    # -- what its files tell without weights -------------------------------------------------------------------------

    @property
    def tower(self) -> Blip2VisionConfig:
        return self.checkpoint.config.vision_config

    @property
    def patches(self) -> int:
        """Of its own square grid."""
        return (self.tower.image_size // self.tower.patch_size) ** 2

    @property
    def identity(self) -> str:
        return self.checkpoint.identity

    def meet(self, backbone: AbstractBackbone) -> None:
        """ValueError for one whose tokens have no place in the picture."""
        if not backbone.gridded:
            raise ValueError(
                f"scout=qformer scores places in the picture, and the tokens of {backbone.called} have none; choose "
                "another method or backbone"
            )
        self.backbone = backbone

    def flops(self, frames: Frames, question: Question) -> float:
        pictures, height, width = len(frames), *self._size(frames)
        tower, reading = self.tower, self.checkpoint.config.qformer_config
        patches = height * width // tower.patch_size**2
        seeing = VisionShape(
            rows=patches + 1,
            patches=patches,
            patch_values=3 * tower.patch_size**2,
            width=tower.hidden_size,
            ffn=tower.intermediate_size,
            ffn_matrices=2,
            layers=tower.num_hidden_layers,
            pairs=tower.num_hidden_layers * (patches + 1) ** 2,
            connector=0,
        )
        shape = QFormerShape(
            width=reading.hidden_size,
            ffn=reading.intermediate_size,
            heads=reading.num_attention_heads,
            layers=reading.num_hidden_layers,
            seen=tower.hidden_size,
        )
        queries = self.checkpoint.config.num_query_tokens
        macs = shape.macs(queries, len(self._ids(question)), patches + 1)
        macs += queries * (patches + 1) * reading.hidden_size  # the last layer's attention is told beside the kernel
        return vision(seeing, pictures) + 2.0 * pictures * macs

    # -- weights -----------------------------------------------------------------------------------------------------

    @cached_property
    def model(self) -> Blip2ForImageTextRetrieval:
        model = self.checkpoint.model(self.dtype)
        if self.shares:
            for layer in model.qformer.encoder.layer:
                layer.intermediate, layer.output = layer.intermediate_query, layer.output_query
        return model.to(self.device).eval().requires_grad_(False)

    def load(self, backbone: AbstractBackbone) -> None:
        _ = self.model, self.checkpoint.pictures, self.checkpoint.words, self.stream

    # -- the line ----------------------------------------------------------------------------------------------------

    @cached_property
    def stream(self) -> torch.cuda.Stream | None:  # type: ignore[override]
        return torch.cuda.Stream(self.device) if self.device.type == "cuda" else None

    def look(self, frames: Frames) -> None:
        self._look(frames, self._size(frames))

    def _look(self, frames: Frames, size: Size) -> Seen:
        if self._seen is None or self._seen.frames is not frames or self._seen.size != size:
            self._seen = None  # before the next one's take as much memory
            mean, deviation = self.checkpoint.pictures.mean, self.checkpoint.pictures.deviation
            with self._aside():
                rows, columns = (slice(None),) * 2 if self.backbone is None else self.backbone.field(frames.size)
                chunks = frames.pixels[:, rows, columns].split(self.frame_chunk)
                # all at first: a copy from the host waits for what is queued before it, and the backbone for the host
                prepared = [squash(one, *size, self.device, mean, deviation).to(self.dtype) for one in chunks]
                states = torch.cat([see(self.model, one) for one in prepared])
                ready = None if self.stream is None else self.stream.record_event()  # after all of it
                self._seen = Seen(frames, size, states, ready)
        return self._seen

    def _aside(self) -> AbstractContextManager[object]:
        """Work within is queued beside the backbone's."""
        if self.stream is None:
            return nullcontext()
        self.stream.wait_stream(torch.cuda.current_stream(self.device))  # weights, and what read the last video
        return torch.cuda.stream(self.stream)

    def _size(self, frames: Frames) -> Size:
        """Of the pictures as they are looked at [pixels]."""
        if not self.fits:
            return self.tower.image_size, self.tower.image_size
        if self.backbone is None:
            raise ValueError("scout.resize=tokens must know whose tokens; call meet(backbone) first")
        rows, columns = self.backbone.blank(len(frames), frames.size).grid
        return rows * self.tower.patch_size, columns * self.tower.patch_size

    def __call__(self, frames: Frames, question: Question, tokens: VisualTokens) -> VisualTokens:
        patches = self._scores(frames, question)
        patches = by_token_frame(patches, frames.timestamps, tokens.timestamps).to(tokens.features.device)
        placed = patches if self.fits else on_grid(patches, tokens.grid)
        scout = placed[tokens.frame, tokens.row * tokens.grid[1] + tokens.column]
        own = None if self.fits else patches
        return replace(tokens, cues=replace(tokens.cues, scout=scout, scout_patches=own))

    def _scores(self, frames: Frames, question: Question) -> Float[Tensor, "n P"]:
        """Of the pictures."""
        seen = self._look(frames, self._size(frames))
        ids = torch.tensor([self._ids(question)], device=self.device)
        if seen.ready is not None:
            here = torch.cuda.current_stream(self.device)
            here.wait_event(seen.ready)
            seen.states.record_stream(here)  # its memory is not given away while this is read
        found = []
        for states in seen.states.split(self.frame_chunk):
            _, attention = match(self.model, states, ids.expand(len(states), -1), None, mapped=True)
            assert attention is not None
            found.append(saliency(attention, "max"))
        return torch.cat(found)

    def _ids(self, question: Question) -> list[int]:
        length = self.checkpoint.config.qformer_config.max_position_embeddings
        return self.checkpoint.words(question.text, truncation=True, max_length=length).input_ids


def on_grid(patches: Float[Tensor, "T P"], grid: tuple[int, int]) -> Float[Tensor, "T N"]:
    """Scores of square grids of patches on another grid over the same pictures."""
    (rows, columns), side = grid, isqrt(patches.shape[1])
    cell = under(side, rows, patches.device)[:, None] * columns + under(side, columns, patches.device)
    centre = under(rows, side, patches.device)[:, None] * side + under(columns, side, patches.device)
    none = patches.new_full((len(patches), rows * columns), -torch.inf)
    best = none.scatter_reduce(1, cell.flatten().expand(len(patches), -1), patches, "amax")
    return torch.where(best == -torch.inf, patches[:, centre.flatten()], best)
