"""A family's files to one file of ours, and back: found by their keys, strict both ways.

Nothing is guessed away: every key that is missing, unexpected or of another shape is named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from emo2.config import Config, VideoConfig, from_json, to_json
from emo2.convert import foreign, single_file
from emo2.convert.foreign import Stored, Tensors
from emo2.convert.layouts import BASE, LAYOUTS, Layout
from emo2.convert.names import POSITIONS, table
from emo2.convert.sizes import fitted
from emo2.convert.write import write, write_all
from emo2.errors import UserError
from emo2.presets import ANIMATEDIFF, PRESETS
from emo2.video.blocks import sinusoids
from emo2.video.network import VideoNetwork
from emo2.weights import FORMAT, facts_of

ACCELERATED_STEPS = 6
"""Of the weights that are called `acc`: distilled, and without guidance."""

Modules = Mapping[str, Tensors]
"""By our module: public names."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """A family's files, opened."""

    layout: Layout
    modules: Modules
    files: tuple[Path, ...]


def convert(source: Path, output: Path, *, family: str = "", variant: str = "") -> Found:
    """Write what lies in `source` (a folder, or a file that holds a whole family) as one file of ours."""
    found = open_source(source, family=family, variant=variant)
    _require_variant(found, source, variant)
    shapes = {m: {n: t.shape for n, t in tensors.items()} for m, tensors in found.modules.items()}
    preset = PRESETS.get(found.layout.name, ANIMATEDIFF)
    video = _config(found, preset.video, shapes)
    if "acc" in variant.split("_"):
        video = replace(video, steps=ACCELERATED_STEPS, guidance=1.0)
    config = replace(preset, video=video)
    names = table(_built(config.video))
    _check(found, names, _shapes(config.video))
    tensors = {
        ours: found.modules[module][theirs]
        for module, public in names.items()
        for theirs, ours in public.items()
    }
    metadata = {
        "format": str(FORMAT),
        "part": "video",
        "config": to_json(config),
        "source": f"{found.layout.title} ({found.layout.repository}): "
        + ", ".join(path.name for path in found.files),
        "variant": variant,
        "licence": found.layout.licence,
    }
    write(output, tensors, metadata)
    return found


def convert_back(file: Path, family: str, folder: Path) -> list[Path]:
    """Write a file of ours as the files of its family, as safetensors under the published names."""
    config = _our_config(file)
    if family not in LAYOUTS:
        raise UserError(f"unknown family {family!r}; it is one of {', '.join(LAYOUTS)}")
    if config.name != family:
        raise UserError(f"{file} holds {config.name}, which cannot be written as {family}")
    layout, stored = LAYOUTS[family], foreign.read(file)
    network = _built(config.video)
    names = table(network)
    ours = {name for public in names.values() for name in public.values()}
    _name_odd(f"{file}", sorted(ours - set(stored)), sorted(set(stored) - ours))
    modules: dict[str, dict[str, Stored]] = {
        module: {theirs: stored[name] for theirs, name in public.items()}
        for module, public in names.items()
    }
    modules["denoiser"] |= _positions(network, config.video.denoiser.max_frames, file)
    metadata = {"format": "pt", "source": f"emo2, from {file.name}", "licence": layout.licence}
    if layout.single:
        whole = {
            f"{layout.modules[m]}.{name}": t
            for m, tensors in modules.items()
            for name, t in tensors.items()
        }
        return [write(folder / f"{layout.single}.safetensors", whole, metadata)]
    files = {layout.modules[m]: tensors for m, tensors in modules.items()}
    if set(files) == {BASE}:  # one U-Net and what was merged into it
        files = {
            layout.merged[0]: {n: t for n, t in files[BASE].items() if ".motion_modules." in n},
            BASE: {n: t for n, t in files[BASE].items() if ".motion_modules." not in n},
        }
    return write_all(folder, files, metadata)


# --------------------------------------------------------------------------------------- reading


def open_source(source: Path, *, family: str = "", variant: str = "") -> Found:
    """The family's files in a folder, or its one file."""
    if family and family not in LAYOUTS:
        raise UserError(f"unknown family {family!r}; it is one of {', '.join(LAYOUTS)}")
    if not source.exists():
        raise UserError(
            f"{source} does not exist; give a folder of published weights, or their one file"
        )
    wanted = [LAYOUTS[family]] if family else list(LAYOUTS.values())
    whole = source if source.is_file() else _single(source, wanted)
    if whole is not None:
        return _of_one_file(whole, wanted)
    separate = [layout for layout in wanted if not layout.single]
    present = [layout for layout in separate if _all_there(layout, source, variant)]
    if not present:
        text = _nothing_found(source, separate, variant) if separate else _no_single(source, wanted)
        others = [n for n, layout in LAYOUTS.items() if _all_there(layout, source, variant)]
        looks = f"; it looks like {' or '.join(others)}" if family and others else ""
        raise UserError(text + looks)
    opened = [_of_files(layout, source, variant) for layout in present]
    if family:
        return opened[0]
    fits = [found for found in opened if _looks_like(found)]
    fits = [found for found in fits if found.modules.get("guidance")] or fits
    if len(fits) != 1:
        names = ", ".join(found.layout.name for found in fits or opened)
        raise UserError(f"{source} could hold {names}; say which with --family")
    return fits[0]


def _single(folder: Path, wanted: Sequence[Layout]) -> Path | None:
    stems = {layout.single for layout in wanted if layout.single}
    return next((p for stem in stems if (p := foreign.find(folder, stem))), None)


def _of_one_file(path: Path, wanted: Sequence[Layout]) -> Found:
    if path.suffix not in foreign.ENDINGS:
        raise UserError(
            f"{path} is no file of weights; expected one of {', '.join(foreign.ENDINGS)}"
        )
    tensors = foreign.read(path)
    if single_file.is_single(tensors):
        return _of_stable_diffusion(path, tensors)
    for layout in wanted:
        prefixes = {module: f"{theirs}." for module, theirs in layout.modules.items()}
        if not layout.single or not any(n.startswith(prefixes["denoiser"]) for n in tensors):
            continue
        modules = {
            module: {n.removeprefix(p): t for n, t in tensors.items() if n.startswith(p)}
            for module, p in prefixes.items()
        }
        odd = sorted(n for n in tensors if not n.startswith(tuple(prefixes.values())))
        _name_odd(str(path), [], odd)
        return Found(layout=layout, modules=modules, files=(path,))
    names = ", ".join(layout.name for layout in wanted)
    raise UserError(
        f"{path} holds no whole family ({names}); give the folder with all files of the family"
    )


def _of_stable_diffusion(path: Path, tensors: Tensors) -> Found:
    """Stable Diffusion as one file, with AnimateDiff's motion module beside it."""
    layout = LAYOUTS["animatediff"]
    motion = foreign.find(path.parent, layout.merged[0])
    if motion is None:
        raise UserError(
            f"{path} is Stable Diffusion 1.5 in one file; put AnimateDiff's {layout.merged[0]} "
            f"(huggingface.co/{layout.repository}) beside it"
        )
    base = single_file.unet(tensors)
    modules = {"reference": base, "denoiser": base | foreign.read(motion)}
    return Found(layout=layout, modules=modules, files=(path, motion))


def _base(folder: Path) -> Path | None:
    """Stable Diffusion as one file, where diffusers' folder is missing."""
    stems = {s for layout in LAYOUTS.values() for s in (*layout.modules.values(), *layout.merged)}
    return single_file.find(folder, besides=stems)


def _file(folder: Path, stem: str, variant: str) -> Path | None:
    """The variant's file, or that of a plainer variant: `pose_acc`, then `pose`, then none."""
    parts = [p for p in variant.split("_") if p]
    for count in range(len(parts), -1, -1):
        found = foreign.find(folder, "_".join([stem, *parts[:count]]))
        if found is not None:
            return found
    return None


def _require_variant(found: Found, source: Path, variant: str) -> None:
    """Plain weights must not pass for accelerated ones."""
    ending = f"_{variant}"
    if variant and not any(path.name.split(".")[0].endswith(ending) for path in found.files):
        raise UserError(
            f"{source} holds no file of {found.layout.name} whose name ends in {ending}; "
            "leave --variant out, or fetch those files"
        )


def _all_there(layout: Layout, folder: Path, variant: str) -> bool:
    stems = set(layout.modules.values())
    if layout.single:
        return foreign.find(folder, layout.single) is not None
    if stems != {BASE}:
        return all(_file(folder, stem, variant) for stem in stems)
    # The motion module is what tells it from a family's own base.
    merged = all(_file(folder, stem, variant) for stem in layout.merged)
    return merged and bool(_file(folder, BASE, variant) or _base(folder))


def _no_single(folder: Path, layouts: Sequence[Layout]) -> str:
    """What is missing of a family that is one file."""
    (layout,) = layouts
    return (
        f"{folder} has no {layout.single} of {layout.name} (endings {', '.join(foreign.ENDINGS)}); "
        "fetch it, or name another family"
    )


def _nothing_found(folder: Path, layouts: Sequence[Layout], variant: str) -> str:
    """What is missing of the family that is nearest to what is there."""

    def needed(layout: Layout) -> tuple[str, ...]:
        stems = tuple(dict.fromkeys(layout.modules.values()))
        return (*layout.merged, BASE) if stems == (BASE,) else stems

    def missing(layout: Layout) -> list[str]:
        return [s for s in needed(layout) if not _file(folder, s, variant)]

    nearest = min(layouts, key=lambda layout: len(missing(layout)), default=None)
    if nearest is None or len(missing(nearest)) == len(needed(nearest)):
        return f"{folder} holds no published weights that emo2 knows; it knows {', '.join(LAYOUTS)}"
    stem = missing(nearest)[0]
    others = sorted(
        {p.name.split(".")[0].removeprefix(f"{stem}_") for p in folder.rglob(f"{stem}_*")}
    )
    hint = f", or take --variant {' or '.join(others)}" if others and not variant else ""
    return (
        f"{folder} lacks {', '.join(missing(nearest))} of {nearest.name} "
        f"(endings {', '.join(foreign.ENDINGS)}); fetch the missing files{hint}"
    )


def _of_files(layout: Layout, folder: Path, variant: str) -> Found:
    modules: dict[str, Tensors] = {}
    files: list[Path] = []
    for module, stem in layout.modules.items():
        stems = [stem]
        if module == "denoiser":
            stems = [BASE, *layout.merged, *([stem] if stem != BASE else [])]
        modules[module] = {}
        for part in stems:
            path = _file(folder, part, variant)
            tensors = foreign.read(path) if path else {}
            if part == BASE and path is None and (path := _base(folder)):
                tensors = single_file.unet(foreign.read(path))
            modules[module] |= tensors
            files += [path] if path else []
    return Found(layout=layout, modules=modules, files=tuple(dict.fromkeys(files)))


def _looks_like(found: Found) -> bool:
    """Whether the keys are those of the family, where file names alone do not tell."""
    name, denoiser = found.layout.name, found.modules["denoiser"]
    if name in ("animateanyone", "musepose", "aniportrait"):
        if ("conv_layers.0.weight" in found.modules["guidance"]) != (name == "aniportrait"):
            return False
        length = max((t.shape[1] for n, t in denoiser.items() if POSITIONS.search(n)), default=0)
        return name == "aniportrait" or length == PRESETS[name].video.denoiser.max_frames
    return True


# -------------------------------------------------------------------------------------- checking


def _config(
    found: Found, preset: VideoConfig, shapes: Mapping[str, Mapping[str, tuple[int, ...]]]
) -> VideoConfig:
    try:
        return fitted(preset, shapes)
    except (KeyError, ValueError, ZeroDivisionError) as error:
        names = table(_built(preset))
        _check(found, names, {})
        raise UserError(
            f"{found.files[0].parent} does not fit {found.layout.name} ({error}); is it another family?"
        ) from error


def _check(
    found: Found, names: Mapping[str, Mapping[str, str]], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    missing, odd, misshapen = [], [], []
    for module, public in names.items():
        there = found.modules.get(module, {})
        called = found.layout.modules[module]
        missing += [f"{called}.{n}" for n in public if n not in there]
        odd += [f"{called}.{n}" for n in there if n not in public and not POSITIONS.search(n)]
        misshapen += [
            f"{called}.{n} {there[n].shape} for {shapes[ours]}"
            for n, ours in public.items()
            if n in there and ours in shapes and there[n].shape != shapes[ours]
        ]
    place = f"{found.files[0].parent} as {found.layout.name}"
    _name_odd(place, missing, odd)
    if misshapen:
        raise UserError(f"{place}: shapes differ: {', '.join(misshapen)}; is it another family?")


def _name_odd(place: str, missing: Sequence[str], odd: Sequence[str]) -> None:
    """Every missing and every unexpected key, by name."""
    parts = [
        f"{len(keys)} {kind} key{'s' * (len(keys) > 1)}: {', '.join(keys)}"
        for kind, keys in (("missing", missing), ("unexpected", odd))
        if keys
    ]
    if parts:
        raise UserError(f"{place}: {'; '.join(parts)}; is a file missing, or is it another family?")


def _built(video: VideoConfig) -> VideoNetwork:
    with torch.device("meta"):
        return VideoNetwork(video)


def _shapes(video: VideoConfig) -> dict[str, tuple[int, ...]]:
    return {name: tuple(t.shape) for name, t in _built(video).state_dict().items()}


def _our_config(file: Path) -> Config:
    if not file.is_file():
        raise UserError(f"{file} does not exist; give a file that emo2 convert wrote")
    try:
        facts = facts_of(file)
        config = from_json(facts["config"])
    except Exception as error:
        raise UserError(f"{file} is no file that emo2 convert wrote ({error})") from error
    if facts.get("part") != "video" or config.name not in LAYOUTS:
        raise UserError(
            f"{file} holds {config.name}'s {facts.get('part')}, no public family's networks"
        )
    return config


def _positions(network: nn.Module, length: int, file: Path) -> dict[str, Stored]:
    """The tables of positions that the originals keep beside their weights."""
    made = {}
    for theirs, ours in table(network)["denoiser"].items():
        if ".attention_blocks." not in theirs or not theirs.endswith("to_q.weight"):
            continue
        width = network.get_parameter(ours).shape[0]
        values = sinusoids(torch.arange(float(length)), width)[None]
        name = theirs.replace("to_q.weight", "pos_encoder.pe")
        made[name] = Stored(tuple(values.shape), values.dtype, values.clone, file)
    return made


def describe(found: Found) -> str:
    """One line for the user: what was converted and what may be done with it."""
    return f"{found.layout.title}: {len(found.files)} files; licence: {found.layout.licence}"
