"""A stage interrupted at any moment continues to the same weights, bit for bit, as if it had been left alone.

One run is trained in seven processes: base is stopped by SIGINT, then by SIGKILL from outside; every later stage is
killed by SIGKILL at the worst moment (the row of its step is in the log, its state is not saved), and of one the newest
state is cut. Random moments are in test_kills.py. It is compared with a run that was left alone. Both have two threads,
so that micro-batches go side by side.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from rlhf_bench.errors import Interrupted, NotFinite
from rlhf_bench.types import STAGES
from trainers.config.recipe import BaseConfig, Recipe
from trainers.engine.loop import HeldOut, Loop
from trainers.engine.optim import make_optimizer
from trainers.engine.stage import Trained

from ..several import Launcher
from .conftest import stage_in
from .killing import Training, pairs_file, same_bits

BASE_STEPS = 25  # enough to be stopped from outside while it runs
STEPS = 3  # of each later stage


class Runs(NamedTuple):
    alone: Path
    killed: Path
    ends: dict[str, tuple[int, str]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, launch: Launcher) -> Runs:
    root = tmp_path_factory.mktemp("resume")
    killed, ends = root / "killed", {}
    settings = {f"{stage}.max_steps": STEPS for stage in ("sft", "reward", "dpo")}
    settings |= {f"{stage}.steps": STEPS for stage in ("ppo", "grpo")}
    train = Training(launch, root, pairs_file(root), {**settings, "base.max_steps": BASE_STEPS, "base.epochs": 3})
    assert train.run("alone", 1000)[0] == 0  # saves no state at all
    ends["SIGINT"] = train.run("killed", 0, stop=(signal.SIGINT, 3))
    ends["base"] = train.run("killed", 0, stop=(signal.SIGKILL, 8))
    for stage in STAGES[1:]:
        ends[stage] = train.run("killed", 0, at=(stage, 2))
        if stage == "reward":
            _cut_newest_state(killed / ".reward.work", keep=1)
    ends["last"] = train.run("killed", 0)
    return Runs(root / "alone", killed, ends)


def _cut_newest_state(work: Path, *, keep: int) -> None:
    """Half of the newest state is lost."""
    states = sorted(work.glob("state-*.pt"), key=lambda path: path.stat().st_mtime_ns)
    assert len(states) == keep, states
    states[-1].write_bytes(states[-1].read_bytes()[: states[-1].stat().st_size // 2])


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_stage_ends_with_the_same_bits(runs: Runs, stage: str) -> None:
    same_bits(runs.alone / stage, runs.killed / stage)


@pytest.mark.slow
def test_each_stage_was_killed_and_continued(runs: Runs) -> None:
    """Without this, the test above would hold of a run that nothing had happened to."""
    for stage in STAGES:
        assert runs.ends[stage][0] == -signal.SIGKILL, runs.ends[stage][1]
    assert runs.ends["last"][0] == 0
    after_kill = {
        stage: runs.ends[following][1] for stage, following in zip(STAGES, [*STAGES[1:], "last"], strict=True)
    }
    for stage in STAGES:
        if stage == "base":
            continue
        # killed at the row of step 2: the state is that of step 1; that of reward was cut, so it begins again
        continues = f"{stage}: continues after step 1 of {STEPS}"
        assert (continues in after_kill[stage]) == (stage != "reward"), after_kill[stage]
    assert "base: continues after step " in after_kill["base"]
    assert not list(runs.killed.glob(".*.work"))


@pytest.mark.slow
def test_ctrl_c_says_what_is_kept_and_how_to_go_on(runs: Runs) -> None:
    status, errors = runs.ends["SIGINT"]
    assert status == 130
    last = errors.splitlines()[-1]
    assert last.startswith("interrupted: base: interrupted after step ")
    assert last.endswith(f" of {BASE_STEPS}, which is kept; the same command continues from there")
    step = int(last.split("after step ")[1].split()[0])
    assert 3 <= step < BASE_STEPS
    assert "Traceback" not in errors
    assert f"base: continues after step {step} of {BASE_STEPS}" in runs.ends["base"][1]


# --- the loop alone --------------------------------------------------------------------------------------------------


class Small:
    """A stage of six steps on four numbers, whose steps depend on the weights, the optimiser's state and a scalar."""

    def __init__(self, work: Path, *, evaluate: Callable[[nn.Linear], float] | None = None, **config: Any) -> None:
        self.model = nn.Linear(2, 2)
        with torch.no_grad():
            self.model.weight.copy_(torch.tensor([[0.1, 0.2], [0.3, 0.4]]))
            self.model.bias.zero_()
        settings = BaseConfig(eval_every=1, schedule="constant", warmup_ratio=0, **config)
        self.optimizer = make_optimizer(settings, [(self.model.named_parameters(), 0.05)])

        def numbers() -> dict[str, float]:
            return {"eval_loss": evaluate(self.model) if evaluate else 0.0}

        stage = stage_in(work, "base", Recipe(save_seconds=0, base=settings))
        stage.folders = stage.folders._replace(work=work)
        trained: Any = Trained(self.model, None)  # type: ignore[arg-type]
        self.loop = Loop(stage, 6, trained, self.optimizer, HeldOut(numbers) if evaluate else None)
        self.loop.scalars = {"coefficient": 1.0}

    def run(self, *, stop: int | None = None, how: Callable[[], None] | None = None) -> list[int]:
        """The steps that were taken; in step `stop` (from 1) `how` happens, by default as SIGKILL would have it."""
        steps = []
        for step in self.loop:
            steps.append(step + 1)
            if step + 1 == stop and how is None:
                break
            x = torch.tensor([[1.0, float(step)]])
            loss = (self.model(x) ** 2).sum() * self.loop.scalars["coefficient"]
            loss.backward()
            self.loop.log({"loss": loss.item()}, samples=1, tokens=2)
            self.optimizer.step(where="small")
            self.loop.scalars["coefficient"] *= 0.9
            if step + 1 == stop and how is not None:
                how()
        return steps

    def state(self) -> tuple[list[float], list[dict[str, Any]], int, int, dict[str, float]]:
        rows = [{k: v for k, v in row.items() if k != "seconds"} for row in self.loop.files.rows()]
        numbers = [*self.model.weight.flatten().tolist(), *self.model.bias.tolist()]
        return numbers, rows, self.loop.samples, self.loop.tokens, self.loop.final


@pytest.fixture
def left_alone(tmp_path: Path) -> Small:
    small = Small(tmp_path / "alone")
    assert small.run() == [1, 2, 3, 4, 5, 6]
    return small


@pytest.mark.parametrize("stop", [1, 2, 4, 6])
def test_a_loop_goes_on_where_its_last_state_was_saved(left_alone: Small, tmp_path: Path, stop: int) -> None:
    assert Small(tmp_path / "work").run(stop=stop)[-1] == stop
    again = Small(tmp_path / "work")
    assert again.run() == list(range(stop, 7))
    assert again.state() == left_alone.state()


def test_a_state_that_was_cut_is_ignored_and_the_one_before_it_used(left_alone: Small, tmp_path: Path) -> None:
    Small(tmp_path / "work").run(stop=5)
    _cut_newest_state(tmp_path / "work", keep=2)
    again = Small(tmp_path / "work")
    assert again.run() == [4, 5, 6]
    assert again.state() == left_alone.state()


@pytest.mark.parametrize("damage", [b"", b"short", b"x" * 5000])
def test_without_any_sound_state_a_loop_begins_again(left_alone: Small, tmp_path: Path, damage: bytes) -> None:
    Small(tmp_path / "work").run(stop=5)
    for path in (tmp_path / "work").glob("state-*.pt"):
        path.write_bytes(damage)
    again = Small(tmp_path / "work")
    assert again.run() == [1, 2, 3, 4, 5, 6]
    assert again.state() == left_alone.state()


def test_the_best_is_kept_across_an_interruption(tmp_path: Path) -> None:
    """Evaluations 5, 3, 4, 6, 3, 7: the least is first reached after step 2, before the interruption."""
    values = {1: 5.0, 2: 3.0, 3: 4.0, 4: 6.0, 5: 3.0, 6: 7.0}

    def small(name: str) -> Small:
        made: list[Small] = []
        made.append(Small(tmp_path / name, evaluate=lambda _: values[made[0].loop.step], keep="best"))
        return made[0]

    whole, first, second = small("whole"), small("work"), small("work")
    whole.run()
    after_two = Small(tmp_path / "two")
    after_two.run(stop=3)
    assert whole.state()[0] == after_two.state()[0]
    assert whole.loop.final == {"eval_loss": 3.0, "best_step": 2.0}
    first.run(stop=5)
    second.run()
    assert second.state() == whole.state()


def total(model: nn.Linear) -> float:
    return float(model.weight.detach().sum())


@pytest.mark.parametrize("step", [1, 3, 6])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_step_finish(tmp_path: Path, step: int, number: signal.Signals) -> None:
    """In the last step too: what comes after it would have been the next stage."""
    whole = Small(tmp_path / "alone", evaluate=total)
    whole.run()
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    small = Small(tmp_path / "work", evaluate=total)
    with pytest.raises(Interrupted, match=f"base: interrupted after step {step} of 6, which is kept; the same"):
        small.run(stop=step, how=lambda: os.kill(os.getpid(), number))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    again = Small(tmp_path / "work", evaluate=total)
    assert again.run() == list(range(step + 1, 7))
    assert again.state() == whole.state()


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    small = Small(tmp_path)

    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as stopped:
        small.run(stop=3, how=twice)
    assert not isinstance(stopped.value, Interrupted)
    assert Small(tmp_path).run() == [3, 4, 5, 6]


def test_a_number_that_is_not_finite_stops_at_its_step(tmp_path: Path) -> None:
    small = Small(tmp_path / "a")
    with pytest.raises(NotFinite, match=r"^base, step 4 of 6: loss is nan; .*--no-resume$"):
        small.run(stop=4, how=lambda: small.loop.log({"loss": float("nan")}))
    assert Small(tmp_path / "a").run() == [4, 5, 6]  # the state of step 3 is kept
    # an evaluation belongs to the step before it
    small = Small(tmp_path / "b", evaluate=lambda model: float("inf"))
    with pytest.raises(NotFinite, match=r"^base, step 1 of 6: eval_loss is inf; "):
        small.run()
