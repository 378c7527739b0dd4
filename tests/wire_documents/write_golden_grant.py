"""Write the golden sample of a grant. Once: no private key is kept, and what is written is never rewritten.

`.venv/bin/python -m tests.wire_documents.write_golden_grant`
"""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import timedelta

from sync import signing
from sync.grants import GRANT_TYP, Grant, GrantedLease
from tests.journal.samples import LEASE, MORNING
from tests.wire_documents.write_golden_messages import FOLDER


def main() -> None:
    key = signing.generate()
    terms = {each.name: getattr(LEASE, each.name) for each in fields(LEASE)}
    grant = Grant(
        fleet="nordlicht",
        device="gw-17",
        number=1_772_436_600,
        leases=(GrantedLease(**terms, replaces=("b1f0",)),),
        used_up={"vans": MORNING + timedelta(days=29)},
    )
    token = signing.sign(grant.to_claims(issued_at_s=1_772_436_600), key, typ=GRANT_TYP)
    with (FOLDER / "grant.jws").open("xb") as file:
        file.write(token.encode())
    (FOLDER / "grant.jwk").write_bytes(key.public_jwk.encode() + b"\n")
    claims = signing.verify(token, {key.kid: key.public_jwk}, typ=GRANT_TYP)
    (FOLDER / "grant.json").write_text(json.dumps(claims, indent=1) + "\n")


if __name__ == "__main__":
    main()
