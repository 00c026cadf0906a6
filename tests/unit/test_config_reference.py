import resource
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


KNOWN = {
    "gpt2-124m": 124_439_808,
    "llama-1b": 1_100_048_384,
    "llama-7b": 6_738_415_616,
    "bert-base": 109_514_298,  # with the head for masked tokens, whose matrix is that of the embeddings
    "t5-base": 222_903_552,
}
"""As published, with the vocabularies of the papers' models."""


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_a_dry_run_of_a_shipped_model_finds_its_known_size_without_memory(name: str, tmp_path: Path) -> None:
    from jobs.pretrain import plan
    from llmcore.config.pretrain import PretrainConfig

    config = load_config(PretrainConfig, ROOT / f"configs/pretrain/{name}.yaml", [f"storage={tmp_path}"])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _, told, *_ = plan(config)
    assert f"has {KNOWN[name]:,} parameters" in told and "it is planned with: the tokens are not there yet" in told
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < max(KNOWN[name], 1e9), "bytes: less than one for each parameter"
