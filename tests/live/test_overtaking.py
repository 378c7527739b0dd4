"""A live question finds a short queue on a slow link, although a backlog drains there."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from sync.backend.answering import Answerer, AnswererSettings, Ruling
from sync.ports import AnswerCame, UplinkEvent
from sync.questions import ANSWER_TYP, Question, parse_answer
from sync.signing import verify
from sync.window import Pace
from tests.uplink.closed_loop import DEVICE, FLEET, QUICK, a_fleet, eventually, link_settings, mosquitto, running
from tests.uplink.fault_proxy import fault_proxy

A_CHUNK_EVERY_S = 0.0625  # of 4 KiB: 64 kB/s


def test_a_queue_on_the_way_shortens_what_is_under_way_and_a_long_way_does_not() -> None:
    near, far = Pace(), Pace()
    for _ in range(20):
        near, far = near.took(0.02), far.took(0.7)  # a satellite
    assert near.bytes_now == far.bytes_now == near.most_bytes

    for _ in range(3):
        near = near.took(0.4)
    assert near.bytes_now == near.most_bytes // 8
    assert near.took(0.25) == near  # a little queue keeps the link busy

    for _ in range(20):
        near = near.took(2.0)
    assert near.bytes_now == near.least_bytes


@pytest.mark.slow
def test_a_question_is_answered_in_time_while_a_backlog_drains_over_a_slow_link(tmp_path: Path) -> None:
    fleet = a_fleet(tmp_path)
    for _ in range(600):
        fleet.outbox.seal(noise=os.urandom(700).hex())  # does not pack well
    answers: list[bytes] = []

    async def yes(device: str, question: Question) -> Ruling:
        assert device == DEVICE
        return Ruling(verdict="ALLOWED")

    def emit(event: UplinkEvent) -> None:
        if isinstance(event, AnswerCame):
            answers.append(event.token)

    async def story() -> None:
        async with mosquitto(tmp_path) as broker, fault_proxy(broker.port, latency_s=A_CHUNK_EVERY_S) as proxy:
            settings = AnswererSettings(
                link=link_settings(broker.port, "answers-1"),
                fleet=FLEET,
                signing_key=tmp_path / "service.pem",
                reconnect=QUICK,
            )
            answering = Answerer(settings, yes)
            async with (
                running(answering.run()),
                fleet.receiver(broker.port),
                fleet.device(
                    proxy.port, emit=emit, ack_timeout_s=30.0, answer_timeout_s=30.0, keepalive_s=30
                ) as uplink,
            ):
                uplink.leave_room(wanted=True)
                await eventually(lambda: fleet.outbox.acknowledged > 40, within_s=10)
                for number in range(3):
                    question = Question(
                        ask=f"q-{number}", token="0" * 64, whitelist="NEVER", assurance="static", deadline_ms=1_500
                    )
                    began = time.monotonic()
                    uplink.ask(question.to_bytes(), within_s=1.5)
                    await eventually(lambda number=number: len(answers) > number, within_s=3)
                    assert time.monotonic() - began < 1.5
                    uplink.answered()
                    await asyncio.sleep(0.2)
                assert fleet.outbox.acknowledged < 600, "the backlog was still there"

    asyncio.run(story())
    said = [parse_answer(verify(each, fleet.trusted, typ=ANSWER_TYP)) for each in answers]
    assert [(each.ask, each.device) for each in said] == [("q-0", DEVICE), ("q-1", DEVICE), ("q-2", DEVICE)]
