# SPDX-License-Identifier: Apache-2.0
"""scripts/cluster.sh: answers every row of many files, on one machine or many.

shard answers every COUNT-th piece here (Slurm, AWS Batch, Kubernetes' indexed jobs: the index is
found in the environment); ray drives workers on a Ray cluster, or on this machine. Run the same
command again after whatever happened: what is answered stays.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from cluster import answers
from cluster.answers import Count
from cluster.plan import Piece, PlanError, make_plan
from cluster.server import ServerError
from cluster.worker import Options, Worker

# (index, first index, count) of an array job, as its scheduler tells them.
SCHEDULERS = (
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_COUNT"),
    ("AWS_BATCH_JOB_ARRAY_INDEX", None, "AWS_BATCH_JOB_ARRAY_SIZE"),
    ("JOB_COMPLETION_INDEX", None, "JOB_COMPLETIONS"),  # the second is ours: the pod cannot know it
)


def array_index(environment: Mapping[str, str]) -> tuple[int, int | None] | None:
    """Index from 0, and how many there are where that is known; None outside of an array job."""
    for index, first, count in SCHEDULERS:
        if index in environment:
            offset = int(environment.get(first or "", 0))
            number = environment.get(count)
            return int(environment[index]) - offset, int(number) if number else None
    return None


def named_value(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=os.environ.get("IDEFICS_PROGRAM_NAME", "cluster"), description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    drivers = parser.add_subparsers(dest="driver", required=True)
    shard, ray = (drivers.add_parser(name) for name in ("shard", "ray"))
    for driver in (shard, ray):
        driver.add_argument("source", help="file or folder: .parquet, .jsonl, .jsonl.gz, .tar")
        driver.add_argument("target", help="folder of the answers, one Parquet file a piece")
        driver.add_argument("--rows-per-piece", type=positive, default=1000, metavar="N",
                            help="rows that are repeated where a worker dies [1000]")
        driver.add_argument("--concurrency", type=positive, default=8, metavar="N",
                            help="rows that a server is asked at once [8]")
        driver.add_argument("--input", type=named_value, action="append", default=[],
                            metavar="NAME=VALUE", help="an input of every row that has none")
        driver.add_argument("--retry-failed", action="store_true",
                            help="answer rows again that have an error")
        driver.epilog = "what follows -- are flags of idefics-server serve: -- --model BUNDLE"
    shard.add_argument("--index", type=int, help="which of the workers this is, from 0")
    shard.add_argument("--count", type=positive, help="how many workers there are")
    ray.add_argument("--address", help="of a Ray cluster; auto finds the one of this node")
    ray.add_argument("--workers", type=positive, default=1, help="servers at once [1]")
    ray.add_argument("--gpus", type=float, default=0, help="of each worker [0]")
    ray.add_argument("--cpus", type=float, default=1, help="of each worker [1]")
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options = parser.parse_args(arguments[:end])
    options.flags = arguments[end + 1:]
    if options.driver == "shard":
        settle_index(parser, options)
    return options


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is less than 1")
    return value


def settle_index(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    told = array_index(os.environ)
    if options.index is None and told is not None:
        options.index, options.count = told[0], options.count or told[1]
    if options.index is None:
        options.index, options.count = 0, options.count or 1
    if options.count is None:
        parser.error(f"this is worker {options.index}, but of how many? --count says it")
    if not 0 <= options.index < options.count:
        parser.error(f"--index {options.index} is not one of {options.count} (from 0)")


def by_shard(pieces: list[Piece], options: Options) -> Iterator[Count]:
    worker = Worker(options)
    try:
        for piece in pieces:
            yield worker.answer(piece)
    finally:
        worker.close()


def by_ray(pieces: list[Piece], options: Options, given: argparse.Namespace) -> Iterator[Count]:
    from cluster.ray_job import Resources, answer_all  # Ray takes seconds, and shard needs none

    return answer_all(pieces, options,
                      Resources(given.address, given.workers, given.gpus, given.cpus))


def run(given: argparse.Namespace) -> int:
    plan = make_plan(given.source, given.target, given.rows_per_piece)
    mine = plan.pieces[given.index::given.count] if given.driver == "shard" else plan.pieces
    options = Options(given.flags, given.concurrency, dict(given.input), given.retry_failed)
    counts = {piece: answers.count(piece) for piece in mine}
    todo = [piece for piece, count in counts.items()
            if count is None or (given.retry_failed and count.errors)]
    total = sum(piece.count for piece in mine)
    print(f"{len(plan.pieces)} pieces, {plan.num_rows} rows; {len(mine)} pieces, {total} rows of "
          f"them are this run's; {len(mine) - len(todo)} pieces are answered", file=sys.stderr)
    if todo:
        made = by_shard(todo, options) if given.driver == "shard" else by_ray(todo, options, given)
        for number, count in enumerate(made, 1):
            print(f"{number} of {len(todo)} pieces: {count.rows} rows, {count.errors} errors",
                  file=sys.stderr, flush=True)
    done = sum((answers.count(piece) or Count() for piece in mine), Count())
    print(json.dumps({"rows_in": total, "rows_out": done.rows, "errors": done.errors}))
    return 0 if done.rows == total else 1


def main() -> None:
    try:
        sys.exit(run(parse(sys.argv[1:])))
    except (PlanError, ServerError) as error:
        sys.exit(f"{os.environ.get('IDEFICS_PROGRAM_NAME', 'cluster')}: {error}")


if __name__ == "__main__":
    main()
