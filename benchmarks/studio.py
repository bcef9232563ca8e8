"""Pictures a second of the studio, with and without more labels; whether people differ; how uneven their faces are.

    python benchmarks/studio.py --assets makehuman --people 8            # speed, one thread of software GL or a GPU
    python benchmarks/studio.py --assets makehuman --distinct 200        # nearest faces of so many random seeds

Speed is taken after everybody has been filmed once, so that files are read and programs compiled.  Faces are compared by
their 68 resting points, moved and scaled onto each other: root mean square in per cent of the distance between the eyes.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy import ndarray

from emo2.studio import make
from emo2.studio.assets import Library
from emo2.studio.casting import Casting, cast
from emo2.studio.landmarks import face_vertices
from emo2.studio.people import Person


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--assets", type=Path)
    parser.add_argument("--people", type=int, default=8)
    parser.add_argument("--distinct", type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault("LP_NUM_THREADS", "0")
    library = Library(args.assets)
    if args.distinct:
        distinct(library, args.distinct)
    else:
        speed(library, args.people)


def speed(library: Library, people: int) -> None:
    """Milliseconds of CPU and of clock a picture."""
    print(
        "| view | labels | CPU ms a picture | ms a picture | pictures a second |\n|---|---|--:|--:|--:|"
    )
    for view in ("face", "body"):
        for labels in ((), ("gaze",), ("depth", "normals", "segments", "gaze")):
            order = make.Order(view=view, labels=labels)
            with tempfile.TemporaryDirectory() as folder:
                stage = make.Stage(library, order, Path(folder))
                for seed in range(people):
                    stage.film(seed)
                cpu, clock = time.process_time(), time.perf_counter()
                for seed in range(people):
                    stage.film(seed)
                count = people * (order.frames + 1) / 1000
                cpu, clock = (
                    (time.process_time() - cpu) / count,
                    (time.perf_counter() - clock) / count,
                )
            print(
                f"| {view} | {', '.join(labels) or '-'} | {cpu:.1f} | {clock:.1f} | {1000 / clock:.1f} |",
                flush=True,
            )


def distinct(library: Library, count: int) -> None:
    """Distances of each face to its nearest among random seeds; and unevenness."""
    seeds = np.random.default_rng(0).choice(make.FIRST_TEST_SEED, count, replace=False)
    shapes, uneven, dress = [], [], set()
    for seed in seeds.tolist():
        more = np.random.default_rng((seed, 41))
        person = cast(np.random.default_rng(seed), Casting(library=library, more=more))
        points = person.shape.base[list(face_vertices())]
        shapes.append(aligned(points))
        uneven.append(unevenness(person))
        dress.add(worn(person))
    flat = np.stack(shapes).reshape(count, -1)
    apart = np.sqrt(((flat[:, None] - flat[None]) ** 2).sum(-1) / 68) * 100
    np.fill_diagonal(apart, np.inf)
    nearest = apart.min(1)
    print(f"{count} seeds: distance to the nearest other face, % of the eyes' distance: least {nearest.min():.1f}, "
          f"median {np.median(nearest):.1f}; of any two, median {np.median(apart[np.isfinite(apart)]):.1f}")  # fmt: skip
    print(f"different in what they wear, skin, hair and colours: {len(dress)} of {count}")
    print(
        f"left against right, %: median {np.median(uneven):.1f}, 90 % under {np.quantile(uneven, 0.9):.1f}"
    )


def aligned(points: ndarray) -> ndarray:
    """Points about their middle, in distances between the eyes."""
    eyes = points[36:42].mean(0), points[42:48].mean(0)
    return (points - points.mean(0)) / np.linalg.norm(eyes[1] - eyes[0])


def unevenness(person: Person) -> float:
    """Root mean square between eyes, brows and mouth and their mirror image, in per cent of the eyes' distance."""
    points = aligned(person.shape.base[list(face_vertices())])
    pairs = np.array([(36, 45), (39, 42), (17, 26), (21, 22), (48, 54), (31, 35), (4, 12), (2, 14)])
    left, right = points[pairs[:, 0]], points[pairs[:, 1]] * [-1, 1, 1]
    middle = points[[27, 8, 33], 0].mean()
    right[:, 0] += 2 * middle
    return float(np.sqrt(((left - right) ** 2).sum(-1).mean()) * 100)


def worn(person: Person) -> tuple[object, ...]:
    """Everything but the shape that tells people apart."""
    return tuple(
        (m.kind, m.picture, tuple(round(t, 2) for t in m.tint)) for m, _, _ in person.draws
    )


if __name__ == "__main__":
    main()
