"""A folder that runs a demo on Hugging Face Spaces: checkpoints, page, requirements, and this package as a wheel."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, requires, version
from pathlib import Path

import rlhf_bench
from rlhf_bench.config import suites_dir
from rlhf_bench.demo.spec import DemoModel, DemoSpec
from rlhf_bench.errors import BadValue, BenchError
from rlhf_bench.files import json_text
from rlhf_bench.modeling.adapters import adapter_base
from rlhf_bench.modeling.checkpoints import replacing
from rlhf_bench.modeling.folders import model_folder
from rlhf_bench.modeling.merge import merge

GRADIO = "6.0.0"  # where it is not installed here: the oldest that the extra takes
PACKAGES = ("rlhf_bench", "trainers")
WHEEL = "Wheel-Version: 1.0\nGenerator: rlhf-bench\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
COPIED = ("METADATA", "entry_points.txt")  # of the installed package's metadata

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
    """Write the demo to a new folder, all of it or nothing, and return what is in it.

    A model in a folder is copied, an adapter merged into its base; a name on the hub is kept.

    Raises BadValue where the folder has something in it, and as `merge` and `write_wheel`.
    """
    if (folder.is_dir() and any(folder.iterdir())) or folder.is_file():
        raise BadValue(f"--export: given {folder}, which is not empty; expected a new folder")
    with replacing(folder.absolute()) as fresh:
        _write(spec, fresh)
    return sorted(folder.iterdir())


def _write(spec: DemoSpec, folder: Path) -> None:
    inside = spec.placed(_Copies(folder).of)
    try:
        gradio = version("gradio")
    except PackageNotFoundError:
        gradio = GRADIO
    words = {"title": spec.title, "gradio": gradio, "python": f"{sys.version_info[0]}.{sys.version_info[1]}"}
    models = ", ".join(spec.models)
    texts = {
        "app.py": APP.format(title=spec.title),
        "demo.json": json_text(inside.model_dump(mode="json"), indent=2) + "\n",
        "requirements.txt": "\n".join([*_dependencies(), f"gradio=={gradio}"]) + "\n",
        "README.md": README.format(**words, models=models, reference=spec.reference),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    write_wheel(folder)


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
            place = "checkpoints/" + re.sub(r"[^\w.-]", "-", name)
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


def _dependencies() -> Iterator[str]:
    """What this package requires, without its extras."""
    for line in requires("rlhf-bench") or []:
        requirement, _, condition = line.partition(";")
        if "extra" not in condition:
            yield requirement.strip()


def write_wheel(folder: Path) -> Path:
    """Write rlhf_bench-VERSION-py3-none-any.whl to `folder`, of the files that run: from a checkout as well as from an
    installation, offline.

    The format is the binary distribution format of the Python packaging guide (PEP 427): a zip of the packages and a
    `.dist-info` folder with METADATA, WHEEL and RECORD. Raises BenchError where the package is not installed.
    """
    try:
        installed = distribution("rlhf-bench")
    except PackageNotFoundError:
        raise BenchError("rlhf-bench is not installed, so it has no metadata; install it with: pip install .") from None
    name = f"rlhf_bench-{installed.version}"
    info = {part: text for part in COPIED if (text := installed.read_text(part))} | {"WHEEL": WHEEL}
    contents = {**dict(_sources()), **{f"{name}.dist-info/{part}": text.encode() for part, text in info.items()}}
    record = f"{name}.dist-info/RECORD"
    lines = [f"{path},sha256={_digest(data)},{len(data)}" for path, data in contents.items()]
    path = folder / f"{name}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for inside, data in {**contents, record: "\n".join([*lines, f"{record},,\n"]).encode()}.items():
            wheel.writestr(zipfile.ZipInfo(inside, (2020, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)
    return path


def _sources() -> Iterator[tuple[str, bytes]]:
    """Path in the wheel and contents of every file of the packages, and of the suites."""
    root = Path(rlhf_bench.__file__).parent.parent
    folders = {root / package: package for package in PACKAGES} | {suites_dir(): "rlhf_bench/_suites"}
    for source, inside in folders.items():
        for file in sorted(source.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                yield f"{inside}/{file.relative_to(source).as_posix()}", file.read_bytes()


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
