"""Pruned models by another road: the whole sequence, never shortened, under explicit masks."""

import torch


def masked_reference(backbone, state, steps, layers_masked, replaced=None):
    """Hidden states of the whole, never shortened sequence, plus `steps` greedy tokens, by eager masked attention.

    `layers_masked(layer)` -> rows that nobody may see in that layer's attention. `replaced(layer, hidden)` edits the
    hidden states before a layer. Every step recomputes everything: no cache is involved.
    """
    model, head = backbone.language
    hidden, position = state.hidden[None], state.position
    tokens, logits = [], []
    for _ in range(steps + 1):
        h, size = hidden, hidden.shape[1]
        rotary = model.rotary_emb(h, position[None])
        for number, layer in enumerate(model.layers):
            if replaced is not None:
                h = replaced(number, h)
            hidden_rows = layers_masked(number)
            mask = torch.full((size, size), float("-inf")).triu(1)
            mask[:, hidden_rows] = float("-inf")
            mask.fill_diagonal_(0)  # a dropped row sees itself, so that its own (unused) output is no NaN
            q = layer.input_layernorm(h)
            a = layer.self_attn
            query = a.q_proj(q).unflatten(-1, (-1, a.head_dim)).transpose(1, 2)
            key = a.k_proj(q).unflatten(-1, (-1, a.head_dim)).transpose(1, 2)
            value = a.v_proj(q).unflatten(-1, (-1, a.head_dim)).transpose(1, 2)
            query, key = rotate(query, *rotary), rotate(key, *rotary)
            groups = query.shape[1] // key.shape[1]
            key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
            weights = (query @ key.transpose(-1, -2) * a.head_dim**-0.5 + mask).softmax(-1)
            h = h + a.o_proj((weights @ value).transpose(1, 2).flatten(2))
            h = h + layer.mlp(layer.post_attention_layernorm(h))
        logits.append(head(model.norm(h[0, -1])))
        tokens.append(int(logits[-1].argmax()))
        hidden = torch.cat([hidden, model.embed_tokens(torch.tensor([[tokens[-1]]]))], 1)
        position = torch.cat([position, position[-1:] + 1])
    return torch.stack(logits), tokens


def rotate(x, cos, sin):
    half = x.shape[-1] // 2
    return x * cos[:, None] + torch.cat([-x[..., half:], x[..., :half]], -1) * sin[:, None]


def decode(backbone, state, steps):
    """Logits of the first token and of `steps` more, greedily, by the engine."""
    state = backbone.prefill(state, backbone.shape.layers)
    seen = []

    def pick(logits):
        seen.append(logits)
        return int(logits.argmax())

    backbone.decoder.write(state, pick, frozenset(), steps + 1)
    return torch.stack(seen)


def kept_rows(state, kept):
    """(rows of the sequence that a keep of these tokens leaves, rows that it drops), newline rule by hand."""
    rows = set(range(state.before)) | set(range(len(state) - state.after, len(state)))
    levels = {
        "one_token": [lambda t: 0],
        "frame": [lambda t: int(state.tokens.frame[t])],
        "grid": [lambda t: (int(state.tokens.frame[t]), int(state.tokens.row[t]))],
        "none": [],
    }
    levels["grid_frame"] = levels["grid"] + levels["frame"]  # in this order after the last row of a frame
    keys = levels[state.newline]
    alive = [{key(t) for t in kept} for key in keys]
    visual = {int(state.visual_at[t]): t for t in range(len(state.tokens))}
    last, since = None, 0
    for row in range(state.before, len(state) - state.after):
        if row in visual:
            last, since = visual[row], 0
            if last in set(kept):
                rows.add(row)
        else:  # a newline closes what stands before it
            if keys[since](last) in alive[since]:
                rows.add(row)
            since += 1
    dropped = [row for row in range(len(state)) if row not in rows]
    return sorted(rows), dropped
