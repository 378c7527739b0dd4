"""The budgets of a fleet's policy file as the backend lends from them. Other parts of the file are not looked at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.cache.budget_documents import BudgetDocument, terms_of
from agent.cache.documents import entry_faults
from agent.fleet import sheets
from agent.fleet.remarks import Code, Remark
from agent.fleet.source import SourceUnfit, exact

if TYPE_CHECKING:
    from sync.backend.budgets import Terms


def read_budgets(path: Path) -> tuple[Terms, ...]:
    """Raises SourceMissing or SourceUnfit. A file without budgets lends nothing, and that is an error, too."""
    remarks: list[Remark] = []
    sheet = sheets.read(path, remarks)
    found: dict[str, Any] = exact(sheets.plain(sheet.value)).get("budgets", {})
    for name, entry in found.items():
        for fault in entry_faults("budget", entry):
            code = Code.UNKNOWN_KEY if fault.unknown_key else Code.WRONG_VALUE
            remarks.append(sheet.remark(code, fault.text, "budgets", name, *fault.place))
    if not found and not remarks:
        remarks.append(sheet.remark(Code.WRONG_VALUE, "there are no budgets: write each as [budgets.NAME]", "budgets"))
    if remarks:
        raise SourceUnfit(remarks)
    return tuple(terms_of(name, BudgetDocument.model_validate(entry)) for name, entry in found.items())
