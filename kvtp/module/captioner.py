"""Trains a new projector and a new Qwen2 decoder on a SigLIP's tower: first it has to learn to say what it sees."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from shutil import rmtree
from typing import Any

from filelock import FileLock
from transformers import AutoTokenizer, SiglipModel

from kvtp.backbone._new import new_llava, write_processors
from kvtp.backbone.llava_onevision import LlavaOnevision
from kvtp.module.answerer import Answerer


class Captioner(Answerer):
    """`siglip`: a folder with tower and tokenizer. `decoder`: keys of `Qwen2Config`.

    The new model with random weights is written to the folder `backbone.checkpoint`, unless there is one already.
    """

    def __init__(
        self,
        siglip: str,
        decoder: Mapping[str, Any],
        backbone: LlavaOnevision,
        lr: float,
        weight_decay: float,
        warmup: int,
        betas: Sequence[float],
        seed: int,
    ) -> None:
        start = Path(backbone.checkpoint)
        start.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(start.with_suffix(".lock")):
            if not start.exists():
                _begin(siglip, decoder, seed, start)
        super().__init__(backbone, lr, weight_decay, warmup, betas)
        self.origin = siglip


def _begin(siglip: str, decoder: Mapping[str, Any], seed: int, start: Path) -> None:
    """Write the model to begin with, whole or not at all."""
    new = start.with_suffix(".new")
    rmtree(new, ignore_errors=True)
    words = AutoTokenizer.from_pretrained(siglip, model_max_length=decoder["max_position_embeddings"])
    model = new_llava(SiglipModel.from_pretrained(siglip), decoder, words, seed)
    model.save_pretrained(new)
    words.save_pretrained(new)
    write_processors(new, model)
    new.replace(start)
