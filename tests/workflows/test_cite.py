"""BibTeX entries of variants and models."""

import re
from pathlib import Path

import pytest
from support.cases import Case

import vaezoo
from vaezoo.cli import main
from vaezoo.errors import UnknownNameError
from vaezoo.registry import register, variants
from vaezoo.workflows.cite import cite


@pytest.mark.parametrize("name", variants.names())
def test_every_variant_has_entries_of_its_own_paper_first(name: str):
    text = cite(name)
    assert text.count("{") == text.count("}") and "%" not in text
    first = text.split("\n\n")[0]
    assert re.match(r"@\w+\{\w+,\n", first) and f"url = {{{variants.get(name).url}}}" in first


def test_models_folders_and_compositions(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert cite("vamp-vae-mnist") == cite("vamp-vae")
    both = cite("vamp-vae+iwae")
    keys = re.findall(r"^@\w+\{(\w+),", both, re.MULTILINE)
    assert "burda2016" in keys and len(keys) == len(set(keys))
    assert both.startswith(cite("vamp-vae"))
    vaezoo.save(Case("beta-vae").build(), tmp_path / "mine")
    assert cite(tmp_path / "mine") == cite("beta-vae")
    assert main(["cite", "beta-vae"]) == 0
    assert capsys.readouterr().out == cite("beta-vae") + "\n"


def test_unknown_names_and_papers_without_an_entry():
    with pytest.raises(UnknownNameError, match="Did you mean 'beta-vae'"):
        cite("beta-vea")

    @register("my-cited-vae", changes="objective")
    def my_cited_vae(base: object, architecture: object) -> object:
        r"""Returns the model unchanged.

        References: Nobody et al. (2030), https://example.org/paper
        """
        return base

    try:
        assert cite("my-cited-vae") == "% Nobody et al. (2030), https://example.org/paper"
    finally:
        variants._entries.pop("my-cited-vae"), variants._owners.pop("my-cited-vae")
