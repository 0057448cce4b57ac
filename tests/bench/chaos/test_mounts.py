"""A disk that is full, a view that is read-only, and nothing that stays mounted."""

import errno

import pytest

from curate.bench.chaos.mounts import make_read_only, mount_small_disk, unmount, unmount_below, why_no_mounts

pytestmark = pytest.mark.skipif(why_no_mounts() is not None, reason=str(why_no_mounts()))


@pytest.fixture
def place(tmp_path):
    yield tmp_path
    unmount_below(tmp_path)


def test_a_small_disk_is_full_soon(place):
    mount_small_disk(place / "disk", 1 << 20)
    with pytest.raises(OSError, match="No space left") as full:
        (place / "disk" / "file").write_bytes(bytes(2 << 20))
    assert full.value.errno == errno.ENOSPC


def test_a_read_only_folder_is_read_only_though_a_file_in_it_is_open(place):
    folder = place / "run"
    folder.mkdir()
    with (folder / "lock").open("w") as lock:
        make_read_only(folder)
        with pytest.raises(OSError, match="Read-only") as refused:
            (folder / "file").write_text("x")
        assert refused.value.errno == errno.EROFS
        lock.write("still open")
    unmount(folder)
    (folder / "file").write_text("x")


def test_what_was_left_mounted_is_taken_away(place):
    mount_small_disk(place / "a" / "disk", 1 << 20)
    make_read_only(place / "a" / "disk")
    unmount_below(place)
    (place / "a" / "disk" / "file").write_text("on the disk below")
