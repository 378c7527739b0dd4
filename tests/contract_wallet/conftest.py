"""The homes of keys: files, and a real PKCS#11 token (SoftHSM2), for which every test of the wallet runs as well."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from agent.contracts.pkcs11_keys import Pkcs11Keys
from tests.contract_wallet.provisioning import FileHome, Home, TokenHome

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
PIN = "a pin of a test"
TOKENS = ("wallet", "wrong-pin", "cards")


@pytest.fixture(scope="session")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the tokens. SoftHSM2 sees what is there when its module is first loaded: all are made at once."""
    if find_spec("pkcs11") is None:
        pytest.skip("the extra `hsm` is not installed")
    if not MODULE.exists() or shutil.which("softhsm2-util") is None:
        pytest.skip("SoftHSM2 is missing: on Debian, apt-get install softhsm2")
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    configuration = folder / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\n")
    before = os.environ.get("SOFTHSM2_CONF")
    os.environ["SOFTHSM2_CONF"] = str(configuration)
    for label in TOKENS:
        subprocess.run(
            ["softhsm2-util", "--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", "the officer"],
            check=True,
            capture_output=True,
        )
    yield folder / "tokens"
    if before is None:
        del os.environ["SOFTHSM2_CONF"]
    else:
        os.environ["SOFTHSM2_CONF"] = before


@pytest.fixture
def token_home(tmp_path: Path, tokens: Path) -> Iterator[TokenHome]:
    opened = Pkcs11Keys(module=MODULE, token="wallet", pin=PIN)
    yield TokenHome(folder=tmp_path, token=opened, tokens=tokens)
    opened.close()


@pytest.fixture(params=["files", "token"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    if request.param == "files":
        return FileHome(folder=tmp_path)
    opened: TokenHome = request.getfixturevalue("token_home")
    return opened
