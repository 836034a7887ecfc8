"""What must hold exactly on any checkpoint, measured: common mistakes of RLHF code, on the user's own model.

Each check is a function of the model alone and returns what it measured beside its bound. The bounds are for float32:
rounding moves a log-probability by some 1e-6 to 1e-5, the mistakes by whole nats.
"""

from __future__ import annotations

from pathlib import Path

from rlhf_bench.modeling.checkpoints import find_run, model_hash, open_checkpoint, run_seeds, stage_path
from rlhf_bench.modeling.models import load_policy
from rlhf_bench.modeling.reward_model import RewardModel
from rlhf_bench.progress import Progress
from rlhf_bench.selftest.checks import PolicyUnderTest, check_policy, check_reward
from rlhf_bench.selftest.common import TOLERANCE, Check

__all__ = ["TOLERANCE", "Check", "PolicyUnderTest", "check_policy", "check_reward", "selftest"]


def selftest(
    model: str | None = None,
    run: str = "default",
    *,
    checkpoints: Path = Path("checkpoints"),
    progress: Progress | None = None,
) -> list[Check]:
    """Every check on `model`, a folder or a hub model, or on the run's sft; its reward model too where the run has one.

    A check that cannot be carried out has failed, and says why. Raises UnknownName, CheckpointError or
    ModelError where there is nothing to check.
    """
    reward = None
    if model is None:
        folder = find_run(checkpoints, run)
        seed = run_seeds(folder)[0]
        path: str | Path = open_checkpoint(stage_path(folder, "sft", seed)).path
        reward = stage_path(folder, "reward", seed)
    else:
        path = model
        if any((Path(model) / name).exists() for name in ("config.json", "adapter_config.json")):
            model_hash(model)  # a damaged file is named
    subject = PolicyUnderTest(*load_policy(path), path)
    checks = list(check_policy(subject, progress))
    if reward is not None and reward.is_dir():
        found = RewardModel.load(open_checkpoint(reward).path)
        checks += check_reward(found, reward, progress)
    return checks
