"""Photos to tensors: whatever Pillow reads becomes upright RGB in [-1, 1]."""

from __future__ import annotations

import io
import logging
import warnings
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError
from torch import Tensor

from emo2.errors import UserError
from emo2.media.files import require_file

_LOG = logging.getLogger(__name__)
_MIN_SIDE = 64
_MAX_SIDE = 2048
_DEEP_GREY = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")


def read_photo(path: str | Path, *, max_pixels: float = 50e6) -> Float[Tensor, "3 h w"]:
    """The picture as RGB in [-1, 1], upright (EXIF), transparency laid on white.

    Pictures whose long side exceeds 2048 pixels are scaled down to it; more than `max_pixels`, or
    a side under 64 pixels, is a `UserError`.
    """
    path = Path(path)
    require_file(path, "photo")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of large pictures and odd EXIF
        try:
            with Image.open(path) as picture:
                _require_size(path, picture.size, max_pixels)
                # JPEG can be decoded at a fraction of its size: cheap for very large photos
                picture.draft(None, (_MAX_SIDE, _MAX_SIDE))
                picture.load()
                rgb = _to_rgb(picture)
        except UnidentifiedImageError as error:
            raise UserError(
                f"{path} is not a picture that can be read; give a JPEG, PNG, WebP, TIFF or BMP file."
            ) from error
        except Image.DecompressionBombError as error:
            raise UserError(
                f"{path} has far more than {max_pixels / 1e6:g} megapixels; scale it down first."
            ) from error
        except (OSError, SyntaxError, ValueError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(
                f"{path} is damaged or cut off ({error}); give a whole picture."
            ) from error
    return torch.from_numpy(np.array(rgb)).permute(2, 0, 1).float().div_(127.5).sub_(1.0)


def _require_size(path: Path, size: tuple[int, int], max_pixels: float) -> None:
    width, height = size
    if min(width, height) < _MIN_SIDE:
        raise UserError(
            f"{path} is {width}x{height} pixels, too small to hold a face; give a picture of at least "
            f"{_MIN_SIDE}x{_MIN_SIDE}, better 512x512."
        )
    if width * height > max_pixels:
        raise UserError(
            f"{path} has {width * height / 1e6:.0f} megapixels, more than the {max_pixels / 1e6:g} that "
            "are read; scale it down first."
        )


def _to_rgb(picture: Image.Image) -> Image.Image:
    profile = picture.info.get("icc_profile")
    picture = ImageOps.exif_transpose(picture)
    if picture.mode in _DEEP_GREY:
        picture = _deep_grey(picture)
    elif picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
    if max(picture.size) > _MAX_SIDE:
        scale = _MAX_SIDE / max(picture.size)
        width, height = (max(1, round(side * scale)) for side in picture.size)
        if picture.mode in ("1", "P"):  # these cannot be filtered
            picture = picture.convert("RGB")
        picture = picture.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)
    if picture.mode == "RGBA":
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(white, picture).convert("RGB")
    return _to_srgb(picture, profile).convert("RGB")


def _deep_grey(picture: Image.Image) -> Image.Image:
    """16-bit and float greyscale to 8 bits (Pillow's own conversion clips instead of scaling)."""
    values = np.nan_to_num(np.asarray(picture).astype(np.float64))
    top = float(values.max(initial=0.0))
    if picture.mode == "F":
        full = 1.0 if top <= 1.0 else 255.0 if top <= 255.0 else 65535.0
    else:
        full = 65535.0 if top > 255.0 or picture.mode != "I" else 255.0
    return Image.fromarray((values / full * 255.0).clip(0, 255).round().astype(np.uint8))


def _to_srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """Apply an embedded colour profile (CMYK above all: without it colours come out garish)."""
    if not profile or picture.mode not in ("RGB", "CMYK", "L"):
        return picture
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        result = ImageCms.profileToProfile(
            picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError) as error:
        _LOG.warning("the picture's colour profile cannot be used (%s); colours may be off", error)
        return picture
    return result if result is not None else picture
