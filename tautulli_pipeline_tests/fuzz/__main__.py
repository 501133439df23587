"""Try random inputs for some minutes: `make fuzz`."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from tautulli_pipeline_tests.fuzz.trials import KINDS, problems_with
from tautulli_pipeline_tests.fuzz.worker import open_worker

# Messages are tried by the hundred.
_WEIGHTS = {"databases": 10, "archives": 8, "messages": 1}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, help="the first seed; random by default")
    parser.add_argument("--kind", choices=KINDS, help="try only this kind of input")
    parser.add_argument("--once", action="store_true", help="try only the first seed")
    parser.add_argument("--keep", type=Path, default=Path("build/fuzz"), help="for bad inputs")
    return parser.parse_args()


def main() -> int:
    """Return 1 if an input did something wrong; it is kept, and the seed repeats it."""
    options = _arguments()
    seed = random.randrange(10**9) if options.seed is None else options.seed
    kinds = [options.kind] if options.kind else [*KINDS]
    deadline = time.monotonic() + options.minutes * 60
    tried: Counter[str] = Counter()
    failed = 0
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        worker = stack.enter_context(open_worker(place))
        while time.monotonic() < deadline and not (options.once and tried):
            dice = random.Random(seed)
            kind = dice.choices(kinds, [_WEIGHTS[name] for name in kinds])[0]
            folder = place / "trial"
            folder.mkdir()
            problems = problems_with(kind, worker, folder, seed)
            tried[kind] += 1
            if problems:
                failed += 1
                kept = options.keep / f"{kind}-{seed}"
                shutil.copytree(folder, kept, dirs_exist_ok=True)
                sys.stdout.write("\n".join([f"{kept}:", *problems, ""]))
            shutil.rmtree(folder)
            seed += 1
    counts = ", ".join(f"{count} {kind}" for kind, count in tried.items())
    sys.stdout.write(f"tried {counts}; {failed} did something wrong; the next seed is {seed}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
