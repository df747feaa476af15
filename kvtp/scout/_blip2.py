"""The passes of a BLIP-2 that compares pictures and texts (Li et al. 2023, arXiv 2301.12597), one by one.

`Blip2ForImageTextRetrieval` runs its tower in every call and tells nothing of attention. Here the tower works once for
all texts, attention is SDPA throughout, and the weights of the one layer that is read are told beside it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from transformers import Blip2ForImageTextRetrieval


def see(model: Blip2ForImageTextRetrieval, pixels: Float[Tensor, "B 3 height width"]) -> Float[Tensor, "B seen C"]:
    """States of the class token and of the patches, row by row. Position codes of pictures of another size than the
    model's are interpolated."""
    return model.vision_model(pixel_values=pixels, interpolate_pos_encoding=True).last_hidden_state


def match(
    model: Blip2ForImageTextRetrieval,
    seen: Float[Tensor, "B seen C"],
    ids: Int64[Tensor, "B words"],
    mask: Int64[Tensor, "B words"] | None,
    mapped: bool,
) -> tuple[Float[Tensor, "B queries d"], Float[Tensor, "B heads queries seen"] | None]:
    """Learned queries and a text's words attend to each other, and the queries to the picture.

    Given are the queries' last states, and if `mapped` how much each head of the last layer that looks at the picture
    has them attend to the class token and to each patch: softmaxed, float32, before dropout, differentiable. `mask`: 1
    for words, 0 for padding; None = all are words.
    """
    queries = model.query_tokens.expand(len(seen), -1, -1)
    count = queries.shape[1]
    if mask is not None:
        mask = torch.cat([mask.new_ones(len(seen), count), mask], 1)
    told: list[Tensor] = []
    with _told(model, told if mapped else None):
        states = model.qformer(
            query_embeds=model.embeddings(input_ids=ids, query_embeds=queries),
            query_length=count,
            attention_mask=mask,
            encoder_hidden_states=seen,
        ).last_hidden_state
    return states[:, :count], _weights(model, *told) if mapped else None


def read(
    model: Blip2ForImageTextRetrieval, ids: Int64[Tensor, "B words"], mask: Int64[Tensor, "B words"] | None
) -> Float[Tensor, "B joint"]:
    """A text alone, as the joint space has it, not normalised."""
    states = model.qformer(
        query_embeds=model.embeddings(input_ids=ids), query_length=0, attention_mask=mask
    ).last_hidden_state
    return model.text_projection(states[:, 0].to(model.text_projection.weight.dtype))


def look(model: Blip2ForImageTextRetrieval, seen: Float[Tensor, "B seen C"]) -> Float[Tensor, "B queries joint"]:
    """A picture alone, as each query has it in the joint space, not normalised."""
    states = model.qformer(
        query_embeds=model.query_tokens.expand(len(seen), -1, -1), encoder_hidden_states=seen
    ).last_hidden_state
    return model.vision_projection(states.to(model.vision_projection.weight.dtype))


def _last(model: Blip2ForImageTextRetrieval) -> nn.Module:
    """The attention of the last layer that looks at the picture."""
    looking = [layer for layer in model.qformer.encoder.layer if layer.has_cross_attention]
    return looking[-1].crossattention.attention


@contextmanager
def _told(model: Blip2ForImageTextRetrieval, told: list[Tensor] | None) -> Iterator[None]:
    """Within, queries and then keys of that attention are put into `told`, if there is such a list."""
    if told is None:
        yield
        return
    attention, kept = _last(model), told
    parts = (attention.query, attention.key)
    hooks = [part.register_forward_hook(lambda _, __, out: kept.append(out)) for part in parts]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _weights(
    model: Blip2ForImageTextRetrieval, queries: Float[Tensor, "B queries d"], keys: Float[Tensor, "B seen d"]
) -> Float[Tensor, "B heads queries seen"]:
    attention = _last(model)
    query, key = (rows.unflatten(-1, (attention.num_attention_heads, -1)).transpose(1, 2) for rows in (queries, keys))
    return (query @ key.mT * attention.scaling).float().softmax(-1)


def saliency(attention: Float[Tensor, "B heads queries seen"], pool: str) -> Float[Tensor, "B P"]:
    """How much each patch is looked at: `mean` or `max` of the heads, summed over queries, without the class token.

    max is what the scout goes by (Vista-LLM, equation 6), mean what the alignment is trained with.
    """
    heads = attention.mean(1) if pool == "mean" else attention.amax(1)
    return heads.sum(1)[:, 1:]
