"""Tokenizers of the kinds that pretrained models bring: beginning of sequence, chat templates, several ends."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from rlhf_bench.data import mini

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = "{{ bos_token }}" + CHATML
SPECIAL = ["<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "[CLS]", "[SEP]"]


def make_tokenizer(
    *, bos: bool = False, eos: str = "</s>", pad: str = "<pad>", template: str | None = None, pair: bool = False
) -> PreTrainedTokenizerFast:
    """Byte-level BPE of 400 tokens. `bos`: it puts <s> in front of a text by itself, and </s> after it. `pair`: it is
    an encoder's, with [CLS] and [SEP]."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        [p.prompt + p.chosen for p in mini.generate("train", n=100)],
        trainers.BpeTrainer(
            vocab_size=400, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )  # fmt: skip
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
        )
    if pair:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 5), ("[SEP]", 6)]
        )
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token=eos, pad_token=pad,
        clean_up_tokenization_spaces=False, **({"cls_token": "[CLS]", "sep_token": "[SEP]"} if pair else {}),
    )  # fmt: skip
    if template is not None:
        made.chat_template = template
    return made


def make_spaced_tokenizer(*, legacy: bool, template: str | None = None) -> PreTrainedTokenizerFast:
    """Characters as tokens, with a space in front of every text and a decoder that drops it, as in SentencePiece's
    files of Llama 2 (`legacy`: also before a text that begins with one) and later ones."""
    letters = sorted({c for p in mini.generate("train", n=50) for c in p.prompt + p.chosen if c != " "} | {"\u2581"})
    words = ["<unk>", "<s>", "</s>", *letters, "\u2581Blue", "\u2581\u2581", "Blue"]
    merges = [("B", "l"), ("Bl", "u"), ("Blu", "e"), ("\u2581", "Blue"), ("\u2581", "\u2581")]
    words += ["Bl", "Blu"]
    tokenizer = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, merges, unk_token="<unk>"))
    if legacy:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>",
        clean_up_tokenization_spaces=False,
    )  # fmt: skip
    if template is not None:
        made.chat_template = template
    return made
