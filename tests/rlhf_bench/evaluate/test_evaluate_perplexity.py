"""Perplexity of every response under language models that were named for it: `perplexity:NAME`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlhf_bench import evaluate as evaluation
from rlhf_bench.cli import cli
from rlhf_bench.errors import BadValue, CheckpointError, ModelError
from rlhf_bench.evaluate import run as evaluate_run
from rlhf_bench.evaluate.request import read_request
from rlhf_bench.files import read_jsonl
from rlhf_bench.modeling import models as loading
from rlhf_bench.modeling.perplexity_model import LanguageModel
from rlhf_bench.report import write_report
from rlhf_bench.report.result import load_result
from rlhf_bench.report.screen import summary_text
from rlhf_bench.report.tables.summary import missing_lines
from rlhf_bench.stats import ratio_estimate
from rlhf_bench.types import prompt_id

from ..tiny import save_policy, save_reward

EGGS = [(f"\n\nHuman: {n} eggs?\n\nAssistant:", f" For {n} minutes" + "." * (n % 3), " no") for n in range(12)]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models a and b, a reward model, pairs, and two responses a prompt, of which some never ended."""
    folder = tmp_path_factory.mktemp("perplexity")
    save_policy(folder / "a", positions=160)
    save_policy(folder / "b", seed=1, positions=160)
    save_reward(folder / "judge", folder / "a", seed=1)
    pairs = [dict(zip(("prompt", "chosen", "rejected"), egg, strict=True)) for egg in EGGS]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    rows = [
        {"model": "mine", "seed": 0, "prompt_id": str(i), "sample": k, "prompt": prompt, "reference": chosen,
         "response": chosen + " happy" * (i + k), "finish_reason": ["eos", "length", "stop"][(i + k) % 3]}
        for i, (prompt, chosen, _) in enumerate(EGGS)
        for k in (0, 1)
    ]  # fmt: skip
    (folder / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def of_file(work: Path, results: Path, **more: Any) -> Path:
    asked: dict[str, Any] = {"perplexity_models": {"a": str(work / "a"), "b": str(work / "b")}}
    return evaluation.evaluate(responses=[(None, str(work / "mine.jsonl"))], results=results, **asked | more).folder


def read(folder: Path, name: str = "metrics.json") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / name).read_text())
    return found


def plain(path: Path, prompt: str, response: str, *, ended: bool) -> tuple[float, int]:
    """Negative log-likelihood in nats and tokens, by plain transformers on one text without padding, in float64."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(path).double().eval(), AutoTokenizer.from_pretrained(path)
    head, tokens = tokenizer(prompt)["input_ids"], tokenizer(response)["input_ids"] + [tokenizer.eos_token_id] * ended
    with torch.no_grad():
        logps = model(torch.tensor([head + tokens])).logits[0, len(head) - 1 : -1].log_softmax(-1)
    return -float(logps.gather(1, torch.tensor(tokens)[:, None]).sum()), len(tokens)


def test_of_a_response_file_without_any_model_of_its_own(work: Path, tmp_path: Path) -> None:
    """exp(total NLL / total tokens), over prompts: a prompt's two responses count by their mean."""
    folder = of_file(work, tmp_path)
    found, rows = read(folder)["models"], read_jsonl(work / "mine.jsonl")
    assert list(found) == ["mine", "chosen"]
    order = np.argsort([prompt_id(prompt) for prompt, *_ in EGGS])  # in which they are resampled
    for name in ("a", "b"):
        each = [
            plain(work / name, row["prompt"], row["response"], ended=row["finish_reason"] != "length") for row in rows
        ]
        nll, tokens = (np.array(part, dtype=float).reshape(len(EGGS), 2).mean(1) for part in zip(*each, strict=True))
        size = np.array([len(row["response"].encode()) for row in rows], dtype=float).reshape(len(EGGS), 2).mean(1)
        expected = ratio_estimate(nll[order], tokens[order], exponentiate=True)
        mine = found["mine"][f"perplexity:{name}"]
        assert mine["value"] == pytest.approx(math.exp(nll.sum() / tokens.sum()), rel=1e-5)
        assert (mine["low"], mine["high"]) == pytest.approx((expected.low, expected.high), rel=1e-4)
        assert (mine["n"], mine["method"]) == (len(EGGS), expected.method)
        bits = nll.sum() / math.log(2) / size.sum()
        assert found["mine"][f"bits_per_byte:{name}"]["value"] == pytest.approx(bits, rel=1e-5)
        chosen = [plain(work / name, prompt, text, ended=True) for prompt, text, _ in EGGS]
        assert found["chosen"][f"perplexity:{name}"]["value"] == pytest.approx(
            math.exp(sum(nll for nll, _ in chosen) / sum(n for _, n in chosen)), rel=1e-5
        )
    write_report(folder, only=["tables"])
    table = (folder / "tables" / "summary.md").read_text()
    assert "Perplexity: a" in table
    assert "Bits/byte: b" in table
    printed = summary_text(folder, width=200)
    assert "Perplexity: a" in printed
    assert "Perplexity: b" in printed
    assert "no reason recorded" not in table


def test_the_chosen_responses_have_the_perplexity_that_the_model_itself_reports(work: Path, tmp_path: Path) -> None:
    folder = evaluation.evaluate(
        models={"a": str(work / "a"), "b": str(work / "b")}, data=str(work / "pairs.jsonl"), reference="a", samples=2,
        settings=["max_new_tokens=24", "split=train"], perplexity_models={"x": str(work / "b")}, results=tmp_path,
    ).folder  # fmt: skip
    found = read(folder)["models"]
    assert found["chosen"]["perplexity:x"]["value"] == pytest.approx(found["b"]["perplexity"]["value"], rel=1e-6)
    assert found["chosen"]["bits_per_byte:x"]["value"] == pytest.approx(found["b"]["bits_per_byte"]["value"], rel=1e-6)
    assert {found[m]["perplexity:x"]["n"] for m in ("a", "b", "chosen", "rejected")} == {found["a"]["ended"]["n"]}
    assert found["b"]["perplexity:x"]["value"] < found["a"]["perplexity:x"]["value"]  # what b drew is likelier under b


def test_prompts_are_given_in_the_readers_form(work: Path, tmp_path: Path) -> None:
    asked = {"perplexity_models": {"b": str(work / "b")}, "templates": {"b": "plain"}}
    folder = of_file(work, tmp_path, **asked)
    each = [plain(work / "b", f"{n} eggs?\n\n", text.lstrip(), ended=True) for n, (_, text, _) in enumerate(EGGS)]
    expected = math.exp(sum(nll for nll, _ in each) / sum(n for _, n in each))
    assert read(folder)["models"]["chosen"]["perplexity:b"]["value"] == pytest.approx(expected, rel=1e-5)
    assert read(folder, "manifest.json")["perplexity_models"][0]["template"] == "plain"


def test_responses_that_a_model_cannot_read_are_left_out_and_reported(work: Path, tmp_path: Path) -> None:
    save_policy(tmp_path / "short", positions=24)
    folder = of_file(work, tmp_path / "some", perplexity_models={"short": str(tmp_path / "short")})
    lengths = [plain(work / "a", "x", row["response"], ended=row["finish_reason"] != "length")[1]
               for row in read_jsonl(work / "mine.jsonl")]  # fmt: skip
    unread = sum(n > 23 for n in lengths)
    assert 0 < unread < len(lengths)
    why = f"without {unread} of {len(lengths) + len(EGGS)} responses, which are longer than short can read"
    assert read(folder)["marks"] == {"perplexity:short": why, "bits_per_byte:short": why}
    write_report(folder, only=["tables"])
    assert f"† Perplexity: short: {why}" in (folder / "tables" / "summary.md").read_text().replace("\\", "")

    save_policy(tmp_path / "shorter", positions=4)
    none = of_file(work, tmp_path / "none", perplexity_models={"shorter": str(tmp_path / "shorter")})
    missing = {(m["model"], m["metric"]): m["reason"] for m in read(none)["missing"]}
    assert missing["mine", "perplexity:shorter"] == "each response is longer than shorter can read"
    assert "perplexity:shorter" not in read(none)["models"]["mine"]
    assert any("each response is longer than shorter can read" in line for line in missing_lines(load_result(none)))


def test_stored_resumed_and_repeated_and_another_model_is_separate(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = of_file(work, tmp_path / "whole")
    monkeypatch.setattr(evaluate_run, "SHARD", 5)
    scored: list[int] = []
    score = LanguageModel.score

    def dies_at_the_second_shard(self: LanguageModel, *a: Any, **k: Any) -> Any:
        if len(scored) == 2:  # of each model one a shard
            raise KeyboardInterrupt
        scored.append(len(a[0]))
        return score(self, *a, **k)

    with monkeypatch.context() as patch:
        patch.setattr(LanguageModel, "score", dies_at_the_second_shard)
        with pytest.raises(KeyboardInterrupt):
            of_file(work, tmp_path / "parts")
    scored.clear()
    with monkeypatch.context() as patch:
        patch.setattr(LanguageModel, "score", lambda s, *a, **k: (scored.append(len(a[0])), score(s, *a, **k))[1])
        folder = of_file(work, tmp_path / "parts")
    assert sorted(scored) == sorted([10, 4, 5, 5, 2] * 2)  # without the first shard of 10 responses
    for metric in ("perplexity:a", "bits_per_byte:b"):
        ours, theirs = (read(f)["models"]["mine"][metric]["value"] for f in (folder, whole))
        assert ours == pytest.approx(theirs, rel=1e-6)

    entry = read(whole, "manifest.json")["perplexity_models"][0]
    assert (entry["name"], entry["template"], len(entry["hash"])) == ("a", "hh", 16)
    monkeypatch.setattr(evaluate_run, "SHARD", 1000)
    with monkeypatch.context() as patch:
        patch.setattr(evaluation.run, "prepare", lambda *_: pytest.fail("not stored"))
        assert of_file(work, tmp_path / "whole") == whole
    other = of_file(work, tmp_path / "whole", perplexity_models={"a": str(work / "b")})
    assert other != whole
    assert other != of_file(work, tmp_path / "whole", perplexity_models={})
    request, key = read_request(whole / "manifest.json")
    again = evaluate_run.run_request(request, expected=key, results=tmp_path / "again")
    assert read(again) == read(whole)


def test_the_reference_is_not_loaded_again(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = loading.load_policy
    loaded: list[str] = []
    monkeypatch.setattr(loading, "load_policy", lambda path, **k: (loaded.append(Path(path).name), load(path, **k))[1])
    monkeypatch.setattr(LanguageModel, "load", lambda *_, **__: pytest.fail("loaded again"))
    evaluation.evaluate(
        models={"a": str(work / "a")}, data=str(work / "pairs.jsonl"), samples=1, limit=2,
        settings=["max_new_tokens=4", "split=train"], perplexity_models={"a": str(work / "a")}, results=tmp_path,
    )  # fmt: skip
    assert loaded == ["a"]


def test_what_cannot_read_is_named_before_anything_is_computed(work: Path, tmp_path: Path) -> None:
    masked = save_policy(tmp_path / "masked")
    config = read(masked, "config.json") | {"architectures": ["RobertaForMaskedLM"]}
    (masked / "config.json").write_text(json.dumps(config))
    for path, error, message in (
        (Path("/no/such/model"), CheckpointError, r"^/no/such/model does not exist; expected a model folder$"),
        (work / "judge", ModelError, r"judge is a reward model; expected a causal language model such as"),
        (masked, ModelError, r"masked is no causal language model \(RobertaForMaskedLM\); expected one such as"),
    ):
        with pytest.raises(error, match=message):
            of_file(work, tmp_path / "results", perplexity_models={"x": str(path)})
    with pytest.raises(BadValue, match=r"--prompt-template y=\.\.\.: no --model, --reward-model or --perp"):
        of_file(work, tmp_path / "results", templates={"y": "plain"})
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["x=p", "x=q"], "--perplexity-model: the name 'x' is given twice, expected a name of its own for each"),
        (["p"], "--perplexity-model: given 'p', expected NAME=PATH, such as --perplexity-model gpt2=path/to/gpt2"),
    ],
)
def test_names_on_the_command_line(given: list[str], message: str) -> None:
    words = ["eval", "--responses", "a=a.jsonl", *(word for text in given for word in ("--perplexity-model", text))]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 2
    assert message in done.output


def test_bits_per_byte_are_of_the_bytes_that_were_scored(work: Path, tmp_path: Path) -> None:
    """A chosen response that is cut at 6 tokens has the bits of 6 tokens, and so the bytes of their text."""
    folder = evaluation.evaluate(
        models={"a": str(work / "a")}, data=str(work / "pairs.jsonl"), reference="a", samples=1,
        settings=["max_new_tokens=6", "split=train"], results=tmp_path,
    ).folder  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(work / "a")
    nats, size, cut = 0.0, 0, 0
    asked = {row["prompt"] for row in read_jsonl(folder / "responses.jsonl")}  # those of the split
    for prompt, text in ((prompt, text) for prompt, text, _ in EGGS if prompt in asked):
        ids = tokenizer(text)["input_ids"]
        whole = len(ids) < 6  # with its end-of-text token
        kept = text if whole else tokenizer.decode(ids[:6])
        assert tokenizer(kept)["input_ids"] == ids[:6]
        cut += kept != text
        nats += plain(work / "a", prompt, kept, ended=whole)[0]
        size += len(kept.encode())
    assert cut
    found = read(folder)["models"]["a"]["bits_per_byte"]["value"]
    assert found == pytest.approx(nats / math.log(2) / size, rel=1e-5)
