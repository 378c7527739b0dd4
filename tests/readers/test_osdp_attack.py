"""The OSDP library against sound frames with nonsense in them. A longer run: ROAMKEY_ATTACK_S=600 pytest FILE"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SECONDS = float(os.environ.get("ROAMKEY_ATTACK_S", "4"))


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 60)
def test_sound_frames_with_nonsense_in_them_break_nothing_and_show_no_card_in_a_secure_channel():
    command = [sys.executable, "-m", "tests.readers.osdp_attack", "20261122", str(SECONDS)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    sessions, changed, stolen = map(int, re.findall(r"\d+", done.stdout))
    assert sessions > 10
    assert changed > 10
    assert stolen == 0
