#!/usr/bin/env bash
# Training on many hosts by Open MPI, of any version:
#
#     HOSTS=node0:8,node1:8 examples/clusters/open_mpi.sh photos
#
# HOSTS are names with their numbers of processes, one for each GPU; the first process is on the first host. The folder is
# on a file system that all hosts share.
set -euo pipefail

data=${1:?usage: $0 DATA, the folder of the images}
: "${HOSTS:?the hosts, such as node0:8,node1:8}"
export DATA=$data COORDINATOR=${HOSTS%%:*}:7777

# The variables are those of each process. Open MPI 4 needs no options but --distributed.
# shellcheck disable=SC2016
mpirun --host "$HOSTS" -x DATA -x COORDINATOR bash -c '
    export CUDA_VISIBLE_DEVICES=$OMPI_COMM_WORLD_LOCAL_RANK
    exec nerfgen train "$DATA" --preset paper --resume --distributed --coordinator "$COORDINATOR" \
        --num-hosts "$OMPI_COMM_WORLD_SIZE" --host-index "$OMPI_COMM_WORLD_RANK"
'
