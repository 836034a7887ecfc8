"""A run's checkpoints as models on the Hugging Face hub: one repository a checkpoint, with a card of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rlhf_bench.errors import BadValue, CheckpointError, HubError, StoreError
from rlhf_bench.hub import hub_answers
from rlhf_bench.modeling.checkpoints import open_checkpoint, read_training, run_seeds, stage_path
from rlhf_bench.report.model_card import Evaluated, model_card
from rlhf_bench.store import ResultStore, find_results
from rlhf_bench.types import STAGES, Estimate

CARD = "README.md"
SHOWN = ("reward_z", "reward", "gold", "kl_exact", "kl_k1", "rouge1", "rouge2", "rougeL", "n_tokens", "ended",
         "perplexity")  # fmt: skip


class Upload(NamedTuple):
    repo: str  # ORG/NAME
    folder: Path
    files: list[str]  # of the folder, without the card
    card: str

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum((self.folder / name).stat().st_size for name in self.files) + len(self.card.encode())


def plan_uploads(run: Path, to: str, *, stages: Sequence[str], results: Path) -> list[Upload]:
    """What would be uploaded of `run`: each of `stages` (none: all that are there) under each seed, checked.

    The card holds what the results of the same weights say.

    Raises:
        BadValue: `to` is no ORG/NAME.
        CheckpointError: a stage that is not there, damaged or stale.
    """
    if not re.fullmatch(r"[\w][\w.-]*/[\w][\w.-]*", to) or "--" in to or ".." in to:
        raise BadValue(f"--to: given {to!r}, expected ORG/NAME, such as my-organisation/hh-mini")
    found = []
    for seed in run_seeds(run):
        for stage in stages or STAGES:
            folder = stage_path(run, stage, seed)
            if not stages and read_training(folder) is None:
                continue
            checkpoint = open_checkpoint(folder)
            repo = f"{to}-{stage}" + ("" if seed is None else f"-seed-{seed}")
            files = sorted(p.name for p in folder.iterdir() if p.is_file() and p.name != CARD and p.name[0] != ".")
            evaluated = list(_evaluations(results, stage, checkpoint.seed, checkpoint.hash))
            found.append(Upload(repo, folder, files, model_card(checkpoint.training, name=repo, evaluated=evaluated)))
    if not found:
        raise CheckpointError(f"{run} holds no checkpoint; make them with: rlhf-bench train all --run {run.name}")
    return found


def _evaluations(results: Path, stage: str, seed: int, checkpoint: str) -> Iterator[Evaluated]:
    """What the stored results say of a checkpoint with this hash, under its own seed."""
    for folder in find_results(results):
        store = ResultStore(folder)
        try:
            manifest, metrics = store.read_manifest(), store.read_metrics()
        except StoreError:
            continue  # of an evaluation that was interrupted
        entries: Sequence[Mapping[str, Any]] = manifest.get("models", {}).get(stage, [])
        numbers = metrics.get("per_seed", {}).get(str(seed), {}).get(stage)
        if numbers and any(entry.get("hash") == checkpoint for entry in entries):
            data = manifest["data"]
            known = {name: Estimate.from_dict(numbers[name]) for name in SHOWN if name in numbers}
            yield Evaluated(
                str(manifest["suite"]), str(data["source"]), str(data["split"]), int(data["n_prompts"]),
                str(manifest["reference"]), known, folder.relative_to(results).as_posix(),
            )  # fmt: skip


def upload(planned: Upload, *, private: bool) -> str:
    """Creates the repository where it is not there, and uploads all files in one commit; returns its address.

    The token is the one that huggingface_hub finds (HF_TOKEN, or `hf auth login`); it is never printed or stored.

    Raises:
        HubError: no token, no right to write, or no hub to be reached.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token

    api = HfApi()
    operations = [
        CommitOperationAdd(path_in_repo=name, path_or_fileobj=planned.folder / name) for name in planned.files
    ]  # fmt: skip
    operations.append(CommitOperationAdd(path_in_repo=CARD, path_or_fileobj=planned.card.encode()))
    token = get_token()
    if not token:
        raise HubError("no token for the hub; expected one in HF_TOKEN, or log in with: hf auth login")
    if not hub_answers():
        raise HubError("the hub cannot be reached (no network, or HF_HUB_OFFLINE is set); nothing was uploaded")
    try:
        address = api.create_repo(planned.repo, private=private, exist_ok=True)
        api.create_commit(planned.repo, operations, commit_message="Uploaded by rlhf-bench")
    except Exception as error:  # HTTP, connection, offline mode, validation: all end in one line
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(". ")
        raise HubError(
            f"{planned.repo} cannot be written: {reason.replace(token, '***')}; check the network, the name and that "
            "the token may write there, then run the same command again"
        ) from None  # the traceback of a request would show its headers
    return str(address)
