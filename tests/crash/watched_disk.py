"""A block device that logs every write and every flush: a FUSE server with two files, below a loop device.

`disk` is the device's image, in memory; what a workload writes to `mark` is logged between the writes, in order. So it
is known which writes had been flushed when something was promised. Replaying the log is power_cuts.py.

python -m tests.crash.watched_disk MOUNTPOINT SIZE_BYTES LOG
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from pathlib import Path

ROOT, DISK, MARK = 1, 2, 3
NODES = {b"disk": DISK, b"mark": MARK}
MOST_BYTES = 1 << 20
INIT, LOOKUP, GETATTR, SETATTR, OPEN, OPENDIR = 26, 1, 3, 4, 14, 27
READ, WRITE, FSYNC, STATFS, DESTROY, FALLOCATE = 15, 16, 20, 17, 38, 43
EMPTY = (18, 29, 28, 25)  # RELEASE, RELEASEDIR, READDIR, FLUSH
SILENT = (2, 42, 36)  # FORGET, BATCH_FORGET, INTERRUPT want no answer at all
BIG_WRITES, MAX_PAGES = 1 << 5, 1 << 22  # never WRITEBACK_CACHE: the kernel would hold writes back
DIRECT_IO = 1
NOSUID_NODEV = 2 | 4


def main(mountpoint: str, size: int, log: Path) -> None:
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other,max_read={MOST_BYTES}"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"watched", mountpoint.encode(), b"fuse", NOSUID_NODEV, options.encode()) != 0:
        raise OSError(ctypes.get_errno(), f"cannot mount FUSE on {mountpoint}")
    with log.open("wb") as file:
        serve(device, bytearray(size), file)


def serve(device: int, image: bytearray, log: object) -> None:
    """Answer the kernel until the file system is unmounted."""
    while True:
        try:
            request = os.read(device, MOST_BYTES + (64 << 10))
        except OSError as error:
            if error.errno in (errno.EINTR, errno.ENOENT):
                continue
            if error.errno == errno.ENODEV:
                return
            raise
        _, opcode, unique, node = struct.unpack_from("<IIQQ", request)
        if opcode in SILENT:
            continue
        try:
            answer, failure = answered(opcode, node, request[40:], image, log), 0
        except OSError as error:
            answer, failure = b"", -(error.errno or errno.EIO)
        os.write(device, struct.pack("<IiQ", 16 + len(answer), failure, unique) + answer)
        if opcode == DESTROY:
            return


def answered(opcode: int, node: int, body: bytes, image: bytearray, log: object) -> bytes:
    match opcode:
        case 26:
            about = (7, 31, 131072, BIG_WRITES | MAX_PAGES, 64, 48, MOST_BYTES, 1, MOST_BYTES // 4096, 0)
            return struct.pack("<IIIIHHIIHH", *about) + bytes(32)
        case 1:
            name = body.rstrip(b"\0")
            if name not in NODES:
                raise OSError(errno.ENOENT, "no such file")
            return struct.pack("<QQQQII", NODES[name], 0, 3600, 3600, 0, 0) + attributes(NODES[name], len(image))
        case 3 | 4:
            return struct.pack("<QII", 3600, 0, 0) + attributes(node, len(image))
        case 14 | 27:
            return struct.pack("<QII", node, DIRECT_IO if node == MARK else 0, 0)
        case 15:
            _, offset, size = struct.unpack_from("<QQI", body)
            return bytes(image[offset : offset + size]) if node == DISK else b""
        case 16:
            _, offset, size = struct.unpack_from("<QQI", body)
            written = body[40 : 40 + size]
            if node == DISK:
                image[offset : offset + size] = written
            note(log, b"W" if node == DISK else b"M", offset, written)
            return struct.pack("<II", size, 0)
        case 20:
            if node == DISK:
                note(log, b"F", 0, b"")
            return b""
        case 17:
            return struct.pack("<QQQQQIIII24x", 1 << 20, 1 << 19, 1 << 19, 100, 100, 4096, 255, 4096, 0)
        case 43:
            raise OSError(errno.EOPNOTSUPP, "no discards")
        case 38:
            return b""
        case _ if opcode in EMPTY:
            return b""
        case _:
            raise OSError(errno.ENOSYS, f"FUSE request {opcode}")


def note(log: object, kind: bytes, offset: int, written: bytes) -> None:
    log.write(struct.pack("<cQI", kind, offset, len(written)) + written)  # type: ignore[attr-defined]


def attributes(node: int, disk_bytes: int) -> bytes:
    size, mode, links = (disk_bytes if node == DISK else 0), 0o100600, 1
    if node == ROOT:
        size, mode, links = 0, 0o40755, 2
    return struct.pack("<QQQQQQIIIIIIIIII", node, size, size // 512, 0, 0, 0, 0, 0, 0, mode, links, 0, 0, 0, 4096, 0)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
