from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from pydantic import Field, model_validator

from rlhf_bench.config import Config, config_hash, diff, explain, load_config, suites_dir
from rlhf_bench.errors import BadValue, BenchError, UnknownName


class Shape(Config):
    n_layer: int = Field(4, ge=1, description="number of layers")


class Ppo(Config):
    kl_coef: float = Field(0.1, ge=0, description="weight of the KL penalty")
    kind: Literal["k1", "k3"] = Field("k1", description="which estimate of the KL")
    adaptive: bool = True
    """whether the coefficient follows a target"""


class Recipe(Config):
    model: str | Shape = Field(Shape(), description="hub name, folder, or a shape to initialise")
    seeds: tuple[int, ...] = Field((0,), description="seeds to train")
    target: float | None = Field(None, gt=0, description="target KL")
    columns: dict[str, str] = Field({}, description="column mapping")
    ppo: Ppo = Field(Ppo(), description="PPO")

    @model_validator(mode="after")
    def _rule(self) -> Recipe:
        if self.target is not None and not self.ppo.adaptive:
            raise ValueError("target: given with ppo.adaptive=false, expected ppo.adaptive=true")
        return self


def load(overrides: list[str] | None = None, **data: Any) -> Recipe:
    return load_config(Recipe, data, overrides or [])


def test_defaults_file_and_overrides_in_that_order(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("ppo:\n  kl_coef: 0.2\nseeds: [1, 2]\n", encoding="utf-8")
    config = load_config(Recipe, file, ["ppo.kl_coef=0.3", "ppo.kl_coef=0.4", "columns.prompt=question"])
    assert config.ppo.kl_coef == 0.4  # the later override wins
    assert config.seeds == (1, 2)
    assert config.ppo.kind == "k1"
    assert config.columns == {"prompt": "question"}


def test_the_mapping_given_is_not_changed() -> None:
    data = {"ppo": {"kl_coef": 0.2}}
    load_config(Recipe, data, ["ppo.kl_coef=0.3"])
    assert data == {"ppo": {"kl_coef": 0.2}}


@pytest.mark.parametrize(
    ("text", "value"), [("1e-3", 0.001), ("1E3", 1000.0), (".5e1", 5.0), ("2.e-1", 0.2), ("1", 1.0)]
)
def test_every_way_to_write_a_number(text: str, value: float) -> None:
    assert load([f"ppo.kl_coef={text}"]).ppo.kl_coef == value


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("# nothing\n", encoding="utf-8")
    assert load_config(Recipe, tmp_path / "empty.yaml", []) == Recipe()


def test_a_union_takes_either_branch() -> None:
    assert load(["model=gpt2"]).model == "gpt2"
    assert load(["model.n_layer=2"]).model == Shape(n_layer=2)
    assert load(["model.n_layer=2"], model="gpt2").model == Shape(n_layer=2)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("ppo.kl_coeff=1", "unknown key 'ppo.kl_coeff'; did you mean 'ppo.kl_coef'?"),
        ("kl_coef=1", "unknown key 'kl_coef'; did you mean 'ppo.kl_coef'?"),
        ("n_layer=1", "unknown key 'n_layer'; did you mean 'model.n_layer'?"),
        ("ppo.zzz=1", "unknown key 'ppo.zzz'; known: ppo.adaptive, ppo.kind, ppo.kl_coef"),
        ("zzz=1", "unknown key 'zzz'; known: columns, model, ppo, seeds, target"),
        ("model.n_layers=2", "unknown key 'model.n_layers'; did you mean 'model.n_layer'?"),
    ],
)
def test_unknown_key(override: str, message: str) -> None:
    with pytest.raises(UnknownName) as caught:
        load([override])
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("ppo.kl_coef=-1", "ppo.kl_coef: given -1, expected greater than or equal to 0"),
        ("ppo.kl_coef=high", 'ppo.kl_coef: given "high", expected a number'),
        ("ppo.kl_coef='1'", 'ppo.kl_coef: given "1", expected a number'),
        ("ppo.kl_coef=.nan", "ppo.kl_coef: given NaN, expected a finite number"),
        ("ppo.kl_coef=true", "ppo.kl_coef: given true, expected a number"),
        ("ppo.kl_coef=", "ppo.kl_coef: given null, expected a number"),
        ("ppo.kind=k2", "ppo.kind: given \"k2\", expected 'k1' or 'k3'"),
        ("ppo.adaptive=1", "ppo.adaptive: given 1, expected true or false"),
        ("ppo=3", "ppo: given 3, expected a mapping of keys to values"),
        ("seeds=3", "seeds: given 3, expected a list"),
        ("seeds=[a]", 'seeds[0]: given "a", expected an integer'),
        ("model=3", "model: given 3, expected text or a mapping of keys to values"),
        ("model.n_layer=0", "model.n_layer: given 0, expected greater than or equal to 1"),
        ("target=0", "target: given 0, expected greater than 0"),
        ("ppo.kl_coef", "--set: given 'ppo.kl_coef', expected KEY=VALUE, a key of the file and its value in YAML"),
        ("=3", "--set: given '=3', expected KEY=VALUE, a key of the file and its value in YAML"),
        ("seeds=[1", "seeds: given '[1', expected a YAML value (line 1: expected ',' or ']', but got '<stream end>')"),
    ],
)
def test_bad_value(override: str, message: str) -> None:
    with pytest.raises(BadValue) as caught:
        load([override])
    assert str(caught.value) == message


def test_a_rule_over_several_keys_speaks_for_itself() -> None:
    with pytest.raises(BadValue, match=r"^target: given with ppo\.adaptive=false"):
        load(["target=6", "ppo.adaptive=false"])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"- 1\n", "given a list at the top, expected a YAML mapping of keys to values"),
        (b"a: [1\n", "line 2: expected ',' or ']', but got '<stream end>'; expected a YAML mapping"),
        (b"seeds: [1]\nseeds: [2]\n", "line 1: key 'seeds' is duplicated; expected a YAML mapping"),
        (b"\xff\xfe\x00", "not UTF-8; expected a YAML file"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, content: bytes, problem: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_bytes(content)
    with pytest.raises(BadValue) as caught:
        load_config(Recipe, file, [])
    assert str(caught.value) == f"{file}: {problem}"


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(BadValue, match=r"none\.yaml: no such file; expected a YAML file$"):
        load_config(Recipe, tmp_path / "none.yaml", [])


def test_every_message_is_one_line() -> None:
    for override in ["ppo.kl_coef=-1", "zzz=1", "seeds=[1", "model={a: 1, b: 2}"]:
        with pytest.raises(BenchError) as caught:
            load([override])
        assert "\n" not in str(caught.value)


def test_a_field_without_description_is_refused() -> None:
    with pytest.raises(TypeError, match="Bare: fields without a description: x"):

        class Bare(Config):
            x: int = 1


def test_hash_sees_every_value_and_nothing_else() -> None:
    assert config_hash(load(["ppo.kl_coef=0.1"])) == config_hash(Recipe())  # 0.1 is the default
    assert config_hash(load(["ppo.kl_coef=0.2"])) != config_hash(Recipe())
    assert config_hash(load(["model.n_layer=4"])) == config_hash(Recipe())


def test_diff_names_the_keys_that_differ() -> None:
    changed = load(["ppo.kl_coef=0.2", "model=gpt2"])
    expected = [
        'model: null -> "gpt2"',
        "model.n_layer: 4 -> null",
        "ppo.kl_coef: 0.1 -> 0.2",
    ]
    assert [str(item) for item in diff(Recipe(), changed)] == expected
    assert diff(changed.model_dump(mode="json"), changed) == []  # what was stored is equal to what it came from


def test_explain_lists_every_key() -> None:
    assert [tuple(row) for row in explain(Recipe)] == [
        ("model", "text | section", "", "hub name, folder, or a shape to initialise"),
        ("model.n_layer", "int >= 1", "4", "number of layers"),
        ("seeds", "list[int]", "[0]", "seeds to train"),
        ("target", "float | null > 0", "null", "target KL"),
        ("columns", "dict[text, text]", "{}", "column mapping"),
        ("ppo", "section", "", "PPO"),
        ("ppo.kl_coef", "float >= 0", "0.1", "weight of the KL penalty"),
        ("ppo.kind", "k1 | k3", "k1", "which estimate of the KL"),
        ("ppo.adaptive", "bool", "true", "whether the coefficient follows a target"),
    ]
    assert [row.key for row in explain(Recipe, "ppo")] == ["ppo", "ppo.kl_coef", "ppo.kind", "ppo.adaptive"]


def test_suites_are_found_and_readable() -> None:
    files = sorted(suites_dir().glob("*.yaml"))
    for file in files:
        assert yaml.safe_load(file.read_text(encoding="utf-8"))
