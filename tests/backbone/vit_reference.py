"""The towers of VideoChat2 and ST-LLM from released tensors, in plain formulas and loops."""

import math

import torch

HEADS = 4


def norm(rows, tensors, name, eps):
    centred = rows - rows.mean(-1, keepdim=True)
    scaled = centred / (centred.pow(2).mean(-1, keepdim=True) + eps).sqrt()
    return scaled * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]


def linear(rows, tensors, name):
    return rows @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]


def attention(rows, tensors, name):
    """Of one sequence [N, C], head by head."""
    width = rows.shape[1]
    size = width // HEADS
    qkv = rows @ tensors[f"{name}.qkv.weight"].T
    bias = torch.cat([tensors[f"{name}.q_bias"], torch.zeros(width), tensors[f"{name}.v_bias"]])
    query, key, value = (qkv + bias).split(width, -1)
    heads = []
    for head in range(HEADS):
        part = slice(head * size, (head + 1) * size)
        weights = (query[:, part] * size**-0.5 @ key[:, part].T).softmax(-1)
        heads.append(weights @ value[:, part])
    return linear(torch.cat(heads, -1), tensors, f"{name}.proj")


def mlp(rows, tensors, name):
    hidden = linear(rows, tensors, f"{name}.fc1")
    return linear(hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2))), tensors, f"{name}.fc2")


def block(rows, tensors, name):
    rows = rows + attention(norm(rows, tensors, f"{name}.norm1", 1e-6), tensors, f"{name}.attn")
    return rows + mlp(norm(rows, tensors, f"{name}.norm2", 1e-6), tensors, f"{name}.mlp")


def patches(pixels, tensors, name):
    """[T, 3, side, side] → [T, P, C], patch by patch."""
    weight = tensors[f"{name}.weight"]
    size, side = weight.shape[-1], pixels.shape[-1]
    corners = [(top, left) for top in range(0, side, size) for left in range(0, side, size)]
    cut = torch.stack([pixels[:, :, y : y + size, x : x + size].flatten(1) for y, x in corners], 1)
    return cut @ weight.flatten(1).T + tensors[f"{name}.bias"]


def umt_places(pictures, count, width):
    """Number by number: a sinusoid over 4 × count places, linear in time between the middles of pictures."""
    if pictures == 1:
        return torch.tensor([[_wave(place, channel, width) for channel in range(width)] for place in range(count)])
    table = [[_wave(place, channel, width) for channel in range(width)] for place in range(4 * count)]
    rows = []
    for picture in range(pictures):
        where = min(max((picture + 0.5) * 4 / pictures - 0.5, 0), 3)
        low = min(int(where), 2)
        for patch in range(count):
            one, other = table[low * count + patch], table[(low + 1) * count + patch]
            rows.append([a + (where - low) * (b - a) for a, b in zip(one, other, strict=True)])
    return torch.tensor(rows)


def _wave(place, channel, width):
    angle = place / 10000 ** (2 * (channel // 2) / width)
    return math.sin(angle) if channel % 2 == 0 else math.cos(angle)


def umt(pixels, tensors, blocks):
    """[T, 3, side, side] → [T·P, C]; every patch sees every other."""
    name = "vision_encoder.encoder"
    rows = patches(pixels, tensors, f"{name}.patch_embed.proj")
    rows = rows.flatten(0, 1) + umt_places(len(pixels), rows.shape[1], rows.shape[2])
    for number in range(blocks):
        rows = block(rows, tensors, f"{name}.blocks.{number}")
    return rows


def eva_with_adapter(pixels, tensors, blocks, depth):
    """[T, 3, side, side] → [T, P+1, C]: the branch's class token and each patch of each picture one by one."""
    name = "model.stllm_model.visual_encoder"
    seen, places = patches(pixels, tensors, f"{name}.patch_embed.proj"), tensors[f"{name}.pos_embed"][0]
    frames, count = len(pixels), seen.shape[1]
    x = [torch.cat([tensors[f"{name}.cls_token"][0], seen[t]]) + places for t in range(frames)]
    for number in range(blocks - depth):
        x = [block(rows, tensors, f"{name}.blocks.{number}") for rows in x]
    cls, patch = None, {}
    for n in range(depth):
        x = [block(rows, tensors, f"{name}.blocks.{blocks - depth + n}") for rows in x]
        mean = sum(rows[0] for rows in x) / frames
        begun = (mean + tensors[f"{name}.BTAdapter_cls"][0, 0] + places[0]) / 2
        cls = begun if n == 0 else mean + cls
        for t in range(frames):
            for p in range(count):
                first = places[1 + p] + tensors[f"{name}.BTAdapter_position.weight"][t]
                patch[t, p] = x[t][1 + p] + (first if n == 0 else patch[t, p])
        time, space = f"{name}.BTAdapter_T.{n}", f"{name}.BTAdapter_S.{n}"
        for p in range(count):
            over = torch.stack([patch[t, p] for t in range(frames)])
            told = attention(norm(over, tensors, f"{time}.norm1", 1e-6), tensors, f"{time}.attn")
            told = linear(told, tensors, f"{time}.temporal_fc")
            for t in range(frames):
                patch[t, p] = patch[t, p] + told[t]
        votes = []
        for t in range(frames):
            rows = torch.stack([cls, *(patch[t, p] for p in range(count))])
            told = attention(norm(rows, tensors, f"{space}.norm1", 1e-5), tensors, f"{space}.attn")
            votes.append(told[0])
            for p in range(count):
                one = patch[t, p] + told[1 + p]
                patch[t, p] = one + mlp(norm(one, tensors, f"{space}.norm2", 1e-5), tensors, f"{space}.mlp")
        cls = cls + sum(votes) / frames
        cls = cls + mlp(norm(cls, tensors, f"{space}.norm2", 1e-5), tensors, f"{space}.mlp")
    branch = [torch.stack([cls, *(patch[t, p] for p in range(count))]) for t in range(frames)]
    return torch.stack([(rows + beside) / 2 for rows, beside in zip(x, branch, strict=True)])
