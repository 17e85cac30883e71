#!/usr/bin/env bash
# Training on all hosts of a Cloud TPU pod slice:
#
#     ZONE=us-central2-b examples/clusters/tpu.sh my-slice /mnt/shared/photos
#
# The folder is on a file system that every host of the slice has mounted at the same place, such as Filestore. The slice
# exists already (gcloud compute tpus tpu-vm create). The same command continues a run that has ended.
set -euo pipefail

if [[ $# -ne 2 ]]; then
    echo "usage: $0 SLICE DATA, the name of the slice and the folder of the images" >&2
    exit 2
fi
slice=$1 data=$2
: "${ZONE:?the zone of the slice}"

on_all_hosts() {
    gcloud compute tpus tpu-vm ssh "$slice" --zone="$ZONE" --worker=all --command="$1"
}

on_all_hosts "python3 -m venv nerfgen && nerfgen/bin/pip install --quiet 'nerfgen[tpu]'"
# JAX finds the other hosts, and the first one speaks for all.
on_all_hosts "nerfgen/bin/nerfgen train '$data' --preset paper --distributed --resume"
