from __future__ import annotations

import inspect
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from vtt.errors import ConfigError, MissingError, ShapeError, StoreError
from vtt.store import EpisodeStore, Stream, StreamSpec
from vtt.store_check import repair, verify

STREAMS = {
    "tactile_left": StreamSpec("tactile_image", (48, 64, 3), "uint8", "", 20.0, sensor="gelsight_mini"),
    "force_left": StreamSpec("force_grid", (24, 32, 3), "float32", "N", 40.0),
    "wrench": StreamSpec("vector", (6,), "float32", "N, N·m", 100.0, names=("fx", "fy", "fz", "tx", "ty", "tz")),
    "success": StreamSpec("scalar", (), "bool", "", 20.0),
}


def make_episode(index: int) -> dict[str, Stream]:
    """Every byte follows from the index: streams of different rates, force mostly zero as touch is."""
    rng = np.random.default_rng(index)
    steps = int(rng.integers(4, 30))

    def stamps(count: int, period_ns: int) -> np.ndarray:
        return np.arange(count, dtype=np.int64) * period_ns

    force = np.zeros((2 * steps, 24, 32, 3), np.float32)
    force[:, 10:14, 10:14] = rng.random((2 * steps, 4, 4, 3), dtype=np.float32) * (index % 3)
    return {
        "tactile_left": Stream(rng.integers(0, 256, (steps, 48, 64, 3), dtype=np.uint8), stamps(steps, 50_000_000)),
        "force_left": Stream(force, stamps(2 * steps, 25_000_000)),
        "wrench": Stream(rng.random((5 * steps, 6), dtype=np.float32), stamps(5 * steps, 10_000_000)),
        "success": Stream(rng.random(steps) < 0.5, stamps(steps, 50_000_000)),
    }


def assert_same(read: Mapping[str, Stream], index: int, keys: tuple[str, ...] = tuple(STREAMS)) -> None:
    written = make_episode(index)
    assert set(read) == set(keys)
    for key in keys:
        assert read[key].data.dtype == written[key].data.dtype
        np.testing.assert_array_equal(read[key].data, written[key].data)
        np.testing.assert_array_equal(read[key].stamp_ns, written[key].stamp_ns)


def filled(path: Path, episodes: int) -> EpisodeStore:
    store = EpisodeStore.create(path, streams=STREAMS, attributes={"environment": "PegInsertion"})
    store.extend([make_episode(i) for i in range(episodes)], attributes=[{"seed": i} for i in range(episodes)])
    return store


def append_once(path: Path, index: int) -> None:
    """A fresh writer goes on and what it wrote reads back."""
    store = EpisodeStore.open(path)
    at = store.append(make_episode(index), attributes={"seed": index})
    assert_same(EpisodeStore.open(path).read(at), index)


# -- reading what was written ------------------------------------------------------------------------------------------


def test_every_episode_reads_back_bit_for_bit(tmp_path: Path) -> None:
    store = EpisodeStore.create(tmp_path / "store", streams=STREAMS)
    assert store.append(make_episode(0), attributes={"seed": np.int64(0), "success": np.bool_(True)}) == 0
    assert store.extend([make_episode(i) for i in range(1, 9)]) == range(1, 9)
    for reader in (store, EpisodeStore.open(tmp_path / "store")):
        assert len(reader) == 9
        for index in range(9):
            assert_same(reader.read(index), index)
        assert reader.episode_attributes(0) == {"seed": 0, "success": True}
        assert reader.episode_attributes(8) == {}
    report = verify(tmp_path / "store")
    assert report.intact
    assert report.episodes == 9
    assert report.leftovers == ()


def test_one_stream_of_all_episodes_is_their_concatenation(tmp_path: Path) -> None:
    store = filled(tmp_path / "store", 7)
    whole, ends = store.read_all("wrench"), store.episode_ends("wrench")
    assert len(whole.data) == len(whole.stamp_ns) == ends[-1]
    for index, part in enumerate(np.split(whole.data, ends[:-1])):
        np.testing.assert_array_equal(part, make_episode(index)["wrench"].data)


def test_only_the_wanted_streams_are_read(tmp_path: Path) -> None:
    store = filled(tmp_path / "store", 3)
    assert_same(store.read(1, ["wrench"]), 1, ("wrench",))


def test_an_empty_store_reads_as_empty(tmp_path: Path) -> None:
    store = EpisodeStore.create(tmp_path / "store", streams=STREAMS)
    assert len(EpisodeStore.open(tmp_path / "store")) == 0
    assert store.extend([]) == range(0, 0)
    assert store.read_all("force_left").data.shape == (0, 24, 32, 3)
    assert store.episode_ends("force_left").shape == (0,)
    assert verify(tmp_path / "store").intact


def test_specs_and_attributes_survive_reopening(tmp_path: Path) -> None:
    filled(tmp_path / "store", 1)
    store = EpisodeStore.open(tmp_path / "store")
    assert dict(store.streams) == STREAMS
    assert dict(store.attributes) == {"environment": "PegInsertion"}


def test_any_zarr_reader_opens_the_store(tmp_path: Path) -> None:
    filled(tmp_path / "store", 2)
    group = zarr.open_group(tmp_path / "store", mode="r", zarr_format=3)
    assert group.attrs["episodes_committed"] == 2
    array = group["streams/tactile_left/data"]
    assert isinstance(array, zarr.Array)
    np.testing.assert_array_equal(array[: len(make_episode(0)["success"].data)], make_episode(0)["tactile_left"].data)


def test_the_root_does_not_grow_with_the_episodes(tmp_path: Path) -> None:
    store = filled(tmp_path / "store", 1)
    before = (tmp_path / "store" / "zarr.json").stat().st_size
    store.extend(
        [make_episode(i) for i in range(1, 30)], attributes=[{"seed": i, "note": "x" * 200} for i in range(29)]
    )
    assert (tmp_path / "store" / "zarr.json").stat().st_size <= before + 2


def test_two_writers_take_turns(tmp_path: Path) -> None:
    first = filled(tmp_path / "store", 1)
    second = EpisodeStore.open(tmp_path / "store")
    assert first.append(make_episode(1)) == 1
    assert second.append(make_episode(2)) == 2
    assert first.append(make_episode(3)) == 3
    for index in range(4):
        assert_same(EpisodeStore.open(tmp_path / "store").read(index), index)


def test_a_reader_keeps_what_it_saw_while_a_writer_appends(tmp_path: Path) -> None:
    writer = filled(tmp_path / "store", 2)
    reader = EpisodeStore.open(tmp_path / "store")
    writer.extend([make_episode(i) for i in range(2, 12)])
    assert len(reader) == 2
    for index in range(2):
        assert_same(reader.read(index), index)


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_an_existing_store_is_not_overwritten(tmp_path: Path) -> None:
    filled(tmp_path / "store", 1)
    with pytest.raises(StoreError, match="exists already"):
        EpisodeStore.create(tmp_path / "store", streams=STREAMS)
    assert len(EpisodeStore.open(tmp_path / "store")) == 1


def test_a_folder_that_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"must be an episode store, got another folder\."):
        EpisodeStore.open(tmp_path)
    with pytest.raises(StoreError, match=r"must be an episode store, got nothing\."):
        verify(tmp_path / "nowhere")
    zarr.open_group(tmp_path / "other", mode="w", zarr_format=3)
    with pytest.raises(StoreError, match=r"must be an episode store, got something else\."):
        EpisodeStore.open(tmp_path / "other")


def test_a_store_of_a_later_version_is_refused(tmp_path: Path) -> None:
    filled(tmp_path / "store", 1)
    path = tmp_path / "store" / "zarr.json"
    path.write_text(path.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(StoreError, match="version 1 or lower, got 2"):
        EpisodeStore.open(tmp_path / "store")


def test_a_store_needs_streams_with_plain_names(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least one stream"):
        EpisodeStore.create(tmp_path / "store", streams={})
    with pytest.raises(ConfigError, match="letters, digits and underscores"):
        EpisodeStore.create(tmp_path / "store", streams={"../up": STREAMS["wrench"]})


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (dict(kind="sound"), "kind must be one of image"),
        (dict(shape=(6, 2)), "shape of a vector must have 1 axes"),
        (dict(dtype="str"), "dtype must be a boolean, integer or float"),
        (dict(dtype="quaternion"), "dtype must be a boolean, integer or float"),
        (dict(rate_hz=0.0), "rate_hz must be positive"),
        (dict(names=("fx",)), "names must name each component"),
    ],
)
def test_an_impossible_spec_is_refused(fault: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        StreamSpec(**{"kind": "vector", "shape": (6,), "dtype": "float32", "unit": "N", "rate_hz": 20.0, **fault})


def _without(episode: dict[str, Stream]) -> None:
    del episode["wrench"]


def _with_another(episode: dict[str, Stream]) -> None:
    episode["sound"] = episode["wrench"]


def _other_dtype(episode: dict[str, Stream]) -> None:
    episode["wrench"] = Stream(episode["wrench"].data.astype(np.float64), episode["wrench"].stamp_ns)


def _other_shape(episode: dict[str, Stream]) -> None:
    episode["wrench"] = Stream(episode["wrench"].data[:, :5], episode["wrench"].stamp_ns)


def _fewer_stamps(episode: dict[str, Stream]) -> None:
    episode["wrench"] = Stream(episode["wrench"].data, episode["wrench"].stamp_ns[:-1])


def _float_stamps(episode: dict[str, Stream]) -> None:
    episode["wrench"] = Stream(episode["wrench"].data, episode["wrench"].stamp_ns.astype(np.float64))  # type: ignore[arg-type]


def _stuck_clock(episode: dict[str, Stream]) -> None:
    episode["wrench"].stamp_ns[3] = episode["wrench"].stamp_ns[2]


def _empty(episode: dict[str, Stream]) -> None:
    episode["wrench"] = Stream(episode["wrench"].data[:0], episode["wrench"].stamp_ns[:0])


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (_without, "Missing: wrench. Not in store: none."),
        (_with_another, "Missing: none. Not in store: sound."),
        (_other_dtype, r"'wrench' must be float32 \(T, 6\), got float64 \(\d+, 6\)\."),
        (_other_shape, r"'wrench' must be float32 \(T, 6\), got float32 \(\d+, 5\)\."),
        (_fewer_stamps, r"Stamps of stream 'wrench' must be int64"),
        (_float_stamps, r"Stamps of stream 'wrench' must be int64 \(\d+,\) like its data, got float64"),
        (_stuck_clock, "must increase strictly, got 20000000 then 20000000 ns at sample 2"),
        (_empty, "'wrench' must have at least one sample"),
    ],
)
def test_a_faulty_episode_is_refused_and_none_of_its_batch_is_written(tmp_path: Path, fault: Any, message: str) -> None:
    store = filled(tmp_path / "store", 2)
    faulty = make_episode(3)
    fault(faulty)
    with pytest.raises(ShapeError, match=message):
        store.extend([make_episode(2), faulty])
    assert len(store) == len(EpisodeStore.open(tmp_path / "store")) == 2
    assert verify(tmp_path / "store").leftovers == ()


def test_attributes_that_are_not_json_are_refused(tmp_path: Path) -> None:
    store = filled(tmp_path / "store", 1)
    with pytest.raises(ConfigError, match="attributes must be JSON-ready values"):
        store.append(make_episode(1), attributes={"policy": object()})
    with pytest.raises(ConfigError, match=r"one per episode \(1\), got 0"):
        store.extend([make_episode(1)], attributes=[])


def test_an_episode_or_stream_that_is_not_there_is_named(tmp_path: Path) -> None:
    store = filled(tmp_path / "store", 2)
    with pytest.raises(MissingError, match=r"No episode 2 in .*, which holds 2, counted from 0\."):
        store.read(2)
    with pytest.raises(MissingError, match=r"No stream 'sound'\. Available: force_left, success"):
        store.read_all("sound")


# -- interruption ------------------------------------------------------------------------------------------------------

_IMPORTS = "import os, sys\nimport numpy as np\nimport zarr\nfrom vtt.store import EpisodeStore, Stream\n"

# Forks one collector per line of stdin, so that the imports are paid once. A collector says what it has committed.
_NURSERY = """
def collect(path):
    store = EpisodeStore.open(path)
    while True:
        first = len(store)
        store.extend([make_episode(first + k) for k in range(1 + first % 3)],
                     attributes=[{"seed": first + k} for k in range(1 + first % 3)])
        os.write(1, b"%d\\n" % len(store))

for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        collect(sys.argv[1])
    os.write(1, b"pid %d\\n" % pid)
    os.waitpid(pid, 0)
    os.write(1, b"reaped\\n")
"""


def test_killing_a_collector_at_20_random_moments_loses_no_committed_episode(tmp_path: Path) -> None:
    path = tmp_path / "store"
    EpisodeStore.create(path, streams=STREAMS)
    moments = random.Random(0)
    script = _IMPORTS + inspect.getsource(make_episode) + _NURSERY
    command = [sys.executable, "-c", script, str(path)]
    told, interrupted = 0, 0
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as nursery:
        assert nursery.stdin
        assert nursery.stdout
        for moment in range(20):
            nursery.stdin.write("go\n")
            nursery.stdin.flush()
            lines: list[str] = []
            while not any(line.startswith("pid") for line in lines):
                lines.append(nursery.stdout.readline())
            while moment % 2 and not lines[-1].strip().isdigit():  # every other one lives to commit something
                lines.append(nursery.stdout.readline())
            time.sleep(moments.uniform(0.02, 0.3))
            os.kill(int(next(line for line in lines if line.startswith("pid")).split()[1]), signal.SIGKILL)
            while "reaped\n" not in lines:
                lines.append(nursery.stdout.readline())
            told = max([told, *(int(line) for line in lines if line.strip().isdigit())])

            report = verify(path)
            assert report.intact, report.problems
            assert told <= report.episodes <= told + 3
            interrupted += bool(report.leftovers)
            store = EpisodeStore.open(path)
            for key in STREAMS:
                expected = [make_episode(index)[key] for index in range(len(store))]
                whole = store.read_all(key)
                assert whole.data.tobytes() == b"".join(part.data.tobytes() for part in expected)
                assert whole.stamp_ns.tobytes() == b"".join(part.stamp_ns.tobytes() for part in expected)
            assert [store.episode_attributes(i)["seed"] for i in range(len(store))] == list(range(len(store)))
            told = len(store)
        nursery.stdin.close()
    assert told > 10
    assert interrupted > 0, "no kill fell into a write: the test has not tested anything"
    repair(path)
    assert verify(path).leftovers == ()
    append_once(path, told)


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """Let writes fail as on a full disk; Python ignores SIGXFSZ, so they end in an OSError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_that_fails_leaves_the_committed_episodes(tmp_path: Path) -> None:
    store = filled(tmp_path / "store", 3)
    message = (
        r"Nothing more could be written to .*store: the disk is full\. The 3 episodes committed before are intact\."
    )
    for size in (0, 200, 700, 4000, 50_000):
        with files_no_larger_than(size), pytest.raises(StoreError, match=message):
            store.append(make_episode(3))
        assert len(EpisodeStore.open(tmp_path / "store")) == len(store) == 3
        assert verify(tmp_path / "store").intact
    assert store.append(make_episode(3)) == 3
    for index in range(4):
        assert_same(store.read(index), index)


_FULL_DISK = """
path = sys.argv[1] + "/store"
with open(sys.argv[1] + "/ballast", "wb") as ballast:
    ballast.write(bytes(400_000))
store = EpisodeStore.create(path, streams=STREAMS)
try:
    while True:
        store.append(make_episode(len(store)))
except OSError as error:
    print(error)
full = len(EpisodeStore.open(path))
assert full == len(store) > 0 and verify(path).intact
os.remove(sys.argv[1] + "/ballast")
store.append(make_episode(full))
for index in range(full + 1):
    for key, stream in EpisodeStore.open(path).read(index).items():
        assert stream.data.tobytes() == make_episode(index)[key].data.tobytes()
print("went on")
"""


def test_a_disk_that_is_really_full_leaves_the_committed_episodes(tmp_path: Path) -> None:
    script = tmp_path / "fill.py"
    streams = f"from vtt.store import StreamSpec\nfrom vtt.store_check import verify\nSTREAMS = {STREAMS!r}\n"
    script.write_text(_IMPORTS + streams + inspect.getsource(make_episode) + _FULL_DISK)
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size=3m tmpfs {disk}"
    # A mount namespace of its own needs no privileges where user namespaces are allowed, and unmounts itself.
    if (
        not shutil.which("unshare")
        or subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True).returncode
    ):
        pytest.skip("this machine does not let tests mount a small disk")
    shell = f"{mount} && exec {sys.executable} {script} {disk}"
    done = subprocess.run(["unshare", "-rm", "sh", "-c", shell], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    sentence, last = done.stdout.splitlines()
    assert sentence.startswith("Nothing more could be written to ")
    assert sentence.endswith("episodes committed before are intact.")
    assert last == "went on"


def _pretend_interrupted(path: Path) -> None:
    """Write an episode but not its commit, as a collector does that dies just before."""
    root, backup = path / "zarr.json", path / "backup" / "zarr.json"
    committed = root.read_bytes()
    EpisodeStore.open(path).extend([make_episode(90), make_episode(91)])
    root.write_bytes(committed)
    assert backup.read_bytes() != committed


def test_leftovers_are_written_over(tmp_path: Path) -> None:
    path = tmp_path / "store"
    filled(path, 3)
    _pretend_interrupted(path)
    report = verify(path)
    assert report.intact
    assert any("rows of 'streams/wrench/data'" in leftover for leftover in report.leftovers)
    append_once(path, 3)
    assert verify(path).leftovers == ()


def test_repair_cuts_off_leftovers_in_place(tmp_path: Path) -> None:
    path = tmp_path / "store"
    filled(path, 3)
    _pretend_interrupted(path)
    (path / "streams" / "wrench" / "data" / "zarr.0.partial").write_bytes(b"{")
    done = repair(path)
    assert done.episodes == 3
    assert done.aside is None
    assert verify(path).leftovers == ()
    for index in range(3):
        assert_same(EpisodeStore.open(path).read(index), index)
    append_once(path, 3)


# -- damage ------------------------------------------------------------------------------------------------------------


def damage(file: Path, how: str) -> None:
    if how == "missing":
        file.unlink()
    elif how == "truncated":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    elif how == "empty":
        file.write_bytes(b"")
    else:
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)


HOW = ["missing", "truncated", "empty", "flipped"]


@pytest.mark.parametrize("how", HOW)
def test_a_damaged_chunk_costs_only_the_episodes_that_lie_in_it(tmp_path: Path, how: str) -> None:
    path = tmp_path / "store"
    ends = filled(path, 24).episode_ends("tactile_left")
    damage(path / "streams" / "tactile_left" / "data" / "c" / "1" / "0" / "0" / "0", how)
    # 128 images of 48x64x3 bytes are the last power of two below two megabytes.
    hit = [i for i in range(24) if ends[i] > 128 and (ends[i - 1] if i else 0) < 256]
    assert 0 < len(hit) < 24
    report = verify(path)
    assert list(report.damaged_episodes) == hit
    assert len(report.problems) == 1
    assert "'streams/tactile_left/data'" in report.problems[0]
    with pytest.raises(StoreError, match=r"is damaged: .*streams/tactile_left/data.* `vtt data repair"):
        EpisodeStore.open(path).read(hit[0])
    assert_same(EpisodeStore.open(path).read(hit[0] - 1), hit[0] - 1)

    done = repair(path)
    assert list(done.dropped_episodes) == hit
    assert done.dropped_streams == ()
    assert verify(path).intact
    store = EpisodeStore.open(path)
    kept = [i for i in range(24) if i not in hit]
    assert done.episodes == len(store) == len(kept)
    for at, index in enumerate(kept):
        assert_same(store.read(at), index)
        assert store.episode_attributes(at) == {"seed": index}
    assert dict(store.attributes) == {"environment": "PegInsertion"}
    assert done.aside == tmp_path / "store.damaged"
    assert (done.aside / "streams" / "tactile_left").exists()


@pytest.mark.parametrize("how", ["missing", "flipped"])
def test_a_stream_without_any_intact_episode_is_dropped_and_the_others_are_kept(tmp_path: Path, how: str) -> None:
    path = tmp_path / "store"
    filled(path, 5)
    damage(path / "streams" / "wrench" / "stamp_ns" / "c" / "0", how)  # one chunk holds the stamps of all five
    done = repair(path)
    assert done.dropped_streams == ("wrench",)
    assert (done.episodes, done.dropped_episodes) == (5, ())
    for index in range(5):
        assert_same(EpisodeStore.open(path).read(index), index, ("tactile_left", "force_left", "success"))


def test_stamps_that_run_backwards_are_found(tmp_path: Path) -> None:
    path = tmp_path / "store"
    ends = filled(path, 5).episode_ends("wrench")
    stamps = zarr.open_array(path / "streams" / "wrench" / "stamp_ns", mode="r+")
    stamps[int(ends[1]) + 2] = 0
    report = verify(path)
    assert report.problems == ("the stamps of 'wrench' do not increase (episodes 2)",)
    assert report.damaged_episodes == (2,)
    assert repair(path).dropped_episodes == (2,)


@pytest.mark.parametrize("how", HOW)
def test_appending_to_a_damaged_last_chunk_is_refused(tmp_path: Path, how: str) -> None:
    path = tmp_path / "store"
    filled(path, 3)
    damage(path / "streams" / "tactile_left" / "data" / "c" / "0" / "0" / "0" / "0", how)
    store = EpisodeStore.open(path)
    with pytest.raises(StoreError, match="`vtt data repair"):
        store.append(make_episode(3))
    assert len(EpisodeStore.open(path)) == 3


@pytest.mark.parametrize("how", ["missing", "truncated"])
@pytest.mark.parametrize(
    "place",
    [
        ".",
        "backup",
        "streams/tactile_left/data",
        "streams/wrench/stamp_ns",
        "streams/success/episode_ends",
        "episodes/records",
        "episodes/record_ends",
    ],
)
def test_lost_metadata_are_rebuilt_without_loss(tmp_path: Path, place: str, how: str) -> None:
    path = tmp_path / "store"
    filled(path, 6)
    damage(path / place / "zarr.json", how)
    assert not verify(path).intact
    with pytest.raises(StoreError, match=r"Store .* is damaged: .* `vtt data repair"):
        EpisodeStore.open(path).append(make_episode(6))
    done = repair(path)
    assert len(done.rebuilt) == 1
    assert (done.episodes, done.dropped_episodes, done.dropped_streams) == (6, (), ())
    assert (done.dropped_attributes, done.aside) == ((), None)
    assert verify(path).intact
    store = EpisodeStore.open(path)
    for index in range(6):
        assert_same(store.read(index), index)
        assert store.episode_attributes(index) == {"seed": index}
    append_once(path, 6)


@pytest.mark.parametrize("how", HOW)
def test_lost_episode_ends_are_rebuilt_from_the_records(tmp_path: Path, how: str) -> None:
    path = tmp_path / "store"
    filled(path, 6)
    damage(path / "streams" / "wrench" / "episode_ends" / "c" / "0", how)
    with pytest.raises(StoreError, match="streams/wrench/episode_ends"):
        EpisodeStore.open(path)
    done = repair(path)
    assert (done.episodes, done.dropped_episodes, done.dropped_streams) == (6, (), ())
    store = EpisodeStore.open(path)
    for index in range(6):
        assert_same(store.read(index), index)
    append_once(path, 6)


@pytest.mark.parametrize("place", ["episodes/records", "episodes/record_ends"])
def test_lost_records_cost_attributes_but_no_samples(tmp_path: Path, place: str) -> None:
    path = tmp_path / "store"
    filled(path, 6)
    damage(path / place / "c" / "0", "flipped")
    assert not verify(path).intact
    done = repair(path)
    assert (done.episodes, done.dropped_episodes, done.dropped_streams) == (6, (), ())
    lost = place == "episodes/records"
    assert done.dropped_attributes == (tuple(range(6)) if lost else ())
    store = EpisodeStore.open(path)
    for index in range(6):
        assert_same(store.read(index), index)
        assert store.episode_attributes(index) == ({} if lost else {"seed": index})
    append_once(path, 6)


def test_a_deleted_stream_is_named_and_the_others_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "store"
    filled(path, 5)
    shutil.rmtree(path / "streams" / "wrench")
    with pytest.raises(StoreError, match="is damaged: 'streams/wrench/episode_ends' cannot be opened"):
        EpisodeStore.open(path)
    assert verify(path).damaged_episodes == (0, 1, 2, 3, 4)
    done = repair(path)
    assert done.dropped_streams == ("wrench",)
    assert done.episodes == 5
    for index in range(5):
        assert_same(EpisodeStore.open(path).read(index), index, ("tactile_left", "force_left", "success"))


def test_a_store_without_anything_intact_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store"
    filled(path, 2)
    shutil.rmtree(path / "streams")
    with pytest.raises(StoreError, match="holds no intact episode"):
        repair(path)
    assert json.loads((path / "zarr.json").read_text())["attributes"]["episodes_committed"] == 2


def test_a_root_lost_with_its_backup_is_said_plainly(tmp_path: Path) -> None:
    path = tmp_path / "store"
    filled(path, 2)
    (path / "zarr.json").unlink()
    (path / "backup" / "zarr.json").unlink()
    with pytest.raises(StoreError, match=r"'zarr\.json' is missing or torn"):
        repair(path)


def test_a_backup_ahead_of_the_commit_never_outlives_its_data(tmp_path: Path) -> None:
    path = tmp_path / "store"
    filled(path, 3)
    _pretend_interrupted(path)
    # The next writer dies in its first write: rows of the uncommitted episodes are already gone.
    store = EpisodeStore.open(path)
    with files_no_larger_than(2000), pytest.raises(StoreError, match="the disk is full"):
        store.append(make_episode(3))
    assert json.loads((path / "backup" / "zarr.json").read_text())["attributes"]["episodes_committed"] == 3
    (path / "zarr.json").write_bytes(b"")
    repair(path)
    assert verify(path).intact
    assert len(EpisodeStore.open(path)) == 3
