"""Each tool measures in a process of its own, when it is asked to: one line of JSON each way."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

Answer = dict[str, Any]


class Worker:
    """A tool at work; it is started when it is first asked for something.

    Args:
        name: how tables call it.
        module: what runs in the process, under ``tests.benchmarks.peers``.
        needs: what must be installed for it.
    """

    def __init__(self, name: str, module: str, needs: str = "slabactors") -> None:
        self.name = name
        self.installed = find_spec(needs) is not None
        self._module = f"tests.benchmarks.peers.{module}"
        self._process: subprocess.Popen[str] | None = None

    def ask(self, question: str, *, patience: float = 60.0, **arguments: Any) -> Answer:
        """What the tool measured; empty when it has not answered after so many seconds, and it is ended then."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self._module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps([question, arguments]) + "\n")
        process.stdin.flush()
        if not select.select([process.stdout], [], [], patience)[0]:
            self.close()
            return {}
        line = process.stdout.readline()
        if not line:
            self.close()
            return {}
        answer: Answer = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def serve(questions: Mapping[str, Callable[..., Answer]]) -> None:
    """Answer until nobody asks any more; what the tools themselves print goes to stderr."""
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        question, arguments = json.loads(line)
        answers.write(json.dumps(questions[question](**arguments)) + "\n")
        answers.flush()


def rate(run: Callable[[int], int], executions: int) -> Answer:
    """Rates of a CPU second.

    Args:
        run: runs so many executions and says how many steps they took.
        executions: how many.
    """
    began = time.process_time()
    steps = run(executions)
    seconds = time.process_time() - began
    return {"executions": executions / seconds, "steps": steps / seconds}
