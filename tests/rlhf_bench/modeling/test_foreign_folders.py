"""Model folders as other tools leave them."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from peft import get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from rlhf_bench.errors import CheckpointError, ModelError
from rlhf_bench.modeling.adapters import adapter_base
from rlhf_bench.modeling.checkpoints import checkpoint_hash, model_hash
from rlhf_bench.modeling.folders import folder_notes, model_folder
from rlhf_bench.modeling.models import load_policy
from rlhf_bench.modeling.opening import check_openable

from ...plain import PlainPython
from .architectures import tiny_model
from .chat import make_tokenizer


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "plain"
    tiny_model("llama", vocab_size=400).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([[9, 8, 7, 11]])).logits  # type: ignore[no-any-return]


def same(folder: Path, expected: PreTrainedModel) -> bool:
    return torch.equal(logits(load_policy(folder)[0]), logits(expected))


def opened(folder: Path) -> list[str]:
    notes: list[str] = []
    check_openable(folder, notes.append)
    return notes


def test_a_trainers_output_folder_means_its_newest_checkpoint(plain: Path, tmp_path: Path) -> None:
    newest = tiny_model("llama", vocab_size=400, seed=1)
    for step, model in ((500, None), (1000, newest), (90, None)):
        folder = tmp_path / "out" / f"checkpoint-{step}"
        shutil.copytree(plain, folder)
        if model is not None:
            model.save_pretrained(folder)
    (tmp_path / "out" / "checkpoint-2000").mkdir()  # cut off while it was written
    torch.save({}, tmp_path / "out" / "training_args.bin")  # is no weights file
    assert model_folder(tmp_path / "out") == tmp_path / "out" / "checkpoint-1000"
    assert same(tmp_path / "out", newest)
    assert model_hash(tmp_path / "out") == checkpoint_hash(tmp_path / "out" / "checkpoint-1000")
    assert opened(tmp_path / "out") == [
        f"{tmp_path / 'out'} holds no weights; its newest checkpoint is used: checkpoint-1000"
    ]
    assert model_folder(plain) == plain
    assert opened(plain) == []


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod.", "model._orig_mod."])
def test_names_of_wrapped_weights(plain: Path, tmp_path: Path, prefix: str) -> None:
    folder = Path(shutil.copytree(plain, tmp_path / "wrapped"))
    weights = load_file(folder / "model.safetensors")
    inside = prefix.startswith("model.")
    renamed = {prefix + name.removeprefix("model." if inside else ""): tensor for name, tensor in weights.items()
               if not inside or name.startswith("model.")}  # fmt: skip
    kept = {name: tensor for name, tensor in weights.items() if inside and not name.startswith("model.")}
    save_file(renamed | kept, folder / "model.safetensors", metadata={"format": "pt"})
    assert same(folder, tiny_model("llama", vocab_size=400))
    assert "prefixes" in "".join(folder_notes(folder))


def test_sharded_weights_and_half_precision(plain: Path, tmp_path: Path) -> None:
    model = tiny_model("llama", vocab_size=400).to(torch.bfloat16)
    model.save_pretrained(tmp_path / "half", max_shard_size="20KB")
    make_tokenizer().save_pretrained(tmp_path / "half")
    assert len(list((tmp_path / "half").glob("*.safetensors"))) > 1
    options: Any = {"dtype": torch.float32, "attn_implementation": "eager"}
    assert same(tmp_path / "half", AutoModelForCausalLM.from_pretrained(tmp_path / "half", **options))
    assert opened(tmp_path / "half") == []


def test_pickled_weights_load_with_a_warning(plain: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(plain, tmp_path / "pickled"))
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert same(folder, tiny_model("llama", vocab_size=400))
    (note,) = opened(folder)
    assert note.startswith("warning: ")
    assert "pytorch_model.bin is a pickle file" in note


@pytest.mark.parametrize(
    ("removed", "error", "message"),
    [
        (("tokenizer.json", "tokenizer_config.json"), ModelError, "holds no tokenizer"),
        (("model.safetensors",), CheckpointError, "holds no weights"),
        (("config.json",), CheckpointError, "has no config.json"),
    ],
)
def test_what_is_not_there_is_seen_without_loading(
    plain: Path, tmp_path: Path, removed: tuple[str, ...], error: type[Exception], message: str
) -> None:
    folder = Path(shutil.copytree(plain, tmp_path / "less"))
    for name in removed:
        (folder / name).unlink()
    with pytest.raises(error, match=message):
        opened(folder)


def test_a_path_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist; expected a model folder"):
        opened(tmp_path / "nothing")


def test_an_output_layer_padded_beyond_the_tokenizer(plain: Path, tmp_path: Path) -> None:
    tiny_model("llama", vocab_size=437).save_pretrained(tmp_path / "padded")
    make_tokenizer().save_pretrained(tmp_path / "padded")
    model, tokenizer = load_policy(tmp_path / "padded")
    assert (model.get_output_embeddings().weight.shape[0], len(tokenizer)) == (437, 400)


# adapters


def save_adapter(folder: Path, base: Path, named: str, **options: Any) -> PreTrainedModel:
    """An adapter with weights that change something, its base called `named`; the model that it gives."""
    model = AutoModelForCausalLM.from_pretrained(base)
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # what peft and transformers have to tell each other
        adapted = get_peft_model(model, config)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
    adapted.peft_config["default"].base_model_name_or_path = named
    adapted.save_pretrained(folder)
    return adapted.eval()  # type: ignore[no-any-return]


@pytest.mark.parametrize("saved", [["lm_head"], ["embed_tokens", "lm_head"]])
def test_layers_that_an_adapter_saves_whole(plain: Path, tmp_path: Path, saved: list[str]) -> None:
    adapted = save_adapter(tmp_path / "adapter", plain, str(plain), modules_to_save=saved)
    ours, _ = load_policy(tmp_path / "adapter")
    torch.testing.assert_close(logits(ours), logits(adapted), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(logits(ours), logits(load_policy(plain)[0]), atol=1e-2)


def test_the_base_as_seen_from_the_adapter_comes_first(plain: Path, tmp_path: Path) -> None:
    """A run that was copied as a whole does not read the original's base."""
    for run in ("first", "copy"):
        shutil.copytree(plain, tmp_path / run / "sft")
        save_adapter(tmp_path / run / "dpo", plain, str(tmp_path / "first" / "sft"))
        training = {"adapter": {"base": "../sft"}}
        (tmp_path / run / "dpo" / "training.json").write_text(json.dumps(training))
    assert Path(str(adapter_base(tmp_path / "copy" / "dpo"))).resolve() == tmp_path / "copy" / "sft"


def test_an_adapter_loads_in_transformers_and_peft_from_any_folder(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain_python: PlainPython
) -> None:
    from trainers.config.optimizer import LoraConfig
    from trainers.engine.lora import Adapter, adapt
    from trainers.engine.lora import save_adapter as save

    model, _ = load_policy(plain)
    adapter = adapt(model, LoraConfig(r=2), plain, seed=0)
    assert adapter is not None
    (tmp_path / "run" / "dpo").mkdir(parents=True)
    monkeypatch.chdir(plain.parent)
    save(Adapter(adapter.model, Path("plain")), tmp_path / "run" / "dpo", tmp_path / "run" / "dpo")
    code = (
        "import sys; from transformers import AutoModelForCausalLM; from peft import AutoPeftModelForCausalLM; "
        "[kind.from_pretrained(sys.argv[1]) for kind in (AutoModelForCausalLM, AutoPeftModelForCausalLM)]; print('{}')"
    )
    (tmp_path / "elsewhere").mkdir()
    plain_python(code, tmp_path / "run" / "dpo", cwd=tmp_path / "elsewhere")
