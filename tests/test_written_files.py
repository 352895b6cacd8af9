"""What the package may delete, replace and write: one table of every such call, and strangers' files that survive all.

Deleted are only names of the package's own (`files.TEMPORARY`), files that a run wrote under a run's names into a run's
folder, and folders that are empty.
"""

import ast
import json
import re
import shutil
from pathlib import Path

import pytest
from source import functions
from support import QUICK, TINY_SIMAM, Command
from ultralytics.utils.checks import check_yaml
from users_files import OURS, content_of, plant, survive

from yolo_attn import files
from yolo_attn.cli import main
from yolo_attn.coco.demo import DEMO_VERSION, demo_dataset
from yolo_attn.engine.run_folder import is_run
from yolo_attn.files import remove_temporaries, scratch_folder, whole_files, write_bytes

TEMPORARY = "a temporary name of our own, which this call made"
SCRATCH = "a scratch folder of our own"
NAMED = "the file that the user named; one that is there needs --force"
RUN = "a run's file of that name, in a folder that check_replaceable has passed"
STUDY = "a comparison's file of that name, in the folder of its manifest"
EMPTY = "folders in which nothing lies"

TOUCHED = {
    "cli/insert run write_text": NAMED,
    "cli/migrate run write_text": NAMED,
    "cli/remove run write_text": NAMED,
    "cli/show run write_bytes": NAMED,
    "cli/streams Stream._guarded open": "the null device, for a stream that nobody reads any more",
    "cli/streams _open open": "a standard stream, opened anew",
    "coco/reading/cache _remove_old unlink": "plain files under the cache's own names that nobody read for 90 days",
    "coco/reading/cache save_arrays write_bytes": "the cache's file of that key",
    "coco/demo _draw_split write_bytes": SCRATCH,
    "coco/demo _draw_split write_text": SCRATCH,
    "coco/demo demo_dataset rename": "the demo set's folder, if it is not there yet",
    "coco/demo demo_dataset scratch_folder": SCRATCH,
    "coco/draw draw_suspects write_bytes": "pictures of an earlier check-data",
    "coco/draw draw_suspects write_json": "data_report.json in --pictures, which is empty without --force",
    "coco/evaluate Detections.save write_bytes": RUN,
    "coco/evaluate write_truth write_bytes": STUDY,
    "coco/dataset/data_report SplitReport.save write_json": RUN,
    "coco/split write write_json": "lists of ids in the folder of -o, which is empty without --force",
    "coco/split write write_text": "data.yaml in the folder of -o, which is empty without --force",
    "compare/report/charts as_svg savefig": "a stream in memory",
    "compare/pipeline _measure write_json": STUDY,
    "compare/pipeline compare remove_temporaries": "our names in the comparison's folder, its models/ and its runs",
    "compare/pipeline compare write_json": STUDY,
    "compare/pipeline compare write_text": STUDY,
    "compare/report/writer write_report write_bytes": STUDY,
    "compare/execution/processes ask Popen": "no file; its errors go into a temporary one",
    "compare/execution/processes ask TemporaryFile": TEMPORARY,
    "compare/execution/runner _clear clear": "a run's files in the folder of a training that began and did not finish",
    "compare/execution/runner _settle write_json": RUN,
    "compare/execution/runner _start open": STUDY,
    "compare/execution/runner _start Popen": "no file; its output goes into the log",
    "compare/execution/runner locked FileLock": STUDY,
    "compare/execution/worker main write_json": RUN,
    "engine/data write_data_yaml write_text": RUN,
    "engine/training/distributed share_folder NamedTemporaryFile": TEMPORARY,
    "engine/export/exporter _put rename": "an earlier export's folder, all of whose names the new one has",
    "engine/export/exporter _put replace": "the file that is exported to, or the folder of an earlier export",
    "engine/export/exporter _save_script write_bytes": SCRATCH,
    "engine/export/exporter export scratch_folder": SCRATCH,
    "engine/training/run_files RunFiles._write_header write_text": SCRATCH,
    "engine/training/run_files RunFiles._undo_folder clear": "a run's files in the folder that this training made",
    "engine/training/run_files RunFiles._undo_folder remove_empty": EMPTY,
    "engine/training/run_files RunFiles.check_resume unlink": RUN,
    "engine/training/run_files RunFiles.final_eval.save_whole write_bytes": RUN,
    "engine/training/run_files RunFiles.resume_training write_text": RUN,
    "engine/training/run_files RunFiles.save_metrics copyfile": SCRATCH,
    "engine/training/run_files RunFiles.save_metrics whole_files": RUN,
    "engine/training/run_files RunFiles.save_model whole_files": RUN,
    "engine/run_folder claim remove_empty": EMPTY,
    "engine/run_folder clear remove_empty": EMPTY,
    "engine/run_folder clear remove_temporaries": "our names in a run folder and its weights/",
    "engine/run_folder tidy remove_temporaries": "our names in a run folder and its weights/",
    "engine/run_folder clear unlink": "files under a run's names",
    "engine/training/trainer RunTrainer._setup_train write_json": RUN,
    "engine/validation/validator ClassificationValidator.get_stats write_json": RUN,
    "engine/validation/validator RunValidator.get_stats write_json": RUN,
    "files check_writable TemporaryFile": TEMPORARY,
    "files remove_empty rmdir": EMPTY,
    "files remove_temporaries rmtree": "folders under our names, no links",
    "files remove_temporaries unlink": "plain files under our names, no links",
    "files scratch_folder mkdtemp": TEMPORARY,
    "files scratch_folder rmtree": TEMPORARY,
    "files whole_files replace": "the files that the caller names",
    "files whole_files scratch_folder": SCRATCH,
    "files write_bytes chmod": TEMPORARY,
    "files write_bytes open": TEMPORARY,
    "files write_bytes replace": "the file that the caller names; a link there is replaced itself",
    "files write_bytes unlink": TEMPORARY,
    "files write_json write_text": "the file that the caller names",
    "files write_text write_bytes": "the file that the caller names",
    "maps/figures draw_classes savefig": SCRATCH,
    "maps/figures draw_gate savefig": SCRATCH,
    "maps/figures draw_statistics savefig": SCRATCH,
    "maps/figures save_image write_bytes": SCRATCH,
    "maps/attention_maps draw_maps whole_files": "files of an earlier attention-maps, by its gates.json",
    "maps/attention_maps draw_maps write_json": SCRATCH,
    "maps/attention_maps draw_maps write_text": SCRATCH,
    "safe/safetensors_file write_weights write_bytes": "the file that the caller names",
    "patches/workers generate_ddp_file write_text": "the file that Ultralytics has just made for its workers",
}
"""Every call that may delete, replace or write, and what it may touch."""

WRITING = {
    *("unlink", "rmtree", "rmdir", "remove", "removedirs", "rename", "renames", "replace", "move", "truncate"),
    *("open", "fdopen", "write_text", "write_bytes", "write_json", "touch", "chmod", "copy", "copy2", "copyfile"),
    *("copytree", "mkstemp", "mkdtemp", "TemporaryDirectory", "TemporaryFile", "NamedTemporaryFile", "FileLock"),
    *("Popen", "extractall"),
    *("symlink_to", "hardlink_to", "link", "symlink", "save_file", "savefig", "imwrite", "to_csv", "to_json", "dump"),
    *("whole_files", "scratch_folder", "clear", "remove_temporaries", "remove_empty"),
}


def called(node):
    """The name that a call goes by, if it may delete, replace or write."""
    owner, _, name = ast.unparse(node.func).rpartition(".")
    words = [ast.unparse(each) for each in (*node.args, *(keyword.value for keyword in node.keywords))]
    harmless = (
        (name == "replace" and (len(node.args) != 1 or node.keywords))  # of text, of a dataclass
        or (name == "remove" and owner not in {"os", "shutil"})  # of a list, of a hook
        or (name == "clear" and (owner or not node.args))  # of a collection
        or (name in {"copy", "copy2", "move"} and owner != "shutil")
        or (
            name in {"open", "fdopen"}
            and not any(re.fullmatch(r"'[^']*[wax+][^']*'|.*O_(WRONLY|RDWR|CREAT).*", w) for w in words)
        )
        or (name == "dump" and len(node.args) < 2)
    )
    return None if harmless or name not in WRITING else name


def test_the_table_names_every_call_that_deletes_replaces_or_writes():
    found = {f"{where} {called(node)}" for where, node in functions() if isinstance(node, ast.Call) and called(node)}
    found -= {"files write_bytes fdopen"}  # of the handle that mkstemp gave
    assert found == TOUCHED.keys()


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("file.unlink()", "unlink"),
        ("shutil.rmtree(folder)", "rmtree"),
        ("os.remove(file)", "remove"),
        ("a.replace(b)", "replace"),
        ("os.replace(a, b)", None),
        ("text.replace('a', 'b')", None),
        ("open(file, 'w')", "open"),
        ("file.open(mode='ab')", "open"),
        ("file.open('rb')", None),
        ("names.remove(name)", None),
    ],
)
def test_a_new_call_would_be_found(code, name):
    assert called(ast.parse(code).body[0].value) == name


def run(*arguments):
    return main([str(a) for a in arguments])


@pytest.fixture(scope="module")
def trained(small_coco, tmp_path_factory):
    """A run folder of two epochs, cut off after the first."""
    home = tmp_path_factory.mktemp("written")
    arguments = ["train", "--cfg", TINY_SIMAM, "--data", small_coco, "--epochs", 2, "--project", home]
    command = Command(home, *arguments, *QUICK, "plots=False")
    command.wait_for((home / "train/weights/last.pt").exists)
    command.process.kill()
    command.process.join()
    return home / "train"


@pytest.fixture
def cut_off(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "home/run")


class TestResume:
    @pytest.mark.integration
    def test_only_our_temporary_names_go_and_only_in_a_run_folder(self, cut_off, tmp_path):
        planted = {}
        for n, folder in enumerate((cut_off, cut_off / "weights", cut_off.parent)):
            planted |= plant(folder, tmp_path / f"outside{n}")
        for folder in (cut_off, cut_off / "weights"):
            (folder / OURS).mkdir()
            (folder / OURS / "last.pt").touch()
        (cut_off.parent / OURS).touch()
        assert run("train", "--resume", cut_off / "weights/last.pt", "plots=False") == 0
        assert survive(planted)
        assert not (cut_off / OURS).exists()
        assert not (cut_off / "weights" / OURS).exists()
        assert (cut_off.parent / OURS).exists()

    @pytest.mark.integration
    def test_a_home_folder_with_weights_in_it_is_no_run_folder(self, cut_off, tmp_path):
        home = tmp_path / "user"
        (home / "weights").mkdir(parents=True)
        shutil.copy(cut_off / "weights/last.pt", home / "weights")
        planted = plant(home, tmp_path / "outside")
        (home / OURS).write_text("not known to be ours here")
        assert not is_run(home)
        assert run("train", "--resume", home / "weights/last.pt", "plots=False") == 0
        assert survive(planted)
        assert (home / OURS).exists()

    @pytest.mark.integration
    @pytest.mark.parametrize("name", ["results.csv", "args.yaml", "data.yaml", "weights/best.pt", "weights/epoch1.pt"])
    def test_somebodys_work_is_not_replaced(self, cut_off, tmp_path, capsys, name):
        home = tmp_path / "user"
        (home / "weights").mkdir(parents=True)
        shutil.copy(cut_off / "weights/last.pt", home / "weights")
        (home / name).write_text("name,score\nmine,1")
        assert run("train", "--resume", home / "weights/last.pt", "plots=False") == 2
        assert f"error: {home / name}: a run would replace it" in capsys.readouterr().err
        assert (home / name).read_text() == "name,score\nmine,1"
        assert {f.name for f in home.rglob("*")} == {"weights", "last.pt", Path(name).name}


LINKS = ("args.yaml", "results.csv", "labels.jpg", "weights/best.pt")


@pytest.mark.integration
@pytest.mark.parametrize(
    ("how", "name"), [*(("resume", name) for name in LINKS), *(("exist_ok", name) for name in (*LINKS, "weights"))]
)
def test_nothing_is_written_through_a_link(cut_off, small_coco, tmp_path, capsys, how, name):
    precious = tmp_path / "precious"
    (cut_off / name).rename(precious) if (cut_off / name).exists() else precious.write_text("precious")
    (cut_off / name).symlink_to(precious)
    before = content_of(precious) if precious.is_file() else sorted(precious.iterdir())
    more = ["--project", cut_off.parent, "--name", "run", "exist_ok=True", "plots=False"]
    new = ["--cfg", TINY_SIMAM, "--data", small_coco, "--epochs", 1, *QUICK, *more]
    assert run("train", *(["--resume", cut_off / "weights/last.pt"] if how == "resume" else new)) == 2
    assert f"error: {cut_off / name}: it is a link" in capsys.readouterr().err
    assert (content_of(precious) if precious.is_file() else sorted(precious.iterdir())) == before


class TestRunsInAFolderThatIsThere:
    @pytest.mark.integration
    @pytest.mark.parametrize("name", ["results.csv", "weights/best.pt", "data.yaml", "predictions.json"])
    def test_somebodys_work_is_not_replaced_by_a_training(self, small_coco, tmp_path, capsys, name):
        (tmp_path / "exp/weights").mkdir(parents=True)
        (tmp_path / "exp" / name).write_text("mine")
        arguments = ["--cfg", TINY_SIMAM, "--data", small_coco, "--epochs", 1, *QUICK, "plots=False"]
        assert run("train", *arguments, "--project", tmp_path, "--name", "exp", "exist_ok=True") == 2
        assert f"error: {tmp_path / 'exp' / name}: a run would replace it" in capsys.readouterr().err
        assert (tmp_path / "exp" / name).read_text() == "mine"

    @pytest.mark.integration
    @pytest.mark.parametrize("name", ["data.yaml", "metrics.json", "labels/a.txt"])
    def test_somebodys_work_is_not_replaced_by_a_validation(self, trained, small_coco, tmp_path, capsys, name):
        """Ultralytics deletes all of labels/*.txt before it writes there."""
        (tmp_path / "exp/labels").mkdir(parents=True)
        (tmp_path / "exp" / name).write_text("mine")
        where = ["--project", tmp_path, "--name", "exp", "exist_ok=True", "save_txt=True", "plots=False"]
        last = trained / "weights/last.pt"
        assert run("val", "--weights", last, "--data", small_coco, "--device", "cpu", *where) == 2
        assert f"error: {tmp_path / 'exp' / name}: a run would replace it" in capsys.readouterr().err
        assert (tmp_path / "exp" / name).read_text() == "mine"

    @pytest.mark.integration
    def test_a_validation_leaves_what_it_finds(self, trained, small_coco, tmp_path):
        (tmp_path / "exp").mkdir()
        planted = plant(tmp_path / "exp", tmp_path / "outside")
        where = ["--project", tmp_path, "--name", "exp", "exist_ok=True", "--device", "cpu"]
        for _ in range(2):
            assert run("val", "--weights", trained / "weights/last.pt", "--data", small_coco, *where) == 0
        assert survive(planted)

    @pytest.mark.integration
    def test_a_training_that_did_not_begin_leaves_what_was_put_in_meanwhile(self, small_coco, tmp_path, monkeypatch):
        from yolo_attn.coco.dataset.dataset import CocoDataset

        planted = {}

        def stop(self):
            planted.update(plant(tmp_path / "runs/train", tmp_path / "outside"))
            raise KeyboardInterrupt

        monkeypatch.setattr(CocoDataset, "get_labels", stop)
        arguments = ["--cfg", TINY_SIMAM, "--data", small_coco, "--epochs", 1, *QUICK]
        assert run("train", *arguments, "--project", tmp_path / "runs") == 130
        assert survive(planted)
        assert not {"args.yaml", "data.yaml", "weights"} & {f.name for f in (tmp_path / "runs/train").iterdir()}


@pytest.mark.integration
def test_exports_leave_what_they_find(trained, tmp_path, monkeypatch):
    planted = plant(tmp_path, tmp_path / "outside")
    shutil.copy(trained / "weights/last.pt", tmp_path / "last.pt")
    for fmt, name in (("safetensors", "last.safetensors"), ("torchscript", "last.torchscript")):
        (tmp_path / name).symlink_to(tmp_path / "outside/precious.txt")
        assert run("export", "--weights", tmp_path / "last.pt", "--format", fmt, "--imgsz", 64) == 0
        assert not (tmp_path / name).is_symlink()
    assert survive(planted)
    assert not [f for f in tmp_path.glob(".yolo_attn-*") if f not in planted]


@pytest.mark.integration
def test_a_file_put_into_an_exported_folder_is_not_lost(trained, tmp_path, capsys):
    shutil.copy(trained / "weights/last.pt", tmp_path / "last.pt")
    command = ["export", "--weights", tmp_path / "last.pt", "--format", "openvino", "--imgsz", 64]
    assert run(*command) == 0
    (folder,) = tmp_path.glob("*openvino_model")
    mine = folder / "notes" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    assert run(*command) == 2
    assert "is there, with other files: notes" in capsys.readouterr().err
    assert mine.read_text() == "mine"


@pytest.mark.integration
@pytest.mark.parametrize("command", ["insert", "remove", "migrate"])
def test_edits_of_model_yamls_leave_what_they_find(tmp_path, capsys, command):
    planted = plant(tmp_path, tmp_path / "outside")
    (tmp_path / "link.yaml").symlink_to(tmp_path / "outside/precious.txt")
    (tmp_path / "dangling.yaml").symlink_to(tmp_path / "outside/none.yaml")
    words = {"insert": ["yolov8n.yaml", "--layer", "SimAM", "--at", "neck"], "remove": ["yolov8n-simam.yaml"]}
    port = tmp_path / "yolov8n-port.yaml"
    port.write_text(
        Path(check_yaml("yolov8.yaml")).read_text().replace("SPPF, [1024, 5]", "GAM_Attention, [1024, 1024]")
    )
    words = words.get(command, [port])
    for name in ("link.yaml", "dangling.yaml"):
        assert run(command, *words, "-o", tmp_path / name) == 2
        assert "it exists already" in capsys.readouterr().err
        assert run(command, *words, "-o", tmp_path / name, "--force") == 0
        assert not (tmp_path / name).is_symlink()
    assert survive(planted)
    assert not (tmp_path / "outside/none.yaml").exists()


@pytest.mark.integration
def test_maps_and_check_data_leave_what_they_find(trained, small_coco, tmp_path):
    maps, check = tmp_path / "maps", tmp_path / "check"
    maps.mkdir()
    check.mkdir()
    planted = plant(maps, tmp_path / "outside") | plant(check, tmp_path / "outside2")
    source = min((small_coco / "images/val").iterdir())
    last = trained / "weights/last.pt"
    for _ in range(2):
        assert run("attention-maps", "--weights", last, "--source", source, "--output", maps, "--force") == 0
        assert run("check-data", small_coco, "--pictures", check, "--force") == 0
    assert survive(planted)


def test_pictures_that_no_check_data_drew_are_not_replaced(small_coco, tmp_path, capsys):
    (tmp_path / "train-001-mine.jpg").write_text("mine")
    assert run("check-data", small_coco, "--pictures", tmp_path, "--force") == 2
    assert "train-001-mine.jpg is not of an earlier check-data" in capsys.readouterr().err
    assert [f.name for f in tmp_path.iterdir()] == ["train-001-mine.jpg"]


def test_the_demo_set_and_the_cache_leave_what_they_find(tmp_path):
    planted = plant(tmp_path, tmp_path / "outside")
    (tmp_path / f"{DEMO_VERSION}-2-1").symlink_to(tmp_path / "outside/none")
    with pytest.raises(Exception, match="cannot draw the demo set"):
        demo_dataset(tmp_path, train=2, val=1)
    (tmp_path / f"{DEMO_VERSION}-2-1").unlink()
    demo_dataset(tmp_path, train=2, val=1)
    assert survive(planted)


class TestFiles:
    def test_temporary_names_are_ours_alone(self, tmp_path, monkeypatch):
        seen = []
        replace = Path.replace
        monkeypatch.setattr(Path, "replace", lambda self, to: (seen.append(self.name), replace(self, to))[1])
        for _ in range(20):
            write_bytes(tmp_path / "file", b"x")
            with scratch_folder(tmp_path) as scratch:
                seen.append(scratch.name)
        assert len(set(seen)) == 40
        assert all(files.TEMPORARY.fullmatch(name) for name in seen)

    def test_a_users_folder_of_the_old_scratch_name_stays(self, tmp_path):
        planted = plant(tmp_path, tmp_path / "outside")
        with whole_files(tmp_path) as scratch:
            (scratch / "new.txt").write_text("new")
        assert (tmp_path / "new.txt").read_text() == "new"
        assert survive(planted)

    def test_links_under_our_names_stay_and_lead_nowhere(self, tmp_path):
        planted = plant(tmp_path, tmp_path / "outside")
        (tmp_path / OURS).mkdir()
        (tmp_path / OURS / "link").symlink_to(tmp_path / "outside")
        remove_temporaries(tmp_path, tmp_path / "none")
        assert not (tmp_path / OURS).exists()
        assert survive(planted)

    @pytest.mark.parametrize(
        ("name", "content", "expected"),
        [
            ("args.yaml", "task: detect\nmode: train\nmodel: x\n", True),
            ("args.yaml", "task: detect\r\nmode: train\r\n", True),
            ("args.yaml", "", True),
            ("args.yaml", "mode: serve\n", False),
            ("args.yaml", "# mode: train\n", False),
            ("metrics.json", json.dumps({"AP": 0.5, "versions": {"yolo_attn": "1"}}), True),
            ("metrics.json", "{}", False),
            ("metrics.json", json.dumps({"AP": 0.5, "versions": [1, 2]}), False),
            ("results.csv", "epoch,time\n1,2\n", False),
        ],
    )
    def test_what_makes_a_run_folder(self, tmp_path, name, content, expected):
        (tmp_path / name).write_text(content)
        assert is_run(tmp_path) == expected
        other = tmp_path / "other"
        other.mkdir()
        (other / name).symlink_to(tmp_path / name)
        assert not is_run(other)
