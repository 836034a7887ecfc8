"""Response files beside each other and beside a suite's data: the prompts that all answer; what differs is logged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from rlhf_bench.data.pairs import row_numbers
from rlhf_bench.data.responses import Answers, ResponseFile, read_responses
from rlhf_bench.errors import DataError
from rlhf_bench.evaluate.request import Request
from rlhf_bench.progress import Progress
from rlhf_bench.types import Item, PreferencePair

T = TypeVar("T", PreferencePair, Item)


@dataclass(frozen=True)
class ResponseFiles:
    """Every response file of an evaluation; each model under the name that the tables give it."""

    files: list[ResponseFile]

    @property
    def models(self) -> list[Answers]:
        return [answers for file in self.files for answers in file.models]

    @property
    def names(self) -> list[str]:
        """Each file's models, once a file: a name in two files is there twice."""
        return [name for file in self.files for name in dict.fromkeys(a.model or "" for a in file.models)]

    @property
    def seeds(self) -> list[int]:
        """The seeds of training that the files know of; none where each model has one seed in its file."""
        return sorted({a.seed for a in self.models if a.seed is not None})

    @property
    def carried(self) -> list[str]:
        """What responses carry besides their answers."""
        return [line for file in self.files for line in file.carried]

    @property
    def left_out(self) -> dict[str, int]:
        """Rows that could not be used, by file; no entry where all could."""
        return {str(file.path): file.left_out for file in self.files if file.left_out}

    def under(self, seed: int) -> list[tuple[Path, Answers]]:
        """Each model's responses under a seed. A model that has them under one seed, or none, has these under all."""
        found = []
        for file in self.files:
            for answers in file.models:
                alone = sum(other.model == answers.model for other in file.models) == 1
                if alone or answers.seed == seed:
                    found.append((file.path, answers))
        return found

    @property
    def shared(self) -> set[str]:
        """Prompts that every model of every file answers."""
        return set.intersection(*(set(answers.by_prompt) for answers in self.models))


def read_files(request: Request, progress: Progress) -> ResponseFiles:
    """Read every response file. Raises DataError for one that cannot be used."""
    files = []
    for name, given in request.responses:
        file = read_responses(Path(given), columns=request.columns, skip_bad=request.skip_bad, stripped=request.strip)
        for note in file.notes:
            progress.log(note)
        inside = dict.fromkeys(answers.model for answers in file.models)
        called = {model: _name(name, model, Path(given), len(inside)) for model in inside}
        files.append(replace(file, models=[replace(a, model=called[a.model]) for a in file.models]))
    return ResponseFiles(files)


def _name(given: str | None, inside: str | None, path: Path, n: int) -> str:
    """NAME, NAME-<model> where a file holds several, and without a NAME the name in the file, or the file's own."""
    if given is None:
        return inside or path.name.split(".")[0]
    return given if n == 1 else f"{given}-{inside or 'unnamed'}"


def files_items(files: ResponseFiles, progress: Progress) -> list[Item]:
    """The prompts that all files share, each with the first reference text that a file has for it.

    Raises DataError if there is none.
    """
    shared = files.shared
    for file in files.files:
        _log_differing(file, shared, "the other files", progress)
    if not shared:
        raise DataError(
            f"{', '.join(str(file.path) for file in files.files)} have no prompt in common; expected responses to the "
            "same prompts: evaluate them one by one, or give files that answer the same prompts"
        )
    references: dict[str, str] = {}
    for file in files.files:
        other = [p for p, text in file.references.items() if p in shared and references.setdefault(p, text) != text]
        if other:
            rows = row_numbers(sorted(file.rows[prompt] for prompt in other))
            progress.log(
                f"{file.path}: {len(other):,} prompts have another reference text than in an earlier file "
                f"({rows}); each response is compared with its own"
            )
    order = [prompt for prompt in files.files[0].rows if prompt in shared]
    return [Item(prompt, references.get(prompt)) for prompt in order]


def match(pairs: Sequence[T], files: ResponseFiles, progress: Progress) -> list[T]:
    """The pairs, or prompts, that every response file answers; all of them where there is no file.

    Raises DataError if there is none.
    """
    if not files.files:
        return list(pairs)
    prompts, shared = {pair.prompt for pair in pairs}, files.shared
    kept = [pair for pair in pairs if pair.prompt in shared]
    for file in files.files:
        _log_differing(file, prompts, "the data", progress)
    if not kept:
        raise DataError(
            f"none of the {len(prompts):,} prompts of the data is answered in "
            f"{', '.join(str(file.path) for file in files.files)}; give responses to these prompts, or leave out --run "
            "and --data to evaluate on the files' own"
        )
    left = len(prompts) - len({pair.prompt for pair in kept})
    if left:
        progress.log(f"{left:,} of the data's {len(prompts):,} prompts have no response in every file: left out")
    return kept


def _log_differing(file: ResponseFile, prompts: set[str], where: str, progress: Progress) -> None:
    differing = [prompt for prompt in file.rows if prompt not in prompts]
    if differing:
        progress.log(
            f"{file.path}: {len(differing):,} of its {len(file.rows):,} prompts are not among those of {where} "
            f"({row_numbers(sorted(file.rows[prompt] for prompt in differing))}): left out"
        )
