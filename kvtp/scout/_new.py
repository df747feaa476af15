"""A new BLIP-2 of the real class whose tower is a SigLIP's: where the small world's scout starts."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    BertTokenizer,
    Blip2Config,
    Blip2ForImageTextRetrieval,
    Blip2QFormerConfig,
    Blip2VisionConfig,
    BlipImageProcessor,
    PreTrainedTokenizerBase,
    SiglipModel,
)

from kvtp.backbone._siglip import bare
from kvtp.errors import check_whole

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
QUERY_SPREAD = 0.02  # BERT's, as of all that is new; transformers would leave the queries alike, and so they stay


def new_words(sentences: Iterable[str], vocabulary: int) -> BertTokenizer:
    """WordPiece in lower case like BERT's, of at most `vocabulary` entries: ASCII text in letters, and the commonest
    words of the sentences as one. (A WordPiece trainer breaks ties by chance, and would make another one every time.)
    """
    signs = [sign for sign in map(chr, range(33, 127)) if not sign.isupper()]
    entries = [*SPECIAL, *signs, *(f"##{sign}" for sign in signs)]
    check_whole("vocabulary", vocabulary, len(entries))
    told = BertTokenizer(vocab={entry: number for number, entry in enumerate(entries)}).backend_tokenizer
    counts: Counter[str] = Counter()
    for sentence in sentences:
        counts.update(word for word, _ in told.pre_tokenizer.pre_tokenize_str(told.normalizer.normalize_str(sentence)))
    common = sorted(counts.keys() - set(entries), key=lambda word: (-counts[word], word))
    entries += common[: vocabulary - len(entries)]
    return BertTokenizer(vocab={entry: number for number, entry in enumerate(entries)})


def new_blip2(
    siglip: SiglipModel,
    qformer: Mapping[str, Any],
    queries: int,
    joint: int,
    words: PreTrainedTokenizerBase,
    seed: int,
) -> Blip2ForImageTextRetrieval:
    """`qformer`: keys of `Blip2QFormerConfig`; every second layer looks at the picture. `queries` that it has, `joint`:
    width of the space that pictures and texts meet in.

    The tower computes what the SigLIP's does, but for its class token, which a SigLIP has not: it is zero at first, and
    one more row of P + 1 to attend to.
    """
    torch.manual_seed(seed)
    tower = siglip.config.vision_config
    sizes = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "image_size", "patch_size")
    model = Blip2ForImageTextRetrieval(
        Blip2Config(
            vision_config=Blip2VisionConfig(
                **{key: getattr(tower, key) for key in (*sizes, "hidden_act", "layer_norm_eps")},
                initializer_range=QUERY_SPREAD,
            ),
            qformer_config=Blip2QFormerConfig(
                **qformer,
                vocab_size=len(words),
                pad_token_id=words.pad_token_id,
                encoder_hidden_size=tower.hidden_size,
                cross_attention_frequency=2,
                use_qformer_text_input=True,
            ),
            num_query_tokens=queries,
            image_text_hidden_size=joint,
            image_token_index=None,
        )
    )
    nn.init.normal_(model.query_tokens, std=QUERY_SPREAD)
    model.vision_model.load_state_dict(_as_blip2(bare(siglip.vision_model).state_dict(), tower.num_hidden_layers))
    return model


def save_scout(
    model: Blip2ForImageTextRetrieval,
    words: PreTrainedTokenizerBase,
    folder: Path,
    mean: tuple[float, float, float],
    deviation: tuple[float, float, float],
) -> None:
    """All that `transformers` reads again: model, tokenizer, and how pictures are prepared."""
    model.save_pretrained(folder)
    words.backend_tokenizer.no_padding()  # else it would be saved with the last call's
    words.backend_tokenizer.no_truncation()
    words.model_max_length = model.config.qformer_config.max_position_embeddings
    words.save_pretrained(folder)
    side = model.config.vision_config.image_size
    BlipImageProcessor(
        size={"height": side, "width": side}, image_mean=list(mean), image_std=list(deviation)
    ).save_pretrained(folder)


def _as_blip2(weights: Mapping[str, Tensor], layers: int) -> dict[str, Tensor]:
    """A SigLIP tower's weights, without its pooling head, under the names of BLIP-2's."""
    patches, places = weights["embeddings.patch_embedding.weight"], weights["embeddings.position_embedding.weight"]
    found = {
        "embeddings.class_embedding": places.new_zeros(1, 1, places.shape[1]),
        "embeddings.position_embedding": torch.cat([torch.zeros_like(places[:1]), places])[None],
        "embeddings.patch_embedding.weight": patches,
        "embeddings.patch_embedding.bias": weights["embeddings.patch_embedding.bias"],
    }
    for end in ("weight", "bias"):
        found[f"post_layernorm.{end}"] = weights[f"post_layernorm.{end}"]
        for layer in (f"encoder.layers.{number}" for number in range(layers)):
            made = [weights[f"{layer}.self_attn.{part}_proj.{end}"] for part in "qkv"]
            found[f"{layer}.self_attn.qkv.{end}"] = torch.cat(made)
            found[f"{layer}.self_attn.projection.{end}"] = weights[f"{layer}.self_attn.out_proj.{end}"]
            for part in ("layer_norm1", "layer_norm2", "mlp.fc1", "mlp.fc2"):
                found[f"{layer}.{part}.{end}"] = weights[f"{layer}.{part}.{end}"]
    return found
