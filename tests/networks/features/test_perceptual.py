"""The perceptual distance: its formula, its gradient, the network of the package and VGG-16 of the user's file."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d
from torchvision.models.vgg import cfgs, make_layers

import vaezoo
from vaezoo.cli import main
from vaezoo.errors import ConfigError, ConversionError, CorruptWeightsError, ShapeError
from vaezoo.networks.features import PerceptualDistance, color
from vaezoo.networks.features.vgg16 import VGG16
from vaezoo.storage.conversion.features import add_features


def images(count: int = 3, side: int = 32) -> Tensor:
    """Returns smooth color images."""
    torch.manual_seed(0)
    return avg_pool2d(torch.rand(count, 3, side + 6, side + 6), 7, 1)


def test_the_distance_is_the_mean_over_grids_of_squared_differences_of_unit_features() -> None:
    x, y = images(), images().roll(1, 0)
    network = color.ColorClassifier()
    wanted = []
    for a, b in zip(x, y, strict=True):
        terms = []
        for ours, theirs in zip(network.maps(a[None]), network.maps(b[None]), strict=True):
            height, width = ours.shape[2:]
            total = 0.0
            for row in range(height):
                for column in range(width):
                    u, v = ours[0, :, row, column].double(), theirs[0, :, row, column].double()
                    total += float((u / u.norm().clamp(min=1e-5) - v / v.norm().clamp(min=1e-5)).square().sum())
            terms.append(total / (height * width))
        wanted.append(sum(terms) / len(terms))
    found = PerceptualDistance()(x, y)
    torch.testing.assert_close(found, torch.tensor(wanted), rtol=1e-3, atol=1e-5)
    assert bool((found > 0).all()) and bool((found <= 2).all())
    assert bool((PerceptualDistance()(x, x) == 0).all())
    torch.testing.assert_close(PerceptualDistance()(y, x), found)


def test_the_features_are_those_of_convolutions_with_relus_and_mean_pooling() -> None:
    network, x = color.ColorClassifier(), images(2)
    found, number = 2 * x - 1, 0
    for place, count in enumerate(color.GROUPS):
        found = avg_pool2d(found, 2) if place else found
        for _ in range(count):
            weight, bias = network.get_buffer(f"weight_{number}"), network.get_buffer(f"bias_{number}")
            found, number = conv2d(found, weight, bias, padding=1).clamp(min=0), number + 1
        torch.testing.assert_close(network.maps(x)[place], found)
    assert number == len(color.WIDTHS)


def test_the_gradient_leads_from_a_wrong_image_to_the_right_one() -> None:
    x = images(1)
    y = nn.Parameter(avg_pool2d(x, 7, 1, 3))
    distance, before = PerceptualDistance(), float(PerceptualDistance()(x, y.detach()))
    optimizer = torch.optim.Adam([y], lr=0.01)
    for _ in range(30):
        optimizer.zero_grad()
        distance(x, y).sum().backward()
        optimizer.step()
    assert float(distance(x, y.detach())) < 0.5 * before
    assert not list(distance.parameters()) and not distance.state_dict()


def test_another_image_is_far_farther_than_the_same_one_shifted_or_blurred() -> None:
    torch.manual_seed(1)
    grid = torch.meshgrid(torch.linspace(-1, 1, 64), torch.linspace(-1, 1, 64), indexing="ij")
    disk, square = (grid[0] ** 2 + grid[1] ** 2 < 0.5).float(), (grid[0].abs().maximum(grid[1].abs()) < 0.6).float()
    shapes = torch.stack([disk, square, 1 - disk * grid[0].sign().clamp(min=0)])
    x = 1 - shapes.unsqueeze(1) * torch.rand(3, 3, 1, 1)
    distance = PerceptualDistance()
    for close in (x.roll(1, 3), avg_pool2d(x, 3, 1, 1, count_include_pad=False)):
        assert bool((4 * distance(x, close) < distance(x, x.roll(1, 0))).all())


def test_gray_images_have_three_equal_channels_and_the_distance_has_the_type_of_the_module() -> None:
    x, y = images()[:, :1], images().flip(0)[:, :1]
    torch.testing.assert_close(
        PerceptualDistance()(x, y), PerceptualDistance()(*(z.expand(-1, 3, -1, -1) for z in (x, y)))
    )
    assert PerceptualDistance().double()(x.double(), y.double()).dtype == torch.float64


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.rand(2, 3, 32, 32), torch.rand(2, 3, 16, 16), r"\(2, 3, 32, 32\) and \(2, 3, 16, 16\)"),
        (torch.rand(2, 2, 32, 32), torch.rand(2, 2, 32, 32), "C = 1 or 3"),
        (torch.rand(2, 30), torch.rand(2, 30), "C = 1 or 3"),
        (torch.rand(2, 3, 4, 32), torch.rand(2, 3, 4, 32), "at least 8 pixels"),
    ],
)
def test_other_batches_are_refused(x: Tensor, y: Tensor, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        PerceptualDistance()(x, y)


def test_a_damaged_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(color, "SHA256", "0" * 64)
    with pytest.raises(CorruptWeightsError, match=r"color64.*expected 0000.*reinstall"):
        PerceptualDistance()


def test_vgg16_has_the_features_of_torchvision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VAEZOO_HOME", str(tmp_path / "cache"))
    torch.manual_seed(0)
    layers = make_layers(cfgs["D"]).eval()
    torch.save({f"features.{key}": each for key, each in layers.state_dict().items()}, tmp_path / "vgg16.pth")
    copy = tmp_path / "cache" / "features" / "vgg16.safetensors"
    main(["features", str(tmp_path / "vgg16.pth")])
    assert str(copy) in capsys.readouterr().out.replace("\n", "") and copy.exists()
    x = images(2)
    found = x - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    found = found / torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    wanted = []
    for layer in layers:
        if isinstance(layer, nn.MaxPool2d):
            wanted.append(found)
        found = layer(found)
    maps = VGG16().maps(x)
    assert len(maps) == 5
    for ours, theirs in zip(maps, wanted, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert bool((PerceptualDistance("vgg16")(x, x.flip(0)) > 0).all())


def test_models_of_vgg16_load_without_its_file_and_are_refused_in_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAEZOO_HOME", str(tmp_path))
    options = {"shape": (3, 16, 16), "latent": (4, 8, 8), "backbone": {"name": "resnet", "channels": [8, 8]}}
    model = vaezoo.create("kl-autoencoder", perceptual=1.0, perceptual_network="vgg16", **options)
    assert model.sample(2).shape == (2, 3, 16, 16)
    with pytest.raises(ConfigError, match="vaezoo features FILE"):
        model(torch.rand(2, 3, 16, 16))


def test_files_of_other_networks_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAEZOO_HOME", str(tmp_path / "cache"))
    torch.save(nn.Linear(3, 3).state_dict(), tmp_path / "other.pth")
    with pytest.raises(ConfigError, match=r"features\.0\.weight: got no such tensor; expected shape \(64, 3, 3, 3\)"):
        add_features(tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(ConversionError, match="neither safetensors"):
        add_features(tmp_path / "text.pth")
    assert not (tmp_path / "cache").exists()
