"""What is evaluated: enough to repeat it, and to see without loading a model that it is stored already."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from rlhf_bench import __version__
from rlhf_bench.config import Config, load_config, overridden
from rlhf_bench.errors import BadValue, BenchError, StoreError
from rlhf_bench.evaluate.sources import server_model
from rlhf_bench.evaluate.suite import Suite, load_suite, suite_path
from rlhf_bench.files import json_text
from rlhf_bench.modeling.adapters import adapter_base
from rlhf_bench.modeling.checkpoints import check_run, run_seeds, stage_path
from rlhf_bench.modeling.folders import json_entry
from rlhf_bench.types import STAGES, stable_hash

DEFAULT_RUN = "default"
DEFAULT_SUITE = "hh-test"
NO_RUN_SUITE = "responses"
SEED = "{seed}"  # in a model's path: the number of each seed


class Request(Config):
    """One evaluation: the options of the command, the arguments of `evaluate`, and what a manifest stores."""

    suite: str
    """name of a suite, or its YAML file or folder"""
    run: str | None = None
    """the trained run that takes part; null: none"""
    models: dict[str, str] = Field(default_factory=dict)
    """name -> path or hub name of a causal language model, or server:MODEL, which may end in ,weights=PATH; {seed} in a
    path is the number of each of the run's seeds"""
    base_url: str | None = None
    """the server of the models of a server; null: that of OPENAI_BASE_URL"""
    templates: dict[str, str] = Field(default_factory=dict)
    """name of one of models or perplexity_models -> its prompt template; else that of its training.json, else hh"""
    responses: tuple[tuple[str | None, str], ...] = ()
    """(name, file) each; without a name the models are called as in the file"""
    columns: dict[str, str] = Field(default_factory=dict)
    """prompt, response, reference, model -> the columns of the response files, where they are not recognised"""
    skip_bad: bool = False
    """leave out rows of response files and data that cannot be used"""
    strip: tuple[str, ...] = ()
    """prompt, think, special: what is taken out of the texts of response files"""
    reference: str | None = None
    """the model that KL is taken to and rewards are standardised by; null: the suite's, or the first given"""
    reward_models: dict[str, str] = Field(default_factory=dict)
    """name -> path; the first is `reward` in every table, others are shown beside it; none: the run's own"""
    perplexity_models: dict[str, str] = Field(default_factory=dict)
    """name -> path or hub name of a causal language model that scores every response, of files too"""
    data: str | None = None
    """data source of the prompts; null: what the run was trained on"""
    split: str | None = None
    """of the data; null: the suite's, or every pair of a file that the run was not trained on"""
    limit: int | None = None
    """prompts at most"""
    samples: int | None = None
    """responses a prompt; null: as in the suite"""
    best_of_n: int | None = None
    """responses of the reference to each prompt, of which the reward model chooses the best of n; 0: none"""
    frontier: int | None = None
    """responses of the reference to each prompt, from which the optimal frontier is estimated; 0: none"""
    seed: int | None = None
    """seed of the choice of prompts, of sampling and of resampling; null: the suite's"""
    settings: tuple[str, ...] = ()
    """key=value in place of what the suite has, such as prompts=null or wording=natural"""
    checkpoints: Path = Path("checkpoints")
    """the folder of all trained runs"""
    judge: dict[str, str] = Field(default_factory=dict)
    """name, and base_url of a server's: the judge of the responses at the end"""

    @classmethod
    def of(cls, suite: str | None, run: str | None = None, **fields: Any) -> Request:
        """A request with the defaults of suite and run, which depend on what else is given.

        The run `default` takes part unless models bring their own data, texts their own prompts, or the suite both;
        without a run and data the prompts are those of the response files.

        Raises UnknownName for a field that a request does not have, BadValue for a value that it cannot have.
        """
        request = load_config(cls, {**fields, "suite": suite or DEFAULT_SUITE}, ())
        own = suite is not None and request.spec.own_prompts is not None
        elsewhere = request.responses or (request.models and (request.data or own))
        if run is not None:
            check_run(run)
        elif not elsewhere:
            run = DEFAULT_RUN
        from_files = request.responses and not run and not request.data
        if from_files and not request.models:
            _check_sampling_unset(request)
        if not request.responses:
            for option, value in (("--columns", request.columns), ("--strip", request.strip)):
                if value:
                    raise BadValue(f"{option}: given without --responses, the files that it is about")
        unknown = sorted(set(request.templates) - {*request.models, *request.reward_models, *request.perplexity_models})
        if unknown:
            raise BadValue(
                f"--prompt-template {unknown[0]}=...: no --model, --reward-model or --perplexity-model has that name; "
                f"give --model {unknown[0]}=PATH"
            )
        suite = suite or (NO_RUN_SUITE if from_files else DEFAULT_SUITE)
        return load_config(cls, {**request.to_dict(), "suite": suite, "run": run}, ())

    @functools.cached_property
    def spec(self) -> Suite:
        """The suite, with what the request changes of it. Raises UnknownName, BadValue."""
        changes = {
            "prompts": self.limit, "samples": self.samples, "seed": self.seed, "reference": self.reference,
            "data": self.data, "split": self.split, "best_of_n": self.best_of_n,
            "frontier": self.frontier,
        }  # fmt: skip
        suite = load_suite(self.suite, self.settings)
        for key in overridden(self.settings):
            if changes.get(key) is not None:
                option = "--limit" if key == "prompts" else f"--{key.replace('_', '-')}"
                raise BadValue(f"--set {key}: given with {option}, which sets the same; expected one of the two")
        if self.best_of_n is not None or self.frontier is not None:
            suite = suite.model_copy(update={"pool_prompts": None})
        if self.data is not None and suite.own_prompts is not None:
            raise BadValue(
                f"--data: given {self.data!r}, but the suite {self.suite} has prompts of its own; leave it out, or "
                "take the suite hh-test"
            )
        given = {key: value for key, value in changes.items() if value is not None}
        return load_config(Suite, {**suite.model_dump(mode="json"), **given}, ())

    @property
    def label(self) -> str:
        """Name of the results folder: the run, else what was given."""
        names = self.run or "+".join([*self.models, *(name or Path(file).stem for name, file in self.responses)])
        return "".join(c if c.isalnum() or c in "-_+." else "-" for c in names)[:60].strip(".") or "given"

    def to_dict(self) -> dict[str, Any]:
        return self.model_dump(mode="json")

    def stamp(self) -> str:
        """Hash of the request and of name, size and time of each file that it depends on: equal, so is the result.

        A name on the hub is hashed as it is. Nothing is read but folders and the suite.
        """
        run = self.checkpoints / self.run if self.run else None
        seeds = run_seeds(run) if run is not None else [None]
        given = [(server_model(path) or (None, path))[1] for path in self.models.values()]
        models = [under_seed(path, seed) for path in given if path is not None for seed in seeds]
        readers = self.perplexity_models.values()
        paths = [*models, *self.reward_models.values(), *readers, *(file for _, file in self.responses)]
        paths += [base for path in (*models, *readers) if (base := adapter_base(path))]
        paths += [self.spec.data] if self.spec.data else []
        if self.spec.own_prompts is not None:
            beside = suite_path(self.suite).parent
            paths += [str(path) for path in sorted(beside.glob(self.spec.own_prompts.replace("{wording}", "*")))]
        files = {path: list(_files(Path(path))) for path in dict.fromkeys(paths)}
        if run is not None:
            for seed in seeds:
                files |= {
                    str(folder): list(_files(folder))
                    for stage in STAGES
                    if (folder := stage_path(run, stage, seed)).is_dir()
                }
            files |= {source: list(_files(Path(source))) for source in _data_of(run)}
        request = {**self.to_dict(), "suite": [self.suite, self.spec.model_dump(mode="json")]}
        del request["judge"]  # its verdicts have a place of their own
        return stable_hash(__version__, json_text(request), json_text(files))


def _check_sampling_unset(request: Request) -> None:
    """Raise BadValue where response files alone are evaluated, with an option that decides nothing of them."""
    given = {
        "--split": request.split, "--samples": request.samples, "--best-of-n": request.best_of_n,
        "--frontier": request.frontier,
    }  # fmt: skip
    for option in (option for option, value in given.items() if value is not None):
        raise BadValue(
            f"{option}: given with response files alone, of which every row counts and nothing is sampled; leave it "
            "out, or give --run, --model or --data"
        )


def under_seed(path: str, seed: int | None) -> str:
    """A model's path with the seed's number in the place of `{seed}`; without a number, as it is."""
    return path if seed is None else path.replace(SEED, str(seed))


def _files(path: Path) -> Iterator[tuple[str, int, int]]:
    """(name, bytes, nanoseconds) of a file, or of every file of a folder; nothing for a hub name."""
    inside = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path] if path.is_file() else []
    for file in inside:
        stat = file.stat()
        yield file.relative_to(path).as_posix(), stat.st_size, stat.st_mtime_ns


def _data_of(run: Path) -> set[str]:
    """The data sources that a run's stages were trained on, as their training.json names them."""
    sources = (json_entry(file, "data", "source") for file in run.glob("**/training.json"))
    return {str(source) for source in sources if source is not None}  # `prepare` reports what is wrong with a file


def read_request(manifest: Path) -> tuple[Request, str]:
    """The request of a manifest.json, and the key of its numbers.

    Raises StoreError where the file is missing, broken or without a request, or is of another version of the suite.
    """
    file = manifest / "manifest.json" if manifest.is_dir() else manifest
    try:
        stored = json.loads(file.read_bytes())
        request = load_config(Request, stored["request"], ())
        key, version = str(stored["key"]), int(stored["suite_version"])
    except OSError as error:
        raise StoreError(f"{file} cannot be read ({error.strerror}); give a result's manifest.json") from error
    except (ValueError, KeyError, TypeError, BenchError) as error:
        raise StoreError(f"{file} has no request; expected a manifest.json of rlhf-bench eval") from error
    here = request.spec.version
    if version != here:
        then = "evaluate what is there now, without --from" if version < here else "use the rlhf-bench that made it"
        raise StoreError(
            f"{file} is of version {version} of the suite {request.suite}, and here is version {here}, which gives "
            f"other numbers; {then}"
        )
    return request, key
