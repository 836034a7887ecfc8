"""Packed rows give the hidden states and the gradients of the batch as it is."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from rlhf_bench.modeling import row_attention, tree_attention, tree_plans
from rlhf_bench.modeling.attention import close_states, replacement
from rlhf_bench.modeling.last_layer import can_leave_out
from rlhf_bench.modeling.logprobs import hidden_states, read_for, target_mask
from rlhf_bench.modeling.tokens import Batch, Encoded, collate
from rlhf_bench.modeling.tree_attention import attending_by_tree, cost_of_tree
from rlhf_bench.modeling.tree_plans import Tree, queries_of
from rlhf_bench.modeling.trees import Packing, can_pack, pack, packed_hidden_states
from trainers.engine.models import checkpoint_layers

ROWS = [
    Encoded([11, 12], [21, 22]),
    Encoded([13], [26]),
    Encoded([11, 12], [23, 24, 25]),
    Encoded([11, 12, 14], [27] * 20),
    Encoded([11, 12], [28]),
    Encoded([11, 12], [29, 30, 31]),
]

SMALL = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "pad_token_id": 0,
         "bos_token_id": 0, "eos_token_id": 0}  # fmt: skip
ROPE = {**SMALL, "intermediate_size": 48, "num_key_value_heads": 2, "head_dim": 8}
GPT2 = {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "resid_pdrop": 0.0, "embd_pdrop": 0.0,
        "attn_pdrop": 0.0, "bos_token_id": 0, "eos_token_id": 0}  # fmt: skip
PACKED = {"gpt2": GPT2, "llama": ROPE, "qwen2": ROPE, "gemma": ROPE, "mistral": {**ROPE, "sliding_window": None},
          "gpt_neox": {**SMALL, "intermediate_size": 48},
          # its values are narrower than its queries
          "deepseek_v3": {**SMALL, "intermediate_size": 48, "num_key_value_heads": 4, "q_lora_rank": None,
                          "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8,
                          "first_k_dense_replace": 2}}  # fmt: skip
NOT_PACKED = {
    "mistral": {**ROPE, "sliding_window": 8},
    "gemma2": {**ROPE, "sliding_window": 8},
    # a window that no text of the trial is as long as, under a name of its own
    "gpt_neo": {"vocab_size": 64, "hidden_size": 32, "num_layers": 2, "num_heads": 4, "window_size": 256,
                "attention_types": [[["global", "local"], 1]]},
    "mamba": {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "pad_token_id": 0, "bos_token_id": 0,
              "eos_token_id": 0},
    "bloom": {"vocab_size": 64, "hidden_size": 32, "n_layer": 2, "n_head": 4, "pad_token_id": 0},
}  # fmt: skip


def make(kind: str, settings: dict[str, Any], attention: str = "eager") -> PreTrainedModel:
    torch.manual_seed(0)
    config = CONFIG_MAPPING[kind](**settings)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4.0)  # so that a wrong position or mask shows
    return model


def plain(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    backbone: Any = model.base_model
    hidden: torch.Tensor = backbone(
        input_ids=batch.ids, attention_mask=batch.attention_mask.long(), position_ids=batch.position_ids,
        use_cache=False,
    ).last_hidden_state  # fmt: skip
    return hidden


def assert_same_pass(model: PreTrainedModel, expected: torch.Tensor, found: torch.Tensor, *, atol: float) -> None:
    """The hidden states of two passes, (N, H), and the gradients that they give the weights."""
    gradients = []
    for hidden in (expected, found):
        model.zero_grad()
        hidden.sin().sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert torch.allclose(expected, found, atol=atol)
    for a, b in zip(*gradients, strict=True):
        assert (a - b).norm() <= 1e-4 * a.norm() + 1e-5  # float32; a token that saw another's would be off by its whole


def packed(batch: Batch, *, by_tree: bool = False) -> Packing:
    # attention counts for nothing: as few tokens as possible
    packing = pack(batch, hidden_size=1 << 20, cost_of_tree=0 if by_tree else None)
    assert packing is not None
    assert (packing.visible is None) == by_tree
    return packing


def test_layout_drawn_by_hand() -> None:
    """Two rows share the prompt (11, 12): it is there once, seen by both responses, which do not see each other."""
    batch = collate([ROWS[0], ROWS[1], ROWS[2]], pad_id=0)
    packing = packed(batch)
    # 11 12 | 23 24 25 | 21 22 | 13 | 26, the longest response to a prompt first
    assert packing.ids[0].tolist() == [11, 12, 23, 24, 25, 21, 22, 13, 26] + [0] * 7
    assert packing.position_ids[0, :9].tolist() == [0, 1, 2, 3, 4, 2, 3, 0, 1]
    assert [row[: n + 1] for row, n in zip(packing.places.tolist(), [3, 1, 4], strict=True)] == [
        [0, 1, 5, 6],
        [7, 8],
        [0, 1, 2, 3, 4],
    ]
    expected = [
        "1........",  # 11
        "11.......",  # 12
        "111......",  # 23 sees the prompt and itself
        "1111.....",
        "11111....",
        "11...1...",  # 21 sees the prompt, not the first response
        "11...11..",
        ".......1.",  # another prompt
        ".......11",
    ]
    assert packing.visible is not None
    drawn = ["".join("1" if v else "." for v in row[:9]) for row in packing.visible[0, 0, :9].tolist()]
    assert drawn == expected
    assert packing.visible[0, 0].any(1).all()  # padding sees itself, or its attention would be NaN
    assert packing.trees == [Tree(2, (3, 2)), Tree(1, (1,))]
    mask = packing.trees[0].mask(slice(0, 7), torch.float32)
    assert ["".join("." if v else "1" for v in row) for row in mask.tolist()] == [row[:7] for row in expected[:7]]


def test_a_batch_without_padding_or_shared_prompts_stays() -> None:
    rows = [Encoded([i], [7] * 15) for i in range(1, 5)]
    batch = collate(rows, pad_id=0)
    assert pack(batch, hidden_size=64) is None
    assert pack(batch, hidden_size=64, cost_of_tree=10) is None
    packing = pack(batch, hidden_size=64, cost_of_tree=0)  # which is faster than a mask, with nothing to save
    assert packing is not None
    assert packing.trees == [Tree(1, (15,))] * 4
    assert packing.visible is None


def test_trees_cost_their_calls() -> None:
    """12 and 20 tokens, H = 10: one row of 32 costs 32 (6 H + 64) = 3968, trees 6 H 32 + 2 (144 + 400 + 2 c)."""
    batch = collate([Encoded([1, 2], [7] * 10), Encoded([3, 4], [8] * 18)], pad_id=0)
    for cost, by_tree in ((239, True), (241, False)):  # equal at 240
        packing = pack(batch, hidden_size=10, multiple_of=1, cost_of_tree=cost)
        assert packing is not None
        assert packing.ids.shape == (1, 32)
        assert (packing.visible is None) == by_tree


def test_a_tree_is_in_parts_where_that_spares_more_than_its_calls_cost() -> None:
    """36 + 48 + 47 + 46 + 45 = 222 tokens that see 84 at most: 138 are spared 222 times, more than 4 x 1400 pairs. Two
    responses of 21 and 20 to 36 tokens spare 20 x 77 = 1540, less than 2 x 1400; two of 20 spare 1520, more than the
    1400 that responses of one length cost together; one spares nothing."""
    assert (Tree(36, (48, 47, 46, 45)).in_parts, Tree(36, (48, 47, 46, 45)).pairs) == (True, 222 * 84)
    assert (Tree(36, (21, 20)).in_parts, Tree(36, (21, 20)).pairs) == (False, 77 * 77)
    assert (Tree(36, (20, 20)).in_parts, Tree(36, (20, 20)).pairs) == (True, 76 * 56)
    assert (Tree(0, (5000,)).in_parts, Tree(0, (5000,)).pairs) == (False, 5000**2)


def test_a_tree_whose_scores_would_take_much_memory_is_fused() -> None:
    many, long = Tree(128, (128,) * 31), Tree(2000, (500,) * 8)
    assert (many.in_parts, many.is_fused(4096)) == (True, False)  # 4,096 x 256 scores
    assert (long.in_parts, long.is_fused(6000), long.pairs) == (False, True, 6000**2)  # 6,000 x 2,500
    assert (long.is_fused(44), long.is_fused(43)) == (True, False)  # 44 x 6,000 is more than 512 x 512


def test_a_tree_holds_all_responses_to_a_prompt() -> None:
    rows = [Encoded([5, 6], [i] * 30) for i in range(1, 33)]
    packing = pack(collate(rows, pad_id=0), hidden_size=32, cost_of_tree=0)
    assert packing is not None
    assert packing.trees == [Tree(2, (30,) * 32)]  # 962 tokens that see 32 at most


def test_a_group_is_split_where_attention_over_all_of_it_would_cost_more() -> None:
    rows = [Encoded([5, 6], [i] * 30) for i in range(1, 33)]  # 962 tokens as one tree
    packing = pack(collate(rows, pad_id=0, multiple_of=64), hidden_size=32)
    assert packing is not None
    assert packing.ids.shape[1] <= 128


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(
    "attention",
    ["eager", "sdpa", "eager by tree", "sdpa by tree", "by tree, of long ones fused", "eager by tree, in parts"],
)
@pytest.mark.parametrize("kind", PACKED)
def test_hidden_states_and_gradients_are_those_of_the_batch(
    kind: str, attention: str, side: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree_plans, "LONG", 10 if "long" in attention else 512)
    monkeypatch.setattr(tree_plans, "PART", 0 if "parts" in attention else 1400)
    model = make(kind, PACKED[kind], "eager" if "eager" in attention else "sdpa")
    assert can_pack(model)
    by_tree = "tree" in attention
    assert not by_tree or cost_of_tree(model) is not None
    batch = collate(ROWS, pad_id=0, side=side)
    mask = batch.attention_mask
    found = packed_hidden_states(model, packed(batch, by_tree=by_tree), mask)
    assert_same_pass(model, plain(model, batch)[mask], found, atol=1e-4)


READS = ["the last token", "what predicts a response", "one row's tokens", "tokens here and there"]


def some_tokens(batch: Batch, which: str) -> torch.Tensor:
    """The tokens with a hidden state that is read, (B, T) bool."""
    last = torch.where(batch.attention_mask, batch.position_ids, -1).argmax(-1)
    if which == "the last token":
        return torch.nn.functional.one_hot(last, batch.ids.shape[1]).bool()
    if which == "what predicts a response":
        return read_for(target_mask(batch, whole_sequence=False))
    if which == "one row's tokens":
        return batch.attention_mask & (torch.arange(len(batch.ids)) == 4)[:, None]
    return batch.attention_mask & (torch.arange(batch.ids.numel()).view_as(batch.ids) % 5 == 2)


@pytest.mark.parametrize("which", READS)
@pytest.mark.parametrize("attention", ["by row", "by tree", "by tree, in parts", "by tree, of long ones fused"])
@pytest.mark.parametrize("kind", ["gpt2", "llama", "deepseek_v3"])
def test_the_last_layer_attends_for_what_is_read(
    kind: str, attention: str, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same hidden states and gradients as of all tokens, from fewer queries."""
    monkeypatch.setattr(tree_plans, "LONG", 4 if "long" in attention else 512)
    monkeypatch.setattr(tree_plans, "PART", 0 if "parts" in attention else 1400)
    model = make(kind, PACKED[kind])
    batch = collate(ROWS, pad_id=0)
    assert can_leave_out(model)
    assert cost_of_tree(model) is not None
    packing = packed(batch, by_tree="tree" in attention)
    queries: list[int] = []
    for module, name in ((row_attention, "_attend"), (tree_attention, "_together")):
        function = getattr(module, name)

        def counted(query: torch.Tensor, *rest: Any, function: Any = function) -> Any:
            queries.append(query.shape[-2] * query.shape[:-3].numel())
            return function(query, *rest)

        monkeypatch.setattr(module, name, counted)
    read = some_tokens(batch, which)
    assert_same_pass(model, plain(model, batch)[read], packed_hidden_states(model, packing, read), atol=1e-4)
    first, last = queries
    assert first == packing.ids.numel()
    assert last < first


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["gpt2", "llama", "deepseek_v3"])
@torch.no_grad()
def test_weights_in_low_precision(kind: str, dtype: torch.dtype) -> None:
    """A small model attends by tree in float32, and goes on in its own precision."""
    model = make(kind, PACKED[kind]).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.25 if parameter.ndim > 1 else 1.0)
    rows = [Encoded([1] * 120, [2 + i] * (20 + i)) for i in range(16)]
    batch = collate(rows, pad_id=0)
    read = some_tokens(batch, "what predicts a response")
    assert cost_of_tree(model) is not None
    for by_tree in (True, False):
        found = packed_hidden_states(model, packed(batch, by_tree=by_tree), read)
        assert found.dtype == dtype
        assert close_states(found, plain(model, batch)[read])


@torch.no_grad()
def test_nothing_is_read() -> None:
    model = make("gpt2", PACKED["gpt2"])
    batch = collate(ROWS, pad_id=0)
    none = torch.zeros_like(batch.attention_mask)
    assert can_leave_out(model)
    assert cost_of_tree(model) is not None
    for by_tree in (True, False):
        assert packed_hidden_states(model, packed(batch, by_tree=by_tree), none).shape == (0, 32)


def test_dropout_is_left_to_the_model() -> None:
    """In training a model with dropout attends in its own way, by a mask."""
    model = make("gpt2", {**PACKED["gpt2"], "attn_pdrop": 0.5})
    batch = collate(ROWS, pad_id=0)
    assert cost_of_tree(model) is not None
    with torch.no_grad():
        before = hidden_states(model, batch, batch.attention_mask)
        model.train()
        assert cost_of_tree(model) is None
        assert not torch.equal(hidden_states(model, batch, batch.attention_mask), before)


def test_which_tokens_of_a_tree_attend(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tree in parts, 3 + 4 + 4 tokens that see 7 at most, and one that is not. Where 4 of the first are read, all
    from token 2 on in parts, 9 x 7 scores, cost more than these 4 with a mask, 4 x 11; where 8 are, less than 8 x 11.
    None from a response's middle: in parts a response attends as a whole, and its prompt is no query."""
    monkeypatch.setattr(tree_plans, "PART", 0)
    trees = [Tree(3, (4, 4)), Tree(2, (3,))]
    assert [tree.in_parts for tree in trees] == [True, False]

    def found(*places: int) -> list[list[int]]:
        queries, in_row = queries_of(trees, torch.tensor(places))
        assert in_row.tolist() == [*queries[0], *(11 + own for own in queries[1])]
        return [own.tolist() for own in queries]

    assert found(2, 5, 6, 10, 15) == [[2, 5, 6, 10], [4]]  # 11 to 15 are the second tree's
    assert found(2, 3, 4, 5, 7, 8, 9, 10) == [list(range(2, 11)), []]
    assert found(4, 5, 6, 7, 8, 9, 10) == [list(range(3, 11)), []]
    assert found(11, 12) == [[], [0, 1]]


@pytest.mark.parametrize("kind", NOT_PACKED)
def test_windows_states_and_masks_of_their_own_are_not_packed(kind: str) -> None:
    assert not can_pack(make(kind, NOT_PACKED[kind]))


def test_two_threads_attend_by_tree_and_as_ever_at_once() -> None:
    """Trees are known to the thread that has them; others see the model's own attention."""
    model = make("llama", PACKED["llama"])
    batch = collate(ROWS, pad_id=0)
    expected = plain(model, batch)
    packing = packed(batch, by_tree=True)
    assert cost_of_tree(model) is not None
    with attending_by_tree(model, packing.trees, packing.ids.numel()), ThreadPoolExecutor() as threads:
        found = threads.submit(plain, model, batch).result()
    assert torch.equal(found[batch.attention_mask], expected[batch.attention_mask])


def test_layers_that_are_computed_again_attend_as_they_did() -> None:
    """And leave out the same tokens of the last layer: the same gradients to the bit."""
    model = make("llama", PACKED["llama"])
    batch = collate(ROWS, pad_id=0)
    assert cost_of_tree(model) is not None
    gradients = []
    for again in (False, True):
        if again:
            checkpoint_layers(model, "sft")
        model.zero_grad()
        read = batch.response_mask
        packed_hidden_states(model, packed(batch, by_tree=True), read).sin().sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    for a, b in zip(*gradients, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("part", [0, 1400])
def test_the_backward_pass_keeps_the_precision_of_the_forward_pass(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether autocast is on meanwhile or not."""
    monkeypatch.setattr(tree_plans, "PART", part)
    model = make("gpt2", PACKED["gpt2"])
    packing = packed(collate(ROWS, pad_id=0), by_tree=True)
    gradients = []
    for autocast in (False, True):
        torch.manual_seed(0)
        query, key, value = (torch.randn(1, 4, packing.ids.numel(), 8).requires_grad_() for _ in range(3))
        with attending_by_tree(model, packing.trees, packing.ids.numel()):
            attention = replacement()
            assert attention is not None
            out = attention(None, query, key, value, 1.0)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            out.sin().sum().backward()
        gradients.append([x.grad for x in (query, key, value)])
    for a, b in zip(*gradients, strict=True):
        assert a is not None
        assert b is not None
        assert torch.equal(a, b)


def test_a_model_that_is_given_another_attention_attends_by_it() -> None:
    model = make("llama", PACKED["llama"])
    batch = collate(ROWS, pad_id=0)
    packing = packed(batch, by_tree=True)
    assert cost_of_tree(model) is not None
    model.set_attn_implementation("sdpa")
    assert cost_of_tree(model) is None
    found = packed_hidden_states(model, packing, batch.attention_mask)
    assert found.isnan().any()  # what attends to all tokens after all is seen


def test_scores_with_a_cap_do_not_attend_by_tree() -> None:
    model = make("gemma2", {**ROPE, "sliding_window": 8, "attn_logit_softcapping": 5.0})
    assert cost_of_tree(model) is None
    assert model.config._attn_implementation == "eager"


def test_an_architecture_that_ignores_the_mask_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make("llama", PACKED["llama"])
    forward = model.base_model.forward

    def without_mask(**arguments: Any) -> Any:
        return forward(**{**arguments, "attention_mask": None})

    monkeypatch.setattr(model.base_model, "forward", without_mask)
    assert not can_pack(model)
