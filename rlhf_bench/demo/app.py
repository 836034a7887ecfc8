"""The demo's page: a prompt box, controls of sampling, and a column for each model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape
from typing import Any

try:
    import gradio as gr
except ImportError:
    from rlhf_bench.errors import MissingExtra

    raise MissingExtra("gradio") from None

from rlhf_bench.demo.session import Session, ShownAnswer
from rlhf_bench.errors import BenchError

FONT = ("system-ui", "sans-serif")
CSS = """
.numbers {display: grid; grid-template-columns: 1fr auto; gap: .1rem .8rem; margin: 0; min-height: 6.2rem;
          font-variant-numeric: tabular-nums}
.numbers dt {opacity: .75}
.numbers dd {margin: 0; text-align: right; font-weight: 600}
"""
ABOUT = """
Every model answers the same prompt with the same random numbers. Below each answer: its **reward**, its **KL** to
{reference} (exact at each of its tokens, at temperature 1, summed), its length, and its **perplexity** under
{reference}.
"""


def make_app(session: Session) -> gr.Blocks:
    """The page as gradio's Blocks; `launch` serves it."""
    spec = session.spec

    def answer(prompt: str, temperature: float, top_p: float, longest: float, seed: float) -> Iterator[list[Any]]:
        try:
            for answers in session.answers(
                prompt, temperature=temperature, top_p=top_p, max_new_tokens=int(longest), seed=int(seed or 0)
            ):
                yield [part for one in answers.values() for part in (one.text, _numbers(one, spec.reference))]
        except BenchError as error:
            raise gr.Error(escape(str(error), quote=False), print_exception=False) from error

    with gr.Blocks(title=f"{spec.title} · rlhf-bench", analytics_enabled=False, fill_width=True) as app:
        gr.Markdown(f"# {escape(spec.title)}\n{ABOUT.format(reference=escape(spec.reference))}")
        with gr.Row():
            with gr.Column(scale=3, min_width=320):
                prompt = gr.Textbox(
                    label="Prompt", lines=6, max_lines=16, autofocus=True,
                    placeholder="A question or a request; Shift+Enter sends it",
                )  # fmt: skip
                with gr.Row():
                    send = gr.Button("Answer", variant="primary")
                    again = gr.Button("Another answer")
                    stop = gr.Button("Stop", variant="stop")
            with gr.Column(scale=2, min_width=280):
                temperature = gr.Slider(0.0, 2.0, 1.0, step=0.05, label="Temperature", info="0: the likeliest token")
                top_p = gr.Slider(0.05, 1.0, 1.0, step=0.05, label="Top-p", info="1: from all tokens")
                with gr.Row():
                    length = min(spec.max_new_tokens, session.longest)
                    longest = gr.Slider(1, session.longest, length, step=1, label="Max new tokens", min_width=160)
                    seed = gr.Number(0, precision=0, minimum=0, label="Seed", min_width=80)
        outputs: list[gr.Textbox | gr.HTML] = []
        with gr.Row():
            for name in session.models:
                with gr.Column(min_width=220):
                    outputs.append(gr.Textbox(label=name, lines=8, max_lines=24, interactive=False, buttons=["copy"]))
                    outputs.append(gr.HTML(_numbers(None, spec.reference), padding=False))
        gr.Examples([[text] for text in spec.examples], [prompt], label="Prompts of the suite")

        inputs = [prompt, temperature, top_p, longest, seed]
        # both events share one place in the queue; their progress and errors are shown at the prompt
        answering: dict[str, Any] = {"concurrency_id": "models", "show_progress_on": prompt}
        sent = gr.on([send.click, prompt.submit], answer, inputs, outputs, api_name="answer", **answering)
        next_seed = again.click(lambda number: int(number or 0) + 1, seed, seed, api_visibility="private")
        resent = next_seed.then(answer, inputs, outputs, api_visibility="private", **answering)
        stop.click(None, cancels=[sent, resent])
    return app


def _numbers(answer: ShownAnswer | None, reference: str) -> str:
    found = answer.numbers if answer else None
    length = f"{answer.n_tokens} tokens" if answer else ""
    if answer and answer.is_whole and not answer.ended:
        length += ", cut"
    rows = {
        "Reward": _number(found.reward, "none") if found else "",
        f"KL to {reference}": _number(found.kl, found.why or "none", " nats") if found else "",
        "Length": length,
        f"Perplexity under {reference}": _number(found.perplexity, "none") if found else "",
    }
    listed = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in rows.items())
    return f'<dl class="numbers">{listed}</dl>'


def _number(value: float, otherwise: str, unit: str = "") -> str:
    return f"{value:.2f}{unit}" if math.isfinite(value) else otherwise


def launch(app: gr.Blocks, *, port: int | None = None) -> str:
    """Serve the page and return its address; without a port on the first free one from 7860 on.

    The server's threads live as long as the process.
    """
    address: str
    _, address, _ = app.launch(
        server_port=port, prevent_thread_lock=True, quiet=True, show_error=True, ssr_mode=False, css=CSS,
        theme=gr.themes.Default(font=FONT),
    )  # fmt: skip
    return address
