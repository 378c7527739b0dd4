"""Power loss, simulated: a workload runs on a real file system over a logged disk; then the power fails in its past.

At a cut everything before the last flush is durable. Of the writes after it each is lost with probability one half, and
of the kept ones every third is torn at 512 bytes. A flash that lies loses from its last writes, flushed or not.
The file system is then mounted again, which replays its own journal, and a judge looks at what is there.
"""

from __future__ import annotations

import gc
import itertools
import os
import random
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

ROOT = Path(__file__).parents[2]
SECTOR = 512
BLOCK = 4096
MIB = 1024 * 1024
TORN = 0.3
# Uncertain last writes of a flash that lies about FLUSH.
LYING_WRITES = 10
# With so few unflushed writes every subset of them is tried in exhaustive mode; else so many random ones.
EVERY_SUBSET_OF = 4
SUBSETS_AT_MOST = 8
PATIENCE_S = 60.0
UNMOUNT_ATTEMPTS = 40


class Unavailable(Exception):
    """This machine cannot do it; the text says exactly what is missing."""


class FileSystem(StrEnum):
    EXT4 = "ext4"
    XFS = "xfs"


SIZES = {FileSystem.EXT4: 32 * MIB, FileSystem.XFS: 320 * MIB}
MAKE = {
    FileSystem.EXT4: ("mkfs.ext4", "-q", "-F", "-b", "4096", "-E", "nodiscard"),
    FileSystem.XFS: ("mkfs.xfs", "-q", "-f", "-K"),
}
OPTIONS = {FileSystem.EXT4: "loop", FileSystem.XFS: "loop,nouuid"}


@dataclass(frozen=True, slots=True)
class Write:
    offset: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Flush:
    pass


@dataclass(frozen=True, slots=True)
class Mark:
    """What the workload promised, in its own words, after it believed it durable."""

    text: str


Event = Write | Flush | Mark


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Everything that reached the disk; the workload ran between `begin` and `end`."""

    system: FileSystem
    events: tuple[Event, ...]
    begin: int
    end: int

    @property
    def promises(self) -> int:
        return sum(isinstance(event, Mark) for event in self.events[self.begin : self.end])


class Image:
    """A disk's content. Only blocks that were ever written with something are kept: most of a fresh disk is zeros."""

    def __init__(self, blocks: dict[int, bytes] | None = None) -> None:
        self._blocks = blocks or {}

    def copy(self) -> Image:
        return Image(dict(self._blocks))

    def apply(self, writes: Iterable[Write]) -> None:
        for write in writes:
            step = SECTOR if write.offset % BLOCK else BLOCK
            for start in range(0, len(write.content), step):
                self._put(write.offset + start, write.content[start : start + step])

    def _put(self, offset: int, content: bytes) -> None:
        number, into = divmod(offset, BLOCK)
        if len(content) < BLOCK:
            old = self._blocks.get(number, ZEROS)
            content = old[:into] + content + old[into + len(content) :]
        if number in self._blocks or content != ZEROS:
            self._blocks[number] = content

    def write_to(self, path: Path, size: int) -> None:
        with path.open("wb", buffering=0) as file:
            os.ftruncate(file.fileno(), size)
            for number, content in self._blocks.items():
                os.pwrite(file.fileno(), content, number * BLOCK)


ZEROS = bytes(BLOCK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """The disk after a power failure, and all promises made before it."""

    at: int
    image: Image
    promised: tuple[str, ...]
    dropped: int
    torn: int


class Verdict(StrEnum):
    GOOD = "good"
    LOST = "acknowledged lost"
    UNREADABLE = "unreadable"
    FLAGGED = "lost and told"
    TAIL = "tail never written"
    UNMOUNTABLE = "file system lost"


@dataclass(slots=True, kw_only=True)
class Tally:
    """How many cuts ended how. Few dropped writes mean that little was tested."""

    cuts: int = 0
    dropped: int = 0
    torn: int = 0
    verdicts: dict[Verdict, int] = field(default_factory=dict)
    details: list[str] = field(default_factory=list)

    def add(self, cut: Cut, verdict: Verdict, detail: str) -> None:
        self.cuts += 1
        self.dropped += cut.dropped
        self.torn += cut.torn
        self.verdicts[verdict] = self.verdicts.get(verdict, 0) + 1
        if verdict is not Verdict.GOOD and detail:
            self.details.append(f"cut at {cut.at}: {verdict}: {detail}")

    def count(self, *verdicts: Verdict) -> int:
        return sum(self.verdicts.get(each, 0) for each in verdicts)


Judge = Callable[[Path, Sequence[str]], tuple[Verdict, str]]


def require(system: FileSystem) -> None:
    """Raises Unavailable with everything that is missing."""
    missing = [] if os.geteuid() == 0 else ["root (mounting needs it)"]
    missing += [f"{path} (a kernel device)" for path in ("/dev/fuse", "/dev/loop-control") if not Path(path).exists()]
    for program in (MAKE[system][0], "losetup", "mount", "umount"):
        found = any((Path(folder) / program).exists() for folder in (*os.get_exec_path(), "/sbin", "/usr/sbin"))
        missing += [] if found else [program]
    known = Path("/proc/filesystems").read_text(encoding="ascii").split()
    missing += [] if "fuse" in known or "fuseblk" in known else ["FUSE in the kernel"]
    if missing:
        raise Unavailable(f"power cuts on {system} need {', '.join(missing)}")


def record(folder: Path, system: FileSystem, workload: Sequence[str]) -> Trace:
    """Run `python -m tests.crash.power_workload NAME STATE MARK ...` on the logged disk; `folder` is only ours."""
    require(system)
    mountpoint, state, log = folder / "fuse", folder / "state", folder / "log"
    mountpoint.mkdir(parents=True)
    state.mkdir()
    size = SIZES[system]
    with ExitStack() as undo:
        command = [sys.executable, "-m", "tests.crash.watched_disk", str(mountpoint), str(size), str(log)]
        server = subprocess.Popen(command, cwd=ROOT)
        undo.callback(server.wait, PATIENCE_S)
        wait_for(mountpoint / "disk", server)
        undo.callback(run, "umount", str(mountpoint))
        device = run("losetup", "-f", "--show", str(mountpoint / "disk")).strip()
        undo.callback(run, "losetup", "-d", device)
        run(*MAKE[system], device)
        run("mount", device, str(state))
        undo.callback(run, "umount", str(state))
        os.sync()
        mark = mountpoint / "mark"
        put_mark(mark, "begin")
        name, *rest = workload
        program = [sys.executable, "-m", "tests.crash.power_workload", name, str(state), str(mark), *rest]
        done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"workload {name} ended with {done.returncode}: {done.stderr[-2000:]}")
        put_mark(mark, "end")
    trace = read_log(log, system)
    log.unlink()
    return trace


def put_mark(mark: Path, text: str) -> None:
    """On return it stands in the log."""
    descriptor = os.open(mark, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def read_log(log: Path, system: FileSystem) -> Trace:
    events: list[Event] = []
    content = log.read_bytes()
    at = 0
    while at < len(content):
        kind, offset, length = struct.unpack_from("<cQI", content, at)
        at += 13 + length
        body = content[at - length : at]
        events.append({b"W": Write(offset, body), b"F": Flush()}.get(kind) or Mark(body.decode()))
    begin, end = events.index(Mark("begin")), events.index(Mark("end"))
    return Trace(system=system, events=tuple(events), begin=begin, end=end)


# Cutting


def random_cuts(trace: Trace, count: int, chance: random.Random) -> Iterator[Cut]:
    """Half of them anywhere, half aimed at the windows between a write and its flush."""
    moments = list(_moments(trace))
    windows = [moment for moment in moments if moment[1]]
    chosen = sorted(
        at for at, _ in chance.choices(moments, k=count // 2) + chance.choices(windows, k=count - count // 2)
    )
    yield from cuts_at(trace, chosen, lambda pending: [_chances(pending, trace.system, chance)])


def every_cut(trace: Trace, chance: random.Random) -> Iterator[Cut]:
    """A cut after each logged event; each subset of the unflushed writes where they are few."""

    def outcomes(pending: Sequence[Write]) -> list[Outcome]:
        if len(pending) <= EVERY_SUBSET_OF:
            return [([w for w, keep in zip(pending, kept, strict=True) if keep], kept.count(False), 0)
                    for kept in itertools.product((True, False), repeat=len(pending))]  # fmt: skip
        return [_chances(pending, trace.system, chance) for _ in range(SUBSETS_AT_MOST)]

    yield from cuts_at(trace, [at for at, _ in _moments(trace)], outcomes)


def lying_cuts(trace: Trace, count: int, chance: random.Random) -> Iterator[Cut]:
    """The last writes before the cut are each lost with probability one half, whether or not a flush followed."""
    writes = [at for at in range(trace.begin, trace.end) if isinstance(trace.events[at], Write)]
    certain, applied = Image(), 0
    for at in sorted(chance.choices(writes, k=count)):
        first = [index for index in writes if index <= at][-LYING_WRITES:][0]
        certain.apply(event for event in trace.events[applied:first] if isinstance(event, Write))
        applied = max(applied, first)
        uncertain = [event for event in trace.events[first : at + 1] if isinstance(event, Write)]
        kept = [write for write in uncertain if chance.random() < 0.5]
        image = certain.copy()
        image.apply(kept)
        dropped = len(uncertain) - len(kept)
        yield Cut(at=at, image=image, promised=_promised(trace, at), dropped=dropped, torn=0)


Outcome = tuple[list[Write], int, int]  # what of the unflushed writes is there, how many are lost, how many torn


def cuts_at(
    trace: Trace, moments: Iterable[int], outcomes: Callable[[Sequence[Write]], list[Outcome]]
) -> Iterator[Cut]:
    """In ascending order, so that the durable image is built once."""
    durable, pending, at = Image(), list[Write](), -1
    for moment in moments:
        while at < moment:
            at += 1
            match trace.events[at]:
                case Write() as write:
                    pending.append(write)
                case Flush():
                    durable.apply(pending)
                    pending.clear()
        for kept, dropped, torn in outcomes(pending):
            image = durable.copy()
            image.apply(kept)
            yield Cut(at=at, image=image, promised=_promised(trace, at), dropped=dropped, torn=torn)


def _moments(trace: Trace) -> Iterator[tuple[int, int]]:
    """Each event of the workload, and how many writes are unflushed after it."""
    pending = 0
    for at, event in enumerate(trace.events[: trace.end]):
        pending = 0 if isinstance(event, Flush) else pending + isinstance(event, Write)
        if at >= trace.begin:
            yield at, pending


def _promised(trace: Trace, at: int) -> tuple[str, ...]:
    return tuple(event.text for event in trace.events[trace.begin + 1 : at + 1] if isinstance(event, Mark))


def _chances(pending: Sequence[Write], system: FileSystem, chance: random.Random) -> Outcome:
    kept: list[Write] = []
    dropped = torn = 0
    for write in pending:
        if chance.random() < 0.5:
            dropped += 1
        elif chance.random() < TORN and not _holds_superblock(write):
            torn += 1
            kept += _sectors(write, chance)
        else:
            kept.append(write)
    return kept, dropped, torn


def _holds_superblock(write: Write) -> bool:
    """Torn, it would take the whole file system with it: a case of its own, not ours to test here."""
    return write.offset < 4096


def _sectors(write: Write, chance: random.Random) -> Iterator[Write]:
    for start in range(0, len(write.content), SECTOR):
        if chance.random() < 0.5:
            yield Write(write.offset + start, write.content[start : start + SECTOR])


# Judging


def judged(
    cuts: Iterable[Cut], folder: Path, system: FileSystem, judge: Judge, progress: Callable[[Tally], None]
) -> Tally:
    """Mount what each cut left, as a boot would, and let the judge look."""
    tally = Tally()
    for cut in cuts:
        try:
            with mounted(cut.image, folder, system) as state:
                verdict, detail = judge(state, cut.promised)
        except Unavailable as error:
            verdict, detail = Verdict.UNMOUNTABLE, str(error)
        tally.add(cut, verdict, detail)
        progress(tally)
    return tally


@contextmanager
def mounted(image: Image, folder: Path, system: FileSystem) -> Iterator[Path]:
    """`folder` is on a disk in memory. Raises Unavailable when the file system cannot be mounted.

    Each image is a file of its own: `mount -o loop` would take a device that is still attached to the same file, with
    the blocks of the cut before in its cache.
    """
    state = folder / "mounted"
    state.mkdir(exist_ok=True)
    file = folder / f"image-{next(_images)}"
    image.write_to(file, SIZES[system])
    try:
        run("mount", "-o", OPTIONS[system], str(file), str(state))
        try:
            yield state
        finally:
            unmount(state)
    finally:
        file.unlink()


_images = itertools.count()


def unmount(state: Path) -> None:
    """A store that could not be opened may still hold a file there until it is collected."""
    for _ in range(UNMOUNT_ATTEMPTS):
        try:
            run("umount", str(state))
        except Unavailable as error:
            last = str(error)
            gc.collect()
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(last)


def memory() -> str | None:
    """A folder that is no disk, where there is one: images are written there a thousand times."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def run(*command: str) -> str:
    environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/sbin:/usr/sbin"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False, env=environment)
    except FileNotFoundError as error:
        raise Unavailable(f"{command[0]} is not installed") from error
    if done.returncode != 0:
        raise Unavailable(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def wait_for(path: Path, server: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not path.exists():
        if server.poll() is not None or time.monotonic() > give_up:
            raise Unavailable("the FUSE server did not start: is /dev/fuse allowed here?")
        time.sleep(0.01)
