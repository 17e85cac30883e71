#!/usr/bin/env bash
# The pipeline on a folder of images. Only stale outputs are rebuilt:
#
#     examples/pipeline.sh photos
#     MINUTES=20 SIZE=64 TRAIN='--set latent_size=128' examples/pipeline.sh photos
#
# Settings, all optional: CLASS, MINUTES, SIZE, PICTURES (folder of the figures), NERFGEN (the program) and
# LANDMARK, FIT, SEGMENT, TRAIN, RENDER, SAMPLE (additional options of each command).
# An output is stale if it is older than its inputs, if images were added, removed or changed, or if a setting changed.
# The exit code is that of the first command that fails, or 0.
set -euo pipefail

if [[ $# -ne 1 || ! -d ${1:-} ]]; then
    echo "usage: $0 DATA, the folder of the images" >&2
    exit 2
fi
data=${1%/}
class=${CLASS:-face} minutes=${MINUTES:-0} size=${SIZE:-64}
pictures=${PICTURES:-$data-pictures}
read -ra nerfgen <<<"${NERFGEN:-nerfgen}"
state=$data/.nerfgen
mkdir -p "$state"

# remember NAME: the state file NAME holds the text on stdin; it is written only when that changes.
remember() {
    cat >"$state/$1.new"
    if cmp -s "$state/$1.new" "$state/$1"; then rm "$state/$1.new"; else mv "$state/$1.new" "$state/$1"; fi
}

# make_from OUTPUT INPUT... -- OPTION... : run nerfgen unless OUTPUT is newer than all inputs.
make_from() {
    local output=$1 stale=no
    shift
    [[ -e $output ]] || stale=yes
    while [[ $1 != -- ]]; do
        [[ ! $1 -nt $output ]] || stale=yes
        shift
    done
    shift
    [[ $stale == yes ]] || return 0
    echo "nerfgen $*" >&2
    "${nerfgen[@]}" "$@" --overwrite
}

# Full times: --full-time for GNU ls, -T for others.
if ls -d --full-time . >/dev/null 2>&1; then full=--full-time; else full=-T; fi
find -L "$data/." -name '.?*' -prune -o -type f \
    \( -iname '*.png' -o -iname '*.jpg' -o -iname '*.jpeg' -o -iname '*.webp' -o -iname '*.bmp' \
    -o -iname '*.tif' -o -iname '*.tiff' -o -iname '*.gif' \) ! -name '*.preview.png' \
    -exec ls -lL "$full" {} + | LC_ALL=C sort | remember photos
# Options are words, split at blanks.
read -ra landmark <<<"${LANDMARK:-}"
read -ra fit <<<"${FIT:-}"
read -ra segment <<<"${SEGMENT:-}"
read -ra train <<<"${TRAIN:-}"
read -ra render <<<"${RENDER:-}"
read -ra sample <<<"${SAMPLE:-}"
echo "$class ${landmark[*]-}" | remember landmark
echo "${fit[*]-}" | remember fit
echo "$data/cameras.h5 ${segment[*]-}" | remember segment
echo "$class $data/cameras.h5 $data/masks.h5 $minutes $size ${train[*]-}" | remember train
echo "${render[*]-}" | remember render
echo "${sample[*]-}" | remember sample

make_from "$data/landmarks.h5" "$state/photos" "$state/landmark" -- \
    landmark "$data" --class "$class" ${landmark[@]+"${landmark[@]}"}
make_from "$data/cameras.h5" "$data/landmarks.h5" "$state/fit" -- \
    fit-cameras "$data" ${fit[@]+"${fit[@]}"}
make_from "$data/masks.h5" "$data/cameras.h5" "$state/photos" "$state/segment" -- \
    segment "$data" ${segment[@]+"${segment[@]}"}
make_from "$data/model.h5" "$data/cameras.h5" "$data/masks.h5" "$state/photos" "$state/train" -- \
    train "$data" --class "$class" --minutes "$minutes" --size "$size" --no-preview ${train[@]+"${train[@]}"}
make_from "$pictures/turned.png" "$data/model.h5" "$state/render" -- \
    render "$data/model.h5" --sheet "$pictures/turned.png" ${render[@]+"${render[@]}"}
make_from "$pictures/new.png" "$data/model.h5" "$state/sample" -- \
    sample "$data/model.h5" --sheet "$pictures/new.png" ${sample[@]+"${sample[@]}"}
