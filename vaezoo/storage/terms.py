"""What a card on the Hub states about the use of the weights and of the data."""

import re
from dataclasses import dataclass

from vaezoo.errors import ConfigError, did_you_mean, shorten

#: the identifiers of https://huggingface.co/docs/hub/repositories-licenses
IDENTIFIERS = """
    afl-3.0 agpl-3.0 apache-2.0 apple-amlr apple-ascl artistic-2.0 bigcode-openrail-m bigscience-bloom-rail-1.0
    bigscience-openrail-m bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5
    cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0
    cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0
    cdla-permissive-2.0 cdla-sharing-1.0 creativeml-openrail-m deepfloyd-if-license ecl-2.0 epl-1.0 epl-2.0 etalab-2.0
    eupl-1.1 eupl-1.2 fair-noncommercial-research-license gemma gfdl gpl gpl-2.0 gpl-3.0 h-research intel-research isc
    lgpl lgpl-2.1 lgpl-3.0 lgpl-lr lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 openmdw-1.0 openrail openrail++
    osl-3.0 other pddl postgresql unknown unlicense wtfpl zlib
    """
LICENSES = frozenset(IDENTIFIERS.split())
LONGEST = 300  # characters of a text


@dataclass(frozen=True, kw_only=True)
class Terms:
    """License of weights and data.

    Args:
        license: of the weights, one of `LICENSES`; None states none.
        license_name: short name of a license "other", in lower case, such as "my-terms-1.0".
        license_link: address of its text, or the name of a file in the repository.
        data_license: license of the training data, any text in one line.
        dataset: the training data on the Hub, as owner/name.

    Raises:
        ConfigError: an unknown license, one of "other" without a name, or malformed text.
    """

    license: str | None = None
    license_name: str | None = None
    license_link: str | None = None
    data_license: str | None = None
    dataset: str | None = None

    def __post_init__(self) -> None:
        """Validates the fields."""
        if self.license is not None and self.license not in LICENSES:
            raise ConfigError(
                f"Got license {shorten(self.license)}; expected an identifier of the Hub, such as 'mit', 'cc-by-4.0' "
                f"or 'other' (with license_name).{did_you_mean(self.license, LICENSES)} All of them: "
                "https://huggingface.co/docs/hub/repositories-licenses."
            )
        if (self.license == "other") != (self.license_name is not None):
            raise ConfigError(
                f"Got license = {self.license!r} with license_name = {shorten(self.license_name)}; expected a name "
                "with the license 'other', and with no other one."
            )
        if self.license_link is not None and self.license != "other":
            raise ConfigError(f"Got license_link with license = {self.license!r}; expected it with 'other' alone.")
        checks = {
            "license_name": (r"[a-z0-9][a-z0-9.-]*", "lower-case letters, digits, periods and hyphens"),
            "license_link": (r"https://\S+|[\w.-]+", "an https:// address, or the name of a file in the repository"),
            "data_license": (r"[^\x00-\x1f\x7f]+", "one line of text"),
            "dataset": (r"[\w.-]+/[\w.-]+", "owner/name of a data set on the Hub"),
        }
        for field, (pattern, expected) in checks.items():
            value = getattr(self, field)
            if value is not None and not (re.fullmatch(pattern, value) and len(value) <= LONGEST):
                raise ConfigError(f"Got {field} = {shorten(value)}; expected {expected}, at most {LONGEST} characters.")

    @property
    def sentence(self) -> str:
        """The license of the weights in a sentence."""
        if self.license is None:
            return "No license is stated for the weights: ask their owner before you use them."
        name = self.license_name or self.license
        return f"The weights have the license {f'[{name}]({self.license_link})' if self.license_link else f'`{name}`'}."
