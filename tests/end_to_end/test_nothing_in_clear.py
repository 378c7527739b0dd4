"""No card UID and no key in clear outside the vault, after a full run: files, logs, topics, databases (P7).

The scan looks for every form in which a reader, a person or a program writes a UID, also inside what is compressed.
"""

from __future__ import annotations

import base64
import re
import shutil
import signal
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.demo.fleet import ANNA, BERT, CARLA, DORA, STRANGER
from drivers.readers.virtual_cards import ClassicCard, Type2Card
from tests.end_to_end.premises import ROAMKEY, Premises, roamkey, until

pytestmark = pytest.mark.slow

CARDS = {"ANNA": ANNA, "BERT": BERT, "CARLA": CARLA, "DORA": DORA, "STRANGER": STRANGER}
ZLIB_HEADS = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
# The fleet office's own files, what a device is set up with, and the vault may hold them: that is where they live.
ALLOWED = ("fleet", "policy", "device", "state/vault")


def forms_of(secret: bytes) -> dict[str, bytes]:
    """Raw and in text, in both byte orders; hex without separators is matched in either case."""
    found: dict[str, bytes] = {}
    for order, octets in (("", secret), (" reversed", secret[::-1])):
        found["raw" + order] = octets
        found["hex" + order] = octets.hex().encode()
        for mark in (":", "-", " "):
            found[f"hex with {mark!r}{order}"] = octets.hex(mark).encode()
        found["base64" + order] = base64.b64encode(octets).rstrip(b"=")
        found["base64 for URLs" + order] = base64.urlsafe_b64encode(octets).rstrip(b"=")
        found["decimal" + order] = str(int.from_bytes(octets, "big")).encode()
        found["a list of numbers" + order] = ", ".join(map(str, octets)).encode()
        found["escaped" + order] = "".join(f"\\x{octet:02x}" for octet in octets).encode()
    if len(secret) == 5:  # as it is printed on a 125 kHz fob: ten digits of four bytes, or facility and number
        found["printed"] = f"{int.from_bytes(secret[1:], 'big'):010}".encode()
        found["printed in two"] = f"{secret[2]:03},{int.from_bytes(secret[3:], 'big'):05}".encode()
    return {name: form for name, form in found.items() if len(form) >= 4}


def unpacked(content: bytes) -> Iterator[bytes]:
    """The bytes as they lie there, and every zlib stream inside them."""
    yield content
    for head in ZLIB_HEADS:
        for match in re.finditer(re.escape(head), content):
            stream = zlib.decompressobj()
            try:
                inside = stream.decompress(content[match.start() :], 1 << 24)
            except zlib.error:
                continue
            if len(inside) > 8:
                yield inside


def hits(contents: dict[str, bytes], secrets: dict[str, bytes]) -> list[str]:
    found = []
    forms = {f"{name} as {form}": text for name, secret in secrets.items() for form, text in forms_of(secret).items()}
    for place, content in contents.items():
        for layer in unpacked(content):
            lowered = layer.lower()
            for name, text in forms.items():
                exact = " raw" in name or "base64" in name
                if (text in layer) if exact else (text.lower() in lowered):
                    found.append(f"{name} in {place}")
    return found


def files_below(root: Path, *, without: tuple[str, ...]) -> dict[str, bytes]:
    contents = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_file() and not path.is_symlink() and not name.startswith(without):
            contents[name] = path.read_bytes()
    return contents


@pytest.mark.parametrize("name", CARDS)
def test_the_scan_finds_a_planted_uid_in_every_form(name):
    for form, text in forms_of(CARDS[name]).items():
        for disguise in (text, text.upper() if b"hex" in form.encode() else text, zlib.compress(b"x" * 50 + text)):
            planted = {"here": b"noise " + disguise + b" noise"}
            assert hits(planted, CARDS), f"{name} as {form} is not found"
    assert hits({"nothing": b"no card here 0123456789" * 100}, CARDS) == []


def test_a_full_run_leaves_nothing_in_clear(online, tmp_path):
    """Cards on both readers, verbs, errors, a kill, deliveries; then everything that is left behind is searched."""
    capture = tmp_path / "capture"
    with capture.open("wb") as file:
        listener = subprocess.Popen(
            ["mosquitto_sub", "-p", str(online.broker.port), "-t", "#", "-t", "$SYS/#", "-F", "%t %x"], stdout=file
        )
    try:
        said = a_full_day(online)
        online.stop()
    finally:
        listener.terminate()
        listener.wait(5)
    online.broker.stop()
    online.receiver.stop()
    payloads = dict.fromkeys(["topics"], b"")
    for number, line in enumerate(capture.read_bytes().splitlines()):
        topic, _, payload = line.rpartition(b" ")
        payloads["topics"] += topic + b"\n"
        body = b"" if payload == b"(null)" else bytes.fromhex(payload.decode())
        payloads[f"message {number} on {topic.decode()}"] = body
    assert any("up/records" in name for name in payloads), "the capture heard the records"
    contents = {**files_below(online.root, without=ALLOWED), **payloads, "what verbs said": said.encode()}
    for expected in ("state/journal/journal.db", "agent.log", "receiver.log", "backend.db", "broker/mosquitto.db"):
        assert expected in contents, sorted(contents)[:50]
    assert hits(contents, CARDS) == []
    assert hits(contents, keys_of(online)) == []
    assert not [place for place, content in contents.items() if b"PRIVATE KEY" in content]


def keys_of(here: Premises) -> dict[str, bytes]:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    pem = (here.state / "vault" / "device.key").read_bytes()
    numbers = load_pem_private_key(pem, None).private_numbers()
    return {
        "the token key": bytes.fromhex((here.office.device_files / "token.key").read_text()),
        "the device key": numbers.private_value.to_bytes(32, "big"),
    }


def a_full_day(here: Premises) -> str:
    """Everything that verbs printed on the way."""
    here.start_ready()
    said = []

    def verb(*words: str | Path) -> None:
        done = roamkey(*words, "--config", here.config)
        said.append(done.stdout + done.stderr)

    here.bays["bay-1"].plug_in(3_000)
    here.left.present(Type2Card(ANNA))
    until("charged to the end", here.has("session.ended"))
    here.left.remove()
    here.left.present(ClassicCard(BERT), Type2Card(STRANGER))
    until("two at once are refused", here.has("decision.made", 2))
    here.left.remove()
    for number, uid in enumerate((BERT, STRANGER, CARLA), start=3):
        here.left.present(Type2Card(uid))
        until("refused", here.has("decision.made", number))
    here.left.remove()
    here.bays["bay-2"].plug_in()
    here.right.present(DORA)
    until("energy flows", lambda: here.open_sessions() and here.open_sessions()[0]["energy_wh"])
    here.right.remove()
    for words in (
        *(("tap", "--reader", "door", "--uid", uid.hex()) for uid in CARDS.values()),
        ("tap", "--reader", "door", "--uid", STRANGER.hex(":"), "--json"),
        ("tap", "--reader", "roof", "--uid", STRANGER.hex().upper()),
        ("tap", "--reader", "door", "--uid", STRANGER.hex() + "zz"),
        ("status", "--json"),
        ("sessions", "--json"),
        ("journal", "tail", "-n", "1000", "--json"),
        ("journal", "verify"),
        ("explain", here.events("decision.made")[-1]["data"]["decision"], "--json"),
    ):
        verb(*words)
    here.service.process.send_signal(signal.SIGABRT)  # a crash, with whatever it leaves behind
    here.service.process.wait(10)
    here.start_ready()
    here.tap("right", DORA)
    until("Dora's session ends", here.has("session.ended", 2))
    here.until_delivered()
    return "\n".join(said)


def test_a_key_that_is_wrong_is_not_told(here):
    """A verb that trips over a secret file says which file, not what is in it."""
    secret = "5ecre7" * 9
    (here.office.device_files / "token.key").write_text(secret)
    for verb in ("run", "check"):
        done = roamkey(verb, "--config", here.config)
        assert done.returncode == 78
        assert secret not in done.stdout + done.stderr


def test_a_core_of_the_process_is_forbidden_by_the_unit():
    """Memory holds UIDs for a moment; a core dump would keep them."""
    unit = Path(__file__).parents[2] / "systemd" / "roamkey.service"
    assert "LimitCORE=0" in unit.read_text()
    assert shutil.which(sys.executable)
    assert ROAMKEY[1] == "-P"
