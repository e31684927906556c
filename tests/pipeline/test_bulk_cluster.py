"""An archive on a cluster of two machines, of which one is lost, by a command that is killed."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from processes import Commands, free_port, kill, output, wait_for

ray = pytest.importorskip("ray")
from ray.cluster_utils import Cluster  # noqa: E402

from cifake_lib.detect import examine  # noqa: E402

IMAGES = 480  # so many that work is left when the second machine is lost


@pytest.fixture(scope="module")
def cluster():
    """Two machines; no port is waited for, so that a busy machine starts them."""
    with pytest.MonkeyPatch.context() as environment:
        # Else its workers wait for whatever else runs here.
        environment.setenv("RAY_worker_niceness", "0")
        made = started()
        yield made
        made.shutdown()


def started():
    """Ray's helpers have 15 s to start, too few on a busy machine: three tries, as `bulk` has."""
    for attempt in range(3):
        made = Cluster()
        try:
            made.add_node(**machine(include_dashboard=False))
            made.add_node(**machine(resources={"second": 1}))
            return made
        except Exception:  # Ray's own kinds
            made.shutdown()
            if attempt == 2:
                raise


def machine(**settings):
    names = ("metrics_agent_port", "runtime_env_agent_port", "dashboard_agent_listen_port")
    return {"num_cpus": 2} | {name: free_port() for name in names} | settings


@pytest.fixture
def archive(tmp_path):
    """Images in folders, one of which is broken and one of which has an odd name."""
    rng = np.random.default_rng(0)
    for number in range(IMAGES):
        folder = tmp_path / "archive" / f"{number % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        noise = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((32, 32)).save(folder / f"picture {number:03}.png")
    (folder / "broken.jpg").write_bytes(b"no image")
    (folder / "notes.txt").write_text("no image either")
    (folder / "picture 002.png").rename(folder / "odd [1] *.png")
    return tmp_path / "archive"


@pytest.fixture
def bulk(cluster, archive, tmp_path):
    """`bulk()` starts the command; ended with the test."""
    arguments = [archive, "--out", tmp_path / "out", "--address", cluster.address]
    commands = Commands(tmp_path)
    yield lambda: commands.start("cifake_lib.bulk", *arguments, "--keep-every", 16)
    commands.end()


def test_nothing_is_lost_or_repeated_when_command_and_machine_die(cluster, archive, tmp_path, bulk):
    def kept():
        return list((tmp_path / "out" / "progress").glob("*.parquet"))

    killed = bulk()
    wait_for(lambda: len(kept()) >= 2, killed, seconds=300)
    kill(killed)
    before = {path.name: path.stat().st_mtime_ns for path in kept()}
    assert 2 <= len(before) < IMAGES / 16

    again = bulk()
    wait_for(lambda: len(kept()) > len(before), again, seconds=300)
    (second,) = [node for node in cluster.list_all_nodes() if node is not cluster.head_node]
    cluster.remove_node(second, allow_graceful=False)
    assert again.poll() is None, "nothing was left to do"
    assert again.wait(timeout=400) == 1, output(again)  # One file cannot be read.
    for name, written in before.items():  # What was done stays as it was.
        assert (tmp_path / "out" / "progress" / name).stat().st_mtime_ns == written

    table = pd.read_parquet(tmp_path / "out" / "verdicts").set_index("path").sort_index()
    expected = sorted(map(str, [*archive.rglob("*.png"), *archive.rglob("*.jpg")]))
    assert table.index.tolist() == expected
    assert f"{IMAGES + 1} images" in output(again)
    assert "1 unreadable" in output(again)
    assert "broken.jpg" in table[table.error != ""].error.item()

    # One more start, with another machine, finds nothing to do and leaves everything as it is.
    files = sorted((tmp_path / "out" / "verdicts").iterdir())
    cluster.add_node(**machine())
    cluster.wait_for_nodes(timeout=120)  # until the lost one is known to be lost
    idle = bulk()
    assert idle.wait(timeout=300) == 1, output(idle)
    assert sorted((tmp_path / "out" / "verdicts").iterdir()) == files
    assert f"{IMAGES + 1} images" in output(idle)

    # The verdicts are those of `cifake_lib.detect`, however they are batched.
    for record in examine(expected[:8]):
        row = table.loc[record.name]
        assert row.verdict == record.verdict
        assert row.p_fake == pytest.approx(record.p_fake, abs=1e-4)
        assert row.sha256 == record.sha256
        assert row.p_fake_resnet50 == pytest.approx(record.models["resnet50"], abs=1e-4)
