"""The page, called by gradio's own client. Skipped where the extra `demo` is not installed."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest

from rlhf_bench.demo.session import Session

# gradio leaves sockets open; they are collected here, where that is no error
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning", "ignore::DeprecationWarning"
)
gradio_client = pytest.importorskip("gradio_client", reason="the extra `demo` is not installed")

SETTINGS = (1.0, 1.0, 12, 0)  # temperature, top-p, max new tokens, seed


@pytest.fixture(scope="module")
def client(session: Session) -> Iterator[Any]:
    from rlhf_bench.demo.app import launch, make_app

    app = make_app(session)
    client = gradio_client.Client(launch(app), verbose=False)
    yield client
    client.close()
    app.close()
    del client, app
    gc.collect()


def test_answers_are_streamed_and_end_with_their_numbers(client: Any, session: Session) -> None:
    job = client.submit("How do I boil an egg?", *SETTINGS, api_name="/answer")
    text, numbers, other, _ = job.result(timeout=60)
    whole = list(session.answers("How do I boil an egg?", temperature=1.0, top_p=1.0, max_new_tokens=12, seed=0))[-1]
    assert (text, other) == (whole["ppo"].text, whole["sft"].text)
    assert whole["ppo"].numbers is not None
    assert f"<dd>{whole['ppo'].numbers.kl:.2f} nats</dd>" in numbers
    assert "<dt>Perplexity under sft</dt>" in numbers
    texts = [output[0] for output in job.outputs()]
    assert len(texts) > 2
    assert all(whole["ppo"].text.startswith(part) for part in texts)


def test_an_error_is_its_one_line(client: Any) -> None:
    with pytest.raises(Exception, match="empty prompt given"):
        client.predict("", *SETTINGS, api_name="/answer")
