"""Contracts: a chain and its possession verified, signatures from files and in a token, EXI beside a Java codec."""

from __future__ import annotations

import os
import random
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from agent.contracts.key_store import KeyStore
from agent.contracts.wallet import PROVISIONING_KEY, Authorization, Context, Wallet
from agent.core.contracts.exi_fragments import authorization_request
from agent.core.contracts.signing import AuthorizationRequest
from agent.core.contracts.verification import Outcome, Proof, prove_possession, verify_chain
from agent.core.decisions import Granted
from agent.core.limits import Limits
from tests.benchmarks.measurement import Bench, Benchmark, Pairs, Row, not_run, spread
from tests.contract_wallet.foreign_oracle import ENVIRONMENT, an_oracle
from tests.contract_wallet.pki_builder import EMAID, LEAF, a_bundle, an_instant
from tests.contract_wallet.provisioning import VEHICLE_KEY, a_key_store, a_response, point_of

SOFTHSM = Path("/usr/lib/softhsm/libsofthsm2.so")
TARGET = "<= 5 ms p99"
IN_A_TOKEN = "contract signature, SoftHSM2"
FRAGMENT = "EXI fragment of an AuthorizationReq"
FRAGMENT_TARGET = "<= 1/200 of Java's"
CHALLENGE = bytes(range(16))


def measure(bench: Bench) -> Sequence[Row]:
    times = bench.size(2_000, 50)
    home = bench.fresh("contracts")
    keys = a_key_store(home)
    wallet = Wallet(home / "wallet", keys)
    wallet.install(a_response(), bundle=a_bundle(), now=an_instant())
    signed = wallet.sign_authorization(
        "id1", CHALLENGE, context=Context(), permit=lambda asked: Granted(limits=Limits()), now=an_instant()
    )
    assert isinstance(signed, Authorization)

    rows = latencies("contract verified", verified(signed), times, "chain of three, evidence, possession; TrustBundle")
    rows += latencies("contract signature, keys in files", signing(keys), times, "fragment, SignedInfo and ECDSA")
    with softhsm_keys(home) as hsm:
        if isinstance(hsm, str):
            rows += [not_run(f"{IN_A_TOKEN}, {cut}", "ms", because=hsm, target=TARGET) for cut in ("p50", "p99")]
        else:
            rows += latencies(IN_A_TOKEN, signing(hsm), times, "ECDSA in the token")
    lacking = without_java()
    rows.append(
        not_run(FRAGMENT, "us", because=lacking, target=FRAGMENT_TARGET)
        if lacking
        else beside_java(home, bench.size(500, 20))
    )
    return rows


def without_java() -> str:
    """What the foreign codec lacks here, empty when nothing."""
    if not (ENVIRONMENT / "bin" / "python").exists():
        return "no foreign stack here: `make bench NAME=contracts` brings it where .ci/interop-needs finds all it needs"
    return "" if shutil.which("java") else "no Java: apt-get install openjdk-17-jre-headless"


def verified(signed: Authorization) -> Callable[[], None]:
    bundle, now = a_bundle(), an_instant()
    proof = Proof(id="id1", challenge=CHALLENGE, references=signed.signed.references, signature=signed.signed.signature)

    def once() -> None:
        verdict = verify_chain(signed.contract.chain, claimed=EMAID, bundle=bundle, now=now)
        assert prove_possession(verdict, challenge=CHALLENGE, proof=proof).outcome is Outcome.AUTHORISED

    return once


def signing(keys: KeyStore) -> Callable[[], None]:
    request = AuthorizationRequest(id="id1", challenge=CHALLENGE)
    (name,) = keys.names() - {PROVISIONING_KEY}
    return lambda: assert_signed(keys.sign(name, request).signature)


def assert_signed(signature: bytes) -> None:
    assert len(signature) == 64


def latencies(what: str, once: Callable[[], None], times: int, note: str) -> list[Row]:
    """On one thread; the first few warm caches and are not counted."""
    for _ in range(5):
        once()
    taken_ms = []
    for _ in range(times):
        began = time.perf_counter_ns()
        once()
        taken_ms.append((time.perf_counter_ns() - began) / 1e6)
    cuts = statistics.quantiles(taken_ms, n=100)
    told = f"{note}; {spread(taken_ms, 2)} ms"
    return [
        Row(name=f"{what}, p50", value=cuts[49], unit="ms", runs=times, note=told),
        Row(name=f"{what}, p99", value=cuts[98], unit="ms", runs=times, note=told, target=TARGET),
    ]


@contextmanager
def softhsm_keys(home: Path) -> Iterator[KeyStore | str]:
    """A fresh token with the contract's key, or what is missing here."""
    if not SOFTHSM.exists() or not shutil.which("softhsm2-util"):
        yield "no SoftHSM2: apt-get install softhsm2"
        return
    if find_spec("pkcs11") is None:
        yield "the extra `hsm` is not installed"
        return
    from agent.contracts.pkcs11_keys import Pkcs11Keys

    (home / "tokens").mkdir()
    configuration = home / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {home / 'tokens'}\nobjectstore.backend = file\n")
    os.environ["SOFTHSM2_CONF"] = str(configuration)
    subprocess.run(
        ["softhsm2-util", "--init-token", "--free", "--label", "bench", "--pin", "bench-pin", "--so-pin", "officer"],
        check=True,
        capture_output=True,
    )
    keys = Pkcs11Keys(module=SOFTHSM, token="bench", pin="bench-pin")
    try:
        for name, key in ((PROVISIONING_KEY, VEHICLE_KEY), ("contract-bench", LEAF.key)):
            keys.bring(name, key.private_numbers().private_value, point_of(key))  # type: ignore[union-attr,arg-type]
        yield keys
    finally:
        keys.close()


def beside_java(home: Path, times: int) -> Row:
    """The foreign stack's own codec in the same run; the pipe to it is counted, as the stack's own bridge would be."""
    rng = random.Random(15118)
    pairs = Pairs()
    with an_oracle(home / "codec.log") as oracle:
        for number in range(times + 5):
            challenge = rng.randbytes(16)
            began = time.perf_counter_ns()
            theirs = oracle.ask("fragment", type="authorization", id="id1", challenge=challenge.hex())
            java_us = (time.perf_counter_ns() - began) / 1e3
            began = time.perf_counter_ns()
            ours = authorization_request("id1", challenge)
            ours_us = (time.perf_counter_ns() - began) / 1e3
            assert ours.hex() == theirs
            if number >= 5:
                pairs.add(ours_us, java_us)
    return Row(
        name=FRAGMENT,
        value=pairs.value,
        unit="us",
        peer="Java codec",
        peer_value=pairs.peer_value,
        ratio=pairs.ratio,
        runs=times,
        note=f"{1 / pairs.ratio:,.0f} times as quick, bytes equal each time",
        target=FRAGMENT_TARGET,
    )


BENCHMARK = Benchmark(name="contracts", about="contracts verified, signatures made, EXI encoded", measure=measure)
