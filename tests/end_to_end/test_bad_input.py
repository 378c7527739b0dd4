"""What readers, chargers and brokers should never send: decisions go on beside it, and nothing is lost."""

from __future__ import annotations

import random
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from agent.demo.fleet import ANNA, DEVICE, DORA, FLEET, STRANGER
from drivers.chargers import line_codec
from drivers.chargers.charger import ChargerState
from drivers.readers.ascii_frames import encode
from drivers.readers.pn532_chip import Fault
from drivers.readers.virtual_cards import Type2Card
from sync.loopback_broker import free_port
from sync.topics import DeviceTopics
from tests.end_to_end.premises import Broker, FleetOffice, Premises, built_premises, good, roamkey, until

pytestmark = pytest.mark.slow

NOISE = random.Random(1).randbytes(3_000)
ENDLESS = 60  # chunks; at 0.5 kB each longer than any frame, any buffer of ours and the noise limit
STRANGERS = random.Random(2)


@pytest.fixture(scope="module")
def van(tmp_path_factory: pytest.TempPathFactory, office: FleetOffice) -> Iterator[Premises]:
    """One running gateway for readers and chargers; each test leaves it idle and every reader ready."""
    with built_premises(tmp_path_factory.mktemp("noise") / "van", office) as here:
        here.start_ready()
        yield here
        here.stop()
        here.assert_whole()


def decisions(van: Premises) -> int:
    return len(van.events("decision.made"))


def the_others_go_on(van: Premises) -> None:
    """A tap elsewhere is decided at once, whatever one device does."""
    began = time.monotonic()
    assert van.tap("door", STRANGER)["outcome"] == "refused"
    assert time.monotonic() - began < 2


def left_decides(van: Premises) -> None:
    """With a card that was not seen before: the same one again at once would be the same wish."""
    before = decisions(van)
    van.left.present(Type2Card(b"\x04" + STRANGERS.randbytes(6)))
    until("the PN532's card is decided", lambda: decisions(van) == before + 1, within_s=5)
    van.left.remove()


def right_decides(van: Premises) -> None:
    before = decisions(van)
    van.right.present(b"\x62" + STRANGERS.randbytes(4))
    until("the fob is decided", lambda: decisions(van) == before + 1, within_s=5)
    van.right.remove()


class TestASerialReader:
    def test_noise_is_no_card_and_the_next_frame_is_read(self, van):
        before = decisions(van)
        van.right.say(NOISE)
        time.sleep(0.3)
        assert decisions(van) == before
        right_decides(van)

    @pytest.mark.parametrize("cut", [1, 7, 13])
    def test_half_a_frame_is_no_card_and_the_next_one_is_read(self, van, cut):
        before = decisions(van)
        van.right.say(encode(DORA, trailer=b"")[:cut])
        time.sleep(0.3)
        assert decisions(van) == before
        right_decides(van)

    def test_a_frame_with_a_flipped_bit_is_no_card(self, van):
        before = decisions(van)
        frame = bytearray(encode(DORA, trailer=b""))
        frame[4] ^= 0x01
        for _ in range(5):
            van.right.say(bytes(frame))
        time.sleep(0.3)
        assert decisions(van) == before
        right_decides(van)

    def test_bytes_without_end_are_told_as_a_lost_reader_and_hold_up_nobody(self, van):
        lost, before = len(van.events("reader.lost")), decisions(van)
        for _ in range(ENDLESS):
            van.right.say(NOISE[:500])
            time.sleep(0.02)
        the_others_go_on(van)
        until("the reader is told as lost", lambda: len(van.events("reader.lost")) > lost)
        assert decisions(van) == before + 1
        until("it is ready again", lambda: van.reader_state("right") == "ready")
        right_decides(van)

    def test_unplugged_in_mid_frame_and_back(self, van):
        lost = len(van.events("reader.lost"))
        van.right.say(encode(DORA, trailer=b"")[:6])
        van.right.unplug()
        until("the reader is told as lost", lambda: len(van.events("reader.lost")) == lost + 1)
        the_others_go_on(van)
        van.right.replug()
        until("it is ready again", lambda: van.reader_state("right") == "ready")
        van.right.say(encode(DORA, trailer=b"")[6:])  # the rest of the old frame is no card
        right_decides(van)


class TestAPn532:
    @pytest.mark.parametrize("fault", list(Fault))
    def test_a_damaged_answer_is_no_card_and_the_next_look_is_good(self, van, fault):
        before = decisions(van)
        van.left.disturb(fault, times=3)
        the_others_go_on(van)
        until("it is ready", lambda: van.reader_state("left") == "ready")
        van.left.calm()
        assert decisions(van) == before + 1
        left_decides(van)

    def test_bytes_without_end_are_no_card(self, van):
        before = decisions(van)
        for _ in range(ENDLESS):
            van.left.say(NOISE[:500])
            time.sleep(0.02)
        the_others_go_on(van)
        assert decisions(van) == before + 1
        until("it is ready again", lambda: van.reader_state("left") == "ready")
        left_decides(van)

    def test_unplugged_in_mid_frame_and_back(self, van):
        van.left.disturb(Fault.CUT_MID_FRAME, times=None)
        van.left.unplug()
        until("the reader is told as lost", lambda: van.reader_state("left") == "lost")
        the_others_go_on(van)
        van.left.calm()
        van.left.replug()
        until("it is ready again", lambda: van.reader_state("left") == "ready")
        left_decides(van)


def drive_away(van: Premises, name: str) -> None:
    """And wait until that is known: else the next driver's session would be the one that is unplugged."""
    van.bays[name].unplug()
    until("the bay is free", lambda: van.status()["chargers"][name]["state"] == "available")


class TestACharger:
    def test_noise_and_nonsense_in_mid_session_change_no_figure(self, van):
        bay = van.bays["bay-2"]
        ended, told = len(van.events("session.ended")), len(van.events("session.anomaly"))
        bay.plug_in()
        session = van.tap("right", DORA)["session"]
        until("energy flows", lambda: van.open_sessions()[0]["energy_wh"])
        began = van.events("session.started")[-1]["data"]["meter_wh"]
        for nonsense in (
            NOISE,
            b"METER " * 1_000,
            line_codec.encode(line_codec.Meter(session=session, meter_wh=0, power_w=None)),
            line_codec.encode(line_codec.Meter(session="another", meter_wh=10**11, power_w=10**11)),
            line_codec.encode(line_codec.Started(session=session, meter_wh=0)),
            line_codec.encode(line_codec.Started(session=None, meter_wh=10**11)),
            line_codec.encode(line_codec.Stopped(session="another", meter_wh=10**11, reason="Alien")),
            line_codec.encode(line_codec.Refused(session=session, reason="never")),
            line_codec.encode(line_codec.Plugged()),
            line_codec.encode(line_codec.Status(state=ChargerState.PLUGGED, session=session, meter_wh=None)),
        ):
            bay.make_noise(nonsense)
            time.sleep(0.12)
        the_others_go_on(van)
        assert [each["session"] for each in van.open_sessions()] == [session]
        assert van.tap("right", DORA)["session"] == session
        until("it ends", lambda: len(van.events("session.ended")) == ended + 1)
        figures = van.events("session.ended")[-1]["data"]
        assert (figures["session"], figures["complete"]) == (session, True)
        assert figures["energy_wh"] == bay.meter_wh - began < 100_000
        assert len(van.events("session.anomaly")) > told, "a contradiction is kept as told"
        drive_away(van, "bay-2")

    def test_a_cut_cable_in_mid_session_loses_no_energy(self, van):
        bay = van.bays["bay-2"]
        ended = len(van.events("session.ended"))
        bay.plug_in()
        assert van.tap("right", DORA)["reasons"] == []
        until("energy flows", lambda: van.open_sessions()[0]["energy_wh"])
        began = van.events("session.started")[-1]["data"]["meter_wh"]
        bay.cut_cable()
        until("the charger is told as lost", lambda: not van.reachable("bay-2"))
        the_others_go_on(van)
        bay.mend_cable()
        until("the charger is back", lambda: van.reachable("bay-2"))
        van.tap("right", DORA)
        until("it ends", lambda: len(van.events("session.ended")) == ended + 1)
        figures = van.events("session.ended")[-1]["data"]
        assert figures["complete"]
        assert figures["energy_wh"] == bay.meter_wh - began
        drive_away(van, "bay-2")


CONNACK_NOT_AUTHORISED = bytes.fromhex("20030087 00")


@contextmanager
def a_bad_broker(port: int, behave: Callable[[socket.socket], None]) -> Iterator[None]:
    """Accepts connections and then does this with each, until the test has seen enough."""
    over = threading.Event()
    kept: list[socket.socket] = []

    def serve() -> None:
        while not over.is_set():
            with suppress(TimeoutError, OSError):
                connection, _ = listener.accept()
                kept.append(connection)
                behave(connection)

    with socket.create_server(("127.0.0.1", port)) as listener:
        listener.settimeout(0.1)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(5)
            for connection in kept:
                connection.close()


def refuse(connection: socket.socket) -> None:
    connection.recv(1000)
    connection.sendall(CONNACK_NOT_AUTHORISED)
    connection.close()


def close_at_once(connection: socket.socket) -> None:
    connection.close()


def say_nothing(connection: socket.socket) -> None:
    """Half-open: what is sent is taken, and nothing ever comes back."""


def talk_junk(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.sendall(NOISE)


def test_brokers_that_refuse_hang_or_talk_junk_delay_and_nothing_more(build):
    """One after the other at the same address, and then a good one."""
    here = build(broker=True, port=free_port())
    here.bundle_folder = here.office.repository
    here.write_config()
    for number, behave in enumerate((refuse, close_at_once, say_nothing, talk_junk), start=1):
        with a_bad_broker(here.port, behave):
            if not here.service.runs:
                here.start_ready()
            time.sleep(1.0)
            began = time.monotonic()
            assert here.tap("door", STRANGER)["outcome"] == "refused", behave
            assert time.monotonic() - began < 2
            assert len(here.events("decision.made")) == number
            assert here.status()["link"]["state"] != "online"
    here.bays["bay-1"].plug_in(2_000)
    assert here.tap("left", ANNA)["outcome"] == "granted"
    until("charged without a network", here.has("session.ended"))
    here.broker.stop()
    here.broker = Broker(here.beside, here.root / "good-broker", port=here.port)
    here.broker.start()
    try:
        here.receiver.kill()
        here.receiver.command[here.receiver.command.index("--broker") + 1] = f"127.0.0.1:{here.port}"
        here.receiver.start()
        until("connected", lambda: here.status()["link"]["state"] == "online")
        here.until_delivered()
        here.stop()
        here.assert_nothing_lost()
    finally:
        here.broker.stop()


def test_junk_among_the_acknowledgements_is_not_believed(online):
    topic = DeviceTopics(fleet=FLEET, device=DEVICE).ack
    online.start_ready()
    online.until_delivered()
    online.receiver.kill()
    online.tap("door", STRANGER)
    last = online.api.get("/v1/journal", limit=1)["head"]
    unsigned = "eyJhbGciOiJub25lIn0.eyJ0aHJvdWdoIjo5OTl9."
    for junk in ("", "junk", "{}", "[" * 5_000, unsigned, '{"through": 999}', "x" * 200_000):
        publish(online, topic, junk)
    publish(online, topic, NOISE)
    publish(online, topic.replace("down/ack", "down/answer"), NOISE)
    the_others_go_on(online)
    time.sleep(0.3)
    status = online.status()
    assert status["link"]["state"] == "online"
    assert status["journal"]["backlog"] >= 2, "nothing but the backend's signature takes a record out of the outbox"
    assert online.api.get("/v1/journal", limit=1)["head"]["acknowledged"] <= last["last"] - 1
    online.receiver.start()
    online.until_delivered()
    online.stop()
    online.assert_nothing_lost()


def publish(here: Premises, topic: str, payload: str | bytes) -> None:
    body = payload.encode() if isinstance(payload, str) else payload
    options = ["-n"] if not body else ["-s"]
    subprocess.run(
        ["mosquitto_pub", "-p", str(here.broker.port), "-q", "1", "-t", topic, *options],
        input=body,
        check=True,
        timeout=10,
    )


def test_a_kill_of_everything_at_once_loses_nothing(online, tmp_path: Path):
    """Service, broker and receiver gone in mid-session; each comes back by itself."""
    online.start_ready()
    bay = online.bays["bay-1"]
    bay.plug_in()
    online.tap("left", ANNA)
    until("energy flows", online.has("session.metered"))
    for part in (online.service, online.broker, online.receiver):
        part.kill()
    online.start()
    until("it is resumed, offline", online.has("session.resumed"))
    online.tap("left", ANNA)
    until("it ends, offline", online.has("session.ended"))
    online.broker.start()
    online.receiver.start()
    online.until_delivered()
    online.stop()
    online.assert_nothing_lost()
    (ended,) = online.events("session.ended")
    assert ended["data"]["energy_wh"] == bay.meter_wh - ended["data"]["meter_start_wh"]


def test_a_spoiled_device_key_is_told_and_cards_go_on_being_decided(here):
    here.start_ready()
    here.stop()
    key = here.state / "vault" / "device.key"
    whole = key.read_bytes()
    key.write_bytes(whole[:20])
    here.start_ready()
    assert here.tap("door", STRANGER)["outcome"] == "refused"
    assert "restore it" in here.status()["alarms"]["device-key"]
    assert "stand-in" in here.service.said()
    here.stop()
    assert "chained, not yet covered" in good(roamkey("journal", "verify", "--state", here.state)), "by both its keys"
    key.write_bytes(whole)
    here.start_ready()
    assert here.tap("door", STRANGER)["outcome"] == "refused"
    assert "device-key" not in here.status()["alarms"]
