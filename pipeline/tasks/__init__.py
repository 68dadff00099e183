"""Files for `data.tasks`: the shards' tasks merged, pieces drawn at random, pieces that are learned alike."""
