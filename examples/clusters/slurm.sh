#!/usr/bin/env bash
# Training on many hosts by SLURM:
#
#     sbatch examples/clusters/slurm.sh photos
#
# One task for each GPU: JAX gives every task one GPU of its node. Adapt nodes, GPUs and time; --images-per-batch has to be
# a multiple of the number of tasks. The folder is on a file system that all nodes share.
#SBATCH --job-name=nerfgen
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
# SIGTERM ten minutes before the end: a checkpoint is written, and the job queued again.
#SBATCH --signal=TERM@600
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

data=${1:?usage: sbatch $0 DATA, the folder of the images}

# A task that fails ends all others. Without a checkpoint, --resume begins at the first step.
code=0
srun --kill-on-bad-exit=1 \
    nerfgen train "$data" --preset paper --distributed --resume || code=$?
if [[ $code -eq 143 ]]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
