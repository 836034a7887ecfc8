"""Our checkpoints under lm-evaluation-harness: its plain `hf` model, its command line, a task of ours in YAML.

Skipped where lm_eval is not installed: it comes with the extra `peers`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from rlhf_bench.data import mini
from rlhf_bench.modeling.logprobs import LogprobModel
from rlhf_bench.modeling.models import load_policy
from rlhf_bench.modeling.tokens import collate, encode

from ..tiny import save_policy

CHOICE = """\
task: prefers_chosen
output_type: multiple_choice
doc_to_choice: "{{{{[chosen, rejected]}}}}"
doc_to_target: 0
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
{common}"""

GENERATE = """\
task: answers
output_type: generate_until
doc_to_target: "{{{{chosen}}}}"
generation_kwargs: {{until: ["\\n\\nHuman:"], do_sample: false, max_gen_toks: 12}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
{common}"""

COMMON = """\
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
doc_to_text: "{{{{prompt}}}}"
target_delimiter: ""
"""


def run_harness(model: Path, folder: Path, tasks: str) -> None:
    done = subprocess.run(
        [
            sys.executable, "-m", "lm_eval", "--model", "hf", "--model_args", f"pretrained={model}", "--tasks", tasks,
            "--include_path", str(folder), "--device", "cpu", "--batch_size", "4", "--log_samples",
            "--output_path", str(folder / "out"),
        ],
        env={**os.environ, "HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def samples(folder: Path, task: str) -> list[dict[str, Any]]:
    """The harness's own log, a row a document, in the data's order."""
    (file,) = folder.glob(f"out/*/samples_{task}_*.jsonl")
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return sorted(rows, key=lambda row: int(row["doc_id"]))


@pytest.mark.kills  # most of its time is the harness's start
@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="lm_eval is not installed")
def test_the_harness_reads_a_checkpoint_as_we_do(tmp_path: Path) -> None:
    """Log-likelihood of both responses, and the greedy answer, by its code and by ours or transformers'."""
    path = save_policy(tmp_path / "sft")
    pairs = mini.generate("test", n=6)
    data = tmp_path / "pairs.jsonl"
    rows = [{"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected} for p in pairs]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    common = COMMON.format(data=data)
    (tmp_path / "choice.yaml").write_text(CHOICE.format(common=common))
    (tmp_path / "generate.yaml").write_text(GENERATE.format(common=common))
    run_harness(path, tmp_path, "prefers_chosen,answers")

    model, tokenizer = load_policy(path, device=torch.device("cpu"))
    prompts = [p.prompt for p in pairs for _ in range(2)]
    responses = [response for p in pairs for response in (p.chosen, p.rejected)]
    # the harness scores the text alone: no end-of-text token
    encoded = encode(tokenizer, prompts, responses, max_prompt=256, max_response=256, ended=[False] * len(prompts))
    batch = collate(encoded, pad_id=tokenizer.pad_token_id)
    with torch.no_grad():
        ours = LogprobModel(model)(batch).logps.sum(-1).view(-1, 2)  # chosen, rejected
    found = samples(tmp_path, "prefers_chosen")
    theirs = torch.tensor([[float(answer[0]) for answer in row["filtered_resps"]] for row in found])
    assert theirs.shape == (6, 2)
    torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-3)
    assert [row["acc"] for row in found] == (ours[:, 0] > ours[:, 1]).double().tolist()

    for row, pair in zip(samples(tmp_path, "answers"), pairs, strict=True):
        ids = tokenizer(pair.prompt, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12)
        answer = tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True).split("\n\nHuman:")[0]
        assert row["filtered_resps"] == [answer]
