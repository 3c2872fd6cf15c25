#!/usr/bin/env python3
"""Fill the film cache with the processes of a Dask cluster instead of this machine's own.

    pip install 'dask[distributed]'
    python examples/films_dask.py --work-dir work --scheduler tcp://HOST:8786 [--clahe] [--film-size 256]

The artifact is the one that `fusionctl films` would make, byte for byte: `extract` must have run in the work directory,
and later stages find it there. Stopped or killed, the same command, or `fusionctl films`, goes on where it was. Every
worker must see the films and the work directory under the same paths, and have fusionctl installed.

A scheduler and 32 workers of one thread each under Slurm:

    #!/usr/bin/env bash
    #SBATCH --ntasks=33 --cpus-per-task=1 --mem-per-cpu=2G --time=02:00:00
    srun --exact --ntasks=1 dask scheduler --scheduler-file "$PWD/scheduler.json" &
    srun --exact --ntasks=32 dask worker --nthreads 1 --scheduler-file "$PWD/scheduler.json" &
    python examples/films_dask.py --work-dir work --scheduler-file "$PWD/scheduler.json"

Where a Slurm array is at hand, `fusionctl films --shard I/N` in each of its jobs needs no scheduler at all.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import Any

import joblib

from fusionctl import console
from fusionctl.errors import FusionctlError
from fusionctl.session import Session
from fusionctl.settings import Runtime
from fusionctl.workdir import Work


def connect(options: argparse.Namespace) -> Any:
    """The client of the cluster, which `backend="dask"` uses."""
    try:
        from dask.distributed import Client
    except ImportError:
        sys.exit("This example needs Dask: pip install 'dask[distributed]'")
    if options.scheduler_file:
        return Client(scheduler_file=str(options.scheduler_file))
    return Client(options.scheduler) if options.scheduler else Client(threads_per_worker=1)  # one on this machine


def main() -> None:
    """Parse the options, connect, fill the cache."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work-dir", type=Path, default=Path("work"), help="where extract has put its artifact")
    parser.add_argument("--scheduler", help="address of a running scheduler (default: a cluster on this machine)")
    parser.add_argument("--scheduler-file", type=Path, help="file that a running scheduler has written")
    parser.add_argument("--clahe", action="store_true", help="equalise contrast locally")
    parser.add_argument("--film-size", type=int, default=256, help="side of the cached films in pixels (256)")
    options = parser.parse_args()
    os.umask(0o077)  # films are for their owner alone
    console.configure_logging(quiet=False, verbose=False)
    with connect(options) as client:
        client.wait_for_workers(1)
        n_threads = sum(client.ncores().values())
        logging.getLogger("fusionctl").info("%d threads of %s", n_threads, client.scheduler.address)
        session = Session(
            work=Work(options.work_dir),
            runtime=Runtime(jobs=max(2, n_threads), progress=console.Progress(quiet=False)),
            flags={"films": {"clahe": options.clahe, "film_size": options.film_size}},
        )
        try:
            # what runs in parallel inside the stage is left to joblib, so that the caller decides where
            with joblib.parallel_config(backend="dask"):
                session.run_stage("films")
        except FusionctlError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
