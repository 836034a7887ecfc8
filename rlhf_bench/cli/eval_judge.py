"""The judge run at the end of `rlhf-bench eval`: its options, what is checked before the evaluation, and the run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rlhf_bench.cli.base import COUNT, with_options
from rlhf_bench.cli.judge_options import ledger_path
from rlhf_bench.errors import BadValue

if TYPE_CHECKING:
    from rlhf_bench.progress import Progress

judge_options = with_options(
    click.option(
        "--judge",
        metavar="NAME",
        help="Win rates against the suite's baseline, else the reference, by this judge: a model of a server, or "
        "reward, gold, length or random.",
    ),
    click.option(
        "--base-url",
        metavar="URL",
        help="The OpenAI-compatible server of --judge, and of --model NAME=server:MODEL.  [default: "
        "OPENAI_BASE_URL; for --judge else OpenAI's]",
    ),
    click.option(
        "--max-cost",
        metavar="USD",
        help="The most that --judge, and each --model NAME=server:MODEL, may cost over all runs; 0: no call.",
    ),
    click.option(
        "--max-calls",
        type=COUNT,
        help="The most calls that --judge, and each --model of a server, may be charged for; the judge needs it if "
        "its price is not known.",
    ),
)


@dataclass(frozen=True)
class EvalJudge:
    """Who judges the evaluation, and within which limits."""

    name: str
    base_url: str | None
    max_cost: str | None
    max_calls: int | None

    @classmethod
    def of(
        cls, name: str | None, *, base_url: str | None, max_cost: str | None, max_calls: int | None
    ) -> EvalJudge | None:
        """The judge, checked before anything is evaluated; None without --judge.

        Raises:
            BadValue, JudgeError: a limit without a judge, and what `judge run` would not start with.
        """
        if name is None:
            given = {"--base-url": base_url, "--max-cost": max_cost, "--max-calls": max_calls}
            for option in (option for option, value in given.items() if value is not None):
                raise BadValue(f"{option}: given without --judge, which it is about")
            return None

        from rlhf_bench.judge.client.budget import load_prices
        from rlhf_bench.judge.client.endpoint import api_key, canonical_url
        from rlhf_bench.judge.forms.builtin import BUILTIN
        from rlhf_bench.judge.run import cap_of

        if name not in BUILTIN:
            url = canonical_url(base_url)
            if 0 not in cap_of(name, url, load_prices().find(name, url), max_cost, max_calls):
                api_key(url)
        return cls(name, base_url, max_cost, max_calls)

    @classmethod
    def again(cls, stored: Mapping[str, str], progress: Progress) -> EvalJudge | None:
        """The judge that a manifest's evaluation ended with, if it is built in; of a server's the options are logged.

        Calls may cost, and a file alone is no permission to spend.
        """
        name, url = stored.get("name"), stored.get("base_url")
        if name is None:
            return None
        from rlhf_bench.judge.forms.builtin import BUILTIN

        if name in BUILTIN:
            return cls(name, None, None, None)
        options = shlex.join(["--judge", name, *(["--base-url", url] if url else [])])
        progress.log(
            f"the judge of that evaluation does not judge again, since its calls may cost; to run it add: {options} "
            "and --max-cost USD or --max-calls N"
        )
        return None

    @property
    def manifest_entry(self) -> dict[str, str]:
        """What a manifest holds of it: its name and server, but no limit, which is given each time."""
        from rlhf_bench.judge.client.endpoint import canonical_url
        from rlhf_bench.judge.forms.builtin import BUILTIN

        return {"name": self.name} | ({} if self.name in BUILTIN else {"base_url": canonical_url(self.base_url)})

    def judge(self, result: Path, *, results: Path, progress: Progress) -> None:
        from rlhf_bench.judge.run import prepare
        from rlhf_bench.report.screen import judge_text
        from rlhf_bench.store import ResultStore

        manifest = ResultStore(result).read_manifest()
        prepared = prepare(
            result,
            ledger_path=ledger_path(None, results),
            results=results,
            judge_name=self.name,
            baseline=str(manifest.get("baseline", manifest["reference"])),
            base_url=self.base_url,
        )
        with prepared as judging:
            judging.run(max_cost=self.max_cost, max_calls=self.max_calls, progress=progress)
            for line in judge_text(result, judge=judging.judge, **judging.form.names).splitlines():
                progress.log(line)
