"""A process that runs one task of a study, which its parent writes to standard input."""

from __future__ import annotations

import pickle
import sys


def main() -> int:
    """Run the task; the last line of standard error says why it failed."""
    path, payload = pickle.load(sys.stdin.buffer)
    sys.path[:] = path
    task = pickle.loads(payload)
    from counterpoint.studies.launching import said

    try:
        task()
    except Exception as error:  # told to the parent, whatever it is
        import traceback

        traceback.print_exc()
        print(said(error), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
