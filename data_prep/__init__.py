"""The offline stage: a corpus becomes tagged, tokenised Arrow shards, a folder per task group."""
