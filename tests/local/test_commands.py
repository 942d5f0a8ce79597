"""The other commands of ``tutorloop``, each run as a person would."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request

from tests.local.command import TUTORLOOP
from tests.support import processes


def test_teacher_starts_alone_and_answers() -> None:
    process = subprocess.Popen([*TUTORLOOP, "teacher", "--set", "faults.latency_s=0.01"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        body = {
            "model": "m",
            "messages": [
                {"role": "system", "content": "Task: solve"},
                {"role": "user", "content": "Problem: Mia needs 6 apples and each costs 2 dollars. How many dollars does Mia pay in all?"},
            ],
        }
        request = urllib.request.Request(f"{address}/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=120) as response:
            reply = json.load(response)
        assert reply["choices"][0]["message"]["content"].endswith("#### 12")
    finally:
        processes.stop(process)


def test_profiles_are_listed_with_what_they_are_for() -> None:
    output = subprocess.run([*TUTORLOOP, "profiles"], capture_output=True, text=True, check=True).stdout
    for name in ("tiny", "gsm8k_small", "orca_math_7b"):
        assert f"{name} " in output


def test_help_does_not_wait_for_heavy_imports() -> None:
    code = "import sys; from pipelines.cli.main import cli\ntry: cli(['--help'])\nexcept SystemExit: pass\n"
    code += "assert not {'torch', 'kfp', 'transformers', 'openai'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
