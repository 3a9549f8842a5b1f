"""What a configuration means, in runs as users start them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from blockwise.errors import UserError
from blockwise.volume import open_volume
from pipeline.__main__ import main
from pipeline.batch.manifest import load_batch
from pipeline.configuration.complaints import section_of
from pipeline.configuration.kinds import is_text
from pipeline.configuration.paths import PATHS, expand_path
from pipeline.configuration.settings import Section, Settings, load_settings
from tests.runs import Project, run_luigi


def test_a_class_that_is_called_no(unused: Project) -> None:
    with h5py.File("membranes.ilp", "a") as file:
        del file["PixelClassification/LabelNames"]
        names = file.create_dataset("PixelClassification/LabelNames", data=np.array([b"yes", b"no"]))
        names.attrs["isEmpty"] = False
    text = unused.config.read_text().replace("class: 1", "class: no")
    unused.config.write_text(text)
    assert unused.steps().objects[0].threshold.class_index == 1
    unused.config.write_text(text.replace("project:", "classes: [no, yes]\n  project:"))
    assert unused.steps().prediction.classes == (1, 0)
    unused.config.write_text(text.replace("class: no", "class: true"))
    with pytest.raises(UserError, match=r"threshold.class: found True; true is a boolean, .* quote it"):
        unused.steps()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder of these tests, beside the folder in which the commands run."""
    home = tmp_path / "people" / "me"
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("DATA", str(tmp_path))
    monkeypatch.delenv("NOT_SET", raising=False)
    return home


def test_home_and_variables_in_every_path(unused: Project, home: Path) -> None:
    unused.change("work_dir", "~/work")
    unused.change("raw", "$DATA/raw.n5:raw")
    unused.change("output", "${HOME}/result.n5")
    unused.change("prediction.project", "${DATA}/membranes.ilp")
    (home / "config.yaml").write_bytes(unused.config.read_bytes())
    before = sorted(Path().iterdir())
    assert unused.run().ok
    assert sorted(Path().iterdir()) == before
    assert (home / "work" / "objects.parquet").exists()
    assert main(["export", "mask", "~/mask.tif", "--config", "~/config.yaml"]) == 0
    assert main(["ingest", "~/mask.tif", "${HOME}/copy.n5:mask"]) == 0
    assert main(["validate", "~/copy.n5:mask", "$HOME/result.n5:thresholded"]) == 0
    assert sorted(Path().iterdir()) == before
    assert open_volume(f"{home}/copy.n5:mask").shape == (36, 36, 128)


def test_home_and_variables_in_a_batch(unused: Project, home: Path) -> None:
    unused.change("batch", {"files": ["~/*.h5", "$DATA/one.h5"]})
    unused.change("raw", {"key": "data"})
    unused.change("work_dir", "~/work")
    unused.change("output", "~/{name}.n5")
    for name in ("$NOT_SET.h5", "~.h5"):
        (home / name).touch()
    batch = load_batch("config.yaml", None)
    addresses = [f"{home}/$NOT_SET.h5:data", f"{home}/~.h5:data", f"{Path.cwd()}/one.h5:data"]
    assert [image.raw.address for image in batch.images] == addresses
    assert batch.shared["work_dir"] == batch.settings.work_dir == f"{home}/work"
    assert batch.images[2].work_dir == f"{home}/work/images/one"
    assert batch.images[2].output == f"{home}/one.n5"
    (home / "list.csv").write_text("raw,prediction.project\n~/a.h5,$DATA/own.ilp\n")
    batch = load_batch("config.yaml", "~/list.csv")
    assert batch.images[0].raw.path == f"{home}/a.h5"
    assert batch.images[0].prediction.project == f"{Path.cwd()}/own.ilp"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("work_dir", "$NOT_SET/work", "work_dir: '$NOT_SET/work': the variable NOT_SET is not set"),
        ("raw", "${NOT_SET}.n5:raw", "raw: '${NOT_SET}.n5:raw': the variable NOT_SET is not set"),
        ("output", "~nobody-has-this-name/x.n5", "output: '~nobody-has-this-name/x.n5': there is no home folder of"),
    ],
)
def test_unknown_variables_and_users(unused: Project, home: Path, key: str, value: str, words: str) -> None:
    unused.change(key, value)
    with pytest.raises(UserError) as failure:
        load_settings("config.yaml")
    assert words in str(failure.value)


def test_a_name_with_the_sign_of_a_variable(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a$NOT_SET.n5").mkdir()
    for text in ("a$NOT_SET.n5:raw", "a$NOT_SET.n5", "cost 5$.tif", "5$5.tif", "a~b", "./~/x", "s3://a~b/~.n5:raw"):
        assert expand_path(text) == text


def test_every_text_of_the_configuration_is_a_path_or_known_not_to_be_one() -> None:
    others = {
        "raw.key", "raw.axes", "raw.voxel_unit", "prediction.engine", "threshold.name", "backend.name",
        "backend.slurm.partition", "backend.slurm.account", "backend.slurm.qos", "backend.slurm.constraint",
        "backend.slurm.nodelist", "backend.slurm.exclude", "backend.slurm.setup", "backend.slurm.sbatch",
        "backend.aws_batch.queue", "backend.aws_batch.job_definition", "backend.aws_batch.share_identifier",
        "backend.aws_batch.python", "backend.dask.address", "backend.dask.slurm",
    }  # fmt: skip
    assert {key for key, kind in texts(Settings, "")} == (set(PATHS) - {"raw"}) | others


def texts(section: type[Section], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, field in section.model_fields.items():
        key = f"{prefix}{field.alias or name}"
        inner = section_of(field.annotation)
        if inner is not None:
            yield from texts(inner, f"{key}.")
        elif is_text(field.annotation) and "Literal" not in str(field.annotation):
            yield key, field.annotation


@pytest.mark.soak
def test_a_backend_for_pictures_that_a_notebook_hands_on(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only in a new process: whoever has loaded matplotlib before is past the trouble."""
    monkeypatch.setenv("MPLBACKEND", "nonsense")
    Path("work/overview.png").unlink(missing_ok=True)
    done = project.luigi()
    assert done.returncode == 0, done.stderr
    assert "picture" not in done.stderr
    assert Path("work/overview.png").stat().st_size > 10_000


@pytest.mark.soak
@pytest.mark.parametrize("output", ["result.n5", "result.zarr"])
def test_other_chunks_than_those_of_results_are_told(
    unused: Project, output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    unused.change("output", output)
    if output == "result.zarr":
        unused.change("blocks.shards", [36, 18, 32])

    def run(project: Project) -> tuple[int, str]:
        """In a process of its own: TensorStore forbids to fork one that has used it."""
        done = project.luigi()
        return done.returncode, done.stdout + done.stderr

    assert unused.run().ok
    assert main(["plan", "--config", "config.yaml"]) == 0
    assert "chunks" not in capsys.readouterr().out
    unused.change("blocks.chunks", [36, 18, 16])
    shards = " in shards 1x36x18x32" if output == "result.zarr" else ""
    note = (
        f"prediction: {output}:probabilities has chunks 1x18x18x16{shards}, the configuration says chunks "
        f"1x36x18x16{shards}; it is kept as it is, remove the dataset to have it written anew"
    )
    code, text = run(unused)
    assert code == 0
    assert "blocks to do" not in text
    assert note in text
    assert main(["plan", "--config", "config.yaml"]) == 0
    assert note in " ".join(capsys.readouterr().out.split())
    unused.change("threshold.threshold", 0.3)
    code, text = run(unused)
    assert code == 0
    assert note in " ".join(text.split())
    assert f"threshold: {output}:thresholded has" not in " ".join(text.split()), "it is made anew"
    shutil.rmtree(f"{output}/probabilities")
    assert unused.run().ok
    assert open_volume(f"{output}:probabilities").decode_shape == (1, 36, 18, 16)
    assert main(["plan", "--config", "config.yaml"]) == 0
    assert "probabilities has" not in capsys.readouterr().out


@pytest.mark.soak
def test_a_picture_that_cannot_be_drawn_ends_nothing(project: Project) -> None:
    Path("work/overview.png").mkdir(parents=True)  # nothing can take its place
    code, text = run_luigi(project)
    assert code == 0, text
    assert "Traceback" not in text
    assert "the picture was not drawn: IsADirectoryError" in " ".join(text.split())
    assert "ConnectedComponentsWorkflow is finished." in text
    Path("work/overview.png").rmdir()
    code, text = run_luigi(project)
    assert code == 0
    assert "Nothing to do" in text
    assert "picture               not drawn: IsADirectoryError" in text
    Path("work/ConnectedComponentsWorkflow.json").unlink()
    assert run_luigi(project)[0] == 0
    assert Path("work/overview.png").is_file()
