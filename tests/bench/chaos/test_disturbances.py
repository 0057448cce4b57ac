"""Every kind has a name, words for a person and a promise; the page tells of each."""

import random
import signal
from pathlib import Path

import pytest

from curate.bench.chaos.disturbances import (
    KINDS,
    DiskFull,
    ShardChanges,
    ShardIsCut,
    ShardVanishes,
    Site,
    disturbances,
)
from curate.bench.chaos.mounts import unmount_below, why_no_mounts
from curate.bench.chaos.ray_nodes import RayNodes
from curate.bench.chaos.setting import DISTURBED_SHARD, Setting

PAGE = Path(__file__).parents[3] / "docs" / "reliability.md"


@pytest.fixture
def site(tmp_path):
    setting = Setting(tmp_path / "bench")
    setting.corpus.mkdir(parents=True)
    (setting.corpus / DISTURBED_SHARD).write_bytes(b"as it was")
    setting.changed_shard("changed").write_bytes(b"another")
    setting.changed_shard("cut").write_bytes(b"as it")
    made = Site(tmp_path / "trial", setting, random.Random(0))
    made.disk.mkdir(parents=True)
    setting.copy_corpus(made.corpus, "as_written")
    yield made
    unmount_below(tmp_path)


def shard(site):
    return site.corpus / DISTURBED_SHARD


def test_the_page_tells_of_every_kind():
    page = PAGE.read_text()
    assert len(set(KINDS)) == len(KINDS)
    assert [kind for kind in KINDS if f"`{kind}`" not in page] == []


def test_every_kind_promises_an_exit_code():
    kinds = disturbances(RayNodes())
    assert tuple(kinds) == KINDS
    assert all(each.codes and each.about for each in kinds.values())
    assert kinds["ctrl_c"].codes == {130}
    assert kinds["sigterm"].codes == {143}
    assert kinds["kill_driver"].codes == {-signal.SIGKILL}


def test_a_shard_that_vanishes_comes_back_as_it_was(site):
    before = shard(site).stat()
    assert ShardVanishes().strike(site, None)
    assert not shard(site).exists()
    ShardVanishes().undo(site)
    after = shard(site).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_changed_shard_is_another_file(site):
    before = shard(site).stat().st_ino
    assert ShardChanges().strike(site, None)
    assert shard(site).read_bytes() == b"another"
    assert shard(site).stat().st_ino != before


def test_a_cut_shard_is_the_same_file_and_shorter(site):
    before = shard(site).stat().st_ino
    assert ShardIsCut().strike(site, None)
    assert shard(site).read_bytes() == b"as it"
    assert shard(site).stat().st_ino == before


@pytest.mark.skipif(why_no_mounts() is not None, reason=str(why_no_mounts()))
def test_a_full_disk_has_room_again_afterwards(site):
    disturbance = DiskFull()
    with disturbance.prepared(site):
        site.rng.seed(1)
        assert disturbance.strike(site, None)
        with pytest.raises(OSError, match="No space left"):
            (site.disk / "file").write_bytes(bytes(1 << 20))
        disturbance.undo(site)
        (site.disk / "file").write_bytes(bytes(1 << 20))
