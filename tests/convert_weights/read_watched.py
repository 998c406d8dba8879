"""Read files in a process of its own that notes all that Python would do: `... MANIFEST`."""

import json
import resource
import sys
import time
from pathlib import Path

from convert_weights.array_pickle import CheckpointError, read_array_pickle
from convert_weights.pickle_reader import read_pickle
from convert_weights.state_dict import read_state_dict, read_tensors

READERS = {f.__name__: f for f in (read_pickle, read_array_pickle, read_state_dict, read_tensors)}
MAX_BYTES = 1 << 24
HARMLESS = ("object.__getattr__", "object.__setattr__", "builtins.id", "code.__new__", "gc.")
events: list[tuple[str, str]] = []
watching = False


def note(event, arguments):
    if watching and not event.startswith(HARMLESS):
        events.append((event, str(arguments[:1])[:200]))


def watched(name, path):
    """What reading a file ends with, what it did, and what it took."""
    global watching
    events.clear()
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    watching = True
    try:
        READERS[name](Path(path), max_bytes=MAX_BYTES)
        outcome = "read"
    except CheckpointError as error:
        outcome = f"CheckpointError: {error}"
    except BaseException as error:
        outcome = f"{type(error).__name__}: {error}"[:500]
    finally:
        watching = False
    did = [e for e in events if not (e[0] == "open" and e[1].startswith(f"('{path}'"))]
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"outcome": outcome, "events": did, "kib": grown, "s": time.perf_counter() - start}


def main(manifest):
    tasks = json.loads(Path(manifest).read_text())
    for name, path in tasks["warm_up"]:  # what Python imports at the first use of a format
        READERS[name](Path(path))
    sys.addaudithook(note)
    print(json.dumps([watched(name, path) for name, path in tasks["watched"]]))


if __name__ == "__main__":
    main(sys.argv[1])
