"""The command: run the steps in all environments, or in the named ones, and write docs/versions.md."""

import argparse
import signal
import sys

from tools.versions.environments import RELEASES, UnavailableError, environments, release_folder
from tools.versions.page import keep, load
from tools.versions.runs import run


def main() -> int:
    """Run; returns 1 if a step failed."""
    known = {environment.name: environment for environment in environments()}
    parser = argparse.ArgumentParser(prog="python -m tools.versions", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="ENVIRONMENT", help=f"default: all of {', '.join(known)}")
    parser.add_argument("--missing", action="store_true", help="only those that have no row yet")
    parser.add_argument("--fetch", action="store_true", help="only install the named releases of Ultralytics")
    args = parser.parse_args()
    if unknown := set(args.names) - known.keys():
        parser.error(f"{', '.join(sorted(unknown))}: no such environment; there are {', '.join(known)}")
    if args.fetch and (unknown := set(args.names) - set(RELEASES)):
        parser.error(f"--fetch {', '.join(sorted(unknown))}: expected releases, such as {RELEASES[0]}")
    if args.fetch:
        for name in args.names:
            release_folder(name)
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the processes of a step are ended, too
    kept = load() if args.missing else {}
    failed = 0
    for name in args.names or known:
        if name in kept:
            continue
        print(f"{name} …", flush=True)
        try:
            row = run(known[name])
        except UnavailableError as error:
            print(f"{name}: not run: {error}", flush=True)
            continue
        keep(name, row)
        failed += len(row.failures)
        print(
            f"{name}: {row.seconds} s, {len(row.failures)} of {len(row.outcomes)} steps failed",
            *row.failures.items(),
            sep="\n  ",
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
