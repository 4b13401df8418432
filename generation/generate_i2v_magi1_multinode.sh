#!/usr/bin/env bash
# Videos from first images, for a whole list of jobs: on a laptop, a node, a SLURM job or array, several hosts.
# Killed anywhere and started again, it goes on and ends in the same files.
#
#   bash generation/generate_i2v_magi1_multinode.sh --dry-run            # launch line and plan
#   bash generation/generate_i2v_magi1_multinode.sh                      # the small model and list, one process
#   CONFIG=MAGI-1/example/24B/24B_base_config.json CP_SIZE=8 JOBS=physics_iq_i2v.jsonl \
#       bash generation/generate_i2v_magi1_multinode.sh                  # a node of 8 GPUs
#   sbatch --nodes 4 --gpus-per-node 8 --ntasks-per-node 1 --requeue …    # the same in a job
#   sbatch --array 0-15 --gpus 8 …                                        # or in an array, a part for each task
#   NODES=2 RDZV_ENDPOINT=node1:29500 bash …                              # on each of two hosts without SLURM
#
# All settings: here and in common.sh, from the environment. Words after the name go to wmreward batch.
set -euo pipefail

here=$(dirname "${BASH_SOURCE[0]}")
if [[ ! -f $here/common.sh ]]; then # SLURM runs a copy of this file, from the folder that sbatch was called in
    here=$SLURM_SUBMIT_DIR/generation
fi

JOBS=${JOBS:-$here/../prompt/embedded_i2v.jsonl} # the list: prompt/README.md

# shellcheck source=generation/common.sh
source "$here/common.sh"

launch "$@"
