"""rlhf-bench demo"""

from __future__ import annotations

import socket
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from rlhf_bench.cli.base import FOLDER, bench_command, checkpoints_option, make_progress, name_values, names_of
from rlhf_bench.errors import BadValue, Interrupted, MissingExtra


@bench_command(
    examples=[
        "rlhf-bench demo --models base,ppo",
        "rlhf-bench demo --models sft,ppo --export space",
    ],
)
@click.option("--run", metavar="NAME", help="The run with the checkpoints.  [default: default; none with --data]")
@click.option("--models", "names", metavar="A,B", help="Those that answer, side by side.  [default: all]")
@click.option(
    "--model",
    "given",
    metavar="NAME=PATH",
    multiple=True,
    help="A further model: a folder, or a name on the hub.",
)
@click.option("--reference", metavar="NAME", help="The model that KL is taken to.  [default: the suite's]")
@click.option("--reward-model", metavar="PATH", help="In place of the run's own.")
@click.option("--suite", metavar="NAME", help="The suite of the example prompts.  [default: hh-test]")
@click.option("--data", metavar="SOURCE", help="Of the example prompts, in place of the run's own.")
@click.option("--port", type=click.IntRange(1, 65535), help="[default: the first free one from 7860 on]")
@click.option("--export", type=FOLDER, metavar="DIR", help="Write a folder that runs on Hugging Face Spaces instead.")
@checkpoints_option
def demo(
    names: str | None, given: tuple[str, ...], reward_model: str | None, port: int | None, export: Path | None,
    suite: str | None, **fields: Any,
) -> None:  # fmt: skip
    """Prompt several checkpoints side by side in the browser.

    Each answer comes token by token, and with its reward, its KL to the reference, its length and its perplexity under
    the reference. Sampling is set on the page. Needs gradio: pip install gradio.
    """
    if export is None:
        _check_port(port)
        if find_spec("gradio") is None:  # before anything is loaded
            raise MissingExtra("gradio")
    elif port is not None:
        raise BadValue("--port: given with --export, which serves nothing; expected one or the other")

    from rlhf_bench.demo.spec import demo_spec
    from rlhf_bench.evaluate.request import Request

    models = name_values("--model", given, expected="NAME=PATH, such as --model mine=checkpoints/mine/dpo")
    rewards = {} if reward_model is None else {"reward": reward_model}
    request = Request.of(suite, models=models, reward_models=rewards, **fields)
    progress = make_progress()
    spec = demo_spec(request, [] if names is None else names_of("--models", names), progress)
    if export is not None:
        from rlhf_bench.demo.export import export_demo

        for path in export_demo(spec, export):
            click.echo(f"wrote {path}")
        click.echo(f"try it: python {export / 'app.py'}; its README.md says how to upload it")
        return

    from rlhf_bench.demo.app import launch, make_app
    from rlhf_bench.demo.session import Session

    address = launch(make_app(Session(spec)), port=port)
    click.echo(f"{', '.join(spec.models)}: {address} (Ctrl-C ends it)")
    try:
        threading.Event().wait()
    except KeyboardInterrupt:  # which gradio's own `block_thread` would turn into a success
        raise Interrupted(f"{address} is no longer served") from None


def _check_port(port: int | None) -> None:
    """Raises BadValue where another program listens there."""
    if port is None:
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise BadValue(
                f"--port: given {port}, which cannot be used ({error.strerror}); give another, or leave it out"
            ) from error
