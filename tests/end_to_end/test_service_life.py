"""The service as a process: what it refuses to start with, how it stops, what it tells systemd."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from agent.cli.client import Refused, Unreachable
from agent.demo.fleet import ANNA, DORA
from drivers.readers.pn532_chip import Fault
from drivers.readers.virtual_cards import Type2Card
from tests.end_to_end.premises import Premises, good, roamkey, until

pytestmark = pytest.mark.slow

CONFIG, UNAVAILABLE = 78, 69  # sysexits.h


class TestAStartThatCannotWork:
    def test_an_unknown_key_is_named_with_its_nearest_known_one(self, here):
        here.config.write_text(here.configuration().replace("[sessions]\nmeter_record", "[sessions]\nmetre_record"))
        done = roamkey("run", "--config", here.config)
        assert done.returncode == CONFIG
        assert "sessions.metre_record_every_s" in done.stderr
        assert "did you mean 'meter_record_every_s'?" in done.stderr

    def test_all_that_is_wrong_is_told_at_once(self, here):
        text = here.configuration().replace("[time]", "[tyme]").replace('charger = "yard"', 'charger = "yurd"')
        here.config.write_text(text + "\n[mqtt]\nhost = 'x'\nport = 70000\n")
        done = roamkey("run", "--config", here.config)
        assert done.returncode == CONFIG
        assert "did you mean 'time'?" in done.stderr
        assert "mqtt.port" in done.stderr

    def test_a_file_that_is_not_there_or_no_toml_is_told(self, tmp_path):
        for content in (None, b"[device\n", b"\xff\xfe\x00"):
            config = tmp_path / "roamkey.toml"
            if content is not None:
                config.write_bytes(content)
            done = roamkey("run", "--config", config)
            assert done.returncode == CONFIG
            assert str(config) in done.stderr
            assert "Traceback" not in done.stderr

    @pytest.mark.parametrize("name", ["root.json", "token.key"])
    def test_a_missing_key_file_is_named_with_what_to_do(self, here, name):
        (here.office.device_files / name).unlink()
        done = roamkey("run", "--config", here.config)
        assert done.returncode == CONFIG
        assert str(here.office.device_files / name) in done.stderr
        assert "roamkey fleet device-files" in done.stderr
        assert "Traceback" not in done.stderr

    @pytest.mark.parametrize("content", [b"", b"{}", b"not json", b"\xff" * 100])
    def test_a_root_that_is_none_is_named_with_what_to_do(self, here, content):
        (here.office.device_files / "root.json").write_bytes(content)
        done = roamkey("run", "--config", here.config)
        assert done.returncode == CONFIG
        assert "root.json" in done.stderr
        assert "roamkey fleet device-files" in done.stderr

    def test_a_root_that_went_bad_later_stops_no_decision(self, here):
        here.start_ready()
        here.stop()
        (here.office.device_files / "root.json").write_bytes(b"\x00" * 100)
        here.start()
        assert here.status()["policy"]["revision"] == 2
        here.bays["bay-2"].plug_in()
        until("the charger", lambda: here.reachable("bay-2"))
        assert here.tap("right", DORA)["outcome"] == "granted"
        assert "no newer policy is taken" in here.service.said()
        here.stop()

    def test_a_token_key_that_is_none_is_named_and_not_shown(self, here):
        (here.office.device_files / "token.key").write_text("c0ffee" * 5)
        done = roamkey("run", "--config", here.config)
        assert done.returncode == CONFIG
        assert "token.key" in done.stderr
        assert "c0ffee" not in done.stderr

    def test_an_unknown_profile_is_named(self, here):
        here.config.write_text(here.configuration().replace("readers/rdm6300", "readers/rdm6301"))
        done = roamkey("run", "--config", here.config)
        assert done.returncode == CONFIG
        assert "rdm6300" in done.stderr

    def test_a_socket_path_that_no_socket_can_have_is_named(self, here):
        here.config.write_text(here.configuration().replace("api.sock", "s" * 120))
        done = roamkey("run", "--config", here.config)
        assert done.returncode == CONFIG
        assert "sss" in done.stderr
        assert "Traceback" not in done.stderr

    def test_a_second_instance_leaves_the_first_alone(self, here):
        here.start()
        done = roamkey("run", "--config", here.config)
        assert done.returncode == UNAVAILABLE
        assert "Traceback" not in done.stderr
        assert here.status()["device"] == "van-0007"
        here.stop()


class TestStopping:
    def test_sigterm_ends_it_cleanly_and_the_socket_is_gone(self, here):
        here.start_ready()
        here.stop()
        assert not (here.root / "api.sock").exists()
        assert [each["type"] for each in here.events()[-2:]] == ["io.roamkey.agent.stopped", "io.roamkey.checkpoint"]

    def test_sigterm_right_after_the_start_ends_it_too(self, here):
        for delay_s in (0.35, 0.6, 0.9):
            here.service.start()
            time.sleep(delay_s)
            code = here.service.stop()
            assert code in (0, -signal.SIGTERM), here.service.said()  # before its handler stands, SIGTERM is the end
        here.start()
        here.stop()

    def test_it_stops_within_5_s_while_the_broker_is_half_open(self, online):
        online.start_ready()
        online.broker.freeze()
        try:
            online.tap("right", DORA)
            online.stop()
        finally:
            online.broker.freeze(frozen=False)

    def test_it_stops_within_5_s_while_a_reader_says_nothing_in_mid_poll(self, here):
        here.start_ready()
        here.left.disturb(Fault.SILENCE, times=None)
        time.sleep(0.3)
        here.stop()

    def test_it_stops_within_5_s_while_somebody_follows_the_events(self, here):
        here.start_ready()
        with following(here):
            here.stop()

    def test_an_open_session_is_resumed_at_the_next_start(self, here):
        here.start_ready()
        bay = here.bays["bay-2"]
        bay.plug_in()
        session = here.tap("right", DORA)["session"]
        until("energy flows", here.has("session.metered"))
        here.stop()
        assert bay.session == session, "the car goes on charging"
        metered = here.events("session.metered")[-1]["data"]["meter_wh"]
        time.sleep(0.5)
        here.start_ready()
        until("it is resumed", here.has("session.resumed"))
        (running,) = here.open_sessions()
        assert (running["session"], running["phase"], running["interrupted"]) == (session, "charging", True)
        assert here.tap("right", DORA)["session"] == session
        until("it ends", here.has("session.ended"))
        (ended,) = here.events("session.ended")
        assert ended["data"]["complete"]
        assert ended["data"]["meter_stop_wh"] == bay.meter_wh > metered
        here.stop()
        here.assert_whole()

    def test_a_card_that_stays_on_the_reader_over_a_kill_does_not_end_its_own_session(self, here):
        here.start_ready()
        here.bays["bay-1"].plug_in()
        here.left.present(Type2Card(ANNA))
        until("energy flows", here.has("session.metered"))
        here.service.kill()
        here.start_ready()
        until("it is resumed", here.has("session.resumed"))
        time.sleep(1.0)
        assert here.events("session.stop_requested") == []
        here.left.remove()
        time.sleep(1.0)
        here.left.present(Type2Card(ANNA))
        until("laid on again, the card stops it", here.has("session.ended"))
        here.stop()

    def test_an_open_session_whose_charger_is_gone_is_closed_with_what_is_known(self, build):
        here = build(settings="[sessions]\nmeter_record_every_s = 0.1\nresume_timeout_s = 1\n")
        here.start_ready()
        here.bays["bay-2"].plug_in()
        session = here.tap("right", DORA)["session"]
        until("energy flows", here.has("session.metered", 3))
        here.service.kill()
        known = here.events("session.metered")[-1]["data"]["energy_wh"]
        here.bays["bay-2"].cut_cable()
        here.start()
        until("it is closed", here.has("session.ended"))
        (ended,) = here.events("session.ended")
        assert (ended["data"]["session"], ended["data"]["complete"]) == (session, False)
        assert ended["data"]["interrupted"]
        assert ended["data"]["energy_wh"] == known
        here.stop()


class TestCheck:
    def test_a_sound_set_up_is_found_good(self, online):
        done = roamkey("check", "--config", online.config)
        assert done.returncode == 0, done.stdout
        assert "error" not in done.stdout
        told = json.loads(good(roamkey("check", "--json", "--config", online.config)))
        assert told["ok"]
        found = {each["what"]: each["verdict"] for each in told["findings"]}
        assert found["reader left"] == found["TUF root"] == found["state folder"] == "ok"
        assert found["broker"] == "warning", "plain is loudly shown"

    def test_it_starts_nothing_and_changes_nothing(self, here):
        before = sorted(path.name for path in here.root.iterdir())
        roamkey("check", "--config", here.config)
        assert sorted(path.name for path in here.root.iterdir()) == before

    def test_each_thing_that_is_wrong_is_found(self, here):
        (here.office.device_files / "root.json").unlink()
        (here.office.device_files / "token.key").chmod(0o644)
        here.left.unplug()
        text = here.configuration().replace(f"{here.root}/dev/bay-1", str(here.config))
        here.config.write_text(text + '\n[mqtt]\nhost = "127.0.0.1"\nport = 1\nplain = true\n')
        done = roamkey("check", "--json", "--config", here.config)
        assert done.returncode == CONFIG
        found = {each["what"]: (each["verdict"], each["detail"]) for each in json.loads(done.stdout)["findings"]}
        assert found["TUF root"][0] == "error"
        assert found["token key"] == (
            "warning",
            f"{here.office.device_files}/token.key is open to every user: chmod 0600",
        )
        assert found["reader left"][0] == "warning"
        assert found["charger bay-1"] == ("error", f"{here.config} is not a character device")
        assert found["broker"][0] == "warning"
        assert "Connection refused" in found["broker"][1]

    def test_a_root_or_key_that_is_none_is_found(self, here):
        (here.office.device_files / "root.json").write_text("{}")
        (here.office.device_files / "token.key").write_text("abc")
        done = roamkey("check", "--json", "--config", here.config)
        found = {each["what"]: each["verdict"] for each in json.loads(done.stdout)["findings"]}
        assert found["TUF root"] == found["token key"] == "error"
        assert done.returncode == CONFIG


class Systemd:
    """The other end of sd_notify(3): a datagram socket."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.path = path
        self.heard: list[tuple[float, str]] = []

    def listen(self, seconds: float) -> list[str]:
        """What comes within so long."""
        until_s = time.monotonic() + seconds
        new = []
        while (left_s := until_s - time.monotonic()) > 0:
            self.socket.settimeout(left_s)
            with suppress(TimeoutError):
                new.append(self.socket.recv(4096).decode())
                self.heard.append((time.monotonic(), new[-1]))
        return new

    def wait_for(self, start: str) -> None:
        until(f"systemd hears {start}", lambda: any(text.startswith(start) for text in self.listen(0.1)))


class TestSystemd:
    @pytest.fixture
    def systemd(self, tmp_path: Path) -> Iterator[Systemd]:
        listener = Systemd(tmp_path / "notify")
        yield listener
        listener.socket.close()

    def test_it_hears_ready_then_the_watchdog_every_second_then_stopping(self, here, systemd):
        here.service.env = {"NOTIFY_SOCKET": str(systemd.path), "WATCHDOG_USEC": "30000000"}
        here.service.start()
        systemd.wait_for("READY=1\nSTATUS=deciding")
        assert here.answers()
        fed = systemd.listen(3.2)
        assert 2 <= fed.count("WATCHDOG=1") <= 4
        here.stop()
        assert systemd.listen(0.1)[-1] == "STOPPING=1"

    def test_an_abstract_address_works_too(self, here):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            listener.bind(f"\0roamkey-test-{os.getpid()}")
            listener.settimeout(10)
            here.service.env = {"NOTIFY_SOCKET": f"@roamkey-test-{os.getpid()}"}
            here.service.start()
            assert listener.recv(4096).startswith(b"READY=1")
            here.stop()

    def test_a_supervisor_that_goes_away_does_not_end_the_service(self, here, systemd):
        here.service.env = {"NOTIFY_SOCKET": str(systemd.path)}
        here.service.start()
        systemd.wait_for("READY=1")
        systemd.socket.close()
        systemd.path.unlink()
        time.sleep(2.5)
        assert here.answers()
        here.stop()

    def test_a_supervisor_that_does_not_listen_does_not_hold_it_up(self, here, systemd):
        here.service.env = {"NOTIFY_SOCKET": str(systemd.path)}
        systemd.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as crowd, suppress(OSError):
            for _ in range(10_000):
                crowd.sendto(b"x" * 100, str(systemd.path))
        here.start()
        assert here.tap("right", DORA)["outcome"] in ("granted", "refused")
        here.stop()

    @pytest.mark.parametrize("what", ["loop", "journal"])
    def test_the_watchdog_is_not_fed_any_more_when_it_hangs(self, build, systemd, tmp_path, what):
        """The rest is systemd's: it kills what it does not hear. SIGKILL stands for it here; the session goes on."""
        composed = (sys.executable, "-m", "tests.end_to_end.composed_service")
        here = build(command=(*composed, "--witness", tmp_path / "witness", "--hang", what))
        here.service.env = {"NOTIFY_SOCKET": str(systemd.path)}
        here.start_ready()
        assert "WATCHDOG=1" in systemd.listen(1.5)
        here.bays["bay-1"].plug_in()
        here.left.present(Type2Card(ANNA))
        systemd.listen(2.0)
        assert systemd.listen(3.0) == [], "fed from beside the hanging loop"
        here.left.remove()
        here.service.kill()
        here.service.command = [*composed, "--witness", str(tmp_path / "witness"), "--config", str(here.config)]
        here.start_ready()
        if what == "loop":  # the record was durable before it hung: the driver waits for his charge
            until("the session goes on", lambda: [each["phase"] for each in here.open_sessions()] == ["charging"])
        else:
            assert here.open_sessions() == [], "nothing was decided, nothing begun"
        here.stop()


@contextmanager
def following(here: Premises) -> Iterator[None]:
    """A listener of the event stream that never reads."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.connect(str(here.root / "api.sock"))
        listener.sendall(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert listener.recv(100).startswith(b"HTTP/1.1 200")
        yield


class TestTheSocket:
    def test_one_left_behind_by_a_kill_is_replaced(self, here):
        here.start()
        here.service.kill()
        left_behind = (here.root / "api.sock").stat()
        assert stat.S_ISSOCK(left_behind.st_mode)
        with pytest.raises(Unreachable):
            here.api.get("/v1/status")
        here.start()
        assert here.status()["device"] == "van-0007"
        here.stop()

    def test_a_request_in_the_last_moment_is_answered_or_refused_never_left_hanging(self, here):
        here.start_ready()
        here.service.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        with suppress(Unreachable, Refused):
            while True:
                here.tap("right", DORA)
        assert time.monotonic() - began < 5
        assert here.service.ended(within_s=5) == 0

    def test_curl_works_for_anybody_in_a_hurry(self, here):
        here.start()
        done = subprocess.run(
            ["curl", "-sS", "--unix-socket", str(here.root / "api.sock"), "http://localhost/v1/status"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
        assert json.loads(done.stdout)["fleet"] == "acme"
        here.stop()
