"""How a driver answers: a line of JSON when it is ready, and one for every line that it reads."""

import json
import os
import sys


def serve(make):
    """Make a measurement of the arguments, then take it once for every line of standard input.

    What libraries print goes to standard error: standard output is for answers alone.
    """
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)

        def answer(content):
            answers.write(json.dumps(content) + "\n")
            answers.flush()

        measure = make(json.loads(sys.argv[1]))
        answer({"ready": True})
        for _ in sys.stdin:
            answer(measure())
