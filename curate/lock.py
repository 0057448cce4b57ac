"""One writer for a run directory: who holds it, since when, with signs of life, and how a dead one is followed.

The owner's record is `_state/owners/00000007.json`. Numbers only grow: whoever takes over makes the next number, which
a store grants to one of all that try, and the former owner sees that there is a higher one. A run that ends leaves its
record behind, marked as released. Clocks of machines are never compared: an owner is alive if its record changes while
somebody watches.
"""

from __future__ import annotations

import errno
import fcntl
import getpass
import json
import logging
import math
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TextIO

from curate.errors import CurateError, InputError
from curate.store import RunStore

log = logging.getLogger(__name__)

OWNERS = "_state/owners"
KERNEL_LOCK = "_state/lock"
_NO_KERNEL_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
_DIGITS = 8


@dataclass(frozen=True)
class LockTiming:
    """Times of the protocol, in seconds.

    Attributes:
        beat_seconds: between two signs of life.
        stale_seconds: without one, watched by another machine, until the lock is taken over.
        settle_seconds: until a new owner trusts a store that lets a file be overwritten although it must not.
    """

    beat_seconds: float = 15.0
    stale_seconds: float = 120.0
    settle_seconds: float = 5.0


@dataclass(frozen=True)
class Owner:
    """Who holds a run directory.

    Attributes:
        user, host, pid: for a person.
        started: when the process started, in ticks since boot; a pid that was used again has another.
        pid_space: where the pid means something: this boot of the machine and its container. None: not known.
        run: of this very taking.
        since: when it was taken, UTC.
        beat: counts the signs of life.
        seen: time of the last one by the owner's clock, UTC.
        released: the run has ended.
    """

    user: str
    host: str
    pid: int
    started: str | None
    pid_space: str | None
    run: str
    since: str
    beat: int = 0
    seen: str = ""
    released: bool = False

    def to_bytes(self) -> bytes:
        """As JSON."""
        return (json.dumps(asdict(self), indent=1, sort_keys=True) + "\n").encode()


def owner_here(host: str | None = None) -> Owner:
    """This process; `host`: what to call this machine, default: its name."""
    now = _now()
    pid = os.getpid()
    return Owner(
        user=_user(),
        host=host or socket.gethostname(),
        pid=pid,
        started=_process_start(pid),
        # Under another name it is another machine: pids of this one say nothing about it.
        pid_space=_pid_space() if host is None else None,
        run=uuid.uuid4().hex,
        since=now,
        seen=now,
    )


class LockLostError(CurateError):
    """Another run has taken the run directory over."""


class Fence:
    """Keeps a writer that has lost the lock from writing. Looks anew when its last look is old; can be pickled."""

    def __init__(self, address: str, number: int, run: str, every_seconds: float) -> None:
        self._address, self._number, self._run, self._every = address, number, run, every_seconds
        self._looked = -math.inf

    def __reduce__(self) -> tuple[type[Fence], tuple[str, int, str, float]]:
        # Another machine has another uptime: it looks for itself.
        return Fence, (self._address, self._number, self._run, self._every)

    def check(self) -> None:
        """Whether the lock is still held, as of a short time ago.

        Raises:
            CurateError: somebody else has taken it, or the store cannot be asked.
        """
        if _uptime() - self._looked > self._every:
            self.look()

    def look(self) -> None:
        """Whether the lock is still held now.

        Raises:
            CurateError: somebody else has taken it, or the store cannot be asked.
        """
        began, store = _uptime(), RunStore(self._address)
        try:
            found = _latest(store)
        except OSError as error:
            raise CurateError(f"{store.url}: cannot tell who holds this directory: {error}") from error
        number, owner = found or (0, None)
        if number != self._number or owner is None or owner.run != self._run:
            who = "nobody" if owner is None else about(owner)
            raise LockLostError(
                f"{store.url}: this run was without a sign of life for so long that another took the directory over "
                f"({who}). This one stops; what it has written stays and is used."
            )
        self._looked = began


@contextmanager
def lock_run(
    store: RunStore,
    owner: Owner | None = None,
    timing: LockTiming | None = None,
    tell: Callable[[str], None] = log.warning,
) -> Iterator[None]:
    """Hold a run directory for as long as the context is open; what `store` then writes is guarded by it.

    On one machine the kernel's own lock counts, which ends with the process. Between machines, and on object stores,
    the owner's signs of life do: an owner that gives none for `stale_seconds` is followed by one of those that wait.

    Args:
        store: the run directory; its `guard` is set.
        owner: default: this process.
        timing: of the protocol between machines.
        tell: hears of whom is waited for.

    Raises:
        InputError: another run is at work there; who, and since when.
        CurateError: the run directory cannot be written.
    """
    owner, timing = owner or owner_here(), timing or LockTiming()
    with ExitStack() as held:
        kernel = _kernel_lock(store, held)
        number, owner = _take(store, owner, timing, tell, kernel)
        fence = Fence(store.address, number, owner.run, 2 * timing.beat_seconds)
        store.guard = fence
        held.callback(setattr, store, "guard", None)
        with _beating(RunStore(store.address), number, owner, fence, timing):
            yield


def about(owner: Owner) -> str:
    """An owner in a few words: pid 4711 of ann on host a, since 10:02, last sign of life 3 s ago."""
    gone = max(0, int((datetime.now(timezone.utc) - datetime.fromisoformat(owner.seen)).total_seconds()))
    since = datetime.fromisoformat(owner.since).astimezone()
    day = "" if since.date() == datetime.now().astimezone().date() else f"{since:%Y-%m-%d} "
    return (
        f"pid {owner.pid} of {owner.user} on host {owner.host}, since {day}{since:%H:%M}, "
        f"last sign of life {gone} s ago"
    )


def _kernel_lock(store: RunStore, held: ExitStack) -> bool:
    """Take the kernel's lock of a local directory; whether it could be asked. It ends with this process."""
    root = store.local_root
    if root is None:
        return False
    store.check_inside(KERNEL_LOCK)
    path = root / KERNEL_LOCK
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = held.enter_context(path.open("w"))
    except OSError as error:
        raise CurateError(f"{path}: cannot be written: {error}") from error
    return _flock(store, file)


def _flock(store: RunStore, file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        found = _latest(store)
        raise _at_work(store, None if found is None else found[1]) from None
    except OSError as error:
        if error.errno in _NO_KERNEL_LOCKS:
            return False
        raise
    return True


def _at_work(store: RunStore, owner: Owner | None) -> InputError:
    who = "" if owner is None or owner.released else f": {about(owner)}"
    return InputError(f"{store.url}: another run is at work in this directory{who}. Wait for it or stop it.")


def _take(
    store: RunStore, owner: Owner, timing: LockTiming, tell: Callable[[str], None], kernel: bool
) -> tuple[int, Owner]:
    """The number of the record that is now this owner's, and the record."""
    found = _latest(store)
    if found is not None and not found[1].released:
        _wait_until_dead(store, found, owner, timing, tell, kernel)
    number = (0 if found is None else found[0]) + 1
    now = _now()
    owner = replace(owner, since=now, seen=now)
    if not _won(store, number, owner, timing.settle_seconds):
        latest = _latest(store)
        raise _at_work(store, None if latest is None else latest[1])
    for each in _numbers(store):
        if each < number:
            store.delete(_name(each))
    store.delete_temporary_files([OWNERS])
    return number, owner


def _won(store: RunStore, number: int, owner: Owner, settle_seconds: float) -> bool:
    """Whether the record could be made, by this one of all that try."""
    name, data = _name(number), owner.to_bytes()
    if not store.create_bytes(name, data):
        return False
    if store.local_root is None and store.create_bytes(name, replace(owner, beat=1).to_bytes()):
        # This store overwrites what it was told not to: the last of all that try wins, once all have tried.
        time.sleep(settle_seconds)
    latest = _latest(store)
    return latest is not None and latest[0] == number and latest[1].run == owner.run


def _wait_until_dead(
    store: RunStore,
    found: tuple[int, Owner],
    owner: Owner,
    timing: LockTiming,
    tell: Callable[[str], None],
    kernel: bool,
) -> None:
    """Watch the owner's record until it is stale.

    Raises:
        InputError: it changes, so somebody is at work.
    """
    if _is_dead(found[1], owner, kernel):
        return
    tell(
        f"{store.url}: held by {about(found[1])}. Waiting: it is taken over if it gives no sign of life for "
        f"{timing.stale_seconds:.0f} s"
    )
    began = _uptime()
    while _uptime() - began < timing.stale_seconds:
        time.sleep(min(timing.beat_seconds / 3, timing.stale_seconds))
        now = _latest(store)
        if now is not None and now[1].released and now[1].run == found[1].run:
            return
        if now != found:
            raise _at_work(store, None if now is None else now[1])


def _is_dead(holder: Owner, here: Owner, kernel: bool) -> bool:
    """Whether its process has surely ended: only of one on this machine can that be known at once."""
    if holder.host != here.host:
        return False
    if kernel:
        # A process of this machine that is alive would hold the kernel's lock.
        return True
    if holder.pid_space is None or holder.pid_space != here.pid_space:
        return False
    return holder.started is None or _process_start(holder.pid) != holder.started


@contextmanager
def _beating(store: RunStore, number: int, owner: Owner, fence: Fence, timing: LockTiming) -> Iterator[None]:
    """Give signs of life while the context is open, then mark the record as released."""
    heart = _Heart(store, number, owner, fence, timing.beat_seconds)
    thread = threading.Thread(target=copy_context().run, args=(heart.run,), name="curate-lock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        heart.stop.set()
        thread.join()
        heart.release()


@dataclass
class _Heart:
    """Writes the owner's record again and again, as long as it is the owner's."""

    store: RunStore
    number: int
    owner: Owner
    fence: Fence
    seconds: float
    stop: threading.Event = field(default_factory=threading.Event)
    lost: bool = False

    def run(self) -> None:
        """Until told to stop, or the lock is lost: `fence` then refuses to write."""
        while not self.stop.wait(self.seconds) and not self.lost:
            self.beat()

    def beat(self, **changes: Any) -> None:
        """One sign of life."""
        try:
            self.fence.look()
            self.owner = replace(self.owner, beat=self.owner.beat + 1, seen=_now(), **changes)
            self.store.write_bytes(_name(self.number), self.owner.to_bytes())
        except CurateError as error:
            # The next write of the run looks for itself, and says it where the run ends by it.
            self.lost = isinstance(error, LockLostError)
            log.warning("%s", error)

    def release(self) -> None:
        """The last sign: the run has ended, nobody has to wait."""
        if not self.lost:
            self.beat(released=True)


def _latest(store: RunStore) -> tuple[int, Owner] | None:
    """The record with the highest number, and the number. OSError if the store cannot be asked."""
    for number in reversed(_numbers(store)):
        try:
            text = store.read_bytes(_name(number))
        except FileNotFoundError:
            # Its follower has just removed it.
            continue
        return number, _owner_of(store.path(_name(number)), text)
    return None


def _owner_of(path: str, text: bytes) -> Owner:
    try:
        held = json.loads(text)
        owner = Owner(**{name: held[name] for name in Owner.__dataclass_fields__})
        datetime.fromisoformat(owner.since), datetime.fromisoformat(owner.seen)
    except (ValueError, TypeError, KeyError) as error:
        raise CurateError(
            f"{path}: not the record of a run that holds this directory ({type(error).__name__}: {error}). "
            "If no run is at work here, delete it."
        ) from error
    return owner


def _numbers(store: RunStore) -> list[int]:
    names = (Path(name) for name in store.list_stamps(OWNERS))
    return sorted(int(name.stem) for name in names if name.suffix == ".json" and name.stem.isdigit())


def _name(number: int) -> str:
    return f"{OWNERS}/{number:0{_DIGITS}d}.json"


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _uptime() -> float:
    """Seconds on a clock that nobody sets, and that goes on while a machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run under a number that no name belongs to.
        return str(os.getuid())


def _process_start(pid: int) -> str | None:
    """When a process of this machine started, in ticks since boot; None: there is no such process, or no /proc."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name of the program is in brackets and may hold anything.
    state, *fields = text.rpartition(")")[2].split()
    return None if state in "ZX" else fields[18]


def _pid_space() -> str | None:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115 - no path, the name of a namespace
    except OSError:
        return None
