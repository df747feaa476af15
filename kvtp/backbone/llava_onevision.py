"""LLaVA-OneVision: SigLIP tower, MLP projector, 2-D pooling, Qwen2 decoder (`transformers` modules, our own line)."""

import hashlib
import json
import sys
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn
from transformers import (
    AutoTokenizer,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    PreTrainedTokenizerBase,
    SiglipVisionModel,
)
from transformers.utils import cached_file
from transformers.utils.logging import disable_progress_bar

from kvtp.backbone._decoder import Decoder, Pick, greedy, sampler
from kvtp.backbone._identity import fingerprint, read_config
from kvtp.backbone._pool import POOLS, pool_patches, pooled_side, taps
from kvtp.backbone._siglip import Tower, bare, preprocess
from kvtp.backbone._skeleton import skeleton
from kvtp.backbone._state import NEWLINES, Prefill
from kvtp.backbone.base import AbstractBackbone, LLMShape, Site, Skeleton, VisionShape
from kvtp.errors import Refused, check_choice, check_range, check_whole
from kvtp.types import Answer, Cues, Frames, Prompt, VisualTokens

TOWER = frozenset({"received_attention", "tower_keys", "tower_keys_full", "tower_states"})
HEAD = frozenset({"probe_attention", "frame_feature"})
WORDS = frozenset({"question_feature", "text_features"})


class Head(SiglipVisionModel):
    """Also out of a whole SigLIP, whose text tower is not wanted: without a page of warnings that it is left out."""

    _keys_to_ignore_on_load_unexpected = (r"^text_model\.", r"^logit_(scale|bias)$")


class LlavaOnevision(AbstractBackbone):
    """`checkpoint`, `head`: a folder in the Hugging Face layout, or a hub id with its `revision`s.

    `head` names the stock SigLIP whose post-norm and pooling head give `probe_attention` and `frame_feature`; None =
    the tower's own, if it has one. `answer`: `generate` writes a reply, `likelihood` takes the most probable of the
    prompt's choices. `temperature` 0 = greedy. Sampling settings of the checkpoint's generation_config are not used,
    its stop tokens are. `frame_chunk`: frames in the tower at once.
    """

    def __init__(
        self,
        checkpoint: str,
        revision: str | None,
        head: str | None,
        head_revision: str | None,
        dtype: str,
        device: str,
        attn: str,
        pool: str,
        newline: str,
        frame_chunk: int,
        answer: str,
        max_new_tokens: int,
        temperature: float,
        top_p: float,
        seed: int,
    ) -> None:
        check_choice("backbone.dtype", dtype, ("float32", "bfloat16", "float16"))
        check_choice("backbone.attn", attn, ("sdpa", "flash_attention_2", "eager"))
        check_choice("backbone.pool", pool, POOLS)
        check_choice("backbone.newline", newline, NEWLINES)
        check_choice("backbone.answer", answer, ("generate", "likelihood"))
        check_whole("backbone.frame_chunk", frame_chunk, 1)
        check_whole("backbone.max_new_tokens", max_new_tokens, 1)
        check_range("backbone.temperature", temperature, 0)
        check_range("backbone.top_p", top_p, 0, 1)
        check_whole("backbone.seed", seed, 0)
        self.checkpoint, self.revision = checkpoint, revision
        self.head, self.head_revision = head, head_revision
        self.dtype = getattr(torch, dtype)
        self.device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
        self.attn, self.pool, self.newline = attn, pool, newline
        self.frame_chunk = frame_chunk
        self.answer, self.max_new_tokens = answer, max_new_tokens
        self.temperature, self.top_p, self.seed = temperature, top_p, seed

    # -- what the configuration alone tells ------------------------------------------------------------------------

    @cached_property
    def config(self) -> LlavaOnevisionConfig:
        config = read_config(self.checkpoint, self.revision, "backbone.checkpoint")
        if not isinstance(config, LlavaOnevisionConfig):
            raise ValueError(
                f"backbone.checkpoint must be a llava_onevision model, {self.checkpoint!r} is {config.model_type}; "
                "choose the backbone of that family"
            )
        return config

    @property
    def shape(self) -> LLMShape:
        text = self.config.text_config
        return LLMShape(
            layers=text.num_hidden_layers,
            width=text.hidden_size,
            heads=text.num_attention_heads,
            kv_heads=text.num_key_value_heads,
            head_dim=getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads,
            ffn=text.intermediate_size,
            vocabulary=text.vocab_size,
        )

    @property
    def vision_shape(self) -> VisionShape:
        tower, text = self.config.vision_config, self.config.text_config
        patches = (tower.image_size // tower.patch_size) ** 2
        return VisionShape(
            patches=patches,
            patch_values=tower.num_channels * tower.patch_size**2,
            width=tower.hidden_size,
            ffn=tower.intermediate_size,
            layers=self.tower_layers,
            projected=patches,
            projector=((tower.hidden_size, text.hidden_size), (text.hidden_size, text.hidden_size)),
        )

    @property
    def tower_layers(self) -> int:
        """Those that run."""
        layer = self.config.vision_feature_layer
        if not isinstance(layer, int) or self.config.vision_feature_select_strategy != "full":
            raise ValueError(
                "one vision_feature_layer with vision_feature_select_strategy=full is supported, the checkpoint has "
                f"{layer} and {self.config.vision_feature_select_strategy!r}"
            )
        return layer if layer >= 0 else self.config.vision_config.num_hidden_layers + 1 + layer

    @property
    def value_bytes(self) -> int:
        return self.dtype.itemsize

    def skeleton(self) -> Skeleton:
        return skeleton(self.config, self.tower_layers)

    @property
    def supplies(self) -> frozenset[str]:
        own_head = getattr(self.config.vision_config, "vision_use_head", True)
        return TOWER | WORDS | (HEAD if self.head is not None or own_head else frozenset())

    @property
    def identity(self) -> str:
        sources = [(self.checkpoint, self.revision), (self.head, self.head_revision)]
        return "+".join(fingerprint(source, revision) for source, revision in sources if source is not None)

    # -- weights ---------------------------------------------------------------------------------------------------

    def load(self) -> None:
        if not sys.stderr.isatty():
            disable_progress_bar()
        _ = self.model, self.tower, self.tokenizer

    @cached_property
    def model(self) -> LlavaOnevisionForConditionalGeneration:
        model = LlavaOnevisionForConditionalGeneration.from_pretrained(
            self.checkpoint, config=self.config, revision=self.revision, dtype=self.dtype, attn_implementation=self.attn
        )
        used = model.model.language_model.config._attn_implementation
        if used != self.attn:
            raise RuntimeError(f"backbone.attn={self.attn} was asked for, but the decoder uses {used}")
        return model.to(self.device).eval()

    @cached_property
    def decoder(self) -> Decoder:
        return Decoder(self.model.model.language_model, self.model.lm_head)

    @cached_property
    def tower(self) -> Tower:
        own = self.model.model.vision_tower
        if self.head is not None:
            head = Head.from_pretrained(self.head, revision=self.head_revision, dtype=self.dtype)
            if head.config.hidden_size != self.config.vision_config.hidden_size:
                raise ValueError(
                    f"backbone.head must be as wide as the tower ({self.config.vision_config.hidden_size}), "
                    f"{self.head!r} is {head.config.hidden_size} wide"
                )
            del bare(head).encoder.layers[:]  # only post-norm and pooling head are wanted
            return Tower(own, self.tower_layers, head.to(self.device).eval())
        return Tower(own, self.tower_layers, own if self.supplies >= HEAD else None)

    def sees_as(self, tower: nn.Module) -> bool:
        return self.tower.is_same_as(tower)

    @cached_property
    def tower_digest(self) -> str:
        """Changes when the tower's weights do, and not when the rest is trained further."""
        digest = hashlib.sha256(str(self.config.vision_feature_layer).encode())
        for name, weight in sorted(self.model.model.vision_tower.state_dict().items()):
            digest.update(name.encode() + weight.detach().cpu().float().numpy().tobytes())
        return digest.hexdigest()

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        tokenizer = AutoTokenizer.from_pretrained(self.checkpoint, revision=self.revision)
        if tokenizer.chat_template is None:  # older checkpoints keep it with the processor
            path = cached_file(self.checkpoint, "chat_template.json", revision=self.revision)
            tokenizer.chat_template = json.loads(Path(path).read_text())["chat_template"]
        return tokenizer

    @cached_property
    def stop(self) -> frozenset[int]:
        ids = self.model.generation_config.eos_token_id
        ids = ids if isinstance(ids, list) else [ids]
        return frozenset(token for token in (*ids, self.tokenizer.eos_token_id) if token is not None)

    # -- the line --------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def encode(self, frames: Frames, cues: frozenset[str]) -> VisualTokens:
        side = self.config.vision_config.image_size
        features, found = [], []
        for pixels in frames.pixels.split(self.frame_chunk):
            states, patches = self.tower(preprocess(pixels, side).to(self.device), cues)
            features.append(self.project(states))
            found.append({k: v if k == "frame_feature" else pool_patches(v, self.pool) for k, v in patches.items()})
        video = {name: torch.cat([chunk[name] for chunk in found]) for name in found[0]}
        return VisualTokens(
            **self.places(len(frames)),
            features=torch.cat(features).flatten(0, 1),
            timestamps=frames.timestamps,
            depth=self.shape.layers,
            cues=Cues(**{name: cue if name == "frame_feature" else cue.flatten(0, 1) for name, cue in video.items()}),
        )

    @torch.inference_mode()
    def ask(self, tokens: VisualTokens, prompt: Prompt) -> VisualTokens:
        words = self._embed(self.ids(prompt.bare))
        return replace(tokens, cues=replace(tokens.cues, question_feature=words.mean(0), text_features=words))

    @torch.inference_mode()
    def embed(self, tokens: VisualTokens, prompt: Prompt) -> Prefill:
        before, after = (self._embed(ids) for ids in self.around(prompt))
        newline = self.model.model.image_newline
        return Prefill.lay_out(prompt, before, tokens, after, self.newline, newline)

    @torch.inference_mode()
    def prefill(self, state: Prefill, upto: int, site: Site = "layer") -> Prefill:
        return self.decoder.prefill(state, upto, site)

    @torch.inference_mode()
    def generate(self, state: Prefill) -> Answer:
        state = self.prefill(state, self.shape.layers)
        cached = tuple(layer.keys.shape[-2] for layer in state.cache.layers)
        likelihoods = None
        if self.answer == "likelihood":
            if not state.prompt.choices:
                raise Refused("backbone.answer=likelihood needs a question with options; use backbone.answer=generate")
            replies = {choice: self.ids(choice) for choice in state.prompt.choices}
            likelihoods = {choice: self.decoder.likelihood(state, reply) for choice, reply in replies.items()}
            text = max(likelihoods, key=likelihoods.__getitem__)
            steps = tuple(len(reply) - 1 for reply in replies.values())
        else:
            reply = self.decoder.write(state, self._pick(state.prompt), self.stop, self.max_new_tokens)
            text = self.tokenizer.decode(reply, skip_special_tokens=True)
            steps = (min(len(reply), self.max_new_tokens - 1),)
        visual, newline, words = zip(*state.counts, strict=True)
        return Answer(
            text=text,
            tokens_per_layer={"visual": visual, "newline": newline, "text": words},
            mlp_rows=state.mlp_rows,
            full_rows=state.full,
            cache_rows=cached,
            kept=state.tokens.original,
            steps=steps,
            likelihoods=likelihoods,
        )

    # -- its parts, for training -----------------------------------------------------------------------------------

    def look(self, pixels: UInt8[Tensor, "T H W 3"]) -> Float[Tensor, "T P C"]:
        """The tower's states of pictures."""
        side = self.config.vision_config.image_size
        chunks = pixels.split(self.frame_chunk)
        return torch.cat([self.tower(preprocess(chunk, side).to(self.device), frozenset())[0] for chunk in chunks])

    def project(self, states: Float[Tensor, "T P C"]) -> Float[Tensor, "T N D"]:
        """The tower's states become tokens."""
        return pool_patches(self.model.model.multi_modal_projector(states), self.pool)

    def project_some(self, states: Float[Tensor, "B T P C"], rows: Int64[Tensor, "B K"]) -> Float[Tensor, "B K D"]:
        """The given rows of all T·N tokens of each video, without making the others."""
        patch, weight = (each.to(states.device) for each in taps(states.shape[2], self.pool))
        video = torch.arange(len(states), device=states.device)[:, None, None]
        frame, cell = rows // len(patch), rows % len(patch)
        seen = states[video, frame[..., None], patch[cell]].to(self.dtype)
        projected = self.model.model.multi_modal_projector(seen)
        return (projected * weight[cell][..., None].to(projected.dtype)).sum(-2)

    def blank(self, frames: int) -> VisualTokens:
        places = self.places(frames)
        return VisualTokens(
            **places,
            features=torch.empty(len(places["frame"]), 0, dtype=self.dtype, device=self.device),
            timestamps=torch.zeros(frames, dtype=torch.float64),
            depth=self.shape.layers,
        )

    def places(self, frames: int) -> dict[str, Any]:
        """Where the tokens of so many frames stand: fields of `VisualTokens`."""
        vision = self.config.vision_config
        rows = pooled_side((vision.image_size // vision.patch_size) ** 2, self.pool)
        return _grid(frames, rows, rows, self.device)

    def around(self, prompt: Prompt) -> tuple[list[int], list[int]]:
        """Token ids of what stands before the video, and after it up to where the reply begins."""
        content = [{"type": "video"}, {"type": "text", "text": prompt.text}]
        text = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        before, after = text.split(self.tokenizer.convert_ids_to_tokens(self.config.video_token_index), 1)
        return self.ids(before), self.ids(after)

    def ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def _embed(self, ids: list[int]) -> Float[Tensor, "Q D"]:
        return self.model.get_input_embeddings()(torch.tensor(ids, dtype=torch.int64, device=self.device))

    def _pick(self, prompt: Prompt) -> Pick:
        if self.temperature == 0:
            return greedy
        digest = hashlib.sha256(f"{self.seed}/{prompt.text}".encode()).digest()
        return sampler(self.temperature, self.top_p, int.from_bytes(digest[:8]) >> 1)


def _grid(frames: int, rows: int, columns: int, device: torch.device) -> dict:
    """Places of a full grid of tokens."""
    frame, row, column = torch.meshgrid(
        *(torch.arange(n, device=device) for n in (frames, rows, columns)), indexing="ij"
    )
    every = torch.arange(frame.numel(), device=device)
    return {
        "frame": frame.flatten(),
        "row": row.flatten(),
        "column": column.flatten(),
        "frames": frames,
        "grid": (rows, columns),
        "position": every,
        "original": every,
    }
