"""A verdict on a contract as a JSON document, for the command line and the local API. No journal holds it."""

from __future__ import annotations

from typing import Any

from agent.core.contracts.flaws import Finding
from agent.core.contracts.revocation import Evidence
from agent.core.contracts.verification import Verdict


def verdict_document(verdict: Verdict) -> dict[str, Any]:
    """Holds the eMAID in clear, since that is what was asked about: whoever keeps it has to mask it."""
    return {
        "outcome": verdict.outcome,
        "codes": {"iso15118-2": verdict.codes.iso2, "iso15118-20": verdict.codes.iso20},
        "emaid": verdict.emaid.canonical if verdict.emaid is not None else None,
        "flaws": [_finding(each) for each in verdict.flaws],
        "doubts": [_finding(each) for each in verdict.doubts],
        "anchor": None
        if verdict.anchor is None
        else {
            "fingerprint": verdict.anchor.fingerprint,
            "role": verdict.anchor.role,
            "subject": verdict.anchor.subject,
        },
        "clock": verdict.clock,
        "judged_at": verdict.judged_at.isoformat(),
        "rung": verdict.rung,
        "revocation_unverified": verdict.revocation_unverified,
        "evidence": [_evidence(each) for each in verdict.evidence],
        "certificate_hash_data": [
            {
                "hashAlgorithm": each.hash_algorithm,
                "issuerNameHash": each.issuer_name_hash,
                "issuerKeyHash": each.issuer_key_hash,
                "serialNumber": each.serial_number,
            }
            for each in verdict.hash_data
        ],
    }


def _finding(finding: Finding) -> dict[str, str]:
    return {"code": finding.code, "detail": finding.detail, "certificate": finding.certificate}


def _evidence(evidence: Evidence) -> dict[str, Any]:
    return {
        "certificate": evidence.certificate,
        "source": evidence.source,
        "status": evidence.status,
        "as_of": evidence.as_of.isoformat() if evidence.as_of is not None else None,
        "until": evidence.until.isoformat() if evidence.until is not None else None,
        "age_s": int(evidence.age.total_seconds()) if evidence.age is not None else None,
    }
