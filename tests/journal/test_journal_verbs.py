"""`roamkey journal`: over the running service's API, on the store of a stopped service, and on copies."""

from __future__ import annotations

import argparse
import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import UnixStreamServer
from urllib.parse import parse_qs, urlsplit

import pytest

from agent.cli import journal as verb
from agent.cli import output
from agent.journal import Journal
from agent.vault import Vault
from tests.journal.samples import (
    SOURCE,
    a_refusal,
    an_instant,
    at,
    authorised,
    bodies_of,
    ended,
    metered,
    open_journal,
    started,
)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A service's state folder: a vault, and a journal with a session, a checkpoint and a refusal."""
    (tmp_path / "token.key").write_bytes(bytes(range(32)))
    folder = tmp_path / "state"
    vault = Vault.open(folder / "vault", token_key=tmp_path / "token.key")
    with open_journal(folder / "journal") as journal:
        journal.append(at(authorised(), started(), metered(), ended()))
        journal.seal_checkpoint(vault, an_instant())
        journal.append(at(a_refusal()))
    return folder


class Service:
    """A running service's journal, behind HTTP on a Unix socket, as agent/api.py serves it."""

    def __init__(self, journal: Journal, socket: Path) -> None:
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = {name: int(values[0]) for name, values in parse_qs(urlsplit(self.path).query).items()}
                self.answer(service.page(query.get("after", -1), query.get("limit", 100)))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                journal.export(Path(body["path"]))
                self.answer(body)

            def answer(self, value: object) -> None:
                content = json.dumps(value).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def address_string(self) -> str:
                return "local"

            def log_message(self, *_: object) -> None:
                pass

        self.journal = journal
        self.socket = socket
        self.server = UnixStreamServer(str(socket), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})

    def page(self, after: int, limit: int) -> dict[str, object]:
        head = self.journal.head()
        start = after if after >= 0 else max(0, head.last - limit)
        records = self.journal.read(start, records=min(limit, 3), size_bytes=10**6)
        return {
            "records": [{"sequence": each.sequence, "body": each.body.decode()} for each in records],
            "head": asdict(head),
        }


@pytest.fixture
def service(state: Path, tmp_path: Path) -> Iterator[Service]:
    journal = Journal.open(state / "journal", source=SOURCE, now=an_instant(), check_same_thread=False)
    running = Service(journal, tmp_path / "api.sock")
    running.thread.start()
    yield running
    running.server.shutdown()
    running.thread.join()
    running.server.server_close()
    journal.close()


def roamkey_journal(*words: object) -> int:
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    return verb.main(parser.parse_args([str(word) for word in words]))


def test_tail_shows_the_newest_records_for_people(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    assert roamkey_journal("tail", "-n", 3, "--socket", service.socket) == output.OK
    shown = capsys.readouterr().out
    assert "decision.made" in shown
    assert "NETWORK" in shown
    assert "session.ended" in shown
    assert "session.started" not in shown


def test_tail_gives_programs_the_sealed_bytes(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    assert roamkey_journal("tail", "--json", "--socket", service.socket) == output.OK
    assert capsys.readouterr().out.encode().splitlines() == bodies_of(service.journal)


def test_verify_asks_the_running_service_page_by_page(
    service: Service, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = state / "vault" / "device.jwk"
    assert roamkey_journal("verify", "--key", key, "--json", "--socket", service.socket) == output.OK
    verdict = json.loads(capsys.readouterr().out)
    assert (verdict["ok"], verdict["records"], verdict["signed_through"]) == (True, 7, 5)


def test_verify_without_a_key_says_that_signatures_were_not_judged(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    assert roamkey_journal("verify", "--socket", service.socket) == output.OK
    assert "signatures NOT judged" in capsys.readouterr().out


def test_an_export_by_the_service_verifies_from_its_file(
    service: Service, state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "copy.db"
    assert roamkey_journal("export", target, "--socket", service.socket) == output.OK
    assert roamkey_journal("verify", "--file", target, "--key", state / "vault" / "device.jwk") == output.OK
    assert "1 checkpoints signed by the device, through record 5" in capsys.readouterr().out


def test_the_store_of_a_running_service_is_not_opened(service: Service, state: Path) -> None:
    assert roamkey_journal("verify", "--state", state) == output.TRY_LATER


def test_without_a_service_it_says_which_socket_did_not_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert roamkey_journal("tail", "--socket", tmp_path / "none.sock") == output.UNAVAILABLE
    assert "none.sock" in capsys.readouterr().err


def test_the_store_of_a_stopped_service_is_read_and_left_as_it_is(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in state.rglob("*") if path.is_file()}
    assert roamkey_journal("tail", "--state", state) == output.OK
    assert roamkey_journal("verify", "--state", state) == output.OK
    assert "through record 5" in capsys.readouterr().out
    assert roamkey_journal("export", tmp_path / "copy.db", "--state", state) == output.OK
    assert {path: path.read_bytes() for path in state.rglob("*") if path.is_file()} == before


def test_the_store_that_a_crash_left_is_read_with_its_wal(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_journal(state / "journal") as journal:
        journal.append(at(metered("s-2")))
        shutil.copytree(state, state.parent / "crashed")
    assert (state.parent / "crashed" / "journal" / "journal.db-wal").stat().st_size > 0
    assert roamkey_journal("verify", "--json", "--state", state.parent / "crashed") == output.OK
    assert json.loads(capsys.readouterr().out)["records"] == 8


def test_json_lines_are_verified_also_from_the_middle(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_journal(state / "journal") as journal:
        bodies = bodies_of(journal)
    (tmp_path / "part.jsonl").write_bytes(b"".join(body + b"\n" for body in bodies[2:]))
    assert roamkey_journal("verify", "--file", tmp_path / "part.jsonl", "--json") == output.OK
    assert json.loads(capsys.readouterr().out)["last"] == 7


def test_damage_is_named_and_fails(state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_journal(state / "journal") as journal:
        bodies = bodies_of(journal)
        journal.export(tmp_path / "copy.db")
    del bodies[3]
    (tmp_path / "cut.jsonl").write_bytes(b"\n".join(bodies))
    assert roamkey_journal("verify", "--file", tmp_path / "cut.jsonl") == output.DATA
    assert "DAMAGED: record 4 missing" in capsys.readouterr().out
    copy = (tmp_path / "copy.db").read_bytes()
    (tmp_path / "copy.db").write_bytes(copy.replace(b'"support":"K7-4QX"', b'"support":"K7-4QY"'))
    assert roamkey_journal("verify", "--file", tmp_path / "copy.db", "--json") == output.DATA
    finding = json.loads(capsys.readouterr().out)["finding"]
    assert (finding["damage"], finding["at"]) == ("changed", 7)


@pytest.mark.parametrize("content", [b"", b"junk", b"SQLite format 3\x00 but then nothing", b"{}\n{}\n"])
def test_a_file_that_is_no_journal_is_refused(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_bytes(content)
    assert roamkey_journal("verify", "--file", tmp_path / "file") == output.DATA
    assert roamkey_journal("verify", "--file", tmp_path / "missing") == output.NO_INPUT
    assert "missing" in capsys.readouterr().err
