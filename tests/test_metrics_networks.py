"""What surrounds the user's networks: files, checksums, resizing, windows, alignment, verdicts; small networks made here."""

from __future__ import annotations

import hashlib
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat
from torch import Tensor, nn

from emo2.errors import UserError
from emo2.metrics import syncnet
from emo2.metrics.face_features import (
    arcface_input,
    cosines,
    expression_row,
    face_row,
    reconstruction_input,
    standard_points,
    weak_perspective,
)
from emo2.metrics.networks import (
    NETWORKS,
    NetworkFolder,
    default_folder,
    load_network,
    load_tensors,
)
from emo2.metrics.picture_features import (
    Lpips,
    fvd_input,
    i3d_features,
    inception_features,
    inception_input,
)
from emo2.metrics.syncnet import SyncNet, mfcc, towers, verdict
from emo2.metrics.whole_body import HANDS, body_input, decode, hand_figures, key_points


def as_script(module: nn.Module, path: Path) -> Path:
    """Save a small network the way the field's files are saved."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(module).save(str(path))
    return path


# -------------------------------------------------------------------------------------------------------- files


def test_what_is_missing_is_said_in_one_sentence_and_nothing_is_invented(tmp_path: Path) -> None:
    folder = NetworkFolder(tmp_path / "none")
    sentence = folder.missing()
    assert sentence is not None
    assert all(
        name in sentence for name in ("fid", "fvd", "lpips", "sync_c", "csim", "e_fid", "hkv")
    )
    assert folder.checksums() == {}
    assert not folder.has("inception")


def test_a_file_with_the_wrong_checksum_is_refused(tmp_path: Path) -> None:
    (tmp_path / "i3d_torchscript.pt").write_bytes(b"something")
    folder = NetworkFolder(tmp_path)
    assert folder.path("i3d") is not None
    good = hashlib.sha256(b"something").hexdigest()
    assert folder.checksums() == {"i3d_torchscript.pt": good[:16]}
    (tmp_path / "SHA256SUMS").write_text(f"{good}  i3d_torchscript.pt\n")
    assert folder.path("i3d") is not None
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64} *i3d_torchscript.pt\n")
    with pytest.raises(UserError, match="sha256"):
        folder.path("i3d")


def test_the_digits_in_a_files_name_are_held_against_it(tmp_path: Path) -> None:
    (tmp_path / NETWORKS["alexnet"].names[0]).write_bytes(b"not AlexNet")
    with pytest.raises(UserError, match="expected 7be5be79"):
        NetworkFolder(tmp_path).path("alexnet")


def test_the_folder_can_be_named_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMO2_NETWORKS", "/some/where")
    assert default_folder() == Path("/some/where")
    monkeypatch.delenv("EMO2_NETWORKS")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert default_folder() == Path("/cache/emo2/networks")


@pytest.mark.parametrize("name", ["net.pt", "net.onnx"])
def test_files_that_are_no_networks_are_said(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"oops")
    with pytest.raises(UserError):
        load_network(tmp_path / name)
    with pytest.raises(UserError, match="tensors"):
        load_tensors(tmp_path / name)


# -------------------------------------------------------------------------------------------------- FID and FVD


class MeanColour(nn.Module):
    """Stands in for Inception: the mean of each channel."""

    def forward(self, x: Tensor, return_features: bool = False) -> Tensor:
        assert return_features
        return x.mean((2, 3))


class MeanClip(nn.Module):
    """Stands in for I3D: mean per channel, first and last frame."""

    def forward(
        self, x: Tensor, rescale: bool = True, resize: bool = True, return_features: bool = False
    ) -> Tensor:
        assert return_features
        assert not rescale
        assert not resize
        assert x.shape[1:] == [3, 16, 224, 224] or list(x.shape[1:]) == [3, 16, 224, 224]
        return torch.cat([x[:, :, 0].mean((2, 3)), x[:, :, -1].mean((2, 3))], 1)


def test_inception_sees_levels_at_299_without_antialiasing(tmp_path: Path) -> None:
    path = as_script(MeanColour(), tmp_path / "net.pt")
    frames = [torch.full((3, 40, 30), v) for v in (-1.0, 0.0, 1.0)]
    rows = inception_features(frames, path)
    assert rows.shape == (3, 3)
    assert rows[:, 0].tolist() == pytest.approx([0, 127.5, 255], abs=1e-3)
    comb = torch.ones(1, 3, 598, 598)
    comb[..., 1::2] = -1  # bilinear without antialiasing sees the mean of two columns: grey
    assert float((inception_input(comb) - 127.5).abs().max()) < 1e-3


def test_i3d_sees_whole_windows_of_the_middle_square(tmp_path: Path) -> None:
    path = as_script(MeanClip(), tmp_path / "net.pt")
    rows = i3d_features((torch.full((3, 20, 40), i / 40) for i in range(35)), path)
    assert rows.shape == (2, 6)  # 35 frames are two windows; three frames are left over
    assert rows[1].tolist() == pytest.approx([16 / 40] * 3 + [31 / 40] * 3)
    clip = torch.zeros(16, 3, 112, 224)
    clip[..., :56] = 9  # outside the middle square
    assert float(fvd_input(clip)[..., 2:].max()) == 0
    assert fvd_input(torch.zeros(16, 3, 100, 70)).shape == (3, 16, 224, 224)


# --------------------------------------------------------------------------------------------------------- LPIPS


def test_lpips_is_zero_for_the_same_and_follows_its_formula(tmp_path: Path) -> None:
    torch.manual_seed(0)
    trunk = {
        f"features.{i}.{part}": tensor
        for i, layer in zip((0, 3, 6, 8, 10), Lpips().layers, strict=True)
        for part, tensor in layer.state_dict().items()
    }
    heads = {f"lin{i}.model.1.weight": torch.rand(1, w, 1, 1) for i, w in enumerate(Lpips.WIDTHS)}
    torch.save({**trunk, "classifier.1.weight": torch.zeros(2, 2)}, tmp_path / "alexnet.pth")
    torch.save(heads, tmp_path / "heads.pth")
    net = Lpips.load(tmp_path / "alexnet.pth", tmp_path / "heads.pth")
    a, b = torch.rand(1, 3, 64, 64) * 2 - 1, torch.rand(1, 3, 64, 64) * 2 - 1
    assert float(net(a, a)) == 0
    expected = 0.0
    net.requires_grad_(False)
    for index, (x, y) in enumerate(zip(net.features(a), net.features(b), strict=True)):
        gap = ((x - y) ** 2 * heads[f"lin{index}.model.1.weight"]).sum(1, keepdim=True)
        expected += float(nn.functional.interpolate(gap, (64, 64), mode="bilinear").mean())
    assert float(net(a, b)) == pytest.approx(expected, rel=1e-5)
    assert float(net.features(a)[0].square().sum(1).max()) == pytest.approx(1, abs=1e-4)
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "bad.pth")
    with pytest.raises(UserError, match="does not fit"):
        Lpips.load(tmp_path / "bad.pth", tmp_path / "heads.pth")


def test_lpips_of_flat_pictures_is_worked_out_by_hand() -> None:
    net = Lpips()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        first = net.layers[0]
        assert isinstance(first, nn.Conv2d)
        assert first.bias is not None
        first.weight[0, 0, 5, 5] = 1.0  # the first channel hears red, the second is always 1
        first.bias[1] = 1.0
        net.heads[0][0, :2, 0, 0] = torch.tensor([2.0, 3.0])
        net.heads[4][:] = 7.0  # of a layer that is zero everywhere
    a, b = torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64)
    a[:, 0], b[:, 0], b[:, 1] = 0.5, -0.01, 0.8
    x, y = (
        (0.5 + 0.030) / 0.458,
        (-0.01 + 0.030) / 0.458,
    )  # LPIPS' own colours, and green is not heard
    one, other = (np.array([v, 1.0]) / math.hypot(v, 1.0) for v in (x, y))
    expected = 2 * (one[0] - other[0]) ** 2 + 3 * (one[1] - other[1]) ** 2
    assert float(net(a, b)) == pytest.approx(expected, rel=1e-5)


# ------------------------------------------------------------------------------------------------------- SyncNet


def test_cepstra_are_those_of_python_speech_features() -> None:
    """Golden values of python_speech_features 0.6, `mfcc(x, 16000)`."""
    rng = np.random.default_rng(5)
    t = np.arange(16_000) / 16_000
    sound = 8000 * np.sin(2 * np.pi * 220 * t) * np.sin(2 * np.pi * 3 * t) ** 2
    found = mfcc((sound + rng.normal(0, 300, 16_000)).astype(np.int16))
    assert found.shape == (99, 13)
    first = [17.24485036, -24.3737729, 5.37183982, 1.88813402]
    middle = [17.41528942, -24.99319569, 4.9426766, -0.83219198]
    assert found[0, :4].tolist() == pytest.approx(first, abs=1e-7)
    assert found[50, :4].tolist() == pytest.approx(middle, abs=1e-7)
    assert found[-1, -3:].tolist() == pytest.approx(
        [-16.43242642, -9.39753325, -3.62790115], abs=1e-7
    )
    assert (found.mean(), found.std()) == pytest.approx((-6.498623304698919, 14.814836832151638))


@pytest.mark.parametrize("late", [-3, 0, 5])
def test_the_verdict_is_median_minus_least_at_the_true_offset(late: int) -> None:
    generator = torch.Generator().manual_seed(1)
    voices = torch.randn(60, 32, generator=generator)
    faces = torch.roll(voices, late, 0) + 0.1 * torch.randn(60, 32, generator=generator)
    found = verdict(faces, voices)
    assert found.offset == late
    assert found.confidence > 3
    # by the words of the public code: repeat, pad with zeros, torch's pairwise distance
    padded = nn.functional.pad(voices, (0, 0, 15, 15))
    rows = [
        nn.functional.pairwise_distance(faces[[i]].repeat(31, 1), padded[i : i + 31])
        for i in range(60)
    ]
    mean = torch.stack(rows, 1).mean(1)
    assert found.distance == pytest.approx(float(mean.min()), rel=1e-5)
    assert found.confidence == pytest.approx(float(mean.median() - mean.min()), rel=1e-5)


def test_a_swapped_voice_takes_the_confidence_away() -> None:
    generator = torch.Generator().manual_seed(2)
    voices, others = torch.randn(2, 100, 32, generator=generator)
    faces = voices + 0.3 * torch.randn(100, 32, generator=generator)
    own, swapped = verdict(faces, voices), verdict(faces, others)
    assert swapped.confidence < 0.2 * own.confidence
    assert swapped.distance > own.distance + 3


def test_syncnet_takes_the_public_files_names_and_shapes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = SyncNet().eval()
    state = net.state_dict()
    assert state["netcnnaud.18.weight"].shape == (512, 256, 5, 4)
    assert state["netcnnlip.0.weight"].shape == (96, 3, 5, 7, 7)
    assert state["netfclip.3.weight"].shape == (1024, 512)
    torch.save(state, tmp_path / "syncnet_v2.model")
    again = SyncNet.load(tmp_path / "syncnet_v2.model")
    generator = torch.Generator().manual_seed(0)
    crops = torch.rand(7, 3, 224, 224, generator=generator) * 255
    samples = (torch.randn(7 * 640, generator=generator) * 1000).short()
    faces, voices = towers(again, iter(crops), samples)
    assert faces.shape == voices.shape == (2, 1024)  # 7 frames: last = 7 - 5
    longer = torch.cat((samples, samples[:640]))
    assert len(towers(again, iter(crops), longer)[0]) == 2  # the shorter counts, here the film
    assert len(towers(again, iter(crops), samples[: 6 * 640])[0]) == 1  # and here the voice
    with pytest.raises(ValueError, match="at least 6"):
        towers(again, iter(crops[:4]), samples)
    torch.save({"netcnnaud.0.weight": torch.zeros(1)}, tmp_path / "bad.model")
    with pytest.raises(UserError, match="does not fit"):
        SyncNet.load(tmp_path / "bad.model")


def test_the_crop_reaches_below_the_box_and_is_grey_outside() -> None:
    points = torch.rand(20, 68, 2) * torch.tensor([60.0, 60.0]) + torch.tensor([70.0, 70.0])
    box = syncnet.boxes(points)
    assert box.shape == (20, 3)
    assert float(box[10, 2]) == pytest.approx(39, abs=3)  # 60 high and 0.3 of it above
    picture = torch.zeros(3, 100, 100)
    picture[0] = 1.0
    crop = syncnet.crop(picture, torch.tensor([50.0, 50.0, 40.0]))
    assert crop.shape == (3, 224, 224)
    middle = crop[:, 100, 112].tolist()
    assert middle == pytest.approx([128, 128, 255], abs=1)  # BGR
    assert crop[:, -1, 112].tolist() == [110, 110, 110]


# ------------------------------------------------------------------------------------------------ CSIM and E-FID


def test_equal_faces_have_a_cosine_of_one(tmp_path: Path, drawn_bust: object) -> None:
    from emo2.signals import Portrait

    assert isinstance(drawn_bust, Portrait)
    points = drawn_bust.face_points.clone()
    points[36:42] = torch.tensor([54.0, 40.0])
    points[42:48] = torch.tensor([74.0, 40.0])
    points[30], points[48], points[54] = (
        torch.tensor(p) for p in ([64.0, 50.0], [56.0, 60.0], [72.0, 60.0])
    )
    network = load_network(
        as_script(nn.Sequential(nn.AvgPool2d(28), nn.Flatten()), tmp_path / "a.pt")
    )
    row = face_row(drawn_bust.image, points, network)
    other = face_row(-drawn_bust.image.flip(0), points, network)
    assert float(row.norm()) == pytest.approx(1)
    values = cosines(row, [row, other])
    assert float(values[0]) == pytest.approx(1)
    assert float(values[1]) < 0.9
    batch = arcface_input(drawn_bust.image, points)
    assert batch.shape == (1, 3, 112, 112)
    levels = (batch + 1) * 127.5
    assert float((levels - levels.round()).abs().max()) < 1e-3


def test_the_camera_of_the_reconstruction_is_found_again(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    solid = rng.normal(size=(5, 3))
    angle = 0.3
    turn = np.array([[math.cos(angle), 0, math.sin(angle)], [0, 1, 0]]) * 45
    shift, scale = weak_perspective(solid @ turn.T + [120, 80], solid)
    assert shift == pytest.approx([120, 80])
    assert scale == pytest.approx(45)
    points = rng.normal(size=(68, 3))
    savemat(tmp_path / "lm.mat", {"lm": points})
    assert standard_points(tmp_path / "lm.mat")[0] == pytest.approx(points[[36, 39]].mean(0))
    savemat(tmp_path / "no.mat", {"other": points})
    with pytest.raises(UserError, match="no 'lm'"):
        standard_points(tmp_path / "no.mat")


SOLID = np.array([[-0.3, 0.3, 0], [0.3, 0.3, 0], [0, 0, 0.3], [-0.2, -0.3, 0.1], [0.2, -0.3, 0.1]])


class Numbers(nn.Module):
    """Stands in for the reconstruction: the numbers 0 to 256."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.arange(257).float()[None] + 0 * x.mean()


def test_the_reconstruction_sees_the_face_in_the_middle(tmp_path: Path) -> None:
    image = torch.full((3, 300, 400), -1.0)
    face = torch.zeros(68, 2)
    at = np.array([150.0, 170.0]) + SOLID[:, :2] * [100, -100]
    for indices, place in zip(((36, 39), (42, 45), (30,), (48,), (54,)), at, strict=True):
        face[list(indices)] = torch.from_numpy(place).float()
    image[:, 167:173, 147:153] = 1.0  # the nose
    batch = reconstruction_input(image, face, SOLID)
    assert batch.shape == (1, 3, 224, 224)
    ys, xs = (batch[0, 0] > 0.5).nonzero(as_tuple=True)
    assert (float(xs.float().mean()), float(ys.float().mean())) == pytest.approx(
        (111.5, 111.5), abs=2
    )
    network = load_network(as_script(Numbers(), tmp_path / "deng.pt"))
    row = expression_row(image, face, SOLID, network)
    assert row.tolist() == list(range(80, 144))


# ---------------------------------------------------------------------------------------------------- HKC and HKV


class Peaks(nn.Module):
    """Stands in for DWPose: all points at one place, whose score is 0.8 across and 0.9 down."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        across, down = torch.zeros(1, 133, 576), torch.zeros(1, 133, 768)
        across[:, :, 288] = 0.8
        down[:, :, 384] = 0.9
        return across + 0 * x.mean(), down


def test_key_points_come_back_into_the_picture(tmp_path: Path) -> None:
    network = load_network(as_script(Peaks(), tmp_path / "pose.pt"))
    points = key_points(torch.zeros(3, 200, 100), network)
    assert points.shape == (133, 3)
    assert points[0].tolist() == pytest.approx([50, 100, 0.8])
    batch, centre, size = body_input(torch.zeros(3, 200, 100))
    assert batch.shape == (1, 3, 384, 288)
    assert size.tolist() == pytest.approx([187.5, 250])  # padded by 1.25, then widened to 3:4
    across, down = torch.zeros(133, 576), torch.zeros(133, 768)
    across[:, 0] = down[:, 0] = 1
    corner = decode(across, down, centre, size)[0]
    assert corner[:2].tolist() == pytest.approx([50 - 187.5 / 2, 100 - 125])


def test_spread_of_hands_is_a_standard_deviation() -> None:
    points = torch.zeros(50, 133, 3)
    points[..., 2] = 0.9
    wave = torch.arange(50) % 2 * 20.0
    points[:, 91:112, 0] = wave[:, None]  # the left hand: 10 px across, the right: still
    found = hand_figures(points, (400, 200))
    assert found.hkc == pytest.approx(0.9)
    assert found.hkv == pytest.approx(10 / 200 / 4)  # of two hands and two axes, one moves
    assert found.hkv_px == pytest.approx(10 / 4)
    points[:, 112:133, 2] = 0.1  # the right hand is not seen
    one = hand_figures(points, (400, 200))
    assert one.hands_used == 1
    assert one.hkv == pytest.approx(10 / 200 / 2)
    assert one.hkc == pytest.approx(0.5)
    points[:, HANDS, 2] = 0.1
    assert hand_figures(points, (400, 200)).hkv is None


# --------------------------------------------------------------------------------------------------------- ONNX


def field(number: int, content: int | bytes | str) -> bytes:
    """One field of a protocol buffer: a number below 128, or bytes with their length."""
    if isinstance(content, int):
        return bytes([number << 3, content])
    content = content.encode() if isinstance(content, str) else content
    assert len(content) < 1 << 14
    length = [len(content)] if len(content) < 128 else [len(content) & 127 | 128, len(content) >> 7]
    return bytes([number << 3 | 2, *length]) + content


def tensor_info(name: str, shape: tuple[int, ...]) -> bytes:
    """ONNX's ValueInfoProto of floats."""
    dims = b"".join(field(1, field(1, size)) for size in shape)
    return field(1, name) + field(2, field(1, field(1, 1) + field(2, dims)))


def test_onnx_files_run_and_give_all_their_outputs(tmp_path: Path) -> None:
    nodes = b"".join(
        field(1, field(1, "x") + field(2, out) + field(3, out) + field(4, kind))
        for out, kind in (("mean", "GlobalAveragePool"), ("most", "GlobalMaxPool"))
    )
    ends = field(12, tensor_info("mean", (1, 3, 1, 1))) + field(
        12, tensor_info("most", (1, 3, 1, 1))
    )
    graph = nodes + field(2, "g") + field(11, tensor_info("x", (1, 3, 4, 4))) + ends
    path = tmp_path / "net.onnx"
    path.write_bytes(field(1, 8) + field(7, graph) + field(8, field(2, 13)))
    batch = torch.arange(48.0).reshape(1, 3, 4, 4)
    outputs = {
        round(float(o.flatten()[0]), 3): o.flatten().tolist() for o in load_network(path)(batch)
    }
    assert outputs[7.5] == [7.5, 23.5, 39.5]
    assert outputs[15.0] == [15, 31, 47]
