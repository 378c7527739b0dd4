"""What settles one dispute, in a folder of its own: both sides' figures, our sealed records, and the price worked out.

    case.json        what differs, and by which tolerances
    cdr.json         the network's CDR as it was given, and cdr-priced.json: the same under the tariff that was shown
    session.json     our row of the session; records.jsonl: its records, byte for byte; tariff.json; meter.ocmf

Written once and never over something else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from agent.core.tariff.calculator import price
from agent.core.tariff.terms import Terms
from agent.core.tariff.verdicts import compare
from agent.exact_json import dumps
from agent.journal.copies import exported_file
from agent.ocpi.claims import cdr_documents, claim_of
from agent.ocpi.quotes import quote_of
from agent.ocpi.records import read_records
from agent.settlement.carried import Carried
from agent.settlement.ledger import key_of
from agent.settlement.reconciliation import Case
from agent.settlement.rows import compact, session_row
from agent.settlement.settled import Settled, settled_in
from agent.settlement.sources import is_backend
from agent.settlement.tolerances import Tolerances


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispute:
    number: int
    case: Case


def write_bundles(
    disputes: Iterable[Dispute], folder: Path, *, cdrs: Path, database: Path, tolerances: Tolerances
) -> int:
    """Raises FileExistsError. The CDRs are read a second time: only those that are wanted are kept meanwhile."""
    wanted = list(disputes)
    documents = _documents(cdrs, {each.case.claim for each in wanted if each.case.claim is not None})
    for each in wanted:
        home = folder / f"{each.number:05}-{_name(each.case)}"
        home.mkdir(parents=True)
        _write(home / "case.json", dumps(case_document(each.case) | {"tolerances": _plain(tolerances)}) + "\n")
        session = None
        if each.case.place is not None and each.case.session is not None:
            session = _write_session(home, database, each.case)
        if each.case.claim is not None and each.case.claim in documents:
            _write_cdrs(home, documents[each.case.claim], session)
    return len(wanted)


def case_document(case: Case) -> dict[str, object]:
    return {
        "outcome": case.outcome.value,
        "outcomes": [each.value for each in case.outcomes],
        "cdr": case.claim,
        "session": case.session,
        "beside": case.beside,
        "differences": [
            {
                "what": each.what,
                "ours": each.ours,
                "theirs": each.theirs,
                "difference": each.difference,
                "unit": each.unit,
            }
            for each in case.differences
        ],
        "notes": list(case.notes),
    }


def _documents(cdrs: Path, keys: set[str]) -> dict[str, list[dict[str, object]]]:
    found: dict[str, list[dict[str, object]]] = {}
    for document in cdr_documents(cdrs):
        claim = claim_of(document)
        key = key_of(claim.party, claim.id)
        if key in keys:
            found.setdefault(key, []).append(document)
    return found


def _write_session(home: Path, database: Path, case: Case) -> Settled | None:
    bodies = list(records_at(database, json.loads(case.place or "{}")))
    _write(home / "records.jsonl", b"".join(body + b"\n" for body in bodies))
    session = next(iter(settled_in(bodies)), None)
    if session is None:
        return None
    _write(home / "session.json", dumps(session_row(session, Carried())) + "\n")
    if session.tariff is not None:
        _write(home / "tariff.json", session.tariff.document)
    meter = [each.text for each in session.signed if each.text is not None and each.parts == 1]
    if meter:
        _write(home / "meter.ocmf", "\n".join(meter) + "\n")
    return session


def _write_cdrs(home: Path, documents: list[dict[str, object]], session: Settled | None) -> None:
    for number, document in enumerate(documents):
        suffix = "" if number == 0 else f"-{number + 1}"
        text = compact(document)
        _write(home / f"cdr{suffix}.json", text + "\n")
        quote = None if session is None or session.tariff is None else quote_of(session.tariff)
        for record in read_records(text).records if quote is not None else ():
            if quote is None:
                continue
            terms = Terms()
            again = price(record, (quote.tariff,), zone=quote.zone, terms=terms)
            comparison = compare(again, record, terms.rounding)
            told = {
                "verdict": comparison.verdict,
                "differences": [_plain(each) for each in comparison.differences],
                "findings": [f"{each.code} at {each.path}: {each.text}" for each in again.findings],
            }
            _write(home / f"cdr{suffix}-priced.json", dumps(told) + "\n")


def records_at(database: Path, place: Mapping[str, object]) -> Iterator[bytes]:
    """Our sealed records again, from wherever the session came."""
    told = place.get("sequences")
    sequences = [int(each) for each in told] if isinstance(told, list) else []
    if not is_backend(database):
        with exported_file(database) as journal:
            for sequence in sequences:
                yield from (
                    body for (body,) in journal.execute("SELECT body FROM record WHERE sequence = ?", (sequence,))
                )
        return
    from sync.backend.store import Store

    with closing(Store(database)) as store:
        for sequence in sequences:
            body = store.body(str(place["device"]), str(place["journal"]), sequence)
            if body is not None:
                yield body


def _name(case: Case) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", f"{case.outcome.value}-{case.claim or case.session}")[:80]


def _plain(value: object) -> dict[str, object]:
    return asdict(value)  # type: ignore[call-overload,no-any-return]


def _write(path: Path, content: str | bytes) -> None:
    with path.open("xb") as file:
        file.write(content.encode("utf-8", "replace") if isinstance(content, str) else content)
