"""What `pretrain` refuses before a worker is started."""

from pathlib import Path

import pytest

from jobs.runtime.pretrain_checks import check_epochs
from llmcore.errors import ConfigError
from llmcore.storage import Folder
from llmcore.tokens.shards import TokenShards
from tests.tiny import write_tokens


def test_more_passes_over_a_source_than_it_may_have(tmp_path: Path) -> None:
    shards = TokenShards.open(write_tokens(Folder(str(tmp_path)), num_rows=40))
    (source,) = shards.about["mixture"]
    check_epochs(shards, num_steps=100, global_batch=8)
    source["max_epochs"] = 20
    check_epochs(shards, num_steps=100, global_batch=8)
    source["max_epochs"] = 19.5
    with pytest.raises(
        ConfigError, match=r"source made: 100 steps of 8 rows read it 20\.00 times, more than its max_epochs"
    ):
        check_epochs(shards, num_steps=100, global_batch=8)
