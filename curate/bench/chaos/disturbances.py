"""Every kind of disturbance: what it needs beforehand, how it strikes, how it is undone, what a run may end with."""

from __future__ import annotations

import importlib.util
import os
import random
import shutil
import signal
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from curate.bench.chaos.moments import count_files
from curate.bench.chaos.mounts import make_read_only, mount_small_disk, unmount, why_no_mounts
from curate.bench.chaos.object_store import ObjectStore, copy_in, copy_out, count_objects, faulty_store
from curate.bench.chaos.processes import RunProcess, descendants, kill_all, titles, wait_until_gone
from curate.bench.chaos.ray_nodes import PATIENT, RayNodes
from curate.bench.chaos.setting import DISTURBED_SHARD, Setting, Variant
from curate.bench.chaos.web import serving
from curate.errors import CurateError

KEPT = "run the same command again"
"""What a run that was stopped, or met something that can be mended, has to say."""
ON_THREADS = ("--workers", "2")
ON_RAY = ("--runner", "ray", "--workers", "1")
DISK_BYTES = 16 << 20
CLOCK_JUMP = 24 * 3600
FAULT_RATE = 0.05
_PAUSE_SECONDS = 0.05
_INTERRUPTED = 128 + signal.SIGINT
_TERMINATED = 128 + signal.SIGTERM
_KILLED = -signal.SIGKILL


@dataclass(frozen=True)
class Site:
    """Where a trial takes place.

    Attributes:
        folder: of the trial.
        setting: the inputs of all trials.
        rng: decides what the moment leaves open.
    """

    folder: Path
    setting: Setting
    rng: random.Random

    @property
    def corpus(self) -> Path:
        """The trial's own shards."""
        return self.folder / "corpus"

    @property
    def disk(self) -> Path:
        """The folder that holds the output."""
        return self.folder / "disk"

    @property
    def output(self) -> Path:
        """The run directory."""
        return self.disk / "run"


@dataclass(frozen=True)
class Started:
    """How the disturbed run is started.

    Attributes:
        module: what Python runs, with arguments of its own.
        options: of `curate run`.
        environment: beside the one that is there; None: the run starts with the libraries loaded.
    """

    module: tuple[str, ...] = ("curate",)
    options: tuple[str, ...] = ON_THREADS
    environment: Mapping[str, str] | None = None


class Disturbance(ABC):
    """One kind.

    Attributes:
        kind: its name.
        about: what it is, in a few words.
        codes: what a run that it struck may exit with.
        says: what such a run must say if it did not exit with 0; any of these texts.
        variant: which input the run ends on.
        ends_by_itself: whether the run goes on to its end and is not resumed.
        input_is_read: whether it strikes only when the input is cut into parts: before, it would be another input.
        weight: how many of a mix are of this kind, against others.
    """

    kind: ClassVar[str]
    about: ClassVar[str]
    codes: ClassVar[frozenset[int]]
    says: ClassVar[tuple[str, ...]] = ()
    variant: ClassVar[Variant] = "as_written"
    ends_by_itself: ClassVar[bool] = False
    input_is_read: ClassVar[bool] = False
    weight: ClassVar[int] = 4

    def why_not(self) -> str | None:
        """Why it cannot be had on this machine; None: it can."""
        return None if sys.platform == "linux" else "processes are found by /proc, which is Linux only"

    @contextmanager
    def prepared(self, site: Site) -> Iterator[Started]:
        """What there must be before the run and until it is resumed.

        Raises:
            CurateError: it cannot be had.
        """
        yield Started()

    @abstractmethod
    def strike(self, site: Site, run: RunProcess) -> bool:
        """Do it; False: there was nothing left to disturb.

        Raises:
            CurateError: it cannot be done.
        """

    def undo(self, site: Site) -> None:  # noqa: B027 - most kinds have nothing to bring back
        """Bring back what the run needs to go on."""

    def addresses(self, site: Site) -> tuple[str, str]:
        """Where the run finds its shards, and its output."""
        return str(site.corpus), str(site.output)

    def files_in(self, site: Site, folder: str) -> int:
        """How many files are in a folder of the run now."""
        return count_files(site.output / folder)

    def resumed(self, site: Site) -> Started:
        """How the run is started again."""
        return Started()

    def collect(self, site: Site) -> None:  # noqa: B027 - most runs leave their output there
        """Bring what the run has left to `site.output`, if it lies elsewhere."""


class Signalled(Disturbance):
    """A signal to the driver."""

    signals: ClassVar[tuple[signal.Signals, ...]]

    def strike(self, site: Site, run: RunProcess) -> bool:
        """See Disturbance."""
        there = run.send(self.signals[0])
        for number in self.signals[1:]:
            time.sleep(_PAUSE_SECONDS)
            run.send(number)
        return there


class KillDriver(Signalled):
    kind, about = "kill_driver", "kill -9 of the run"
    codes, signals = frozenset({_KILLED}), (signal.SIGKILL,)


class Terminate(Signalled):
    kind, about = "sigterm", "SIGTERM"
    codes, signals, says = frozenset({_TERMINATED}), (signal.SIGTERM,), (KEPT,)


class Interrupt(Signalled):
    kind, about = "ctrl_c", "Ctrl-C"
    codes, signals, says = frozenset({_INTERRUPTED}), (signal.SIGINT,), (KEPT,)


class InterruptTwice(Signalled):
    kind, about = "ctrl_c_twice", "Ctrl-C, and again"
    codes, signals, says = frozenset({_INTERRUPTED}), (signal.SIGINT, signal.SIGINT), (KEPT,)


class KillWhileDownloading(Signalled):
    """The pictures come from a web server; the table of their addresses is the input."""

    kind, about = "kill_download", "kill -9 of a run that downloads its pictures"
    codes, signals, variant = frozenset({_KILLED}), (signal.SIGKILL,), "downloaded"


class ClockJumps(Signalled):
    """The run's clock jumps by a day; it goes on."""

    about = "the clock jumps by a day"
    codes, signals, ends_by_itself = frozenset({0}), (signal.SIGUSR1,), True
    seconds: ClassVar[int]

    @contextmanager
    def prepared(self, site: Site) -> Iterator[Started]:
        """See Disturbance."""
        yield Started(("curate.bench.chaos.shifted_clock", str(self.seconds)))


class ClockForward(ClockJumps):
    kind, seconds, weight = "clock_forward", CLOCK_JUMP, 2


class ClockBack(ClockJumps):
    kind, seconds, weight = "clock_back", -CLOCK_JUMP, 2


class FileSizeLimit(Disturbance):
    """A limit that the kernel sets for a process: what grows past it cannot be written."""

    kind, about = "file_size_limit", "no file may be larger than a few hundred bytes from now on (RLIMIT_FSIZE)"
    codes, says = frozenset({0, 1}), (KEPT,)

    def strike(self, site: Site, run: RunProcess) -> bool:
        """See Disturbance."""
        return run.limit_file_size(site.rng.choice([0, 1, 300]))


class DiskFull(Disturbance):
    """The output is on a small disk, which something else fills."""

    kind, about = "disk_full", "the disk that holds the output is full"
    codes, says = frozenset({0, 1}), (KEPT,)

    def why_not(self) -> str | None:
        """See Disturbance."""
        return why_no_mounts()

    @contextmanager
    def prepared(self, site: Site) -> Iterator[Started]:
        """See Disturbance."""
        mount_small_disk(site.disk, DISK_BYTES)
        yield Started()

    def strike(self, site: Site, run: RunProcess) -> bool:
        """See Disturbance."""
        # Some pages are left now and then: a file is begun that does not fit.
        spared = site.rng.choice([0, 0, 4096, 16384])
        with self._ballast(site).open("wb", buffering=0) as file:
            room = os.statvfs(site.disk)
            size = max(0, room.f_bavail * room.f_bsize - spared)
            try:
                os.posix_fallocate(file.fileno(), 0, max(1, size))
            except OSError:
                # The run writes meanwhile: there is less room than there was. Fill what is left.
                self._fill(file.fileno())
        return True

    @staticmethod
    def _fill(descriptor: int) -> None:
        try:
            while os.write(descriptor, bytes(4096)):
                pass
        except OSError:
            return

    def undo(self, site: Site) -> None:
        """See Disturbance."""
        self._ballast(site).unlink()

    @staticmethod
    def _ballast(site: Site) -> Path:
        return site.disk / "ballast"


class ReadOnlyOutput(Disturbance):
    """The output becomes read-only, as a disk does on which errors are found."""

    kind, about = "read_only", "the output becomes read-only"
    codes, says = frozenset({0, 1}), (KEPT,)

    def why_not(self) -> str | None:
        """See Disturbance."""
        return why_no_mounts()

    def strike(self, site: Site, run: RunProcess) -> bool:
        """See Disturbance."""
        make_read_only(site.disk)
        return True

    def undo(self, site: Site) -> None:
        """See Disturbance."""
        unmount(site.disk)


class ShardVanishes(Disturbance):
    """A shard is moved away, and put back before the run is resumed."""

    kind, about = "shard_vanishes", "a shard vanishes, and comes back"
    codes, says, input_is_read = frozenset({0, 1}), ("vanished",), True

    def strike(self, site: Site, run: RunProcess) -> bool:
        """See Disturbance."""
        (site.corpus / DISTURBED_SHARD).rename(self._aside(site))
        return True

    def undo(self, site: Site) -> None:
        """See Disturbance."""
        self._aside(site).rename(site.corpus / DISTURBED_SHARD)

    @staticmethod
    def _aside(site: Site) -> Path:
        return site.folder / "aside.tar"


class ShardChanges(Disturbance):
    """Another file takes the name of a shard, for good."""

    kind, about, variant = "shard_changes", "a shard is replaced by another", "changed"
    codes, says = frozenset({0, 1}), ("changed while running", "vanished while running")

    def strike(self, site: Site, run: RunProcess) -> bool:
        """See Disturbance."""
        other = site.folder / "other.tar"
        shutil.copyfile(site.setting.changed_shard(self.variant), other)
        other.replace(site.corpus / DISTURBED_SHARD)
        return True


class ShardIsCut(Disturbance):
    """A shard loses its end, in place and for good."""

    kind, about, variant = "shard_cut", "a shard is cut off", "cut"
    codes, says = frozenset({0, 1}), ("changed while running",)

    def strike(self, site: Site, run: RunProcess) -> bool:
        """See Disturbance."""
        os.truncate(site.corpus / DISTURBED_SHARD, site.setting.changed_shard(self.variant).stat().st_size)
        return True


class FaultyStore(Disturbance):
    """Shards and output are on an S3 store that fails a share of all requests, from the first to the last."""

    kind, about = "faulty_store", "an S3 store fails one request in twenty, all the time"
    codes, ends_by_itself, weight = frozenset({0}), True, 2

    def __init__(self) -> None:
        self._store: ObjectStore | None = None

    def why_not(self) -> str | None:
        """See Disturbance."""
        needed = [name for name in ("moto", "boto3", "s3fs") if importlib.util.find_spec(name) is None]
        return f"{', '.join(needed)} not installed: pip install 'moto[server]' s3fs" if needed else super().why_not()

    @contextmanager
    def prepared(self, site: Site) -> Iterator[Started]:
        """See Disturbance."""
        with faulty_store(site.rng.getrandbits(32), FAULT_RATE) as store:
            self._store = store
            copy_in(store, site.corpus)
            yield self.resumed(site)

    def strike(self, site: Site, run: RunProcess) -> bool:
        """See Disturbance. It goes on all the time."""
        return True

    def addresses(self, site: Site) -> tuple[str, str]:
        """See Disturbance."""
        return f"{self._there.url}/{site.corpus.name}", f"{self._there.url}/{site.output.name}"

    def files_in(self, site: Site, folder: str) -> int:
        """See Disturbance."""
        return count_objects(self._there, f"{site.output.name}/{folder}")

    def resumed(self, site: Site) -> Started:
        """See Disturbance."""
        return Started(environment=self._there.environment)

    def collect(self, site: Site) -> None:
        """See Disturbance."""
        copy_out(self._there, site.output)

    @property
    def _there(self) -> ObjectStore:
        if self._store is None:
            raise CurateError(f"{self.kind}: the store is not started yet")
        return self._store


class KillOnFaultyStore(FaultyStore):
    kind, about = "kill_on_faulty_store", "kill -9 of a run whose S3 store fails one request in twenty"
    codes, ends_by_itself = frozenset({_KILLED}), False

    def strike(self, site: Site, run: RunProcess) -> bool:
        """See Disturbance."""
        return run.send(signal.SIGKILL)


class KillRayDriver(Disturbance):
    """The driver of a local Ray cluster: all of the cluster ends with it. The run is resumed without Ray."""

    kind, about, weight = "kill_ray_driver", "kill -9 of the run that started a Ray cluster", 1
    codes, variant = frozenset({_KILLED}), "short"

    @contextmanager
    def prepared(self, site: Site) -> Iterator[Started]:
        """See Disturbance."""
        yield Started(options=ON_RAY, environment=PATIENT)

    def strike(self, site: Site, run: RunProcess) -> bool:
        """See Disturbance."""
        below = descendants(run.pid)
        there = run.send(signal.SIGKILL)
        left = wait_until_gone(below)
        if left:
            named = ", ".join(title[:80] for title in titles(left).values())
            kill_all(left)
            raise CurateError(f"{len(left)} processes of a Ray cluster outlive the driver that started it: {named}")
        return there


class OnRayNodes(Disturbance):
    """A run on a Ray cluster of two nodes, which has to end by itself whatever happens to its workers."""

    codes, ends_by_itself, weight, variant = frozenset({0}), True, 1, "short"

    def __init__(self, nodes: RayNodes) -> None:
        self.nodes = nodes

    @contextmanager
    def prepared(self, site: Site) -> Iterator[Started]:
        """See Disturbance."""
        self.nodes.start()
        yield Started(options=ON_RAY, environment={"RAY_ADDRESS": self.nodes.address})


class KillRayProcess(OnRayNodes):
    """kill -9 of one process that works for the run."""

    works: ClassVar[tuple[str, ...]]
    """What the process calls itself has one of these in it."""

    def strike(self, site: Site, run: RunProcess) -> bool:
        """See Disturbance."""
        while not run.has_ended():
            found = sorted(
                pid for pid, title in self.nodes.workers().items() if any(work in title for work in self.works)
            )
            if found:
                kill_all([site.rng.choice(found)])
                return True
            time.sleep(0.05)
        return False


class KillRayWorker(KillRayProcess):
    kind, about = "kill_ray_worker", "kill -9 of a Ray worker that reads"
    works = ("_Head", "_Whole", "_index_shard", "_encode_texts")


class KillRayActor(KillRayProcess):
    kind, about = "kill_ray_actor", "kill -9 of the Ray actor that holds the model"
    works = ("_Body",)


class LoseRayNode(OnRayNodes):
    """kill -9 of all of the second node, raylet and workers."""

    kind, about = "lose_ray_node", "the second node of a Ray cluster is lost"

    def strike(self, site: Site, run: RunProcess) -> bool:
        """See Disturbance."""
        self.nodes.lose_second()
        return True


LOCAL: tuple[type[Disturbance], ...] = (
    KillDriver,
    Terminate,
    Interrupt,
    InterruptTwice,
    DiskFull,
    FileSizeLimit,
    ReadOnlyOutput,
    ShardVanishes,
    ShardChanges,
    ShardIsCut,
    ClockForward,
    ClockBack,
    KillWhileDownloading,
    FaultyStore,
    KillOnFaultyStore,
    KillRayDriver,
)
ON_NODES: tuple[type[OnRayNodes], ...] = (KillRayWorker, KillRayActor, LoseRayNode)
KINDS = tuple(each.kind for each in (*LOCAL, *ON_NODES))


def disturbances(nodes: RayNodes) -> dict[str, Disturbance]:
    """Every kind by its name.

    Args:
        nodes: the Ray cluster that some of them need.
    """
    made = [*(each() for each in LOCAL), *(each(nodes) for each in ON_NODES)]
    return {each.kind: each for each in made}


@contextmanager
def web_of(disturbance: Disturbance, setting: Setting, port: int) -> Iterator[None]:
    """The web server, where a run downloads its pictures."""
    if disturbance.variant != "downloaded":
        yield
        return
    with serving(setting.web, port):
        yield
