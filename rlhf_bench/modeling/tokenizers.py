"""Making and loading tokenizers, and whether one has a chat template."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from rlhf_bench.data.hh import END_OF_TEXT
from rlhf_bench.errors import CheckpointError, ModelError
from rlhf_bench.hub import looks_like_path
from rlhf_bench.modeling.adapters import adapter_base, adapter_root
from rlhf_bench.modeling.folders import has_tokenizer, json_entry, model_folder
from rlhf_bench.modeling.model_files import of_adapter, pretrained_name, pretrained_options, readable


def train_tokenizer(texts: list[str], *, vocab_size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE with GPT-2's splitting; pads with end-of-text, as GPT-2 does."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[END_OF_TEXT],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_OF_TEXT,
        bos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
    )


def load_tokenizer(path: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder or hub model, with a pad token (end-of-text where it has none).

    Raises:
        CheckpointError: there is no tokenizer, or it has no end-of-text token.
    """
    path = model_folder(path)
    base = adapter_base(path)
    if Path(path).is_dir() and base is None and not has_tokenizer(path):
        if not (Path(path) / "config.json").is_file():
            raise CheckpointError(f"{path} has no config.json; expected a Hugging Face model folder")
        raise ModelError(
            f"{path} holds no tokenizer (tokenizer.json); copy the tokenizer's files of the model that it was made from"
        )
    if base is not None and not has_tokenizer(path):
        adapter_root(path)  # raises where the chain has no end
        with of_adapter(path):
            return load_tokenizer(base)
    with readable(path):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            *pretrained_name(path), **pretrained_options(path)
        )
    if tokenizer.eos_token_id is None:
        raise ModelError(f"{path}: its tokenizer has no end-of-text token; set eos_token in tokenizer_config.json")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def has_chat_template(path: str | Path) -> bool:
    """True if the tokenizer of a folder or hub model has a chat template; of an adapter without one its base's."""
    folder = Path(model_folder(path))
    if not folder.is_dir():
        try:
            return not looks_like_path(path) and bool(getattr(load_tokenizer(path), "chat_template", None))
        except (CheckpointError, ModelError):  # loading the model says why
            return False
    if (folder / "chat_template.jinja").is_file() or (folder / "chat_template.json").is_file():
        return True
    if json_entry(folder / "tokenizer_config.json", "chat_template"):
        return True
    base = None if has_tokenizer(folder) else adapter_base(folder)
    return base is not None and has_chat_template(base)
