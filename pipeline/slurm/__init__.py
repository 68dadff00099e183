"""Runs as jobs of SLURM, for slurm/pretrain.sh."""
