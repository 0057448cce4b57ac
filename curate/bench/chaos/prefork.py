"""Runs in processes that have the libraries loaded already: most of a small run's time is the loading of them.

`python -m curate.bench.chaos.prefork` loads them once and forks a child for every line on stdin, one after the other.
A child is a `python -m MODULE ARGUMENTS` in all but the loading.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import signal
import sys
from typing import Any

LOADED = (
    "curate.cli",
    "curate.execution",
    "curate.completion.fit",
    "curate.concepts.fit",
    "curate.models.captioner",
    "curate.models.torch_pair",
    "curate.next_steps",
    "curate.noise.fit",
    "curate.plan",
    "curate.stages.caption",
    "curate.stages.concepts",
    "curate.stages.noise",
    "curate.state",
    "curate.summary",
    "faiss",
    "open_clip",
    "pandas",
    "pyarrow.dataset",
    "scipy.optimize",
    "sklearn.decomposition",
    "sklearn.linear_model",
    "torch",
    "transformers",
)


def main() -> None:
    """Serve until stdin ends: `{"module", "arguments", "log"}` in, `{"pid"}` and `{"status"}` out."""
    for name in LOADED:
        importlib.import_module(name)
    for line in sys.stdin:
        wanted = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(wanted)
            return
        _tell({"pid": pid})
        _, status = os.waitpid(pid, 0)
        try:
            _tell({"status": os.waitstatus_to_exitcode(status)})
        except BrokenPipeError:
            # Who asked was killed: nobody waits for an answer.
            os._exit(1)


def _become(wanted: dict[str, Any]) -> None:
    """Be the process that was asked for, up to the end of the interpreter."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    nothing, log = os.open(os.devnull, os.O_RDONLY), os.open(wanted["log"], os.O_WRONLY)
    for target, source in ((0, nothing), (1, log), (2, log)):
        os.dup2(source, target)
    sys.argv = [wanted["module"], *wanted["arguments"]]
    runpy.run_module(wanted["module"], run_name="__main__", alter_sys=True)


def _tell(answer: dict[str, int]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
