"""The folder for Hugging Face Spaces: it is whole without what it was made from."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from rlhf_bench.config import suites_dir
from rlhf_bench.demo import export
from rlhf_bench.demo.export import export_demo
from rlhf_bench.demo.session import Session
from rlhf_bench.demo.spec import DemoModel, DemoSpec, read_spec
from rlhf_bench.errors import BadValue


@pytest.fixture(scope="module")
def folder(spec: DemoSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("space") / "demo"
    export_demo(spec, target)
    return target


def test_the_copies_answer_as_the_originals(folder: Path, session: Session) -> None:
    spec = read_spec(folder)
    inside = [*(model.path for model in spec.models.values()), spec.reference_model.path]
    assert all(folder in Path(path).parents for path in inside)
    assert len(list((folder / "checkpoints").iterdir())) == 3  # ppo, reward, and sft once
    settings = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 8, "seed": 3}
    assert list(Session(spec).answers("Name a colour.", **settings)) == list(
        session.answers("Name a colour.", **settings)
    )


def test_what_spaces_reads(folder: Path) -> None:
    _, header, _ = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    found = yaml.safe_load(header)
    assert (found["sdk"], found["app_file"]) == ("gradio", "app.py")
    compile((folder / "app.py").read_text(encoding="utf-8"), "app.py", "exec")
    requirements = (folder / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert f"gradio=={found['sdk_version']}" in requirements
    assert any(line.startswith("torch") for line in requirements)
    assert not any("extra" in line or "pytest" in line for line in requirements)


def test_the_wheel_installs_and_has_its_suites(folder: Path, tmp_path: Path) -> None:
    (wheel,) = folder.glob("rlhf_bench-*-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        (record,) = (name for name in archive.namelist() if name.endswith(".dist-info/RECORD"))
        for path, digest, size in csv.reader(io.StringIO(archive.read(record).decode())):
            data = archive.read(path)
            sha = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            assert path == record or (digest, size) == (f"sha256={sha}", str(len(data)))
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--no-compile", "--target", tmp_path, wheel], check=True)
    code = "from rlhf_bench.config import suites_dir; print(*sorted(p.name for p in suites_dir().iterdir()))"
    run = subprocess.run([sys.executable, "-P", "-c", code], env={"PYTHONPATH": str(tmp_path)}, capture_output=True,
                         text=True, check=True, cwd=tmp_path)  # fmt: skip
    assert run.stdout.split() == sorted(path.name for path in suites_dir().iterdir())


def test_a_name_on_the_hub_stays_and_a_full_folder_is_refused(spec: DemoSpec, folder: Path, tmp_path: Path) -> None:
    hub = DemoModel(path="some-organisation/some-model", template="chat")
    export_demo(spec.model_copy(update={"models": {"theirs": hub}, "reward_model": None}), tmp_path / "new")
    assert read_spec(tmp_path / "new").models == {"theirs": hub}
    with pytest.raises(BadValue, match="not empty"):
        export_demo(spec, folder)


def test_an_export_that_is_interrupted_leaves_nothing(
    spec: DemoSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "write_wheel", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export_demo(spec, tmp_path / "space")
    assert not list(tmp_path.iterdir())
