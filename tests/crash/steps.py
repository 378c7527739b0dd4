"""Where a process of the kill campaign can die: named steps of the way of a record, and the dying itself.

A step is a method of ours, and whether death comes before it, while it works (a kernel timer sends SIGKILL, so that it
also strikes between two system calls of SQLite) or after it. Nothing here knows what is true afterwards: oracle.py.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import importlib
import inspect
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Die = Callable[[], None]


class Moment(StrEnum):
    BEFORE = "before"
    DURING = "during"
    AFTER = "after"


B, D, A = Moment.BEFORE, Moment.DURING, Moment.AFTER

# Phase of a record's way -> (what is done there, when death may come). Names as "module:Class.method".
AGENT: dict[str, tuple[tuple[str, tuple[Moment, ...]], ...]] = {
    "start": (
        ("agent.journal.journal:Journal.open", (B, D, A)),
        ("agent.cache.cache:PolicyCache.__init__", (D,)),
        ("agent.vault:Vault.open", (D,)),
        ("agent.floor:FloorFile.write", (B, D, A)),
    ),
    "append": (
        ("agent.core.agent:Agent.handle", (A,)),
        ("agent.journal.journal:insert", (B, A)),
        ("agent.journal.journal:Journal.append", (B, D, A)),
    ),
    "green light": (("tests.crash.lives:Witness.signal", (B, A)), ("tests.crash.lives:Bay.start", (B, A))),
    "seal": (("agent.vault:Vault.sign", (A,)), ("agent.journal.journal:Journal.seal_checkpoint", (B, D, A))),
    "hello": (("sync.conversation:Conversation._say_hello", (B, D, A)),),
    "send": (("sync.conversation:Conversation._send_next", (B,)), ("sync.link:Link.send", (B, D, A))),
    "PUBACK": (("sync.conversation:Conversation._on_puback", (B, A)),),
    "acknowledgement": (
        ("sync.conversation:Conversation._on_ack", (B, A)),
        ("agent.journal.journal:Journal.acknowledge", (B, D, A)),
        ("sync.conversation:Conversation._advance_outbox", (A,)),
    ),
    "prune": (("agent.journal.journal:Journal.prune", (B, D, A)), ("agent.journal.journal:Journal.relieve", (D,))),
    "WAL checkpoint": (("agent.journal.journal:Journal._fold", (B, D, A)),),
    "stop": (("agent.journal.journal:Journal.close", (B, D, A)),),
}
RECEIVER: dict[str, tuple[tuple[str, tuple[Moment, ...]], ...]] = {
    "receiver start": (("sync.backend.store:Store.__init__", (B, D, A)),),
    "receiver greets": (("sync.backend.store:Store.greet", (B, D, A)),),
    "receiver commit": (
        ("sync.backend.receiver:Receiver._handle", (B, A)),
        ("sync.backend.store:Store._advance", (B, A)),
        ("sync.backend.store:Store.take", (B, D, A)),
    ),
    "receiver answers": (
        ("sync.backend.receiver:Receiver._answer", (B, A)),
        ("sync.backend.receiver:Receiver._send_answer", (B, D, A)),
        ("sync.link:Link.acknowledge", (B, A)),
    ),
    "receiver WAL checkpoint": (("tests.crash.lives:fold_backend", (B, D, A)),),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One way to die. `delay_us` is for DURING: how long the work goes on before the kill."""

    phase: str
    target: str
    moment: Moment

    def __str__(self) -> str:
        return f"{self.phase}: {self.moment} {self.target.partition(':')[2]}"


def steps_of(table: dict[str, tuple[tuple[str, tuple[Moment, ...]], ...]]) -> tuple[Step, ...]:
    return tuple(
        Step(phase=phase, target=target, moment=moment)
        for phase, targets in table.items()
        for target, moments in targets
        for moment in moments
    )


def arm(step: Step, *, nth: int, delay_us: int, note: Callable[[str], None]) -> None:
    """The n-th time that this step comes in this process, the process is gone; `note` hears it just before."""
    left = nth

    def is_due() -> bool:
        nonlocal left
        left -= 1
        return left == 0

    def die() -> None:
        note(f"died {step}")
        os.kill(os.getpid(), signal.SIGKILL)

    def soon() -> None:
        note(f"died {step}")
        die_in(delay_us)

    owner, name = _place(step.target)
    plain = inspect.getattr_static(owner, name)
    method = plain.__func__ if isinstance(plain, classmethod) else plain
    if inspect.iscoroutinefunction(method):
        wrapped: Any = _async_wrapped(method, step.moment, is_due, die, soon)
    else:
        wrapped = _wrapped(method, step.moment, is_due, die, soon)
    setattr(owner, name, classmethod(wrapped) if isinstance(plain, classmethod) else wrapped)


def _place(target: str) -> tuple[Any, str]:
    module, _, path = target.partition(":")
    owner: Any = importlib.import_module(module)
    *outer, name = path.split(".")
    for each in outer:
        owner = getattr(owner, each)
    return owner, name


def _wrapped(method: Callable[..., Any], moment: Moment, is_due: Callable[[], bool], die: Die, soon: Die) -> Any:
    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        due = is_due()
        if due and moment is Moment.BEFORE:
            die()
        if due and moment is Moment.DURING:
            soon()
        result = method(*args, **kwargs)
        if due:
            die()
        return result

    return call


def _async_wrapped(method: Callable[..., Any], moment: Moment, is_due: Callable[[], bool], die: Die, soon: Die) -> Any:
    @functools.wraps(method)
    async def call(*args: Any, **kwargs: Any) -> Any:
        due = is_due()
        if due and moment is Moment.BEFORE:
            die()
        if due and moment is Moment.DURING:
            soon()
        result = await method(*args, **kwargs)
        if due and moment is Moment.AFTER:
            die()
        if due:
            await asyncio.sleep(1)  # bytes on their way are part of it
        return result

    return call


class _Timer(ctypes.Structure):
    _fields_ = (("interval", ctypes.c_long * 2), ("value", ctypes.c_long * 2))


class _Event(ctypes.Structure):
    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signal", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("_", ctypes.c_int * 12),
    )


def die_in(microseconds: int) -> None:
    """The kernel sends SIGKILL then, whatever this process is doing."""
    libc = ctypes.CDLL(None, use_errno=True)
    timer = ctypes.c_void_p()
    event = _Event(signal=signal.SIGKILL, notify=0)  # SIGEV_SIGNAL
    seconds, rest = divmod(max(1, microseconds), 1_000_000)
    when = _Timer(value=(ctypes.c_long * 2)(seconds, rest * 1000))
    clock_monotonic = 1
    if libc.timer_create(clock_monotonic, ctypes.byref(event), ctypes.byref(timer)) != 0:
        raise OSError(ctypes.get_errno(), "no timer")
    if libc.timer_settime(timer, 0, ctypes.byref(when), None) != 0:
        raise OSError(ctypes.get_errno(), "the timer cannot be set")
