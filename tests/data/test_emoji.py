"""The data set emoji, made from small archives of the same form as the published ones."""

from pathlib import Path

import pytest
import torch
from support.emoji_archives import write_archives

from vaezoo.data import load_dataset
from vaezoo.data.sets import emoji
from vaezoo.errors import DataError, DownloadError, UnknownNameError

NAMES = {  # file names of each artist; 1f9d1-1f3fb is a character with a skin tone
    "google": ["1f600", "1f9d1-1f3fb", "1f9d1-1f3ff", "1f1eb-1f1f7", "1f436"],
    "twitter": ["1f600", "1f468", "1f1eb-1f1f7"],
    "fluent": ["1f600", "0023-fe0f-20e3", "1f3f4-e0067_e0062_e0065_e006e_e0067"],
}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and archives in a folder that is their only source."""
    write_archives(tmp_path / "source", NAMES, monkeypatch)
    return tmp_path / "cache"


def test_images_are_on_white_with_category_artist_and_skin_tone(cache: Path) -> None:
    found = load_dataset("emoji", "all", cache_dir=cache)
    assert found.shape == (3, 64, 64) and len(found) == 11
    assert found.images[0, :, 32, 10].tolist() == [255, 0, 0] and found.images[0, :, 32, 50].tolist() == [255] * 3
    assert found.class_names == emoji.CATEGORIES
    assert [emoji.CATEGORIES[i] for i in found.labels[:5]] == [  # type: ignore[index]  # in the order of file names
        "Flags", "Animals & Nature", "Smileys & Emotion", "People & Body", "People & Body",
    ]  # fmt: skip
    assert found.factors is not None and found.factors.names == ("artist", "skin tone")
    assert found.factors.values()[:5].tolist() == [[0, 0], [0, 0], [0, 0], [0, 1], [0, 5]]
    assert found.factors.values()[:, 0].tolist() == [0] * 5 + [1] * 3 + [2] * 3


def test_second_load_needs_no_archive_and_a_damaged_file_is_made_again(cache: Path) -> None:
    first = load_dataset("emoji:google", "all", cache_dir=cache)
    assert sorted(path.name for path in (cache / "data/emoji").glob("[!.]*")) == ["google.safetensors"]
    assert load_dataset("emoji:google", "all", cache_dir=cache, download=False).digest == first.digest
    file = cache / "data/emoji/google.safetensors"
    whole = file.read_bytes()
    for damaged in (whole[:-5000] + bytes(5000), whole[:100]):
        file.write_bytes(damaged)
        assert load_dataset("emoji:google", "all", cache_dir=cache).digest == first.digest
    file.unlink()
    with pytest.raises(DownloadError, match="download=False"):
        load_dataset("emoji:google", cache_dir=cache, download=False)


def test_choice_of_size_and_artist(cache: Path) -> None:
    large, small = (load_dataset(name, "all", cache_dir=cache) for name in ("emoji:fluent", "emoji:32,fluent"))
    assert small.shape == (3, 32, 32) and len(small) == 3 and "MIT" in small.licence and "Noto" not in small.licence
    means = large.images.float().unflatten(2, (32, 2)).unflatten(4, (32, 2)).mean((3, 5))
    torch.testing.assert_close(small.images.float(), means, atol=0.5, rtol=0)
    for name, match in (("emoji:48", "emoji:'48'"), ("emoji:32,64", "one size"), ("emoji:gogle", "google")):
        with pytest.raises(DataError, match=match):
            load_dataset(name, cache_dir=cache)
    with pytest.raises(DataError, match="validation"):
        load_dataset("emoji", "valid", cache_dir=cache)
    with pytest.raises(UnknownNameError):
        load_dataset("digits:8")


def test_splits_are_by_character_whatever_tone_gender_and_artist() -> None:
    same = [
        ["1f9d1", "1f469-1f3ff", "1f468-1f3fb", "1f471-1f3fb-200d-2640-fe0f"],
        ["1f46b", "1f9d1-1f3fb-200d-1f91d-200d-1f9d1-1f3ff", "1f469-1f3fb-200d-1f91d-200d-1f468-1f3fc"],
        ["1f3c3-200d-2642-fe0f", "1f3c3-1f3fd-200d-2640-fe0f-200d-27a1-fe0f"],
        ["1f46a", "1f469-200d-1f466", "1f9d1-200d-1f9d1-200d-1f9d2"],
        ["1f1eb-1f1f7", "1f1f2-1f1eb"],
        ["0023-fe0f-20e3", "23-20e3"],
    ]
    assert all(len({emoji.character_of(name) for name in names}) == 1 for names in same)
    assert len({emoji.character_of(name) for names in same for name in names}) == len(same)
    assert len({emoji.character_of(name) for name in ("2640", "2642", "27a1", "1f3fb")}) == 4  # not modifiers alone
    known = [name for line in Path(emoji.__file__).with_name("emoji_categories.txt").open() for name in line.split()]
    shares = [[emoji.split_of(name) for name in known].count(split) / len(known) for split in emoji.SPLITS[:3]]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.02)


def test_splits_are_the_whole_set(cache: Path) -> None:
    splits = [emoji.split_of(emoji.character_of(name)) for names in NAMES.values() for name in names]
    assert len({*splits}) > 1
    for split in {*splits}:
        assert len(load_dataset("emoji", split, cache_dir=cache)) == splits.count(split)


@pytest.mark.deep
def test_published_archives(tmp_path: Path) -> None:
    found = {split: load_dataset("emoji", split, cache_dir=tmp_path) for split in emoji.SPLITS}
    assert [len(each) for each in found.values()] == [8_902, 788, 1_273, 10_963]
    seen = {bytes(image.numpy().data) for image in found["train"].images}
    assert not any(bytes(image.numpy().data) in seen for image in found["test"].images)
