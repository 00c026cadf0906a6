"""What `pretrain` refuses before a worker is started."""

from pathlib import Path

import pytest

from jobs.pretrain import _check_epochs
from llmcore.errors import ConfigError
from llmcore.storage import Folder
from llmcore.tokens.shards import TokenShards
from tests.tiny import write_tokens


def test_more_passes_over_a_source_than_it_may_have(tmp_path: Path) -> None:
    shards = TokenShards.open(write_tokens(Folder(str(tmp_path)), num_rows=40))
    (source,) = shards.about["mixture"]
    _check_epochs(shards, num_steps=100, global_batch=8)
    source["max_epochs"] = 20
    _check_epochs(shards, num_steps=100, global_batch=8)
    source["max_epochs"] = 19.5
    with pytest.raises(
        ConfigError, match=r"source made: 100 steps of 8 rows read it 20\.00 times, more than its max_epochs"
    ):
        _check_epochs(shards, num_steps=100, global_batch=8)
