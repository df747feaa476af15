"""Trains a new projector and a new Qwen2 decoder on a SigLIP's tower: first it has to learn to say what it sees."""

from collections.abc import Mapping
from pathlib import Path
from shutil import copytree
from typing import Any

from filelock import FileLock
from transformers import AutoTokenizer, SiglipModel

from kvtp.backbone._new import new_llava, write_processors
from kvtp.backbone.llava_onevision import LlavaOnevision
from kvtp.module.answerer import Answerer
from kvtp.module.base import RECORDS


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
        seed: int,
    ) -> None:
        start = Path(backbone.checkpoint)
        start.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(start.with_suffix(".lock")):
            if not (start / "config.json").exists():
                if (Path(siglip) / RECORDS).is_dir():
                    copytree(Path(siglip) / RECORDS, start / RECORDS, dirs_exist_ok=True)
                words = AutoTokenizer.from_pretrained(siglip)
                words.save_pretrained(start)
                model = new_llava(SiglipModel.from_pretrained(siglip), decoder, words, seed)
                write_processors(start, model)
                model.save_pretrained(start)
        super().__init__(backbone, lr, weight_decay, warmup)
