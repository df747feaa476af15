"""VideoChat2 in the layout of its release, against plain formulas, `transformers`' InstructBLIP and Llama."""

import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from backbone import vicunas, vit_reference
from backbone.hosts import host
from backbone.reference import decode, kept_rows, masked_reference
from released import Listing
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaForCausalLM

from kvtp.backbone._host import Host
from kvtp.backbone._random import with_random_weights
from kvtp.backbone._vicuna import spoken
from kvtp.backbone._weights import Joined, compare
from kvtp.backbone.videochat2 import RELEASED
from kvtp.errors import Refused
from kvtp.metric.account import Account
from kvtp.metric.conventions import fastv
from kvtp.metric.flops import vision
from kvtp.types import Frames, Prompt, Selection

VICUNA = str(Path(__file__).resolve().parents[2] / "shapes" / "llm" / "vicuna_7b")
SYSTEM = (
    "Carefully watch the video and pay attention to the cause and sequence of events, the detail and movement of "
    "objects, and the action and pose of persons. Based on your observations, select the best option that accurately "
    "addresses the question.\n"
)
CLOSE = {"atol": 1e-4, "rtol": 0}


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return vicunas.videochat2(tmp_path_factory.mktemp("videochat2"))


@pytest.fixture(scope="module")
def make(keys):
    """`make(frames=4, …)`; with `like`, on the weights of another host."""

    def made(like=None, **changed):
        backbone = host("videochat2_7b", **keys | {"max_new_tokens": 4} | changed)
        if like is not None:
            vars(backbone)["model"] = like.model
        return backbone

    return made


@pytest.fixture(scope="module")
def backbone(make):
    return make()


@pytest.fixture(scope="module")
def llama(keys):
    """Vicuna's own files read by `transformers`, adapters added by hand: alpha 32, rank 8."""
    model, told = vicunas.plain(Path(keys["llm"])), vicunas.stage3()
    for number, layer in enumerate(model.model.layers):
        for kind in ("q_proj", "v_proj"):
            name = f"llama_model.base_model.model.model.layers.{number}.self_attn.{kind}.lora_"
            change = told[f"{name}B.default.weight"] @ told[f"{name}A.default.weight"]
            getattr(layer.self_attn, kind).weight.data += 32 / 8 * change
    return model


def full(**changed):
    return host("videochat2_7b", checkpoint="nowhere", llm=VICUNA, bert="nowhere", **changed)


def film(count, seed=3):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 50, 40, 3), generator=generator, dtype=torch.uint8)
    return Frames(pixels, torch.arange(count).double() * 2, torch.arange(count), 60.0, "none")


class Vicuna(Listing):
    """Names and shapes of a Llama, as `transformers` has it."""

    def __init__(self, config):
        super().__init__("videochat2")
        with torch.device("meta"):
            self.shapes = {name: tuple(t.shape) for name, t in LlamaForCausalLM(config).state_dict().items()}


# -- the release ---------------------------------------------------------------------------------------------------


def test_released_names_and_shapes_are_those_of_the_model():
    backbone = full()
    weights = Joined({"llama_model.": Vicuna(backbone.config), "": Listing("videochat2")})
    assert not compare(backbone.bare_model(), weights, backbone.layout)
    lost = Joined({"llama_model.": Vicuna(backbone.config), "": Vicuna(backbone.config)})
    assert compare(backbone.bare_model(), lost, backbone.layout)


def test_released_sizes_are_those_of_the_files(keys):
    assert full()._measure(Listing("videochat2")) == RELEASED
    assert full().sizes == RELEASED
    tiny = host("videochat2_7b", **keys).sizes
    assert (tiny.tower.blocks, tiny.tower.heads, tiny.tower.patches, tiny.queries) == (2, 4, 9, (4, 5))


def test_96_tokens_of_one_frame_whatever_the_pictures():
    tokens = full().blank(16, (360, 640))
    assert (len(tokens), tokens.frames, tokens.grid) == (96, 1, (1, 96))
    assert (full(frames=32).vision_shape((1, 1)).rows, full().vision_shape((1, 1)).rows) == (32 * 196, 16 * 196)


def test_without_the_wrapper(make, keys, tmp_path, backbone, frames):
    """The stage-3 file may be flat."""
    torch.save(vicunas.stage3(), tmp_path / "any.pth")
    flat = make(checkpoint=str(tmp_path)).encode(frames, frozenset())
    assert torch.equal(flat.features, backbone.encode(frames, frozenset()).features)


def test_another_layout_is_refused(make, keys, tmp_path):
    torch.save({"weight": torch.zeros(1)}, tmp_path / "any.pth")
    with pytest.raises(ValueError, match=r"layout of TinyVideoChat2's release, .* holds no 'query_tokens'"):
        _ = make(checkpoint=str(tmp_path)).sizes
    whole = vicunas.stage3()
    del whole["llama_model.base_model.model.model.layers.1.self_attn.v_proj.lora_B.default.weight"]
    torch.save(whole | {"temp": torch.zeros(())}, tmp_path / "any.pth")
    with pytest.raises(
        ValueError, match=r"1 missing: llama\.model\.layers\.1\.self_attn\.v_proj\.weight; 1 unexpected: temp"
    ):
        make(checkpoint=str(tmp_path)).load()


def test_identity_changes_with_either_file(make, keys, tmp_path, backbone):
    told = {backbone.identity}
    for key in ("checkpoint", "llm"):
        moved = shutil.copytree(keys[key], tmp_path / key)
        file = next(path for path in sorted(moved.iterdir()) if path.suffix in (".pth", ".bin"))
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
        told.add(make(**{key: str(moved)}).identity)
    assert len(told) == 3


# -- tower and Q-Former --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3, 4, 5])
@torch.inference_mode()
def test_tower_equals_plain_formulas(make, backbone, count):
    """One picture, fewer than the table has, as many, more."""
    seen = film(count)
    pixels = vicunas.pictures(seen.pixels)
    expected = vit_reference.umt(pixels, vicunas.stage3(), 2)
    torch.testing.assert_close(backbone.model.tower(pixels)[0], expected, **CLOSE)


@pytest.mark.parametrize("instruction", ["what is this, a very long one? " * 3, "what?", None])
@torch.inference_mode()
def test_features_equal_references(make, backbone, frames, instruction):
    """Plain formulas, then InstructBLIP's Q-Former on the last 30-odd words of the instruction, then a matrix. Queries:
    those of stage 2 after those of stage 1."""
    told, limit = vicunas.stage3(), 20
    states = vit_reference.umt(vicunas.pictures(frames.pixels), told, 2)
    states = F.layer_norm(states, (32,), told["vision_layernorm.weight"], told["vision_layernorm.bias"], 1e-12)
    queries = torch.cat([told["query_tokens"], told["extra_query_tokens"]], 1)
    small = type("Small", (vicunas.TinyVideoChat2,), {"text_limit": limit})
    chosen = make(like=backbone, instruction=instruction)
    chosen.__class__ = small
    if instruction is None:
        words = torch.zeros(1, 0, dtype=torch.long)
    else:
        ids = chosen.reader(instruction).input_ids
        words = torch.tensor([[ids[0], *ids[1:-1][-(limit - 2) :], ids[-1]]])
        assert words.shape[1] == min(len(ids), limit)
    qformer = vicunas.qformer(told, "qformer.bert.", 32)
    out = qformer(words, query_embeds=queries, encoder_hidden_states=states[None]).last_hidden_state[0, :9]
    expected = out @ told["llama_proj.weight"].T + told["llama_proj.bias"]
    tokens = chosen.encode(frames, frozenset())
    torch.testing.assert_close(tokens.features, expected, **CLOSE)
    assert tokens.features.std() > 0.1
    assert tokens.timestamps.tolist() == [2.0], "the mean of 0 … 4 s"


def test_the_instruction_matters(make, backbone, frames):
    one, other = (make(like=backbone, instruction=text).encode(frames, frozenset()) for text in ("what?", "why?"))
    assert (one.features - other.features).abs().max() > 1e-3


@torch.inference_mode()
def test_few_pictures_are_shown_again(make, backbone):
    """As the release indexes a film of three pictures: int(1/5 + round(2i/5)) for a clip of five."""
    told = backbone.encode(film(3), frozenset())
    seen = film(3)
    again = [0, 0, 1, 1, 2]
    repeated = replace(seen, pixels=seen.pixels[again], indices=torch.arange(5), timestamps=torch.arange(5).double())
    assert torch.equal(told.features, backbone.encode(repeated, frozenset()).features)
    assert told.timestamps.tolist() == [2.0]
    for count in (1, 2, 4):
        shown = backbone.shown(count)
        segment = (count - 1) / 5
        assert shown.tolist() == [int(segment / 2 + round(segment * i)) for i in range(5)]


def test_too_many_pictures_are_refused(backbone):
    with pytest.raises(Refused, match=r"a clip has backbone.frames=5 pictures, got 6; give no more"):
        backbone.encode(film(6), frozenset())


# -- the LLM -------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def test_logits_equal_transformers(backbone, llama, frames, prompt):
    state = backbone.embed(backbone.encode(frames, frozenset()), prompt)
    expected = llama(inputs_embeds=state.hidden[None]).logits[0]
    hidden = backbone.prefill(state, 3).hidden
    torch.testing.assert_close(llama.lm_head(llama.model.norm(hidden)), expected, **CLOSE)
    assert expected.std() > 0.1


@torch.inference_mode()
def test_video_stands_between_texts(backbone, llama, frames, prompt):
    tokens = backbone.encode(frames, frozenset())
    before, after = backbone.around(tokens, prompt)
    words = llama.get_input_embeddings().weight
    state = backbone.embed(tokens, prompt)
    torch.testing.assert_close(state.hidden, torch.cat([words[before], tokens.features, words[after]]))
    assert state.count == (9, 0, len(before) + len(after))


@pytest.mark.parametrize(("layer", "site"), [(0, "layer"), (2, "layer"), (1, "attention")])
@torch.inference_mode()
def test_cut_equals_explicit_mask(backbone, frames, prompt, layer, site):
    start = backbone.embed(backbone.encode(frames, frozenset()), prompt)
    kept = torch.tensor([1, 4, 5, 8])
    state = backbone.prefill(start, layer, site).keep(Selection(kept), renumber=False, compress_cache=False)
    rows, dropped = kept_rows(start, kept.tolist())
    assert torch.equal(state.position, start.position[rows])
    masked = layer + (site == "attention")
    expected, _ = masked_reference(backbone, start, 3, lambda n: dropped if n >= masked else [])
    torch.testing.assert_close(decode(backbone, state, 3), expected, **CLOSE)


# -- words ---------------------------------------------------------------------------------------------------------


def sides(backbone, prompt):
    return [backbone.tokenizer.decode(ids) for ids in backbone.around(backbone.blank(5, (9, 16)), prompt)]


def test_prompt_of_mvbench(backbone):
    """As its notebook prints it; the benchmark's own text begins with the system sentence."""
    asked = "Question: what?\nOptions:\n(A) this\n(B) that"
    text = f"{SYSTEM}{asked}\nOnly give the best option."
    before, after = sides(backbone, Prompt(text, asked, (0, 0), "mvbench", ("A", "B")))
    assert before == f"<s> {SYSTEM}###Human: <Video>"
    assert after == f"</Video>\n###Human: {text}\n###Assistant: Best option:("
    told, _ = backbone.around(backbone.blank(5, (9, 16)), Prompt(text, asked, (0, 0), "mvbench", ("A", "B")))
    assert told[0] == backbone.tokenizer.bos_token_id


def test_prompt_of_an_open_question(backbone, make):
    before, after = sides(backbone, Prompt("Why?", "Why?", (0, 4), "open"))
    assert (before, after) == ("<s> ###Human: <Video>", "</Video>\n###Human: Why?\n###Assistant:")
    _, bare = sides(make(like=backbone, opening=None), Prompt("Why?", "Why?", (0, 4), "open", ("A",)))
    assert bare == after


@pytest.mark.parametrize(
    ("script", "read", "steps"), [("yes ###H", "yes", 4), ("no\n###H", "no", 5), ("a # b", "a # b", 6)]
)
def test_both_spellings_of_the_mark_end_a_reply(make, backbone, frames, monkeypatch, script, read, steps):
    """`###` is one piece after a space and two where there is none, of which one is written; what would follow is not.
    A model that writes a script: pieces and the end."""
    monkeypatch.setattr(Host, "_pick", lambda self, prompt: lambda logits: left.pop(0))
    scripted, left = make(like=backbone, max_new_tokens=20), [*backbone.ids(script), 2]
    prompt = Prompt("Why?", "Why?", (0, 4), "open")
    answer = scripted.generate(scripted.embed(scripted.encode(frames, frozenset()), prompt))
    assert (answer.text, answer.steps) == (read, (steps,))
    assert backbone.tokenizer.convert_ids_to_tokens(backbone.ids("\n###")) == ["▁", "<0x0A>", "##", "#"]


@pytest.mark.parametrize(
    ("written", "read"),
    [("A) red", "A) red"), (" A\n###Human: next", "A"), ("A\n##", "A"), ("Assistant: B", "B"), ("# one", "# one")],
)
def test_replies_are_read_as_the_release_reads_them(written, read):
    assert spoken(written) == read


@torch.inference_mode()
def test_choices_are_scored_as_they_are_written(make, backbone, llama, frames):
    """After `Best option:(` a letter follows without a space, elsewhere after one. Teacher forcing."""
    prompt = Prompt("what?", "what?", (0, 5), "letter", ("A", "violet"))
    for opening, space in (("Best option:(", []), (None, ["▁"])):
        scoring = make(like=backbone, answer="likelihood", opening=opening)
        state = scoring.embed(scoring.encode(frames, frozenset()), prompt)
        told = scoring.generate(state).likelihoods
        for choice in prompt.choices:
            ids = scoring.tokenizer.convert_tokens_to_ids([*space, *choice])
            rows = torch.cat([state.hidden, llama.get_input_embeddings().weight[ids]])
            logits = llama(inputs_embeds=rows[None]).logits[0, -len(ids) - 1 : -1].log_softmax(-1)
            assert told[choice] == pytest.approx(float(logits[range(len(ids)), ids].sum()), abs=1e-3)


# -- costs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("instruction", [None, "What, this? " * 40, "what?"])
def test_vision_equals_torch_counter(make, instruction):
    """On the meta device, where torch's counter sees fused attention; of words that the Q-Former knows whole."""
    backbone = make(instruction=instruction)
    shape, model = backbone.vision_shape((50, 40)), backbone.bare_model().to("meta")
    text = None if instruction is None else backbone.instructed.to("meta")
    with FlopCounterMode(display=False) as counter, torch.device("meta"):
        model.connector(model.tower(torch.empty(5, 3, 24, 24)), text)
    assert vision(shape, 1) == counter.get_total_flops()


def test_thop_sees_the_same_parts(make):
    """Its inputs are as large as what the closed form counts."""
    parts = make(instruction="what?").skeleton((50, 40))
    assert [tuple(given.shape) for given in parts.tower[1]] == [(5, 3, 24, 24)]
    assert [tuple(given.shape) for given in parts.connector[1]] == [(1, 45, 32), (4,)]


def test_norms_are_the_releases(backbone):
    """Too small a thing to be seen in what comes out."""
    told = {
        name: {norm.eps for norm in part.modules() if isinstance(norm, torch.nn.LayerNorm)}
        for name, part in backbone.model.named_children()
    }
    assert told == {"tower": {1e-6}, "connector": {1e-12}, "llama": set()}


def test_full_size_accounts_without_weights():
    began = time.perf_counter()
    shape, macs = Account(full()).seeing((360, 640))
    assert time.perf_counter() - began < 20
    tower = 23 * 3136 * 1024 * (4 * 1024 + 2 * 4096) + 3136 * 768 * 1024
    joint = 23 * 2 * 3136**2 * 1024
    assert vision(shape, 1) / 2 - shape.connector == tower + joint
    assert macs.frame == pytest.approx(tower + shape.connector, rel=0.03), "THOP sees no attention, but norms"
    assert macs.lm_head == 4096 * 32001


def test_prefill_in_llm_vtps_table_8():
    """96 tokens and 13 of text: 1.1 TFLOPs; 10 % after the tenth layer: 0.5."""
    shape = full().shape
    assert fastv(shape, [109] * 32) / 1e12 == pytest.approx(1.103, abs=5e-4)
    assert fastv(shape, [109] * 10 + [23] * 22) / 1e12 == pytest.approx(0.504, abs=5e-4)


# -- the line ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clips(make, backbone):
    return make(like=backbone, frames=16)


@pytest.mark.parametrize(
    ("method", "left"), [("none", 9), ("random", 4), ("pool", 4), ("frame_drop", 9), ("text_only", 0)]
)
def test_one_question_end_to_end(clips, method, left):
    """There is one token frame, which frame_drop always keeps."""
    answer = vicunas.pipeline(clips, method, 0.5)(vicunas.QUESTION)
    assert answer.tokens_per_layer["visual"] == (left,) * 3
    assert answer.kept.shape == (left,)


@pytest.mark.parametrize(("method", "cue"), [("prumerge", "probe_attention, tower_states"), ("tome", "tower_states")])
def test_cues_of_the_tower_are_refused(make, method, cue):
    """Queries have no place in a picture. No weights are loaded."""
    untouched = make()
    with pytest.raises(ValueError, match=f"needs the cues {cue}, but TinyVideoChat2 as configured gives question_feat"):
        vicunas.pipeline(untouched, method, 0.5)
    assert "model" not in vars(untouched)


@torch.inference_mode()
def test_random_weights_need_no_words(make, frames, prompt):
    """Neither tokenizer is there; the Q-Former reads nothing."""
    noise = with_random_weights(make(instruction=None, bert="nowhere", opening=None), 6, 2)
    tokens = noise.ask(noise.encode(frames, frozenset()), prompt)
    answer = noise.generate(noise.embed(tokens, prompt))
    assert (answer.tokens_per_layer["visual"], answer.tokens_per_layer["text"]) == ((9,) * 3, (6,) * 3)


def test_a_folder_without_a_tokenizer_is_named(make, tmp_path):
    with pytest.raises(ValueError, match=r"backbone\.bert .* must hold a tokenizer"):
        _ = make(bert=str(tmp_path)).reader
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match=r"backbone\.llm must be a llama \(Vicuna-7B\), .* is bert"):
        _ = make(llm=str(tmp_path)).shape
