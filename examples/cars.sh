#!/usr/bin/env bash
# A class with cameras of its own: cars seen from all round, in the SRN layout, before white. No landmarks, no masks.
#
#     examples/cars.sh cars
#     CARS=200 SIZE=48 STEPS=1000 examples/cars.sh cars
#
# Makes the cars (leave that out for SRN folders that you have), imports their cameras, trains without the mask loss,
# draws turned cars, and judges views that no picture showed by the truth. Settings, all optional: CARS, SIZE, VIEWS
# (pictures of each car), STEPS, SEED, NERFGEN (the program), PYTHON and TRAIN (further options of train).
# What is complete and current is kept; give AGAIN=--overwrite after a change of settings.
set -euo pipefail

if [[ $# -ne 1 ]]; then
    echo "usage: $0 FOLDER, the folder to make" >&2
    exit 2
fi
folder=${1%/}
cars=${CARS:-1200} size=${SIZE:-64} views=${VIEWS:-1} steps=${STEPS:-7000} seed=${SEED:-0}
read -ra nerfgen <<<"${NERFGEN:-nerfgen}"
read -ra python <<<"${PYTHON:-python}"
read -ra train <<<"${TRAIN:-}"
read -ra again <<<"${AGAIN:-}"

step() {
    echo "nerfgen $*" >&2
    "${nerfgen[@]}" "$@" ${again[@]+"${again[@]}"}
}

step synth cars "$folder" --srn --views-per-instance "$views" -n "$cars" --size "$size" --heldout-objects 24 --seed "$seed"
# The sizes of these cars are known to be those of the class; without --scale 1 they are guessed from the pictures.
step import "$folder" --class cars --scale 1
step train "$folder" --no-masks --steps "$steps" --seed "$seed" --no-preview ${train[@]+"${train[@]}"}
step render "$folder/model.h5" --rows 0-5 --yaw 0,60,120,180,240,300 --pitch 20 --size "$((2 * size))" \
    --sheet "$folder/pictures/turned.jpg"
"${python[@]}" "$(dirname "$0")/judge.py" "$folder/model.h5" "$folder/truth.h5"
