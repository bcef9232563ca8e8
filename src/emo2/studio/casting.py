"""Casting: drawing a person, dressed, from a random generator."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy import ndarray
from numpy.random import Generator

from emo2.studio.adorn import adornments
from emo2.studio.assets import Library
from emo2.studio.colours import HAIR_COLOURS, cloth_colour
from emo2.studio.material import Material
from emo2.studio.people import (
    Person,
    Piece,
    Shape,
    anatomy,
    assemble,
    body_piece,
    move_teeth,
    proxy_piece,
)
from emo2.studio.plain import plain_pieces

_FACE_WORDS = (
    "head-", "nose-", "mouth-", "chin-", "cheek-", "eye-", "ear-", "eyebrows-", "forehead-", "neck-",
)  # fmt: skip
_BODY_WORDS = ("torso-", "stomach-", "hip-", "hand-", "arm-", "shoulder", "breast-")
_TEST_ONLY = ("short04", "male_worksuit01", "eyebrow012", "bob01")
"""Worn by test people only, so that a test shows what was never seen."""
_TEST_SKINS = (
    "middleage_lightskinned_female_diffuse2", "old_lightskinned_male_diffuse2",
    "young_darkskinned_female_diffuse", "young_lightskinned_male_diffuse3",
)  # fmt: skip

_BARE_SHOULDERS = 0.07
"""Share of people without clothes, only where nothing below the collar bones is built."""
_CHEST_M = -0.4

_CHILDREN, _UNUSUAL_BUILDS, _DYED = 0.07, 0.15, 0.06
"""Shares of people."""
_FRINGES = ("bob", "braid01", "short03")
"""Hair that hides an eye: seldom chosen."""


@dataclass(frozen=True, kw_only=True)
class Casting:
    """How to draw people."""

    library: Library
    is_test: bool = False
    """Test people wear and have what training people never do."""
    low_m: float = -0.33
    """Lowest height that is built, from the base of the neck."""
    more: Generator | None = None
    """Draws children, unusual builds and hair colours, glasses, beards and make-up; None: nobody has these."""


def cast(rng: Generator, casting: Casting) -> Person:
    """A person."""
    gender, age = float(np.clip(rng.beta(0.4, 0.4), 0, 1)), _age(rng)
    phenotype = _phenotype(rng, gender, age)
    if casting.more is not None:
        phenotype |= _unusual(casting.more)
        age = phenotype["age"]
    shape = anatomy().shape(phenotype, _local_changes(rng))
    low = float(shape.heads["neck01"][1]) + casting.low_m
    if casting.library.is_plain:
        pieces = plain_pieces(rng, shape, low)
    else:
        pieces = _dressed_pieces(rng, casting, shape, {**phenotype, "low": low})
    if casting.more is not None:
        pieces += adornments(casting.more, shape, phenotype)
    facts: dict[str, float | str] = {"gender": round(gender, 3), "age": round(age, 3)}
    for piece in pieces:
        picture = piece.material.picture
        name = picture.stem if piece.material.kind == "eyes" and picture else piece.name
        if name:
            facts.setdefault(piece.material.kind, name)
    return assemble(shape, pieces, facts)


def _age(rng: Generator) -> float:
    """anny's age: 1/3 child, 2/3 young adult, 1 old."""
    return float(
        rng.choice(
            [rng.uniform(0.6, 0.78), rng.uniform(0.45, 0.6), rng.uniform(0.78, 1)],
            p=[0.6, 0.1, 0.3],
        )
    )


def _phenotype(rng: Generator, gender: float, age: float) -> dict[str, float]:
    origin = rng.dirichlet([0.5] * 3)
    return {
        "gender": gender,
        "age": age,
        "muscle": float(rng.uniform(0.3, 0.8)),
        "weight": float(np.clip(rng.normal(0.45, 0.2), 0, 1)),
        "height": float(rng.uniform(0.35, 0.7)),
        "proportions": float(rng.uniform(0.4, 1.0)),
        "cupsize": float(rng.uniform(0.2, 0.7)),
        "firmness": float(rng.uniform(0.4, 0.9)),
        **dict(zip(("african", "asian", "caucasian"), origin.tolist(), strict=True)),
    }


def _unusual(rng: Generator) -> dict[str, float]:
    """Children, and builds that the usual ranges leave out."""
    found: dict[str, float] = {}
    draws = rng.random(2)
    if draws[0] < _CHILDREN:
        found["age"] = float(rng.uniform(0.2, 0.45))
    if draws[1] < _UNUSUAL_BUILDS:
        names = ("muscle", "weight", "height", "proportions")
        found |= {n: float(v) for n, v in zip(names, rng.beta(0.6, 0.6, 4), strict=True)}
    return found


def _local_changes(rng: Generator) -> dict[str, float]:
    """Many small changes of the face, mostly the same left and right."""
    labels = anatomy().shape_labels
    values: dict[str, float] = {}
    strength = rng.uniform(0.15, 0.5)
    for label in labels:
        words = _FACE_WORDS if any(w in label for w in _FACE_WORDS) else _BODY_WORDS
        chance = 0.45 if words is _FACE_WORDS else 0.25
        if not any(w in label for w in words) or rng.random() > chance:
            continue
        twin = "l-" + label[2:] if label.startswith("r-") else ""
        value = rng.normal(0, strength) * (0.5 if words is _BODY_WORDS or "ear" in label else 1.0)
        if twin in values:
            value = values[twin] + rng.normal(0, 0.06)
        values[label] = float(np.clip(value, -0.9, 0.9))
    for label in [v for v in values if v.startswith("l-")]:
        values.setdefault("r-" + label[2:], values[label])
    return values


def _dressed_pieces(
    rng: Generator, casting: Casting, shape: Shape, facts: dict[str, float]
) -> list[Piece]:
    gender, age, low = facts["gender"], facts["age"], facts["low"]
    library = casting.library
    pieces: list[Piece] = []
    hidden = np.zeros(len(shape.base), bool)

    def wear(name: str, material: Material) -> None:
        proxy = library.proxy(name)
        piece = proxy_piece(proxy, material, shape.base, low)
        pieces.append(replace(piece, name=Path(name).stem))
        hidden[proxy.hidden] = True

    bare = rng.random() < _BARE_SHOULDERS and casting.low_m > _CHEST_M
    clothes = "" if bare else _choose(rng, casting, "clothes", gender)
    if clothes:
        waist = float(shape.heads["spine04"][1] + rng.normal(0.02, 0.03))
        wear(clothes, _cloth(rng, library.proxy(clothes).picture, waist))
    iris = library.irises()
    odds = np.array([4.0 if "brown" in p.name else 1.0 for p in iris])
    wear(
        "eyes/high-poly.mhclo",
        _material(
            rng,
            "eyes",
            iris[rng.choice(len(iris), p=odds / odds.sum())],
            tint=rng.uniform(0.5, 0.85) * rng.uniform(0.85, 1.1, 3),
            gloss=0.8,
        ),
    )
    bright = rng.uniform(0.75, 1.1)
    wear(
        _choose(rng, casting, "teeth"),
        _picture(library, "teeth", tint=(bright, bright, bright * 0.93), gloss=0.5),
    )
    pieces[-1] = move_teeth(
        pieces[-1], upper_m=rng.uniform(0.004, 0.009), lower_m=rng.uniform(0.001, 0.006)
    )
    wear(
        "tongue/tongue01/tongue01.mhclo",
        _picture(library, "tongue", tint=(0.62, 0.42, 0.4), gloss=0.3),
    )
    colour = HAIR_COLOURS[rng.integers(len(HAIR_COLOURS) - (0 if age > 0.7 else 2))] * rng.uniform(
        0.7, 1.4
    )
    if casting.more is not None and casting.more.random() < _DYED:
        colour = np.clip(casting.more.random(3) ** 1.5, 0.02, 0.9)
    for kind, chance in (("eyebrows", 0.95), ("eyelashes", 0.85), ("hair", 0.88)):
        name = _choose(rng, casting, kind, gender)
        if rng.random() < chance:
            shade = colour * (0.3 if kind == "eyelashes" else 0.7 if kind == "eyebrows" else 1.0)
            wear(name, _hair(rng, kind, library.proxy(name).picture, shade))
    skin = _skin(rng, casting, facts)
    keep = (shape.base[:, 1] > low) & ~hidden
    body = replace(body_piece(skin, keep), name="" if skin.picture is None else skin.picture.stem)
    return [body, *pieces]


def _choose(rng: Generator, casting: Casting, kind: str, gender: float | None = None) -> str:
    names = [n for n in casting.library.names(kind) if "fedora" not in n]
    if casting.low_m <= _CHEST_M:
        names = [n for n in names if "sportsuit" not in n]
    if not casting.is_test:
        names = [n for n in names if Path(n).stem not in _TEST_ONLY]
    weights = np.ones(len(names))
    for k, name in enumerate(names):
        if gender is not None and "female" in name:
            weights[k] = 1.5 - 1.4 * gender
        elif gender is not None and "male" in name:
            weights[k] = 0.1 + 1.2 * gender
        if any(word in name for word in _FRINGES):
            weights[k] = 0.15
    return names[rng.choice(len(names), p=weights / weights.sum())]


def _skin(rng: Generator, casting: Casting, facts: dict[str, float]) -> Material:
    gender, age, african = facts["gender"], facts["age"], facts["african"]
    skins = casting.library.skins()
    skins = [p for p in skins if (p.stem in _TEST_SKINS) == casting.is_test]
    sex = "_male" if gender > 0.5 else "_female"
    years = "old" if age > 0.88 else "middle" if age > 0.78 else "young"
    weights = [
        (6.0 if sex in p.name else 1.0)
        * (3.0 if p.name.startswith(years) else 1.0)
        * (0.1 + african if "darkskinned" in p.name else 1.0 - 0.8 * african)
        for p in skins
    ]
    chosen = skins[rng.choice(len(skins), p=np.array(weights) / sum(weights))]
    tint = rng.uniform(0.8, 1.2) * rng.uniform(0.93, 1.07, 3)
    return _material(
        rng,
        "skin",
        chosen,
        tint=tint,
        gamma=float(rng.uniform(0.8, 1.05)),
        gloss=float(rng.uniform(0.1, 0.8)),
    )


def _cloth(rng: Generator, picture: Path | None, waist: float) -> Material:
    repaint = float(rng.choice([0.0, rng.uniform(0.5, 1.0)], p=[0.35, 0.65]))
    tint = cloth_colour(rng) if repaint else np.ones(3) * rng.uniform(0.5, 1.2)
    lower = tuple(float(v) for v in cloth_colour(rng)) if repaint and rng.random() < 0.8 else None
    style = int(rng.choice([0, 1, 2, 3, 4, 5], p=[0.7, 0.07, 0.07, 0.08, 0.04, 0.04]))
    return _material(
        rng, "clothes", picture, tint=tint, repaint=repaint, gloss=float(rng.uniform(0, 0.2)),
        lower_tint=lower, waist=waist,
        pattern=(style, float(rng.uniform(12, 60)), float(rng.uniform(0.15, 0.8))),
    )  # fmt: skip


def _hair(rng: Generator, kind: str, picture: Path | None, colour: ndarray) -> Material:
    repaint = float(rng.choice([0.0, 1.0], p=[0.3, 0.7]))
    tint = colour * 2.0 if repaint else np.ones(3) * rng.uniform(0.5, 1.2)
    return _material(
        rng, kind, picture, tint=tint, repaint=repaint, gloss=float(rng.uniform(0, 0.5))
    )


def _picture(library: Library, kind: str, **look: object) -> Material:
    name = library.names(kind)[0]
    return Material(kind=kind, picture=library.proxy(name).picture, **look)  # type: ignore[arg-type]


def _material(
    rng: Generator, kind: str, picture: Path | None, *, tint: ndarray, **look: object
) -> Material:
    red, green, blue = (float(v) for v in tint)
    return Material(kind=kind, picture=picture, tint=(red, green, blue), **look)  # type: ignore[arg-type]
