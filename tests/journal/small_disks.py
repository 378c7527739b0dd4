"""Small real file systems to fill up: tmpfs, and ext4 with a chosen block size over a loop device."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class Unavailable(Exception):
    """This machine cannot mount it; the text says why."""


@contextmanager
def tmpfs(folder: Path, size_bytes: int) -> Iterator[Path]:
    folder.mkdir()
    run("mount", "-t", "tmpfs", "-o", f"size={size_bytes},mode=700", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        run("umount", str(folder))


@contextmanager
def ext4(folder: Path, size_bytes: int, *, block_bytes: int) -> Iterator[Path]:
    folder.mkdir()
    image = folder.with_suffix(".img")
    with image.open("wb") as file:
        file.truncate(size_bytes)
    run("mkfs.ext4", "-q", "-F", "-b", str(block_bytes), "-m", "0", str(image))
    run("mount", "-o", "loop", str(image), str(folder))
    try:
        yield folder
    finally:
        run("umount", str(folder))
        image.unlink()


def run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except FileNotFoundError as error:
        raise Unavailable(f"{command[0]} is not installed") from error
    if done.returncode != 0:
        raise Unavailable(f"{' '.join(command)}: {done.stderr.strip() or done.returncode} (needs root)")


def take_all_room(folder: Path) -> Path:
    """A neighbour that writes until nothing is left, to the last byte."""
    greedy = folder / "neighbour"
    with greedy.open("ab", buffering=0) as file:
        for chunk in (64 * 1024, 1024, 1):
            with suppress(OSError):
                while True:
                    file.write(b"\xaa" * chunk)
    return greedy
