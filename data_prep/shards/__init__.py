"""The finished shards: writing, checking, looking at them."""
