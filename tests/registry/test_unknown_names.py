"""Errors of unknown names: the advice first, each known name once, the list last."""

import pytest

import vaezoo
from vaezoo.errors import UnknownNameError
from vaezoo.recipe import read_recipe
from vaezoo.workflows.listing import describe


def message(call: object, name: str) -> str:
    with pytest.raises(UnknownNameError) as caught:
        call(name)  # type: ignore[operator]
    return str(caught.value)


def test_the_list_is_last_and_names_each_once() -> None:
    error = UnknownNameError("thing", "abx", ["abc", "z", "abc"], "Do that.")
    assert str(error) == "Unknown thing 'abx'. Did you mean 'abc'? Do that. Known: abc, z."
    assert error.known == ["abc", "z"]
    assert str(UnknownNameError("thing", 3, [])) == "Unknown thing 3."
    found = message(read_recipe, "nofile.toml")
    assert found.startswith("Unknown recipe 'nofile.toml'. There is no such file, and no run") and "in all)." in found
    own = message(lambda name: vaezoo.create(name, shape=(2,)), "zzz")
    assert own.startswith("Unknown variant 'zzz'. Your own variant has a name after its module is imported; ")
    assert "an installed package with an entry point of the group vaezoo.variants. Known: aae" in own
    assert "entry point" not in message(lambda name: vaezoo.create(name, shape=(2,)), "beta_vae")
    names = message(describe, "zzz").partition("Known: ")[2].partition(", …")[0].split(", ")
    assert len(names) == len(set(names)) == 24


def test_a_recipe_or_a_variant_in_place_of_a_model_is_named() -> None:
    found = message(vaezoo.load, "vae-digits")
    assert found.startswith("Unknown pretrained model 'vae-digits'. 'vae-digits' is a recipe that has no weights yet: ")
    assert "vaezoo train vae-digits" in found and "Did you mean" not in found and "Known" not in found
    assert "'vae' is a variant" in message(vaezoo.load, "vae") and "Known" not in message(vaezoo.load, "vae")
    assert "Known: aae-mnist" in message(vaezoo.load, "zzz")
    variant = message(read_recipe, "vae")
    assert variant.startswith("Unknown recipe 'vae'. 'vae' is a variant: ") and "Known" not in variant
    compared = message(vaezoo.compare, "vae-digits")
    assert compared.startswith("Unknown model or variant 'vae-digits'. 'vae-digits' is a recipe: train it")
    assert "zzz'. `vaezoo list`, with an option" in message(describe, "zzz")
