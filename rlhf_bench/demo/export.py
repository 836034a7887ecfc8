"""A folder that runs a demo on Hugging Face Spaces: checkpoints, page, requirements, and this package as a wheel."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from rlhf_bench.demo.spec import DemoModel, DemoSpec
from rlhf_bench.demo.wheel import write_wheel
from rlhf_bench.errors import BadValue
from rlhf_bench.files import json_text
from rlhf_bench.modeling.adapters import adapter_base
from rlhf_bench.modeling.folders import model_folder
from rlhf_bench.modeling.merge import merge

GRADIO = "6.0.0"  # where it is not installed here: the oldest that the extra takes

APP = '''\
"""{title}: checkpoints side by side, made by rlhf-bench demo --export."""

import importlib.util
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
if importlib.util.find_spec("rlhf_bench") is None:  # Spaces installs requirements.txt before the wheel is there
    wheel = next(HERE.glob("rlhf_bench-*.whl"))
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", str(wheel)], check=True)
    importlib.invalidate_caches()

from rlhf_bench.demo.app import launch, make_app
from rlhf_bench.demo.session import Session
from rlhf_bench.demo.spec import read_spec

app = make_app(Session(read_spec(HERE)))
print(launch(app), flush=True)
app.block_thread()
'''

README = """\
---
title: "{title}"
emoji: ⚖️
colorFrom: blue
colorTo: gray
sdk: gradio
sdk_version: {gradio}
python_version: "{python}"
app_file: app.py
pinned: false
---

# {title}

{models}, side by side: one prompt, the answer of each, and of each answer the reward, the KL to {reference}, the length
and the perplexity under {reference}. Made by `rlhf-bench demo --export`.

Here:

    pip install -r requirements.txt
    python app.py

On Hugging Face Spaces, with a new Space of your own:

    hf repos create YOUR-NAME/YOUR-SPACE --type space --space-sdk gradio
    hf upload YOUR-NAME/YOUR-SPACE . --type space
"""


def export_demo(spec: DemoSpec, folder: Path) -> list[Path]:
    """Write the demo to a new folder, and return what is in it.

    A model in a folder is copied, an adapter merged into its base; a name on the hub is kept.

    Raises BadValue where the folder has something in it, and as `merge` and `write_wheel`.
    """
    if (folder.is_dir() and any(folder.iterdir())) or folder.is_file():
        raise BadValue(f"--export: given {folder}, which is not empty; expected a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    copied = _Copies(folder)
    inside = spec.model_copy(
        update={
            "models": {name: copied.of(name, model) for name, model in spec.models.items()},
            "reference_model": copied.of(spec.reference, spec.reference_model),
            "reward_model": spec.reward_model and copied.of("reward", spec.reward_model),
        }
    )
    words = {"title": spec.title, "gradio": _gradio(), "python": f"{sys.version_info[0]}.{sys.version_info[1]}"}
    models = ", ".join(spec.models)
    texts = {
        "app.py": APP.format(title=spec.title),
        "demo.json": json_text(inside.model_dump(mode="json"), indent=2) + "\n",
        "requirements.txt": "\n".join([*_dependencies(), f"gradio=={words['gradio']}"]) + "\n",
        "README.md": README.format(**words, models=models, reference=spec.reference),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    write_wheel(folder)
    return sorted(folder.iterdir())


class _Copies:
    """The models of a demo inside its folder, each once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.places: dict[str, str] = {}  # path -> path inside

    def of(self, name: str, model: DemoModel) -> DemoModel:
        source = Path(model.path)
        if not source.is_dir():
            return model
        if model.path not in self.places:
            place = f"checkpoints/{_file_name(name)}"
            if place in self.places.values():
                place = f"{place}-{len(self.places)}"
            _copy(source, self.folder / place)
            self.places[model.path] = place
        return model.model_copy(update={"path": self.places[model.path]})


def _copy(source: Path, target: Path) -> None:
    if adapter_base(source) is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        merge(source, target)
        return
    target.mkdir(parents=True)
    for file in Path(model_folder(source)).iterdir():
        if file.is_file() and not file.name.startswith("."):
            shutil.copy(file, target / file.name)


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]", "-", name)


def _dependencies() -> Iterator[str]:
    """Of this package, without those of its extras."""
    for line in requires("rlhf-bench") or []:
        requirement, _, condition = line.partition(";")
        if "extra" not in condition:
            yield requirement.strip()


def _gradio() -> str:
    try:
        return version("gradio")
    except PackageNotFoundError:
        return GRADIO
