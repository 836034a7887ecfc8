"""Batches side by side give what one after the other gives."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from rlhf_bench.modeling.models import load_policy
from rlhf_bench.modeling.reward_model import RewardModel
from rlhf_bench.modeling.sampling import SamplingConfig, sample
from rlhf_bench.runtime.pool import SMALL, Pool, worker_pool, workers_for
from rlhf_bench.types import Prompt, prompt_id
from tests.rlhf_bench.tiny import save_run

CPU = torch.device("cpu")
TEXTS = [f"\n\nHuman: {word}?\n\nAssistant:" for word in ("Blue", "Are you happy", "a", "How do I boil an egg", "why")]


@pytest.fixture(autouse=True)
def _threads_put_back() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_workers_change_neither_responses_nor_scores(tmp_path: Path) -> None:
    run = save_run(tmp_path)
    policy, tokenizer = load_policy(run / "sft", device=CPU)
    reward = RewardModel.load(run / "reward", device=CPU)
    prompts = [Prompt(prompt_id(text), text) for text in TEXTS]
    got = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        groups = sample(policy, tokenizer, prompts, SamplingConfig(max_new_tokens=8), samples=3, seed=1, batch_size=3)
        rows = [
            (prompt.text, completion.text)
            for prompt, group in zip(prompts, groups, strict=True)
            for completion in group
        ]
        scores = reward.score([p for p, _ in rows], [r for _, r in rows], batch_size=4)
        got.append((rows, scores))
        assert torch.get_num_threads() == threads
    assert got[0][0] == got[1][0]
    torch.testing.assert_close(got[0][1], got[1][1], rtol=1e-5, atol=1e-6)


def test_a_small_model_gets_a_worker_for_each_thread_and_a_large_one_does_not(tmp_path: Path) -> None:
    torch.set_num_threads(2)
    with workers_for(load_policy(save_run(tmp_path) / "sft", device=CPU)[0]) as pool:
        assert pool.workers == 2
        with worker_pool(1, CPU) as inner:  # the cores are taken
            assert inner.workers == 1
    with worker_pool(SMALL + 1, CPU) as pool:
        assert pool.workers == 1


def test_an_error_in_a_worker_is_the_callers_and_the_threads_are_put_back() -> None:
    torch.set_num_threads(2)

    def work(item: int) -> int:
        if item == 2:
            raise ValueError("row 2")
        return item

    with pytest.raises(ValueError, match="row 2"), worker_pool(1, CPU) as pool:
        pool.map(work, range(4))
    assert torch.get_num_threads() == 2


def test_a_stream_hands_over_each_result_as_it_comes() -> None:
    second = threading.Event()

    def work(item: int) -> int:
        if item == 1:
            assert second.wait(10)
        return item

    torch.set_num_threads(2)
    with worker_pool(1, CPU) as pool:
        results = pool.stream(work, range(2))
        assert next(results) == 0  # while the other is still at work
        second.set()
        assert list(results) == [1]
    assert list(Pool(None, 1).stream(work, [0])) == [0]


def test_one_batch_at_a_time_has_all_threads_while_it_lasts() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with worker_pool(SMALL, torch.device("cpu")) as pool:
            assert (torch.get_num_threads(), pool.workers) == (1, 3)
            with pool.one_at_a_time() as alone:
                assert (torch.get_num_threads(), alone.workers) == (3, 1)
                assert alone.map(lambda _: threading.get_ident(), range(4)) == [threading.get_ident()] * 4
            assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
