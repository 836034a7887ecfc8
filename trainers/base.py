"""The base model: next-token prediction on whole dialogues, good and bad.

With a pretrained model in the recipe nothing is trained: base is an untouched copy.
"""

from __future__ import annotations

from types import SimpleNamespace

from rlhf_bench.modeling.models import load_policy, new_gpt2
from rlhf_bench.modeling.templates import Template
from rlhf_bench.modeling.tokenizers import train_tokenizer
from rlhf_bench.types import PreferencePair
from trainers.config.recipe import NewModel
from trainers.engine.batches import template_of
from trainers.engine.models import prepare
from trainers.engine.stage import Stage, StageResult, Trained
from trainers.language_model import encode, fit


def train(stage: Stage) -> StageResult:
    spec, config, device = stage.recipe.model, stage.recipe.base, stage.machine.device
    if not isinstance(spec, NewModel):
        model, tokenizer = load_policy(spec, device=device)
        template_of(stage.recipe, tokenizer)  # raises here where the tokenizer has no such form, not in a later stage
        return StageResult(Trained(model, tokenizer))

    texts = _texts(stage.pairs("train"))
    # each dialogue once, in the form that the model will read, but for special tokens
    write = Template.of(stage.recipe.data.prompt_template, SimpleNamespace(bos_token="", eos_token=""))
    documents = list(dict.fromkeys(write.prompt(prompt) + write.response(response) for prompt, response in texts))
    tokenizer = stage.writer.look(train_tokenizer, documents, vocab_size=spec.vocab_size)
    rows = encode(stage, tokenizer, texts)
    held_out = encode(stage, tokenizer, _texts(stage.pairs("validation", config.eval_size)))
    model = new_gpt2(
        tokenizer, layers=spec.n_layer, heads=spec.n_head, width=spec.n_embd, positions=spec.n_positions,
        seed=stage.seed, device=device,
    )  # fmt: skip
    prepare(stage, model, config)
    return fit(stage, config, Trained(model, tokenizer), rows, held_out, whole_sequence=True)


def _texts(pairs: list[PreferencePair]) -> list[tuple[str, str]]:
    """Each prompt with each of its responses, once."""
    return list(dict.fromkeys((p.prompt, response) for p in pairs for response in (p.chosen, p.rejected)))
