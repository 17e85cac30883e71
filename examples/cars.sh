#!/usr/bin/env bash
# A class with known cameras: cars from all directions, in the SRN layout, on white. No landmarks, no masks.
#
#     examples/cars.sh cars
#     CARS=200 SIZE=48 STEPS=1000 examples/cars.sh cars
#
# Synthesises the cars (skip that step for existing SRN folders), imports their cameras, trains without the mask loss,
# renders turned cars, and compares held-out views with the ground truth. Settings, all optional: CARS, SIZE, VIEWS
# (images of each car), STEPS, SEED, NERFGEN (the program), PYTHON and TRAIN (additional options of train).
# Current outputs are kept; give AGAIN=--overwrite after a change of settings.
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
# These cars have the scale of their class. Without --scale 1 the scale is estimated from the cameras.
step import "$folder" --class cars --scale 1
step train "$folder" --no-masks --steps "$steps" --seed "$seed" --no-preview ${train[@]+"${train[@]}"}
step render "$folder/model.h5" --rows 0-5 --yaw 0,60,120,180,240,300 --pitch 20 --size "$((2 * size))" \
    --sheet "$folder/pictures/turned.jpg"
"${python[@]}" "$(dirname "$0")/judge.py" "$folder/model.h5" "$folder/truth.h5"
