"""Photos: every kind of picture arrives upright, in colour and in range; bad ones say why."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from emo2.errors import UserError
from emo2.media import read_photo


def _quadrants(height: int = 96, width: int = 128) -> np.ndarray:
    """Red, green / blue, white."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2, 0] = 255
    pixels[: height // 2, width // 2 :, 1] = 255
    pixels[height // 2 :, : width // 2, 2] = 255
    pixels[height // 2 :, width // 2 :] = 255
    return pixels


def _save(path: Path, pixels: np.ndarray, mode: str | None = None, **options: object) -> Path:
    picture = Image.fromarray(pixels)
    (picture.convert(mode) if mode else picture).save(path, **options)
    return path


@pytest.mark.parametrize(
    ("name", "mode"), [("a.png", None), ("a.png", "P"), ("a.webp", None), ("a.bmp", None)]
)
def test_colours_arrive_exactly(tmp_path: Path, name: str, mode: str | None) -> None:
    options = {"lossless": True} if name.endswith("webp") else {}
    image = read_photo(_save(tmp_path / name, _quadrants(), mode, **options))
    assert image.shape == (3, 96, 128)
    assert torch.equal(image[:, 10, 10], torch.tensor([1.0, -1.0, -1.0]))
    assert torch.equal(image[:, 80, 10], torch.tensor([-1.0, -1.0, 1.0]))
    assert torch.equal(image[:, 80, 100], torch.ones(3))


def test_cmyk_keeps_its_colours(tmp_path: Path) -> None:
    image = read_photo(_save(tmp_path / "a.jpg", _quadrants(), "CMYK", quality=95))
    assert image[0, 10, 10] > 0.7
    assert image[1:, 10, 10].max() < -0.7
    assert image[:, 80, 100].min() > 0.9


@pytest.mark.parametrize("mode", ["L", "1"])
def test_greyscale_gets_three_equal_channels(tmp_path: Path, mode: str) -> None:
    image = read_photo(_save(tmp_path / "a.png", _quadrants(), mode))
    assert image.shape == (3, 96, 128)
    assert torch.equal(image[0], image[2])
    assert float(image[0, 80, 100]) == 1.0


def test_sixteen_bit_greyscale_is_scaled_not_clipped(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 128).astype(np.uint16)[None].repeat(96, 0)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    image = read_photo(tmp_path / "a.png")
    assert torch.allclose(image[0, 0], torch.linspace(-1, 1, 128), atol=0.01)


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    alpha = np.zeros((96, 128, 1), np.uint8)
    alpha[:, :64] = 255
    image = read_photo(_save(tmp_path / "a.png", np.concatenate([_quadrants(), alpha], -1)))
    assert torch.equal(image[:, 10, 10], torch.tensor([1.0, -1.0, -1.0]))
    assert float(image[:, :, 64:].min()) == 1.0


def test_exif_orientation_turns_the_picture_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise
    image = read_photo(_save(tmp_path / "a.jpg", _quadrants(), quality=95, exif=exif))
    assert image.shape == (3, 128, 96)
    assert image[2, 10, 10] > 0.8  # blue, the lower left corner, has come to the upper left
    assert image[0, 10, 10] < -0.8


def test_huge_pictures_are_scaled(tmp_path: Path) -> None:
    image = read_photo(_save(tmp_path / "a.jpg", np.zeros((3000, 6000, 3), np.uint8)))
    assert image.shape == (3, 1024, 2048)


def test_too_many_pixels_are_refused_by_name(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.png", _quadrants())
    with pytest.raises(UserError, match="megapixels"):
        read_photo(path, max_pixels=1000.0)


def test_one_pixel_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="1x1 pixels"):
        read_photo(_save(tmp_path / "a.png", np.zeros((1, 1, 3), np.uint8)))


def test_text_renamed_to_png_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("not a picture\n" * 20)
    with pytest.raises(UserError, match="not a picture"):
        read_photo(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_cut_off_pictures_are_refused(tmp_path: Path, name: str) -> None:
    noise = torch.randint(0, 256, (96, 128, 3), generator=torch.Generator().manual_seed(0))
    path = _save(tmp_path / name, noise.byte().numpy())
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(UserError, match=r"damaged or cut off"):
        read_photo(path)


def test_missing_empty_and_folder_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    for path, words in (
        ("gone.png", "does not exist"),
        ("empty.png", "is empty"),
        ("", "is a folder"),
    ):
        with pytest.raises(UserError, match=words):
            read_photo(tmp_path / path)
