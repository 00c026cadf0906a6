from pathlib import Path

import pytest

from llmcore.config.loading import load_config
from llmcore.config.reference import CONFIGS, reference_page

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "configs").rglob("*.y*ml"))


def test_the_committed_page_is_current() -> None:
    committed = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert committed == reference_page(), "run: python -m llmcore.config.reference > docs/configuration.md"


def test_the_page_has_every_section_that_a_configuration_holds() -> None:
    page = reference_page()
    for cls in CONFIGS.values():
        for name in cls.model_json_schema().get("$defs", {}):
            assert f"\n### {name}\n" in page


def test_there_is_a_shipped_configuration() -> None:
    assert SHIPPED


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_shipped_configuration_loads(path: Path) -> None:
    load_config(CONFIGS[path.parent.name], path)
